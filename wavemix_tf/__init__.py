"""WaveMix for Keras 3: image data in, a trained network out, a verified TF Lite file for the device.

``wavemix_tf.training`` (data, recipes, ``fit``) and ``wavemix_tf.tflite`` (quantize, export, verify, benchmark) load on
first use, so that importing the layers stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .startup import is_command

if TYPE_CHECKING or not is_command():
    from .blocks import WaveMixBlock, WaveMixV1Block
    from .dynamixer import DynaMixer, DynaMixerBlock, DynaMixerOp
    from .imaging import BicubicUpsampling2D, RGBToYCbCr, YCbCrToRGB
    from .models import WaveMixClassifier, WaveMixSegmenter, WaveMixSuperResolver
    from .profiler import ModelProfile, profile
    from .torch_weights import export_torch_weights, load_torch_weights
    from .variants import CHECKPOINT_NORMALIZATION, VARIANTS, build_model
    from .wavelets import DWT2D, IDWT2D

__version__ = "0.1.0"

__all__ = [
    "BicubicUpsampling2D",
    "CHECKPOINT_NORMALIZATION",
    "DWT2D",
    "DynaMixer",
    "DynaMixerBlock",
    "DynaMixerOp",
    "IDWT2D",
    "ModelProfile",
    "RGBToYCbCr",
    "VARIANTS",
    "WaveMixBlock",
    "WaveMixClassifier",
    "WaveMixSegmenter",
    "WaveMixSuperResolver",
    "WaveMixV1Block",
    "YCbCrToRGB",
    "build_model",
    "export_torch_weights",
    "load_torch_weights",
    "profile",
    "tflite",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in ("training", "tflite"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:  # left out above
        for home in ("wavelets", "blocks", "dynamixer", "imaging", "models", "variants", "torch_weights", "profiler"):
            module = importlib.import_module(f"{__name__}.{home}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
