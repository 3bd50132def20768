"""Constants and initializers of a generated program."""

from __future__ import annotations

from typing import Any

import numpy as np

from .program import Fields

TYPES = {"int8": "int8_t", "int32": "int32_t"}
WIDTH = 112  # of a line of numbers


class Constants:
    """Arrays of a program, each once however often it is read.

    Args:
        prefix: Of their names.
    """

    def __init__(self, prefix: str):
        self._prefix = prefix
        self._names: dict[tuple[str, bytes], str] = {}
        self._users: dict[str, set[int]] = {}
        self._texts: dict[str, str] = {}

    @property
    def declarations(self) -> list[tuple[str, set[int]]]:
        """(text, places of the forms that read it) of each array."""
        return [(text, self._users[name]) for name, text in self._texts.items()]

    def name(self, values: np.ndarray, user: int = 0) -> str:
        """The name of an array that form ``user`` of the program reads; it is declared when it is first asked for."""
        values = np.atleast_1d(values).ravel()
        key = (values.dtype.name, values.tobytes())
        if key not in self._names:
            self._names[key] = f"{self._prefix}_c{len(self._names)}"
            lines, line = [], ""
            for text in (number(int(value)) for value in values):
                if len(line) + len(text) > WIDTH:
                    lines.append(line)
                    line = ""
                line += f"{text},"
            lines.append(line.rstrip(","))
            body = "\n    ".join(lines)
            head = f"static const {TYPES[values.dtype.name]} {self._names[key]}[{len(values)}]"
            self._texts[self._names[key]] = f"{head} {self._prefix.upper()}_ALIGNED = {{\n    {body}}};"
        self._users.setdefault(self._names[key], set()).add(user)
        return self._names[key]


def number(value: int) -> str:
    """A 32-bit integer as C writes it: its smallest has no literal."""
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)


def initializer(fields: Fields, constants: Constants, user: int = 0) -> str:
    """``{...}`` of a struct of form ``user``, in the order of its fields."""
    return f"{{{', '.join(_value(value, constants, user) for value in fields.values())}}}"


def _value(value: Any, constants: Constants, user: int) -> str:
    if value is None:
        return "0"
    if isinstance(value, dict):
        return initializer(value, constants, user)
    if isinstance(value, list):
        return f"{{{', '.join(number(int(one)) for one in value)}}}"
    if isinstance(value, np.ndarray):
        return constants.name(value, user)
    return number(int(value))


def c_string(text: str) -> str:
    """UTF-8 as octal escapes: no compiler's source encoding matters."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{escaped}"'
