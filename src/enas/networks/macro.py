"""The network that the layers of the macro space make (paper 2.3, Fig. 3, appendix B).

    stem 3x3 -> layers 1 .. L, a reduction after L/3 and after 2L/3 -> ReLU, average, dropout, linear

Shapes: x (B, channels, S, S); a layer gives (B, C, s, s), with no ReLU: each reader takes its own, before its convolution.
At a reduction every earlier output that a later layer still reads is halved by a factorized reduction of its own, and
filters double where the settings say so.

Chosen outputs are merged by one 1x1 convolution over their concatenation, followed by batch norm and ReLU; its weight
is put together from one matrix for each (layer, source), so that any subset finds shared weights. Where the form of the
space is `released` they come in after the op, whose own output is one more source. Layers that the last one does not depend
on are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.ops import LAYER_OPS, AfterRelu, FactorizedReduction, Norm, Statistics, batch_norm, make_op, make_stem
from enas.networks.supernet import Supernet, he_initialise, he_normal
from enas.ranges import COUNT, RATE, check_name, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredNode, possible_edges
from enas.spaces.space import SearchSpace

OP = "op"  # the source that stands for a layer's own op, where skips are merged after it


@dataclass(frozen=True)
class MacroSettings:
    """Size and regularisation of the network."""

    filters: int = 36
    """Channels of stem and layers (released code: 36 in search, 96 alone; the paper does not say)."""
    double_filters: bool = False
    """Double them at each reduction (released code: alone, not in search)."""
    reductions: int = 2
    """Reductions: 2, after layers L/3 and 2L/3 (released code); 1, after L/2; 0."""
    stem_stride: int = 1
    """2 halves the image before the first layer: a quarter of the cost; not in the paper."""
    dropout: float = 0.1
    """Dropout before the classifier (released code: 0.1 in search, 0.5 alone; the paper does not say)."""
    entry_conv: bool = False
    """A ReLU, 1x1, batch norm before each op (released code; not in the paper)."""
    merge: bool = True
    """Merge chosen outputs by a 1x1 convolution (appendix B); without it they are added, for the experiment that shows what
    it is for."""
    merge_norm: bool = True
    """Batch norm after the merging 1x1. Appendix B finds it removable when one network trains from scratch; the
    released final network has it, and first losses are twice as high without (docs/log.md, 2026-11-27)."""
    average_pooling: bool = True
    """Global average pooling before the classifier (appendix B); without it the classifier reads every pixel, likewise."""

    def __post_init__(self) -> None:
        check_ranges(self, "network", filters=COUNT, dropout=RATE)
        check_name("network.reductions", self.reductions, (0, 1, 2))
        check_name("network.stem_stride", self.stem_stride, (1, 2))

    def widened(self, highest: int) -> Self:
        """All widths scaled so that the highest layer has so many filters (paper 3.2: 512). ValueError where they do not
        come out whole."""
        times = 2**self.reductions if self.double_filters else 1
        if highest < times or highest % times:
            raise ValueError(
                f"filters of the highest layer are a multiple of {times}, as the stem has 1/{times} of them; got {highest}"
            )
        return replace(self, filters=highest // times)


def cuts(layers: int, reductions: int) -> tuple[int, ...]:
    """After how many layers a reduction stands; fewer in networks too short for them."""
    places = {0: (), 1: (layers // 2,), 2: (layers // 3, 2 * layers // 3)}[reductions]
    return tuple(sorted({place for place in places if place > 0}))


class MacroNetwork(Supernet):
    """Supernet of the macro space, or with `only` the child model of one architecture."""

    def __init__(
        self,
        space: SearchSpace,
        settings: MacroSettings,
        channels: int,
        image_size: int,
        classes: int,
        only: Architecture | None = None,
        statistics: Statistics = "batch",
    ):
        super().__init__(space, only, statistics)
        self.settings, self.channels, self.image_size, self.classes = settings, channels, image_size, classes
        (self.cell,) = space.cells
        (self.first,) = self.cell.inputs
        self.cuts = cuts(len(self.cell.nodes), settings.reductions)
        order = [self.first, *(node.name for node in self.cell.nodes)]
        # The level of an output is the number of reductions before the place where it is made.
        self.level = {name: sum(cut < i for cut in self.cuts) for i, name in enumerate(order)}
        if self.size(len(self.cuts)) < 1 or image_size < settings.stem_stride * 2 ** len(self.cuts):
            raise ValueError(
                f"{len(self.cuts)} reductions and a stem of stride {settings.stem_stride} need images of at least"
                f" {settings.stem_stride * 2 ** len(self.cuts)} pixels; got {image_size}"
            )
        self._plans: dict[Architecture, tuple[tuple[WiredNode, ...], dict[str, int]]] = {}
        self._build(set(self.addresses(only, aux=False)) if only is not None else None)
        he_initialise(self)
        if only is not None and settings.merge and not settings.merge_norm:
            self._scale_merges(only)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # ---------------------------------------------------------------------------------------------- structure
    def width(self, level: int) -> int:
        """Channels after so many reductions."""
        return self.settings.filters * (2**level if self.settings.double_filters else 1)

    def size(self, level: int) -> int:
        """Pixels a side after so many reductions."""
        size = -(-self.image_size // self.settings.stem_stride)
        for _ in range(level):
            size = -(-size // 2)
        return size

    def _build(self, needed: set[str] | None) -> None:
        norm = partial(batch_norm, statistics=self.statistics)
        settings, widths = self.settings, self.width
        self.provide("stem", partial(make_stem, self.channels, widths(0), settings.stem_stride, norm), needed)
        for node in self.cell.nodes:
            width = widths(self.level[node.name])
            for edge in (e for e in possible_edges(self.cell) if e.node == node.name):
                self.provide(self._address(edge), partial(self._op, edge.op, width, norm), needed)
            if node.skips is None or not settings.merge:
                continue
            sources = (*node.skips.options, *([OP] if node.merge == "after" else []))
            for source in sources:
                self.provide(f"merge.{node.name}.{source}", partial(_Matrix, width, width), needed)
            if settings.merge_norm:
                self.provide(f"merge.{node.name}.norm", partial(norm, width), needed)
        for name, level in self.level.items():
            for cut in range(level, len(self.cuts)):
                make = partial(_halve, widths(cut), widths(cut + 1), norm)
                self.provide(f"reductions.{cut}.{name}", make, needed)
        last = len(self.cuts)
        pixels = 1 if settings.average_pooling else self.size(last) ** 2
        self.provide("classifier", partial(nn.Linear, widths(last) * pixels, self.classes), needed)

    def _op(self, name: str, width: int, norm: Norm) -> nn.Module:
        op = make_op(name, width, 1, norm, LAYER_OPS)
        if not self.settings.entry_conv:
            return op
        return nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1, bias=False), norm(width), op)

    def _address(self, edge: object) -> str:
        assert self.space.address is not None
        return self.space.address(edge, 0)  # type: ignore[arg-type]

    def _plan(self, arch: Architecture) -> tuple[tuple[WiredNode, ...], dict[str, int]]:
        """Layers to run, and for each output the deepest level at which it is read."""
        if arch not in self._plans:
            nodes = self.space.wire(arch)[self.cell.name].nodes
            deepest = {nodes[-1].name: len(self.cuts)}
            for node in nodes:
                for name in node.reads:
                    deepest[name] = max(deepest.get(name, 0), self.level[node.name])
            if len(self._plans) > 4096:
                self._plans.clear()
            self._plans[arch] = (nodes, deepest)
        return self._plans[arch]

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        nodes, deepest = self._plan(arch)
        out = ["stem"] if self.first in deepest else []
        for node in nodes:
            out += [self._address(edge) for edge in node.edges]
            if node.skips and self.settings.merge:
                out += [f"merge.{node.name}.{source}" for source in self._sources(node)]
                out += [f"merge.{node.name}.norm"] if self.settings.merge_norm else []
        out += [f"reductions.{cut}.{name}" for name, cut in self._halvings(deepest)]
        return [*out, "classifier"]

    def _sources(self, node: WiredNode) -> tuple[str, ...]:
        """What is merged in a layer with chosen outputs."""
        return node.skips if node.merged else (*node.skips, OP)

    def _halvings(self, deepest: dict[str, int]) -> Iterator[tuple[str, int]]:
        """(output, reduction) for every factorized reduction that is needed."""
        return ((name, cut) for name, level in deepest.items() for cut in range(self.level[name], level))

    @torch.no_grad()
    def _scale_merges(self, only: Architecture) -> None:
        """He's rule for the whole 1x1 of each merge, whose fan-in is that of all its sources together. A batch norm
        after it would undo the scale; without one, first losses are up to 38 (docs/log.md, 2026-11-27)."""
        for node in self._plan(only)[0]:
            sources = self._sources(node) if node.skips else ()
            for source in sources:
                self.at(f"merge.{node.name}.{source}").weight.div_(len(sources) ** 0.5)

    def marks(self) -> dict[str, str]:
        return {
            name: f"{self.size(level)} x {self.size(level)}, {self.width(level)} filters"
            for name, level in self.level.items()
        }

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> MacroNetwork:
        return MacroNetwork(self.space, self.settings, self.channels, self.image_size, self.classes, only, statistics)

    # ------------------------------------------------------------------------------------------------ forward
    def forward(self, x: Tensor, arch: Architecture | None = None, progress: float = 1.0) -> Tensor:
        """Logits (B, classes). `progress` is without meaning here: nothing in this network changes with time."""
        arch = self.architecture(arch)
        nodes, _ = self._plan(arch)
        # (output, level) to its value; halved versions are made when first read.
        stem = self.once(x, "stem", lambda: self.at("stem")(x.contiguous(memory_format=torch.channels_last)))
        values: dict[tuple[str, int], Tensor] = {(self.first, 0): stem}

        def value(name: str, level: int) -> Tensor:
            if (name, level) not in values:
                values[name, level] = self.at(f"reductions.{level - 1}.{name}")(value(name, level - 1))
            return values[name, level]

        for i, node in enumerate(nodes):
            level = self.level[node.name]
            make = partial(self._layer, node, partial(value, level=level))
            values[node.name, level] = self.once(x, nodes[: i + 1], make)
        out = F.relu(value(nodes[-1].name, len(self.cuts)))
        features = out.mean((2, 3)) if self.settings.average_pooling else out.flatten(1)
        if self.training and self.settings.dropout:
            features = F.dropout(features, self.settings.dropout)
        return self.at("classifier")(features)

    def _layer(self, node: WiredNode, value: Callable[[str], Tensor]) -> Tensor:
        (edge,) = node.edges
        op = self.at(self._address(edge))
        if node.merged:
            merged = self._merged(node, [value(name) for name in node.skips])
            # A merge ends with a ReLU, so that of the op would change nothing.
            return op.body(merged) if self.settings.merge and isinstance(op, AfterRelu) else op(merged)
        y = op(value(edge.input))
        return self._merged(node, [*(value(name) for name in node.skips), y]) if node.skips else y

    def _merged(self, node: WiredNode, inputs: list[Tensor]) -> Tensor:
        """The 1x1 over the concatenation of `inputs`, (B, C, s, s). Before an op it ends with a ReLU (appendix B); after
        one the ReLU comes first, as everywhere, and each reader of the layer takes its own."""
        if not self.settings.merge:
            return torch.stack(inputs).sum(0)
        before = node.merged
        weights = [self.at(f"merge.{node.name}.{source}").weight for source in self._sources(node)]
        x, weight = (inputs[0], weights[0]) if len(inputs) == 1 else (kernels.concatenated(inputs), torch.cat(weights, 1))
        y = F.conv2d(x if before else F.relu(x), weight)
        y = self.at(f"merge.{node.name}.norm")(y) if self.settings.merge_norm else y
        return F.relu(y) if before else y


class _Matrix(nn.Module):
    """The weights that one source has in a layer's merging 1x1."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 1, 1))
        he_normal(self.weight)


def _halve(channels_in: int, channels_out: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.ReLU(), FactorizedReduction(channels_in, channels_out, norm))
