"""Escape user text for terminals and Markdown."""

from __future__ import annotations

import re
import unicodedata

# Marks that change the text direction, so that a name is displayed as another.
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NOT_SHOWN = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control characters, surrogates, line separators
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w))")  # an underscore inside a word is plain text


def printable(text: str, lines: bool = False) -> str:
    r"""Return ``text`` with every terminal control character written as an escape, such as ``\x1b``.

    File names may contain any character: a name must not clear the screen, move the cursor or hide text.

    Args:
        text: Any text; bytes of a path that are not UTF-8 (surrogates) become ``\xff``.
        lines: Whether to keep line ends.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(char, lines) for char in text)


def _shown(char: str, lines: bool) -> str:
    if lines and char == "\n":
        return char
    if char not in _DIRECTION_MARKS and unicodedata.category(char) not in _NOT_SHOWN:
        return char
    if "\udc80" <= char <= "\udcff":  # Python's form of a byte of a path that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    return known or (f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}")


def markdown(text: object) -> str:
    """Escape ``text`` for Markdown: no emphasis, link, table cell, heading or HTML."""
    return _MARKDOWN.sub(r"\\\1", printable(str(text)))


def markdown_code(text: object) -> str:
    """Return ``text`` as a Markdown code span, also valid in a table cell."""
    shown = printable(str(text)).replace("|", "\\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"
