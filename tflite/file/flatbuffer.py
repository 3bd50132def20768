"""Reading a ``.tflite`` file with its schema, and edits of a file, such as stripping the names of inner tensors."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..errors import ExportError

FILE_IDENTIFIER = b"TFL3"
ALIGNMENT_BYTES = 16  # alignment of constants that kernels for microcontrollers require
OP_NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
SIZES_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}
TYPE_NAMES = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: ``scale`` and ``zero_point`` of a per-tensor quantized one, else 0."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    channel_scales: int  # number of scales: more than one if quantized per channel
    constant: bool
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0  # axis of the scales, if there are several
    folded: bool = False  # a float16 constant that a DEQUANTIZE op converts: constant, though the file computes it
    variable: bool = False  # keeps its value from one inference to the next
    data: bytes = field(default=b"", compare=False, repr=False)  # content of a constant

    def values(self) -> np.ndarray:
        """Values of a constant; empty for other tensors."""
        return np.frombuffer(self.data, np.dtype(self.dtype))


@dataclass(frozen=True)
class OpInfo:
    """One op in execution order."""

    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    options: Any
    version: int = 1


@dataclass(frozen=True)
class FileInfo:
    """A whole file.

    ``input_names`` and ``output_names`` are the names in its signature, the only distinction of tensors with the same
    shape. ``tensors`` are all in the file's order, also those that no op uses.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: tuple[OpInfo, ...]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    tensors: tuple[TensorInfo, ...] = ()

    def ends(self) -> Iterator[tuple[str, str, TensorInfo]]:
        """("input 0", its name, the tensor), every input and then every output."""
        for side, names, tensors in (
            ("input", self.input_names, self.inputs),
            ("output", self.output_names, self.outputs),
        ):
            for index, (name, tensor) in enumerate(zip(names, tensors, strict=True)):
                yield f"{side} {index}", name, tensor


def read_file(content: bytes, check_tensors: bool = False) -> FileInfo:
    """Read a ``.tflite`` file's graph.

    Indices of tensors, buffers and ops are checked. A file that passes may still be refused by a runtime, or compute
    wrong values: a changed weight is not detected. The digest of the file shows whether ``export`` wrote it.

    Args:
        content: The ``.tflite`` file.
        check_tensors: Also check sides, scales and the sizes of constants, as before it is run.

    Raises:
        ExportError: not a TensorFlow Lite file, damaged, or with more than one subgraph.
    """
    if len(content) < 8 or bytes(content[4:8]) != FILE_IDENTIFIER:
        raise ExportError(f"content must be a TensorFlow Lite file (identifier TFL3). Received: {len(content)} bytes")
    try:
        return _read(schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0)), check_tensors)
    except (struct.error, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ExportError):
            raise
        # The parser's message, about offsets and buffers, does not help the user.
        raise ExportError(
            "The TensorFlow Lite file is damaged: it is truncated, or bytes in it were changed. "
            f"Received: {len(content):,} bytes"
        ) from error


def _read(model: Any, check_tensors: bool) -> FileInfo:
    if len(model.subgraphs) != 1:
        raise ExportError(f"A file must contain one graph. Received: {len(model.subgraphs)} graphs")
    graph = model.subgraphs[0]
    _check_indices(model, graph)
    tensors = [_tensor(tensor, model.buffers) for tensor in graph.tensors]
    for tensor, raw in zip(tensors, graph.tensors, strict=True):
        if check_tensors and raw.sparsity is None:
            _check_tensor(tensor)
    ops = []
    for operator in graph.operators if graph.operators is not None else []:
        code = model.operatorCodes[operator.opcodeIndex]
        name = OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name == "CUSTOM":
            name = f"CUSTOM {code.customCode.decode() if isinstance(code.customCode, bytes) else code.customCode}"
        if name == "DEQUANTIZE" and tensors[operator.inputs[0]].constant:
            tensors[operator.outputs[0]] = replace(tensors[operator.outputs[0]], folded=True)
        ops.append(
            OpInfo(
                name,
                tuple(tensors[i] for i in operator.inputs if i >= 0),
                tuple(tensors[i] for i in operator.outputs),
                operator.builtinOptions,
                code.version,
            )
        )
    signature = (model.signatureDefs or [None])[0]
    ends = []
    for indices, entries in (
        (graph.inputs, signature and signature.inputs),
        (graph.outputs, signature and signature.outputs),
    ):
        said = {entry.tensorIndex: _text(entry.name) for entry in entries or ()}
        ends.append((tuple(tensors[i] for i in indices), tuple(said.get(i, tensors[i].name) for i in indices)))
    (inputs, input_names), (outputs, output_names) = ends
    return FileInfo(inputs, outputs, tuple(ops), input_names, output_names, tuple(tensors))


def _check_indices(model: Any, graph: Any) -> None:
    """Refuse indices out of range: Python counts a negative one from the end, but a runtime reads invalid memory."""
    count = len(graph.tensors)
    uses: list[tuple[str, Any, int, int]] = [
        ("tensor", graph.inputs, 0, count),
        ("tensor", graph.outputs, 0, count),
        ("buffer", [tensor.buffer for tensor in graph.tensors], 0, len(model.buffers)),
    ]
    for operator in graph.operators if graph.operators is not None else []:
        uses.append(("operator code", [operator.opcodeIndex], 0, len(model.operatorCodes)))
        uses.append(("tensor", operator.inputs, -1, count))  # -1: an optional input that is absent
        uses.append(("tensor", operator.outputs, 0, count))
    for what, indices, least, end in uses:
        for index in indices:
            if not least <= index < end:
                raise ExportError(
                    f"The TensorFlow Lite file is damaged: it has {end} {what}s. Received: {what} {int(index)}"
                )


def _check_tensor(tensor: TensorInfo) -> None:
    """Check sides, scales and the size of a constant."""
    if (
        any(side < -1 for side in tensor.shape)
        or not np.isfinite(tensor.scales).all()
        or min(tensor.scales, default=0) < 0
    ):
        raise ExportError(
            "The TensorFlow Lite file is damaged: sides must be positive, scales finite and positive. "
            f"Received: tensor {tensor.name!r} of shape {tensor.shape}, scales {tensor.scales[:4]}"
        )
    if len(tensor.zero_points) != len(tensor.scales) or (
        len(tensor.scales) > 1
        and not (0 <= tensor.axis < len(tensor.shape) and tensor.shape[tensor.axis] == len(tensor.scales))
    ):
        raise ExportError(
            "The TensorFlow Lite file is damaged: a tensor has one scale and zero point, or one per channel. "
            f"Received: tensor {tensor.name!r} of shape {tensor.shape} with {len(tensor.scales)} scales and "
            f"{len(tensor.zero_points)} zero points on axis {tensor.axis}"
        )
    if tensor.constant and tensor.dtype in SIZES_BYTES:
        size = math.prod(tensor.shape) * SIZES_BYTES[tensor.dtype]
        if size != len(tensor.data):
            raise ExportError(
                f"The TensorFlow Lite file is damaged: a {tensor.dtype} constant of shape {tensor.shape} takes {size} "
                f"bytes. Received: tensor {tensor.name!r} of {len(tensor.data)} bytes"
            )


def _tensor(tensor: Any, buffers: list[Any]) -> TensorInfo:
    quantization = tensor.quantization
    scales = quantization.scale if quantization is not None and quantization.scale is not None else []
    zero_points = quantization.zeroPoint if quantization is not None and quantization.zeroPoint is not None else []
    single = len(scales) == 1
    data = buffers[tensor.buffer].data
    # The signature marks an unknown side with -1 where the shape has 1.
    shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return TensorInfo(
        name=tensor.name.decode() if isinstance(tensor.name, bytes) else (tensor.name or ""),
        shape=tuple(int(side) for side in (shape if shape is not None else [])),
        dtype=TYPE_NAMES[tensor.type],
        scale=float(scales[0]) if single else 0.0,
        zero_point=int(quantization.zeroPoint[0]) if single else 0,
        channel_scales=len(scales),
        constant=data is not None and len(data) > 0,
        scales=tuple(map(float, scales)),
        zero_points=tuple(map(int, zero_points)),
        axis=int(quantization.quantizedDimension) if quantization is not None else 0,
        variable=bool(tensor.isVariable),
        data=bytes(data) if data is not None else b"",
    )


def add_signature(content: bytes, key: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The same file with a signature and named input tensors, like a file that was converted from a SavedModel.

    Args:
        content: A ``.tflite`` file without one.
        key: Name of the signature.
        inputs: Names of the inputs, in the file's order.
        outputs: Names of the outputs, in the file's order.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph, signature = model.subgraphs[0], schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, 0
    signature.inputs = [_entry(*pair) for pair in zip(inputs, graph.inputs, strict=True)]
    signature.outputs = [_entry(*pair) for pair in zip(outputs, graph.outputs, strict=True)]
    model.signatureDefs = [signature]
    for index in graph.inputs:
        scope, rounds, _ = _text(graph.tensors[index].name).partition("/FakeQuantWithMinMaxVars;")
        if rounds:
            graph.tensors[index].name = f"{scope}/FakeQuantWithMinMaxVars;;{scope}/Reshape_1"
    return pack(model)


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def read_integers(content: bytes, outputs: bool) -> bytes:
    """The same file whose ARG_MAX and ARG_MIN read integers, not the output of a DEQUANTIZE op: the order is the same.

    Args:
        content: A ``.tflite`` file with one signature.
        outputs: Whether its outputs also become the integers.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph, ops = model.subgraphs[0], schema.BuiltinOperator
    codes = {id(op): model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators}
    behind = {op.outputs[0]: op.inputs[0] for op in graph.operators if codes[id(op)] == ops.DEQUANTIZE}
    for op in graph.operators:
        if codes[id(op)] in (ops.ARG_MAX, ops.ARG_MIN):
            op.inputs = [behind.get(index, index) for index in op.inputs]
    if outputs:
        graph.outputs = [behind.get(output, output) for output in graph.outputs]
        for entry in model.signatureDefs[0].outputs:
            entry.tensorIndex = behind.get(entry.tensorIndex, entry.tensorIndex)
    read = {index for op in graph.operators for index in op.inputs} | set(graph.outputs)
    graph.operators = [op for op in graph.operators if codes[id(op)] != ops.DEQUANTIZE or op.outputs[0] in read]
    return pack(model)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def to_input(info: TensorInfo, images: np.ndarray) -> np.ndarray:
    """Float images -> values of the file's input."""
    if info.dtype == "float32" or not info.scale:  # an integer without a scale is used unchanged
        return images.astype(info.dtype)
    limits = np.iinfo(info.dtype)
    levels = np.round(images.astype(np.float64) / info.scale) + info.zero_point
    return np.clip(levels, limits.min, limits.max).astype(info.dtype)


def from_output(info: TensorInfo, outputs: np.ndarray) -> np.ndarray:
    """Values of the file's output -> float32."""
    if info.dtype == "float32" or not info.scale:
        return outputs.astype(np.float32)
    return ((outputs.astype(np.float64) - info.zero_point) * info.scale).astype(np.float32)


def for_reference_kernels(content: bytes) -> bytes:
    """The same file with DEPTH_TO_SPACE at version 1.

    LiteRT registers the int8 kernel as version 2 only for the optimized kernels; the reference registration lacks the
    version number, not the kernel.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    codes = [code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.DEPTH_TO_SPACE]
    if not codes:
        return content
    for code in codes:
        code.version = 1
    return pack(model)


def strip_names(content: bytes) -> bytes:
    """The same file without the names of its inner tensors.

    Runtimes use numbers. The names, paths through the Keras model, would take several KiB of flash on a
    microcontroller. Those of inputs and outputs stay; the others become empty, because importers of other tools (such
    as OpenVINO's) refuse a tensor without a name. Errors and per-layer analysis need the names: strip last.

    Args:
        content: The ``.tflite`` file.

    Returns:
        The ``.tflite`` file, with every constant still aligned to 16 bytes.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for graph in model.subgraphs:
        kept = {*map(int, graph.inputs), *map(int, graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in kept:
                tensor.name = ""
    return pack(model)


class _Builder(flatbuffers.Builder):
    """Aligns vectors of bytes, the constants' data, as the schema requires and its Python code does not.

    Empty strings, of which a stripped file has hundreds, are written once.
    """

    _empty: int | None = None

    def CreateString(self, s: Any, *options: Any, **more: Any) -> Any:  # noqa: N802
        if s:
            return super().CreateString(s, *options, **more)
        if self._empty is None:
            self._empty = super().CreateString(s, *options, **more)
        return self._empty

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802
        return super().StartVector(elemSize, numElems, ALIGNMENT_BYTES if elemSize == 1 else alignment)


def pack(model: Any) -> bytes:
    """Serialize the schema's ``ModelT``."""
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
