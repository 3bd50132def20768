"""The targets: one literal table of what each device's runtime runs, where the rule comes from, and what suits it.

A rule is a name here and a function of that name in ``audit.CONSTRAINTS``, which also cites where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wavemix_tf.checks import check_option

DTYPES = ("float32", "float16", "int8", "int16x8")
IO_DTYPES = ("float32", "int8", "uint8", "int16")


@dataclass(frozen=True)
class Npu:
    """What the Ethos-U compiler Vela is told of a device.

    Args:
        accelerators: Values of its option ``--accelerator-config``, the default first. A compiled file runs on exactly
            the accelerator it was compiled for.
        system: Section ``System_Config`` of its ``Arm/vela.ini``: clock and memory bandwidths.
        memory: Section ``Memory_Mode`` of that file: what lies in SRAM and what in flash.
    """

    accelerators: tuple[str, ...]
    system: str
    memory: str


@dataclass(frozen=True)
class Target:
    """What a device runs and how a model should be written for it.

    Every target gets the Haar transforms folded into the convolutions behind them and batch norms into those before
    them: no device measured was faster without.

    Args:
        device: What it stands for, in words.
        dtypes: Arithmetic it takes, preferred first.
        io_dtypes: dtype of the file's input and output for each of ``dtypes`` unless the caller says otherwise.
        ops: Op -> rules that ``audit`` checks by name. Ops not named here are refused.
        every_op: Rules for every op.
        source: Where the list of ops comes from, and who has checked it.
        runtimes: Runtimes that ``verify`` uses, the target's own first.
        upsample_forms: Ways to write a transposed convolution that suit it; with several, ``export`` measures the
            arena of each and keeps the smallest.
        activation: What a block for this target had best use.
        upsample: Likewise.
        substitutes: Activations it has no op for -> what replaces them.
        max_stride: Largest stride of a convolution, in pixels, that it runs in one piece; None: any.
        dense_as_convolution: Whether a dense layer over more than one row is written as a 1x1 convolution.
        npu: For the Ethos-U compiler; None for other devices.
        strips_names: Whether the names of inner tensors, which no runtime reads, leave the file: flash is short.
        max_arena_bytes: RAM for tensors that every device of the family has; None: they differ too much for a limit.
        max_flash_bytes: Flash for the file, likewise.
    """

    device: str
    dtypes: tuple[str, ...]
    io_dtypes: dict[str, str]
    ops: dict[str, tuple[str, ...]]
    source: str
    runtimes: tuple[str, ...]
    upsample_forms: tuple[str, ...]
    activation: str = "gelu"
    upsample: str = "deconv"
    substitutes: dict[str, str] = field(default_factory=dict)
    every_op: tuple[str, ...] = ()
    max_stride: int | None = None
    dense_as_convolution: bool = False
    npu: Npu | None = None
    strips_names: bool = False
    max_arena_bytes: int | None = None
    max_flash_bytes: int | None = None


# What the int8 kernels of every runtime ask for beside a target's own rules
# (https://ai.google.dev/edge/litert/models/quantization_spec).
INT8_RULES: dict[str, tuple[str, ...]] = {
    "ADD": ("one scale a feature map",),
    "AVERAGE_POOL_2D": ("one scale a feature map", "output on its input's scale"),
    "BATCH_MATMUL": ("one scale a feature map",),
    "CONCATENATION": ("one scale a feature map", "output on its input's scale"),
    "CONV_2D": ("one scale a feature map", "symmetric int8 weights", "weight scales on axis 0", "int32 bias"),
    "DEPTHWISE_CONV_2D": ("one scale a feature map", "symmetric int8 weights", "weight scales on axis 3", "int32 bias"),
    "DEPTH_TO_SPACE": ("one scale a feature map", "output on its input's scale"),
    "FULLY_CONNECTED": ("one scale a feature map", "symmetric int8 weights", "weight scales on axis 0", "int32 bias"),
    "GATHER": ("one scale a feature map", "output on its input's scale"),
    "GELU": ("one scale a feature map",),
    "HARD_SWISH": ("one scale a feature map",),
    "LEAKY_RELU": ("one scale a feature map",),
    "LOGISTIC": ("one scale a feature map", "output scale 1/256, zero point -128"),
    "MAX_POOL_2D": ("one scale a feature map", "output on its input's scale"),
    "MEAN": ("one scale a feature map",),
    "MIRROR_PAD": ("one scale a feature map", "output on its input's scale"),
    "MUL": ("one scale a feature map",),
    "PAD": ("one scale a feature map", "output on its input's scale"),
    "RELU": ("one scale a feature map",),
    "RELU6": ("one scale a feature map",),
    "RESHAPE": ("one scale a feature map", "output on its input's scale"),
    "RESIZE_BILINEAR": ("one scale a feature map", "output on its input's scale"),
    "RESIZE_NEAREST_NEIGHBOR": ("one scale a feature map", "output on its input's scale"),
    "RSQRT": ("one scale a feature map", "no negative input"),
    "SLICE": ("one scale a feature map", "output on its input's scale"),
    "SOFTMAX": ("one scale a feature map", "output scale 1/256, zero point -128"),
    "SPACE_TO_DEPTH": ("one scale a feature map", "output on its input's scale"),
    "STRIDED_SLICE": ("one scale a feature map", "output on its input's scale"),
    "SUB": ("one scale a feature map",),
    "TANH": ("one scale a feature map", "output scale 1/128, zero point 0"),
    "TRANSPOSE": ("one scale a feature map", "output on its input's scale"),
    "TRANSPOSE_CONV": ("one scale a feature map", "symmetric int8 weights", "weight scales on axis 0", "int32 bias"),
}

# What to use instead of an op that a target lacks.
INSTEAD = {
    "DEPTH_TO_SPACE": "upsample='deconv', 'bilinear' or 'nearest' (not 'pixel_shuffle'), "
    "and upsample_form='transposed_conv'",
    "DEQUANTIZE": "io_dtype='int8', and no float layer between int8 ones",
    "BATCH_MATMUL": "a mixer whose weights are constant: this target multiplies no two activations",
    "GATHER": "a network that keeps every token",
    "GELU": "activation='quick_gelu'",
    "HARD_SWISH": "activation='quick_gelu' or 'relu6'",
    "QUANTIZE": "io_dtype='int8'",
    "RELU6": "relu6 directly behind a convolution, which absorbs it",
    "TILE": "UpSampling2D, which export writes as one resize",
}

# Shared by Ethos-U55 and Ethos-U65: one list in Vela's SUPPORTED_OPS.md.
ETHOS_U55_OPS: dict[str, tuple[str, ...]] = {
    "ADD": (),
    "AVERAGE_POOL_2D": ("pooling window", "stride 3 at most unless valid"),
    "BATCH_MATMUL": ("8-bit operands", "sides of 65536 at most"),
    "CONCATENATION": (),
    "CONV_2D": ("constant bias of 32 or 64 bits", "8-bit weights", "stride 3 at most unless valid"),
    "DEPTHWISE_CONV_2D": ("constant bias of 32 or 64 bits", "8-bit weights", "strides 1 to 3"),
    "FULLY_CONNECTED": ("constant bias of 32 or 64 bits", "8-bit weights"),
    "GELU": ("same type and shape",),
    "HARD_SWISH": (),
    "LEAKY_RELU": (),
    "LOGISTIC": (),
    "MAX_POOL_2D": ("pooling window", "stride 3 at most unless valid"),
    "MEAN": ("constant axes", "batch 1", "reduced axes below 4096", "depth reduced in a row alone"),
    "MUL": (),
    "PAD": ("constant parameters",),
    "QUANTIZE": (),
    "RELU": (),
    "RELU6": (),
    "RESHAPE": (),
    "RESIZE_BILINEAR": ("same factor both ways", "factor 2, or 4 or 8 without half pixels"),
    "RESIZE_NEAREST_NEIGHBOR": ("same factor both ways", "factor 2, 4 or 8"),
    "RSQRT": ("8 or 16 bits",),
    "SLICE": ("constant parameters",),
    "SOFTMAX": ("height times width below 65536",),
    "STRIDED_SLICE": ("constant parameters", "positive strides"),
    "SUB": (),
    "TANH": (),
    "TRANSPOSE": ("constant parameters", "all sides but two make 65536 at most"),
    "TRANSPOSE_CONV": (
        "constant bias of 32 or 64 bits",
        "8-bit weights",
        "strides 1x1 or 2x2",
        "output is input times stride",
    ),
}

# Ops that stand only in what ``quantize(skip=...)`` left in float, indices and masks with it: both the runtimes of a
# phone's CPU and of a microcontroller have their kernels.
FLOAT_ISLANDS: dict[str, tuple[str, ...]] = dict.fromkeys(
    (
        *("ABS", "ARG_MAX", "BROADCAST_TO", "CAST", "CUMSUM", "DIV", "EQUAL", "EXP", "EXPAND_DIMS", "FLOOR"),
        *("GATHER_ND", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT"),
        *("LOGICAL_OR", "MAXIMUM", "MINIMUM", "NOT_EQUAL", "PACK", "PADV2", "REDUCE_MAX", "SELECT_V2", "SPLIT", "SQRT"),
        *("SQUARE", "SQUARED_DIFFERENCE", "SQUEEZE", "SUM", "UNPACK"),
    ),
    (),
)

TARGETS: dict[str, Target] = {
    "android-cpu": Target(
        device="LiteRT with XNNPACK on a phone's CPU cores",
        dtypes=("float32", "int8", "int16x8"),
        io_dtypes={"int8": "int8", "int16x8": "int16", "float32": "float32"},
        ops={
            **FLOAT_ISLANDS,
            **dict.fromkeys(("REDUCE_MIN", "SELECT", "TOPK_V2"), ()),
            "ADD": (),
            "AVERAGE_POOL_2D": (),
            "BATCH_MATMUL": (),
            "CONCATENATION": (),
            "CONV_2D": (),
            "DEPTHWISE_CONV_2D": (),
            "DEPTH_TO_SPACE": (),
            "DEQUANTIZE": (),
            "FULLY_CONNECTED": (),
            "GATHER": (),
            "GELU": (),
            "HARD_SWISH": (),
            "LEAKY_RELU": (),
            "LOGISTIC": (),
            "MAX_POOL_2D": (),
            "MEAN": ("constant axes",),
            "MIRROR_PAD": (),
            "MUL": (),
            "NEG": (),  # before a part that stays float: a mark that the converter leaves alone
            "PAD": (),
            "QUANTIZE": (),
            "RELU": (),
            "RELU6": (),
            "RESHAPE": (),
            "RESIZE_BILINEAR": (),
            "RESIZE_NEAREST_NEIGHBOR": (),
            "RSQRT": (),
            "SLICE": (),
            "SOFTMAX": (),
            "STRIDED_SLICE": ("plain slice",),
            "SUB": (),
            "TANH": (),
            "TRANSPOSE": (),
            "TRANSPOSE_CONV": (),
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
        every_op=("float feature maps", "at most 4 dimensions", "batch 1"),
        ops={
            "ADD": ("two inputs",),
            "AVERAGE_POOL_2D": ("one runtime input", "window and strides positive", "known fused activation"),
            "BATCH_MATMUL": ("two inputs",),
            "CONCATENATION": ("known fused activation",),
            "CONV_2D": ("at most two runtime inputs", "strides and dilations positive", "known fused activation"),
            "DEPTHWISE_CONV_2D": (
                "at most two runtime inputs",
                "strides and dilations positive",
                "known fused activation",
                "depthwise shapes agree",
                "depth multiplier 1",
            ),
            "DEPTH_TO_SPACE": ("one runtime input", "block size above 1"),
            "DEQUANTIZE": ("constant float16 input",),  # the weights
            "FULLY_CONNECTED": (
                "default weights format",
                "at most two runtime inputs",
                "runtime feature map",
                "rank kept",
            ),
            "GELU": ("one runtime input and no constant",),
            "HARD_SWISH": ("one runtime input",),
            "LEAKY_RELU": ("one runtime input",),
            "LOGISTIC": ("one runtime input and no constant",),
            "MAX_POOL_2D": ("one runtime input", "window and strides positive", "known fused activation"),
            "MEAN": ("constant axes",),
            "MUL": ("two inputs", "one input covers the other", "known fused activation"),
            "NEG": ("one runtime input and no constant",),
            "PAD": ("one runtime input", "paddings of 3 or 4 dimensions"),
            "RELU": (),
            "RELU6": (),
            "RESHAPE": ("one runtime input",),
            "RESIZE_BILINEAR": ("one runtime input", "corners aligned or half pixels, not both"),
            "RESIZE_NEAREST_NEIGHBOR": ("one runtime input",),
            "RSQRT": ("one runtime input and no constant",),
            "SLICE": ("three or four dimensions",),
            "SOFTMAX": ("beta 1",),
            "SQUARED_DIFFERENCE": ("one or two runtime operands",),
            "STRIDED_SLICE": ("plain slice", "three or four dimensions"),
            "SUB": ("one or two runtime operands", "known fused activation"),
            "TANH": ("one runtime input and no constant",),
            "TRANSPOSE": ("one runtime input",),
            "TRANSPOSE_CONV": ("at most two runtime inputs", "strides and dilations positive"),
        },
        source="CheckGpuDelegateCompatibility in tensorflow/lite/tools/versioning/gpu_compatibility.cc, written out "
        "here because the analyzer that calls it accepts everything in TensorFlow 2.21; an audit: no GPU was run",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),
        dense_as_convolution=True,  # the converter makes rows behind a reshape a batch
    ),
    "android-npu": Target(
        device="LiteRT on a phone's NPU (Qualcomm Hexagon, MediaTek APU)",
        dtypes=("int8",),
        io_dtypes={"int8": "int8"},
        every_op=("batch 1", "constant weights"),
        ops={
            "ADD": (),
            "AVERAGE_POOL_2D": (),
            "BATCH_MATMUL": (),
            "CONCATENATION": (),
            "CONV_2D": (),
            "DEPTHWISE_CONV_2D": (),
            "DEQUANTIZE": (),
            "FULLY_CONNECTED": (),
            "GELU": (),
            "HARD_SWISH": (),
            "LOGISTIC": (),
            "MAX_POOL_2D": (),
            "MEAN": ("constant axes",),
            "MUL": (),
            "PAD": ("constant parameters",),
            "QUANTIZE": (),
            "RELU": (),
            "RESHAPE": (),
            "RESIZE_BILINEAR": ("constant parameters",),
            "RESIZE_NEAREST_NEIGHBOR": ("constant parameters",),
            "RSQRT": (),
            "SLICE": ("constant parameters",),
            "SOFTMAX": (),
            "STRIDED_SLICE": ("constant parameters", "no ellipsis or new axis"),
            "SUB": (),
            "TANH": (),
            "TRANSPOSE": ("constant parameters",),
            "TRANSPOSE_CONV": (),
        },
        source="ops that both litert/vendors/qualcomm/compiler/Qualcomm_QNN_Compiler.md and "
        "litert/vendors/mediatek/compiler/MediaTek_Neuro_Compiler.md of google-ai-edge/LiteRT list (the latter has no "
        "DEPTH_TO_SPACE and no RELU6); an audit against these lists: no NPU and no vendor's compiler was run, and a "
        "driver may still leave an op to the CPU",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),  # of the ways to upsample, the only one with weights that both run
        dense_as_convolution=True,  # the converter makes rows behind a reshape a batch
    ),
    "ethos-u55": Target(
        device="Arm Ethos-U55 beside a Cortex-M; compiled for 256 MACs a cycle",
        dtypes=("int8",),
        io_dtypes={"int8": "int8"},
        every_op=("integer feature maps", "scales on feature maps"),
        ops=ETHOS_U55_OPS,
        source="Vela's SUPPORTED_OPS.md (`vela --supported-ops-report`, 5.2.0), Ethos-U55 and Ethos-U65; and the "
        "compiler itself, which compiles every exported file and must leave no op to the CPU",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),  # DEPTH_TO_SPACE would fall to the CPU
        max_stride=3,  # beyond, the compiler makes one convolution an output pixel: 70 of 73 million cycles
        npu=Npu(
            ("ethos-u55-256", "ethos-u55-128", "ethos-u55-64", "ethos-u55-32"),
            "Ethos_U55_High_End_Embedded",  # 500 MHz, flash of 0.5 GB/s
            "Shared_Sram",
        ),
    ),
    "ethos-u65": Target(
        device="Arm Ethos-U65 beside a Cortex-M; compiled for 512 MACs a cycle",
        dtypes=("int8",),
        io_dtypes={"int8": "int8"},
        every_op=("integer feature maps", "scales on feature maps"),
        ops=ETHOS_U55_OPS,
        source="Vela's SUPPORTED_OPS.md (`vela --supported-ops-report`, 5.2.0), Ethos-U55 and Ethos-U65; and the "
        "compiler itself, which compiles every exported file and must leave no op to the CPU",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),
        max_stride=3,
        npu=Npu(
            ("ethos-u65-512", "ethos-u65-256"),
            "Ethos_U65_Embedded",  # 500 MHz, flash of 0.5 GB/s: figures that compare with the U55's
            "Shared_Sram",
        ),
    ),
    "ethos-u85": Target(
        device="Arm Ethos-U85 beside a Cortex-M; compiled for 512 MACs a cycle",
        dtypes=("int8",),
        io_dtypes={"int8": "int8"},
        every_op=("integer feature maps",),
        ops={
            "ADD": (),
            "AVERAGE_POOL_2D": ("pooling window",),
            "BATCH_MATMUL": (),
            "CONCATENATION": (),
            "CONV_2D": ("constant bias of 32 or 64 bits", "8-bit weights"),
            "DEPTHWISE_CONV_2D": ("constant bias of 32 or 64 bits", "8-bit weights"),
            "FULLY_CONNECTED": ("constant bias of 32 or 64 bits", "8-bit weights"),
            "GELU": ("same type and shape",),
            "HARD_SWISH": (),
            "LEAKY_RELU": (),
            "LOGISTIC": (),
            "MAX_POOL_2D": ("pooling window",),
            "MEAN": ("constant axes", "batch 1", "reduced axes below 4096", "depth reduced in a row alone"),
            "MUL": (),
            "PAD": ("constant parameters",),
            "QUANTIZE": (),
            "RELU": (),
            "RELU6": (),
            "RESHAPE": (),
            "RESIZE_BILINEAR": ("power-of-two factor", "corners aligned or half pixels, not both"),
            "RESIZE_NEAREST_NEIGHBOR": ("corners aligned or half pixels, not both",),
            "RSQRT": ("8 or 16 bits",),
            "SLICE": ("constant parameters",),
            "SOFTMAX": ("height times width below 65536",),
            "STRIDED_SLICE": ("constant parameters", "positive strides"),
            "SUB": (),
            "TANH": (),
            "TRANSPOSE": ("constant parameters",),
            "TRANSPOSE_CONV": ("constant bias of 32 or 64 bits", "8-bit weights", "output is input times stride"),
        },
        source="Vela's SUPPORTED_OPS.md (`vela --supported-ops-report`, 5.2.0), Ethos-U85; and the compiler itself, "
        "which compiles every exported file and must leave no op to the CPU",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),
        max_stride=3,
        npu=Npu(
            ("ethos-u85-512", "ethos-u85-128", "ethos-u85-256", "ethos-u85-1024", "ethos-u85-2048"),
            "Ethos_U85_SYS_Flash_High",  # 500 MHz, flash of 0.5 GB/s: figures that compare with the U55's
            "Shared_Sram",
        ),
    ),
    "edge-tpu": Target(
        device="Coral Edge TPU",
        dtypes=("int8",),
        io_dtypes={"int8": "int8"},
        every_op=("three inner dimensions", "constant weights"),
        ops={
            "ADD": (),
            "AVERAGE_POOL_2D": ("no fused activation",),
            "CONCATENATION": ("no fused activation", "constant part is zeros"),
            "CONV_2D": ("same dilation both ways",),
            "DEPTHWISE_CONV_2D": ("same dilation both ways",),
            "FULLY_CONNECTED": ("default weights format", "one-dimensional output"),
            "LOGISTIC": (),
            "MAX_POOL_2D": ("no fused activation",),
            "MEAN": ("constant axes", "batch not reduced", "depth reduced in fours"),
            "MUL": (),
            "PAD": ("constant parameters", "batch not padded"),
            "QUANTIZE": ("integer feature maps",),
            "RELU": (),
            "RELU6": (),
            "RESHAPE": (),
            "RESIZE_BILINEAR": ("constant parameters",),
            "RESIZE_NEAREST_NEIGHBOR": ("constant parameters",),
            "RSQRT": (),
            "SLICE": ("constant parameters",),
            "SOFTMAX": ("one dimension of at most 16000",),
            "SPACE_TO_DEPTH": (),
            "STRIDED_SLICE": ("constant parameters", "unit strides", "no ellipsis or new axis"),
            "SUB": (),
            "TANH": (),
            "TRANSPOSE": ("constant parameters",),
            "TRANSPOSE_CONV": ("version 3 at most",),
        },
        source="https://coral.ai/docs/edgetpu/models-intro/#supported-operations and "
        "https://github.com/google-coral/edgetpu/issues (818: no GELU; 272: no HARD_SWISH; 386: no DEPTH_TO_SPACE); "
        "RSQRT and TRANSPOSE from version 14 of its runtime on; an "
        "audit against this table: the Edge TPU compiler was not run, and it leaves resizes of some sizes to the CPU "
        "without saying which",
        runtimes=("litert-xnnpack", "litert-reference"),
        upsample_forms=("transposed_conv",),
        activation="quick_gelu",
        substitutes={"gelu": "quick_gelu"},
        dense_as_convolution=True,  # the output of FULLY_CONNECTED has one dimension there
    ),
    "mcu": Target(
        device="TensorFlow Lite Micro on a microcontroller",
        dtypes=("int8", "int16x8"),
        io_dtypes={"int8": "int8", "int16x8": "int16"},
        ops={
            **FLOAT_ISLANDS,
            "ADD": (),
            "AVERAGE_POOL_2D": (),
            "BATCH_MATMUL": (),
            "CONCATENATION": (),
            "CONV_2D": (),
            "DEPTHWISE_CONV_2D": (),
            "DEPTH_TO_SPACE": (),
            "DEQUANTIZE": (),
            "FULLY_CONNECTED": (),
            "GATHER": (),
            "HARD_SWISH": (),
            "LEAKY_RELU": (),
            "LOGISTIC": (),
            "MAX_POOL_2D": (),
            "MEAN": ("constant axes",),
            "MIRROR_PAD": (),
            "MUL": (),
            "NEG": (),  # before a part that stays float: a mark that the converter leaves alone
            "PAD": ("constant parameters",),
            "QUANTIZE": (),
            "RELU": (),
            "RELU6": (),
            "RESHAPE": (),
            "RESIZE_BILINEAR": ("constant parameters",),
            "RESIZE_NEAREST_NEIGHBOR": ("constant parameters",),
            "RSQRT": (),
            "SLICE": (),
            "SOFTMAX": (),
            "STRIDED_SLICE": ("plain slice",),
            "SUB": (),
            "TANH": (),
            "TRANSPOSE": (),
            "TRANSPOSE_CONV": (),
        },
        source="python/tflite_micro/python_ops_resolver.cc and micro_mutable_op_resolver.h of tflite-micro; every "
        "exported file is run by its real kernels",
        runtimes=("tflite-micro", "litert-xnnpack", "litert-reference"),
        # "subpixel_3x3" takes 6-12 % less arena than "subpixel_crop", but 11-63 % more flash: on request.
        upsample_forms=("transposed_conv", "subpixel_crop"),
        activation="quick_gelu",
        substitutes={"gelu": "quick_gelu"},  # GELU has no kernel there
        strips_names=True,
    ),
}


_NPU_COSTS = ("npu_cycles", "sram_bytes", "flash_bytes")
# What ``DeviceCosts`` can tell of a file without the device. A phone's GPU and NPU and the Edge TPU have no compiler
# and no model of their speed here.
DEVICE_COSTS: dict[str, tuple[str, ...]] = {
    "android-cpu": ("latency_ms", "file_bytes"),
    "ethos-u55": _NPU_COSTS,
    "ethos-u65": _NPU_COSTS,
    "ethos-u85": _NPU_COSTS,
    "mcu": ("arena_bytes", "flash_bytes"),
}


def get_target(name: str) -> Target:
    """The row of ``TARGETS``; a ValueError lists the names if there is none."""
    check_option("target", name, tuple(TARGETS))
    return TARGETS[name]
