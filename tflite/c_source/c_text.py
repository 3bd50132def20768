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
        self.declarations: list[str] = []

    def name(self, values: np.ndarray) -> str:
        """The name of an array; it is declared when it is first asked for."""
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
            self.declarations.append(
                f"static const {TYPES[values.dtype.name]} {self._names[key]}[{len(values)}] = {{\n    {body}}};"
            )
        return self._names[key]


def number(value: int) -> str:
    """A 32-bit integer as C writes it: its smallest has no literal."""
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)


def initializer(fields: Fields, constants: Constants) -> str:
    """``{...}`` of a struct, in the order of its fields."""
    return f"{{{', '.join(_value(value, constants) for value in fields.values())}}}"


def _value(value: Any, constants: Constants) -> str:
    if value is None:
        return "0"
    if isinstance(value, dict):
        return initializer(value, constants)
    if isinstance(value, list):
        return f"{{{', '.join(number(int(one)) for one in value)}}}"
    if isinstance(value, np.ndarray):
        return constants.name(value)
    return number(int(value))


def c_string(text: str) -> str:
    """UTF-8 as octal escapes: no compiler's source encoding matters."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{escaped}"'
