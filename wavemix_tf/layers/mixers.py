"""``MIXERS``: every token mixer by name, as a residual block with the same contract: (B, H, W, C) -> (B, H, W, C).

WaveMix, its ablations, and other mixers for comparison; ``TokenMixerClassifier`` puts any of them between the same stem
and head. A new mixer is a new file in this folder and a row here.
"""

from __future__ import annotations

from typing import Any

from .convmixer_block import ConvMixerBlock
from .fourier_block import FourierBlock
from .inverted_bottleneck_block import InvertedBottleneckBlock
from .mlp_mixer_block import MLPMixerBlock
from .poolformer_block import PoolFormerBlock
from .residual_block import ResidualBlock
from .residual_conv_block import ResidualConvBlock
from .wavemix_blocks import WaveMixBlock
from .wtconv_block import WTConvBlock

# name -> (block, its arguments). All have WaveMix's expansion of 2, so that they differ only in the mixing: the
# published MLP-Mixer and PoolFormer have 4, MobileNetV2 has 6, PoolFormer has a layer scale, ConvMixer has kernels of 7
# or 9.
MIXERS: dict[str, tuple[type[ResidualBlock], dict[str, Any]]] = {
    "wavemix": (WaveMixBlock, {}),
    # WaveMix with another transform instead of Haar.
    "random_filters": (WaveMixBlock, {"transform": "random"}),
    "learned_filters": (WaveMixBlock, {"transform": "learned"}),
    "dct": (WaveMixBlock, {"transform": "dct"}),
    "no_transform": (WaveMixBlock, {"transform": "none"}),
    # Other token mixers.
    "convmixer": (ConvMixerBlock, {"kernel_size": 5}),
    "wtconv": (WTConvBlock, {"kernel_size": 5}),
    "inverted_bottleneck": (InvertedBottleneckBlock, {"expansion": 2}),
    "resnet": (ResidualConvBlock, {}),
    "mlp_mixer": (MLPMixerBlock, {"expansion": 2}),
    "poolformer": (PoolFormerBlock, {"expansion": 2, "layer_scale": None}),
    "fourier": (FourierBlock, {"expansion": 2}),
}
