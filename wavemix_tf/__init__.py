"""WaveMix for Keras 3: image data in, a trained network out, a verified TF Lite file for the device.

``wavemix_tf.training`` (data, recipes, ``fit``) and ``wavemix_tf.tflite`` (quantize, export, verify, benchmark) load on
first use, so that importing the layers stays light.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

# The layers load at once, so that `keras.saving.load_model` knows them after `import wavemix_tf`. Only the command does
# without at first: it answers --help, `list` and mistakes before it spends the ten seconds that Keras takes to load.
if TYPE_CHECKING or PurePath(sys.argv[0] if sys.argv else "").stem != "wavemix-tf":
    from .blocks import WaveMixBlock
    from .models import WaveMixClassifier
    from .torch_weights import load_torch_weights
    from .variants import VARIANTS, build_model
    from .wavelets import DWT2D, IDWT2D

__version__ = "0.1.0"

__all__ = [
    "DWT2D",
    "IDWT2D",
    "VARIANTS",
    "WaveMixBlock",
    "WaveMixClassifier",
    "build_model",
    "load_torch_weights",
    "tflite",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in ("training", "tflite"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
