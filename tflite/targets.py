"""The targets: one literal table of what each device's runtime runs, where the rule comes from, and what suits it."""

from __future__ import annotations

from dataclasses import dataclass, field

from wavemix_tf.checks import check_option

DTYPES = ("float32", "float16", "int8", "int16x8")
IO_DTYPES = ("float32", "int8", "uint8", "int16")


@dataclass(frozen=True)
class Target:
    """What a device runs and how a model should be written for it.

    Args:
        device: What it stands for, in words.
        dtypes: Arithmetic it takes, preferred first.
        io_dtypes: dtype of the file's input and output for each of ``dtypes`` unless the caller says otherwise.
        ops: Op -> constraint that ``audit`` checks by name ("" for none). Ops not named here are refused.
        source: Where the table of ops comes from.
        runtimes: Runtimes that ``verify`` uses, the target's own first.
        upsample_forms: Ways to write a transposed convolution that suit it; with several, ``export`` measures the
            arena of each and keeps the smallest.
        substitutes: Activations it has no op for -> what replaces them.
    """

    device: str
    dtypes: tuple[str, ...]
    io_dtypes: dict[str, str]
    ops: dict[str, str]
    source: str
    runtimes: tuple[str, ...]
    upsample_forms: tuple[str, ...]
    substitutes: dict[str, str] = field(default_factory=dict)


TARGETS: dict[str, Target] = {
    "android-cpu": Target(
        device="LiteRT with XNNPACK on a phone's CPU cores",
        dtypes=("float32", "int8", "int16x8"),
        io_dtypes={"int8": "int8", "int16x8": "int16", "float32": "float32"},
        ops={
            "ADD": "",
            "AVERAGE_POOL_2D": "",
            "CONCATENATION": "",
            "CONV_2D": "",
            "DEPTHWISE_CONV_2D": "",
            "DEPTH_TO_SPACE": "",
            "DEQUANTIZE": "",
            "FULLY_CONNECTED": "",
            "GELU": "",
            "HARD_SWISH": "",
            "LEAKY_RELU": "",
            "LOGISTIC": "",
            "MAX_POOL_2D": "",
            "MEAN": "constant axes",
            "MUL": "",
            "NEG": "",  # of a float part: a mark that the converter leaves alone
            "PAD": "",
            "QUANTIZE": "",
            "RELU": "",
            "RELU6": "",
            "RESHAPE": "",
            "RESIZE_BILINEAR": "",
            "RESIZE_NEAREST_NEIGHBOR": "",
            "SLICE": "",
            "SOFTMAX": "",
            "STRIDED_SLICE": "plain slice",
            "SUB": "",
            "TANH": "",
            "TRANSPOSE": "",
            "TRANSPOSE_CONV": "",
        },
        source="ops with a float32 and an int8 kernel in LiteRT (tensorflow/lite/core/kernels/register.cc); XNNPACK "
        "takes all but some int8 activations (tensorflow/lite/delegates/xnnpack/README.md)",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("subpixel_crop",),  # TRANSPOSE_CONV was 50-79 % of int8 latency on a CPU
    ),
    "android-gpu": Target(
        device="LiteRT GPU delegate (OpenCL, OpenGL) on a phone",
        dtypes=("float16",),
        io_dtypes={"float16": "float32"},
        ops={
            "ADD": "two inputs",
            "AVERAGE_POOL_2D": "",
            "CONCATENATION": "",
            "CONV_2D": "gpu activation",
            "DEPTHWISE_CONV_2D": "depth multiplier 1",
            "DEPTH_TO_SPACE": "",
            "DEQUANTIZE": "",  # of the float16 weights
            "FULLY_CONNECTED": "",
            "GELU": "",
            "HARD_SWISH": "",
            "LEAKY_RELU": "",
            "LOGISTIC": "",
            "MAX_POOL_2D": "",
            "MEAN": "constant axes",
            "MUL": "two inputs",
            "PAD": "",
            "RELU": "",
            "RELU6": "",
            "RESHAPE": "",
            "RESIZE_BILINEAR": "",
            "RESIZE_NEAREST_NEIGHBOR": "",
            "SLICE": "",
            "SOFTMAX": "",
            "STRIDED_SLICE": "plain slice",
            "SUB": "two inputs",
            "TANH": "",
            "TRANSPOSE": "",
            "TRANSPOSE_CONV": "",
        },
        source="CheckGpuDelegateCompatibility in tensorflow/lite/tools/versioning/gpu_compatibility.cc, written out "
        "here because the analyzer that calls it accepts everything in TensorFlow 2.21; no GPU was run",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),
    ),
    "mcu": Target(
        device="TensorFlow Lite Micro on a microcontroller",
        dtypes=("int8", "int16x8"),
        io_dtypes={"int8": "int8", "int16x8": "int16"},
        ops={
            "ADD": "",
            "AVERAGE_POOL_2D": "",
            "CONCATENATION": "",
            "CONV_2D": "",
            "DEPTHWISE_CONV_2D": "",
            "DEPTH_TO_SPACE": "",
            "DEQUANTIZE": "",
            "FULLY_CONNECTED": "",
            "HARD_SWISH": "",
            "LEAKY_RELU": "",
            "LOGISTIC": "",
            "MAX_POOL_2D": "",
            "MEAN": "constant axes",
            "MUL": "",
            "NEG": "",  # of a float part: a mark that the converter leaves alone
            "PAD": "",
            "QUANTIZE": "",
            "RELU": "",
            "RELU6": "",
            "RESHAPE": "",
            "RESIZE_BILINEAR": "",
            "RESIZE_NEAREST_NEIGHBOR": "",
            "SLICE": "",
            "SOFTMAX": "",
            "STRIDED_SLICE": "plain slice",
            "SUB": "",
            "TANH": "",
            "TRANSPOSE": "",
            "TRANSPOSE_CONV": "",
        },
        source="python/tflite_micro/python_ops_resolver.cc and micro_mutable_op_resolver.h of tflite-micro; every "
        "exported file is run by its real kernels",
        runtimes=("tflite-micro", "litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv", "subpixel_crop"),
        substitutes={"gelu": "quick_gelu"},  # GELU has no kernel there
    ),
}


def get_target(name: str) -> Target:
    """The row of ``TARGETS``; a ValueError lists the names if there is none."""
    check_option("target", name, tuple(TARGETS))
    return TARGETS[name]
