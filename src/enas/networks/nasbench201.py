"""This module holds the network that cells of NAS-Bench-201 are put into (Dong & Yang 2020, section
2.1).

    stem 3x3 -> N cells at C channels -> residual block, half the size -> N cells at 2C
    -> residual block -> N cells at 4C -> batch norm, ReLU, average, linear

Images x are (B, channels, S, S). A cell keeps the shape. A residual block maps (B, C, s, s) to (B,
2C, s/2, s/2). The publication has C = 16 and N = 5. Weights are initialised as everywhere in this
package (He), and not by torch's default as in the publication.
"""

from __future__ import annotations

from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.image_network import ImageNetwork
from enas.networks.ops import NB201_OPS, Conv, Norm, Read, make_op
from enas.networks.settings import STAGES, NasBench201NetworkSettings
from enas.networks.static.nasbench201 import NasBench201Program
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredCell, possible_edges


class NasBench201Network(ImageNetwork[NasBench201NetworkSettings]):
    """A `NasBench201Network` has three stages of one cell. A level is a stage, and every stage but
    the first begins with a residual block."""

    program_type = NasBench201Program

    def prepare(self) -> None:
        (self.cell,) = self.space.cells
        (self.input,) = self.cell.inputs
        self.check_image_size(STAGES - 1, "two residual blocks")

    def build(self) -> None:
        edges = list(possible_edges(self.cell))
        for stage in range(STAGES):
            width = self.width(stage)
            if stage:
                self.provide(f"reductions.{stage}", partial(_Residual, self.width(stage - 1), width, self.make_norm))
            for position in self._positions(stage):
                for edge in edges:
                    make = partial(make_op, edge.op, width, 1, self.make_norm, NB201_OPS)
                    self.provide(self.address(edge, position), make)
        last = self.width(STAGES - 1)
        self.provide("norm", partial(self.make_norm, last))
        self.provide("classifier", partial(nn.Linear, last, self.classes))

    def _positions(self, stage: int) -> range:
        return range(stage * self.settings.cells, (stage + 1) * self.settings.cells)

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        cell = self.only_cell(arch)
        if not cell.outputs:  # zeros reach the head, so nothing before it is used
            return ["norm", "classifier"]
        edges = [edge for node in cell.nodes for edge in node.edges]
        out = ["stem", *(f"reductions.{stage}" for stage in range(1, STAGES))]
        out += [self.address(edge, position) for position in range(STAGES * self.settings.cells) for edge in edges]
        return [*out, "norm", "classifier"]

    def computed(self, x: Tensor, arch: Architecture, progress: float) -> Tensor:
        """Returns logits (B, classes). They do not depend on `progress`."""
        cell = self.only_cell(arch)
        if cell.outputs:
            x = self.after_stem(x)
            for stage in range(STAGES):
                x = self.at(f"reductions.{stage}")(x) if stage else x
                for position in self._positions(stage):
                    x = self.block(self._cell(position, cell, x))
        else:
            size = self.size(STAGES - 1)
            x = x.new_zeros(x.shape[0], self.width(STAGES - 1), size, size)
        logits: Tensor = self.at("classifier")(F.relu(self.at("norm")(x)).mean((2, 3)))
        return logits

    def _cell(self, position: int, cell: WiredCell, x: Tensor) -> Tensor:
        read = Read({self.input: x})
        for node in cell.nodes:
            parts = (read.by(self.at(self.address(edge, position)), edge.input) for edge in node.edges)
            read.values[node.name] = reduce(torch.add, parts)
        return read.values[cell.outputs[0]]


class _Residual(nn.Module):
    """A `_Residual` block adds two branches: (ReLU, 3x3, batch norm) twice, the first of stride 2;
    and an average of 2x2 pixels with a 1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm):
        super().__init__()
        self.first = Conv(channels_in, 2, norm, 3, channels_out)
        self.second = Conv(channels_out, 1, norm, 3)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y + self.shortcut(kernels.halved(x))
