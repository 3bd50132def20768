"""Arithmetic of TensorFlow Lite Micro's int8 kernels in NumPy: what a generated program has computed beforehand.

Values are int64 arrays that hold 32-bit integers. Functions of gemmlowp have gemmlowp's names.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
ONE = INT32_MAX  # 1.0 with 31 fractional bits


def quantize_multiplier(real: float) -> tuple[int, int]:
    """A positive real number -> (multiplier, shift) with ``real = multiplier * 2 ** (shift - 31)``."""
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = round_half_away(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def round_half_away(value: float) -> int:
    """C's ``round``."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def float32_quotient(a: float, b: float) -> float:
    """The quotient in single precision, as the kernels divide scales."""
    return float(np.float32(a) / np.float32(b))


def saturating_rounding_doubling_high_mul(a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
    """Product with 31 fractional bits, halves rounded up."""
    return (np.asarray(a, np.int64) * np.asarray(b, np.int64) + (1 << 30)) >> 31


def rounding_divide_by_pot(x: np.ndarray | int, exponent: int) -> np.ndarray:
    """Quotient by a power of two, halves rounded away from zero."""
    x = np.asarray(x, np.int64)
    if exponent == 0:
        return x
    return (x + (1 << (exponent - 1)) - (x < 0)) >> exponent


def requantize(x: np.ndarray | int, multiplier: int, shift: int) -> np.ndarray:
    """``MultiplyByQuantizedMultiplier`` with two roundings."""
    x = _wrap(np.asarray(x, np.int64) << max(shift, 0))
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x, multiplier), max(-shift, 0))


def saturating_rounding_multiply_by_pot(x: np.ndarray, exponent: int) -> np.ndarray:
    """Product with a power of two, within 32 bits."""
    if exponent <= 0:
        return rounding_divide_by_pot(x, -exponent)
    return np.clip(x << exponent, INT32_MIN, INT32_MAX)


def activation_range(activation: int, scale: float, zero_point: int) -> tuple[int, int]:
    """Smallest and largest int8 value behind a fused activation: NONE 0, RELU 1, RELU_N1_TO_1 2, RELU6 3."""

    def quantized(value: float) -> int:
        return zero_point + round_half_away(float32_quotient(value, scale))

    low, high = {0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}[activation]
    return (
        -128 if low is None else max(-128, quantized(low)),
        127 if high is None else min(127, quantized(high)),
    )


def input_radius(integer_bits: int, left_shift: int, total_signed_bits: int = 31) -> int:
    """``CalculateInputRadius``: from where on a function of a fixed-point input is constant."""
    return math.floor(((1 << integer_bits) - 1) * (1 << (total_signed_bits - integer_bits)) / 2.0**left_shift)


def exp_on_negative_values(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """Exponential with 31 fractional bits, of a <= 0 with ``31 - integer_bits``."""
    a = np.asarray(a, np.int64)
    fractional_bits = 31 - integer_bits
    quarter = 1 << (fractional_bits - 2)
    part = (a & (quarter - 1)) - quarter
    result = _exp_between_negative_one_quarter_and_0(saturating_rounding_multiply_by_pot(part, integer_bits))
    remainder = part - a
    for exponent, multiplier in (
        (-2, 1672461947),
        (-1, 1302514674),
        (0, 790015084),
        (1, 290630308),
        (2, 39332535),
        (3, 720401),
        (4, 242),
    ):
        if integer_bits > exponent:
            taken = (remainder & (1 << (fractional_bits + exponent))) != 0
            result = np.where(taken, saturating_rounding_doubling_high_mul(result, multiplier), result)
    return np.where(a == 0, ONE, result)


def logistic(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """1 / (1 + exp(-a)) with 31 fractional bits."""
    positive = _one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a > 0, positive, ONE - positive))


def tanh(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """Hyperbolic tangent with 31 fractional bits."""
    # Twice the value is the same number with one integer bit more.
    exponential = exp_on_negative_values(-np.abs(a), integer_bits + 1)
    x = _newton(_half_denominator(exponential))
    magnitude = saturating_rounding_multiply_by_pot(x - (1 << 29), 2)
    return np.where(a == 0, 0, np.where(a < 0, -magnitude, magnitude))


def inverse_sqrt(value: int) -> tuple[int, int]:
    """``GetInvSqrtQuantizedMultiplierExp`` of an integer -> (multiplier, shift)."""
    if value <= 1:
        return INT32_MAX, 0
    pairs = (31 - value.bit_length()) // 2 - 1
    shift = 11 - pairs
    half = (value << 2 * pairs) >> 1
    quarter = rounding_divide_by_pot(half, 1)

    def product(a: np.ndarray | int, b: np.ndarray | int) -> np.ndarray:
        return saturating_rounding_doubling_high_mul(a, b)

    x: np.ndarray | int = 1 << 28
    for _ in range(5):
        cube = saturating_rounding_multiply_by_pot(product(product(x, x), x), 6)
        x = saturating_rounding_multiply_by_pot(product((1 << 28) + (1 << 27), x) - product(quarter, cube), 3)
    multiplier = int(product(x, 1518500250))
    if shift < 0:
        multiplier, shift = multiplier << -shift, 0
    return multiplier, -shift


def table_of(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of int8 values -> its 256 results, clipped to int8, that of -128 first."""
    return np.clip(function(np.arange(-128, 128, dtype=np.int64)), -128, 127).astype(np.int8)


def _wrap(x: np.ndarray) -> np.ndarray:
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def _exp_between_negative_one_quarter_and_0(a: np.ndarray) -> np.ndarray:
    """The Taylor polynomial about -1/8."""
    product = saturating_rounding_doubling_high_mul
    x = a + (1 << 28)
    x2 = product(x, x)
    x3, x4 = product(x2, x), product(x2, x2)
    third = product(rounding_divide_by_pot(x4, 2) + x3, 715827883)
    return 1895147668 + product(1895147668, x + rounding_divide_by_pot(third + x2, 1))


def _half_denominator(a: np.ndarray) -> np.ndarray:
    return (a + ONE + 1) // 2


def _newton(half: np.ndarray) -> np.ndarray:
    """1 / half with two integer bits, by three steps of Newton and Raphson."""
    product = saturating_rounding_doubling_high_mul
    x = 1515870810 + product(half, -1010580540)
    for _ in range(3):
        x = x + saturating_rounding_multiply_by_pot(product(x, (1 << 29) - product(half, x)), 2)
    return x


def _one_over_one_plus_x(a: np.ndarray) -> np.ndarray:
    return saturating_rounding_multiply_by_pot(_newton(_half_denominator(a)), 1)
