"""The dtype policy of a recipe with ``dtype_policy="auto"``, chosen once for a run."""

from __future__ import annotations

import dataclasses
import time

import keras
import numpy as np
from keras import ops

from ..distribution import Devices
from ..dtypes import accelerator, chosen_policy
from ..recipe import Recipe
from ..recipe_fields import AUTO
from ..run_files import RunFiles

IMAGES = 32  # largest batch of the steps that are timed
WARM_STEPS, STEPS = 2, 3
GAIN = 0.95  # share of the float32 time below which another policy is chosen


def with_dtype_policy(recipe: Recipe, files: RunFiles | None, num_classes: int | None, devices: Devices) -> Recipe:
    """Replace a ``dtype_policy`` of "auto": by that of the run which is continued, otherwise by the faster one.

    On one CPU that multiplies bfloat16 a few training steps of each are timed, because small layers may be slower in
    bfloat16 there; elsewhere the hardware decides, see ``chosen_policy``.

    Args:
        recipe: The recipe.
        files: Those of the run folder; None: there is none, or it is overwritten.
        num_classes: Number of classes; None: the user built the network, and nothing is chosen.
        devices: Those that share a batch.
    """
    if recipe.dtype_policy != AUTO:
        return recipe
    stored = files.read_recipe().dtype_policy if files is not None and files.recipe.is_file() else AUTO
    if stored != AUTO:
        return dataclasses.replace(recipe, dtype_policy=stored)
    if num_classes is None:
        return recipe
    chosen = chosen_policy(AUTO)
    timed = chosen != "float32" and accelerator() is None and devices.count == 1
    if timed and keras.backend.backend() in ("tensorflow", "jax"):
        times = {policy: _step_ms(recipe, policy, num_classes) for policy in (chosen, "float32")}
        chosen = chosen if times[chosen] < GAIN * times["float32"] else "float32"
        listed = ", ".join(f"{policy} {ms:.0f} ms" for policy, ms in times.items())
        print(f"dtype_policy: {chosen} (auto, a step of {_images(recipe)} images: {listed})")
    return dataclasses.replace(recipe, dtype_policy=chosen)


def _step_ms(recipe: Recipe, policy: str, num_classes: int) -> float:
    """Return the least time of a training step in milliseconds, on random pixels and with a simple loss."""
    from .trainer import build

    model = build(dataclasses.replace(recipe, dtype_policy=policy), num_classes)
    jit = recipe.jit_compile or keras.backend.backend() == "jax"
    model.compile("sgd", loss=lambda _, y: ops.mean(ops.square(ops.cast(y, "float32"))), jit_compile=jit)
    shape = (_images(recipe), *((side or IMAGES) for side in model.input_shape[1:]))
    pixels = np.random.default_rng(0).random(shape, np.float32)
    targets = np.zeros(shape[0], np.float32)
    times = []
    for _ in range(WARM_STEPS + STEPS):
        begun = time.perf_counter()
        model.train_on_batch(pixels, targets)
        times.append(1e3 * (time.perf_counter() - begun))
    return min(times[WARM_STEPS:])


def _images(recipe: Recipe) -> int:
    return IMAGES if recipe.batch_size == AUTO else min(IMAGES, recipe.step_images)
