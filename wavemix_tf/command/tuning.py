"""What ``wavemix-tf tune`` does beside the search itself: device costs, the int8 score, worker processes, the table."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..tflite.measuring.device_costs import DeviceCosts
from ..tflite.targets.table import DEVICE_COSTS, FIRMWARE_COSTS
from ..training.fitting.results import FitResult
from ..training.fitting.trainer import fit
from ..training.recipe import Recipe
from ..training.searching.candidates import format_cost
from ..training.searching.folder import WORKERS_FOLDER
from ..training.searching.results import SearchResult
from .pages.formats import METRICS
from .steps import quantize_for_tuning
from .terminal import grid


@contextlib.contextmanager
def device_costs(target: str | None, limits: Iterable[str] = ()) -> Iterator[list[Any]]:
    """Everything that a target's files cost, as ``search`` takes it; nothing without a target.

    Args:
        target: Key of ``TARGETS``, or None.
        limits: Costs that have a limit: firmware is counted where it has one.
    """
    if target is None:
        yield []
        return
    firmware = [name for name in FIRMWARE_COSTS.get(target, ()) if name in limits]
    with DeviceCosts(target, (*DEVICE_COSTS[target], *firmware)) as costs:
        yield [costs]


def int8_score(result: FitResult, data: Any) -> Mapping[str, float]:
    """Metric on the validation images with int8 arithmetic, after the recipe's ``qat_epochs`` of fine-tuning."""
    qat = quantize_for_tuning(result.recipe, result.model, data)
    tuned = fit(result.recipe, model=qat, data=data, out=result.out, stage="qat", verbose=0)
    return {int8_objective(result.recipe): tuned.validation_score}


def int8_objective(recipe: Recipe) -> str:
    """Name of the metric that ``int8_score`` returns."""
    return f"val_int8_{recipe.metric}"


def front_table(result: SearchResult) -> Table:
    """The best trial and the Pareto fronts against the costs that have a limit (without any: the parameters)."""
    costs = [name for name in result.costs if name in result.budget] or ["parameters"]
    shown = {trial.trial_id: trial for cost in costs for trial in result.front(cost)}
    if result.best is not None:
        shown[result.best.trial_id] = result.best
    table = grid("trial", result.objective, *(name.replace("_", " ") for name in costs), "network", "")
    for trial in sorted(shown.values(), key=lambda trial: trial.costs.get(costs[0], 0)):
        own = [format_cost(trial.costs[name]) if name in trial.costs else "" for name in costs]
        text = next((text for key, (_, text) in METRICS.items() if result.objective.endswith(key)), "{:.4f}".format)
        score = text(trial.score)
        best = "best" if result.best is not None and trial.trial_id == result.best.trial_id else ""
        table.add_row(trial.trial_id, score, *own, trial.describe(), best)
    return table


def free_address() -> str:
    """A port of this machine that nothing listens on, as "127.0.0.1:PORT"."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class LocalWorkers:
    """``count`` processes of this command as workers of a chief.

    Args:
        words: Of this command.
        count: How many.
        address: Of the chief.
        out: Folder of the search; each worker's words go to ``workers/`` in it.
    """

    def __init__(self, words: Sequence[str], count: int, address: str, out: Path) -> None:
        self._words = [*words, "--role", "worker", "--address", address, "--workers", "1"]
        self._count, self._folder = count, out / WORKERS_FOLDER
        self._processes: list[subprocess.Popen[bytes]] = []

    def watch(self) -> None:
        """Start them, or raise a RuntimeError if all have ended and not all of them well."""
        if not self._processes:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._processes = [self._start(index) for index in range(self._count)]
        codes = [process.poll() for process in self._processes]
        if None not in codes and any(codes):
            path = self._folder / f"{codes.index(next(filter(None, codes)))}.log"
            said = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            raise RuntimeError(f"A worker must live. Received: {said[-1] if said else 'no word'}, in {path}")

    def wait(self) -> int:
        """The largest exit code, when all have ended."""
        self.watch()
        return max(process.wait() for process in self._processes)

    def close(self) -> None:
        """End them: they do by themselves when a search has ended, and at once when their standard input does."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from wavemix_tf.cli import worker_script; worker_script()", *self._words]
        name = f"{index}-{secrets.token_hex(4)}"
        with (self._folder / f"{index}.log").open("wb") as log:
            return subprocess.Popen([*command, "--name", name], stdin=subprocess.PIPE, stdout=log, stderr=log)
