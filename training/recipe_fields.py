"""The kinds of a recipe's fields: each parses the text of ``--set``, and checks and stores a Python or JSON value.

The kind of a plain field (a number, a string, a flag, optionally None) follows from its annotation. Any other field
names its kind with its default, as in ``of_kind(NAMES, ())``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Mapping
from typing import Any

KIND = "kind"  # key in a field's metadata
AUTO = "auto"  # a value that `fit` chooses


class FieldKind:
    """A kind of value.

    Attributes:
        expected: What a text must be, as in "--set NAME takes EXPECTED".
    """

    expected: str

    def parse(self, text: str) -> Any:
        """Parse a text; KeyError, TypeError or ValueError if it is not valid."""
        raise NotImplementedError

    def check(self, name: str, value: Any) -> Any:
        """Return `value` as the field `name` stores it (JSON lists as tuples); ValueError if it is of another kind."""
        raise NotImplementedError


class Plain(FieldKind):
    """A number, a string or a flag, or None if the annotation allows it. A float field accepts an int."""

    def __init__(self, annotation: Any) -> None:
        self._types = typing.get_args(annotation) or (annotation,)
        self._names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in self._types)
        self.expected = self._names

    def parse(self, text: str) -> Any:
        if type(None) in self._types and text.lower() in ("none", "null"):
            return None
        if bool in self._types:
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[text.lower()]
        number = next((kind for kind in (int, float) if kind in self._types), None)
        return text if number is None else number(text)

    def check(self, name: str, value: Any) -> Any:
        if float in self._types and type(value) in (int, float):
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite. Received: {name}={value!r}")
            return float(value)
        if type(value) not in self._types:
            raise ValueError(f"{name} must be {self._names}. Received: {name}={value!r}")
        return value


class _ImageShape(FieldKind):
    expected = "HxWxC"

    def parse(self, text: str) -> tuple[int, ...]:
        return tuple(int(side) for side in text.replace("x", ",").strip("()").split(","))

    def check(self, name: str, value: Any) -> tuple[int, int, int]:
        if isinstance(value, (list, tuple)) and len(value) == 3 and all(type(side) is int for side in value):
            return tuple(value)
        raise ValueError(f"{name} must be (height, width, channels) in pixels. Received: {name}={value!r}")


class _MaskValues(FieldKind):
    expected = "numbers or colors, such as 0,255 or #000000,#ff8000"

    def parse(self, text: str) -> tuple[int | str, ...]:
        given = filter(None, (part.strip() for part in text.strip("()[]").split(",")))
        return tuple(part if part.startswith("#") else int(part) for part in given)

    def check(self, name: str, value: Any) -> tuple[int | str, ...]:
        """Return numbers, or colors in lower case."""
        if isinstance(value, (list, tuple)):
            found = tuple(_canonical_color(item) if isinstance(item, str) else item for item in value)
            colors = [isinstance(item, str) and re.fullmatch(r"#([0-9a-f]{6}|[0-9a-f]{8})", item) for item in found]
            numbers = [type(item) is int and 0 <= item <= 65535 for item in found]
            if (all(colors) or all(numbers)) and len(set(found)) == len(found):
                return found
        raise ValueError(
            f"{name} must be distinct numbers in [0, 65535], or distinct colors #rrggbb. Received: {name}={value!r}"
        )


def _canonical_color(text: str) -> str:
    """Return the unique form of a color: six digits if opaque, #00000000 if fully transparent."""
    text = text.lower()
    if len(text) != 9:
        return text
    return "#00000000" if text.endswith("00") else text.removesuffix("ff")


class _Names(FieldKind):
    expected = "names separated by commas"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(filter(None, (name.strip() for name in text.split(","))))

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ValueError(f"{name} must be a list of layer names. Received: {name}={value!r}")


class _Arguments(FieldKind):
    expected = "a JSON object"

    def parse(self, text: str) -> dict[str, Any]:
        return dict(json.loads(text))

    def check(self, name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: _tuples(item) for key, item in value.items()}
        raise ValueError(f"{name} must map argument names to values. Received: {name}={value!r}")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


class _BatchSize(FieldKind):
    expected = f"a positive integer or {AUTO}"

    def parse(self, text: str) -> int | str:
        return AUTO if text == AUTO else int(text)

    def check(self, name: str, value: Any) -> int | str:
        if value == AUTO or (type(value) is int and value > 0):
            return value
        raise ValueError(f"{name} must be {self.expected}. Received: {name}={value!r}")


IMAGE_SHAPE, MASK_VALUES, NAMES, ARGUMENTS = _ImageShape(), _MaskValues(), _Names(), _Arguments()
BATCH_SIZE = _BatchSize()


def of_kind(kind: FieldKind, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field of that kind; a mapping as default is copied for each recipe."""
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata={KIND: kind})
    return dataclasses.field(default=default, metadata={KIND: kind})


def field_kinds(recipe_type: type) -> dict[str, FieldKind]:
    """Map each field to its kind: from its metadata if given, otherwise from its annotation."""
    annotations = typing.get_type_hints(recipe_type)
    fields: Any = dataclasses.fields(recipe_type)
    return {field.name: field.metadata.get(KIND) or Plain(annotations[field.name]) for field in fields}
