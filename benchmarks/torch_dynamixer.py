"""DynaMixer (arXiv 2201.12083), reimplemented in PyTorch as the reference for ours.

It follows the paper and the authors' repository, with the layer names of their checkpoints. It shares no code with
`wavemix_tf`. It is more general in two ways: height and width may differ, and the sides of a stage follow from the
image instead of being arguments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Mixing(nn.Module):
    """(N, L, C): mix L tokens by one matrix per segment, which a linear layer computes from all tokens."""

    def __init__(self, width: int, tokens: int, segments: int, reduced_dim: int) -> None:
        super().__init__()
        self.tokens, self.segments = tokens, segments
        self.compress = nn.Linear(width, segments * reduced_dim)
        self.generate = nn.Linear(tokens * reduced_dim, tokens**2)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.compress(x).unflatten(-1, (self.segments, -1)).transpose(1, 2)  # (N, S, L, d)
        matrices = self.generate(codes.flatten(2)).unflatten(-1, (self.tokens, self.tokens)).softmax(-2)
        parts = x.unflatten(-1, (self.segments, -1)).permute(0, 2, 3, 1)  # (N, S, C/S, L)
        mixed = parts @ matrices  # from tokens along the last axis but one to tokens along the last
        return self.out(mixed.permute(0, 3, 1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Branches(nn.Module):
    """(N, H, W, C): mixing along the height, along the width, and of the channels only, with learned weights."""

    def __init__(self, width: int, sides: tuple[int, int], segments: int, reduced_dim: int) -> None:
        super().__init__()
        self.mix_h = Mixing(width, sides[0], segments, reduced_dim)
        self.mix_w = Mixing(width, sides[1], segments, reduced_dim)
        self.mlp_c = nn.Linear(width, width, bias=False)
        self.reweight = Perceptron(width, width // 4, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = len(x)
        along_height = self.mix_h(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (count, -1)).transpose(1, 2)
        along_width = self.mix_w(x.flatten(0, 1)).unflatten(0, (count, -1))
        found = [along_height, along_width, self.mlp_c(x)]
        shares = self.reweight(sum(found).mean((1, 2))).unflatten(-1, (-1, 3)).softmax(-1)  # (N, C, 3)
        return self.proj(sum(branch * shares[:, None, None, :, k] for k, branch in enumerate(found)))


class Block(nn.Module):
    def __init__(self, width: int, sides: tuple[int, int], segments: int, reduced_dim: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Branches(width, sides, segments, reduced_dim)
        self.mlp = Perceptron(width, int(width * mlp_ratio), width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """(N, H, W, C) -> (N, H / size, W / size, width)."""

    def __init__(self, channels: int, width: int, size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Network(nn.Module):
    """(N, 3, H, W) -> logits, for the arguments of our DynaMixer."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        height, width, channels = config["image_shape"]
        widths, size = config["widths"], config["patch_size"]
        self.patch_embed = Patches(channels, widths[0], size)
        sides = (height // size, width // size)
        parts: list[nn.Module] = []
        before = widths[0]
        for depth, after, segments, stride in zip(
            config["depths"], widths, config["segments"], (1, *config["strides"]), strict=True
        ):
            if stride > 1 or after != before:
                parts.append(Patches(before, after, stride))
            sides, before = (sides[0] // stride, sides[1] // stride), after
            options = (after, sides, segments, config.get("reduced_dim", 2), config.get("mlp_ratio", 3))
            parts.append(nn.Sequential(*(Block(*options) for _ in range(depth))))
        self.network = nn.ModuleList(parts)
        self.norm = nn.LayerNorm(before)
        self.head = nn.Linear(before, config["num_classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x.permute(0, 2, 3, 1))
        for part in self.network:
            x = part(x)
        return self.head(self.norm(x).mean((1, 2)))


def randomize(model: nn.Module, seed: int) -> None:
    """Set random weights of trained magnitude in place, rounded to half precision to halve the size of fixtures."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm)):
                normal = torch.randn(module.weight.shape, generator=generator)
                taps = module.weight[0].numel()
                module.weight.copy_(1 + 0.2 * normal if isinstance(module, nn.LayerNorm) else 1.2 * normal / taps**0.5)
                if module.bias is not None:
                    module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
        for tensor in model.parameters():
            tensor.copy_(tensor.half().float())
