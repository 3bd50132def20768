"""``DeviceCosts``: what an untrained network would cost on a device, for a search over architectures."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option

from .. import errors
from ..exporting.limits import check_arguments
from ..file.flatbuffer import read_file, to_input
from ..graph.graph import Graph
from ..graph.inputs import generated_values
from ..names import LATENCY_MS, MICRO, VELA
from ..runtimes.ethos import require_vela
from ..runtimes.microcontroller import require_micro
from ..targets.table import DEVICE_COSTS, FIRMWARE_COSTS, get_target
from .cost_bounds import bounds
from .latency import times_ms

WORKER = "wavemix_tf.tflite.measuring.cost_worker"
LATENCY_WARMUP, LATENCY_RUNS, LATENCY_LIMIT_S = 10, 200, 2.0
CLOSE_S = 10.0  # a worker ends at once; one that is stopped has to be killed


class DeviceCosts:
    """What a candidate network costs on a device: an architecture search's judge of what fits.

    The int8 file of the candidate is written and measured as ``export`` would, but for the weights: they are drawn, the
    same for every network of one shape, for the file is judged before anything was trained. On arena, file size and
    latency they have no influence. Vela compresses weights, so an Ethos-U's ``flash_bytes`` and, where reading weights
    takes longest, ``npu_cycles`` move a little with what training makes of them. Nothing is verified.

    The work is done by one process of its own at low priority (nice 10), which keeps TensorFlow and the device's tools
    loaded; it starts with the first measurement and ends with ``close``, with this object or with this process,
    however that ends. Only the model's configuration is sent to it. Results are kept: the same configuration, whatever
    the model's name, is measured once. Latency is this machine's, of one inference at batch 1 on one thread, p50, taken
    in this process when nothing of this object's is under way.

    Args:
        target: Key of ``TARGETS``. "mcu" has ``arena_bytes`` and ``flash_bytes`` (of the file alone, in the upsample
            form with the smaller arena, as ``export`` chooses without limits), and by name ``firmware_bytes`` and
            ``firmware_reference_bytes``: the file and the most that the program which runs it was measured to add,
            with CMSIS-NN or with the reference kernels; an Ethos-U ``npu_cycles``, ``sram_bytes`` and ``flash_bytes``
            (of the compiled file alone); "android-cpu" ``latency_ms`` and ``file_bytes``.
        names: Which of these; None: all but those of firmware.
        accelerator: Which Ethos-U to compile for, as "ethos-u55-128"; None: the first of the target's list.

    Attributes:
        names: What a call returns, in this order.
        identity: Device and names, which tell the costs of one object from another's.

    Raises:
        ValueError: unknown target, one without costs that can be told here, unknown names or accelerator.
        ExportError: what measures is not installed: Vela, or the interpreter of TensorFlow Lite Micro.

    Example:
    >>> with wm.tflite.DeviceCosts("mcu") as costs:
    ...     costs(wm.WaveMixClassifier(10, (32, 32, 3), width=16, depth=4))
    {'arena_bytes': ..., 'flash_bytes': ...}
    """

    def __init__(self, target: str, names: Sequence[str] | None = None, *, accelerator: str | None = None) -> None:
        row = get_target(target)
        if target not in DEVICE_COSTS:
            raise ValueError(
                f"target must be one whose costs can be told here: {', '.join(DEVICE_COSTS)}. "
                f"Received: target={target!r}"
            )
        known = (*DEVICE_COSTS[target], *FIRMWARE_COSTS.get(target, ()))
        chosen = DEVICE_COSTS[target] if names is None else names
        if isinstance(chosen, str) or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"names must be some of {', '.join(known)}, each once. Received: names={names!r}")
        for name in chosen:
            check_option("names", name, known)
        check_arguments(target, row, None, None, accelerator)
        if row.tool == VELA:
            require_vela()
        elif row.tool == MICRO:
            require_micro()
        self.target = target
        self.identity = f"{target}/{accelerator or ''}/{','.join(chosen)}"
        self.names = tuple(chosen)
        self.accelerator = accelerator or next(iter(row.accelerators), None)
        self._row = row
        self._lock = threading.RLock()
        self._worker: _Worker | None = None
        self._pending: dict[str, dict[str, Any]] = {}  # configuration -> request, in the order they were sent
        self._answers: dict[str, dict[str, Any]] = {}

    def __call__(self, model: Any) -> dict[str, float]:
        """Measure, or wait for what ``start`` began.

        Args:
            model: Functional Keras model, float, built of layers of Keras and this package; its weights do not matter.

        Returns:
            Cost by name.

        Raises:
            ExportError: the target cannot run the network: it has no int8 form, the converter, the target's rules, its
                compiler or its runtime refused the file, or the worker ended abnormally over it.
            RuntimeError: the worker could not be started, or failed for a reason that is not the network's.
        """
        with self._lock:
            key = self._request(model)
            self._wait(key)
            found = self._answers[key]
            if "kind" in found:
                if found["kind"]:
                    raise getattr(errors, found["kind"])(found["message"])
                raise RuntimeError(f"Measuring {model.name!r} for target {self.target!r} failed: {found['message']}")
            if LATENCY_MS in self.names and LATENCY_MS not in found["costs"]:
                for other in list(self._pending):
                    self._wait(other)  # the worker would disturb the timing
                found["costs"][LATENCY_MS] = _latency_ms(base64.b64decode(found["content"]))
                del found["content"]
            return {name: float(found["costs"][name]) for name in self.names}

    def start(self, model: Any) -> None:
        """Begin to measure in the background, so that calling with the same network later is quick.

        What must be timed on a quiet machine, ``latency_ms``, is not: of it only the file is written.

        Args:
            model: As for calling. What is wrong with it is told by the call.
        """
        with self._lock, contextlib.suppress(errors.ExportError):
            self._request(model)

    def bounds(self, model: Any) -> dict[str, tuple[float, float]]:
        """What the costs lie between, without measuring: in milliseconds, or tenths of a second for other networks.

        Lower bounds hold whatever the tools do, or are 0.0: constants that the file must have, tensors that must be in
        memory at one time, products that the NPU's multipliers must make. Upper bounds are estimates with a margin,
        for a ``WaveMixClassifier``. They are infinite for latency and for other networks, whose lower bounds are read
        from the graph that ``export`` would convert.

        Args:
            model: As for calling.

        Returns:
            (low, high) by name.

        Example:
        >>> low, high = costs.bounds(model)["flash_bytes"]
        >>> if low > budget: ...    # does not fit: no need to measure
        """
        found = bounds(model, self.target, self._row, self.accelerator)
        return {name: found[name] for name in self.names}

    def close(self) -> None:
        """End the worker and what it was doing; results are kept, and a later call starts another."""
        with self._lock:
            if self._worker is not None:
                self._worker.close()
            self._worker = None
            self._pending.clear()

    def __enter__(self) -> DeviceCosts:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _request(self, model: Any) -> str:
        """Ask the worker for a network, once; returns its key."""
        Graph.check(model)
        saved = keras.saving.serialize_keras_object(model)
        saved.pop("compile_config", None)  # of an optimizer and losses the file knows nothing
        # Networks that differ in the number that Keras gives their name are the same.
        unnamed = {**saved, "config": {key: part for key, part in saved["config"].items() if key != "name"}}
        key = json.dumps(unnamed, sort_keys=True)
        if key not in self._answers and key not in self._pending:
            request = {
                "id": key,
                "model": saved,
                "target": self.target,
                "accelerator": self.accelerator,
                "content": LATENCY_MS in self.names,
            }
            self._pending[key] = request
            if self._worker is None:
                self._start_worker()
            else:
                self._worker.send(request)
        return key

    def _start_worker(self) -> None:
        self._worker = _Worker()
        weakref.finalize(self, self._worker.close)
        for request in self._pending.values():
            self._worker.send(request)

    def _wait(self, key: str) -> None:
        while key not in self._answers:
            if self._worker is None:
                self._start_worker()
                continue
            answer = self._worker.receive()
            if answer is None:
                words, ready = self._worker.exit_message(), self._worker.ready
                self._worker.close()
                self._worker = None
                if not ready:  # no network's fault
                    self._pending.clear()
                    raise RuntimeError(f"The process that measures device costs could not be started: {words}")
                first = next(iter(self._pending))  # what it was at
                del self._pending[first]
                message = f"The process that measures device costs ended over this network: {words}"
                self._answers[first] = {"kind": "RuntimeFailureError", "message": message}
                if self._pending:
                    self._start_worker()
            else:
                del self._pending[answer["id"]]
                self._answers[answer.pop("id")] = answer


def _latency_ms(content: bytes) -> float:
    info = read_file(content)
    inputs = [to_input(part, generated_values(part.shape[1:], (0.0, 1.0), count=1)) for part in info.inputs]
    return float(np.percentile(times_ms(content, inputs, 1, LATENCY_WARMUP, LATENCY_RUNS, LATENCY_LIMIT_S), 50))


class _Worker:
    """The process of ``cost_worker``."""

    def __init__(self) -> None:
        # A pipe that nobody reads would fill up.
        self._output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}  # the GPU is for training
        self._process: Any = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
            start_new_session=True,  # a group of its own, which it ends with itself; and Ctrl-C is its caller's
            env={**os.environ, **threads, **quiet, "KERAS_BACKEND": "tensorflow"},
        )
        self.ready = False

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def send(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it ended: ``receive`` tells
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any] | None:
        """The next answer; None if the process ended."""
        if not self.ready:
            self.ready = bool(self._process.stdout.readline())
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def exit_message(self) -> str:
        """How the process ended and what it said last."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._output.seek(0)
        lines = [line.strip() for line in self._output if line.strip() and not line.startswith(("I0000", "W0000"))]
        return f"{how}, {lines[-1] if lines else 'without a word'}"

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._output.close()
