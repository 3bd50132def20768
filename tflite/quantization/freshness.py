"""Whether a quantized model was trained since ``quantize`` made it, by a digest that is saved with the model."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np

from ..graph.lowering import converts_itself
from ..layers.fake_quant import FakeQuant

STATISTICS = ("moving_mean", "moving_variance")
# Measured weights of the tfmot engine: ranges and the number of steps.
MEASURED = ("_min", "_max", "optimizer_step")


def mark_fresh(model: Any) -> None:
    """Record in a quantized model, in place, that its weights are those of the float model that it was made from."""
    digest = weights_digest(model)
    if converts_itself(model):
        model.fresh_weights = digest
    else:  # a functional model has no own configuration: that of its first quantizer is saved with it
        next(layer for layer in model.layers if isinstance(layer, FakeQuant)).fresh_weights = digest


def is_fresh(model: Any) -> bool:
    """Whether a quantized model has the weights that ``quantize`` set, also after it was saved and loaded.

    False for a model of a version that recorded no digest.
    """
    if converts_itself(model):
        noted = {model.fresh_weights}
    else:
        noted = {layer.fresh_weights for layer in model.layers if isinstance(layer, FakeQuant)}
    return weights_digest(model) in noted


def weights_digest(model: Any) -> str:
    """Digest of a quantized model's weights, frozen ones too, in any order; not of its ranges and moving averages.

    Those are measured: calibration, or training without a step, may change them.
    """
    owned: list[tuple[str, Any]]
    measured: tuple[str, ...]
    if converts_itself(model):
        owned, measured = [("", model.tf_keras_model)], MEASURED
    else:
        measured = STATISTICS
        owned = [(layer.name, layer) for layer in model.layers if not isinstance(layer, FakeQuant)]
    parts = []
    for owner, holder in owned:
        for weight in holder.weights:
            name = weight.name.split(":")[0]
            if name.endswith(measured):
                continue
            # In any dtype: a float32 copy has the same numbers.
            values = np.ascontiguousarray(keras.ops.convert_to_numpy(weight), "float32")
            parts.append(f"{owner} {name} {hashlib.sha256(values.tobytes()).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
