"""Server that loads a tool once and runs it in a forked process for each request: no start-up time for each run.

TensorFlow Lite Micro may end its process, and a compiler keeps state; neither may affect the caller. Imports nothing of
this package. Requests are lines of JSON on stdin, {"folder": where the tool's output goes, "arguments": [...]}; answers
are lines on stdout, {"returncode": ...}. Ends with its stdin.

Usage: fork_server.py tflite-micro|vela
"""

import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

FOLDER = os.path.dirname(os.path.abspath(__file__))
LIMIT_S = 1800  # limit of one request
Tool = Callable[[Sequence[str]], int | None]  # command line arguments -> exit status; None is 0


def load(tool: str) -> Tool:
    """The tool as a function of its command line arguments."""
    if tool == "vela":
        from ethosu.vela.vela import main

        return main
    import numpy as np  # noqa: F401
    from tflite_micro.python.tflite_micro import runtime  # noqa: F401

    worker = runpy.run_path(os.path.join(FOLDER, "micro_worker.py"))
    return lambda arguments: worker["main"](*arguments)


def run(tool: Tool, request: Mapping[str, Any]) -> NoReturn:
    """In the forked process: run the tool with its output in files, and exit."""
    code = 1
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            with open(os.path.join(request["folder"], name), "wb") as file:
                os.dup2(file.fileno(), number)
        signal.alarm(LIMIT_S)
        code = tool(request["arguments"]) or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # only answers may go to the original stdout
    tool = load(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(tool, json.loads(line))
        _, status = os.waitpid(child, 0)
        print(json.dumps({"returncode": os.waitstatus_to_exitcode(status)}), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the names of its modules must not shadow others
    main(sys.argv[1])
