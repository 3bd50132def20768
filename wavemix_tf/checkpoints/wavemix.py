"""The mapping of our variables to tensors of an official WaveMix checkpoint, for `torch_weights`.

The official package (`wavemix` 0.2.x on PyPI) and its scripts save plain state dicts under these names, with `N` the
block counted from 0:

    conv.{0,1}                   strided stem: two 3x3 convolutions
    conv.{0,1,2}, conv.4         patchify stem: 3x3, 3x3, patch convolution, BatchNorm (conv.3 is the GELU)
    layers.N.reduction           the 1x1 convolution before the wavelet transform
    layers.N.feedforward.*       the only feed-forward of a one-level block
    layers.N.feedforward{k}.*    the feed-forward of level k, k = 1 the finest
        .0 .3 .4 .5              1x1, 1x1, transposed convolution (or nothing: upsampling has no weights), BatchNorm
        .0 .4 .5                 third version: 1x1, 3x3 after the pixel shuffle, BatchNorm
        .0 .3 .5 .6              WaveMixSR-V2: 1x1, 1x1, 3x3 after the pixel shuffle, BatchNorm
    layers.N.ff{k}, .depthconv.{0,2}   first version: transposed convolution of level k, depthwise 5x5, BatchNorm
    pool.2  (or head.2)          a classifier's linear layer
    expand.{0,1,2}  (or pool.*)  a segmenter's transposed convolutions and 1x1 convolution
    expand.{0,1}                 the same in `wavemix.sisr`
    path1.{1,2}, final.{0,1}     WaveMixSR's stem and head; WaveMixSR-V2 has all tensors under SR_blocks.S

Layouts differ in four ways and are converted here. Convolutions are stored as (out, in, h, w), transposed convolutions
as (in, out, h, w). The wavelet bands enter a feed-forward as all LL channels followed by [LH, HL, HH] interleaved
channel by channel; ours are band-major [LL | LH | HL | HH]. A pixel shuffle reads channel c of position p of a cell at
4c + p; ours reads it at pC + c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..networks.wavemix import WaveMixClassifier, WaveMixSuperResolver
from .plans import CONV, DEPTHWISE, LINEAR, Array, Plan, batch_norm, weights


def wavemix_plan(model: Any, state: Mapping[str, Any] | None = None) -> Plan:
    """Return our `layer/variable` -> entry, for every variable that the official network has too.

    Args:
        model: A `WaveMixClassifier`, `WaveMixSegmenter` or `WaveMixSuperResolver`.
        state: The checkpoint, for heads with several official names; None: the current name.
    """
    first = model.get_layer("stage1_block1" if getattr(model, "variant", "") == "wavemixsr_v2" else "block1")
    if getattr(first, "upsample", "") == "pixel_shuffle":
        raise ValueError(
            "The official package has no pixel-shuffle upsampler in this block. Received: upsample='pixel_shuffle'"
        )
    if isinstance(model, WaveMixSuperResolver):
        return _super_resolver(model, first)
    plan = _stem(model.stem) | _blocks(model.depth, first)
    if isinstance(model, WaveMixClassifier):
        head = _head_name(("pool.2", "head.2"), state)
        return plan | weights("head", head, LINEAR)
    # The package's class has only the strided stem; the other was made from its classifier.
    names = ("expand", "pool") if model.stem == "strided" else ("pool", "expand")
    return plan | _deconv_head(model, _head_name(names, state, ".0"))


def _head_name(names: tuple[str, ...], state: Mapping[str, Any] | None, first: str = "") -> str:
    """Return the name of a head in the checkpoint; the first of ``names`` if it has none."""
    return next((name for name in names if f"{name}{first}.weight" in (state or {})), names[0])


def _super_resolver(model: WaveMixSuperResolver, block: Any) -> Plan:
    if model.variant == "sisr":
        return _stem("strided") | _blocks(model.depth, block) | _deconv_head(model, "expand")
    plan: Plan = {}
    stages = int(np.log2(model.scale)) if model.variant == "wavemixsr_v2" else 1
    for stage in range(stages):
        ours, official = ("", "") if model.variant == "wavemixsr" else (f"stage{stage + 1}_", f"SR_blocks.{stage}.")
        plan |= weights(f"{ours}stem_conv1", f"{official}path1.1", CONV) | weights(
            f"{ours}stem_conv2", f"{official}path1.2", CONV
        )
        plan |= _blocks(model.depth, block, ours, official)
        plan |= weights(f"{ours}head_conv", f"{official}final.0", CONV) | weights(
            f"{ours}luma", f"{official}final.1", CONV
        )
    return plan


def _stem(stem: str) -> Plan:
    plan = weights("stem_conv1", "conv.0", CONV) | weights("stem_conv2", "conv.1", CONV)
    if stem == "patchify":
        plan |= weights("stem_conv3", "conv.2", CONV) | batch_norm("stem_norm", "conv.4")
    return plan


def _deconv_head(model: Any, official: str) -> Plan:
    count = sum(layer.name.startswith("head_deconv") for layer in model.layers)
    plan: Plan = {}
    for index in range(count):
        plan |= weights(f"head_deconv{index + 1}", f"{official}.{index}", CONV)
    return plan | weights("head", f"{official}.{count}", CONV)


def _blocks(depth: int, block: Any, ours: str = "", official: str = "") -> Plan:
    """Return the plan of all blocks; ``block`` is any one of them, for its options."""
    plan: Plan = {}
    for index in range(depth):
        mine, theirs = f"{ours}block{index + 1}", f"{official}layers.{index}"
        plan |= weights(f"{mine}_reduce", f"{theirs}.reduction", CONV)
        plan |= _wavemix_block(block, mine, theirs) if hasattr(block, "upsample") else _v1_block(block, mine, theirs)
    return plan


def _wavemix_block(block: Any, ours: str, official: str) -> Plan:
    plan: Plan = {}
    for level in range(1, block.levels + 1):
        ff = f"{official}.feedforward" + (str(level) if block.levels > 1 else "")
        expand, project, up, norm = (f"{ours}_{role}{level}" for role in ("expand", "project", "upsample", "norm"))
        bands = _band_order(block.width // 4, block.width // 2 if level < block.levels else 0)
        if block.upsample != "pixel_shuffle_conv":
            plan |= weights(expand, f"{ff}.0", CONV, inputs=bands) | weights(project, f"{ff}.3", CONV)
            if block.upsample == "deconv":
                plan |= weights(up, f"{ff}.4", CONV)
            plan |= batch_norm(norm, f"{ff}.5")
        elif block.ff_dim is None:
            # Only elementwise operations are between the shuffle and the convolution before it.
            shuffled = _shuffle_order(block.expansion * block.width)
            plan |= weights(expand, f"{ff}.0", CONV, inputs=bands, outputs=shuffled)
            plan |= weights(up, f"{ff}.4", CONV) | batch_norm(norm, f"{ff}.5")
        else:
            plan |= weights(expand, f"{ff}.0", CONV, inputs=bands)
            plan |= weights(project, f"{ff}.3", CONV, outputs=_shuffle_order(block.ff_dim))
            plan |= weights(up, f"{ff}.5", CONV) | batch_norm(norm, f"{ff}.6")
    return plan


def _v1_block(block: Any, ours: str, official: str) -> Plan:
    plan = weights(f"{ours}_expand", f"{official}.feedforward.0", CONV, inputs=_band_order(block.width // 4))
    plan |= weights(f"{ours}_project", f"{official}.feedforward.3", CONV)
    for level in range(1, block.levels + 1):
        plan |= weights(f"{ours}_upsample{level}", f"{official}.ff{level}", CONV)
    plan |= weights(f"{ours}_depthwise", f"{official}.depthconv.0", DEPTHWISE)
    return plan | batch_norm(f"{ours}_norm", f"{official}.depthconv.2")


def _band_order(band_width: int, joined: int = 0) -> Array:
    """Return the index of each channel of [LL | LH | HL | HH] in [LL | LH0 HL0 HH0 LH1 ...]; ``joined`` more follow."""
    low = np.arange(band_width)
    details = [band_width + 3 * low + band for band in range(3)]
    return np.concatenate([low, *details, 4 * band_width + np.arange(joined)])


def _shuffle_order(channels: int) -> Array:
    """Return the index ``4*c + p`` of each channel ``p*C + c`` of position p of a 2x2 cell; ``channels`` is 4C."""
    return np.arange(channels).reshape(channels // 4, 4).T.ravel()
