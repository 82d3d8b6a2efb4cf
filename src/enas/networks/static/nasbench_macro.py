"""This module holds the static program of the network of NAS-Bench-Macro's chains.

An inverted residual with fewer channels and a smaller kernel is the largest one with zeros in its
weights. An identity is run beside it, and the choice says which of the two is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.ops import NBMACRO_OPS, InvertedResidual, Shortcut
from enas.networks.static.parts import Norm, Options, depthwise, matrix, pointwise, slots, under
from enas.networks.static.program import Program
from enas.networks.static.weights import Layout, Part
from enas.spaces.architecture import Architecture
from enas.spaces.cells import possible_edges


class NasBenchMacroProgram(Program):
    """A `NasBenchMacroProgram` runs any child of a `NasBenchMacroNetwork`."""

    space = "nasbench_macro"
    ops = frozenset(NBMACRO_OPS)

    def build(self) -> None:
        net = self.net
        self.stem, self.head, self.classifier = (self.layout.fixed(name) for name in ("stem", "head", "classifier"))
        edges = list(possible_edges(net.cell))
        self.layers = []
        for node in net.cell.nodes:
            here = [edge for edge in edges if edge.node == node.name]
            self.layers.append(Layer(self.layout, {net.address(e): net.at(net.address(e)) for e in here}))

    def choices(self, arch: Architecture) -> list[int]:
        """Returns for each layer 1 if it is an inverted residual, else 0."""
        return [int(node.edges[0].op != "identity") for node in self.net.only_cell(arch).nodes]

    def run(self, x: Tensor, w: Sequence[Tensor], choices: Tensor, progress: float | Tensor) -> Tensor:
        x = F.relu(self.stem(w, x))
        for layer, choice in zip(self.layers, choices.to(w[0].dtype).split(1), strict=True):
            x = layer(w, choice, x)
        logits: Tensor = self.classifier(w, F.relu(self.head(w, x)).mean((2, 3)))
        return logits


class Layer:
    """A `Layer` runs whichever op a child chose for one layer."""

    def __init__(self, layout: Layout, modules: Mapping[str, nn.Module]):
        """Declares the weights. `modules` are those that a child may use, by address."""
        residuals: dict[str, Any] = {a: m for a, m in modules.items() if isinstance(m, InvertedResidual)}
        others = {a: m for a, m in modules.items() if a not in residuals}
        self.identity, self.stride = bool(others), 1
        self.product: int | None = None
        self.shortcut: tuple[int, Norm] | None = None
        for address, module in others.items():
            if isinstance(module, Shortcut):
                edge: Options = [{address: module}]
                rows, columns = module.conv.weight.shape[:2]
                product = matrix(layout, rows, columns, under(edge, "conv"))
                self.shortcut, self.stride = (product, Norm(layout, rows, under(edge, "norm"))), module.stride
        if not residuals:
            return
        largest: Any = max(residuals.values(), key=lambda m: sum(p.numel() for p in m.parameters()))
        self.adds, self.stride = largest.adds, largest.depthwise[0].stride[0]
        mid, width_in = largest.expand[0].weight.shape[:2]
        width, kernel = len(largest.project[0].weight), max(m.depthwise[0].kernel_size[0] for m in residuals.values())
        edges: Options = [residuals]

        def first(m: Any) -> list[Part]:
            rows, columns = m.weight.shape[:2]
            return [(m.weight, (slice(rows), slice(columns)))]

        def centred(m: Any) -> list[Part]:
            return [(m.weight, None)]

        self.expand = layout.piece([mid, width_in], slots(under(edges, "expand.0"), first))
        self.expand_norm = Norm(layout, mid, under(edges, "expand.1"))
        self.kernel = layout.piece([mid, 1, kernel, kernel], slots(under(edges, "depthwise.0"), centred))
        self.kernel_norm = Norm(layout, mid, under(edges, "depthwise.1"))
        self.product = layout.piece([width, mid], slots(under(edges, "project.0"), first))
        self.product_norm = Norm(layout, width, under(edges, "project.1"))

    def __call__(self, w: Sequence[Tensor], choice: Tensor, x: Tensor) -> Tensor:
        """Returns the layer applied to x. `choice` (1,) is 1 for an inverted residual, and 0 for
        the identity beside it."""
        other = x
        if self.shortcut is not None:
            number, normed = self.shortcut
            (part,) = kernels.diagonals(x, both=False) if self.stride == 2 else (x,)
            other = normed(w, pointwise(part, w[number]))
        if self.product is None:
            return other
        y = F.relu(self.expand_norm(w, pointwise(x, w[self.expand])))
        y = F.relu(self.kernel_norm(w, depthwise(y, w[self.kernel], self.stride)))
        y = self.product_norm(w, pointwise(y, w[self.product]))
        y = x + y if self.adds else y
        return torch.lerp(other, y, choice.to(y.dtype)) if self.identity else y
