"""This module holds the network that the layers of the macro space make (paper 2.3, Fig. 3,
appendix B).

    stem 3x3 -> layers 1 .. L, reductions after L/3 and 2L/3 -> ReLU, average, dropout, linear

Images x are (B, channels, S, S). A layer returns (B, C, s, s) without a ReLU, and whatever reads it
applies one. At a reduction, every earlier output that a later layer still reads is halved by a
factorized reduction of its own. Filters double there if the settings say so.

Chosen outputs are merged by one 1x1 convolution over their concatenation, then batch norm and ReLU.
Its weight is put together from one matrix per (layer, source), so that every subset uses shared
weights. Where the form of the space is `released`, the outputs are merged after the op, and the
op's output is one more source. Layers that the last one does not depend on are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.image_network import ImageNetwork
from enas.networks.ops import LAYER_OPS, AfterRelu, FactorizedReduction, Norm, make_op
from enas.networks.settings import MacroSettings
from enas.networks.static.macro import MacroProgram
from enas.networks.supernet import he_normal
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredNode, possible_edges

OP = "op"  # the source that stands for a layer's own op, where skips are merged after it


def cuts(layers: int, reductions: int) -> tuple[int, ...]:
    """Returns after how many layers each reduction stands. Networks that are too short have fewer
    reductions."""
    places = {0: (), 1: (layers // 2,), 2: (layers // 3, 2 * layers // 3)}[reductions]
    return tuple(sorted({place for place in places if place > 0}))


class MacroNetwork(ImageNetwork[MacroSettings]):
    """A `MacroNetwork` is the network of the macro space. The level of an output is the number of
    reductions before the place where it is made."""

    program_type = MacroProgram

    def prepare(self) -> None:
        (self.cell,) = self.space.cells
        (self.first,) = self.cell.inputs
        self.cuts = cuts(len(self.cell.nodes), self.settings.reductions)
        order = [self.first, *(node.name for node in self.cell.nodes)]
        self.level = {name: sum(cut < i for cut in self.cuts) for i, name in enumerate(order)}
        self.check_image_size(len(self.cuts), f"{len(self.cuts)} reductions")

    # ----------------------------------------------------------------------------------- structure
    def width(self, level: int) -> int:
        return super().width(level) if self.settings.double_filters else self.settings.filters

    def build(self) -> None:
        settings, widths, norm = self.settings, self.width, self.make_norm
        for node in self.cell.nodes:
            width = widths(self.level[node.name])
            for edge in (e for e in possible_edges(self.cell) if e.node == node.name):
                self.provide(self.address(edge), partial(self._op, edge.op, width, norm))
            if node.skips is None or not settings.merge:
                continue
            sources = (*node.skips.options, *([OP] if node.merge == "after" else []))
            for source in sources:
                self.provide(f"merge.{node.name}.{source}", partial(_Matrix, width, width))
            if settings.merge_norm:
                self.provide(f"merge.{node.name}.norm", partial(norm, width))
        for name, level in self.level.items():
            for cut in range(level, len(self.cuts)):
                make = partial(_halve, widths(cut), widths(cut + 1), norm)
                self.provide(f"reductions.{cut}.{name}", make)
        last = len(self.cuts)
        pixels = 1 if settings.average_pooling else self.size(last) ** 2
        self.provide("classifier", partial(nn.Linear, widths(last) * pixels, self.classes))

    def _op(self, name: str, width: int, norm: Norm) -> nn.Module:
        op = make_op(name, width, 1, norm, LAYER_OPS)
        if not self.settings.entry_conv:
            return op
        return nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1, bias=False), norm(width), op)

    def deepest(self, nodes: Sequence[WiredNode]) -> dict[str, int]:
        """Returns for each output the deepest level at which it is read."""
        deepest = {nodes[-1].name: len(self.cuts)}
        for node in nodes:
            for name in node.reads:
                deepest[name] = max(deepest.get(name, 0), self.level[node.name])
        return deepest

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        nodes = self.only_cell(arch).nodes
        deepest = self.deepest(nodes)
        out = ["stem"] if self.first in deepest else []
        for node in nodes:
            out += [self.address(edge) for edge in node.edges]
            if node.skips and self.settings.merge:
                out += [f"merge.{node.name}.{source}" for source in self._sources(node)]
                out += [f"merge.{node.name}.norm"] if self.settings.merge_norm else []
        out += [f"reductions.{cut}.{name}" for name, cut in self._halvings(deepest)]
        return [*out, "classifier"]

    def _sources(self, node: WiredNode) -> tuple[str, ...]:
        """Returns the sources that are merged in a layer with chosen outputs."""
        return node.skips if node.merged else (*node.skips, OP)

    def _halvings(self, deepest: dict[str, int]) -> Iterator[tuple[str, int]]:
        """Yields (output, reduction) for every factorized reduction that is needed."""
        return ((name, cut) for name, level in deepest.items() for cut in range(self.level[name], level))

    def rescale(self) -> None:
        """Applies He's rule to the whole merging 1x1 convolution of each layer of a child: its
        fan-in is that of all sources together. A batch norm would undo the scale; without a batch
        norm, first losses are up to 38 (docs/log, 2026-11-27)."""
        if self.only is None or not self.settings.merge or self.settings.merge_norm:
            return
        for node in self.only_cell(self.only).nodes:
            sources = self._sources(node) if node.skips else ()
            for source in sources:
                self.at(f"merge.{node.name}.{source}").weight.div_(len(sources) ** 0.5)

    # ------------------------------------------------------------------------------------- forward
    def computed(self, x: Tensor, arch: Architecture, progress: float) -> Tensor:
        """Returns logits (B, classes). They do not depend on `progress`."""
        nodes = self.only_cell(arch).nodes
        # Values by output and level. A halved version is made when it is first read.
        values: dict[tuple[str, int], Tensor] = {(self.first, 0): self.after_stem(x)}

        def value(name: str, level: int) -> Tensor:
            if (name, level) not in values:
                values[name, level] = self.at(f"reductions.{level - 1}.{name}")(value(name, level - 1))
            return values[name, level]

        for i, node in enumerate(nodes):
            level = self.level[node.name]
            make = partial(self._layer, node, partial(value, level=level))
            values[node.name, level] = self.block(self.once(x, nodes[: i + 1], make))
        out = F.relu(value(nodes[-1].name, len(self.cuts)))
        features = out.mean((2, 3)) if self.settings.average_pooling else out.flatten(1)
        if self.training and self.settings.dropout:
            features = F.dropout(features, self.settings.dropout)
        return self.at("classifier")(features)

    def _layer(self, node: WiredNode, value: Callable[[str], Tensor]) -> Tensor:
        (edge,) = node.edges
        op = self.at(self.address(edge))
        if node.merged:
            merged = self._merged(node, [value(name) for name in node.skips])
            # A merge ends with a ReLU, so the ReLU of the op would change nothing.
            return op.body(merged) if self.settings.merge and isinstance(op, AfterRelu) else op(merged)
        y = op(value(edge.input))
        return self._merged(node, [*(value(name) for name in node.skips), y]) if node.skips else y

    def _merged(self, node: WiredNode, inputs: list[Tensor]) -> Tensor:
        """Returns the 1x1 convolution of the concatenated `inputs`, (B, C, s, s). Before an op it
        ends with a ReLU (appendix B), and after an op it begins with one."""
        if not self.settings.merge:
            return torch.stack(inputs).sum(0)
        before = node.merged
        weights = [self.at(f"merge.{node.name}.{source}").weight for source in self._sources(node)]
        x, weight = (inputs[0], weights[0]) if len(inputs) == 1 else (kernels.concatenated(inputs), torch.cat(weights, 1))
        y = F.conv2d(x if before else F.relu(x), weight)
        y = self.at(f"merge.{node.name}.norm")(y) if self.settings.merge_norm else y
        return F.relu(y) if before else y


class _Matrix(nn.Module):
    """A `_Matrix` holds the weights that one source has in a layer's merging 1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 1, 1))
        he_normal(self.weight)


def _halve(channels_in: int, channels_out: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.ReLU(), FactorizedReduction(channels_in, channels_out, norm))
