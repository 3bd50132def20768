"""Optimizers and learning rates of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from wavemix_tf.keras_internals import flatten_layers

from ..distribution import ONE_DEVICE, Devices
from ..recipe import Recipe
from .fused_adamw import FusedAdamW


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of the training with one optimizer.

    Args:
        optimizer: "adamw", "lion" or "sgd".
        epochs: Maximum number of epochs.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled weight decay.
        patience: End after this many epochs without gain; None: never.
    """

    optimizer: str
    epochs: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: float = 0.0
    cosine: bool = True
    patience: int | None = None
    ema: float = 0.0


def phases(recipe: Recipe, stage: str) -> tuple[Phase, ...]:
    """The phases of a stage: one, or two for "adamw_then_sgd"."""
    if stage == "qat":
        # No moving average: the ranges of the fake quantizers belong to the current weights.
        return (Phase("adamw", recipe.qat_epochs, recipe.qat_learning_rate, recipe.qat_weight_decay),)
    first = Phase(
        "adamw" if recipe.optimizer == "adamw_then_sgd" else recipe.optimizer,
        recipe.epochs,
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.warmup_epochs,
        recipe.cosine,
        recipe.patience,
        recipe.ema,
    )
    if recipe.optimizer != "adamw_then_sgd":
        return (first,)
    second = dataclasses.replace(
        first, optimizer="sgd", learning_rate=recipe.sgd_learning_rate, weight_decay=0.0, warmup_epochs=0.0
    )
    return (first, second)


def build_optimizer(phase: Phase, recipe: Recipe, steps_per_epoch: int, devices: Devices = ONE_DEVICE) -> Any:
    """The optimizer of a phase with its learning-rate schedule, not built yet."""
    options: dict[str, Any] = {
        "learning_rate": _schedule(phase, steps_per_epoch),
        "weight_decay": phase.weight_decay or None,
        "global_clipnorm": recipe.clip_norm,
        "use_ema": phase.ema > 0,
        "ema_momentum": phase.ema or 0.99,
    }
    kind: Any = {"sgd": keras.optimizers.SGD, "lion": keras.optimizers.Lion}.get(phase.optimizer, FusedAdamW)
    if phase.optimizer == "sgd":
        options["momentum"] = recipe.momentum
    elif phase.optimizer == "adamw":
        options["weight_decay"] = phase.weight_decay  # AdamW requires a number
    if recipe.clip_norm is not None and devices.count > 1 and keras.backend.backend() == "tensorflow":
        kind = type(kind.__name__, (_ClipAcrossReplicas, kind), {"clip_norm": recipe.clip_norm})
        options["global_clipnorm"] = None
    optimizer = kind(**options)
    if phase.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def with_loss_scaling(model: Any, optimizer: Any) -> Any:
    """Add dynamic loss scaling to the optimizer if a layer computes in float16 (arXiv 1710.03740, section 3.2).

    Gradients below 6e-8 are zero in float16. ``compile`` adds scaling only if the policy of the model itself is
    "mixed_float16"; the dtype of the layers matters.
    """
    if all(layer.compute_dtype != "float16" for layer in flatten_layers(model)):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


class _ClipAcrossReplicas:
    """An optimizer under tf.distribute that applies ``clip_norm`` to the gradient of the whole batch.

    Keras clips the gradient of each replica before it sums them; their lengths and directions differ from those of the
    sum.
    """

    clip_norm: float

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        import tensorflow as tf

        grads = list(grads)
        context = tf.distribute.get_replica_context()
        norm = tf.linalg.global_norm(context.all_reduce("SUM", [grad for grad in grads if grad is not None]))
        factor = self.clip_norm / tf.maximum(norm, self.clip_norm)
        clipped = [grad if grad is None else grad * tf.cast(factor, grad.dtype) for grad in grads]
        return super().apply(clipped, trainable_variables)  # type: ignore[misc]


def _schedule(phase: Phase, steps_per_epoch: int) -> Any:
    total = max(phase.epochs * steps_per_epoch, 1)
    warmup = round(phase.warmup_epochs * steps_per_epoch)
    if phase.cosine:
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else phase.learning_rate,
            decay_steps=max(total - warmup, 1),
            warmup_target=phase.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if warmup:
        return keras.optimizers.schedules.PolynomialDecay(0.0, warmup, phase.learning_rate, power=1.0)
    return phase.learning_rate
