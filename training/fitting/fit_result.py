"""`FitResult`: the result of `fit`, for a stage that it trained or that an earlier call finished."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wavemix_tf.files import write_text
from wavemix_tf.state_files import check_keras_file, load_keras

from ..data import identity
from ..data.bundle import DataBundle
from ..data.datasets import load_data
from ..data.example_weights import plain_weights
from ..data.given import given_batches, unwrapped_errors
from ..distribution import devices_of, evaluate
from ..recipe import Recipe
from ..run_files import RunFiles
from ..tasks import task_of
from .saving import compile_for_use


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of `fit`.

    Attributes:
        model: The network with the weights of the best epoch, compiled with the loss and the metric of the recipe's
            task, for the targets of the data.
        history: column -> one value per epoch: "epoch" (from 1), "loss", the metric, "val_loss", "val_" and the metric,
            "learning_rate", "seconds".
        metric: "accuracy", "mean_iou" or "psnr_y"; larger is better.
        best_epoch: Epoch (from 1) with the best metric on validation; ties are broken by the lower loss.
        validation_score, validation_loss: Metric and loss of that epoch.
        seconds: Time in all epochs, including those of interrupted calls.
        resumed_epochs: Epochs that an earlier call had finished.
        out: Run folder, or None.
    """

    model: Any
    recipe: Recipe
    stage: str
    history: dict[str, list[float]]
    best_epoch: int
    metric: str
    validation_score: float
    validation_loss: float
    seconds: float
    resumed_epochs: int
    out: Path | None
    _load_test: Callable[[], Any] = dataclasses.field(repr=False, compare=False)

    def evaluate(self, data: Any = None, batch_size: int = 256) -> dict[str, float]:
        """Compute loss and metric.

        Args:
            data: Arrays, tf.data or ``keras.utils.PyDataset`` as for `fit`, optionally with weights; None: the test set
                ("super_resolution": its patches).
            batch_size: Batch size for arrays.
        """
        if data is None:
            return evaluate(self.model, self._load_test())
        batches, source = given_batches(self.recipe, data, batch_size, self.model)
        with unwrapped_errors(source):
            return evaluate(self.model, batches)

    @property
    def validation_accuracy(self) -> float:
        """``validation_score`` of a classifier."""
        return self._accuracy("validation_accuracy", self.validation_score)

    @property
    def test_accuracy(self) -> float:
        """``test_score`` of a classifier."""
        return self._accuracy("test_accuracy", self.test_score if self.metric == "accuracy" else 0.0)

    @functools.cached_property
    def test_score(self) -> float:
        """The metric on the test set; computed once, then stored in the run folder."""
        files = RunFiles(self.out, self.stage) if self.out is not None else None
        stored = files.read_result() if files and files.result.is_file() else {}
        if stored.get("test") is None:
            stored["test"] = self.evaluate()[self.metric]
            with devices_of(self.model) as devices:
                writes = devices.writes
            if files and files.result.is_file() and writes:
                write_text(files.result, json.dumps(stored, indent=1) + "\n")
        return stored["test"]

    def _accuracy(self, name: str, value: float) -> float:
        if self.metric != "accuracy":
            raise AttributeError(
                f"{name} requires a classifier, see validation_score and test_score. Received: metric={self.metric!r}"
            )
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serializable values; does not read the test set."""
        names = ("stage", "best_epoch", "metric", "validation_score", "validation_loss", "seconds", "resumed_epochs")
        return {"recipe": self.recipe.name, **{name: getattr(self, name) for name in names}}


def finished_result(
    recipe: Recipe, model: Any, data: Any, files: RunFiles, class_weight: Mapping[Any, float] | None = None
) -> FitResult:
    """The result of a stage that an earlier call finished."""
    summary, history = files.read_result(), files.read_history()
    if summary.get("class_weight") != plain_weights(class_weight):
        raise ValueError(
            f"{files.folder} was trained with another class_weight: use another folder, or overwrite=True. Received: "
            f"class_weight={class_weight!r} (there {summary.get('class_weight')})"
        )
    if data is not None:
        identity.check_trained_on(data, files.folder, summary.get("data"), files.stage)
    if model is None:
        model = load_keras(files.model, files.remedy)
    else:
        check_keras_file(files.model, files.remedy)
        model.load_weights(files.model)
    compile_for_use(model, task_of(recipe, model.output_shape[-1]))
    return make_result(recipe, model, summary, history, files, int(summary["epochs"]), data)


def make_result(
    recipe: Recipe,
    model: Any,
    summary: dict[str, Any],
    history: list[dict[str, float]],
    files: RunFiles | None,
    resumed: int,
    data: Any,
) -> FitResult:
    """Make the result from a stage's ``training.json`` (`summary`) and ``history.csv``."""
    return FitResult(
        model=model,
        recipe=recipe,
        stage=summary["stage"],
        history=_columns(history),
        best_epoch=summary["best_epoch"],
        metric=summary["metric"],
        validation_score=summary["validation_score"],
        validation_loss=summary["validation_loss"],
        seconds=summary["seconds"],
        resumed_epochs=resumed,
        out=files.folder if files else None,
        _load_test=lambda: _test_set(recipe, data, files, summary),
    )


def _test_set(recipe: Recipe, data: DataBundle | None, files: RunFiles | None, summary: dict[str, Any]) -> Any:
    """The test images of a result, loaded on request."""
    if data is None:
        data = load_data(recipe, None if files is None else files.folder)
        if files is not None:
            identity.check_trained_on(data, files.folder, summary.get("data"), files.stage)
    return data.test


def _columns(history: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in history] for name in (history[0] if history else {})}
