"""The targets: one literal table of the ops that each device's runtime supports, their source, and suitable forms.

A rule here is the name of a function in ``constraints.CONSTRAINTS``, which also cites its source.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wavemix_tf.checks import check_option

from ..names import (
    ANDROID_KIT,
    ARENA_BYTES,
    C_PROGRAM,
    CMSIS_NN,
    EDGE_TPU_KIT,
    ETHOS_KIT,
    FILE_BYTES,
    FLASH_BYTES,
    INSTRUCTIONS,
    IO_DTYPES_OF,
    LATENCY_MS,
    LITERT_JS,
    MICRO,
    MICRO_KIT,
    NPU_CYCLES,
    RAM_BYTES,
    REFERENCE,
    SRAM_BYTES,
    VELA,
    WEB_KIT,
    XNNPACK,
)
from .firmware import COST_KERNELS
from .op_tables import (
    ANDROID_CPU_OPS,
    ANDROID_GPU_OPS,
    ANDROID_NPU_OPS,
    C_OPS,
    EDGE_TPU_OPS,
    ETHOS_U55_OPS,
    ETHOS_U85_OPS,
    MCU_OPS,
    WEB_OPS,
)

LITERT = (XNNPACK, REFERENCE)
NPU_COSTS = (NPU_CYCLES, SRAM_BYTES, FLASH_BYTES)


@dataclass(frozen=True)
class Npu:
    """Settings of the Ethos-U compiler Vela for a device.

    Args:
        accelerators: Values of its option ``--accelerator-config``, the default first. A compiled file runs on exactly
            the accelerator it was compiled for.
        system: Section ``System_Config`` of its ``Arm/vela.ini``: clock and memory bandwidths.
        memory: Section ``Memory_Mode`` of that file: the data in SRAM and in flash.
    """

    accelerators: tuple[str, ...]
    system: str
    memory: str


@dataclass(frozen=True)
class Target:
    """The ops that a device supports, and how a model should be written for it.

    For every target the Haar transforms are folded into the convolutions after them and batch norms into those before
    them: this was never slower on a measured device.

    Args:
        device: Name of the device, in words.
        dtypes: Supported arithmetic, preferred first.
        ops: Op -> rules that ``audit`` checks by name. Ops not named here are refused.
        every_op: Rules for every op.
        source: Source of the list of ops, and how it was checked.
        tried_in: Where each op of the list was run, or compiled, as a separate file (``benchmarks/op_tables.py``);
            empty: never tried, the list is only published.
        runtimes: Runtimes that ``verify`` uses, the target's own first.
        upsample_forms: Suitable ways to write a transposed convolution; with several, ``export`` measures the arena of
            each and keeps the smallest.
        last_form: A further one, tried if its kernels compute none of several correctly.
        activation: Recommended activation of a block for this target.
        upsample: Recommended upsampling of a block for this target.
        substitutes: Activations that it has no op for -> their replacements.
        max_stride: Largest stride of a convolution, in pixels, that it runs in one piece; None: any.
        dense_as_convolution: Whether a dense layer over more than one row is written as a 1x1 convolution.
        costs: Costs of a file that can be measured without the device, names of ``DeviceCosts``; empty if there is
            neither a compiler nor a model of the device's speed here.
        counts_firmware: Whether the flash of the program that runs a file is estimated (``firmware``).
        npu: Settings of the Ethos-U compiler; None for other devices.
        kit: What a kit contains for it: ``ANDROID_KIT``, ``MICRO_KIT``, ``ETHOS_KIT``, ``EDGE_TPU_KIT`` or ``WEB_KIT``;
            None: only the file and its vectors, or a program in C.
        litert_accelerator: Accelerator that LiteRT's Kotlin API runs a file on: "CPU", "GPU" or "NPU".
        holds_class_names: Whether the file describes its outputs and ends with the class names, as ML Kit and MediaPipe
            read them.
        strips_names: Whether the names of inner tensors, which no runtime reads, are removed to save flash.
        rounds_twice: Whether products are rounded twice, as in the reference kernels but not in XNNPACK, which computes
            the test vectors.
        writes_c: Whether the file becomes a C program, with int8 inside and out.
        end_dtypes: Supported dtypes of a file's inputs and outputs; empty: those of its arithmetic.
        max_arena_bytes: RAM for tensors that every device of the family has; None: they differ too much for a limit.
        max_flash_bytes: Flash for the file only; None as above.
    """

    device: str
    dtypes: tuple[str, ...]
    ops: dict[str, tuple[str, ...]]
    source: str
    runtimes: tuple[str, ...]
    upsample_forms: tuple[str, ...]
    activation: str = "gelu"
    upsample: str = "deconv"
    substitutes: dict[str, str] = field(default_factory=dict)
    every_op: tuple[str, ...] = ()
    tried_in: tuple[str, ...] = ()
    max_stride: int | None = None
    dense_as_convolution: bool = False
    costs: tuple[str, ...] = ()
    counts_firmware: bool = False
    npu: Npu | None = None
    kit: str | None = None
    litert_accelerator: str = "CPU"
    last_form: str | None = None
    holds_class_names: bool = False
    strips_names: bool = False
    rounds_twice: bool = False
    writes_c: bool = False
    end_dtypes: tuple[str, ...] = ()
    max_arena_bytes: int | None = None
    max_flash_bytes: int | None = None

    @property
    def io_dtypes(self) -> dict[str, str]:
        """Default dtype of the file's input and output for each of ``dtypes``."""
        return {dtype: self.io_dtypes_of(dtype)[0] for dtype in self.dtypes}

    def io_dtypes_of(self, dtype: str) -> tuple[str, ...]:
        """Allowed dtypes of the input and output of a file with the arithmetic ``dtype``, the preferred one first."""
        return tuple(one for one in IO_DTYPES_OF[dtype] if one in self.end_dtypes or not self.end_dtypes)

    @property
    def compiler(self) -> str | None:
        """Compiler that makes the file for the device; None: the device runs the ``.tflite`` file."""
        return None if self.npu is None else VELA

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Allowed values of ``accelerator``, the default first; empty if there is no compiler."""
        return () if self.npu is None else self.npu.accelerators

    @property
    def has_c_code(self) -> bool:
        """Whether C or C++ code is written for it, whose names a user may choose."""
        return self.writes_c or self.kit in (MICRO_KIT, ETHOS_KIT)

    def macs_per_cycle(self, accelerator: str | None) -> int:
        """Multiply-accumulates per cycle of one of ``accelerators``, which end in that number; 0: no NPU."""
        return int(str(accelerator).rsplit("-", 1)[1]) if self.accelerators else 0

    @property
    def tool(self) -> str | None:
        """Tool that compiles or runs its files in a separate process: key of ``processes.SCRIPTS``; None: nothing."""
        return self.compiler or (MICRO if MICRO in self.runtimes else None)


TARGETS: dict[str, Target] = {
    "android-cpu": Target(
        device="LiteRT with XNNPACK on a phone's CPU cores",
        dtypes=("float32", "int8", "int16x8"),
        ops=ANDROID_CPU_OPS,
        source="ops with a kernel in LiteRT (tensorflow/lite/core/kernels/register.cc), each run as a separate file; "
        "XNNPACK supports all but some int8 activations (tensorflow/lite/delegates/xnnpack/README.md)",
        tried_in=LITERT,
        runtimes=LITERT,
        upsample_forms=("subpixel_crop",),  # TRANSPOSE_CONV was 50-79 % of int8 latency on a CPU
        costs=(LATENCY_MS, FILE_BYTES),
        kit=ANDROID_KIT,
        holds_class_names=True,
    ),
    "android-gpu": Target(
        device="LiteRT GPU delegate (OpenCL, OpenGL) on a phone",
        dtypes=("float16",),
        every_op=("float feature maps", "at most 4 dimensions", "batch 1"),
        ops=ANDROID_GPU_OPS,
        source="CheckGpuDelegateCompatibility in tensorflow/lite/tools/versioning/gpu_compatibility.cc, written out "
        "here because the analyzer that calls it accepts everything in TensorFlow 2.21; an audit only: no GPU was run, "
        "no entry was tried",
        runtimes=LITERT,
        upsample_forms=("transposed_conv",),
        dense_as_convolution=True,  # the converter turns rows after a reshape into a batch
        kit=ANDROID_KIT,
        holds_class_names=True,
        litert_accelerator="GPU",
    ),
    "android-npu": Target(
        device="LiteRT on a phone's NPU (Qualcomm Hexagon, MediaTek APU)",
        dtypes=("int8",),
        every_op=("batch 1", "constant weights"),
        ops=ANDROID_NPU_OPS,
        source="ops that both litert/vendors/qualcomm/compiler/Qualcomm_QNN_Compiler.md and "
        "litert/vendors/mediatek/compiler/MediaTek_Neuro_Compiler.md of google-ai-edge/LiteRT list (the latter has no "
        "DEPTH_TO_SPACE and no RELU6); an audit against these lists only: no NPU and no vendor's compiler was run, no "
        "entry was tried, and a driver may still run an op on the CPU",
        runtimes=LITERT,
        rounds_twice=True,
        upsample_forms=("transposed_conv",),  # the only upsampling with weights that both support
        dense_as_convolution=True,  # the converter turns rows after a reshape into a batch
        kit=ANDROID_KIT,
        holds_class_names=True,
        litert_accelerator="NPU",
    ),
    "ethos-u55": Target(
        device="Arm Ethos-U55 beside a Cortex-M; compiled for 256 MACs a cycle",
        dtypes=("int8",),
        every_op=("integer feature maps", "scales on feature maps"),
        ops=ETHOS_U55_OPS,
        source="Vela's SUPPORTED_OPS.md (`vela --supported-ops-report`, 5.2.0), Ethos-U55 and Ethos-U65; and the "
        "compiler itself, which compiles every exported file and must leave no op to the CPU",
        tried_in=(VELA,),
        runtimes=LITERT,
        rounds_twice=True,
        upsample_forms=("transposed_conv",),  # DEPTH_TO_SPACE would run on the CPU
        max_stride=3,  # above, the compiler makes one convolution per output pixel: 70 of 73 million cycles
        npu=Npu(
            ("ethos-u55-256", "ethos-u55-128", "ethos-u55-64", "ethos-u55-32"),
            "Ethos_U55_High_End_Embedded",  # 500 MHz, flash of 0.5 GB/s
            "Shared_Sram",
        ),
        costs=NPU_COSTS,
        kit=ETHOS_KIT,
    ),
    "ethos-u65": Target(
        device="Arm Ethos-U65 beside a Cortex-M; compiled for 512 MACs a cycle",
        dtypes=("int8",),
        every_op=("integer feature maps", "scales on feature maps"),
        ops=ETHOS_U55_OPS,
        source="Vela's SUPPORTED_OPS.md (`vela --supported-ops-report`, 5.2.0), Ethos-U55 and Ethos-U65; and the "
        "compiler itself, which compiles every exported file and must leave no op to the CPU",
        tried_in=(VELA,),
        runtimes=LITERT,
        rounds_twice=True,
        upsample_forms=("transposed_conv",),
        max_stride=3,
        npu=Npu(
            ("ethos-u65-512", "ethos-u65-256"),
            "Ethos_U65_Embedded",  # 500 MHz, flash of 0.5 GB/s: comparable with the U55's figures
            "Shared_Sram",
        ),
        costs=NPU_COSTS,
        kit=ETHOS_KIT,
    ),
    "ethos-u85": Target(
        device="Arm Ethos-U85 beside a Cortex-M; compiled for 512 MACs a cycle",
        dtypes=("int8",),
        every_op=("integer feature maps",),
        ops=ETHOS_U85_OPS,
        source="Vela's SUPPORTED_OPS.md (`vela --supported-ops-report`, 5.2.0), Ethos-U85; and the compiler itself, "
        "which compiles every exported file and must leave no op to the CPU",
        tried_in=(VELA,),
        runtimes=LITERT,
        rounds_twice=True,
        upsample_forms=("transposed_conv",),
        max_stride=3,
        npu=Npu(
            ("ethos-u85-512", "ethos-u85-128", "ethos-u85-256", "ethos-u85-1024", "ethos-u85-2048"),
            "Ethos_U85_SYS_Flash_High",  # 500 MHz, flash of 0.5 GB/s: comparable with the U55's figures
            "Shared_Sram",
        ),
        costs=NPU_COSTS,
        kit=ETHOS_KIT,
    ),
    "edge-tpu": Target(
        device="Coral Edge TPU",
        dtypes=("int8",),
        every_op=("three inner dimensions", "constant weights"),
        ops=EDGE_TPU_OPS,
        source="https://coral.ai/docs/edgetpu/models-intro/#supported-operations and "
        "https://github.com/google-coral/edgetpu/issues (818: no GELU; 272: no HARD_SWISH; 386: no DEPTH_TO_SPACE); "
        "RSQRT and TRANSPOSE from version 14 of its runtime on; an audit against this table only: the Edge TPU "
        "compiler was not run, no entry was tried, and it runs resizes of some unlisted sizes on the CPU",
        runtimes=LITERT,
        rounds_twice=True,
        upsample_forms=("transposed_conv",),
        activation="quick_gelu",
        substitutes={"gelu": "quick_gelu"},
        dense_as_convolution=True,  # FULLY_CONNECTED has a one-dimensional output there
        kit=EDGE_TPU_KIT,
    ),
    "mcu": Target(
        device="TensorFlow Lite Micro on a microcontroller",
        dtypes=("int8", "int16x8"),
        ops=MCU_OPS,
        source="python/tflite_micro/python_ops_resolver.cc and micro_mutable_op_resolver.h of tflite-micro; every "
        "exported file is run by its real kernels",
        tried_in=(MICRO,),
        runtimes=(MICRO, *LITERT),
        # "subpixel_3x3" takes 6-12 % less arena than "subpixel_crop", but 11-63 % more flash: only on request.
        upsample_forms=("transposed_conv", "subpixel_crop"),
        last_form="transposed_crop",
        activation="quick_gelu",
        substitutes={"gelu": "quick_gelu"},  # GELU has no kernel there
        strips_names=True,
        costs=(ARENA_BYTES, FLASH_BYTES),
        counts_firmware=True,
        kit=MICRO_KIT,
    ),
    "c": Target(
        device="C99 without an interpreter, on a microcontroller",
        dtypes=("int8",),
        every_op=("integer feature maps",),
        ops=C_OPS,
        source="tflite/c_source/ops/table.py; every exported file is run by TensorFlow Lite Micro's reference kernels, "
        "whose integers the program computes: tests/test_c_source.py compiles one for each op",
        tried_in=(MICRO,),
        runtimes=(MICRO, *LITERT),
        # Written as the convolutions that it consists of, one for each place within a stride.
        upsample_forms=("transposed_conv",),
        activation="quick_gelu",
        substitutes={"gelu": "quick_gelu"},
        writes_c=True,
        costs=(RAM_BYTES, FLASH_BYTES),
    ),
    "web": Target(
        device="LiteRT.js in a web browser (WebAssembly)",
        dtypes=("int8", "float32", "float16"),
        ops=WEB_OPS,
        source="@litertjs/core 2.5.3 of npm, its WebAssembly (XNNPACK) in headless Chromium 150: each op was run as a "
        "separate file (`benchmarks/op_tables.py --browser`), and every int8 op gave LiteRT's integers; int8, int16 "
        "and bool inputs and outputs are refused",
        tried_in=(LITERT_JS,),
        runtimes=LITERT,
        upsample_forms=("subpixel_crop",),  # as on a phone's CPU
        end_dtypes=("uint8", "float32", "int32"),  # an int32 output contains indices
        kit=WEB_KIT,
    ),
}


# Targets whose costs ``DeviceCosts`` measures -> their names.
DEVICE_COSTS: dict[str, tuple[str, ...]] = {name: row.costs for name, row in TARGETS.items() if row.costs}

# Reported only if named: of an interpreted file the flash with the program that runs it (see ``firmware``), of a
# program in C its arena alone; and the instructions of an inference.
NAMED_COSTS: dict[str, tuple[str, ...]] = {
    name: (*(COST_KERNELS if row.counts_firmware else (ARENA_BYTES,)), INSTRUCTIONS)
    for name, row in TARGETS.items()
    if row.counts_firmware or row.writes_c
}


def board_runtime(target: str) -> str | None:
    """What runs a target's files on a board (one of ``names.BOARD_RUNTIMES``); None for other devices."""
    row = get_target(target)
    return C_PROGRAM if row.writes_c else CMSIS_NN if row.kit == MICRO_KIT else None


def get_target(name: str) -> Target:
    """The row of ``TARGETS``; a ValueError lists the valid names."""
    check_option("target", name, tuple(TARGETS))
    return TARGETS[name]
