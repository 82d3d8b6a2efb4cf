"""This module holds the static program of the network of macro layers (paper 2.3, appendix B).

A layer reads all earlier outputs by one product, in which those that it did not choose meet weights
of zero. At a reduction all earlier outputs are halved side by side, each by its own weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.static.parts import (
    NUMBERS,
    Choice,
    Edges,
    Halving,
    Norm,
    Options,
    apart,
    joined,
    matrix,
    numbers_of,
    pointwise,
    under,
)
from enas.networks.static.program import Program
from enas.spaces.architecture import Architecture

OP = "op"  # the source that stands for a layer's own op, where skips are merged after it


class MacroProgram(Program):
    """A `MacroProgram` runs any child of a `MacroNetwork`."""

    space = "conv_macro"

    def build(self) -> None:
        net, layout = self.net, self.layout
        self.names = [net.first, *(node.name for node in net.cell.nodes)]
        self.sources = {node.name: node.skips.options if node.skips else () for node in net.cell.nodes}
        self.stem, self.classifier = layout.fixed("stem"), layout.fixed("classifier")
        self.halvings: list[Halving] = []  # of the outputs before each cut
        self.layers: dict[str, Layer] = {}
        for cut in range(len(net.cuts)):
            names = [name for name in self.names if net.level[name] <= cut]
            options = [{f"reductions.{cut}.{name}": net.at(f"reductions.{cut}.{name}")} for name in names]
            self.halvings.append(Halving(layout, net.width(cut), net.width(cut + 1), under(options, 1)))
        for node in net.cell.nodes:
            self.layers[node.name] = Layer(self, node)

    def choices(self, arch: Architecture) -> list[int]:
        """Returns for each layer its op as numbers, then for each source 1 if it is merged, else
        0."""
        nodes = {node.name: node for node in self.net.only_cell(arch).nodes}
        out: list[int] = []
        for name, sources in self.sources.items():
            node = nodes.get(name)
            out += numbers_of(node.edges[0].op if node else None)
            out += [int(node is not None and source in node.skips) for source in sources]
        return out

    def run(self, x: Tensor, w: Sequence[Tensor], choices: Tensor, progress: float | Tensor) -> Tensor:
        net = self.net
        parts = choices.split([NUMBERS + len(sources) for sources in self.sources.values()])
        values = {net.first: apart(self.stem(w, x), 1)}
        level = 0
        for layer, codes in zip(self.layers.values(), parts, strict=True):
            if net.level[layer.name] > level:
                halved = self.halvings[level](w, F.relu(joined(torch.cat(list(values.values()), 3))))
                values = dict(zip(values, apart(halved, len(values)).split(1, 3), strict=True))
                level += 1
            values[layer.name] = layer(w, codes, values)
        out = F.relu(joined(values[self.names[-1]]))
        features = out.mean((2, 3)) if net.settings.average_pooling else out.flatten(1)
        if net.training and net.settings.dropout:
            features = F.dropout(features, net.settings.dropout)
        logits: Tensor = self.classifier(w, features)
        return logits


class Layer:
    """A `Layer` is an op, with a merge before or after it."""

    def __init__(self, program: MacroProgram, node: Any):
        net, layout = program.net, program.layout
        settings, width = net.settings, net.width(net.level[node.name])
        self.name, self.before = node.name, node.merge == "before"
        self.sources = program.sources[node.name]
        self.previous = node.edges[0].input
        ops = node.edges[0].op.options
        addresses = {f"layers.{node.name}.{op}": op for op in ops}
        options: Options = [{a: net.at(a) for a in addresses}]
        self.entry = None
        if settings.entry_conv:
            self.entry = matrix(layout, width, width, under(options, 1)), Norm(layout, width, under(options, 2))
            options = under(options, 3)
        self.edges = Edges(layout, width, [{a: (addresses[a], m) for a, m in options[0].items()}])
        self.weight = self.norm = None
        if self.sources and settings.merge:
            merged = [*self.sources, *([] if self.before else [OP])]
            rows = [f"merge.{node.name}.{source}" for source in merged]
            whole = (slice(None), slice(None))
            self.weight = layout.piece([width, width], [{a: [(net.at(a).weight, whole)]} for a in rows])
            if settings.merge_norm:
                at = f"merge.{node.name}.norm"
                self.norm = Norm(layout, width, [{at: net.at(at)}])

    def __call__(self, w: Sequence[Tensor], codes: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Returns the output of the layer, (B, H, W, 1, C). The values have the same shape."""
        taken = codes[NUMBERS:].to(w[0].dtype)
        some = taken.amax()[None] if self.sources else None  # (1,) whether any source is merged
        x = values[self.previous]
        if self.before and some is not None:
            merged = self.merged(w, taken, [values[name] for name in self.sources])
            x = torch.lerp(x, merged, some.to(x.dtype))
        y = self.op(w, Choice.of(codes[None, :NUMBERS]), x)
        if self.before or some is None:
            return y
        return torch.lerp(y, self.merged(w, taken, [*(values[name] for name in self.sources), y]), some.to(y.dtype))

    def op(self, w: Sequence[Tensor], choice: Choice, x: Tensor) -> Tensor:
        y = joined(x)
        if self.entry is not None:
            number, normed = self.entry
            y = normed(w, pointwise(F.relu(y), w[number]))
        return self.edges(w, choice, y)

    def merged(self, w: Sequence[Tensor], taken: Tensor, inputs: list[Tensor]) -> Tensor:
        """Returns the merge of the inputs. `taken` says which sources were chosen. It is needed
        where they are added, since then no weights of zero remove the others."""
        x = torch.cat(inputs, 3)
        if self.weight is None:
            own = taken.new_ones(len(inputs) - len(taken))
            return (x * torch.cat([taken, own])[:, None].to(x.dtype)).sum(3, keepdim=True)
        y = pointwise(joined(x if self.before else F.relu(x)), w[self.weight].movedim(0, 1).flatten(1)[None])
        y = self.norm(w, y) if self.norm is not None else y
        return apart(F.relu(y) if self.before else y, 1)
