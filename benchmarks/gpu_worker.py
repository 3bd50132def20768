"""One contender of gpu.py, which starts this script: trains one network at the batch sizes that it is asked for.

A request is {"batch": images, "seconds": length of a run}. The answer has the throughput and the peak memory of that
batch, or {"out_of_memory": true}. This file must not import TensorFlow: the machine need not have it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
from nets import (
    NETS,
    checkpoint_official_blocks,
    import_official,
    keep_official_dwt_in_float32,
    official_classifier,
)
from side_by_side import PeakMemory, serve
from training_worker import LEARNING_RATE, WEIGHT_DECAY

BATCHES = 2  # different batches in turn, in the host's memory; each step copies its batch to the device
WARM_UP_STEPS = 3  # the first compiles
RUNS = 3
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "OUT_OF_MEMORY")

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def config_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the network: those of its name, overridden by ``config``."""
    return {**NETS[arguments["net"]].config, **arguments.get("config", {})}


def data(config: dict[str, Any], batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`BATCHES` batches of (images float32 (B, H, W, C), labels int64 (B,))."""
    random = np.random.default_rng(0)
    shape = (batch, *config["image_shape"])
    return [
        (random.random(shape, dtype="float32"), random.integers(0, config["num_classes"], batch))
        for _ in range(BATCHES)
    ]


def throughput(run: Callable[[int], float], batch: int, seconds: float) -> dict[str, Any]:
    """Images per second of `RUNS` runs; `run` trains some steps and returns their wall-clock seconds."""
    start = time.perf_counter()
    run(WARM_UP_STEPS)
    first_s = time.perf_counter() - start
    steps = max(2, round(seconds / (run(2) / 2)))
    rates = [batch * steps / run(steps) for _ in range(RUNS)]
    return {"images_per_s": median(rates), "runs": rates, "first_steps_s": first_s}


def answering(measure: Callable[[int, float], dict[str, Any]]) -> Answer:
    """Turn lack of device memory, alone of all errors, into an answer."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        try:
            return measure(request["batch"], request["seconds"])
        except Exception as error:
            if not any(words in str(error) for words in OUT_OF_MEMORY):
                raise
            return {"out_of_memory": True}

    return answer


def official(arguments: dict[str, Any]) -> Answer:
    """The official package in a plain PyTorch loop with cross-entropy and fused AdamW."""
    import torch

    import_official()
    device = "cuda" if arguments["device"] == "gpu" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("--device gpu requires a GPU that PyTorch sees. Received: torch.cuda.is_available()=False")
    torch.set_float32_matmul_precision("high")  # TF32, as XLA uses by default
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(arguments["memory_share"])
    memory = PeakMemory()
    config = config_of(arguments)
    if arguments["bfloat16"]:
        keep_official_dwt_in_float32()
    layout = torch.channels_last if arguments["channels_last"] else torch.contiguous_format
    model = official_classifier(config).train().to(device, memory_format=layout)
    if arguments.get("checkpoint"):
        checkpoint_official_blocks(model)
    if arguments.get("compile"):
        # A graph for each batch size, as ours has: dynamic shapes would be slower. The package's functions need more
        # than the default of eight graphs; beyond it PyTorch would run them uncompiled.
        torch._dynamo.config.recompile_limit = 64
        model = torch.compile(model, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def measure(batch: int, seconds: float) -> dict[str, Any]:
        held = []
        for images, labels in data(config, batch):
            x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout)
            pair = x, torch.from_numpy(labels)
            held.append([part.pin_memory() for part in pair] if device == "cuda" else pair)
        batches = itertools.cycle(held)

        def step() -> None:
            x, y = (part.to(device, non_blocking=True) for part in next(batches))
            optimizer.zero_grad()
            with torch.autocast(device, dtype=torch.bfloat16, enabled=arguments["bfloat16"]):
                logits = model(x)
            torch.nn.functional.cross_entropy(logits.float(), y).backward()
            optimizer.step()

        def run(steps: int) -> float:
            start = time.perf_counter()
            for _ in range(steps):
                step()
            if device == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - start

        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found = throughput(run, batch, seconds)
        if device == "cuda":
            limit = torch.cuda.mem_get_info()[1] * arguments["memory_share"] / 2**20
            found |= {"peak_mib": torch.cuda.max_memory_allocated() / 2**20, "limit_mib": limit}
            return found | {"device": torch.cuda.get_device_name(), "versions": {"torch": torch.__version__}}
        found |= {"peak_mib": memory.report()["over_baseline_mib"], "limit_mib": None}
        return found | {"device": "cpu", "versions": {"torch": torch.__version__}}

    return answering(measure)


def ours(arguments: dict[str, Any]) -> Answer:
    """Our classifier under `model.fit` of Keras on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    import wavemix_tf as wm

    device = jax.devices()[0]
    if (arguments["device"] == "gpu") != (device.platform in ("gpu", "cuda", "rocm")):
        raise RuntimeError(
            f"--device must be the one that JAX uses. Received: {arguments['device']}, {device.platform}"
        )
    memory = PeakMemory()
    keras.config.set_dtype_policy(arguments["policy"])
    config = config_of(arguments)
    model = wm.WaveMixClassifier(**config, recompute=arguments["recompute"])
    model.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    versions = {"jax": jax.__version__, "keras": keras.__version__}

    class Clock(keras.callbacks.Callback):
        """Time of an epoch: Keras reads the loss at its end, and so waits for the device."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds = time.perf_counter() - self.start

    clock = Clock()

    def measure(batch: int, seconds: float) -> dict[str, Any]:
        held = itertools.cycle(data(config, batch))

        def batches() -> Iterator[Any]:
            for images, labels in held:
                yield jax.device_put(images), jax.device_put(labels)  # asynchronous

        def run(steps: int) -> float:
            model.fit(batches(), steps_per_epoch=steps, callbacks=[clock], verbose=0)
            return clock.seconds

        found = throughput(run, batch, seconds)
        stats = device.memory_stats()
        if stats:
            found |= {"peak_mib": stats["peak_bytes_in_use"] / 2**20, "limit_mib": stats["bytes_limit"] / 2**20}
        else:  # JAX counts no memory on a CPU
            found |= {"peak_mib": memory.report()["over_baseline_mib"], "limit_mib": None}
        return found | {"device": device.device_kind, "versions": versions}

    return answering(measure)


if __name__ == "__main__":
    serve(lambda arguments: (ours if arguments["side"] == "ours" else official)(arguments))
