"""Classes that ``.keras`` files name and ``import wavemix_tf`` leaves out: each is imported when a file asks for it.

Keras looks a class up under its registered name. A stand-in waits there for each class of ``LATER``; asked for a layer,
it imports the module, whose own registration takes its place, and hands the question on.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras

# Module below wavemix_tf -> the classes that it registers.
LATER = {
    "metrics": ("LumaPSNR",),
    "tflite.layers.augmentation": ("RandomThenCentreCrop",),
    "tflite.layers.fake_quant": (
        *("FakeQuant", "KeepFloat", "QuantBatchNormalization", "QuantConv2D", "QuantConv2DTranspose", "QuantDense"),
        "QuantDepthwiseConv2D",
    ),
    "tflite.graph.rectifiers": ("QuantPReLU",),
    "tflite.layers.token_layers": ("AddConstant", "ChannelAffine", "Cut", "MatMul", "Mean", "Rsqrt"),
}


def register() -> None:
    """Let Keras find every class of ``LATER``; what is registered already stays."""
    known = keras.saving.get_custom_objects()
    for module, names in LATER.items():
        for name in names:
            known.setdefault(f"wavemix_tf>{name}", _stand_in(module, name))


def _stand_in(module: str, name: str) -> Any:
    def from_config(_: Any, config: dict[str, Any], custom_objects: Any = None) -> Any:
        found = getattr(importlib.import_module(f"wavemix_tf.{module}"), name)
        return found.from_config(config)

    return type(name, (), {"from_config": classmethod(from_config), "__module__": f"wavemix_tf.{module}"})
