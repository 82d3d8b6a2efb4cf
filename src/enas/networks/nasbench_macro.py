"""This module holds the network that chains of NAS-Bench-Macro make (Su et al. 2021, or its
released code where the text says nothing).

    stem 3x3, batch norm, ReLU -> layers in three stages -> 1x1, batch norm, ReLU, average, linear

Images x are (B, channels, S, S). The first layer of a stage halves the size and doubles the width,
whichever op it has: an identity there is a 1x1 convolution and batch norm. All other layers keep
the shape. The publication has 32 channels at the stem, stages of 2, 3 and 3 layers, and 1,280
channels before the classifier. Weights are initialised as everywhere in this package (He), and not
by torch's default as in the publication.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.image_network import ImageNetwork
from enas.networks.ops import NBMACRO_OPS, pointwise, registered
from enas.networks.settings import STAGES, NasBenchMacroNetworkSettings
from enas.networks.static.nasbench_macro import NasBenchMacroProgram
from enas.spaces.architecture import Architecture
from enas.spaces.cells import possible_edges


def stages(layers: int) -> tuple[int, ...]:
    """Returns the number of layers of each stage. 8 layers are split into 2, 3 and 3, as published.
    With fewer than three layers there are fewer stages."""
    return tuple(n for n in ((layers + i) // STAGES for i in range(STAGES)) if n)


class NasBenchMacroNetwork(ImageNetwork[NasBenchMacroNetworkSettings]):
    """A `NasBenchMacroNetwork` is a chain of layers in three stages. The level of an output is the
    number of stages that have begun where it is made."""

    program_type = NasBenchMacroProgram

    def prepare(self) -> None:
        (self.cell,) = self.space.cells
        (self.first,) = self.cell.inputs
        parts = stages(len(self.cell.nodes))
        starts = tuple(accumulate((0, *parts[:-1])))  # index of the first layer of each stage
        self.last_level = len(parts)
        self.level = {node.name: sum(start <= i for start in starts) for i, node in enumerate(self.cell.nodes)}
        self.level = {self.first: 0, **self.level}
        self.check_image_size(len(parts), f"{len(parts)} stages")

    def build(self) -> None:
        for edge in possible_edges(self.cell):
            before, after = self.width(self.level[edge.input]), self.width(self.level[edge.node])
            stride = 2 if before != after else 1
            self.provide(
                self.address(edge), partial(registered(edge.op, NBMACRO_OPS), before, after, stride, self.make_norm)
            )
        last = self.width(self.last_level)
        self.provide("head", partial(pointwise, last, self.settings.head, self.make_norm))
        self.provide("classifier", partial(nn.Linear, self.settings.head, self.classes))

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        layers = [self.address(edge) for node in self.only_cell(arch).nodes for edge in node.edges]
        return ["stem", *layers, "head", "classifier"]

    def computed(self, x: Tensor, arch: Architecture, progress: float) -> Tensor:
        """Returns logits (B, classes). They do not depend on `progress`."""
        nodes, images = self.only_cell(arch).nodes, x
        x = self.after_stem(images, relu=True)
        for i, node in enumerate(nodes):  # chains with the same beginning share its outputs
            (edge,) = node.edges
            x = self.block(self.once(images, nodes[: i + 1], partial(self.at(self.address(edge)), x)))
        logits: Tensor = self.at("classifier")(F.relu(self.at("head")(x)).mean((2, 3)))
        return logits
