"""What was typed, handed from the process to the verbs that name it again: in advice, in reports, to workers."""

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
        """The same words but for one."""
        return CommandLine(tuple(word for word in self.words if word != option))

    def __str__(self) -> str:
        """The whole command, its words quoted as a shell takes them."""
        return shell(*self.words)


def shell(*parts: str | os.PathLike[str]) -> str:
    """A command to advise, its words quoted as a shell takes them."""
    return shlex.join(["wavemix-tf", *map(str, parts)])
