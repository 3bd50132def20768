"""The command ``wavemix-tf`` in a process that may be killed, forked from one that has TensorFlow loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 1800.0  # of one process: what takes longer hangs
POLL_S = 0.01


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code; negative: the signal that ended it.
        seconds: Time it took.
        text: What it printed, both streams.
        hung: Whether it was ended for taking longer than ``LIMIT_S``.
    """

    code: int
    seconds: float
    text: str
    hung: bool = False

    @property
    def last_line(self) -> str:
        lines = [line for line in self.text.splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Commands:
    """Starts the command, or a function, in a process group of its own.

    Args:
        fresh: Start a Python for each command instead of forking this process.
    """

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh
        if not fresh:
            # Loaded, not used: a fork of a process whose TensorFlow runs would stand still.
            import wavemix_tf.cli
            import wavemix_tf.command.comparing
            import wavemix_tf.command.predicting
            import wavemix_tf.command.steps
            import wavemix_tf.training.searching.tuner  # noqa: F401

    def run(
        self, words: Sequence[object], log: Path, kill: Callable[[float], bool] | None = None, cwd: Path | None = None
    ) -> Ended:
        """The command with these words, killed with all that it started as soon as ``kill(seconds)`` says so."""
        given = [str(word) for word in words]
        if not self.fresh:

            def command() -> int:
                import wavemix_tf.cli

                sys.argv = ["wavemix-tf", *given]
                return wavemix_tf.cli.main(given)

            return self.call(command, log, kill, cwd)
        program = "from wavemix_tf.cli import script; script()"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", program, *given], stdout=file, stderr=file, start_new_session=True, cwd=cwd
            )
        return _watch(process.pid, log, kill)

    def call(
        self,
        function: Callable[[], int],
        log: Path,
        kill: Callable[[float], bool] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """A function in a fork of this process; what it returns is the exit code."""
        sys.stdout.flush()
        process = os.fork()
        if not process:
            code = 70
            try:
                os.setsid()
                target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(target, 1)
                os.dup2(target, 2)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                if cwd is not None:
                    os.chdir(cwd)
                code = function()
            except BaseException as error:
                print(f"Escaped: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        return _watch(process, log, kill)


def _watch(process: int, log: Path, kill: Callable[[float], bool] | None) -> Ended:
    begun = time.monotonic()
    hung = False
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        seconds = time.monotonic() - begun
        if done:
            break
        hung = seconds > LIMIT_S
        if hung or (kill is not None and kill(seconds)):
            _kill_group(process)
            _, status = os.waitpid(process, 0)
            break
        time.sleep(POLL_S)
    _kill_group(process)  # what it left running
    text = log.read_text(errors="replace") if log.is_file() else ""
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - begun, text, hung)


def _kill_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
