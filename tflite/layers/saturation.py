"""Values outside a quantizer's range in training: measured in every step; the range is widened, with a warning.

A large learning rate can move activations out of the calibrated range, where they are clipped and have no gradient.
Clipping is measured image by image, against the error of rounding, because a rare but decisive value would vanish in a
mean over a batch. All of it is state of the layer and ``keras.ops`` arithmetic, like a batch norm's moving average: it
works with plain ``fit``, compiled or not, on every backend, and continues after saving and loading.
"""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from wavemix_tf.keras_internals import model_that_reads_its_metrics
from wavemix_tf.warning import warn_user

# An image's clipping error is the sum of its squares over the number of values of the tensor, limited to this number:
# one pixel among millions must not vanish.
MOST_VALUES = 65_536
FREE = 4.0  # clipping error that moves no range, times the error of rounding (or the intended clipping of calibration)
WARN_EXCESS = 64.0  # times the free error, for a fixed range: a root mean square of 5 steps in one image
WARN_GROWTH = 1.25  # times its width, for a range that grew
RATE = 0.2  # share of the way to the batch's extreme in one step: one outlier batch does not spoil the range
GROWTH = 1.0  # largest growth in one step, in widths
LAYERS_NAMED = 3  # most layers named in one warning; the others are counted


def per_image(values: Any) -> Any:
    """``values`` with an axis after that of the images, (B,) as (B, 1): over no axes some backends reduce all."""
    return ops.expand_dims(values, -1) if len(values.shape) == 1 else values


def clipped_squares(values: Any, low: Any, high: Any, weights: Any = 1.0) -> tuple[Any, Any]:
    """(B,) each: the squared error of clipping an image's values at ``low`` and at ``high``, see ``MOST_VALUES``.

    Args:
        values: (B, ...), float32.
        low: Lower end.
        high: Upper end.
        weights: Importance of the values, broadcast to their shape.
    """
    return clipped_square(low - values, weights), clipped_square(values - high, weights)


def clipped_square(excess: Any, weights: Any = 1.0) -> Any:
    """(B,): one side of ``clipped_squares``; ``excess`` (B, ...) is how far a value lies beyond the end."""
    excess = per_image(excess)
    size = min(math.prod(side or 1 for side in excess.shape[1:]), MOST_VALUES)
    return ops.sum(weights * ops.square(ops.relu(excess)), axis=tuple(range(1, len(excess.shape)))) / size


def widen_range(quantizer: Any, values: Any) -> tuple[Any, Any]:
    """Measure the values of a batch outside a quantizer's range, and widen it unless fixed; returns (low, high).

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
    seen = ops.where(seen < 1e30, seen, 0.0)  # NaN and infinity are reported elsewhere
    quantizer.excess.assign(ops.maximum(quantizer.excess, seen))
    if quantizer.fixed:
        return low, high

    def growth(error: Any, gap: Any) -> Any:
        return ops.where((error > free) & (gap < 1e30), ops.minimum(RATE * gap, GROWTH * width), 0.0)

    lower = low - growth(below, low - ops.min(values))
    upper = high + growth(above, ops.max(values) - high)
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


@dataclasses.dataclass(frozen=True)
class RangeChange:
    """A range that training exceeded: its layer, and (minimum, maximum, excess) before and now."""

    layer: str
    fixed: bool
    before: tuple[float, ...]
    now: tuple[float, ...]

    @property
    def growth(self) -> float:
        """Growth of the range; for a fixed one, the clipping error."""
        return self.now[2] if self.fixed else (self.now[1] - self.now[0]) / (self.before[1] - self.before[0])


class RangeWatch(keras.metrics.Metric):
    """Warns, once, that training exceeded a quantizer's range since it was calibrated.

    Keras calls every metric's ``result`` at the end of an epoch, outside compiled code: the only hook of a layer there.
    It returns no value, so it adds no column to the logs. The first watch whose range changed also reports the
    others of the model, so that an epoch has one warning.

    Args:
        quantizer: The watched ``FakeQuant``.
    """

    def __init__(self, quantizer: Any) -> None:
        super().__init__(name=f"{quantizer.name}_watch")
        self._quantizer = weakref.ref(quantizer)
        self._before: tuple[float, ...] | None = None
        self._seen: tuple[float, ...] | None = None  # values at the end of the last epoch or evaluation
        self._warned = False

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the layer measures."""

    def reset_state(self) -> None:
        now = self._read()
        if now is None:
            return
        if self._before is None or self._seen not in (None, now):  # calibrated or loaded since
            self._before, self._warned = now, False
        self._seen = now

    def result(self) -> dict[str, Any]:
        own = self.range_change()
        if own is not None:
            others = [watch.range_change() for watch in _watches_of_model() if watch is not self]
            rows = sorted((row for row in (own, *others) if row is not None), key=lambda row: -row.growth)
            for kind in ([row for row in rows if not row.fixed], [row for row in rows if row.fixed]):
                if kind:
                    warn_user(_range_warning(kind))
        return {}

    def range_change(self) -> RangeChange | None:
        """The change to report now, once."""
        now = self._read()
        quantizer, before = self._quantizer(), self._before
        if now is None or before is None or quantizer is None:
            return None
        self._seen = now
        if quantizer.fixed:
            changed = now[2] > max(WARN_EXCESS, before[2])
        else:
            changed = now[1] - now[0] > WARN_GROWTH * (before[1] - before[0])
        if self._warned or not changed:
            return None
        self._warned = True
        return RangeChange(quantizer.name.removesuffix("_quant"), quantizer.fixed, before, now)

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
        except Exception:  # each backend has a different error for a value that is missing during tracing
            return None


def _watches_of_model() -> list[RangeWatch]:
    """All watches of the model that reads its metrics; empty for another caller, such as a custom loop."""
    model = model_that_reads_its_metrics()
    return [metric for metric in getattr(model, "metrics", ()) if isinstance(metric, RangeWatch)]


def _range_warning(rows: Sequence[RangeChange]) -> str:
    """One warning about exceeded ranges, which are all fixed or all not."""
    more = f" and {len(rows) - LAYERS_NAMED} more" if len(rows) > LAYERS_NAMED else ""
    several = len(rows) > 1
    if rows[0].fixed:
        named = ", ".join(f"{row.layer!r} {_range(row.before)}" for row in rows[:LAYERS_NAMED])
        return (
            f"Training fed {f'{len(rows)} layers' if several else 'a layer'} with values outside the given range: "
            f"{named}{more}. They are clipped. Scale the training data like the calibration images, or "
            "quantize with another input_range."
        )
    named = ", ".join(f"{row.layer!r} {_range(row.before)} to {_range(row.now)}" for row in rows[:LAYERS_NAMED])
    return (
        f"Training exceeded the calibrated {f'ranges of {len(rows)} layers' if several else 'range of a layer'} "
        f"and widened {'them' if several else 'it'}: {named}{more}. A smaller learning rate keeps the ranges; "
        "calibrate(model, images) measures them again."
    )


def _range(ends: tuple[float, ...]) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"
