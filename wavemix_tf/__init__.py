"""WaveMix for Keras 3: train networks on images and export verified TF Lite files for devices.

``wavemix_tf.training`` (data, recipes, ``fit``) and ``wavemix_tf.tflite`` (quantize, export, verify, benchmark) load on
first use, so that importing the layers stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .startup import is_command

__version__ = "0.2.0"  # before the imports below, which write it into presets

if TYPE_CHECKING or not is_command():
    from .checkpoints.keras_weights import load_weights
    from .checkpoints.torch_weights import export_torch_weights, load_torch_weights
    from .layers.convmixer_block import ConvMixerBlock
    from .layers.fourier_block import FourierBlock
    from .layers.imaging import BicubicUpsampling2D, RGBToYCbCr, YCbCrToRGB
    from .layers.inverted_bottleneck_block import InvertedBottleneckBlock
    from .layers.mixers import MIXERS
    from .layers.mlp_mixer_block import MLPMixerBlock
    from .layers.poolformer_block import PoolFormerBlock
    from .layers.residual_conv_block import ResidualConvBlock
    from .layers.wavelets import DWT2D, IDWT2D, FilterBank2D
    from .layers.wavemix_blocks import WaveMixBlock, WaveMixV1Block
    from .layers.wtconv import WTConv2D
    from .layers.wtconv_block import WTConvBlock
    from .networks.dynamixer import DynaMixer, DynaMixerBlock, DynaMixerOp
    from .networks.recomputed_model import RecomputedModel
    from .networks.staged import StagedClassifier
    from .networks.token_mixers import ConvMixer, MLPMixer, PoolFormer, TokenMixerClassifier
    from .networks.token_sampling import (
        AdaptiveTokenSampling,
        TokenCounts,
        count_tokens,
        surviving_patches,
        with_token_sampling,
    )
    from .networks.vit import SelfAttention, TransformerBlock, ViT
    from .networks.wavemix import WaveMixClassifier, WaveMixSegmenter, WaveMixSuperResolver
    from .presets.card import ModelCard
    from .presets.listing import list_presets
    from .presets.loading import from_preset
    from .presets.preprocessor import ImagePreprocessor
    from .presets.saving import save_to_preset
    from .profiler import ModelProfile, profile
    from .registration import register
    from .step_memory import TrainingMemory, largest_batch_size
    from .variants import CHECKPOINT_NORMALIZATION, VARIANTS, build_model

    register()

if TYPE_CHECKING:  # for editors; at run time these load on first use, see __getattr__
    import wavemix_tf.tflite as tflite
    import wavemix_tf.training as training

HOMES = (
    "layers.wavelets",
    "layers.wavemix_blocks",
    "layers.mixers",
    "layers.wtconv",
    "layers.imaging",
    "networks.wavemix",
    "networks.token_mixers",
    "networks.staged",
    "networks.recomputed_model",
    "networks.dynamixer",
    "networks.token_sampling",
    "networks.vit",
    "variants",
    "checkpoints.torch_weights",
    "checkpoints.keras_weights",
    "presets.card",
    "presets.preprocessor",
    "presets.listing",
    "presets.saving",
    "presets.loading",
    "profiler",
    "step_memory",
)

__all__ = [
    "AdaptiveTokenSampling",
    "BicubicUpsampling2D",
    "CHECKPOINT_NORMALIZATION",
    "ConvMixer",
    "ConvMixerBlock",
    "DWT2D",
    "DynaMixer",
    "DynaMixerBlock",
    "DynaMixerOp",
    "FilterBank2D",
    "FourierBlock",
    "IDWT2D",
    "ImagePreprocessor",
    "InvertedBottleneckBlock",
    "MIXERS",
    "MLPMixer",
    "MLPMixerBlock",
    "ModelCard",
    "ModelProfile",
    "PoolFormer",
    "PoolFormerBlock",
    "RGBToYCbCr",
    "RecomputedModel",
    "ResidualConvBlock",
    "SelfAttention",
    "StagedClassifier",
    "TokenCounts",
    "TokenMixerClassifier",
    "TrainingMemory",
    "TransformerBlock",
    "VARIANTS",
    "ViT",
    "WTConv2D",
    "WTConvBlock",
    "WaveMixBlock",
    "WaveMixClassifier",
    "WaveMixSegmenter",
    "WaveMixSuperResolver",
    "WaveMixV1Block",
    "YCbCrToRGB",
    "build_model",
    "count_tokens",
    "export_torch_weights",
    "from_preset",
    "largest_batch_size",
    "list_presets",
    "load_torch_weights",
    "load_weights",
    "profile",
    "save_to_preset",
    "surviving_patches",
    "tflite",
    "training",
    "with_token_sampling",
]


def __getattr__(name: str) -> Any:
    if name in ("training", "tflite"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:  # not imported above
        for home in HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
