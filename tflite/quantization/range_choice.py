"""Choice of the range with the least error for a tensor: clipping against rounding, image by image.

A wide range rounds everything coarsely, a narrow one clips rare values. Both errors are measured on the calibration
images, each as a share of the variation in that image, so that the values of all other images do not outweigh the one
image with a rare event; the worst image counts in addition to the mean. Where channels are read by weights of different
size, errors are weighted by their effect on the outputs of the layer that reads them (``importance``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..layers.fake_quant import whole_steps
from ..layers.saturation import MOST_VALUES

WORST = 0.25  # weight of the worst image relative to the mean of all
ENOUGH = 1.25  # factor (1 dB) by which clipping must reduce the error
SOLE = 2.0  # times the width that all other images need: then a single image determines the range
# Candidates for a range's ends, in addition to the extremes of the images: quantiles of the sampled values, weighted by
# importance.
QUANTILES = (0.9999, 0.999, 0.99)
ROUNDED_SAMPLES = 64  # samples of each image on which rounding is measured


@dataclass(frozen=True)
class LayerRange:
    """The range of one stored tensor and its basis.

    Args:
        name: Layer whose output it is.
        minimum: Least value that the file can represent there.
        maximum: Largest such value.
        seen_minimum: Least value on the calibration images, of the channels that anything reads.
        seen_maximum: Largest.
        clipped_share: Share of the values on the calibration images that lie outside the range.
        worst_clipped_share: The same for the image where it is largest.
        sole_image: Index of the calibration image without which the range would be less than half as wide; None if
            the range depends on more than one.
    """

    name: str
    minimum: float
    maximum: float
    seen_minimum: float
    seen_maximum: float
    clipped_share: float = 0.0
    worst_clipped_share: float = 0.0
    sole_image: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


class RangeChoice:
    """Choice of the range of one tensor, from its values on the calibration images.

    Args:
        low: (N,) least value of each image, among the channels that matter.
        high: (N,) largest value of each image.
        samples: (N, S) some values of each image, at the same places in all.
        weights: (S,) importance of those places.
        size: Number of values of the tensor in one image.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, samples: np.ndarray, weights: np.ndarray, size: int) -> None:
        self.low, self.high = np.minimum(low, 0.0).astype(np.float64), np.maximum(high, 0.0).astype(np.float64)
        self.samples, self.weights = samples.astype(np.float64), weights / max(float(weights.mean()), 1e-30)
        self.size = min(size, MOST_VALUES)
        mean = (self.samples * self.weights).mean(1, keepdims=True) / self.weights.mean()
        power = (np.square(self.samples - mean) * self.weights).mean(1)
        self.power = np.maximum(power, max(0.01 * float(np.median(power)), 1e-20))
        self.ends = (-self._candidates(-self.low, -self.samples), self._candidates(self.high, self.samples))

    def _candidates(self, extremes: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Upper ends to try, the largest first: for all images, all but one, most images, and most values."""
        full = float(extremes.max())
        if full <= 0:
            return np.zeros(1)
        ordered, order = np.sort(extremes), np.argsort(samples, axis=None)
        weights = np.cumsum(np.broadcast_to(self.weights, samples.shape).ravel()[order])
        places = np.minimum(np.searchsorted(weights, np.multiply(QUANTILES, weights[-1])), len(order) - 1)
        ends = [*np.quantile(extremes, (0.9, 0.5)), *samples.ravel()[order[places]]]
        chosen = [full]
        for end in sorted((float(ordered[-2 if len(ordered) > 1 else -1]), *map(float, ends)), reverse=True):
            if 0 < end < 0.97 * chosen[-1]:
                chosen.append(end)
        return np.asarray(chosen)

    def error_of(self, below: np.ndarray, above: np.ndarray) -> np.ndarray:
        """Error of each pair of ends: (lows, highs).

        Args:
            below: (N, lows) squared error of clipping at each lower end, weighted, see ``clipped_squares``.
            above: (N, highs) the same at each upper end.
        """
        part = self.samples[:, :ROUNDED_SAMPLES]
        weights = self.weights[:ROUNDED_SAMPLES]
        table = np.empty((len(self.ends[0]), len(self.ends[1])))
        for i, low in enumerate(self.ends[0]):
            for j, high in enumerate(self.ends[1]):
                start, end = whole_steps(low, high)
                step = (end - start) / 255
                rounding = (np.square(np.round(part / step) * step - part) * weights).mean(1)
                share = np.minimum((rounding + below[:, i] + above[:, j]) / self.power, 1.0)
                table[i, j] = share.mean() + WORST * share.max()
        return table

    def least_clipped(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of ``below`` and ``above`` that need no second run of the images: one value is clipped."""
        least = float(self.weights[self.weights > 0].min(initial=1.0))
        below = np.square(np.maximum(self.ends[0][None] - self.low[:, None], 0.0))
        above = np.square(np.maximum(self.high[:, None] - self.ends[1][None], 0.0))
        return least * below / self.size, least * above / self.size

    def may_gain(self) -> bool:
        """Whether clipping may reduce the error."""
        table = self.error_of(*self.least_clipped())
        return bool(table.size > 1 and table[0, 0] > ENOUGH * table.min())

    def choose(self, below: np.ndarray, above: np.ndarray) -> tuple[float, float]:
        """(low, high), from the measured errors of clipping."""
        table = self.error_of(below, above)
        best = (0, 0) if table[0, 0] <= ENOUGH * table.min() else np.unravel_index(table.argmin(), table.shape)
        return float(self.ends[0][best[0]]), float(self.ends[1][best[1]])


def sole_image(low: np.ndarray, high: np.ndarray, chosen: tuple[float, float]) -> int | None:
    """Index of the image that by itself makes a range more than ``SOLE`` times as wide as the others need it.

    Args:
        low: (N,) least value of each image.
        high: (N,) largest value of each image.
        chosen: The range.
    """
    for image in dict.fromkeys((int(high.argmax()), int(low.argmin()))):
        others = np.arange(len(low)) != image
        if not others.any():
            return None
        start = max(chosen[0], min(float(low[others].min()), 0.0))
        end = min(chosen[1], max(float(high[others].max()), 0.0))
        if chosen[1] - chosen[0] > SOLE * max(end - start, 1e-12):
            return image
    return None
