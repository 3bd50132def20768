"""Published networks that the official PyTorch package lacks, reimplemented in PyTorch as references for ours.

Each follows its paper and its script in the authors' repositories, with the layer names of the checkpoints; the
transform is that of the package. They share no code with `wavemix_tf`.
"""

from __future__ import annotations

from typing import Any

import torch
from official import import_official
from torch import nn

import_official()
import wavemix  # noqa: E402 - importable only after import_official()


def bands(x: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """Each level's [LL | LH0 HL0 HH0 LH1 ...], (N, 4C, H / 2**k, W / 2**k), finest first."""
    found = []
    for level in range(1, levels + 1):
        low, high = wavemix.DWTForward(J=level, mode="zero", wave="db1")(x)
        found.append(torch.cat([low, high[-1].flatten(1, 2)], dim=1))
    return found


class V1Block(nn.Module):
    """The block of the first paper (arXiv 2203.03689): one feed-forward for all levels."""

    def __init__(self, width: int, levels: int, expansion: int, ff_dim: int, dropout: float) -> None:
        super().__init__()
        self.levels = levels
        self.reduction = nn.Conv2d(width, width // 4, 1)
        hidden = expansion * width
        self.feedforward = nn.Sequential(
            nn.Conv2d(width, hidden, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, ff_dim, 1),
            nn.Dropout(dropout),
        )
        for level in range(1, levels + 1):
            up = nn.ConvTranspose2d(ff_dim, width // levels, 2**level + 2, stride=2**level, padding=1)
            self.add_module(f"ff{level}", up)
        self.depthconv = nn.Sequential(
            nn.Conv2d(width, width, 5, groups=width, padding=2), nn.GELU(), nn.BatchNorm2d(width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = bands(self.reduction(x), self.levels)
        ups = [getattr(self, f"ff{level}")(self.feedforward(part)) for level, part in enumerate(parts, 1)]
        return self.depthconv(torch.cat(ups, dim=1))


class ShuffleBlock(nn.Module):
    """One level, upsampled by a pixel shuffle and a 3x3 convolution: WaveMixV3.py, and with `ff_dim` WaveMixSRV2.py."""

    def __init__(self, width: int, expansion: int, ff_dim: int | None, dropout: float) -> None:
        super().__init__()
        hidden = expansion * width
        self.reduction = nn.Conv2d(width, width // 4, 1)
        second = [] if ff_dim is None else [nn.Conv2d(hidden, ff_dim, 1)]
        self.feedforward = nn.Sequential(
            nn.Conv2d(width, hidden, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            *second,
            nn.PixelShuffle(2),
            nn.Conv2d((ff_dim or hidden) // 4, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.feedforward(bands(self.reduction(x), 1)[0])


class Classifier(nn.Module):
    """Stem, blocks, mean and linear layer, for any block."""

    def __init__(self, blocks: list[nn.Module], width: int, config: dict[str, Any]) -> None:
        super().__init__()
        channels = config["image_shape"][2]
        if config.get("stem", "strided") == "strided":
            stride = config.get("stride", 1)
            self.conv = nn.Sequential(
                nn.Conv2d(channels, width // 2, 3, stride, 1), nn.Conv2d(width // 2, width, 3, stride, 1)
            )
        else:
            patch = config["patch_size"]
            self.conv = nn.Sequential(
                nn.Conv2d(channels, width // 4, 3, padding=1),
                nn.Conv2d(width // 4, width // 2, 3, padding=1),
                nn.Conv2d(width // 2, width, patch, patch),
                nn.GELU(),
                nn.BatchNorm2d(width),
            )
        self.layers = nn.ModuleList(blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, config["num_classes"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        for block in self.layers:
            x = x + block(x)
        return self.pool(x)


class LumaStage(nn.Module):
    """WaveMixSR (arXiv 2307.00430): YCbCr to YCbCr, blocks for the luma, bicubic upsampling for the chroma."""

    def __init__(self, blocks: list[nn.Module], width: int, scale: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.path1 = nn.Sequential(
            nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False),
            nn.Conv2d(1, width // 2, 3, padding=1),
            nn.Conv2d(width // 2, width, 3, padding=1),
        )
        self.final = nn.Sequential(nn.Conv2d(width, width // 2, 3, padding=1), nn.Conv2d(width // 2, 1, 1))
        self.path2 = nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        luma = self.path1(x[:, :1])
        for block in self.layers:
            luma = luma + block(luma)
        return torch.cat([self.final(luma), self.path2(x[:, 1:])], dim=1)


class Stages(nn.Module):
    """WaveMixSR-V2 (arXiv 2409.10582): a sequence of stages."""

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.SR_blocks = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.SR_blocks:
            x = stage(x)
        return x


def classifier(config: dict[str, Any]) -> nn.Module:
    """The reference for a WaveMixClassifier of the first or third version."""
    width, dropout = config["width"], config.get("dropout", 0.5)
    expansion, ff_dim = config.get("expansion", 2), config.get("ff_dim")

    def block() -> nn.Module:
        if config.get("block") == "v1":
            return V1Block(width, config["levels"], expansion, ff_dim or width, dropout)
        return ShuffleBlock(width, expansion, ff_dim, dropout)

    return Classifier([block() for _ in range(config["depth"])], width, config)


def super_resolver(config: dict[str, Any]) -> nn.Module:
    """The reference for a WaveMixSuperResolver of variant "wavemixsr" or "wavemixsr_v2", YCbCr to YCbCr."""
    width, dropout, expansion = config["width"], config.get("dropout", 0.3), config.get("expansion", 1)
    scale, staged = config.get("scale", 2), config["variant"] == "wavemixsr_v2"

    def block() -> nn.Module:
        if staged:
            return ShuffleBlock(width, expansion, config.get("ff_dim") or 4 * width, dropout)
        return wavemix.Level1Waveblock(
            mult=expansion, ff_channel=config.get("ff_dim") or width, final_dim=width, dropout=dropout
        )

    def stage(factor: int) -> nn.Module:
        return LumaStage([block() for _ in range(config["depth"])], width, factor)

    if not staged:
        return stage(scale)
    return Stages([stage(2) for _ in range(scale.bit_length() - 1)])


def randomize(model: nn.Module, seed: int) -> None:
    """Set random weights of trained magnitude and random BatchNorm statistics, in place.

    All are rounded to half precision, to halve the size of fixtures.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(1 + 0.2 * normal(module.weight.shape))
                module.bias.copy_(0.2 * normal(module.bias.shape))
                module.running_mean.copy_(0.2 * normal(module.running_mean.shape))
                module.running_var.copy_(0.5 + normal(module.running_var.shape).abs())
            elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                taps = (
                    module.weight[0].numel()
                    if not isinstance(module, nn.ConvTranspose2d)
                    else 4 * module.weight.shape[0]
                )
                module.weight.copy_(1.2 * normal(module.weight.shape) / taps**0.5)
                module.bias.copy_(0.2 * normal(module.bias.shape))
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.copy_(tensor.half().float())
