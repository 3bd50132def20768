"""The mapping of our variables to tensors of an official DynaMixer checkpoint, for `torch_weights`.

The official repository (ziyuwwang/DynaMixer) saves plain state dicts under these names, with `M` the index in its list
of stages and of the convolutions between them, `N` the block in its stage, both counted from 0:

    patch_embed.proj                     the patches' convolution
    network.M.proj                       the convolution before a stage
    network.M.N.norm1, .norm2            LayerNorm of the mixing and of the channel MLP
    network.M.N.attn.mix_h, .mix_w       mixing along the height (our `columns`) and along the width (our `rows`)
        .compress .generate .out         linear layers
    network.M.N.attn.mlp_c               the channel branch, without a bias
    network.M.N.attn.reweight.fc{1,2}    the weights of the three branches
    network.M.N.attn.proj                linear layer after their sum
    network.M.N.mlp.fc{1,2}              the channel MLP
    norm, head                           LayerNorm and linear layer at the end

`generate` returns a mixing matrix with the output tokens along its last axis; ours has them along the second-to-last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..networks.dynamixer import DynaMixer
from .plans import CONV, LINEAR, Plan, layer_norm, weights


def dynamixer_plan(model: DynaMixer, _: Mapping[str, Any] | None = None) -> Plan:
    """Return our `layer/variable` -> entry, for every variable of the model."""
    plan = weights("stem_conv", "patch_embed.proj", CONV)
    names = {layer.name for layer in model.layers}
    place = -1
    for stage, depth in enumerate(model.depths, 1):
        place += 1
        if f"stage{stage}_conv" in names:
            plan |= weights(f"stage{stage}_conv", f"network.{place}.proj", CONV)
            place += 1
        for index in range(depth):
            block = model.get_layer(f"stage{stage}_block{index + 1}")
            _, height, width, _ = block.input.shape
            plan |= _block(block.name, f"network.{place}.{index}", height, width)
    return plan | layer_norm("norm", "norm") | weights("head", "head", LINEAR)


def _block(ours: str, official: str, height: int, width: int) -> Plan:
    plan = layer_norm(f"{ours}_norm1", f"{official}.norm1") | layer_norm(f"{ours}_norm2", f"{official}.norm2")
    plan |= _mixing(f"{ours}_columns", f"{official}.attn.mix_h", height)
    plan |= _mixing(f"{ours}_rows", f"{official}.attn.mix_w", width)
    plan |= weights(f"{ours}_channels", f"{official}.attn.mlp_c", LINEAR, bias=False)
    roles = {"weigh1": "attn.reweight.fc1", "weigh2": "attn.reweight.fc2", "project": "attn.proj"}
    for mine, theirs in {**roles, "mlp1": "mlp.fc1", "mlp2": "mlp.fc2"}.items():
        plan |= weights(f"{ours}_{mine}", f"{official}.{theirs}", LINEAR)
    return plan


def _mixing(ours: str, official: str, tokens: int) -> Plan:
    transposed = np.arange(tokens * tokens).reshape(tokens, tokens).T.ravel()
    plan = weights(f"{ours}_compress", f"{official}.compress", LINEAR)
    plan |= weights(f"{ours}_generate", f"{official}.generate", LINEAR, outputs=transposed)
    return plan | weights(f"{ours}_out", f"{official}.out", LINEAR)
