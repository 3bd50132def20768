"""Ranges that training leaves: measured in every step, widened, and told by the layer's name.

A learning rate large enough carries activations out of the range that calibration found; there they are clipped and
have no gradient. What is clipped is measured image by image, against the error of rounding: the rare value that is
decisive is lost in a mean over a batch. All of it is state of the layer and arithmetic of ``keras.ops``, as a batch
norm's moving average is: plain ``fit`` does it, compiled or not, on every backend, and what is saved goes on.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import keras
from keras import ops

from wavemix_tf.warning import warn_user

# An image's clipping error is the sum of its squares over the values of the tensor, at most so many: one pixel among
# millions must not vanish.
MOST_VALUES = 65_536
FREE = 4.0  # times the error of rounding (or what calibration clipped on purpose) may be clipped before a range moves
TOLD_EXCESS = 64.0  # times what is free, of a range that cannot move: a root mean square of 5 steps in one image
TOLD_GROWTH = 1.25  # times its width, of one that moved
RATE = 0.2  # of the way to the batch's extreme in one step: one wild batch does not spoil the range
GROWTH = 1.0  # widths at most, in one step


def per_image(values: Any) -> Any:
    """``values`` with an axis behind that of the images, (B,) as (B, 1): over no axes some backends reduce all."""
    return ops.expand_dims(values, -1) if len(values.shape) == 1 else values


def clipped_squares(values: Any, low: Any, high: Any, weights: Any = 1.0) -> tuple[Any, Any]:
    """(B,) each: the squared error of clipping an image's values at ``low`` and at ``high``, see ``MOST_VALUES``.

    Args:
        values: (B, ...), float32.
        low: Lower end.
        high: Upper end.
        weights: Importance of the values, broadcast to their shape.
    """
    values = per_image(values)
    axes = tuple(range(1, len(values.shape)))
    size = min(math.prod(side or 1 for side in values.shape[1:]), MOST_VALUES)
    below, above = (weights * ops.square(ops.relu(part)) for part in (low - values, values - high))
    return ops.sum(below, axis=axes) / size, ops.sum(above, axis=axes) / size


def follow(quantizer: Any, values: Any) -> tuple[Any, Any]:
    """Measure what a batch has outside a quantizer's range, and widen that unless it is fixed; returns (low, high).

    Args:
        quantizer: A watched ``FakeQuant``.
        values: (B, ...), float32.
    """
    values = ops.stop_gradient(values)
    low, high = ops.convert_to_tensor(quantizer.minimum), ops.convert_to_tensor(quantizer.maximum)
    width, levels = high - low, quantizer.levels
    free = ops.maximum(ops.square(width / levels) / 12.0, quantizer.tolerance) * FREE
    below, above = (ops.max(error) for error in clipped_squares(values, low, high))
    seen = (below + above) / free
    seen = ops.where(seen < 1e30, seen, 0.0)  # what is no number is another's matter
    quantizer.excess.assign(ops.maximum(quantizer.excess, seen))
    if quantizer.fixed:
        return low, high

    def stretch(error: Any, gap: Any) -> Any:
        return ops.where((error > free) & (gap < 1e30), ops.minimum(RATE * gap, GROWTH * width), 0.0)

    lower = low - stretch(below, low - ops.min(values))
    upper = high + stretch(above, ops.max(values) - high)
    if quantizer.bits == 16:
        upper = ops.maximum(upper, -lower)
        lower = -upper
    else:  # zero stays on a whole number of steps, see `whole_steps`
        step = (upper - lower) / levels
        zero = ops.floor(-lower / step + 0.5)
        moved = (lower < low) | (upper > high)
        lower, upper = ops.where(moved, -zero * step, low), ops.where(moved, (levels - zero) * step, high)
    quantizer.minimum.assign(lower)
    quantizer.maximum.assign(upper)
    return lower, upper


class RangeWatch(keras.metrics.Metric):
    """Tells, once, that a quantizer's range was left in training since it was calibrated.

    Keras asks every metric for its result at the end of an epoch, outside compiled code: the one hook of a layer there.
    It has no value and so no column among the logs.

    Args:
        quantizer: The watched ``FakeQuant``.
    """

    def __init__(self, quantizer: Any) -> None:
        super().__init__(name=f"{quantizer.name}_watch")
        self._quantizer = weakref.ref(quantizer)
        self._before: tuple[float, ...] | None = None
        self._seen: tuple[float, ...] | None = None  # at the end of the last epoch or evaluation
        self._told = False

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the layer measures."""

    def reset_state(self) -> None:
        now = self._read()
        if now is None:
            return
        if self._before is None or self._seen not in (None, now):  # calibrated, or loaded, since
            self._before, self._told = now, False
        self._seen = now

    def result(self) -> dict[str, Any]:
        now = self._read()
        quantizer, before = self._quantizer(), self._before
        if now is None or before is None or quantizer is None:
            return {}
        self._seen = now
        if self._told:
            return {}
        if quantizer.fixed:
            left = now[2] > max(TOLD_EXCESS, before[2])
        else:
            left = now[1] - now[0] > TOLD_GROWTH * (before[1] - before[0])
        if left:
            self._told = True
            warn_user(_message(quantizer, before, now))
        return {}

    def _read(self) -> tuple[float, ...] | None:
        """(minimum, maximum, excess); None inside compiled code."""
        quantizer = self._quantizer()
        if quantizer is None:
            return None
        try:
            return tuple(
                float(ops.convert_to_tensor(variable))
                for variable in (quantizer.minimum, quantizer.maximum, quantizer.excess)
            )
        except Exception:  # each backend has an error of its own for a value that is not there while it traces
            return None


def _message(quantizer: Any, before: tuple[float, ...], now: tuple[float, ...]) -> str:
    name = quantizer.name.removesuffix("_quant")
    if quantizer.fixed:
        return (
            f"Training fed layer {name!r} with values outside [{before[0]:.4g}, {before[1]:.4g}], the range that was "
            "promised for it: they are clipped. Scale the training data as the calibration images, or quantize with "
            "another input_range."
        )
    return (
        f"Training left the range of layer {name!r} that calibration found: [{before[0]:.4g}, {before[1]:.4g}]; it was "
        f"widened to [{now[0]:.4g}, {now[1]:.4g}]. A smaller learning rate keeps the ranges; calibrate(model, images) "
        "measures them again."
    )
