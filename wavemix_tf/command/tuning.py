"""Parts of ``wavemix-tf tune`` around the search: device costs, int8 score, worker processes, the result table."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..tflite.measuring.device_costs import DeviceCosts
from ..tflite.names import INSTRUCTIONS
from ..tflite.targets.table import DEVICE_COSTS, NAMED_COSTS
from ..training.fitting.fit_result import FitResult
from ..training.fitting.trainer import fit
from ..training.recipe import Recipe
from ..training.searching.candidates import format_cost
from ..training.searching.folder import WORKERS_FOLDER
from ..training.searching.search_result import COST_NOTES, SearchResult
from .pages.formats import METRICS
from .steps import quantize_for_tuning
from .terminal import grid

GPUS = Path("/proc/driver/nvidia/gpus")  # of the driver: a folder for each GPU
NOTE_LETTERS = 14  # a column's head is not wider than its numbers because of a note


@contextlib.contextmanager
def device_costs(target: str | None, limits: Iterable[str | None] = ()) -> Iterator[list[Any]]:
    """Return the costs of a target's files as ``search`` takes them; empty without a target.

    Args:
        target: Key of ``TARGETS``, or None.
        limits: Costs that have a limit or are minimized; those that must be named are measured only for this, except
            instructions, which always are: ``front.csv`` has their Pareto front.
    """
    if target is None:
        yield []
        return
    named = [name for name in NAMED_COSTS.get(target, ()) if name in limits or name == INSTRUCTIONS]
    with DeviceCosts(target, (*DEVICE_COSTS[target], *named)) as costs:
        yield [costs]


def int8_score(result: FitResult, data: Any) -> Mapping[str, float]:
    """Return the metric on the validation images in int8 arithmetic, after the recipe's ``qat_epochs``."""
    qat = quantize_for_tuning(result.recipe, result.model, data)
    tuned = fit(result.recipe, model=qat, data=data, out=result.out, stage="qat", verbose=0)
    return {int8_objective(result.recipe): tuned.validation_score}


def int8_objective(recipe: Recipe) -> str:
    """Return the name of the metric of ``int8_score``."""
    return f"val_int8_{recipe.metric}"


def front_table(result: SearchResult) -> Table:
    """Return the best trial and the Pareto fronts over the costs with a limit (without any: the parameters).

    Instructions are a column even without a limit.
    """
    wanted = {*result.budget, *([] if result.goal is None else [result.goal.cost])}
    costs = [name for name in result.costs if name in wanted] or ["parameters"]
    columns = [*costs, *(name for name in result.costs if name == INSTRUCTIONS and name not in costs)]
    shown = {trial.trial_id: trial for cost in costs for trial in result.front(cost)}
    if result.best is not None:
        shown[result.best.trial_id] = result.best
    titles = [name.replace("_", " ") for name in columns]
    notes = ["\n".join(textwrap.wrap(COST_NOTES.get(name, ""), NOTE_LETTERS)) for name in columns]
    titles = [f"{title},\n{note}" if note else title for title, note in zip(titles, notes, strict=True)]
    table = grid("trial", result.objective, *titles, "network", "")
    for trial in sorted(shown.values(), key=lambda trial: trial.costs.get(costs[0], 0)):
        own = [format_cost(trial.costs[name]) if name in trial.costs else "" for name in columns]
        text = next((text for key, (_, text) in METRICS.items() if result.objective.endswith(key)), "{:.4f}".format)
        score = text(trial.score)
        best = "best" if result.best is not None and trial.trial_id == result.best.trial_id else ""
        table.add_row(trial.trial_id, score, *own, trial.describe(), best)
    return table


def free_address() -> str:
    """Return a free port of this machine as "127.0.0.1:PORT"."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class LocalWorkers:
    """``count`` processes of this command as workers of a chief.

    Args:
        words: Words of this command.
        count: Number of workers.
        address: Address of the chief.
        out: Folder of the search; each worker's log is in ``workers/``.
    """

    def __init__(self, words: Sequence[str], count: int, address: str, out: Path) -> None:
        self._words = [*words, "--role", "worker", "--address", address, "--workers", "1"]
        self._count, self._folder = count, out / WORKERS_FOLDER
        self._processes: list[subprocess.Popen[bytes]] = []

    def watch(self) -> None:
        """Start the workers; RuntimeError if all have exited and one of them failed."""
        if not self._processes:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._processes = [self._start(index) for index in range(self._count)]
        codes = [process.poll() for process in self._processes]
        if None not in codes and any(codes):
            path = self._folder / f"{codes.index(next(filter(None, codes)))}.log"
            lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            raise RuntimeError(f"A worker must not fail. Received: {lines[-1] if lines else 'no output'}, in {path}")

    def wait(self) -> int:
        """Wait until all have exited; return the largest exit code."""
        self.watch()
        return max(process.wait() for process in self._processes)

    def close(self) -> None:
        """End the workers: they exit when the search has ended, or at once when their standard input is closed."""
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
            return subprocess.Popen(
                [*command, "--name", name], stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment_of(index)
            )


def environment_of(worker: int) -> dict[str, str]:
    """Return the environment of a local worker: with several NVIDIA GPUs each sees one of them, in turn."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        gpus = [str(number) for number, _ in enumerate(sorted(GPUS.glob("*")))]
    else:
        gpus = [name.strip() for name in given.split(",") if name.strip()]
    return {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if len(gpus) > 1 else {})}
