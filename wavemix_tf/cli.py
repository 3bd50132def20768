"""The command ``wavemix-tf``: its process, and its verbs in the order of the help.

A verb is a function in ``command/verbs/``. It checks its arguments without loading Keras, then calls functions of
``command/`` and prints their results.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from . import __version__
from .command import terminal
from .command.command_line import CommandLine
from .command.terminal import console, one_line, suppress_tensorflow_logs
from .command.verbs.benchmark import benchmark
from .command.verbs.check import check
from .command.verbs.compare import compare
from .command.verbs.demo import demo
from .command.verbs.evaluate import evaluate
from .command.verbs.explain import explain
from .command.verbs.export import export
from .command.verbs.fit import fit
from .command.verbs.import_torch import import_torch
from .command.verbs.list import list_names
from .command.verbs.predict import predict
from .command.verbs.preset import preset
from .command.verbs.quantize import quantize
from .command.verbs.run import run
from .command.verbs.tune import tune
from .command.verbs.verify import verify
from .command.verdict import VERDICT, is_verdict

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="wavemix-tf",
    help="Train WaveMix on images and write verified TensorFlow Lite files for phones and microcontrollers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS: dict[str, Callable[..., None]] = {
    "run": run,
    "fit": fit,
    "tune": tune,
    "compare": compare,
    "quantize": quantize,
    "export": export,
    "verify": verify,
    "benchmark": benchmark,
    "check": check,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "demo": demo,
    "preset": preset,
    "list": list_names,
    "import-torch": import_torch,
}
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"wavemix-tf {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself; ``app`` has its help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: done. 1: an error. 2: wrong usage. 3: the command ran and its answer is no, see ``VERDICT``. 130: Ctrl-C.
    """
    command = typer.main.get_command(app)
    line = CommandLine(tuple(sys.argv[1:] if arguments is None else arguments))
    try:
        with suppress_tensorflow_logs(line):
            code = command.main(args=list(line.words), prog_name="wavemix-tf", standalone_mode=False, obj=line)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # Typer treats the end of any file as a Ctrl-D at a prompt
            return _fail(one_line(error.__cause__, line.verb))
        return _interrupted(line)
    except Exception as error:
        if hasattr(error, "format_message"):  # wrong arguments, found by Typer
            # Without any word, Typer has already shown the help.
            message = error.format_message()
            if not message:
                return WRONG_USAGE
            end = "" if message.endswith((".", "?", "!")) else "."
            return _fail(f"{message}{end} See: {_help_of(line.verb)}", WRONG_USAGE)
        if line.debug:
            raise
        return _fail(one_line(error, line.verb), VERDICT if is_verdict(error) else FAILED)
    return _interrupted(line) if code == INTERRUPTED else int(code or 0)


def _help_of(verb: str) -> str:
    known = verb in {command.name for command in app.registered_commands}
    return f"wavemix-tf {verb} --help" if known else "wavemix-tf --help"


def script() -> None:
    """Run ``main`` as the console script, and exit without the interpreter's cleanup.

    TensorFlow's threads may outlive the objects they use: a finished and saved training has ended in
    "free(): invalid pointer" and the exit code of a failure.
    """
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def worker_script() -> None:
    """Run ``script`` as a local worker, which exits when the process that started it is gone."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    script()


def _fail(message: str, code: int = FAILED) -> int:
    terminal.print_to_stderr(f"wavemix-tf: {message}")
    return code


def _interrupted(line: CommandLine) -> int:
    terminal.print_to_stderr("\nStopped; finished work is kept. To resume:")
    terminal.print_to_stderr(f"  {line.without('--overwrite')}")
    return INTERRUPTED


if __name__ == "__main__":
    script()
