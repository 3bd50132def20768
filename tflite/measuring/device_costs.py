"""``DeviceCosts``: the costs of an untrained network on a device, for an architecture search."""

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
from ..targets.table import DEVICE_COSTS, NAMED_COSTS, get_target
from .cost_bounds import bounds
from .latency import times_ms

WORKER = "wavemix_tf.tflite.measuring.cost_worker"
LATENCY_WARMUP, LATENCY_RUNS, LATENCY_LIMIT_S = 10, 200, 2.0
CLOSE_S = 10.0  # a worker ends at once; a suspended one must be killed


class DeviceCosts:
    """Costs of a candidate network on a device, for an architecture search with a budget.

    The int8 file of the candidate is written and measured as in ``export``, but with random weights, the same for every
    network of one shape, because nothing is trained yet. Weights have no influence on arena, file size and latency.
    Vela compresses weights, so training changes an Ethos-U's ``flash_bytes`` a little, and ``npu_cycles`` where reading
    weights takes longest. Nothing is verified.

    A separate process at low priority (nice 10) does the work and keeps TensorFlow and the device's tools loaded. It
    starts with the first measurement and ends with ``close``, with this object or with this process, however that ends.
    Only the model's configuration is sent to it. Results are cached: the same configuration, whatever the model's name,
    is measured once. Latency is that of this machine: one inference at batch 1 on one thread, p50, timed in this
    process while the worker is idle.

    Args:
        target: Key of ``TARGETS``. "mcu" has ``arena_bytes`` and ``flash_bytes`` (of the file only, in the upsample
            form with the smaller arena, as ``export`` chooses without limits), and if named ``firmware_bytes`` and
            ``firmware_reference_bytes``: the file and the program that runs it with CMSIS-NN or with the reference
            kernels, estimated from the ops. "c" has ``ram_bytes`` (arena, inputs, outputs and stack of the
            program) and ``flash_bytes`` (the program with its constants), and if named ``arena_bytes``. Both have
            ``instructions`` if named: of an inference on a Cortex-M4 (with CMSIS-NN), an estimate. An Ethos-U has
            ``npu_cycles``, ``sram_bytes`` and ``flash_bytes`` (of the compiled file only); "android-cpu"
            ``latency_ms`` and ``file_bytes``.
        names: Which of these; None: all except those that must be named.
        accelerator: Which Ethos-U to compile for, as "ethos-u55-128"; None: the first of the target's list.

    Attributes:
        names: Names of the costs that a call returns, in this order.
        identity: Device and names, which distinguish the costs of different objects.

    Raises:
        ValueError: unknown target, one without measurable costs, unknown names or accelerator.
        ExportError: a required tool is not installed: Vela, or the interpreter of TensorFlow Lite Micro.

    Example:
    >>> with wm.tflite.DeviceCosts("mcu") as costs:
    ...     costs(wm.WaveMixClassifier(10, (32, 32, 3), width=16, depth=4))
    {'arena_bytes': ..., 'flash_bytes': ...}
    """

    def __init__(self, target: str, names: Sequence[str] | None = None, *, accelerator: str | None = None) -> None:
        row = get_target(target)
        if target not in DEVICE_COSTS:
            raise ValueError(
                f"target must be one with measurable costs: {', '.join(DEVICE_COSTS)}. Received: target={target!r}"
            )
        known = (*DEVICE_COSTS[target], *NAMED_COSTS.get(target, ()))
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
        """Measure, or wait for the result of ``start``.

        Args:
            model: Functional Keras model, float, of layers of Keras and this package; its weights do not matter.

        Returns:
            Cost by name.

        Raises:
            ExportError: the target cannot run the network: it has no int8 form, the converter, the target's rules, its
                compiler or its runtime refused the file, or the worker crashed on it.
            RuntimeError: the worker could not be started, or failed for a reason unrelated to the network.
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
        """Start a measurement in the background, so that calling with the same network later is fast.

        ``latency_ms`` needs a quiet machine and is not measured; only its file is written.

        Args:
            model: As for calling. Its errors are raised by the call.
        """
        with self._lock, contextlib.suppress(errors.ExportError):
            self._request(model)

    def bounds(self, model: Any) -> dict[str, tuple[float, float]]:
        """Bounds of the costs without measuring: in milliseconds, or tenths of a second for other networks.

        Lower bounds are certain, or 0.0: constants that the file must have, tensors that must be in memory at one
        time, products that the NPU's multipliers must compute. Upper bounds are estimates with a margin, for a
        ``WaveMixClassifier``. They are infinite for latency and for other networks, whose lower bounds are read from
        the graph that ``export`` would convert.

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
        """End the worker and its measurement; results are kept, and a later call starts a new worker."""
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
        """Send a network to the worker, once; returns its key."""
        Graph.check(model)
        saved = keras.saving.serialize_keras_object(model)
        saved.pop("compile_config", None)  # the file does not depend on optimizer and losses
        # Networks that differ only in the number that Keras appends to their name are the same.
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
                if not ready:  # not caused by a network
                    self._pending.clear()
                    raise RuntimeError(f"The process that measures device costs could not be started: {words}")
                first = next(iter(self._pending))  # the one in progress
                del self._pending[first]
                message = f"The process that measures device costs crashed on this network: {words}"
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
        # An unread pipe would fill up.
        self._output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")}
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}  # the GPU is reserved for training
        self._process: Any = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
            start_new_session=True,  # its own process group, which it ends with itself; Ctrl-C goes only to the caller
            env={**os.environ, **threads, **quiet, "KERAS_BACKEND": "tensorflow"},
        )
        self.ready = False

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def send(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it ended: ``receive`` reports that
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any] | None:
        """The next answer; None if the process ended."""
        if not self.ready:
            self.ready = bool(self._process.stdout.readline())
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def exit_message(self) -> str:
        """How the process ended, and its last line of output."""
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._output.seek(0)
        lines = [line.strip() for line in self._output if line.strip() and not line.startswith(("I0000", "W0000"))]
        return f"{how}, {lines[-1] if lines else 'without output'}"

    def close(self) -> None:
        """End the process, even in the middle of a measurement."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._output.close()
