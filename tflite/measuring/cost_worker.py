"""Process that measures candidates for ``DeviceCosts``, with TensorFlow and the device's tools loaded once.

Requests are lines of JSON on stdin, {"id", "model": a Keras configuration, "target", "accelerator", "content": whether
to return the file}; answers are lines on stdout, first {"ready": true}, then in the order of the requests
{"id", "costs": {...}, "content": base64 or null} or {"id", "kind": an error's class, "message"}. Only the configuration
of a model is sent, and read by ``keras.saving`` in safe mode: no weights, no code.

When stdin ends, because its caller closed it or ended, the process ends at once with its children.

Usage: python -m wavemix_tf.tflite.measuring.cost_worker
"""

from __future__ import annotations

import base64
import gc
import json
import os
import queue
import signal
import sys
import threading
from typing import Any

import keras

from ..errors import ExportError
from ..runtimes.processes import Runner, fastest_runner
from ..targets.table import get_target
from .candidate import measure

NICENESS = 10  # training has priority


def measure_candidate(request: dict[str, Any], runners: dict[str, Runner]) -> dict[str, Any]:
    """The answer to one request."""
    row = get_target(request["target"])
    tool = row.tool
    try:
        if tool is not None and tool not in runners:
            runners[tool] = fastest_runner(tool)
        model = keras.saving.deserialize_keras_object(request["model"], safe_mode=True)
        costs, content = measure(model, request["target"], request["accelerator"], runners.get(str(tool)))
    except ExportError as error:
        return {"id": request["id"], "kind": type(error).__name__, "message": str(error)}
    except Exception as error:
        return {"id": request["id"], "kind": "", "message": f"{type(error).__name__}: {error}"}
    text = base64.b64encode(content).decode() if request["content"] else None
    return {"id": request["id"], "costs": costs, "content": text}


def _read(requests: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries is not an answer
    if hasattr(os, "nice"):
        os.nice(max(0, NICENESS - os.nice(0)))
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    gc.collect()
    gc.freeze()  # objects of the libraries need no garbage collection after each candidate
    runners: dict[str, Runner] = {}
    while True:
        print(json.dumps(measure_candidate(json.loads(requests.get()), runners)), file=answers, flush=True)
        keras.backend.clear_session()
        gc.collect()


if __name__ == "__main__":
    main()
