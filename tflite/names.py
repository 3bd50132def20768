"""Names that options, files, model cards and budgets share: runtimes, tools, kernels, dtypes, device costs."""

from __future__ import annotations

from typing import NamedTuple


class Runtime(NamedTuple):
    """A runtime that this package uses.

    Args:
        title: Name in tables.
        words: Name in a sentence.
        package: The distribution that contains it.
    """

    title: str
    words: str
    package: str


# Supported runtimes.
XNNPACK = "litert-xnnpack"
REFERENCE = "litert-reference"
MICRO = "tflite-micro"
RUNTIMES = {
    XNNPACK: Runtime("LiteRT XNNPACK", "LiteRT with XNNPACK, one thread", "ai-edge-litert"),
    REFERENCE: Runtime("LiteRT reference", "LiteRT's reference kernels", "ai-edge-litert"),
    MICRO: Runtime("TFLite Micro", "TensorFlow Lite Micro's reference kernels", "tflite-micro"),
}

# Runtime of a browser, which only `benchmarks/op_tables.py --browser` and the tests run.
LITERT_JS = "litert.js"

# A further row of verification tables: the quantized Keras model, whose rounding is simulated.
FAKE_QUANT = "keras-fake-quant"

# Compiler of an Ethos-U.
VELA = "vela"

# Kernels that TensorFlow Lite Micro may be linked with -> their name in texts.
REFERENCE_KERNELS = "reference"
CMSIS_NN = "cmsis-nn"
KERNELS = {REFERENCE_KERNELS: "TensorFlow Lite Micro's reference kernels", CMSIS_NN: "CMSIS-NN"}

# What may run a file on a board: these kernels, or the program in C.
C_PROGRAM = "c"
BOARD_RUNTIMES = (*KERNELS, C_PROGRAM)

# Arithmetic of a file -> dtypes that its inputs and outputs may have, the preferred one first.
IO_DTYPES_OF: dict[str, tuple[str, ...]] = {
    "float32": ("float32",),
    "float16": ("float32",),
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("int16", "float32"),
}
DTYPES = tuple(IO_DTYPES_OF)
IO_DTYPES = tuple(dict.fromkeys(dtype for allowed in IO_DTYPES_OF.values() for dtype in allowed))
# Arithmetic in integers -> bits of an activation.
BITS = {"int8": 8, "int16x8": 16}

# Costs of a file on a device, each with its unit.
LATENCY_MS = "latency_ms"
FILE_BYTES = "file_bytes"
FLASH_BYTES = "flash_bytes"  # the file only; of target c the program with its constants
ARENA_BYTES = "arena_bytes"  # RAM under TensorFlow Lite Micro
SRAM_BYTES = "sram_bytes"  # RAM by Vela's estimate
NPU_CYCLES = "npu_cycles"
FIRMWARE_BYTES = "firmware_bytes"  # flash for the file and the program that runs it, with CMSIS-NN's kernels
FIRMWARE_REFERENCE_BYTES = "firmware_reference_bytes"  # the same with the reference kernels
INSTRUCTIONS = "instructions"  # of an inference on a Cortex-M4 with CMSIS-NN's kernels or the program in C, an estimate
RAM_BYTES = "ram_bytes"  # RAM of a program in C: arena, inputs, outputs and stack
RAM_COSTS = (ARENA_BYTES, SRAM_BYTES, RAM_BYTES)

# What a kit contains for a device in addition to the file and its test vectors.
ANDROID_KIT = "android"  # a Kotlin class
MICRO_KIT = "micro"  # a C array and a self-test in C++
ETHOS_KIT = "ethos-u"  # the same for the compiled file, with the NPU's driver
EDGE_TPU_KIT = "edge-tpu"  # a self-test in Python
WEB_KIT = "web"  # a page for browsers
