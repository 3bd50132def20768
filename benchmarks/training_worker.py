"""One contender of training_step.py, which starts this script: trains one network, see side_by_side.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nets import (
    NETS,
    NETS_BY_SIZE,
    checkpoint_official_blocks,
    import_official,
    keep_official_dwt_in_float32,
    official_classifier,
)
from side_by_side import PeakMemory, cpu_seconds, serve, times_ms

BATCHES = 4  # different batches in turn, in memory
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
WARM_UP_STEPS = 3

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def config_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the network: those of its name, overridden by ``config``."""
    return {**(NETS | NETS_BY_SIZE)[arguments["net"]].config, **arguments.get("config", {})}


def data(arguments: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(BATCHES * batch, H, W, C) images and labels."""
    config, count = config_of(arguments), BATCHES * arguments["batch"]
    random = np.random.default_rng(0)
    images = random.random((count, *config["image_shape"]), dtype="float32")
    return images, random.integers(0, config["num_classes"], count)


def official(arguments: dict[str, Any]) -> Answer:
    """The official package in a plain PyTorch loop with cross-entropy and fused AdamW, the fastest form on CPUs."""
    import torch

    import_official()
    torch.set_num_threads(arguments["threads"])
    images, labels = data(arguments)
    layout = torch.channels_last if arguments["channels_last"] else torch.contiguous_format
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(memory_format=layout).split(arguments["batch"])
    y = torch.from_numpy(labels).split(arguments["batch"])
    del images
    memory = PeakMemory()  # without the images, which a training would not hold
    if arguments["bfloat16"]:
        keep_official_dwt_in_float32()
    model = official_classifier(config_of(arguments)).train().to(memory_format=layout)
    if arguments.get("checkpoint"):
        checkpoint_official_blocks(model)
    if arguments.get("compile"):
        model = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    steps = 0

    def step() -> None:
        nonlocal steps
        batch = steps % BATCHES
        steps += 1
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments["bfloat16"]):
            logits = model(x[batch])
        torch.nn.functional.cross_entropy(logits.float(), y[batch]).backward()
        optimizer.step()

    for _ in range(WARM_UP_STEPS):
        step()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        start = cpu_seconds()
        found = times_ms(step, request["seconds"])
        return {"times_ms": found, "cpu_ms": (cpu_seconds() - start) * 1e3 / len(found), "memory": memory.report()}

    return answer


def ours(arguments: dict[str, Any]) -> Answer:
    """Our classifier under `model.fit`, including callbacks and input pipeline."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    import wavemix_tf as wm

    tf.config.threading.set_intra_op_parallelism_threads(arguments["threads"])
    keras.config.set_dtype_policy(arguments["policy"])
    images, labels = data(arguments)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(arguments["batch"], drop_remainder=True)
    dataset = dataset.repeat().prefetch(2)
    del images
    memory = PeakMemory()  # without the images, which a training would not hold
    model = wm.WaveMixClassifier(**config_of(arguments), recompute=arguments.get("recompute", "none"))
    model.compile(
        optimizer=wm.training.FusedAdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=arguments["jit"],
    )

    # As in `wavemix_tf.training.fit`: if the optimizer is built inside the first step, TensorFlow traces it twice.
    model.optimizer.build(model.trainable_variables)

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()

    def run(steps: int) -> list[float]:
        model.fit(dataset, steps_per_epoch=steps, callbacks=[clock], verbose=0)
        return list(np.diff(clock.ends) * 1e3)

    last_ms = min(run(WARM_UP_STEPS + 1))

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal last_ms
        steps, start = max(4, round(request["seconds"] * 1e3 / last_ms)), cpu_seconds()
        found = run(steps)
        cpu_ms = (cpu_seconds() - start) * 1e3 / steps
        last_ms = float(np.median(found))
        return {"times_ms": found, "cpu_ms": cpu_ms, "memory": memory.report()}

    return answer


if __name__ == "__main__":
    serve(lambda arguments: (ours if arguments["side"] == "ours" else official)(arguments))
