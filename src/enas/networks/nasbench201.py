"""The network that cells of NAS-Bench-201 are put into (Dong & Yang 2020, section 2.1).

    stem 3x3 -> N cells at C channels -> residual block, half the size -> N cells at 2C -> residual block -> N cells at 4C
    -> batch norm, ReLU, average, linear

Shapes: x (B, channels, S, S); a cell keeps shape; a residual block maps (B, C, s, s) to (B, 2C, s/2, s/2). Published:
C = 16, N = 5. Weights begin as everywhere here (He), not by torch's own rule as in the publication.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.ops import NB201_OPS, AfterRelu, Norm, Read, Statistics, batch_norm, make_op, make_stem
from enas.networks.supernet import Supernet, he_initialise
from enas.ranges import COUNT, check_name, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredCell, WiredEdge, possible_edges
from enas.spaces.space import SearchSpace

STAGES = 3


@dataclass(frozen=True)
class NasBench201NetworkSettings:
    """Size of the network around the cells."""

    filters: int = 16
    """Channels of the first stage, C; doubled at each of the two residual blocks (published: 16)."""
    cells: int = 5
    """Cells a stage, N (published: 5)."""
    stem_stride: int = 1
    """2 halves the image before the first cell: a quarter of the cost; not published."""

    def __post_init__(self) -> None:
        check_ranges(self, "network", filters=COUNT, cells=COUNT)
        check_name("network.stem_stride", self.stem_stride, (1, 2))

    def widened(self, highest: int) -> Self:
        """All widths scaled so that the last stage has so many filters. ValueError where they do not come out whole."""
        if highest < 4 or highest % 4:
            raise ValueError(f"filters of the last stage are a multiple of 4, as the stem has a quarter; got {highest}")
        return replace(self, filters=highest // 4)


class NasBench201Network(Supernet):
    """Supernet of the space, or with `only` the child model of one architecture."""

    def __init__(
        self,
        space: SearchSpace,
        settings: NasBench201NetworkSettings,
        channels: int,
        image_size: int,
        classes: int,
        only: Architecture | None = None,
        statistics: Statistics = "batch",
    ):
        super().__init__(space, only, statistics)
        self.settings, self.channels, self.image_size, self.classes = settings, channels, image_size, classes
        (self.cell,) = space.cells
        (self.input,) = self.cell.inputs
        least = settings.stem_stride * 2 ** (STAGES - 1)
        if image_size < least:
            raise ValueError(
                f"two residual blocks and a stem of stride {settings.stem_stride} need images of at least {least}"
                f" pixels; got {image_size}"
            )
        self._build(set(self.addresses(only, aux=False)) if only is not None else None)
        he_initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # ---------------------------------------------------------------------------------------------- structure
    def width(self, stage: int) -> int:
        return int(self.settings.filters * 2**stage)

    def _build(self, needed: set[str] | None) -> None:
        norm = partial(batch_norm, statistics=self.statistics)
        stem = partial(make_stem, self.channels, self.width(0), self.settings.stem_stride, norm)
        self.provide("stem", stem, needed)
        edges = list(possible_edges(self.cell))
        for stage in range(STAGES):
            width = self.width(stage)
            if stage:
                self.provide(f"reductions.{stage}", partial(_Residual, self.width(stage - 1), width, norm), needed)
            for position in self._positions(stage):
                for edge in edges:
                    make = partial(make_op, edge.op, width, 1, norm, NB201_OPS)
                    self.provide(self._address(edge, position), make, needed)
        last = self.width(STAGES - 1)
        self.provide("norm", partial(norm, last), needed)
        self.provide("classifier", partial(nn.Linear, last, self.classes), needed)

    def _positions(self, stage: int) -> range:
        return range(stage * self.settings.cells, (stage + 1) * self.settings.cells)

    def _address(self, edge: WiredEdge, position: int) -> str:
        assert self.space.address is not None
        return self.space.address(edge, position)

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        cell = self.space.wire(arch)[self.cell.name]
        if not cell.outputs:  # zeros reach the head, whatever comes before
            return ["norm", "classifier"]
        edges = [edge for node in cell.nodes for edge in node.edges]
        out = ["stem", *(f"reductions.{stage}" for stage in range(1, STAGES))]
        out += [self._address(edge, position) for position in range(STAGES * self.settings.cells) for edge in edges]
        return [*out, "norm", "classifier"]

    def marks(self) -> dict[str, str]:
        return {}

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> NasBench201Network:
        return NasBench201Network(self.space, self.settings, self.channels, self.image_size, self.classes, only, statistics)

    # ------------------------------------------------------------------------------------------------ forward
    def forward(self, x: Tensor, arch: Architecture | None = None, progress: float = 1.0) -> Tensor:
        """Logits (B, classes). `progress` is without meaning here: nothing in this network changes with time."""
        arch = self.architecture(arch)
        cell = self.space.wire(arch)[self.cell.name]
        if cell.outputs:
            images = x
            x = self.once(images, "stem", lambda: self.at("stem")(images.contiguous(memory_format=torch.channels_last)))
            for stage in range(STAGES):
                x = self.at(f"reductions.{stage}")(x) if stage else x
                for position in self._positions(stage):
                    x = self._cell(position, cell, x)
        else:
            size = self.image_size // (self.settings.stem_stride * 2 ** (STAGES - 1))
            x = x.new_zeros(x.shape[0], self.width(STAGES - 1), size, size)
        features = F.relu(self.at("norm")(x)).mean((2, 3))
        return self.at("classifier")(features)

    def _cell(self, position: int, cell: WiredCell, x: Tensor) -> Tensor:
        values = {self.input: x}
        read = Read(values)
        for node in cell.nodes:
            total: Tensor | None = None
            for edge in node.edges:
                y = read.by(self.at(self._address(edge, position)), edge.input)
                total = y if total is None else total + y
            assert total is not None
            values[node.name] = total
        return values[cell.outputs[0]]


class _Residual(nn.Module):
    """(ReLU, 3x3, batch norm) twice, the first of stride 2, beside a 2x2 average and a 1x1."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm):
        super().__init__()
        self.first = _relu_conv_norm(channels_in, channels_out, 2, norm)
        self.second = _relu_conv_norm(channels_out, channels_out, 1, norm)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y + self.shortcut(kernels.halved(x))


def _relu_conv_norm(channels_in: int, channels_out: int, stride: int, norm: Norm) -> nn.Module:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
    return AfterRelu(nn.ReLU(), conv, norm(channels_out))


def _stem(channels_in: int, channels: int, stride: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), norm(channels))
