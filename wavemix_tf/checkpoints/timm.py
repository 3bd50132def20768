"""The mapping of our variables to tensors of a timm checkpoint, for `torch_weights`.

ViT, ConvMixer, MLP-Mixer and PoolFormer.

timm uses these names, with `N` the block counted from 0 (the authors' DeiT checkpoints use those of a ViT):

    cls_token, pos_embed         ViT: the class token, and the positions of all tokens, the class token's first
    patch_embed.proj             ViT: the patches' convolution
    blocks.N.norm1, .norm2       ViT, MLP-Mixer: LayerNorm before the mixing and before the feed-forward
    blocks.N.attn.qkv, .proj     ViT: query, key and value in one linear layer; the linear layer after the attention
    blocks.N.mlp.fc1, .fc2       ViT: the feed-forward
    blocks.N.mlp_tokens.fc{1,2}, .mlp_channels.fc{1,2}   MLP-Mixer
    stem.proj                    MLP-Mixer: the patches' convolution
    stem.0, .2                   ConvMixer: the patches' convolution, BatchNorm
    blocks.N.0.fn.0, .0.fn.2     ConvMixer: depthwise convolution, BatchNorm
    blocks.N.1, .3               ConvMixer: 1x1 convolution, BatchNorm
    norm, head                   the normalization and the linear layer at the end

PoolFormer's authors use other names than timm, with `M` the index in their list of stages and convolutions between:

    patch_embed.proj, network.M.proj       (stem.conv, stages.S.downsample.conv) the convolution before a stage
    network.M.N.norm{1,2}, .mlp.fc{1,2}    (stages.S.blocks.N...)
    network.M.N.layer_scale_{1,2}          (stages.S.blocks.N.layer_scale{1,2}.scale)
    norm, head                             (head.norm, head.fc)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..networks.token_mixers import ConvMixer, MLPMixer, PoolFormer
from ..networks.vit import ViT
from .plans import CONV, DEPTHWISE, LINEAR, POINTWISE, Entry, Plan, batch_norm, layer_norm, weights


def vit_plan(model: ViT, _: Mapping[str, Any] | None = None) -> Plan:
    """Return our `layer/variable` -> entry, for every variable of the model."""
    plan = {
        "embed/class_token": Entry("cls_token"),
        "embed/positions": Entry("pos_embed", note=", one for each token: another image_shape or patch_size"),
    }
    plan |= weights("patch_embed", "patch_embed.proj", CONV)
    roles = {"attention_qkv": "attn.qkv", "attention_proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for index in range(model.depth):
        ours, timms = f"block{index + 1}", f"blocks.{index}"
        for mine, theirs in roles.items():
            plan |= weights(f"{ours}_{mine}", f"{timms}.{theirs}", LINEAR)
        plan |= layer_norm(f"{ours}_norm1", f"{timms}.norm1") | layer_norm(f"{ours}_norm2", f"{timms}.norm2")
    return plan | layer_norm("norm", "norm") | weights("head", "head", LINEAR)


def convmixer_plan(model: ConvMixer, _: Mapping[str, Any] | None = None) -> Plan:
    """Return our `layer/variable` -> entry, for every variable of the model."""
    plan = weights("stem_conv", "stem.0", CONV) | batch_norm("stem_norm", "stem.2")
    for index in range(model.depth):
        ours, timms = f"block{index + 1}", f"blocks.{index}"
        plan |= weights(f"{ours}_depthwise", f"{timms}.0.fn.0", DEPTHWISE)
        plan |= batch_norm(f"{ours}_depthwise_norm", f"{timms}.0.fn.2")
        plan |= weights(f"{ours}_pointwise", f"{timms}.1", CONV) | batch_norm(f"{ours}_pointwise_norm", f"{timms}.3")
    return plan | weights("head", "head", LINEAR)


def mlp_mixer_plan(model: MLPMixer, _: Mapping[str, Any] | None = None) -> Plan:
    """Return our `layer/variable` -> entry, for every variable of the model."""
    plan = weights("stem_conv", "stem.proj", CONV)
    for index in range(model.depth):
        ours, timms = f"block{index + 1}", f"blocks.{index}"
        plan |= layer_norm(f"{ours}_mix_norm", f"{timms}.norm1") | layer_norm(f"{ours}_norm", f"{timms}.norm2")
        plan |= weights(f"{ours}_token_expand", f"{timms}.mlp_tokens.fc1", LINEAR)
        plan |= weights(f"{ours}_token_project", f"{timms}.mlp_tokens.fc2", LINEAR)
        plan |= weights(f"{ours}_expand", f"{timms}.mlp_channels.fc1", POINTWISE)
        plan |= weights(f"{ours}_project", f"{timms}.mlp_channels.fc2", POINTWISE)
    return plan | layer_norm("norm", "norm") | weights("head", "head", LINEAR)


def poolformer_plan(model: PoolFormer, state: Mapping[str, Any] | None = None) -> Plan:
    """Return our `layer/variable` -> entry, for every variable of the model.

    The authors' names, or timm's if the checkpoint has those. timm's network normalizes after the mean over the
    positions, the authors' (and this one) before it: with the same weights its logits differ.
    """
    timms = "stem.conv.weight" in (state or {})
    plan: Plan = {}
    for stage, depth in enumerate(model.depths):
        conv = f"network.{2 * stage - 1}.proj" if stage else "patch_embed.proj"
        if timms:
            conv = f"stages.{stage}.downsample.conv" if stage else "stem.conv"
        plan |= weights(f"stage{stage + 1}_conv", conv, CONV)
        for index in range(depth):
            ours = f"stage{stage + 1}_block{index + 1}"
            block = f"stages.{stage}.blocks.{index}" if timms else f"network.{2 * stage}.{index}"
            scale = "layer_scale{}.scale" if timms else "layer_scale_{}"
            plan |= layer_norm(f"{ours}_mix_norm", f"{block}.norm1") | layer_norm(f"{ours}_norm", f"{block}.norm2")
            if model.layer_scale is not None:
                plan |= {f"{ours}_mix_scale/gamma": Entry(f"{block}.{scale.format(1)}")}
                plan |= {f"{ours}_feed_forward_scale/gamma": Entry(f"{block}.{scale.format(2)}")}
            plan |= weights(f"{ours}_expand", f"{block}.mlp.fc1", CONV)
            plan |= weights(f"{ours}_project", f"{block}.mlp.fc2", CONV)
    norm, head = ("head.norm", "head.fc") if timms else ("norm", "head")
    return plan | layer_norm("norm", norm) | weights("head", head, LINEAR)
