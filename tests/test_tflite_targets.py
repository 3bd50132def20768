"""Every target: refusals by rule and by op; Vela's figures; memory limits; files without names."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from tflite_support import Made, network, randomise
from tflite_support import export_random as export

from wavemix_tf.layers.pixel_shuffle import PixelShuffle
from wavemix_tf.tflite import TARGETS, Artifact, ExportError, MemoryLimitError, UnsupportedOpError, benchmark, quantize
from wavemix_tf.tflite.file import flatbuffer
from wavemix_tf.tflite.file.flatbuffer import read_file, schema, strip_names
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.runtimes.converter import convert
from wavemix_tf.tflite.runtimes.ethos import check_all_on_npu, compile_file
from wavemix_tf.tflite.runtimes.microcontroller import run_micro
from wavemix_tf.tflite.runtimes.running import run_file
from wavemix_tf.tflite.targets.audit import audit
from wavemix_tf.tflite.targets.constraints import CONSTRAINTS

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import op_tables

ETHOS = ("ethos-u55", "ethos-u65", "ethos-u85")
NPU_UPSAMPLERS = ("deconv", "bilinear", "nearest")
ACTIVATIONS = {"deconv": "gelu", "bilinear": "quick_gelu", "nearest": "hard_swish", "pixel_shuffle": "relu6"}
STEMS = {
    1: dict(image_shape=(17, 19, 3)),
    2: dict(image_shape=(16, 20, 3), stem="patchify", patch_size=2),
    3: dict(image_shape=(17, 19, 3), normalize=((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))),
    4: dict(image_shape=(33, 32, 1), stride=2),
}


def several_ops(kind):
    """Nearly every op of the tables in one network; "float" has those that only a float file needs here."""
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    gate = layers.Activation("sigmoid", name="gate")(layers.Conv2D(8, 1, name="gate_conv")(x))
    x = layers.Multiply(name="product")([x, gate])
    x = layers.AveragePooling2D(2, name="average")(x)
    x = layers.MaxPooling2D(2, name="largest")(x)
    x = layers.Conv2DTranspose(8, 2, strides=2, padding="same", name="transposed")(x)
    if kind == "float":
        x = layers.Subtract(name="difference")([x, layers.Conv2D(8, 1, name="subtrahend")(x)])
        x = PixelShuffle(2, name="shuffle")(layers.Conv2D(32, 1, name="to_shuffle")(x))
        x = layers.MaxPooling2D(2, name="largest2")(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(x)
    x = layers.Conv2D(8, 1, name="conv2")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="bilinear")(x)
    x = layers.Cropping2D(((0, 1), (0, 1)), name="crop")(x)
    x = layers.Conv2D(8, 1, name="conv3")(x)
    x = layers.UpSampling2D(2, interpolation="nearest", name="nearest")(x)
    tanh = layers.Activation("tanh", name="tanh")(layers.Conv2D(8, 1, name="tanh_conv")(x))
    x = layers.Add(name="sum")([x, tanh])
    x = layers.Concatenate(name="both")([x, layers.Conv2D(8, 1, name="conv4")(x)])
    if kind == "gelu":
        x = layers.Activation("gelu", name="gelu")(layers.Conv2D(8, 1, name="gelu_conv")(x))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(5, name="head")(x)
    return randomise(keras.Model(inputs, layers.Activation("softmax", name="softmax")(x), name="several"))


def int8_file(model, io_dtype="int8"):
    shape = model.inputs[0].shape[1:]
    return convert(
        deploy(quantize(model, generated_images(shape, 32, seed=1)), {}, "transposed_conv"), "int8", io_dtype
    )


def attention():
    """The ops of networks of tokens."""
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.Reshape((16, 8), name="tokens")(layers.Conv2D(8, 2, strides=2, name="patches")(inputs))
    x = layers.LayerNormalization(name="norm")(x)
    q, k, v = (layers.Dense(8, name=name)(x) for name in "qkv")
    shares = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) * 0.35)
    x = layers.Permute((2, 1), name="to_channels")(ops.matmul(shares, v))
    x = layers.Permute((2, 1), name="to_tokens")(layers.Dense(16, name="mix")(x))
    return randomise(keras.Model(inputs, layers.Dense(5, name="head")(x[:, 0]), name="attention"))


@pytest.fixture(scope="module")
def files():
    made = {
        "attention": lambda: int8_file(attention()),
        "int8": lambda: int8_file(several_ops("int8")),
        "float io": lambda: int8_file(several_ops("int8"), "float32"),
        "gelu": lambda: int8_file(several_ops("gelu")),
        "EXP": lambda: op_tables.write("EXP", "int8")[0],
        "LOG_SOFTMAX": lambda: op_tables.write("LOG_SOFTMAX", "int8")[0],
        "float16": lambda: convert(deploy(several_ops("float"), {}, "transposed_conv"), "float16", "float32"),
    }
    return Made(lambda name: made[name]())


class Editor:
    """One op of a file, to be broken."""

    def __init__(self, content, name, which=0):
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph = self.model.subgraphs[0]
        number = getattr(schema.BuiltinOperator, name)
        self.codes = [i for i, code in enumerate(self.model.operatorCodes) if code.builtinCode == number]
        self.op = [op for op in self.graph.operators if op.opcodeIndex in self.codes][which]

    def tensor(self, side, index):
        return self.graph.tensors[getattr(self.op, side)[index]]

    def source(self, index=0):
        return self.tensor("inputs", index)

    def result(self):
        return self.tensor("outputs", 0)

    def options(self, **values):
        for key, value in values.items():
            assert hasattr(self.op.builtinOptions, key)
            setattr(self.op.builtinOptions, key, value)

    def inputs(self, *indices):
        self.op.inputs = np.array(indices, np.int32)

    def values(self, index, *numbers):
        tensor = self.source(index)
        tensor.shape = [np.array(numbers).size] if np.ndim(numbers) == 1 else list(np.shape(numbers))
        tensor.shapeSignature = None
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.array(numbers, np.int32).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer = len(self.model.buffers) - 1

    def content(self):
        return flatbuffer.pack(self.model)


def shape(tensor, *sides):
    tensor.shape, tensor.shapeSignature = list(sides), None


def scaled(tensor, factor):
    tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * np.float32(factor)


def zero_point(tensor, value):
    tensor.quantization.zeroPoint = np.full(len(tensor.quantization.scale), value, np.int64)


def two_scales(tensor):
    tensor.quantization.scale = np.repeat(np.asarray(tensor.quantization.scale, np.float32), 2)
    tensor.quantization.zeroPoint = np.repeat(np.asarray(tensor.quantization.zeroPoint), 2)


def multiplied(tensor, source, height, width):
    shape(tensor, 1, source.shape[1] * height, source.shape[2] * width, source.shape[3])


TYPES = schema.TensorType
# Rule -> (target, file, op, how to break it).
BREAKS = {
    "at most 4 dimensions": ("android-gpu", "float16", "ADD", lambda e: shape(e.result(), 1, 1, 4, 4, 8)),
    "at most two runtime inputs": ("android-gpu", "float16", "CONV_2D", lambda e: e.inputs(*3 * [e.op.inputs[0]])),
    "beta 1": ("android-gpu", "float16", "SOFTMAX", lambda e: e.options(beta=2.0)),
    "block size above 1": ("android-gpu", "float16", "DEPTH_TO_SPACE", lambda e: e.options(blockSize=1)),
    "constant float16 input": ("android-gpu", "float16", "DEQUANTIZE", lambda e: e.inputs(e.graph.inputs[0])),
    "corners aligned or half pixels, not both": (
        "android-gpu",
        "float16",
        "RESIZE_BILINEAR",
        lambda e: e.options(alignCorners=True, halfPixelCenters=True),
    ),
    "depth multiplier 1": (
        "android-gpu",
        "float16",
        "DEPTHWISE_CONV_2D",
        lambda e: (shape(e.source(), 1, 8, 8, 4), e.options(depthMultiplier=2)),
    ),
    "depthwise shapes agree": ("android-gpu", "float16", "DEPTHWISE_CONV_2D", lambda e: e.options(depthMultiplier=3)),
    "float feature maps": ("android-gpu", "float16", "MUL", lambda e: setattr(e.result(), "type", TYPES.INT32)),
    "known fused activation": ("android-gpu", "float16", "CONV_2D", lambda e: e.options(fusedActivationFunction=5)),
    "one input covers the other": (
        "android-gpu",
        "float16",
        "MUL",
        lambda e: (shape(e.source(0), 1, 4, 1, 8), shape(e.source(1), 1, 1, 4, 8)),
    ),
    "one or two runtime operands": ("android-gpu", "float16", "SUB", lambda e: e.inputs(*3 * [e.op.inputs[0]])),
    "one runtime input": ("android-gpu", "float16", "MAX_POOL_2D", lambda e: e.inputs(*2 * [e.op.inputs[0]])),
    "one runtime input and no constant": (
        "android-gpu",
        "float16",
        "LOGISTIC",
        lambda e: e.inputs(*2 * [e.op.inputs[0]]),
    ),
    "paddings of 3 or 4 dimensions": ("android-gpu", "float16", "PAD", lambda e: shape(e.source(1), 2, 2)),
    "plain slice": ("android-gpu", "float16", "STRIDED_SLICE", lambda e: e.options(shrinkAxisMask=1)),
    "rank kept": (
        "android-gpu",
        "float16",
        "FULLY_CONNECTED",
        lambda e: (shape(e.source(), 1, 1, 1, 16), e.options(keepNumDims=True)),
    ),
    "runtime feature map": (
        "android-gpu",
        "float16",
        "FULLY_CONNECTED",
        lambda e: e.inputs(e.op.inputs[1], *e.op.inputs[1:]),
    ),
    "strides and dilations positive": ("android-gpu", "float16", "CONV_2D", lambda e: e.options(strideH=0)),
    "three or four dimensions": ("android-gpu", "float16", "STRIDED_SLICE", lambda e: shape(e.source(), 1, 8)),
    "two inputs": ("android-gpu", "float16", "ADD", lambda e: e.inputs(e.op.inputs[0])),
    "window and strides positive": ("android-gpu", "float16", "MAX_POOL_2D", lambda e: e.options(filterHeight=0)),
    "batch 1": ("android-npu", "int8", "ADD", lambda e: shape(e.result(), 2, 4, 4, 8)),
    "constant axes": ("android-npu", "int8", "MEAN", lambda e: e.inputs(e.op.inputs[0], e.graph.inputs[0])),
    "constant parameters": ("mcu", "int8", "PAD", lambda e: e.inputs(e.op.inputs[0], e.graph.inputs[0])),
    "constant weights": (
        "edge-tpu",
        "int8",
        "CONV_2D",
        lambda e: e.inputs(e.op.inputs[0], e.graph.inputs[0], e.op.inputs[2]),
    ),
    "default weights format": ("edge-tpu", "int8", "FULLY_CONNECTED", lambda e: e.options(weightsFormat=1)),
    "integer feature maps": ("ethos-u55", "float io", "QUANTIZE", lambda e: None),
    "no ellipsis or new axis": ("edge-tpu", "int8", "STRIDED_SLICE", lambda e: e.options(ellipsisMask=1)),
    "8 or 16 bits": ("ethos-u85", "attention", "RSQRT", lambda e: setattr(e.source(), "type", TYPES.INT32)),
    "8-bit operands": (
        "ethos-u55",
        "attention",
        "BATCH_MATMUL",
        lambda e: setattr(e.source(1), "type", TYPES.INT16),
    ),
    "all sides but two multiply to 65536 at most": (
        "ethos-u65",
        "attention",
        "TRANSPOSE",
        lambda e: shape(e.source(), 1, 300, 300, 8),
    ),
    "depth reduced only in a row": (
        "ethos-u55",
        "attention",
        "MEAN",
        lambda e: (shape(e.source(), 1, 4, 4, 8), e.values(1, 3, 3)),
    ),
    "no negative input": ("android-cpu", "attention", "RSQRT", lambda e: zero_point(e.source(), 0)),
    "sides of 65536 at most": ("ethos-u55", "attention", "BATCH_MATMUL", lambda e: shape(e.result(), 1, 70_000, 16)),
    "8-bit weights": ("ethos-u55", "int8", "CONV_2D", lambda e: setattr(e.source(1), "type", TYPES.INT16)),
    "constant bias of 32 or 64 bits": (
        "ethos-u85",
        "int8",
        "CONV_2D",
        lambda e: setattr(e.source(2), "type", TYPES.INT16),
    ),
    "factor 2, 4 or 8": (
        "ethos-u55",
        "int8",
        "RESIZE_NEAREST_NEIGHBOR",
        lambda e: multiplied(e.result(), e.source(), 3, 3),
    ),
    "factor 2, or 4 or 8 without half pixels": (
        "ethos-u65",
        "int8",
        "RESIZE_BILINEAR",
        lambda e: multiplied(e.result(), e.source(), 4, 4),
    ),
    "height times width below 65536": ("ethos-u55", "int8", "SOFTMAX", lambda e: shape(e.source(), 1, 70_000, 5)),
    "output is input times stride": ("ethos-u85", "int8", "TRANSPOSE_CONV", lambda e: shape(e.result(), 1, 5, 4, 8)),
    "pooling window": (
        "ethos-u55",
        "int8",
        "AVERAGE_POOL_2D",
        lambda e: e.options(filterHeight=9, padding=schema.Padding.SAME),
    ),
    "positive strides": ("ethos-u55", "int8", "STRIDED_SLICE", lambda e: e.values(3, 1, -1, 1, 1)),
    "power-of-two factor": (
        "ethos-u85",
        "int8",
        "RESIZE_BILINEAR",
        lambda e: multiplied(e.result(), e.source(), 3, 3),
    ),
    "reduced axes below 4096": ("ethos-u55", "int8", "MEAN", lambda e: shape(e.source(), 1, 5000, 4, 16)),
    "same factor both ways": (
        "ethos-u55",
        "int8",
        "RESIZE_NEAREST_NEIGHBOR",
        lambda e: multiplied(e.result(), e.source(), 2, 4),
    ),
    "same type and shape": ("ethos-u85", "gelu", "GELU", lambda e: shape(e.result(), 1, 4, 4, 4)),
    "scales on feature maps": ("ethos-u55", "int8", "ADD", lambda e: setattr(e.result(), "quantization", None)),
    "stride 3 at most unless valid": (
        "ethos-u55",
        "int8",
        "CONV_2D",
        lambda e: e.options(strideH=4, padding=schema.Padding.SAME),
    ),
    "strides 1 to 3": ("ethos-u55", "int8", "DEPTHWISE_CONV_2D", lambda e: e.options(strideW=4)),
    "strides 1x1 or 2x2": ("ethos-u55", "int8", "TRANSPOSE_CONV", lambda e: e.options(strideH=1)),
    "batch not padded": (
        "edge-tpu",
        "int8",
        "PAD",
        lambda e: e.values(1, *[[1, 0], [0, 0], [0, 0], [0, 0]]),
    ),
    "batch not reduced": ("edge-tpu", "int8", "MEAN", lambda e: e.values(1, 0, 1)),
    "constant part is zeros": (
        "edge-tpu",
        "int8",
        "CONCATENATION",
        lambda e: e.inputs(e.op.inputs[0], Editor(e.content(), "CONV_2D").op.inputs[1]),
    ),
    "depth reduced in fours": (
        "edge-tpu",
        "int8",
        "MEAN",
        lambda e: (shape(e.source(), 1, 4, 4, 6), e.values(1, 1, 3)),
    ),
    "no fused activation": ("edge-tpu", "int8", "MAX_POOL_2D", lambda e: e.options(fusedActivationFunction=1)),
    "one dimension of at most 16000": ("edge-tpu", "int8", "SOFTMAX", lambda e: shape(e.source(), 1, 20_000)),
    "one-dimensional output": ("edge-tpu", "int8", "FULLY_CONNECTED", lambda e: shape(e.result(), 2, 5)),
    "same dilation both ways": ("edge-tpu", "int8", "CONV_2D", lambda e: e.options(dilationHFactor=2)),
    "three inner dimensions": ("edge-tpu", "int8", "ADD", lambda e: shape(e.result(), 2, 4, 4, 8)),
    "unit strides": ("edge-tpu", "int8", "STRIDED_SLICE", lambda e: e.values(3, 1, 2, 2, 1)),
    "version 3 at most": (
        "edge-tpu",
        "int8",
        "TRANSPOSE_CONV",
        lambda e: setattr(e.model.operatorCodes[e.codes[0]], "version", 4),
    ),
    "CMSIS-NN: top padding a multiple of the stride, or over 16 channels and strides of 2 at most": (
        "mcu",
        "int8",
        "TRANSPOSE_CONV",
        lambda e: shape(e.source(1), 8, 4, 4, 8),
    ),
    "CMSIS-NN: exactly the rows that it writes, or over 16 channels and strides of 2 at most": (
        "mcu",
        "int8",
        "TRANSPOSE_CONV",
        lambda e: shape(e.result(), 1, 3, 4, 8),
    ),
    "CMSIS-NN: a buffer as wide as a row, or over 16 channels and strides of 2 at most": (
        "mcu",
        "int8",
        "TRANSPOSE_CONV",
        lambda e: e.options(strideW=4),
    ),
    "CMSIS-NN: activation implied by the output's range": (
        "mcu",
        "int8",
        "TRANSPOSE_CONV",
        lambda e: e.options(fusedActivationFunction=schema.ActivationFunctionType.RELU),
    ),
    "at most 4 dimensions (CMSIS-NN)": (
        "mcu",
        "attention",
        "TRANSPOSE",
        lambda e: shape(e.source(), 1, 1, 4, 4, 8),
    ),
    "float operands": ("mcu", "EXP", "EXP", lambda e: None),
    "int32 bias": ("android-cpu", "int8", "CONV_2D", lambda e: scaled(e.source(2), 1.01)),
    "one scale per feature map": ("android-cpu", "int8", "ADD", lambda e: two_scales(e.result())),
    "output on its input's scale": ("mcu", "int8", "PAD", lambda e: scaled(e.result(), 1.01)),
    "output scale 1/128, zero point 0": ("android-npu", "int8", "TANH", lambda e: zero_point(e.result(), 1)),
    "output scale 1/256, zero point -128": ("android-cpu", "int8", "LOGISTIC", lambda e: scaled(e.result(), 2)),
    "output scale 16/256, zero point 127": ("mcu", "LOG_SOFTMAX", "LOG_SOFTMAX", lambda e: scaled(e.result(), 2)),
    "symmetric int8 weights": ("android-cpu", "int8", "CONV_2D", lambda e: zero_point(e.source(1), 1)),
    "weight scales on axis 0": (
        "mcu",
        "int8",
        "TRANSPOSE_CONV",
        lambda e: setattr(e.source(1).quantization, "quantizedDimension", 3),
    ),
    "weight scales on axis 3": (
        "android-cpu",
        "int8",
        "DEPTHWISE_CONV_2D",
        lambda e: setattr(e.source(1).quantization, "quantizedDimension", 0),
    ),
}


def dtype_of(target):
    return "float16" if target == "android-gpu" else "int8"


def test_every_rule_has_a_file_that_breaks_it():
    assert set(BREAKS) == set(CONSTRAINTS)


@pytest.mark.parametrize("rule", BREAKS)
@pytest.mark.slow
def test_audit_refuses_by_rule(rule, files):
    target, file, name, breaks = BREAKS[rule]
    which = 0
    if name == "DEQUANTIZE":  # otherwise its tensor would count as a feature map
        ops = [op for op in read_file(files[file]).ops if op.name == name]
        which = next(i for i, op in enumerate(ops) if op.outputs[0].shape[0] == 1)
    editor = Editor(files[file], name, which)
    breaks(editor)
    with pytest.raises(UnsupportedOpError) as refused:
        audit(read_file(editor.content()), target, TARGETS[target], dtype_of(target))
    faults = [part for part in str(refused.value).split("; ") if f" {name} (" in part]
    assert any(part.rstrip(".").split(". ")[0].endswith(f"breaks its rule: {rule}") for part in faults), refused.value


@pytest.mark.parametrize("target", TARGETS)
def test_the_unbroken_files_pass(target, files):
    name = "float16" if target == "android-gpu" else "int8"
    info = read_file(files[name])
    row = dataclasses.replace(TARGETS[target], end_dtypes=())  # these files have int8 ends
    audit(info, target, row, dtype_of(target))
    assert {op.name for op in info.ops} >= set(TARGETS["edge-tpu"].ops) - {
        *("QUANTIZE", "RELU", "RELU6", "RESHAPE", "RSQRT", "SLICE", "SPACE_TO_DEPTH", "SUB", "TRANSPOSE"),
    }
    if target not in ("android-gpu", "edge-tpu"):
        audit(read_file(files["attention"]), target, row, "int8")
    if name == "int8":
        audit(read_file(files["gelu"]), "android-cpu", TARGETS["android-cpu"], "int8")


@pytest.mark.parametrize(
    ("target", "file", "message"),
    [
        (
            "edge-tpu",
            "gelu",
            r"op \d+ GELU \(.*gelu.*\) is not supported.*Instead of GELU use activation='q",
        ),
        ("mcu", "gelu", r"GELU .* is not supported.*activation='quick_gelu'"),
        ("edge-tpu", "float io", r"DEQUANTIZE .* is not supported.*io_dtype='int8'"),
        ("ethos-u85", "float io", r"DEQUANTIZE .* is not supported.*io_dtype='int8'"),
    ],
)
def test_audit_says_what_to_use_instead(target, file, message, files):
    with pytest.raises(UnsupportedOpError, match=message) as refused:
        audit(read_file(files[file]), target, TARGETS[target], "int8")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("upsample", NPU_UPSAMPLERS)
def test_ethos_runs_every_op_of_every_block(levels, upsample):
    options = STEMS[levels]
    model = network(width=8, depth=1, levels=levels, upsample=upsample, activation=ACTIVATIONS[upsample], **options)
    images = generated_images(options["image_shape"], 32, seed=1)
    artifact = export(quantize(model, images), "ethos-u55", images=images)
    assert artifact.npu.cpu_ops == ()
    assert artifact.npu.npu_ops == len(artifact.ops)
    reports = {"ethos-u55": artifact.npu}
    for target in ("ethos-u65", "ethos-u85"):  # the same file, according to their rows
        row = TARGETS[target]
        assert row.upsample_forms == TARGETS["ethos-u55"].upsample_forms
        audit(read_file(artifact.content), target, row, "int8")
        reports[target] = compile_file(artifact.content, row.npu)
        assert reports[target].cpu_ops == ()
    for report in reports.values():
        assert min(report.cycles, report.sram_bytes, report.constants_bytes, report.npu_ops) > 0
        assert report.inferences_per_second > 0
        assert report.flash_bytes == len(report.content) > report.constants_bytes
    assert ("RESIZE_BILINEAR" in artifact.ops) == (upsample == "bilinear")
    assert ("TRANSPOSE_CONV" in artifact.ops) == (upsample == "deconv")


@pytest.fixture(scope="module")
def small():
    """A quantized WaveMix with one level, and images for it."""
    images = generated_images((16, 16, 3), 32, seed=1)
    return quantize(network(depth=1), images), images


@pytest.fixture(scope="module")
def ethos(small):
    return export(small[0], "ethos-u85", images=small[1], accelerator="ethos-u85-256")


def test_vela_says_what_it_left_to_the_cpu(small):
    content = convert(deploy(small[0], {}, "subpixel_crop"), "int8", "int8")
    report = compile_file(content, TARGETS["ethos-u55"].npu)
    assert report.cpu_ops == ("DEPTH_TO_SPACE",)
    with pytest.raises(UnsupportedOpError, match=r"left 1 x DEPTH_TO_SPACE of target 'ethos-u55'.*upsample='deconv'"):
        check_all_on_npu(report, "ethos-u55")


@pytest.mark.parametrize("activation", ["gelu", "relu6"])
def test_patches_of_a_large_stride_are_not_cut_into_pixels(activation):
    model = network(depth=1, stem="patchify", patch_size=4, image_shape=(32, 32, 3), activation=activation)
    images = generated_images((32, 32, 3), 32, seed=1)
    qat = quantize(model, images)
    row = TARGETS["ethos-u55"]
    plain = convert(deploy(qat, {}, "transposed_conv"), "int8", "int8")
    split = convert(deploy(qat, {}, "transposed_conv", row.max_stride), "int8", "int8")
    for runtime in ("litert-xnnpack", "litert-reference"):
        np.testing.assert_array_equal(run_file(plain, images, runtime), run_file(split, images, runtime))
    assert [op.options.strideH for op in read_file(split).ops if op.name == "MAX_POOL_2D"] == [2]
    audit(read_file(split), "ethos-u55", row, "int8")
    before, after = compile_file(plain, row.npu), compile_file(split, row.npu)
    assert after.cpu_ops == ()
    assert after.cycles < before.cycles / 2


@pytest.mark.parametrize("target", [*ETHOS, "edge-tpu", "android-npu"])
@pytest.mark.slow
def test_pixel_shuffle_is_refused_with_what_to_use(target, shuffled):
    with pytest.raises(UnsupportedOpError, match=r"op \d+ DEPTH_TO_SPACE \(.*block1_shuffle1.*upsample='deconv'"):
        export(shuffled, target, images=generated_images((16, 16, 3), 32))


@pytest.fixture(scope="module")
def shuffled():
    model = network(depth=1, upsample="pixel_shuffle", activation="relu6")
    return quantize(model, generated_images((16, 16, 3), 32, seed=1))


@pytest.mark.parametrize("target", ["android-npu", "edge-tpu"])
@pytest.mark.slow
def test_audited_targets_get_a_file(target, small):
    artifact = export(small[0], target, images=small[1])
    assert "TRANSPOSE_CONV" in artifact.ops
    assert ("GELU" in artifact.ops) == (target == "android-npu")
    assert "audit" in TARGETS[target].source
    assert artifact.npu is None


@pytest.mark.slow
def test_ethos_file_is_saved_with_its_compiled_form(ethos, tmp_path):
    path = ethos.save(tmp_path / "net.tflite")
    assert path.with_name("net_vela.tflite").read_bytes() == ethos.npu.content != ethos.content
    assert [op.name for op in read_file(ethos.npu.content).ops] == ["CUSTOM ethos-u"]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["npu"] == json.loads(json.dumps(ethos.npu.to_dict()))
    assert card["npu"]["accelerator"] == "ethos-u85-256"
    assert card["npu"]["compiler"].startswith("ethos-u-vela ")
    assert Artifact.load(path) == ethos
    path.with_name("net_vela.tflite").write_bytes(ethos.npu.content[:-1] + b"?")
    with pytest.raises(ExportError, match=r"compiled file is not the one that the model card"):
        Artifact.load(path)


@pytest.mark.slow
def test_benchmark_compiles_for_the_same_accelerator(ethos):
    report = benchmark(ethos, runs=3, warmup=0)
    assert report.npu == ethos.npu.to_dict()
    assert report.arena_bytes is None


def test_vela_is_loaded_by_no_import_and_without_it_one_line_names_the_extra(tmp_path):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'ethosu' else find(name, package)\n"
        "import wavemix_tf.tflite\n"
        "assert not any(name.split('.')[0] == 'ethosu' for name in sys.modules)\n"
        "from wavemix_tf.tflite import TARGETS\n"
        "from wavemix_tf.tflite.runtimes import ethos\n"
        "try:\n    ethos.compile_file(b'', TARGETS['ethos-u55'].npu)\nexcept ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == [
        "Vela compiles a file for an Ethos-U before it is written: pip install 'wavemix-tf[ethos]'"
    ]


def test_vela_refuses_what_is_no_network():
    with pytest.raises(ExportError, match=r"Vela refused the file: \S.*accelerator='ethos-u55-256'"):
        compile_file(b"\x1c\x00\x00\x00TFL3" + bytes(40), TARGETS["ethos-u55"].npu)


@pytest.mark.parametrize(
    ("target", "limits", "message"),
    [
        (
            "mcu",
            dict(max_arena_bytes=4096),
            r"needs an arena of [\d,]{5,} bytes on target 'mcu'.*max_arena_bytes=4,096",
        ),
        ("mcu", dict(max_flash_bytes=5000), r"takes [\d,]{5,} bytes of flash.*max_flash_bytes=5,000.*op \d+ \w+ \(.*/"),
        (
            "ethos-u55",
            dict(max_arena_bytes=1024),
            r"needs SRAM of [\d,]{5,} bytes.*max_arena_bytes=1,024.*op \d+ \w+ \(",
        ),
        ("ethos-u55", dict(max_flash_bytes=1024), r"takes [\d,]{5,} bytes of flash on target 'ethos-u55'.*width"),
        ("android-cpu", dict(max_flash_bytes=1024), r"takes [\d,]{5,} bytes of flash on target 'android-cpu'"),
    ],
)
@pytest.mark.slow
def test_memory_limits_refuse_with_the_numbers(target, limits, message, small):
    with pytest.raises(MemoryLimitError, match=message) as refused:
        export(small[0], target, images=small[1], **limits)
    assert "\n" not in str(refused.value)


def test_memory_limits_let_pass_what_fits(small):
    free = export(small[0], "mcu", images=small[1])
    exact = dict(max_arena_bytes=free.arena_bytes, max_flash_bytes=free.size_bytes)
    assert export(small[0], "mcu", images=small[1], **exact) == free
    assert free.upsample_form == "subpixel_crop"


def test_the_form_with_the_smaller_arena_is_the_larger_file():
    """With less flash the other is taken: above 16 channels, where Arm's kernels compute both rightly."""
    model = network(width=20, depth=1)
    images = generated_images(model.image_shape, 48)
    quantized = quantize(model, images, target="mcu", rounding="nearest")
    free = export(quantized, "mcu", images=images)
    assert free.upsample_form == "subpixel_crop"
    tight = export(quantized, "mcu", images=images, max_flash_bytes=free.size_bytes - 1)
    assert tight.upsample_form == "transposed_conv"
    assert tight.size_bytes < free.size_bytes
    assert tight.arena_bytes > free.arena_bytes
    # DEPTH_TO_SPACE of int8 is version 2, of TensorFlow Lite 2.5; TRANSPOSE_CONV of int8 is older.
    assert export(quantized, "mcu", images=images, min_runtime="2.4").upsample_form == "transposed_conv"
    assert export(quantized, "mcu", images=images, min_runtime="2.5.0") == free


@pytest.mark.slow
def test_a_file_that_needs_a_newer_runtime_is_refused(small):
    message = r"must run on TensorFlow Lite 1\.15; by the versions of its ops \(.*CONV_2D.*\) it needs 2\.\d+\.0\."
    with pytest.raises(UnsupportedOpError, match=message):
        export(small[0], "android-cpu", images=small[1], min_runtime="1.15")


def test_wrong_limits_name_the_rule(small):
    for target, arguments, message in [
        ("android-cpu", dict(max_arena_bytes=1), "max_arena_bytes applies to mcu, c and Ethos-U targets"),
        ("mcu", dict(max_arena_bytes=0), "max_arena_bytes must be an integer of at least 1"),
        ("mcu", dict(max_flash_bytes=1.5), "max_flash_bytes must be an integer"),
        ("mcu", dict(min_runtime="new"), "min_runtime must be a release, as '2.8.0'. Received: min_runtime='new'"),
        ("mcu", dict(accelerator="ethos-u55-128"), "accelerator applies to Ethos-U targets"),
        ("ethos-u55", dict(accelerator="ethos-u65-256"), "accelerator must be one of 'ethos-u55-256'"),
    ]:
        with pytest.raises(ValueError, match=message):
            export(small[0], target, **arguments)


@pytest.mark.slow
def test_names_leave_the_file_and_nothing_else_does(small):
    content = convert(deploy(small[0], {"gelu": "quick_gelu"}, "subpixel_crop"), "int8", "int8")
    stripped = strip_names(content)
    before, after = read_file(content), read_file(stripped)
    assert len(stripped) < len(content) - 1000
    assert [op.name for op in after.ops] == [op.name for op in before.ops]
    assert [t.name for t in (*after.inputs, *after.outputs)] == [t.name for t in (*before.inputs, *before.outputs)]
    inner = [t for op in after.ops for t in op.outputs if t not in after.outputs]
    assert {t.name for t in inner} == {""}
    for old, new in zip(before.ops, after.ops, strict=True):
        for a, b in zip((*old.inputs, *old.outputs), (*new.inputs, *new.outputs), strict=True):
            assert dataclasses.replace(a, name=b.name) == b
            assert a.data == b.data
    images = small[1][:6]
    for runtime in ("litert-xnnpack", "litert-reference", "tflite-micro"):
        np.testing.assert_array_equal(run_file(content, images, runtime), run_file(stripped, images, runtime))
    levels = [flatbuffer.to_input(before.inputs[0], images[:1])]
    (before_run, used), (after_run, same) = run_micro(content, levels), run_micro(stripped, levels)
    assert used == same
    np.testing.assert_array_equal(before_run, after_run)


@pytest.mark.slow
def test_constants_stay_aligned(small):
    stripped = strip_names(convert(deploy(small[0], {}, "transposed_conv"), "int8", "int8"))
    file = schema.Model.GetRootAsModel(stripped, 0)
    starts = []
    for index in range(file.BuffersLength()):
        buffer = file.Buffers(index)
        if buffer.DataLength():
            starts.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert len(starts) > 10
    assert {start % 16 for start in starts} == {0}


def test_the_mcu_file_has_no_names_and_others_keep_them(small):
    artifact = export(small[0], "mcu", images=small[1])
    assert strip_names(artifact.content) == artifact.content
    phone = export(small[0], "android-cpu", images=small[1])
    assert all(op.outputs[0].name for op in read_file(phone.content).ops)


def test_the_table_says_what_it_recommends():
    for name, row in TARGETS.items():
        assert row.activation not in row.substitutes, name
        assert row.npu is None or all(choice.startswith(name) for choice in row.npu.accelerators), name
        needed = {"deconv": "TRANSPOSE_CONV"}[row.upsample]
        assert needed in row.ops, name
