"""Tools that run in separate processes: started for each run, or forked from a process that has loaded them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from ..errors import RuntimeFailureError
from ..names import MICRO, VELA

SCRIPTS = {MICRO: [str(Path(__file__).with_name("micro_worker.py"))], VELA: ["-m", "ethosu.vela"]}


class Runner(Protocol):
    """Runs a tool once."""

    def __call__(self, arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """The output of the tool and its return code; ``subprocess.TimeoutExpired`` if it did not end."""


def new_process_runner(tool: str) -> Runner:
    """A runner that starts a new process each time."""

    def run(arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, *SCRIPTS[tool], *arguments]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)

    return run


class ForkServer:
    """A ``Runner`` whose tool is loaded once; see ``fork_server``. It ends with ``close`` or with this process.

    Args:
        tool: Key of ``SCRIPTS``.
    """

    def __init__(self, tool: str) -> None:
        self._tool = tool
        self._process: Any = None

    def _start(self) -> Any:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), self._tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # a fork copies only one thread
        )

    def __call__(self, arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """As ``Runner``; the server has its own time limit and is restarted if it ended."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._start()
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"folder": folder, "arguments": arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeFailureError(f"The tool process ended with code {self._process.wait()}.")
            said = [Path(folder, name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(arguments, json.loads(line)["returncode"], *said)

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def fastest_runner(tool: str) -> Runner:
    """The fastest runner on this system; without ``fork``, a new process each time."""
    return ForkServer(tool) if hasattr(os, "fork") else new_process_runner(tool)
