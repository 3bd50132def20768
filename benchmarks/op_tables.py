"""Run each op of the targets' tables as a separate ``.tflite`` file in every available runtime.

Each file checks an entry of ``wm.tflite.TARGETS``: in LiteRT with XNNPACK and with its reference kernels, in TensorFlow
Lite Micro and, for the Ethos-U, with Arm's compiler, which must leave no op to the CPU; with ``--browser`` also with
LiteRT.js in headless Chromium (see ``browser.py``), where int8 files have uint8 inputs and outputs. A GPU, a phone's
NPU and an Edge TPU are not available: their tables were not tried. ``tests/test_tflite_op_tables.py`` checks the tables
with the same files.

Usage: python benchmarks/op_tables.py [--vela] [--browser] [OP ...]
"""

import argparse

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from browser import LiteRtJs

from wavemix_tf.tflite import TARGETS, ExportError
from wavemix_tf.tflite.file.flatbuffer import FILE_IDENTIFIER, read_file
from wavemix_tf.tflite.runtimes.converter import run_converter
from wavemix_tf.tflite.runtimes.ethos import compile_file
from wavemix_tf.tflite.runtimes.litert import invoke, make_interpreter
from wavemix_tf.tflite.runtimes.microcontroller import run_micro
from wavemix_tf.tflite.runtimes.processes import ForkServer
from wavemix_tf.tflite.runtimes.running import run_raw

SHAPE = (1, 4, 4, 8)
RNG = np.random.default_rng(0)


def _constant(*shape, positive=False):
    values = RNG.normal(0, 0.5, shape).astype(np.float32)
    return tf.constant(np.abs(values) + 0.1 if positive else values)


def _resize(method):
    return lambda x: getattr(tf.compat.v1.image, method)(x, (8, 8), half_pixel_centers=True)


POSITIVE = (0.1, 1.0)
SLOPES = tf.constant(-np.linspace(0.1, 0.8, 8, dtype=np.float32).reshape(1, 1, 8))
# Op -> (function of one or two inputs, shape of each input, values).
FLOAT = {
    "ABS": (tf.abs, [SHAPE]),
    "ADD": (tf.add, [SHAPE, SHAPE]),
    "ARG_MAX": (lambda x: tf.argmax(x, -1, tf.int32), [SHAPE]),
    "AVERAGE_POOL_2D": (lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), [SHAPE]),
    "BATCH_MATMUL": (lambda x, y: tf.matmul(x, y), [(1, 8, 8), (1, 8, 8)]),
    "BROADCAST_TO": (lambda x: tf.raw_ops.BroadcastTo(input=x, shape=(3, 4, 4, 8)), [SHAPE]),
    "CAST": (lambda x: tf.cast(x, tf.int32), [SHAPE]),
    "CONCATENATION": (lambda x, y: tf.concat([x, y], -1), [SHAPE, SHAPE]),
    "CONV_2D": (lambda x: tf.nn.conv2d(x, _constant(3, 3, 8, 4), 1, "SAME"), [SHAPE]),
    "CONV_3D": (lambda x: tf.nn.conv3d(x, _constant(2, 2, 2, 8, 4), (1,) * 5, "SAME"), [(1, 4, 4, 4, 8)]),
    "CUMSUM": (lambda x: tf.cumsum(x, 1), [SHAPE]),
    "DEPTHWISE_CONV_2D": (
        lambda x: tf.nn.depthwise_conv2d(x, _constant(3, 3, 8, 1), (1, 1, 1, 1), "SAME"),
        [SHAPE],
    ),
    "DEPTH_TO_SPACE": (lambda x: tf.nn.depth_to_space(x, 2), [SHAPE]),
    "DIV": (tf.divide, [SHAPE, SHAPE], POSITIVE),
    "ELU": (tf.nn.elu, [SHAPE]),
    "EQUAL": (tf.equal, [SHAPE, SHAPE]),
    "EXP": (tf.exp, [SHAPE]),
    "FLOOR": (tf.floor, [SHAPE]),
    "FULLY_CONNECTED": (lambda x: tf.matmul(x, _constant(8, 4)), [(1, 8)]),
    "GATHER": (lambda x: tf.gather(x, [2, 0], axis=1), [SHAPE]),
    "GATHER_ND": (lambda x: tf.gather_nd(x, [[0, 2], [0, 1]]), [SHAPE]),
    "GELU": (lambda x: tf.nn.gelu(x, approximate=True), [SHAPE]),
    "GREATER": (tf.greater, [SHAPE, SHAPE]),
    "GREATER_EQUAL": (tf.greater_equal, [SHAPE, SHAPE]),
    "HARD_SWISH": (lambda x: x * tf.nn.relu6(x + 3) * (1 / 6), [SHAPE]),
    "LEAKY_RELU": (lambda x: tf.nn.leaky_relu(x, 0.1), [SHAPE]),
    "LESS": (tf.less, [SHAPE, SHAPE]),
    "LESS_EQUAL": (tf.less_equal, [SHAPE, SHAPE]),
    "LOG": (tf.math.log, [SHAPE], POSITIVE),
    "LOGICAL_AND": (lambda x, y: tf.logical_and(x > 0.1, y > 0.2), [SHAPE, SHAPE]),
    "LOGICAL_NOT": (lambda x, y: tf.logical_not(tf.logical_and(x > 0.1, y > 0.2)), [SHAPE, SHAPE]),
    "LOGICAL_OR": (lambda x, y: tf.logical_or(x > 0.1, y > 0.2), [SHAPE, SHAPE]),
    "LOGISTIC": (tf.sigmoid, [SHAPE]),
    "LOG_SOFTMAX": (tf.nn.log_softmax, [(1, 8)]),
    "MAXIMUM": (tf.maximum, [SHAPE, SHAPE]),
    "MAX_POOL_2D": (lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), [SHAPE]),
    "MEAN": (lambda x: tf.reduce_mean(x, (1, 2)), [SHAPE]),
    "MINIMUM": (tf.minimum, [SHAPE, SHAPE]),
    "MIRROR_PAD": (lambda x: tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "REFLECT"), [SHAPE]),
    "MUL": (tf.multiply, [SHAPE, SHAPE]),
    "NEG": (tf.negative, [SHAPE]),
    "NOT_EQUAL": (tf.not_equal, [SHAPE, SHAPE]),
    "PACK": (lambda x, y: tf.stack([x, y], 1), [SHAPE, SHAPE]),
    "PAD": (lambda x: tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), [SHAPE]),
    "PADV2": (lambda x: tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1.0), [SHAPE]),
    "POW": (tf.pow, [SHAPE, SHAPE], POSITIVE),
    "PRELU": (lambda x: tf.nn.relu(x) + SLOPES * tf.nn.relu(-x), [SHAPE]),
    "REDUCE_MAX": (lambda x: tf.reduce_max(x, (1, 2)), [SHAPE]),
    "REDUCE_MIN": (lambda x: tf.reduce_min(x, (1, 2)), [SHAPE]),
    "RELU": (tf.nn.relu, [SHAPE]),
    "RELU6": (tf.nn.relu6, [SHAPE]),
    "RESHAPE": (lambda x: tf.reshape(x, (1, 16, 8)), [SHAPE]),
    "RESIZE_BILINEAR": (_resize("resize_bilinear"), [SHAPE]),
    "RESIZE_NEAREST_NEIGHBOR": (_resize("resize_nearest_neighbor"), [SHAPE]),
    "REVERSE_V2": (lambda x: tf.reverse(x, [1]), [SHAPE]),
    "RSQRT": (tf.math.rsqrt, [SHAPE], POSITIVE),
    "SELECT": (lambda x, y: tf.raw_ops.Select(condition=x > 0, x=x, y=y), [SHAPE, SHAPE]),
    "SELECT_V2": (lambda x, y: tf.where(x > 0, x, y[:, :1]), [SHAPE, SHAPE]),
    "SLICE": (lambda x: tf.slice(x, (0, 1, 1, 0), (1, 2, 2, 8)), [SHAPE]),
    "SOFTMAX": (tf.nn.softmax, [(1, 8)]),
    "SPACE_TO_DEPTH": (lambda x: tf.nn.space_to_depth(x, 2), [SHAPE]),
    "SPLIT": (lambda x: tf.split(x, 2, -1), [SHAPE]),
    "SQRT": (tf.sqrt, [SHAPE], POSITIVE),
    "SQUARE": (tf.square, [SHAPE]),
    "SQUARED_DIFFERENCE": (tf.math.squared_difference, [SHAPE, SHAPE]),
    "STRIDED_SLICE": (lambda x: x[:, ::2, 1:, :], [SHAPE]),
    "SUB": (tf.subtract, [SHAPE, SHAPE]),
    "SUM": (lambda x: tf.reduce_sum(x, (1, 2)), [SHAPE]),
    "TANH": (tf.tanh, [SHAPE]),
    "TILE": (lambda x: tf.tile(x, (1, 2, 1, 1)), [SHAPE]),
    "TOPK_V2": (lambda x: tf.math.top_k(x, 3), [(1, 8)]),
    "TRANSPOSE": (lambda x: tf.transpose(x, (0, 2, 1, 3)), [SHAPE]),
    "TRANSPOSE_CONV": (
        lambda x: tf.nn.conv2d_transpose(x, _constant(2, 2, 4, 8), (1, 8, 8, 4), 2, "SAME"),
        [SHAPE],
    ),
    "UNPACK": (lambda x: tf.unstack(x, axis=1), [SHAPE]),
}


def _tensor(name, shape, dtype="FLOAT32", buffer=0, scale=None, zero_point=0, variable=False):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, list(shape), getattr(schema.TensorType, dtype)
    tensor.buffer, tensor.isVariable = buffer, variable
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    return tensor


def _file(op, tensors, constants, inputs, options=None, kind=0):
    """A file with one op that the converter does not produce: the first tensor is the input, the last the output."""
    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    code.builtinCode = getattr(schema.BuiltinOperator, op)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    model.buffers = [schema.BufferT() for _ in range(1 + len(constants))]
    for buffer, values in zip(model.buffers[1:], constants, strict=True):
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [len(tensors) - 1], [operator]
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [len(tensors) - 1]
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _squeeze():
    options = schema.SqueezeOptionsT()
    options.squeezeDims = [0]
    tensors = [_tensor("x", (1, 4, 8)), _tensor("y", (4, 8))]
    return _file("SQUEEZE", tensors, [], [0], options, schema.BuiltinOptions.SqueezeOptions), [(1, 4, 8)]


def _expand_dims():
    tensors = [_tensor("x", (1, 4, 8)), _tensor("axis", (1,), "INT32", 1), _tensor("y", (1, 1, 4, 8))]
    options = schema.ExpandDimsOptionsT()
    kind = schema.BuiltinOptions.ExpandDimsOptions
    return _file("EXPAND_DIMS", tensors, [np.int32([1])], [0, 1], options, kind), [(1, 4, 8)]


def _lstm(features=8, units=6, steps=4):
    rng = np.random.default_rng(0)
    tensors, constants, inputs = [_tensor("x", (1, steps, features))], [], [0]

    def constant(name, shape):
        constants.append(rng.normal(0, 0.3, shape).astype(np.float32))
        tensors.append(_tensor(name, shape, buffer=len(constants)))
        inputs.append(len(tensors) - 1)

    for gate in "ifco":
        constant(f"input_{gate}", (units, features))
    for gate in "ifco":
        constant(f"recurrent_{gate}", (units, units))
    inputs += [-1, -1, -1]
    for gate in "ifco":
        constant(f"bias_{gate}", (units,))
    inputs += [-1, -1]
    for state in ("output_state", "cell_state"):
        tensors.append(_tensor(state, (1, units), variable=True))
        inputs.append(len(tensors) - 1)
    inputs += [-1, -1, -1, -1]
    tensors.append(_tensor("y", (1, steps, units)))
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, False
    kind = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    return _file("UNIDIRECTIONAL_SEQUENCE_LSTM", tensors, constants, inputs, options, kind), [(1, steps, features)]


def _rescale(op, source, result):
    tensors = [
        _tensor("x", SHAPE, *source[:1], scale=source[1]),
        _tensor("y", SHAPE, *result[:1], scale=result[1]),
    ]
    options, kind = (
        (schema.QuantizeOptionsT(), schema.BuiltinOptions.QuantizeOptions)
        if op == "QUANTIZE"
        else (schema.DequantizeOptionsT(), schema.BuiltinOptions.DequantizeOptions)
    )
    return _file(op, tensors, [], [0], options, kind), [SHAPE]


WRITTEN = {
    ("EXPAND_DIMS", "float32"): _expand_dims,
    ("SQUEEZE", "float32"): _squeeze,
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", "float32"): _lstm,
    ("QUANTIZE", "float32"): lambda: _rescale("QUANTIZE", ("FLOAT32", None), ("INT8", 0.02)),
    ("QUANTIZE", "int8"): lambda: _rescale("QUANTIZE", ("INT8", 0.02), ("INT8", 0.03)),
    ("DEQUANTIZE", "int8"): lambda: _rescale("DEQUANTIZE", ("INT8", 0.02), ("FLOAT32", None)),
}
# For a browser, with uint8 in place of int8.
WRITTEN_FOR_BROWSER = {
    **WRITTEN,
    ("QUANTIZE", "float32"): lambda: _rescale("QUANTIZE", ("FLOAT32", None), ("UINT8", 0.02)),
    ("QUANTIZE", "int8"): lambda: _rescale("QUANTIZE", ("UINT8", 0.02), ("UINT8", 0.03)),
    ("DEQUANTIZE", "int8"): lambda: _rescale("DEQUANTIZE", ("UINT8", 0.02), ("FLOAT32", None)),
}
# Ops without a file in one dtype: the converter keeps some in float, and a DEQUANTIZE has no float input.
NO_INT8 = {"ELU", "EXPAND_DIMS", "NEG", "POW", "SQUEEZE", "UNIDIRECTIONAL_SEQUENCE_LSTM"}
NO_FLOAT = {"DEQUANTIZE"}
OPS = sorted({*FLOAT, *(op for op, _ in WRITTEN)})


def _without_bool(function):
    """The function with float outputs in place of bool ones, which LiteRT.js cannot read."""

    def readable(*inputs):
        result = function(*inputs)
        return tf.cast(result, tf.float32) if tf.is_tensor(result) and result.dtype == tf.bool else result

    return readable


def write(op, dtype, for_browser=False):
    """(file, inputs) of one op whose first input is "float32" or "int8"; for a browser uint8 in place of int8."""
    rng = np.random.default_rng(1)
    ends = "uint8" if for_browser and dtype == "int8" else dtype
    written = WRITTEN_FOR_BROWSER if for_browser else WRITTEN
    if (op, dtype) in written:
        content, shapes = written[op, dtype]()
        low, high = -1.0, 1.0
    else:
        function, shapes, *limits = FLOAT[op]
        function = _without_bool(function) if for_browser else function
        low, high = limits[0] if limits else (-1.0, 1.0)
        traced = tf.function(function).get_concrete_function(*[tf.TensorSpec(shape, tf.float32) for shape in shapes])
        samples = None
        if dtype == "int8":
            samples = [[rng.uniform(low, high, shape).astype(np.float32) for shape in shapes] for _ in range(4)]
        content = run_converter(traced, dtype, ends, owner=tf.Module(), samples=samples and (lambda: samples))
    if ends == "uint8":
        return content, [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    if dtype == "int8":
        return content, [rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes]
    return content, [rng.uniform(low, high, shape).astype(np.float32) for shape in shapes]


def run(content, inputs, runtime, server=None):
    """Run a file; return None if the runtime succeeds, otherwise its error message."""
    try:
        if runtime == "tflite-micro":
            run_micro(content, inputs, run=server)
        else:
            run_raw(content, inputs, runtime)
    except ExportError as error:
        return str(error)
    return None


def run_in_browser(op, dtype, litert_js):
    """Run an op in LiteRT.js; return its largest difference from LiteRT, or a refusal as text.

    Args:
        op: Name of the op.
        dtype: "float32" or "int8".
        litert_js: A ``browser.LiteRtJs``.
    """
    content, inputs = write(op, dtype, for_browser=True)
    try:
        found = litert_js.run(content, inputs)
    except RuntimeError as error:
        return str(error).split("\n")[0]
    return max(
        float(np.abs(part.astype(np.float64) - other.astype(np.float64).ravel()).max())
        for part, other in zip(found, run_whole(content, inputs), strict=True)
    )


def run_whole(content, inputs):
    """Outputs of a file in LiteRT with XNNPACK, with their batch axis."""
    interpreter = make_interpreter(content)
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    invoke(interpreter)
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ops", nargs="*", metavar="OP", help="ops to run; default: all")
    parser.add_argument("--vela", action="store_true", help="also compile the ops of the Ethos-U tables")
    parser.add_argument("--browser", action="store_true", help="also run the ops with LiteRT.js in headless Chromium")
    arguments = parser.parse_args()
    micro, vela = ForkServer("tflite-micro"), ForkServer("vela")
    ethos = ("ethos-u55", "ethos-u65", "ethos-u85") if arguments.vela else ()
    heads = ("op", "arithmetic", "LiteRT, XNNPACK", "LiteRT, reference", "TensorFlow Lite Micro", *ethos)
    heads += ("LiteRT.js",) if arguments.browser else ()
    opened = LiteRtJs() if arguments.browser else None
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|")
    for op in arguments.ops or OPS:
        for dtype in ("float32", "int8"):
            if op in (NO_INT8 if dtype == "int8" else NO_FLOAT):
                continue
            content, inputs = write(op, dtype)
            if op not in {one.name for one in read_file(content).ops}:
                raise SystemExit(f"The converter turned {op} into {[one.name for one in read_file(content).ops]}.")
            cells = [
                "runs" if run(content, inputs, runtime, micro) is None else "no"
                for runtime in ("litert-xnnpack", "litert-reference", "tflite-micro")
            ]
            for target in ethos:
                if dtype == "float32" or op not in TARGETS[target].ops:
                    cells.append("not in the table")
                else:
                    left = compile_file(content, TARGETS[target].npu, None, vela).cpu_ops
                    cells.append("no" if left else "compiles")
            if opened is not None:
                cells.append("no" if isinstance(run_in_browser(op, dtype, opened), str) else "runs")
            print(f"| {op} | {dtype} |", " | ".join(cells), "|", flush=True)
    micro.close()
    vela.close()
    if opened is not None:
        opened.close()


if __name__ == "__main__":
    main()
