"""Time contenders side by side: each in a separate process, in turn, over several rounds.

A contender is a `worker` (one of the scripts `*_worker.py` here) started with its arguments. It sets itself up, reports
that it is ready, and then answers each JSON line with one JSON line. While one is timed, the others wait on their
standard input, so that threads, allocators and memory never mix. Ratios are taken within a round, so that a temporary
slowdown of the machine affects all contenders equally.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

FOLDER = Path(__file__).parent


# --- in the worker -----------------------------------------------------------------------------------------------


def resident_mib() -> float:
    """Current resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


class PeakMemory:
    """Peak resident memory of this process from the moment of construction."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark to the current size
            self.baseline_mib = resident_mib()
        except OSError:  # not Linux, or not allowed: only the mark of the whole process is available
            self.baseline_mib = 0.0

    def peak_mib(self) -> float:
        try:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        except OSError:
            pass
        maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return maximum / 2**20 if sys.platform == "darwin" else maximum / 1024

    def report(self) -> dict[str, float]:
        peak = self.peak_mib()
        return {"peak_mib": peak, "baseline_mib": self.baseline_mib, "over_baseline_mib": peak - self.baseline_mib}


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads, user and system."""
    return sum(os.times()[:2])


def times_ms(step: Callable[[], Any], seconds: float, at_least: int = 3) -> list[float]:
    """Wall-clock time of each call of `step`, repeated for `seconds`."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < at_least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        found.append((time.perf_counter() - start) * 1e3)
    return found


def serve(set_up: Callable[[dict[str, Any]], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Main function of a worker: `set_up(arguments)` returns the function that answers requests."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of libraries goes to the log, not between the answers
    try:
        answer = set_up(json.loads(sys.argv[1]))
        answers.write(json.dumps({"ready": True}) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(answer(json.loads(line))) + "\n")
    except Exception as error:
        message = str(error).strip().splitlines()
        answers.write(json.dumps({"failed": f"{type(error).__name__}: {message[0][:160] if message else ''}"}) + "\n")
        raise


# --- in the parent -----------------------------------------------------------------------------------------------


@dataclass
class Contender:
    """One way of doing the job. `turns_ms` collects the times of each of its turns, one list per round."""

    name: str
    ours: bool
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    failed: str | None = None
    dropped: bool = False  # after one short turn, because it is slow
    turns_ms: list[list[float]] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # CPU time per step, all threads, one value per round
    details: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def rounds_ms(self) -> list[float]:
        return [median(turn) for turn in self.turns_ms]

    @property
    def median_ms(self) -> float:
        return median(self.rounds_ms)

    def start(self, log: TextIO) -> None:
        environment = os.environ | self.environment
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment)

    def receive(self, timeout_s: float) -> dict[str, Any]:
        process = self.process
        if process is None or process.stdout is None:
            return {"failed": "the worker was not started"}
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        line = process.stdout.readline()
        expired = not timer.is_alive()
        timer.cancel()
        if not line:
            reason = f"no answer within {timeout_s:.0f} s" if expired else f"exit code {process.wait()}"
            return {"failed": f"the worker ended: {reason}"}
        return json.loads(line)

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if self.process is not None and self.process.stdin is not None:
            try:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:  # it died in the meantime: `receive` reports how
                pass
        return self.receive(timeout_s)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def compete(
    contenders: list[Contender],
    rounds: int,
    seconds: float,
    log_path: Path,
    say: Callable[[str], None],
    timeout_s: float = 240.0,
    slowest: float | None = None,
) -> None:
    """Run all contenders in turn for `rounds` rounds of `seconds` each and store their results in them.

    With `slowest`, a contender that needs more than this many times the time of the fastest of its side, in one short
    turn before the rounds, takes no part in them; that turn stays as its result.
    """
    with log_path.open("a") as log:
        try:
            for contender in contenders:  # one after another: set-up allocates and compiles
                if contender.failed:  # its file could not be created
                    say(f"  {contender.name}: {contender.failed}")
                    continue
                start = time.perf_counter()
                contender.start(log)
                contender.failed = contender.receive(timeout_s).get("failed")
                state = contender.failed or f"ready after {time.perf_counter() - start:.0f} s"
                say(f"  {contender.name}: {state}")
            running = list(contenders)
            if slowest is not None:
                running = _probe(contenders, slowest, seconds / 4, timeout_s, say)
            for number in range(rounds):
                # Rotate the order in every round: the first contender changes.
                start = number % max(len(running), 1)
                for contender in running[start:] + running[:start]:
                    _turn(contender, seconds, timeout_s)
                summary = ", ".join(f"{c.name} {c.rounds_ms[-1]:.2f}" for c in running if not c.failed)
                say(f"  round {number + 1}/{rounds}, ms: {summary}")
        finally:
            for contender in contenders:
                contender.stop()


def _turn(contender: Contender, seconds: float, timeout_s: float) -> None:
    """Let a contender run for `seconds`."""
    if contender.failed:
        return
    answer = contender.ask({"seconds": seconds}, timeout_s)
    contender.failed = answer.get("failed")
    if not contender.failed:
        contender.turns_ms.append(answer.pop("times_ms"))
        contender.cpu_ms.append(answer.pop("cpu_ms"))
        contender.details |= answer


def _probe(
    contenders: list[Contender], slowest: float, seconds: float, timeout_s: float, say: Callable[[str], None]
) -> list[Contender]:
    """Stop the contenders that are too slow to matter, see `compete`; return the others, without this turn."""
    for contender in contenders:
        _turn(contender, seconds, timeout_s)
    alive = [contender for contender in contenders if not contender.failed]
    best = {side: min((c.median_ms for c in alive if c.ours == side), default=0.0) for side in (False, True)}
    for contender in alive:
        contender.dropped = contender.median_ms > slowest * best[contender.ours]
        if contender.dropped:
            say(f"  {contender.name}: {contender.median_ms:.0f} ms in one turn, too slow for the rounds")
            contender.stop()
        else:
            contender.turns_ms, contender.cpu_ms = [], []
    return [contender for contender in alive if not contender.dropped]


def ratio(slow: Contender, fast: Contender) -> dict[str, float]:
    """Speed of `fast` relative to `slow`: median, minimum and maximum of the ratios of the rounds."""
    ratios = [a / b for a, b in zip(slow.rounds_ms, fast.rounds_ms, strict=True)]
    return {"median": median(ratios), "min": min(ratios), "max": max(ratios)}


def fastest(contenders: list[Contender], ours: bool) -> Contender | None:
    running = [c for c in contenders if c.ours == ours and not (c.failed or c.dropped) and c.turns_ms]
    return min(running, key=lambda c: c.median_ms, default=None)


def warn_if_busy() -> None:
    """Warn if other programs use the machine: figures measured then are unreliable."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): the figures are unreliable.", file=sys.stderr, flush=True)


# --- the machine -------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """The machine of the measurement; the load shows whether other programs were running."""
    from wavemix_tf.processor import features_text, processor_name  # not there for the workers of other packages

    return {
        "cpu": f"{processor_name()} ({features_text() or 'unknown instructions'})",
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def measure_peak(python: str, threads: int, log_path: Path) -> dict[str, float]:
    """dtype -> GMAC/s of a large matrix multiplication; empty if it could not be measured."""
    command = [python, str(FOLDER / "peak_worker.py"), json.dumps({"threads": threads})]
    contender = Contender("matrix multiplication", False, command)
    with log_path.open("a") as log:
        try:
            contender.start(log)
            if contender.receive(120).get("failed"):
                return {}
            return contender.ask({}, 120)["gmacs_per_s"]
        finally:
            contender.stop()


def write_atomically(path: Path, content: str | bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    if isinstance(content, str):
        temporary.write_text(content)
    else:
        temporary.write_bytes(content)
    temporary.replace(path)
