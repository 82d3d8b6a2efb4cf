"""This module holds the static program of the network of NAS-Bench-201. All edges into a node run
side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.settings import STAGES
from enas.networks.static.parts import NUMBERS, Choice, Edges, apart, edges_into, joined, numbers_of
from enas.networks.static.program import Program
from enas.spaces.architecture import Architecture


class NasBench201Program(Program):
    """A `NasBench201Program` runs any child of a `NasBench201Network`."""

    space = "nasbench201"

    def build(self) -> None:
        net, layout = self.net, self.layout
        self.nodes = [node.name for node in net.cell.nodes]
        self.inputs = {node.name: [edge.input for edge in node.edges] for node in net.cell.nodes}
        self.stem = layout.fixed("stem")
        self.reductions = {stage: layout.fixed(f"reductions.{stage}") for stage in range(1, STAGES)}
        self.edges: list[list[Edges]] = []  # by position and node
        for stage in range(STAGES):
            for position in net._positions(stage):
                edges = [edges_into(node, net.cell, layout, net.width(stage), position) for node in self.nodes]
                self.edges.append(edges)
        self.norm, self.classifier = layout.fixed("norm"), layout.fixed("classifier")

    def choices(self, arch: Architecture) -> list[int]:
        """Returns for each edge its op as numbers."""
        ops = {(e.node, e.slot): e.op for node in self.net.only_cell(arch).nodes for e in node.edges}
        edges = [(node, slot) for node in self.nodes for slot in range(len(self.inputs[node]))]
        return [number for edge in edges for number in numbers_of(ops.get(edge))]

    def run(self, x: Tensor, w: Sequence[Tensor], choices: Tensor, progress: float | Tensor) -> Tensor:
        every, start, by_node = Choice.of(choices.view(-1, NUMBERS)), 0, []
        for inputs in self.inputs.values():
            by_node.append(every.at(slice(start, start + len(inputs))))
            start += len(inputs)
        x = self.stem(w, x)
        for stage in range(STAGES):
            x = self.reductions[stage](w, x) if stage else x
            for position in self.net._positions(stage):
                values = {self.net.input: apart(x, 1)}
                for node, edges, choice in zip(self.nodes, self.edges[position], by_node, strict=True):
                    # An edge has no choice of its input, so a plain concatenation will do.
                    read = joined(_beside([values[name] for name in self.inputs[node]]))
                    values[node] = edges(w, choice, read).sum(3, keepdim=True)
                x = joined(values[self.nodes[-1]])
        logits: Tensor = self.classifier(w, F.relu(self.norm(w, x)).mean((2, 3)))
        return logits


def _beside(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(list(values), 3)
