"""This module holds the static program of the network of micro cells (paper 2.4).

Both edges of a node run side by side. A cell's input is calibrated from all nodes of its source,
where those that are no loose ends meet weights of zero. All cells run. Those that no output needs
read zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.static.parts import (
    NUMBERS,
    POOLS,
    Choice,
    Edges,
    Norm,
    Values,
    apart,
    edges_into,
    halving_parts,
    numbers_of,
    picked,
    pointwise,
)
from enas.networks.static.program import Program
from enas.networks.static.weights import Layout, Slot
from enas.networks.supernet import Outputs
from enas.spaces.architecture import Architecture

STEM = -1
INPUTS = 2  # number of inputs of a cell


class MicroProgram(Program):
    """A `MicroProgram` runs any child of a `MicroNetwork`."""

    space = "conv_micro"

    def build(self) -> None:
        net, layout = self.net, self.layout
        self.cells = {cell.name: cell for cell in net.space.cells}
        self.nodes = [node.name for node in net.space.cells[0].nodes]
        self.stem = layout.fixed("stem")
        self.calibrations: list[list[Calibration]] = []
        self.edges: list[list[Edges]] = []  # by position and node
        for place in net.positions:
            sources = net._sources(place.index)
            self.calibrations.append([Calibration(layout, net, place.index, slot, self.nodes) for slot in sources])
            cell = self.cells[place.cell]
            self.edges.append([edges_into(node, cell, layout, place.channels, place.index) for node in self.nodes])
        last = net.positions[-1]
        names = [f"classifier.{name}" for name in self.nodes]
        self.classifier = layout.piece([net.classes, last.channels], [{a: [(net.at(a).weight, None)]} for a in names])
        self.bias = layout.piece([net.classes], [{"classifier.bias": [(net.at("classifier.bias").bias, None)]}])
        if net.settings.head_norm:
            norms = [f"classifier_norm.{name}" for name in self.nodes]
            self.head_norm = Norm(layout, last.channels, [{a: net.at(a)} for a in norms])
        if net.aux_weight > 0:
            place = net.positions[net.aux_position]
            names = [f"aux_head.reduce.{name}" for name in self.nodes]
            self.aux = layout.piece([128, place.channels], [_matrix(net, name) for name in names])
            self.aux_body = layout.fixed("aux_head.body")

    def choices(self, arch: Architecture) -> list[int]:
        """Returns for each cell, node and slot the number of the value that is read, and the op as
        numbers."""
        out: list[int] = []
        for name, wired in self.net.space.wire(arch).items():
            numbers = {value: i for i, value in enumerate((*self.cells[name].inputs, *self.nodes))}
            edges = {(edge.node, edge.slot): edge for node in wired.nodes for edge in node.edges}
            for node in self.nodes:
                for slot in (0, 1):
                    edge = edges.get((node, slot))
                    out += [numbers[edge.input], *numbers_of(edge.op)] if edge is not None else [0, *numbers_of(None)]
        return out

    def run(self, x: Tensor, w: Sequence[Tensor], choices: Tensor, progress: float | Tensor) -> Tensor | Outputs:
        net = self.net
        table = choices.view(len(self.cells), len(self.nodes), 2, 1 + NUMBERS)
        every = Choice.of(table[..., 1:])
        sources = dict(zip(self.cells, table[..., 0], strict=True))  # (nodes, 2) each
        chosen = {name: [every.at(i, j) for j in range(len(self.nodes))] for i, name in enumerate(self.cells)}
        outputs: dict[int, Tensor] = {STEM: F.relu(self.stem(w, x))}
        aux = None
        for place in net.positions:
            values = [outputs[source] for source in net._sources(place.index).values()]
            inputs = [c(w, value) for c, value in zip(self.calibrations[place.index], values, strict=True)]
            drop = net.settings.drop_path * (place.index + 1) / len(net.positions) if net.training else 0.0
            cell = self._reduced if place.cell == "reduce" else self._normal
            outputs[place.index] = cell(
                self.edges[place.index],
                w,
                inputs,
                sources[place.cell],
                chosen[place.cell],
                drop * progress if drop else None,
            )
            if net.training and net.aux_weight > 0 and place.index == net.aux_position:
                pooled = F.avg_pool2d(outputs[place.index], min(5, place.size), 3)
                aux = self.aux_body(w, pointwise(pooled, side_by_side(w[self.aux])))
        pooled = outputs[len(net.positions) - 1].mean((2, 3))
        if net.settings.head_norm:
            pooled = self.head_norm(w, pooled[:, :, None, None])[:, :, 0, 0]
        if net.training and net.settings.dropout:
            pooled = F.dropout(pooled, net.settings.dropout)
        logits = F.linear(pooled, side_by_side(w[self.classifier])[0], w[self.bias][0])
        return Outputs(logits, aux) if aux is not None else logits

    def _normal(
        self, edges: Sequence[Edges], w: Sequence[Tensor], inputs: list[Tensor], sources: Tensor, chosen: list[Choice],
        drop: float | Tensor | None,
    ) -> Tensor:  # fmt: skip
        values = filled(INPUTS + len(edges), inputs)
        for i, node in enumerate(edges):
            values.put(dropped(node(w, chosen[i], values.read(sources[i])), chosen[i].pools, drop))
        return values.relu(INPUTS)

    def _reduced(
        self, edges: Sequence[Edges], w: Sequence[Tensor], inputs: list[Tensor], sources: Tensor, chosen: list[Choice],
        drop: float | Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Returns the output of a reduction cell. Its inputs are twice as large as its nodes. So an
        edge reads one value of each size, and takes one of the two."""
        large = filled(INPUTS, inputs)
        values: Values | None = None
        for i, node in enumerate(edges):
            read, small, reads_small = large.read(sources[i].clamp(max=INPUTS - 1)), None, None
            if values is not None:
                small = values.read((sources[i] - INPUTS).clamp(0, i - 1))
                reads_small = (sources[i] >= INPUTS).long()
            y = dropped(node(w, chosen[i], small, read, reads_small), chosen[i].pools, drop)
            values = values or Values(len(edges), y)
            values.put(y)
        assert values is not None
        return values.relu()


def filled(count: int, inputs: Sequence[Tensor]) -> Values:
    """Returns the values of a cell with its inputs (B, C, H, W) put in."""
    values = Values(count, apart(inputs[0], 1))
    for x in inputs:
        values.put(apart(x, 1))
    return values


class Calibration:
    """A `Calibration` is the 1x1 convolution that brings an input of a cell to the cell's
    channels."""

    def __init__(self, layout: Layout, net: Any, index: int, slot: str, nodes: Sequence[str]):
        source = net._sources(index)[slot]
        width_in, width = net._channels(source), net.positions[index].channels
        prefix = f"cells.{index}.calibrate.{slot}"
        names = ["stem"] if source == STEM else nodes
        self.halves, self.ends = net._halves(index, source), len(names)
        modules = {name: net.at(f"{prefix}.{name}") for name in names}
        if self.halves:
            parts = [{f"{prefix}.{n}": halving_parts(m.weight, getattr(m, "odd", None))} for n, m in modules.items()]
            self.weight = layout.piece([width, 2 * width_in], parts)
        else:
            self.weight = layout.piece([width, width_in], [_matrix(net, f"{prefix}.{name}") for name in names])
        self.norm = Norm(layout, width, [{f"{prefix}.norm": net.at(f"{prefix}.norm")}]) if net.settings.merge_norm else None
        again = net.settings.extra_calibration and slot == "prev"
        self.again = layout.fixed(f"{prefix}.again") if again else None

    def __call__(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        y = pointwise(picked(x, self.ends) if self.halves else x, side_by_side(w[self.weight]))
        y = self.norm(w, y) if self.norm is not None else y
        return self.again(w, y) if self.again is not None else y


def side_by_side(weights: Tensor) -> Tensor:
    """Returns matrices (E, rows, C) as one matrix over all their inputs, (1, rows, E C)."""
    return weights.movedim(0, 1).flatten(1)[None]


def dropped(y: Tensor, pools: Tensor, drop: float | Tensor | None) -> Tensor:
    """Sets each edge that is no identity to zero for an image with probability `drop`, and divides
    it by 1 - drop otherwise. y is (B, H, W, E, C)."""
    if drop is None:
        return y
    keep = (torch.rand(len(y), 1, 1, len(pools), 1, device=y.device, dtype=y.dtype) >= drop) / (1 - drop)
    return y * torch.where(pools[:, None] == POOLS["identity"], 1.0, keep)


def _matrix(net: Any, address: str) -> Slot:
    return {address: [(net.at(address).weight, (slice(None), slice(None)))]}
