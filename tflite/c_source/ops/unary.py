"""Ops of one int8 value: a table of 256 results, computed as the kernels of TensorFlow Lite Micro compute each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...file.flatbuffer import OpInfo
from ..fixed_point import (
    activation_range,
    float32_quotient,
    input_radius,
    inverse_sqrt,
    logistic,
    quantize_multiplier,
    requantize,
    round_half_away,
    rounding_divide_by_pot,
    table_of,
    tanh,
)
from ..program import Program

RSQRT_SHIFT = 20


def _zeros(op: OpInfo) -> tuple[int, int]:
    return op.inputs[0].zero_point, op.outputs[0].zero_point


def _ratio(op: OpInfo) -> float:
    return float32_quotient(op.inputs[0].scale, op.outputs[0].scale)


def _sigmoidal(op: OpInfo, function: Callable[[np.ndarray, int], np.ndarray], bits: int, zero: int) -> np.ndarray:
    """LOGISTIC and TANH: a fixed-point input with four integer bits."""
    fraction, shift = math.frexp(op.inputs[0].scale * (1 << 27))
    multiplier, radius = round_half_away(fraction * (1 << 31)), input_radius(4, shift)

    def compute(x: np.ndarray) -> np.ndarray:
        x = x - op.inputs[0].zero_point
        inside = np.clip(x, 1 - radius, radius - 1)
        y = rounding_divide_by_pot(function(requantize(inside, multiplier, shift), 4), 31 - bits) + zero
        return np.where(x <= -radius, -128, np.where(x >= radius, 127, y))

    return table_of(compute)


def _hard_swish(op: OpInfo) -> np.ndarray:
    """In 16 bits, with gemmlowp's roundings."""
    zero_in, zero_out = _zeros(op)
    hires = np.float32(1 / 128) * np.float32(op.inputs[0].scale)
    out_multiplier, out_exponent = _16_bits(float(hires / np.float32(op.outputs[0].scale)))
    relu_multiplier, relu_exponent = _16_bits(float(hires / (np.float32(3) / np.float32(32768))))

    def saturated(x: np.ndarray) -> np.ndarray:
        return np.clip(x, -(1 << 15), (1 << 15) - 1)

    def product(a: np.ndarray, b: int) -> np.ndarray:  # of 16 bits, halves away from zero
        ab = a * b
        return _truncated(ab + np.where(ab >= 0, 1 << 14, 1 - (1 << 14)), 1 << 15)

    def compute(x: np.ndarray) -> np.ndarray:
        x = (x - zero_in) << 7
        scaled = product(x, out_multiplier)
        gate = saturated(x << relu_exponent - 1) if relu_exponent > 0 else x
        gate = product(gate, relu_multiplier)
        if relu_exponent > 0:
            gate = saturated(gate << 1)
        elif relu_exponent < 0:
            gate = rounding_divide_by_pot(gate, -relu_exponent)
        gate = (gate + (1 << 15)) >> 1
        return rounding_divide_by_pot(_truncated(gate * scaled, 1 << 15), -out_exponent) + zero_out

    return table_of(compute)


def _16_bits(real: float) -> tuple[int, int]:
    multiplier, exponent = quantize_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), exponent


def _truncated(a: np.ndarray, divisor: int) -> np.ndarray:
    """C's division."""
    return np.sign(a) * (np.abs(a) // divisor)


def _leaky_relu(op: OpInfo) -> np.ndarray:
    zero_in, zero_out = _zeros(op)
    source, alpha = np.float32(op.inputs[0].scale), np.float32(op.options.alpha)
    slope = float(source * alpha / np.float32(op.outputs[0].scale))
    identity, negative = quantize_multiplier(_ratio(op)), quantize_multiplier(abs(slope))
    sign = 1 if slope >= 0 else -1

    def compute(x: np.ndarray) -> np.ndarray:
        x = x - zero_in
        return np.where(x >= 0, requantize(x, *identity), sign * requantize(x, *negative)) + zero_out

    return table_of(compute)


def _relu(op: OpInfo) -> np.ndarray:
    zero_in, zero_out = _zeros(op)
    low, high = activation_range(1, op.outputs[0].scale, zero_out)
    multiplier = quantize_multiplier(_ratio(op))
    return table_of(lambda x: np.clip(requantize(x - zero_in, *multiplier) + zero_out, low, high))


def _relu6(op: OpInfo) -> np.ndarray:
    """The kernel compares integers: both sides are on one scale."""
    low = op.inputs[0].zero_point
    high = min(127, low + round_half_away(float32_quotient(6.0, op.inputs[0].scale)))
    return table_of(lambda x: np.clip(x, low, high))


def _quantize(op: OpInfo) -> np.ndarray:
    zero_in, zero_out = _zeros(op)
    multiplier = quantize_multiplier(op.inputs[0].scale / op.outputs[0].scale)
    return table_of(lambda x: requantize(x - zero_in, *multiplier) + zero_out)


def _abs(op: OpInfo) -> np.ndarray:
    zero_in, zero_out = _zeros(op)
    if op.inputs[0].scale == op.outputs[0].scale:
        return table_of(lambda x: np.abs(x - zero_in) + zero_out)
    multiplier = quantize_multiplier(_ratio(op))
    return table_of(lambda x: requantize(np.abs(x - zero_in), *multiplier) + zero_out)


def _rsqrt(op: OpInfo) -> np.ndarray:
    """Of values below zero the interpreter refuses to compute one; here they are as zero."""
    zero_in, zero_out = _zeros(op)
    root = np.sqrt(np.float32(op.inputs[0].scale)) * np.float32(op.outputs[0].scale)
    multiplier, shift = quantize_multiplier(1.0 / float(root))
    results = []
    for value in range(-128 - zero_in, 128 - zero_in):
        if value <= 0:
            results.append(127)
            continue
        inverse, inverse_shift = inverse_sqrt(value)
        data = requantize(1, inverse, inverse_shift + RSQRT_SHIFT)
        results.append(int(requantize(data, multiplier, shift - RSQRT_SHIFT)) + zero_out)
    return np.clip(results, -128, 127).astype(np.int8)


def _elu(op: OpInfo) -> np.ndarray:
    """In single precision, as the kernel fills its own table."""
    zero_in, zero_out = _zeros(op)
    inverse = np.float32(1) / np.float32(op.outputs[0].scale)
    x = np.float32(op.inputs[0].scale) * (np.arange(-128, 128) - zero_in).astype(np.float32)
    y = np.where(x < 0, np.exp(np.minimum(x, 0)) - np.float32(1), x).astype(np.float32) * inverse
    return np.clip(np.sign(y) * np.floor(np.abs(y) + 0.5) + zero_out, -128, 127).astype(np.int8)


TABLES: dict[str, Callable[[OpInfo], np.ndarray]] = {
    "ABS": _abs,
    "ELU": _elu,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": lambda op: _sigmoidal(op, logistic, 8, -128),
    "QUANTIZE": _quantize,
    "RELU": _relu,
    "RELU6": _relu6,
    "RSQRT": _rsqrt,
    "TANH": lambda op: _sigmoidal(op, tanh, 7, 0),
}


def unary(program: Program) -> None:
    """The function of what it reads: one table, whatever stands before it in the same chain."""
    op = program.op
    program.require(op.inputs[0].dtype == op.outputs[0].dtype == "int8", "has a side that is not int8")
    source, before = program.function(op.inputs[0])
    program.set_function(op.outputs[0], source, TABLES[op.name](op)[before.astype(np.int64) + 128])
