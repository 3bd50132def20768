"""Ops of two inputs, value by value: kernels/broadcast.c, or one table where one input decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...file.flatbuffer import OpInfo, TensorInfo
from ..fixed_point import INT32_MAX, activation_range, float32_quotient, quantize_multiplier, requantize
from ..program import REQUANTIZE, Fields, Program
from .channels import clipped

Parameters = dict[str, int]
AXES = 4  # of kernels/broadcast.c
MOST_SHIFT = 23  # to the left, of DIV: the divisor's leading zeros undo the rest


@dataclass(frozen=True)
class Binary:
    """An op of two inputs.

    Args:
        kernel: Its file in ``kernels/``; the row function is ``<kernel>_row``.
        parameters: Multipliers and shifts of an op.
        compute: (a, b less their zero points, parameters) -> the result less its zero point; None: never by table.
    """

    kernel: str
    parameters: Callable[[OpInfo], Parameters]
    compute: Callable[[np.ndarray, np.ndarray, Parameters], np.ndarray] | None


def _scaled(a: float, b: float, out: float) -> Parameters:
    fields: Parameters = {}
    for name, value in (("a", a), ("b", b), ("", out)):
        prefix = f"{name}_" if name else ""
        fields[f"{prefix}multiplier"], fields[f"{prefix}shift"] = quantize_multiplier(value)
    return fields


def _add(op: OpInfo) -> Parameters:
    a, b, out = op.inputs[0].scale, op.inputs[1].scale, op.outputs[0].scale
    twice = 2 * max(a, b)
    return _scaled(a / twice, b / twice, twice / ((1 << 20) * out))


def _subtract(op: OpInfo) -> Parameters:
    a, b, out = op.inputs[0].scale, op.inputs[1].scale, np.float32(op.outputs[0].scale)
    twice = 2 * max(a, b)  # SUB divides in single precision, ADD in double
    return _scaled(
        float32_quotient(a, twice),
        float32_quotient(b, twice),
        float32_quotient(twice, float(np.float32(1 << 20) * out)),
    )


def _squared_difference(op: OpInfo) -> Parameters:
    a, b, out = op.inputs[0].scale, op.inputs[1].scale, np.float32(op.outputs[0].scale)
    twice = 2.0 * max(a, b)
    return _scaled(a / twice, b / twice, twice * twice / float(np.float32(1 << 14) * out))


def _multiply(op: OpInfo) -> Parameters:
    return _scaled(0, 0, op.inputs[0].scale * op.inputs[1].scale / op.outputs[0].scale)


def _prelu(op: OpInfo) -> Parameters:
    source, slopes, out = op.inputs[0].scale, op.inputs[1].scale, op.outputs[0].scale
    return _scaled(source / out, 0, source * slopes / out)


def _divide(op: OpInfo) -> Parameters:
    source, divisor, out = (np.float32(tensor.scale) for tensor in (*op.inputs, *op.outputs))
    return _scaled(0, 0, float(source / (divisor * out)))


def _both(a: np.ndarray, b: np.ndarray, p: Parameters, bits: int) -> tuple[np.ndarray, np.ndarray]:
    return (
        requantize(a << bits, p["a_multiplier"], p["a_shift"]),
        requantize(b << bits, p["b_multiplier"], p["b_shift"]),
    )


def _out(value: np.ndarray, p: Parameters) -> np.ndarray:
    return requantize(value, p["multiplier"], p["shift"])


def _compute_prelu(a: np.ndarray, b: np.ndarray, p: Parameters) -> np.ndarray:
    return np.where(a >= 0, requantize(a, p["a_multiplier"], p["a_shift"]), _out(a * b, p))


def _extreme(op: OpInfo) -> Parameters:
    return _scaled(0, 0, 0)


BINARIES = {
    "ADD": Binary("add", _add, lambda a, b, p: _out(np.add(*_both(a, b, p, 20)), p)),
    "DIV": Binary("divide", _divide, None),
    "MAXIMUM": Binary("maximum", _extreme, lambda a, b, p: np.maximum(a, b)),
    "MINIMUM": Binary("minimum", _extreme, lambda a, b, p: np.minimum(a, b)),
    "MUL": Binary("multiply", _multiply, lambda a, b, p: _out(a * b, p)),
    "PRELU": Binary("prelu", _prelu, _compute_prelu),
    "SQUARED_DIFFERENCE": Binary(
        "squared_difference", _squared_difference, lambda a, b, p: _out(np.square(np.subtract(*_both(a, b, p, 7))), p)
    ),
    "SUB": Binary("subtract", _subtract, lambda a, b, p: _out(np.subtract(*_both(a, b, p, 20)), p)),
}


def binary(program: Program) -> None:
    """A table where one map alone decides, as in x * sigmoid(x); else a call."""
    op = program.op
    first, second, result = op.inputs[0], op.inputs[1], op.outputs[0]
    program.require(all(tensor.dtype == "int8" for tensor in (*op.inputs, result)), "has a side that is not int8")
    row = BINARIES[op.name]
    zeros = (first.zero_point, second.zero_point, result.zero_point)
    if op.name in ("MAXIMUM", "MINIMUM"):
        alike = first.scale == second.scale == result.scale and len(set(zeros)) == 1
        program.require(alike, "has inputs of another scale than its output")
        zeros = (0, 0, 0)  # compared as they are
    parameters = row.parameters(op)
    activation = getattr(op.options, "fusedActivationFunction", 0)
    low, high = activation_range(activation, result.scale, result.zero_point)
    program.require(op.name != "DIV" or parameters["shift"] <= MOST_SHIFT, "has an output scale that is too small")
    if row.compute and not (first.constant and second.constant):
        sources = [_values(program, tensor, result) for tensor in (first, second)]
        maps = {source for source, _ in sources if source is not None}
        if all(values is not None for _, values in sources) and len(maps) == 1:
            a, b = (np.asarray(values, np.int64) for _, values in sources)
            table = row.compute(a - zeros[0], b - zeros[1], parameters) + zeros[2]
            program.set_function(result, maps.pop(), np.clip(table, low, high).astype(np.int8))
            return
    if op.name != "DIV":
        program.reach(255 * 255 << max(parameters["shift"], parameters["a_shift"], 0))
    if op.name in ("ADD", "SUB"):
        sign = 1
        if first.scale < second.scale:  # the kernel shifts the one of the larger scale
            first, second = second, first
            parameters["b_multiplier"], parameters["b_shift"] = parameters["a_multiplier"], parameters["a_shift"]
            zeros, sign = (zeros[1], zeros[0], zeros[2]), -1
        program.require(parameters["shift"] < 0, "has an output scale that is too small for its inputs")
        if parameters["b_shift"] == 0:  # the same scale: half of (almost) 1 is as exact, and the kernel shifts right
            parameters["b_multiplier"], parameters["b_shift"] = INT32_MAX, -1
        if op.name == "SUB":
            parameters["a_multiplier"], parameters["a_shift"] = sign << 19, -sign
    fields: Fields = _axes(program, first, second, result)
    fields.update(
        a_zero=zeros[0],
        a_multiplier=parameters["a_multiplier"],
        a_shift=parameters["a_shift"],
        b_zero=zeros[1],
        b_multiplier=parameters["b_multiplier"],
        b_shift=parameters["b_shift"],
        zero=zeros[2],
        multiplier=parameters["multiplier"],
        shift=parameters["shift"],
        table=clipped(low, high),
    )
    reads = [program.read(first), program.read(second)]
    program.emit(
        _needs(row.kernel),
        f"broadcast(&{{k}}, {row.kernel}_row, {{r0}}, {{r1}}, {{w0}});",
        reads,
        [program.new_map(result)],
        struct="binary",
        fields=fields,
        in_place=tuple(
            place for place, tensor in enumerate((first, second)) if math.prod(tensor.shape) == math.prod(result.shape)
        ),
        channels=fields,
    )


def _needs(kernel: str) -> tuple[str, ...]:
    if kernel in ("add", "subtract"):
        return ("saturate", "scale", "round_shift", "broadcast", kernel)
    if kernel == "divide":
        return ("saturate", "round_shift", "broadcast", "finish_binary", "inverse", "reciprocal", "divide")
    scales = () if kernel in ("maximum", "minimum") else REQUANTIZE
    ends = () if kernel == "multiply" else ("finish_binary",)
    return ("saturate", *scales, "broadcast", *ends, kernel)


def _values(program: Program, tensor: TensorInfo, result: TensorInfo) -> tuple[int | None, np.ndarray | None]:
    """(map, values at each of its 256) of an operand that one value decides; (None, its value) of a constant."""
    if tensor.constant:
        values = np.unique(tensor.values())
        return None, values if len(values) == 1 else None
    if math.prod(tensor.shape) != math.prod(result.shape):
        return None, None
    return program.function(tensor)


def _axes(program: Program, first: TensorInfo, second: TensorInfo, result: TensorInfo) -> Fields:
    """Sides and steps of the fewest axes."""
    rank = len(result.shape)
    merged: list[tuple[int, int, int]] = []  # (side, step of a, step of b), the innermost last
    steps = [_steps((1,) * (rank - len(tensor.shape)) + tensor.shape) for tensor in (first, second)]
    for side, a, b in zip(result.shape, *steps, strict=True):
        if side == 1:
            continue
        if merged:
            outer, outer_a, outer_b = merged[-1]
            if outer_a == a * side and outer_b == b * side:
                merged[-1] = (outer * side, a, b)
                continue
        merged.append((side, a, b))
    program.require(len(merged) <= AXES, f"repeats along more than {AXES} axes")
    merged = [(1, 0, 0)] * (AXES - len(merged)) + merged
    sides, a_steps, b_steps = zip(*merged, strict=True)
    return {"sides": list(sides), "a_steps": list(a_steps), "b_steps": list(b_steps)}


def _steps(shape: tuple[int, ...]) -> list[int]:
    return [0 if side == 1 else math.prod(shape[axis + 1 :]) for axis, side in enumerate(shape)]
