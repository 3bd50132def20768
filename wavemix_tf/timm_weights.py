"""Which tensor of a timm checkpoint each of our variables is; `torch_weights` loads and saves by it.

timm's `VisionTransformer` and the checkpoints of DeiT's authors have these names, with `N` the block counted from 0:

    cls_token, pos_embed         the class token, and the positions of all tokens, the class token's first
    patch_embed.proj             the patches' convolution
    blocks.N.norm1, .norm2       LayerNorm in front of the attention and of the feed-forward
    blocks.N.attn.qkv, .proj     query, key and value in one linear layer; the one behind the attention
    blocks.N.mlp.fc1, .fc2       the feed-forward
    norm, head                   LayerNorm and linear layer at the end
"""

from __future__ import annotations

from wavemix_tf.torch_weights import _CONV, _LINEAR, Plan, _Entry
from wavemix_tf.vit import ViT


def vit_plan(model: ViT) -> Plan:
    """Our `layer/variable` -> entry, for every variable of the model."""
    plan = {
        "embed/class_token": _Entry("cls_token"),
        "embed/positions": _Entry("pos_embed", note=", one for each token: another image_shape or patch_size"),
    }
    plan |= _weights("patch_embed", "patch_embed.proj", _CONV)
    roles = {"attention_qkv": "attn.qkv", "attention_proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for index in range(model.depth):
        ours, timms = f"block{index + 1}", f"blocks.{index}"
        for mine, theirs in roles.items():
            plan |= _weights(f"{ours}_{mine}", f"{timms}.{theirs}", _LINEAR)
        plan |= _norm(f"{ours}_norm1", f"{timms}.norm1") | _norm(f"{ours}_norm2", f"{timms}.norm2")
    return plan | _norm("norm", "norm") | _weights("head", "head", _LINEAR)


def _weights(ours: str, timms: str, axes: tuple[int, ...]) -> Plan:
    return {f"{ours}/kernel": _Entry(f"{timms}.weight", axes), f"{ours}/bias": _Entry(f"{timms}.bias")}


def _norm(ours: str, timms: str) -> Plan:
    return {f"{ours}/gamma": _Entry(f"{timms}.weight"), f"{ours}/beta": _Entry(f"{timms}.bias")}
