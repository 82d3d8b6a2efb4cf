"""This module holds hand-designed image classifiers to compare with under the same recipe (paper,
Table 2, first block).

`resnet` has 20 layers of basic blocks (He et al. 2016, 4.2), as wide as a budget of parameters
allows (wider is better than deeper: Zagoruyko & Komodakis 2016). `densenet_bc` has bottlenecks and
compression (Huang et al. 2017) at their depths of 40, 100 or 190, with a growth rate by the budget.
Both begin with the stem of the recipe's network. Auxiliary heads and drop-path are left out.

Images x are (B, channels, S, S), and logits are (B, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.supernet import he_initialise
from enas.networks.width import widest
from enas.ranges import Settings
from enas.spaces.architecture import Architecture


class ImageReference(nn.Module):
    """An `ImageReference` is a hand-designed classifier that is called as a child model is. `arch`
    is None, and nothing depends on `progress`."""

    def __init__(self, stem: nn.Module, body: nn.Module, width: int, classes: int, dropout: float):
        super().__init__()
        self.stem, self.body, self.norm = stem, body, nn.BatchNorm2d(width)
        self.classifier, self.dropout = nn.Linear(width, classes), dropout
        he_initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, arch: Architecture | None = None, progress: float = 1.0) -> Tensor:
        assert arch is None
        out = self.body(self.stem(x.contiguous(memory_format=torch.channels_last)))
        features = F.relu(self.norm(out)).mean((2, 3))
        return self.classifier(F.dropout(features, self.dropout, self.training))

    def num_parameters(self, arch: Architecture | None = None, aux: bool = True) -> int:
        """Returns the number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


class BasicBlock(nn.Module):
    """A `BasicBlock` adds two times (batch norm, ReLU, 3x3) to x, in the order of He et al. 2016b.
    Where size or width change, x goes through a 1x1 convolution."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else None
        self.short = nn.Conv2d(channels_in, channels, 1, bias=False) if channels != channels_in else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        short = self.pool(x) if self.pool is not None else x
        return out + (self.short(short) if self.short is not None else short)


def resnet(width: int, channels: int, classes: int, stem_stride: int, dropout: float, blocks: int = 3) -> ImageReference:
    """Returns a ResNet of 3 x `blocks` basic blocks, whose first stage has `width` channels."""
    stem = nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False)
    body: list[nn.Module] = []
    before = width
    for level in range(3):
        for block in range(blocks):
            after = width * 2**level
            body.append(BasicBlock(before, after, 2 if level and not block else 1))
            before = after
    return ImageReference(stem, nn.Sequential(*body), before, classes, dropout)


class DenseLayer(nn.Module):
    """A `DenseLayer` adds `growth` channels: batch norm, ReLU, 1x1 to 4 x growth, batch norm, ReLU,
    3x3."""

    def __init__(self, channels: int, growth: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(4 * growth)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))], 1)


def densenet_bc(growth: int, channels: int, classes: int, stem_stride: int, dropout: float, depth: int) -> ImageReference:
    """Returns a DenseNet-BC of this growth rate and depth."""
    layers = (depth - 4) // 6
    width = 2 * growth
    stem = nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False)
    body: list[nn.Module] = []
    for block in range(3):
        for _ in range(layers):
            body.append(DenseLayer(width, growth))
            width += growth
        if block < 2:
            after = width // 2
            body += [
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, after, 1, bias=False),
                nn.AvgPool2d(2, ceil_mode=True),
            ]
            width = after
    return ImageReference(stem, nn.Sequential(*body), width, classes, dropout)


def fit(make: Callable[[int], ImageReference], parameters: int, name: str) -> ImageReference:
    """Returns the widest model with at most `parameters` parameters. Raises a ValueError where
    there is none."""

    def size(width: int) -> int:
        with torch.device("meta"):
            return make(width).num_parameters()

    return make(widest(size, parameters, f"reference model '{name}'"))


def make_resnet(dimensions: Mapping[str, int], network: Settings, parameters: int) -> ImageReference:
    """Returns the widest ResNet with at most `parameters` parameters. Raises a ValueError where
    there is none."""
    about = _about(dimensions, network)
    return fit(lambda width: resnet(width, **about), parameters, "resnet")


def make_densenet_bc(dimensions: Mapping[str, int], network: Settings, parameters: int) -> ImageReference:
    """Returns the DenseNet-BC with the largest growth rate that `parameters` allow. Its depth is 40
    up to half a million parameters, 190 from 20 million on, and 100 between. Raises a ValueError
    where there is none."""
    about = _about(dimensions, network)
    depth = {0: 40, 1: 100, 2: 190}[(parameters >= 500_000) + (parameters >= 20_000_000)]
    return fit(lambda growth: densenet_bc(growth, **about, depth=depth), parameters, "densenet_bc")


def _about(dimensions: Mapping[str, int], network: Settings) -> dict[str, Any]:
    return {
        "channels": dimensions["channels"],
        "classes": dimensions["classes"],
        "stem_stride": network.stem_stride,
        "dropout": network.dropout,
    }
