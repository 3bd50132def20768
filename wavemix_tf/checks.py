"""Checks of arguments, with the package's form of error message.

Imports neither Keras nor NumPy, so that wrong options are reported before Keras is loaded.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any


def check_option(name: str, value: Any, valid: tuple[Any, ...]) -> Any:
    """Return ``value`` if it is one of ``valid``; otherwise raise a ValueError that lists them."""
    if value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}. Received: {name}={value!r}")
    return value


def check_rate(name: str, value: Any) -> float:
    """Return ``value`` if it is a number in [0, 1); otherwise raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a rate in [0, 1). Received: {name}={value!r}")
    return value


def check_positive(name: str, value: Any) -> int:
    """Return ``value`` if it is an integer >= 1; otherwise raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1. Received: {name}={value!r}")
    return int(value)
