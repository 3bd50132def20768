"""What ``wavemix-tf tune`` does beside the search itself: device costs, the int8 score, worker processes, the table."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from ..tflite.device_costs import DeviceCosts
from ..tflite.quantizer import quantize
from ..training.budgets import number
from ..training.results import FitResult
from ..training.search_results import SearchResult
from ..training.trainer import fit
from .report import percent
from .terminal import grid

INT8_OBJECTIVE = "val_int8_accuracy"


@contextlib.contextmanager
def device_costs(target: str | None) -> Iterator[list[Any]]:
    """Everything that a target's files cost, as ``search`` takes it; nothing without a target."""
    if target is None:
        yield []
        return
    with DeviceCosts(target) as costs:
        yield [costs]


def int8_score(result: FitResult, data: Any) -> Mapping[str, float]:
    """Accuracy on the validation images with int8 arithmetic, after the recipe's ``qat_epochs`` of fine-tuning."""
    qat = quantize(result.model, data.calibration, target="mcu", observer=result.recipe.qat_observer)
    tuned = fit(result.recipe, model=qat, data=data, out=result.out, stage="qat", verbose=0)
    return {INT8_OBJECTIVE: tuned.validation_accuracy}


def front_table(result: SearchResult) -> Table:
    """The best trial and the Pareto fronts against the costs that have a limit (without any: the parameters)."""
    costs = [name for name in result.costs if name in result.budget] or ["parameters"]
    shown = {trial.trial_id: trial for cost in costs for trial in result.front(cost)}
    if result.best is not None:
        shown[result.best.trial_id] = result.best
    table = grid("trial", result.objective, *(name.replace("_", " ") for name in costs), "network", "")
    for trial in sorted(shown.values(), key=lambda trial: trial.costs.get(costs[0], 0)):
        own = [number(trial.costs[name]) if name in trial.costs else "" for name in costs]
        score = percent(trial.score) if result.objective.endswith("accuracy") else f"{trial.score:.4f}"
        best = "best" if result.best is not None and trial.trial_id == result.best.trial_id else ""
        table.add_row(trial.trial_id, score, *own, trial.describe(), best)
    return table


def free_address() -> str:
    """A port of this machine that nothing listens on, as "127.0.0.1:PORT"."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def local_workers(words: Sequence[str], count: int, address: str) -> Iterator[None]:
    """``count`` processes of this command as workers; they end with the block.

    Args:
        words: Of this command.
        count: How many.
        address: Of the chief.
    """
    own = ["--role", "worker", "--address", address]
    command = [sys.executable, "-c", "from wavemix_tf.cli import script; script()"]
    workers = [
        subprocess.Popen([*command, *words, *own, "--name", f"worker-{index}"], stdout=subprocess.DEVNULL)
        for index in range(count)
    ]
    try:
        yield
    finally:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=10)
            if worker.poll() is None:
                os.kill(worker.pid, signal.SIGTERM)
                worker.wait()
