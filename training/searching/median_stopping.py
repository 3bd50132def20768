"""The median stopping rule: end a trial whose learning curve is below those of the others.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization" (KDD 2017), section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np

from wavemix_tf.state_files import DamagedFileError

from ..run_files import RunFiles

LEAST_TRIALS = 4  # other trials that have reached the epoch
FIRST_SHARE = 0.25  # of the epochs, which every trial trains


class MedianStopping(keras.callbacks.Callback):
    """Ends the training if its best value so far is worse than the median of the other trials' running averages.

    Args:
        metric: Name of the metric on validation, a column of ``history.csv``.
        direction: "max" or "min".
        epochs: Epochs of a complete trial.
        trials: Folder of all trials.
        own: Folder of this trial.
    """

    def __init__(self, metric: str, direction: str, epochs: int, trials: Path, own: Path) -> None:
        super().__init__()
        self.metric, self.sign = metric, 1.0 if direction == "max" else -1.0
        self.first = max(2, round(FIRST_SHARE * epochs))
        self.last = epochs
        self._trials, self._own = trials, own
        self._others: list[Sequence[float]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        folders = [path.parent for path in self._trials.glob("*/outcome.json") if path.parent != self._own]
        self._others = [curve for curve in map(self._curve, folders) if curve]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        curve = self._curve(self._own)  # with the epochs before a resume; this one is already written
        if self.first <= len(curve) < self.last and is_hopeless(curve, self._others):
            self.model.stop_training = True

    def _curve(self, folder: Path) -> list[float]:
        """A trial's values by epoch, larger is better; [] without a readable history."""
        try:
            rows = RunFiles(folder, "float").read_history()
        except DamagedFileError:
            return []
        return [self.sign * row[self.metric] for row in rows if self.metric in row]


def is_hopeless(curve: Sequence[float], others: Iterable[Sequence[float]]) -> bool:
    """Whether the best value of a curve is below the median of the others' averages up to the same epoch.

    Args:
        curve: Values by epoch, larger is better.
        others: Curves of other trials; those with fewer epochs, or with NaN, are not compared.
    """
    length = len(curve)
    averages = [float(np.mean(other[:length])) for other in others if len(other) >= length]
    averages = [average for average in averages if np.isfinite(average)]
    return len(averages) >= LEAST_TRIALS and max(curve) < median(averages)
