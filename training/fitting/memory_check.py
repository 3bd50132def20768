"""The batch that fits into the memory that is free, before the training starts."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras

from wavemix_tf.keras_internals import flatten_layers, is_plain_keras
from wavemix_tf.step_memory import largest_batch_size, training_memory
from wavemix_tf.warning import warn_user

from ..distribution import Devices
from ..dtypes import accelerator
from ..recipe import Recipe
from ..recipe_fields import AUTO
from ..run_files import RunFiles

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
SHARE = 0.5  # of the free memory that a batch of "auto" may take; fine-tuning needs more, and so may other programs
STEPS = 8  # least steps of an epoch with a batch of "auto"
_FIELDS: Any = dataclasses.fields(Recipe)
KEPT = 16  # tensors of the size of its output that a layer keeps, at most; more than any block of this package
# Modules of our layers to which this applies; attention keeps more, and layers of users may.
OURS = ("wavemix_tf.layers", "wavemix_tf.networks", "wavemix_tf.tflite")
ATTENTION = "wavemix_tf.networks.vit"


def warn_if_too_large(model: Any, batch_size: int) -> None:
    """Warn if a training step needs more memory than is free. It is traced only where that is possible at all."""
    free = free_bytes()
    if free is None or keras.backend.backend() not in ("tensorflow", "jax") or _upper_bound(model, batch_size) < free:
        return
    if not _has_known_sides(model):
        return  # no prediction is possible
    need = training_memory(model, batch_size).total
    if need <= free:
        return
    fitting = largest_batch_size(model, free)
    advice = f"batch_size={fitting} fits" if fitting else "no batch fits: use smaller images or a smaller network"
    warn_user(
        f"A training step must fit into memory: {advice}; recompute='block' in model_args takes less. "
        f"Received: batch_size={batch_size}, which needs about {_gib(need)}, with {_gib(free)} free"
    )


def with_batch_size(recipe: Recipe, files: RunFiles | None, model: Any, images: int, devices: Devices) -> Recipe:
    """Replace a ``batch_size`` of "auto": by that of the run which is continued, otherwise by the largest that fits.

    Args:
        recipe: The recipe.
        files: Those of the run folder; None: there is none, or it is overwritten.
        model: The network to train; None: a dataset of the user makes the batches, and the number is not used.
        images: Number of training images.
        devices: Those that share a batch.

    Raises:
        ValueError: not even one image fits, or the memory of a step or of the device is unknown.
    """
    if recipe.batch_size != AUTO:
        return recipe
    stored = files.read_recipe().batch_size if files is not None and files.recipe.is_file() else AUTO
    if stored != AUTO:
        return dataclasses.replace(recipe, batch_size=stored)
    if model is None:
        return dataclasses.replace(recipe, batch_size=next(f.default for f in _FIELDS if f.name == "batch_size"))
    free = free_bytes()
    if free is None or keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(
            "batch_size='auto' needs TensorFlow or JAX, and a device that states its free memory: give a number. "
            f"Received: backend {keras.backend.backend()}"
        )
    fitting = devices.smallest(largest_batch_size(model, int(SHARE * free))) * devices.count
    if not fitting:
        raise ValueError(
            "A training step of one image must fit into memory: use smaller images or a smaller network. "
            f"Received: {_gib(SHARE * free)}, half of what is free"
        )
    most = max(devices.count, images // STEPS)
    while fitting > most:
        fitting //= 2
    chosen = max(fitting // devices.count, 1) * devices.count
    if devices.writes:
        print(f"batch_size: {chosen} (auto, with {_gib(free)} of memory free)")
    return dataclasses.replace(recipe, batch_size=chosen)


def free_bytes() -> int | None:
    """Return the memory that a training could still take: of the GPU, or of this process; None if it is unknown."""
    device = accelerator()
    if device is not None:
        statistics = device.memory_stats() if hasattr(device, "memory_stats") else None
        return None if not statistics else statistics["bytes_limit"] - statistics["bytes_in_use"]
    found = [value for value in (_available(), _left_of_group()) if value is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _left_of_group() -> int | None:
    """Return what a container's limit leaves, with the file cache that it can give back; None without a limit."""
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return int(limit) - int(used) + int(statistics.get("inactive_file", 0)) if limit.isdigit() else None


def _upper_bound(model: Any, batch_size: int) -> float:
    """Return more bytes than a training step needs, from the shapes of the layers' outputs; infinite if unknown."""
    layers = flatten_layers(model)
    if not all(_is_plain(layer) for layer in layers):
        return math.inf
    tensors = keras.tree.flatten([getattr(layer, "output", ()) for layer in layers])
    shapes = [getattr(tensor, "shape", (None, None)) for tensor in tensors]
    if not shapes or any(None in shape[1:] for shape in shapes):
        return math.inf
    weights = sum(math.prod(variable.shape) for variable in model.variables)
    return 4.0 * (KEPT * batch_size * sum(math.prod(shape[1:]) for shape in shapes) + 4 * weights)


def _is_plain(layer: Any) -> bool:
    module = type(layer).__module__
    return is_plain_keras(layer) or (module.startswith(OURS) and module != ATTENTION)


def _has_known_sides(model: Any) -> bool:
    return all(None not in tensor.shape[1:] for tensor in getattr(model, "inputs", None) or [])


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"
