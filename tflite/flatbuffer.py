"""What a ``.tflite`` file holds, read with its schema, and the audit of its ops against a target's table."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .errors import ExportError, UnsupportedOpError
from .targets import Target

FILE_IDENTIFIER = b"TFL3"
OP_NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
TYPE_NAMES = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: ``scale`` and ``zero_point`` of a per-tensor quantized one, else 0."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    channel_scales: int  # number of scales: more than one where quantized per channel
    constant: bool


@dataclass(frozen=True)
class OpInfo:
    """One op in execution order."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    options: Any


@dataclass(frozen=True)
class FileInfo:
    """A whole file."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: tuple[OpInfo, ...]


def read_file(content: bytes) -> FileInfo:
    """Read a ``.tflite`` file's graph.

    Raises:
        ExportError: not a TensorFlow Lite file, or more than one subgraph.
    """
    if len(content) < 8 or bytes(content[4:8]) != FILE_IDENTIFIER:
        raise ExportError(f"content must be a TensorFlow Lite file (identifier TFL3). Received: {len(content)} bytes")
    try:
        return _read(schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0)))
    except (struct.error, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"The TensorFlow Lite file is damaged: {error}. Received: {len(content)} bytes") from error


def _read(model: Any) -> FileInfo:
    if len(model.subgraphs) != 1:
        raise ExportError(f"A file must hold one graph. Received: {len(model.subgraphs)} graphs")
    graph = model.subgraphs[0]
    tensors = [_tensor(tensor, model.buffers) for tensor in graph.tensors]
    ops = []
    for operator in graph.operators if graph.operators is not None else []:
        code = model.operatorCodes[operator.opcodeIndex]
        name = OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name == "CUSTOM":
            name = f"CUSTOM {code.customCode.decode() if isinstance(code.customCode, bytes) else code.customCode}"
        ops.append(
            OpInfo(
                name,
                tuple(tensors[i] for i in operator.inputs if i >= 0),
                tuple(tensors[i] for i in operator.outputs),
                operator.builtinOptions,
            )
        )
    return FileInfo(tuple(tensors[i] for i in graph.inputs), tuple(tensors[i] for i in graph.outputs), tuple(ops))


def _tensor(tensor: Any, buffers: list[Any]) -> TensorInfo:
    quantization = tensor.quantization
    scales = quantization.scale if quantization is not None and quantization.scale is not None else []
    single = len(scales) == 1
    data = buffers[tensor.buffer].data
    # The signature marks an unknown side by -1 where the shape shows 1.
    shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return TensorInfo(
        name=tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name),
        shape=tuple(int(side) for side in (shape if shape is not None else [])),
        dtype=TYPE_NAMES[tensor.type],
        scale=float(scales[0]) if single else 0.0,
        zero_point=int(quantization.zeroPoint[0]) if single else 0,
        channel_scales=len(scales),
        constant=data is not None and len(data) > 0,
    )


def _constant_axes(op: OpInfo) -> bool:
    return len(op.inputs) == 2 and op.inputs[1].constant and op.inputs[1].dtype == "int32"


def _plain_slice(op: OpInfo) -> bool:
    return not (op.options.ellipsisMask or op.options.newAxisMask or op.options.shrinkAxisMask)


def _gpu_activation(op: OpInfo) -> bool:
    return op.options.fusedActivationFunction != schema.ActivationFunctionType.SIGN_BIT


def _depth_multiplier_1(op: OpInfo) -> bool:
    return op.options.depthMultiplier == 1 or op.inputs[0].shape[-1] == 1


CONSTRAINTS = {
    "constant axes": _constant_axes,
    "plain slice": _plain_slice,
    "gpu activation": _gpu_activation,
    "depth multiplier 1": _depth_multiplier_1,
    "two inputs": lambda op: len(op.inputs) == 2,
}


def audit(info: FileInfo, target_name: str, target: Target, dtype: str, keeps_float: bool = False) -> None:
    """Check every op of a file against a target's table.

    Args:
        info: The file.
        target_name: Key of ``TARGETS``, for the message.
        target: Its row.
        dtype: Arithmetic the file claims; in an "int8" file no op may touch a float tensor, except the conversion of a
            float input or output.
        keeps_float: Whether some layers were to stay float.

    Raises:
        UnsupportedOpError: names every op that breaks a rule, its output tensor and the rule.
    """
    faults = []
    boundary = {tensor.name for tensor in (*info.inputs, *info.outputs)}
    for index, op in enumerate(info.ops):
        where = f"op {index} {op.name} ({op.outputs[0].name.rsplit(';', 1)[-1]})"
        if op.name not in target.ops:
            faults.append(f"{where} is not among the ops it runs")
            continue
        constraint = target.ops[op.name]
        if constraint and not CONSTRAINTS[constraint](op):
            faults.append(f"{where} breaks its rule: {constraint}")
        tensors = (*op.inputs, *op.outputs)
        if any(-1 in tensor.shape for tensor in tensors):
            faults.append(f"{where} has a side that is unknown until run time")
        converts = op.name in ("QUANTIZE", "DEQUANTIZE") and any(tensor.name in boundary for tensor in tensors)
        floats = any(tensor.dtype.startswith("float") for tensor in tensors)
        if floats and dtype in ("int8", "int16x8") and not keeps_float and not converts:
            faults.append(f"{where} computes in float in an {dtype} file")
    if faults:
        raise UnsupportedOpError(f"The file does not fit target {target_name!r}: {'; '.join(faults)}.")


def order_ends(content: bytes, inputs: Sequence[str], outputs: Sequence[str], names: Sequence[str]) -> bytes:
    """The same file with its inputs and outputs in the model's order, which the converter does not keep.

    Args:
        content: A ``.tflite`` file with one signature.
        inputs: Signature's names of the inputs, in the model's order.
        outputs: Signature's names of the outputs, in the model's order.
        names: What the signature is to call the outputs.
    """
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    found = {_text(entry.name): entry for entry in (*signature.inputs, *signature.outputs)}
    graph.inputs = [found[name].tensorIndex for name in inputs]
    graph.outputs = [found[name].tensorIndex for name in outputs]
    for old, new in zip(outputs, names, strict=True):
        found[old].name = new
    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def to_input(info: TensorInfo, images: np.ndarray) -> np.ndarray:
    """Float images -> what the file's input takes."""
    if info.dtype == "float32":
        return images.astype(np.float32)
    limits = np.iinfo(info.dtype)
    levels = np.round(images.astype(np.float64) / info.scale) + info.zero_point
    return np.clip(levels, limits.min, limits.max).astype(info.dtype)


def from_output(info: TensorInfo, outputs: np.ndarray) -> np.ndarray:
    """What the file's output gives -> float32."""
    if info.dtype == "float32":
        return outputs.astype(np.float32)
    return ((outputs.astype(np.float64) - info.zero_point) * info.scale).astype(np.float32)


def for_reference_kernels(content: bytes) -> bytes:
    """The same file with DEPTH_TO_SPACE at version 1.

    LiteRT registers its int8 kernel as version 2 for the optimized kernels alone; the reference registration lacks the
    number, not the kernel.
    """
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    codes = [code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.DEPTH_TO_SPACE]
    if not codes:
        return content
    for code in codes:
        code.version = 1
    builder = flatbuffers.Builder(len(content) + 1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
