"""Lazy registration of classes that ``.keras`` files name and ``import wavemix_tf`` does not import.

Keras looks a class up under its registered name. Each class of ``LATER`` has a stand-in there. Its ``from_config``
imports the module, which registers the real class, and calls that class.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras

# Module in wavemix_tf -> the classes that it registers.
LATER = {
    "metrics": ("LumaPSNR",),
    "tflite.layers.augmentation": ("RandomThenCentreCrop",),
    "tflite.layers.fake_quant": (
        *("FakeQuant", "KeepFloat", "QuantBatchNormalization", "QuantConv2D", "QuantConv2DTranspose", "QuantDense"),
        "QuantDepthwiseConv2D",
    ),
    "tflite.graph.rectifiers": ("QuantPReLU",),
    "training.fitting.fused_adamw": ("FusedAdamW",),
    "tflite.layers.token_layers": ("AddConstant", "ChannelAffine", "Cut", "MatMul", "Mean", "Rsqrt"),
}


def register() -> None:
    """Register a stand-in for every class of ``LATER`` that is not registered yet."""
    known = keras.saving.get_custom_objects()
    for module, names in LATER.items():
        for name in names:
            known.setdefault(f"wavemix_tf>{name}", _stand_in(module, name))


def _stand_in(module: str, name: str) -> Any:
    def from_config(_: Any, config: dict[str, Any], custom_objects: Any = None) -> Any:
        found = getattr(importlib.import_module(f"wavemix_tf.{module}"), name)
        return found.from_config(config)

    return type(name, (), {"from_config": classmethod(from_config), "__module__": f"wavemix_tf.{module}"})
