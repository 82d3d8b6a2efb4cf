"""The ops an edge of a convolutional cell can choose from, and their registry (paper 2.4 and appendix B).

Shapes: every op maps (B, C, H, W) to (B, C, H / stride, W / stride); the channel count stays. Convolutions run in the order
ReLU, convolution, batch norm, and a separable convolution is applied twice (appendix B). Pooling and identity hold no
weights at stride 1. Everything works in channels_last, which is what makes depthwise convolution and pooling fast on a CPU.

To add an op, write a function `(channels, stride, norm) -> nn.Module` and put it into `OPS` (edges of cells) or `LAYER_OPS`
(layers of whole networks): spaces name it, laws test it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Statistics = Literal["batch", "running"]
Norm = Callable[[int], nn.Module]


def batch_norm(channels: int, statistics: Statistics = "running") -> nn.BatchNorm2d:
    """Batch norm that scores with its running statistics, or always with those of the batch at hand.

    A supernet uses the batch's: running ones would mix all children (the measured cause of collapsed searches).
    """
    return nn.BatchNorm2d(channels, track_running_stats=statistics == "running")


class SeparableConv(nn.Sequential):
    """(ReLU, depthwise k x k, pointwise 1x1, batch norm), twice in cells (appendix B); the stride is in the first."""

    def __init__(self, channels: int, stride: int, norm: Norm, kernel: int, times: int = 2):
        layers: list[nn.Module] = []
        for step in (stride, *[1] * (times - 1)):
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                norm(channels),
            ]
        super().__init__(*layers)


class FactorizedReduction(nn.Module):
    """Half the size: two 1x1 convolutions of stride 2, one a pixel further down and right, side by side; then batch norm.
    Together they read half of the pixels, as released: those of even row and column, and those of odd row and column.
    Input (B, C_in, H, W), output (B, C_out, ceil(H/2), ceil(W/2)). Reads its input as it is: a ReLU, where one is wanted,
    comes before."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm):
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out // 2, 1, 2, bias=False)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(factorized(x, self.even.weight, self.odd.weight))


def factorized(x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """The two stride-2 products of a factorized reduction, concatenated.

    Pixels are picked before the product, not by its stride: on x86 a 1x1 convolution of stride 2 in channels_last with
    fewer than 8 input channels writes past its memory (torch 2.13, oneDNN; docs/log.md)."""
    out = F.conv2d(_every_second(x), even)
    if odd.shape[0] == 0:
        return out
    return torch.cat([out, F.conv2d(_every_second(shifted(x)), odd)], 1)


def _every_second(x: Tensor) -> Tensor:
    return x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)


def shifted(x: Tensor) -> Tensor:
    """`x` moved by one pixel up and left; at odd sizes a line of zeros comes in, so that a stride of 2 keeps ceil(H/2)."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return x[:, :, 1:, 1:]


class Conv(nn.Sequential):
    """ReLU, k x k, batch norm (appendix B)."""

    def __init__(self, channels: int, stride: int, norm: Norm, kernel: int):
        conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, norm(channels))


def identity(channels: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.ReLU(), FactorizedReduction(channels, channels, norm))


def avg_pool(channels: int, stride: int, norm: Norm) -> nn.Module:
    # Padding does not count as pixels, as in the released code's framework.
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


def max_pool(channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.MaxPool2d(3, stride, 1)


OPS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "identity": identity,
    "sep_conv_3x3": partial(SeparableConv, kernel=3),
    "sep_conv_5x5": partial(SeparableConv, kernel=5),
    "avg_pool_3x3": avg_pool,
    "max_pool_3x3": max_pool,
}


# What a layer of a whole network chooses from (paper 2.3): separable convolutions are applied once there.
LAYER_OPS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "conv_3x3": partial(Conv, kernel=3),
    "conv_5x5": partial(Conv, kernel=5),
    "sep_conv_3x3": partial(SeparableConv, kernel=3, times=1),
    "sep_conv_5x5": partial(SeparableConv, kernel=5, times=1),
    "avg_pool_3x3": avg_pool,
    "max_pool_3x3": max_pool,
}


def make_op(
    name: str, channels: int, stride: int, norm: Norm, ops: Mapping[str, Callable[[int, int, Norm], nn.Module]] = OPS
) -> nn.Module:
    """A registered op for (B, channels, H, W); ValueError for an unknown name."""
    if name not in ops:
        raise ValueError(f"an op is one of {', '.join(ops)}; got '{name}'")
    return ops[name](channels, stride, norm)
