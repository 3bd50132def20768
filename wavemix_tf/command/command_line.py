"""The typed command line, for the verbs that repeat it in advice, in reports and to workers."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandLine:
    """The words after ``wavemix-tf``; a verb gets them as ``typer.Context.obj``."""

    words: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        """The first word; "" where there is none."""
        return self.words[0] if self.words else ""

    @property
    def debug(self) -> bool:
        """Whether tracebacks and TensorFlow's log are shown."""
        return "--debug" in self.words

    def without(self, option: str) -> CommandLine:
        """Return the same words without one option."""
        return CommandLine(tuple(word for word in self.words if word != option))

    def __str__(self) -> str:
        """The whole command, quoted for a shell."""
        return shell(*self.words)


def shell(*parts: str | os.PathLike[str]) -> str:
    """Return a ``wavemix-tf`` command, quoted for a shell."""
    return shlex.join(["wavemix-tf", *map(str, parts)])
