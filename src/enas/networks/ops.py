"""This module holds the ops that an edge of a convolutional cell can choose from, and their
registry (paper 2.4, appendix B).

Every op of a cell maps (B, C, H, W) to (B, C, H / stride, W / stride). Convolutions run in the
order ReLU, convolution, batch norm, and a separable convolution is applied twice (appendix B).
Pooling and identity hold no weights at stride 1. Everything works in channels_last, which makes
depthwise convolution and pooling fast on a CPU. The layers of NAS-Bench-Macro may change the number
of channels, and their convolutions come before the ReLU.

To add an op, write a function `(channels, stride, norm) -> nn.Module` and put it into `OPS` (edges
of cells) or `LAYER_OPS` (layers of whole networks). Then spaces can name it, and the laws test it.
An op of your own is named by its path, `my_ops:blur`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.plugins import check_call, entry_of
from enas.ranges import check_name
from enas.spaces.registry import OPS as OTHER_OPS

Statistics = Literal["batch", "running"]
Norm = Callable[[int], nn.Module]
T = TypeVar("T")


def batch_norm(channels: int, statistics: Statistics = "running") -> nn.BatchNorm2d:
    """Returns a batch norm that scores with running statistics, or always with those of the batch.
    A supernet uses those of the batch, because running ones would mix all children."""
    return kernels.BatchNorm(channels, track_running_stats=statistics == "running")


class AfterRelu(nn.Sequential):
    """An `AfterRelu` is an op that begins with a ReLU. Edges can share that ReLU:
    `op.body(relu(x))` equals `op(x)`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.relu(x))

    def body(self, x: Tensor) -> Tensor:
        """Returns the op without its first ReLU, applied to x."""
        for layer in islice(self, 1, None):
            x = layer(x)
        return x


class Read:
    """A `Read` object holds the named values of a cell. Where an op begins with a ReLU, the ReLU of
    a value is computed once and kept."""

    def __init__(self, values: dict[str, Tensor]):
        self.values = values
        self.relus: dict[str, Tensor] = {}

    def by(self, op: nn.Module, name: str) -> Tensor:
        """Returns the op applied to the value of this name."""
        if not isinstance(op, AfterRelu) or not kernels.on("relu"):
            out: Tensor = op(self.values[name])
            return out
        if name not in self.relus:
            self.relus[name] = F.relu(self.values[name])
        return op.body(self.relus[name])


class SeparableConv(AfterRelu):
    """A `SeparableConv` is (ReLU, depthwise, 1x1, batch norm), `times` times over: twice in cells
    (appendix B). Only the first has the stride."""

    def __init__(self, channels: int, stride: int, norm: Norm, kernel: int, times: int = 2):
        layers: list[nn.Module] = []
        for time in range(times):
            layers += [
                nn.ReLU(inplace=time > 0),
                kernels.Depthwise(channels, kernel, stride if time == 0 else 1),
                nn.Conv2d(channels, channels, 1, bias=False),
                norm(channels),
            ]
        super().__init__(*layers)


class FactorizedReduction(nn.Module):
    """A `FactorizedReduction` halves the size by two 1x1 convolutions of stride 2, of which the
    second reads one pixel further down and right. Their outputs are concatenated and go through a
    batch norm. As in the released code, they read half of the pixels.

    The input is (B, C_in, H, W) and the output (B, C_out, ceil(H/2), ceil(W/2)). Where a ReLU is
    wanted, it comes before.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: Norm):
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out // 2, 1, 2, bias=False)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(factorized(x, self.even.weight, self.odd.weight))


def factorized(x: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """Returns the two stride-2 products of a factorized reduction, concatenated. At odd sizes,
    zeros stand for the missing pixels of odd row and column.

    The pixels are picked before the product, and not by its stride. On x86 a 1x1 convolution of
    stride 2 in channels_last with fewer than 8 input channels writes past its memory (torch 2.13,
    oneDNN; docs/log).
    """
    picked = kernels.diagonals(x, both=odd.shape[0] > 0)
    return kernels.concatenated([F.conv2d(part, weight) for part, weight in zip(picked, (even, odd), strict=False)])


class Conv(AfterRelu):
    """A `Conv` is a ReLU, a k x k convolution and a batch norm (appendix B). It keeps the number of
    channels where `channels_out` is None."""

    def __init__(self, channels: int, stride: int, norm: Norm, kernel: int, channels_out: int | None = None):
        channels_out = channels_out or channels
        conv = nn.Conv2d(channels, channels_out, kernel, stride, kernel // 2, bias=False)
        super().__init__(nn.ReLU(), conv, norm(channels_out))


def identity(channels: int, stride: int, norm: Norm) -> nn.Module:
    """Returns an identity, which at stride 2 is a ReLU and a factorized reduction."""
    if stride == 1:
        return nn.Identity()
    return AfterRelu(nn.ReLU(), FactorizedReduction(channels, channels, norm))


def avg_pool(channels: int, stride: int, norm: Norm) -> nn.Module:
    # Padding does not count as pixels, as in the released code's framework.
    return kernels.AvgPool(stride)


def max_pool(channels: int, stride: int, norm: Norm) -> nn.Module:
    return kernels.MaxPool(stride)


OPS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "identity": identity,
    "sep_conv_3x3": partial(SeparableConv, kernel=3),
    "sep_conv_5x5": partial(SeparableConv, kernel=5),
    "avg_pool_3x3": avg_pool,
    "max_pool_3x3": max_pool,
}


# The ops of a layer of a network (paper 2.3), where separable convolutions are applied once.
LAYER_OPS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "conv_3x3": partial(Conv, kernel=3),
    "conv_5x5": partial(Conv, kernel=5),
    "sep_conv_3x3": partial(SeparableConv, kernel=3, times=1),
    "sep_conv_5x5": partial(SeparableConv, kernel=5, times=1),
    "avg_pool_3x3": avg_pool,
    "max_pool_3x3": max_pool,
}


def pointwise(channels_in: int, channels_out: int, norm: Norm) -> nn.Module:
    """Returns a 1x1 convolution and a batch norm."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), norm(channels_out))


def make_stem(channels_in: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    """Returns a 3x3 convolution and a batch norm, which every image goes through first."""
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), norm(channels))


# The ops of an edge of NAS-Bench-201, besides `none` (Dong & Yang 2020, 2.2).
NB201_OPS: dict[str, Callable[[int, int, Norm], nn.Module]] = {
    "skip_connect": identity,
    "nor_conv_1x1": partial(Conv, kernel=1),
    "nor_conv_3x3": partial(Conv, kernel=3),
    "avg_pool_3x3": avg_pool,
}


class InvertedResidual(nn.Module):
    """An `InvertedResidual` is a 1x1 convolution to `expansion` times the channels, ReLU, depthwise
    k x k, ReLU and a 1x1 convolution, with batch norm after each convolution. Where the shape stays
    the same, the input is added (Sandler et al. 2018, with ReLU as in NAS-Bench-Macro).

    It maps (B, C_in, H, W) to (B, C_out, H / stride, W / stride).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: Norm, expansion: int, kernel: int):
        super().__init__()
        hidden = expansion * channels_in
        self.expand = pointwise(channels_in, hidden, norm)
        self.depthwise = nn.Sequential(kernels.Depthwise(hidden, kernel, stride), norm(hidden))
        self.project = pointwise(hidden, channels_out, norm)
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(F.relu(self.depthwise(F.relu(self.expand(x)))))
        return x + y if self.adds else y


class Shortcut(nn.Module):
    """A `Shortcut` is a 1x1 convolution and a batch norm. At stride 2 it picks pixels before the
    product (see `factorized`). Its shapes are those of `InvertedResidual`."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: Norm):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        (x,) = kernels.diagonals(x, both=False) if self.stride == 2 else (x,)
        out: Tensor = self.norm(self.conv(x))
        return out


def identity_or_shortcut(channels_in: int, channels_out: int, stride: int, norm: Norm) -> nn.Module:
    """Returns an identity where the shape stays the same, else a `Shortcut`."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return Shortcut(channels_in, channels_out, stride, norm)


# The ops of a layer of NAS-Bench-Macro (Su et al. 2021).
NBMACRO_OPS: dict[str, Callable[[int, int, int, Norm], nn.Module]] = {
    "identity": identity_or_shortcut,
    "mb3_k3": partial(InvertedResidual, expansion=3, kernel=3),
    "mb6_k5": partial(InvertedResidual, expansion=6, kernel=5),
}


def registered(name: str, ops: Mapping[str, T], what: str = "an op") -> T:
    """Returns the function that makes the op of this name: one of `ops`, one of an installed
    package, or `package.module:thing`. Raises a ValueError where there is none."""
    if name in ops:
        return ops[name]
    if ":" not in name:
        check_name(what, name, [*ops, *OTHER_OPS])
    made: T = entry_of(what, name, OTHER_OPS).make
    return made


def make_op(
    name: str, channels: int, stride: int, norm: Norm, ops: Mapping[str, Callable[[int, int, Norm], nn.Module]] = OPS
) -> nn.Module:
    """Returns an op for (B, channels, H, W) by its name. Raises a ValueError for an unknown name,
    and for a function of a user's own that makes no module."""
    make = registered(name, ops)
    if name in ops:
        return make(channels, stride, norm)
    rule = f"an op is a function (channels, stride, norm) -> nn.Module; '{name}'"
    check_call(f"{rule} takes other arguments", make, channels, stride, norm)
    op = make(channels, stride, norm)
    if not isinstance(op, nn.Module):
        raise ValueError(f"{rule} made {type(op).__name__}")
    return op
