"""The activations of the blocks, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def quick_gelu(x: Any) -> Any:
    """``x * sigmoid(1.702 x)``, the sigmoid approximation of GELU (Hendrycks & Gimpel, arXiv 1606.08415, section 2).

    It needs only a logistic and a multiplication, which every runtime supports; TF Lite Micro has no GELU kernel.
    """
    return x * ops.sigmoid(1.702 * x)


# As a decorator, which has no type in Keras, it would take away the type of the function.
keras.saving.register_keras_serializable(package="wavemix_tf")(quick_gelu)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": keras.activations.gelu,  # exact, with the error function, as in the official network
    "relu": keras.activations.relu,
    "relu6": keras.activations.relu6,
    "hard_swish": keras.activations.hard_swish,
    "quick_gelu": quick_gelu,
}
