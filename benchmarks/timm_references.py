"""timm's networks for the arguments of our networks, as references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from official import import_timm
from torch import nn

import_timm()  # here, because it must be imported before TensorFlow


def vit(config: dict[str, Any]) -> nn.Module:
    """timm's network for the arguments of our ViT."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=config["image_shape"][:2],
        in_chans=config["image_shape"][2],
        num_classes=config["num_classes"],
        patch_size=config["patch_size"],
        embed_dim=config["width"],
        depth=config["depth"],
        num_heads=config["heads"],
        mlp_ratio=config.get("mlp_ratio", 4),
    ).eval()


def conv_mixer(config: dict[str, Any]) -> nn.Module:
    """timm's network for the arguments of our ConvMixer."""
    from timm.models.convmixer import ConvMixer

    names = ("depth", "kernel_size", "patch_size", "num_classes")
    activation = nn.ReLU if config.get("activation") == "relu" else nn.GELU
    return ConvMixer(dim=config["width"], act_layer=activation, **{name: config[name] for name in names}).eval()


def mlp_mixer(config: dict[str, Any]) -> nn.Module:
    """timm's network for the arguments of our MLPMixer."""
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(
        num_classes=config["num_classes"],
        img_size=config["image_shape"][:2],
        patch_size=config["patch_size"],
        num_blocks=config["depth"],
        embed_dim=config["width"],
        mlp_ratio=((config["token_dim"] or config["width"] // 2) / config["width"], config["expansion"]),
    ).eval()


def pool_former(config: dict[str, Any]) -> nn.Module:
    """timm's network for the arguments of our PoolFormer, with the authors' final order: norm, then mean."""
    from timm.models.metaformer import GroupNorm1, MetaFormer, Pooling

    network = MetaFormer(
        depths=config["depths"],
        dims=config["widths"],
        num_classes=config["num_classes"],
        token_mixers=Pooling,
        norm_layers=GroupNorm1,
        output_norm=GroupNorm1,
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        layer_scale_init_values=config["layer_scale"],
        res_scale_init_values=None,
        use_mlp_head=False,
    ).eval()
    network.forward = lambda x: network.head.fc(network.head.norm(network.forward_features(x)).mean((2, 3)))
    return network


def timm_state(network: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert a checkpoint to timm's names; those of PoolFormer's authors differ."""
    if type(network).__name__ != "MetaFormer":
        return state
    from timm.models.metaformer import checkpoint_filter_fn

    return checkpoint_filter_fn(state, network)


# class -> timm's network
NETWORKS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "ViT": vit,
    "ConvMixer": conv_mixer,
    "MLPMixer": mlp_mixer,
    "PoolFormer": pool_former,
}


def randomize(network: nn.Module, seed: int) -> None:
    """Set random weights of trained magnitude in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            scale = 0.2 if tensor.ndim < 2 else 1.2 / tensor[0].numel() ** 0.5
            if name in ("cls_token", "pos_embed"):
                scale = 0.5
            value = scale * torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1 and name.endswith(("weight", "scale")):
                value += 1
            tensor.copy_(value.half())
        for name, tensor in network.named_buffers():
            if name.endswith("running_var"):
                tensor.copy_((0.5 + torch.rand(tensor.shape, generator=generator)).half())
            elif name.endswith("running_mean"):
                tensor.copy_((0.2 * torch.randn(tensor.shape, generator=generator)).half())
