"""``CommandCost``: a cost of an untrained network that a command measures, for example on a phone over adb or ssh."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..targets.table import get_target
from .candidate import write_files

FILE = "{file}"
LONGEST = 300  # letters of a command's output in a message


class CommandCost:
    r"""A cost that commands measure from a candidate's int8 file, for an architecture search.

    The file is written with random weights, as for ``DeviceCosts``; then the commands run one after another, and a
    number is read from the output of the last. They decide what is measured: such as LiteRT's ``benchmark_model`` on
    a phone, over adb, or on a board, over ssh. The device must be idle.

    Args:
        name: Name of the cost, for example "pixel_ms".
        commands: Lists of words; "{file}" in a word is replaced by the path of the ``.tflite`` file.
        pattern: Regular expression with one group, the number, which is searched in the output of the last command
            (of both stdout and stderr). Its last match counts.
        target: Key of ``TARGETS`` whose form the file has.
        scale: The number is multiplied by it, for example 1e-3 from microseconds to milliseconds.
        timeout_s: Limit of each command.

    Attributes:
        names: ``(name,)``.
        identity: What distinguishes the costs of different objects: name, target and commands.

    Raises:
        ValueError: no command has "{file}", or the pattern has no group; a number that is not positive.

    Example:
    >>> phone = "/data/local/tmp/candidate.tflite"
    >>> latency = wm.tflite.CommandCost(
    ...     "pixel_ms",
    ...     [["adb", "push", "{file}", phone],
    ...      ["adb", "shell", f"/data/local/tmp/benchmark_model --graph={phone} --num_threads=1"]],
    ...     r"Inference \(avg\): ([0-9.e+]+)", scale=1e-3)
    >>> wm.training.search(recipe, budget={"pixel_ms": 5.0}, costs=[latency], out="found")
    """

    def __init__(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        pattern: str,
        *,
        target: str = "android-cpu",
        scale: float = 1.0,
        timeout_s: float = 600.0,
    ) -> None:
        if not commands or isinstance(commands, str) or any(isinstance(words, str) or not words for words in commands):
            raise ValueError(f"commands must be a list of lists of words. Received: commands={commands!r}")
        if not all(isinstance(word, str) for words in commands for word in words):
            raise ValueError(f"The words of a command must be strings. Received: commands={commands!r}")
        if not any(FILE in word for words in commands for word in words):
            raise ValueError(f"A command must have the word {FILE}, the path of the file. Received: {commands!r}")
        for option, value in (("scale", scale), ("timeout_s", timeout_s)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{option} must be a positive number. Received: {option}={value!r}")
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"pattern must be a regular expression: {error}. Received: pattern={pattern!r}") from None
        if groups != 1:
            raise ValueError(f"pattern must have one group, the number. Received: pattern={pattern!r}")
        self._row = get_target(target)
        self.names = (name,)
        self.target, self.scale, self.timeout_s = target, scale, timeout_s
        self.commands, self.pattern = [list(words) for words in commands], pattern
        self.identity = f"{name}/{target}/{self.commands}/{pattern}/{scale}"

    def __call__(self, model: Any) -> dict[str, float]:
        """Write the file of a network and measure it.

        Args:
            model: Functional Keras model, float; its weights do not matter.

        Returns:
            The cost by name.

        Raises:
            ExportError: the target cannot run the network.
            RuntimeError: a command failed, or printed no such number; the message has the end of its output.
        """
        _, content, _ = next(iter(write_files(model, self.target, self._row)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "candidate.tflite")
            path.write_bytes(content)
            output = ""
            for words in self.commands:
                output = self._run([word.replace(FILE, str(path)) for word in words])
        found = re.findall(self.pattern, output)
        value = _number(found[-1]) * self.scale if found else math.nan
        if not math.isfinite(value):
            raise RuntimeError(
                f"The last command must print a number that matches {self.pattern!r}. Received: {_end(output)}"
            )
        return {self.names[0]: value}

    def _run(self, words: list[str]) -> str:
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeError(f"The command {words} could not be run: {error}") from error
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"The command {words} ended with code {done.returncode}: {_end(output)}")
        return output


def _number(text: str) -> float:
    """A number, or NaN for other text: an error would count as a network that the device refuses."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _end(output: str) -> str:
    text = " ".join(output.split())
    return repr(text[-LONGEST:])
