"""The static program of the network of NAS-Bench-201's cells: all edges into a node side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.settings import STAGES
from enas.networks.static.parts import Edges, apart, joined
from enas.networks.static.program import Program, kind_of, shares_of
from enas.spaces.architecture import Architecture
from enas.spaces.cells import possible_edges


class NasBench201Program(Program):
    def build(self) -> None:
        net, layout = self.net, self.layout
        self.nodes = [node.name for node in net.cell.nodes]
        self.inputs = {node.name: [edge.input for edge in node.edges] for node in net.cell.nodes}
        self.stem = layout.fixed("stem")
        self.reductions = {stage: layout.fixed(f"reductions.{stage}") for stage in range(1, STAGES)}
        self.edges: list[list[Edges]] = []  # by position and node
        for stage in range(STAGES):
            for position in net._positions(stage):
                by_node = []
                for node in self.nodes:
                    options = []
                    for slot in range(len(self.inputs[node])):
                        here = [e for e in possible_edges(net.cell) if e.node == node and e.slot == slot]
                        addresses = {net.address(edge, position): edge.op for edge in here}
                        options.append({a: (op, net.at(a)) for a, op in addresses.items()})
                    by_node.append(Edges(layout, net.width(stage), options))
                self.edges.append(by_node)
        self.norm, self.classifier = layout.fixed("norm"), layout.fixed("classifier")

    def choices(self, arch: Architecture) -> list[int]:
        """Per edge the kind of its op; -1 where it leads nowhere."""
        ops = {(e.node, e.slot): e.op for node in self.net.only_cell(arch).nodes for e in node.edges}
        return [kind_of(ops.get((node, slot))) for node in self.nodes for slot in range(len(self.inputs[node]))]

    def run(self, x: Tensor, w: Sequence[Tensor], choices: Tensor, progress: float | Tensor) -> Tensor:
        shares = shares_of(choices, w[0].dtype).split([len(inputs) for inputs in self.inputs.values()])
        x = self.stem(w, x)
        for stage in range(STAGES):
            x = self.reductions[stage](w, x) if stage else x
            for position in self.net._positions(stage):
                values = {self.net.input: apart(x, 1)}
                for node, edges, share in zip(self.nodes, self.edges[position], shares, strict=True):
                    # no choice of inputs: a plain concatenation
                    read = joined(_beside([values[name] for name in self.inputs[node]]))
                    values[node] = edges(w, share, read).sum(3, keepdim=True)
                x = joined(values[self.nodes[-1]])
        logits: Tensor = self.classifier(w, F.relu(self.norm(w, x)).mean((2, 3)))
        return logits


def _beside(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(list(values), 3)
