"""Run ``wavemix-tf`` in a process that may be killed, forked from one that has loaded TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 1800.0  # per process: one that takes longer counts as hung
POLL_S = 0.01


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code; negative: the signal that ended it.
        seconds: Time it took.
        text: Its output, both streams.
        hung: Whether it was killed because it took longer than ``LIMIT_S``.
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
    """Starts the command, or a function, in a separate process group.

    Args:
        fresh: Start a new Python for each command instead of forking this process.
    """

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh
        if not fresh:
            # Loaded but not used: a fork of a process in which TensorFlow runs would hang.
            import wavemix_tf.cli
            import wavemix_tf.command.comparing
            import wavemix_tf.command.predicting
            import wavemix_tf.command.steps
            import wavemix_tf.training.searching.tuner  # noqa: F401

    def run(
        self, words: Sequence[object], log: Path, kill: Callable[[float], bool] | None = None, cwd: Path | None = None
    ) -> Ended:
        """Run the command with these arguments; kill its process group as soon as ``kill(seconds)`` returns True."""
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
        """Run a function in a fork of this process; its return value is the exit code."""
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
    _kill_group(process)  # child processes that it left running
    text = log.read_text(errors="replace") if log.is_file() else ""
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - begun, text, hung)


def _kill_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
