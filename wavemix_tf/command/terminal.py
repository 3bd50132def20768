"""Terminal output of the command: one-line errors, suppressed library logs, announced steps."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, ConsoleDimensions
from rich.table import Table
from rich.text import Text

from ..escaping import printable
from ..progress import showing
from ..training.recipe import Recipe
from ..warning import WavemixWarning
from .command_line import CommandLine, shell

UNWRAPPED = 10_000  # characters per line where the output is no terminal


class PlainConsole(Console):
    """Print every text unchanged: without markup or emoji, control characters as escapes.

    Output to a pipe or a file is not wrapped, so that paths stay whole. For styled text see ``styled``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)
        self.noted: set[str] = set()  # notes already printed

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape control characters in everything that is printed, including table cells."""
        return super().render_str(printable(text, lines=True), **options)

    def status(self, status: Any, **options: Any) -> Any:
        """Pass the status as ``Text``: Rich would parse brackets in it as markup."""
        return super().status(Text(printable(status)) if isinstance(status, str) else status, **options)

    @property  # type: ignore[misc] # Rich's property has a setter, which is not used
    def size(self) -> ConsoleDimensions:
        """Size of the terminal, if there is one."""
        found = super().size
        return found if self.is_terminal else ConsoleDimensions(UNWRAPPED, found.height)


console = PlainConsole()
LONGEST_MESSAGE = 1000  # characters; some errors list every tensor of a network
BOUNDS = ("min_snr_db", "min_agreement", "allow_unjudged")  # arguments of the library's `export`, and options
EXPORT_OPTIONS = (
    *(*BOUNDS, "max_arena_bytes", "max_flash_bytes", "max_firmware_bytes", "io_dtype", "min_runtime(?==)"),
    "accelerator(?==)",
)
NO_OPTIONS = ("upsample_form", "class_names", "error_bound_steps")  # the command has none for these
VALUE = r"'[^']*'|\(\)|-?[\w.,]*\w"


def one_line(error: Exception, verb: str = "") -> str:
    """Return an error's first paragraph in one line, with the options of ``verb`` instead of Python arguments."""
    paragraph = str(error).strip().split("\n\n")[0]
    text = as_options(" ".join(paragraph.split()), verb)
    if not isinstance(error, (ValueError, OSError, ImportError)) or not text:
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + " ... (--debug shows all)"


def as_options(text: str, verb: str = "", exporting: Sequence[str] = ()) -> str:
    """Replace Python arguments in a message by options of the command, e.g. ``on_bad_image='skip'`` by ``--set``.

    The text after "Received:" stays unchanged, except for options of ``export`` and advice after a last semicolon. In
    another verb the options of ``export`` are given as an ``export`` command.

    Args:
        text: A message of the library.
        verb: The running verb.
        exporting: Options of the ``export`` command for the file that the message is about.
    """
    advice, received, rest = text.partition(" Received: ")
    rest, semicolon, last = rest.rpartition("; ") if "; " in rest else (rest, "", "")
    fields = "|".join(field.name for field in dataclasses.fields(Recipe))

    def option(match: re.Match[str]) -> str:
        name, value = match.group(1), match.group(2).strip("'")
        value = {"True": "true", "False": "false", "None": "none"}.get(value, value)
        return f"--set {name}={shlex.quote(value)}"

    def translated(part: str) -> str:
        part = re.sub(r"(?<!-)\boverwrite=True\b", "--overwrite", part)
        # Not in a path, such as runs/seed=1.
        part = re.sub(rf"(?<!--set )(?<![\w./,-])({fields})=(True|False|None|'[^']*'|[\w.-]*\w)(?!/)", option, part)
        return re.sub(rf"(?<![\w.])({'|'.join(NO_OPTIONS)})=({VALUE})(?! in Python)", r"\g<0> in Python", part)

    return _export_options(translated(advice) + received + rest + semicolon + translated(last), verb, exporting)


def _export_options(text: str, verb: str, exporting: Sequence[str]) -> str:
    """Write ``allow_unjudged=True`` as ``--allow-unjudged``, ``max_flash_bytes=9`` as ``--max-flash-bytes 9``."""
    exports = verb == "export"

    def option(match: re.Match[str]) -> str:
        name, value = match.group(1), (match.group(2) or "").strip("'")
        shown = f"--{name.replace('_', '-')}{f' {value}' if value not in ('', 'True') else ''}"
        return shown if exports else f"`{shell('export', *exporting)} {shown}`"

    names = EXPORT_OPTIONS if exports else BOUNDS
    return re.sub(rf"(?<![\w./=-])({'|'.join(names)})(?:=({VALUE}))?(?![\w=])", option, text)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Join texts, each plain or (text, style): ``styled(("done", "bold"), ": all")``."""
    return Text.assemble(*(printable(p, True) if isinstance(p, str) else (printable(p[0], True), p[1]) for p in parts))


def headline(title: str) -> None:
    """Announce a step."""
    console.print(styled(("▸", "bold cyan"), " ", (title, "bold")))


def print_to_stderr(text: str) -> None:
    """Print a line on standard error."""
    print(printable(text, lines=True), file=sys.stderr, flush=True)


def announce_loading() -> None:
    """Report on standard error that TensorFlow is loading, which takes some seconds."""
    if "tensorflow" not in sys.modules and sys.stderr.isatty():
        print_to_stderr("Loading TensorFlow ...")


@contextmanager
def suppress_tensorflow_logs(line: CommandLine) -> Iterator[None]:
    """Hide the logs of TensorFlow, absl and XNNPACK; print warnings of this package as notes."""
    if line.debug:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).addFilter(_errors_only)  # a filter stays active when the library sets its own level
    stream, kept = sys.stderr, os.dup(2)
    try:
        # Native libraries write to the file descriptor, so redirect it; Python keeps a copy of the terminal's.
        if _descriptor(stream) == 2:
            sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", category=UserWarning, module=r"wavemix_tf\b")  # Keras's warnings
            warnings.filterwarnings("default", category=WavemixWarning)
            warnings.showwarning = lambda message, *_: note(as_options(str(message), line.verb))
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        sys.stderr = stream


@contextmanager
def advising_export(line: CommandLine, exporting: Sequence[str]) -> Iterator[None]:
    """Make warnings inside advise the options of ``export`` for one file, see ``as_options``."""
    if line.debug:
        yield
        return
    shown = warnings.showwarning
    warnings.showwarning = lambda message, *_: note(as_options(str(message), line.verb, exporting))
    try:
        yield
    finally:
        warnings.showwarning = shown


def note(text: str) -> None:
    """Print a note on standard error; each text only once."""
    if text not in console.noted:
        console.noted.add(text)
        print_to_stderr(f"note: {text}")


def _errors_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _descriptor(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def grid(*columns: str) -> Table:
    """Return a table whose first column is never wrapped."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, style="bold" if index == 0 else "")
    return table


@contextmanager
def status(title: str) -> Iterator[None]:
    """Show a title on a terminal, with what the library reports after it, until the block ends."""
    with console.status(title) as line, showing(lambda text: line.update(Text(printable(f"{title}: {text}")))):
        yield


@contextmanager
def step(title: str, seconds: dict[str, float]) -> Iterator[None]:
    """Announce a step and record its time."""
    headline(title)
    started = time.perf_counter()
    yield
    seconds[title] = round(time.perf_counter() - started, 2)
