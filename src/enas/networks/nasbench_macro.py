"""The network that chains of NAS-Bench-Macro make (Su et al. 2021; where the text is silent, the released code).

    stem 3x3, batch norm, ReLU -> layers in three stages -> 1x1, batch norm, ReLU, average, linear

Shapes: x (B, channels, S, S). The first layer of a stage halves the size and doubles the width, whichever op it is: an
identity there is a 1x1 and batch norm. All others keep shape. Published: 32 channels at the stem, stages of 2, 3 and 3
layers, 1,280 channels before the classifier. Weights begin as everywhere here (He), not by torch's own rule as in the
publication.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.ops import NBMACRO_OPS, Norm, Statistics, batch_norm, make_stem, registered
from enas.networks.supernet import Supernet, he_initialise
from enas.ranges import COUNT, check_name, check_ranges
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredEdge, WiredNode, possible_edges
from enas.spaces.space import SearchSpace

STAGES = 3


@dataclass(frozen=True)
class NasBenchMacroNetworkSettings:
    """Size of the network around the layers."""

    filters: int = 32
    """Channels of the stem; doubled at the first layer of each stage (published: 32)."""
    head: int = 1280
    """Channels that the classifier reads (published: 1,280)."""
    stem_stride: int = 1
    """2 halves the image before the first layer: a quarter of the cost; not published."""

    def __post_init__(self) -> None:
        check_ranges(self, "network", filters=COUNT, head=COUNT)
        check_name("network.stem_stride", self.stem_stride, (1, 2))

    def widened(self, highest: int) -> Self:
        """All widths scaled so that the last of three stages has so many filters. ValueError where they do not come out
        whole."""
        times = 2**STAGES
        if highest < times or highest % times or self.head * highest % (times * self.filters):
            raise ValueError(
                f"filters of the last stage are a multiple of {times}, as the stem has 1/{times} of them, and the"
                f" {self.head} channels before the classifier scale with them to a whole number; got {highest}"
            )
        return replace(self, filters=highest // times, head=self.head * highest // (times * self.filters))


def stages(layers: int) -> tuple[int, ...]:
    """Layers of each stage, the later ones longer: 2, 3, 3 of 8, as published. Fewer than three stages where there
    are fewer layers."""
    return tuple(n for n in ((layers + i) // STAGES for i in range(STAGES)) if n)


class NasBenchMacroNetwork(Supernet):
    """Supernet of the space, or with `only` the child model of one architecture."""

    def __init__(
        self,
        space: SearchSpace,
        settings: NasBenchMacroNetworkSettings,
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
        parts = stages(len(self.cell.nodes))
        self.starts = set(accumulate((0, *parts[:-1])))  # index of the first layer of each stage
        # The level of an output is the number of stages begun where it is made.
        self.level = {self.first: 0}
        for i, node in enumerate(self.cell.nodes):
            self.level[node.name] = sum(start <= i for start in self.starts)
        least = settings.stem_stride * 2 ** len(parts)
        if image_size < least:
            raise ValueError(
                f"{len(parts)} stages and a stem of stride {settings.stem_stride} need images of at least {least} pixels;"
                f" got {image_size}"
            )
        self._build(set(self.addresses(only, aux=False)) if only is not None else None)
        he_initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # ---------------------------------------------------------------------------------------------- structure
    def width(self, level: int) -> int:
        """Channels after so many stages have begun."""
        return int(self.settings.filters * 2**level)

    def size(self, level: int) -> int:
        """Pixels a side, likewise."""
        return -(-self.image_size // (self.settings.stem_stride * 2**level))

    def _build(self, needed: set[str] | None) -> None:
        norm = partial(batch_norm, statistics=self.statistics)
        stem = partial(make_stem, self.channels, self.width(0), self.settings.stem_stride, norm)
        self.provide("stem", stem, needed)
        for edge in possible_edges(self.cell):
            before, after = self.width(self.level[edge.input]), self.width(self.level[edge.node])
            stride = 2 if before != after else 1
            make = partial(registered(edge.op, NBMACRO_OPS), before, after, stride, norm)
            self.provide(self._address(edge), make, needed)
        last = self.width(len(self.starts))
        self.provide("head", partial(_head, last, self.settings.head, norm), needed)
        self.provide("classifier", partial(nn.Linear, self.settings.head, self.classes), needed)

    def _address(self, edge: WiredEdge) -> str:
        assert self.space.address is not None
        return self.space.address(edge, 0)

    def _nodes(self, arch: Architecture) -> tuple[WiredNode, ...]:
        return self.space.wire(arch)[self.cell.name].nodes

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        layers = [self._address(edge) for node in self._nodes(arch) for edge in node.edges]
        return ["stem", *layers, "head", "classifier"]

    def marks(self) -> dict[str, str]:
        return {
            name: f"{self.size(level)} x {self.size(level)}, {self.width(level)} filters"
            for name, level in self.level.items()
        }

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> NasBenchMacroNetwork:
        dimensions = (self.channels, self.image_size, self.classes)
        return NasBenchMacroNetwork(self.space, self.settings, *dimensions, only, statistics)

    # ------------------------------------------------------------------------------------------------ forward
    def forward(self, x: Tensor, arch: Architecture | None = None, progress: float = 1.0) -> Tensor:
        """Logits (B, classes). `progress` is without meaning here: nothing in this network changes with time."""
        nodes, images = self._nodes(self.architecture(arch)), x
        x = self.once(images, "stem", lambda: F.relu(self.at("stem")(images.contiguous(memory_format=torch.channels_last))))
        for i, node in enumerate(nodes):  # chains that begin alike are computed alike
            (edge,) = node.edges
            x = self.once(images, nodes[: i + 1], partial(self.at(self._address(edge)), x))
        features = F.relu(self.at("head")(x)).mean((2, 3))
        return self.at("classifier")(features)


def _head(channels_in: int, channels_out: int, norm: Norm) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), norm(channels_out))
