"""keras-tuner's chief and workers: one process chooses the trials, others train them, and any of them may be killed.

keras-tuner's environment variables set the role of a process: ``KERASTUNER_TUNER_ID`` ("chief", or a different name for
each worker), ``KERASTUNER_ORACLE_IP`` and ``KERASTUNER_ORACLE_PORT`` of the chief. This module adds a heartbeat: the
trial of a silent worker goes to another worker. The chief ends when all trials have ended, even if workers are missing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

ALIVE_S = 2.0  # between a worker's heartbeats
SILENT_S = 20.0  # a worker without a heartbeat for so long loses its trial
POLL_S = 0.5
LINGER_S = 5.0  # how long the chief answers late workers
CONNECT_S = 120.0  # how long a worker waits for its chief
THREADS = 8  # threads of the server: measuring a candidate must not block heartbeats


def role() -> str | None:
    """The role of this process: "chief", "worker", or None in a search with one process."""
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return None
    return "chief" if "chief" in os.environ.get("KERASTUNER_TUNER_ID", "") else "worker"


@contextlib.contextmanager
def process_environment(name: str, address: str, worker: str) -> Iterator[None]:
    """Set keras-tuner's environment variables for this process, and restore them at the end.

    Args:
        name: "chief" or "worker".
        address: "host:port" of the chief.
        worker: Name of this worker, different for each.

    Raises:
        ValueError: unknown role, invalid address, or a worker's name that keras-tuner takes for the chief's.
    """
    host, colon, port = address.rpartition(":")
    if name not in ("chief", "worker"):
        raise ValueError(f"role must be 'chief' or 'worker'. Received: role={name!r}")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"The chief's address must be HOST:PORT. Received: address={address!r}")
    if "chief" in worker:
        raise ValueError(f"A worker's name must not contain 'chief'. Received: name={worker!r}")
    given = {
        "KERASTUNER_ORACLE_IP": host,
        "KERASTUNER_ORACLE_PORT": port,
        "KERASTUNER_TUNER_ID": "chief" if name == "chief" else worker,
    }
    before = {key: os.environ.get(key) for key in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def serve(oracle: Any, on_event: Callable[[], None]) -> None:
    """Answer workers until every trial has ended.

    Args:
        oracle: One of ``oracles``.
        on_event: Called a few times per second; an exception from it ends the search.
    """
    import grpc

    from .keras_tuner_internals import add_to_server, has_stopped

    host, port = os.environ["KERASTUNER_ORACLE_IP"], os.environ["KERASTUNER_ORACLE_PORT"]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS))
    servicer = add_to_server(oracle, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise ValueError(f"The chief's address must be free, on this machine. Received: address={host}:{port}")
    server.start()
    ended: float | None = None
    try:
        while ended is None or (oracle.tuner_ids and time.monotonic() - ended < LINGER_S):
            time.sleep(POLL_S)
            oracle.requeue_silent(SILENT_S)
            on_event()
            waiting = oracle.retry_queue and oracle.halted is None
            if has_stopped(servicer) and not oracle.ongoing_trials and not waiting:
                ended = ended or time.monotonic()
    finally:
        server.stop(grace=1.0).wait()


def wait_for_chief() -> None:
    """Wait for the chief; ValueError if there is none (keras-tuner waits for an hour and exits without a message)."""
    import grpc

    address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=CONNECT_S)
        except grpc.FutureTimeoutError:
            raise ValueError(f"A worker requires a running chief. Received: none at address={address}") from None


@contextlib.contextmanager
def heartbeat(oracle: Any, trial_id: str) -> Iterator[None]:
    """Send heartbeats to the chief while this worker's trial runs."""
    if role() != "worker":
        yield
        return
    done = threading.Event()

    def call() -> None:
        while not done.wait(ALIVE_S):
            try:
                oracle.get_trial(trial_id)
            except Exception:  # the chief may be restarting
                continue

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()  # the thread is not joined: it may be waiting for a chief that has ended
