"""One contender of input_pipeline.py, which starts this script: reads augmented batches, see side_by_side.py."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import input_peers
from input_pictures import NAME
from side_by_side import serve

WARM_UP_BATCHES = 3  # of every turn: threads and processes start, buffers fill


def our_recipe(arguments: dict[str, Any]) -> Any:
    from wavemix_tf.training import Recipe

    source, folder = arguments["source"], arguments["pictures"]
    fields: dict[str, Any] = {"dataset": "folder", "data_dir": f"{folder}/images"}
    if source != "folder":
        fields = {"dataset": NAME, "data_dir": f"{folder}/{source}", "shuffle_buffer": input_peers.BUFFER}
    return Recipe(
        name="input_pipeline",
        image_shape=(arguments["side"], arguments["side"], 3),
        in_memory=False,
        batch_size=arguments["batch"],
        calibration_images=input_peers.CLASSES,
        policy="rand_augment",
        rand_augment_strength=input_peers.STRENGTH,
        mixup=input_peers.ALPHA,
        **fields,
    )


def ours(arguments: dict[str, Any]) -> Callable[[], Iterator[Any]]:
    """The batches that `fit` gives to the network of a recipe."""
    from wavemix_tf.training import load_data
    from wavemix_tf.training.fitting.epoch_batches import training_batches
    from wavemix_tf.training.tasks import task_of

    recipe = our_recipe(arguments)
    data = load_data(recipe)
    task = task_of(recipe, len(data.class_names))
    return lambda: iter(training_batches(data.train_source, recipe, 0, 1 << 20, task))


SIDES: dict[str, Callable[[dict[str, Any]], Callable[[], Iterator[Any]]]] = {
    "ours": ours,
    "tf.data": lambda arguments: lambda: input_peers.hand_written(arguments),
    "DataLoader": lambda arguments: lambda: input_peers.data_loader(arguments),
}


def cpu_seconds() -> float:
    """CPU time of this process and of its worker processes so far."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user, system
    return sum(os.times()[:2]) + ticks / os.sysconf("SC_CLK_TCK")


def set_up(arguments: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if arguments["side_of"] != "DataLoader":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(arguments["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(arguments["threads"])
    start = SIDES[arguments["side_of"]](arguments)
    images = next(start())[0]
    expected = {arguments["batch"], arguments["side"], 3}
    if set(images.shape) != expected or not 0 <= float(images.min() if hasattr(images, "min") else 0) <= 1:
        raise ValueError(f"A batch must have {expected}. Received: {tuple(images.shape)}")

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        """Every turn has an iterator of its own: one that waits would fill its buffers during another's turn."""
        batches = start()
        for _ in range(WARM_UP_BATCHES):
            next(batches)
        count, cpu, begin = 0, cpu_seconds(), time.perf_counter()
        while count < 2 or time.perf_counter() - begin < request["seconds"]:
            next(batches)
            count += 1
        mean_ms = (time.perf_counter() - begin) * 1e3 / count
        cpu_ms = (cpu_seconds() - cpu) * 1e3 / count
        del batches  # ends the threads and the processes
        # A mean, not the times of single batches: they arrive in bursts.
        return {"times_ms": [mean_ms], "cpu_ms": cpu_ms}

    return answer


if __name__ == "__main__":
    serve(set_up)
