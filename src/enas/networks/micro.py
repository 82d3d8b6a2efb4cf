"""This module holds the network that micro cells are put into (paper 2.4, Fig. 4): stem, blocks of
cells, classifier.

    stem 3x3 -> [N normal cells, reduction cell] x 2 -> N normal cells (-> reduction cell)
    -> ReLU, average, linear

Images x are (B, channels, S, S). A cell with C filters returns its loose ends, concatenated: (B,
loose ends x C, s, s). A reduction cell doubles the filters and halves the size. Those of its edges
that read a cell input have stride 2 (the paper says all ops, but nodes inside could not be halved
again).

A cell that reads another cell first brings it to C channels by a 1x1 convolution ("calibration").
It has one weight matrix per loose end, and runs as one convolution over their concatenation, after
a ReLU and before a batch norm. Where the input is twice as large, a factorized reduction takes its
place. The classifier and the auxiliary head read cells in the same way. Cells that no output needs
are not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.image_network import ImageNetwork
from enas.networks.ops import Conv, Norm, Read, factorized, make_op
from enas.networks.settings import MicroSettings
from enas.networks.static.micro import MicroProgram
from enas.networks.supernet import Bias, Outputs, he_normal
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredCell, WiredEdge, possible_edges

STEM = -1  # the position that the first two cells read


@dataclass(frozen=True)
class Position:
    """A `Position` is a place in the stack, with its cell and the channels and the size (pixels per
    side) of its output."""

    index: int
    cell: str
    channels: int
    size: int


def stack(settings: MicroSettings, image_size: int) -> tuple[Position, ...]:
    """Returns all positions in order: N normal cells, a reduction cell, and so on."""
    kinds: list[str] = []
    for block in range(max(2, min(3, settings.reductions + 1))):
        kinds += ["normal"] * settings.cells
        kinds += ["reduce"] if block < settings.reductions else []
    channels, size = settings.filters, -(-image_size // settings.stem_stride)
    positions = []
    for index, kind in enumerate(kinds):
        if kind == "reduce":
            channels, size = channels * 2, -(-size // 2)
        positions.append(Position(index, kind, channels, size))
    return tuple(positions)


class MicroNetwork(ImageNetwork[MicroSettings]):
    """A `MicroNetwork` is a stack of normal and reduction cells."""

    program_type = MicroProgram

    def prepare(self) -> None:
        self.aux_weight = self.settings.aux_weight
        self.positions = stack(self.settings, self.image_size)
        if self.positions[0].size < 4:
            raise ValueError(f"the first cell needs at least 4x4 pixels; got {self.positions[0].size}")
        reductions = [p.index for p in self.positions if p.cell == "reduce"]
        self.aux_position = min(reductions[:2][-1] + 1, len(self.positions) - 1)

    def rescale(self) -> None:
        """Divides the classifier's weights, because it reads all loose ends at once and its fan-in
        is that of all of them together."""
        for address, module in self._at.items():
            if address.startswith("classifier.") and isinstance(module, nn.Linear):
                module.weight.div_(len(self.space.cells[0].nodes) ** 0.5)

    # ----------------------------------------------------------------------------------- structure
    @property
    def stem_width(self) -> int:
        return self.settings.filters * self.settings.stem_multiplier

    def _sources(self, index: int) -> dict[str, int]:
        """Returns for each cell input the position that it comes from. The stem is the first
        position."""
        return {"prev_prev": max(index - 2, STEM), "prev": max(index - 1, STEM)}

    def _channels(self, position: int) -> int:
        return self.stem_width if position == STEM else self.positions[position].channels

    def _size(self, position: int) -> int:
        return self.size(0) if position == STEM else self.positions[position].size

    def _halves(self, index: int, source: int) -> bool:
        """Returns whether the calibration of this input also halves its size."""
        entry = self._size(self._sources(index)["prev"])  # the size of this cell's inputs
        return self._size(source) != entry

    def _ends(self, position: int, arch: Architecture) -> tuple[str, ...]:
        """Returns the names of the loose ends that leave the cell at `position`."""
        return ("stem",) if position == STEM else self.space.wire(arch)[self.positions[position].cell].outputs

    def build(self) -> None:
        settings, norm = self.settings, self.make_norm

        def provide_readers(prefix: str, source: int, make: Callable[[], nn.Module]) -> None:
            names = ("stem",) if source == STEM else tuple(node.name for node in self.space.cells[0].nodes)
            for name in names:
                self.provide(f"{prefix}.{name}", make)

        cells = {cell.name: cell for cell in self.space.cells}
        for position in self.positions:
            index, width = position.index, position.channels
            for slot, source in self._sources(index).items():
                width_in, halves = self._channels(source), self._halves(index, source)
                prefix = f"cells.{index}.calibrate.{slot}"
                provide_readers(prefix, source, partial(_Calibration, width_in, width, halves))
                if settings.merge_norm:
                    self.provide(f"{prefix}.norm", partial(norm, width))
                if settings.extra_calibration and slot == "prev":
                    self.provide(f"{prefix}.again", partial(Conv, width, 1, norm, 1))
            for edge in possible_edges(cells[position.cell]):
                stride = self._stride(position, edge)
                self.provide(self.address(edge, index), partial(make_op, edge.op, width, stride, norm))
        last = self.positions[-1]
        provide_readers("classifier", last.index, partial(nn.Linear, last.channels, self.classes, bias=False))
        self.provide("classifier.bias", partial(Bias, self.classes))
        if settings.head_norm:
            provide_readers("classifier_norm", last.index, partial(norm, last.channels))
        if self.aux_weight > 0:
            place = self.positions[self.aux_position]
            provide_readers("aux_head.reduce", place.index, partial(nn.Conv2d, place.channels, 128, 1, bias=False))
            self.provide("aux_head.body", partial(_aux_body, place.size, self.classes, norm))

    def _stride(self, position: Position, edge: WiredEdge) -> int:
        return 2 if position.cell == "reduce" and edge.input in ("prev", "prev_prev") else 1

    def live(self, arch: Architecture, aux: bool) -> list[int]:
        """Returns the positions that the classifier needs, in order. With `aux`, also those that
        the auxiliary head needs."""
        wired = self.space.wire(arch)
        live = {len(self.positions) - 1} | ({self.aux_position} if aux else set())
        for position in reversed(self.positions):
            if position.index in live:
                sources = self._sources(position.index)
                live.update(sources[name] for name in wired[position.cell].inputs)
        return sorted(live - {STEM})

    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        wired = self.space.wire(arch)
        out = ["stem"]
        for index in self.live(arch, aux):
            cell = wired[self.positions[index].cell]
            for slot in cell.inputs:
                prefix = f"cells.{index}.calibrate.{slot}"
                out += [f"{prefix}.{name}" for name in self._ends(self._sources(index)[slot], arch)]
                out += [f"{prefix}.norm"] if self.settings.merge_norm else []
                out += [f"{prefix}.again"] if self.settings.extra_calibration and slot == "prev" else []
            out += [self.address(edge, index) for node in cell.nodes for edge in node.edges]
        ends = self._ends(len(self.positions) - 1, arch)
        out += [f"classifier.{name}" for name in ends] + ["classifier.bias"]
        out += [f"classifier_norm.{name}" for name in ends] if self.settings.head_norm else []
        if aux:
            out += [f"aux_head.reduce.{name}" for name in self._ends(self.aux_position, arch)] + ["aux_head.body"]
        return out

    # ------------------------------------------------------------------------------------- forward
    def computed(self, x: Tensor, arch: Architecture, progress: float | Tensor) -> Tensor | Outputs:
        """Returns logits (B, classes), or `Outputs` in training with an auxiliary head. Drop-path
        grows with `progress`, the share of the training that is over."""
        wired = self.space.wire(arch)
        aux_now = self.training and self.aux_weight > 0
        # Everything that reads a cell applies a ReLU first, so it is applied once, to the output.
        outputs: dict[int, Tensor] = {STEM: self.after_stem(x, relu=True)}
        aux = None
        for index in self.live(arch, aux_now):
            cell = wired[self.positions[index].cell]
            outputs[index] = self.block(self._cell(index, cell, outputs, arch, progress))
            if aux_now and index == self.aux_position:
                aux = self._aux(outputs[index], arch)
        pooled = outputs[len(self.positions) - 1].mean((2, 3))
        if self.settings.head_norm:
            ends = self._ends(len(self.positions) - 1, arch)
            parts = zip(ends, pooled[:, :, None, None].chunk(len(ends), 1), strict=True)
            pooled = torch.cat([self.at(f"classifier_norm.{end}")(part) for end, part in parts], 1)[:, :, 0, 0]
        if self.training and self.settings.dropout:
            pooled = F.dropout(pooled, self.settings.dropout)
        weight = self._gathered("classifier", len(self.positions) - 1, arch)
        logits = F.linear(pooled, weight, self.at("classifier.bias").bias)
        return Outputs(logits, aux) if aux is not None else logits

    def _gathered(self, prefix: str, source: int, arch: Architecture, name: str = "weight") -> Tensor:
        """Returns a reader's weight over all loose ends of `source`: (C_out, ends x C, ...)."""
        weights = [getattr(self.at(f"{prefix}.{end}"), name) for end in self._ends(source, arch)]
        return weights[0] if len(weights) == 1 else torch.cat(weights, 1)

    def _calibrated(self, index: int, slot: str, outputs: dict[int, Tensor], arch: Architecture) -> Tensor:
        if self._sources(index)[slot] == STEM:  # the same for all architectures
            stem = outputs[STEM]
            return self.once(stem, ("calibrate", index, slot), lambda: self._calibration(index, slot, stem, arch))
        return self._calibration(index, slot, outputs[self._sources(index)[slot]], arch)

    def _calibration(self, index: int, slot: str, value: Tensor, arch: Architecture) -> Tensor:
        source = self._sources(index)[slot]
        prefix = f"cells.{index}.calibrate.{slot}"
        even = self._gathered(prefix, source, arch)
        if self._halves(index, source):
            x = factorized(value, even, self._gathered(prefix, source, arch, "odd"))
        else:
            x = F.conv2d(value, even)
        x = self.at(f"{prefix}.norm")(x) if self.settings.merge_norm else x
        return self.at(f"{prefix}.again")(x) if self.settings.extra_calibration and slot == "prev" else x

    def _cell(
        self, index: int, cell: WiredCell, outputs: dict[int, Tensor], arch: Architecture, progress: float | Tensor
    ) -> Tensor:
        read = Read({slot: self._calibrated(index, slot, outputs, arch) for slot in cell.inputs})
        share = self.settings.drop_path * (index + 1) / len(self.positions) if self.training else 0.0
        drop = share * progress if share else 0.0
        drops = isinstance(drop, Tensor) or drop > 0  # a recorded step does not wait for its value

        def applied(edge: WiredEdge) -> Tensor:
            y = read.by(self.at(self.address(edge, index)), edge.input)
            return drop_path(y, drop) if drops and edge.op != "identity" else y

        for node in cell.nodes:
            read.values[node.name] = reduce(torch.add, map(applied, node.edges))
        return kernels.concatenated([read.values[name] for name in cell.outputs], relu=True)

    def _aux(self, x: Tensor, arch: Architecture) -> Tensor:
        x = F.avg_pool2d(x, min(5, x.shape[2]), 3)
        return self.at("aux_head.body")(F.conv2d(x, self._gathered("aux_head.reduce", self.aux_position, arch)))


def drop_path(x: Tensor, p: float | Tensor) -> Tensor:
    """Sets each image of x (B, C, H, W) to zero with probability p, and divides the others by 1 -
    p."""
    keep = torch.rand(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype) >= p
    return x * keep / (1 - p)


class _Calibration(nn.Module):
    """A `_Calibration` holds the weights that one loose end has in a reader's 1x1 convolution. In a
    factorized reduction, `odd` holds those for the odd pixels."""

    def __init__(self, channels_in: int, channels_out: int, halves: bool):
        super().__init__()
        half = channels_out // 2 if halves else 0
        self.weight = nn.Parameter(_he(channels_out - half, channels_in))
        if half:
            self.odd = nn.Parameter(_he(half, channels_in))


def _he(rows: int, columns: int) -> Tensor:
    weight = torch.empty(rows, columns, 1, 1)
    he_normal(weight)
    return weight


def _aux_body(size: int, classes: int, norm: Norm) -> nn.Module:
    """Returns the auxiliary head after its 1x1 convolution, as in the released code."""
    pooled = (size - min(5, size)) // 3 + 1
    return nn.Sequential(
        norm(128),
        nn.ReLU(),
        nn.Conv2d(128, 768, pooled, bias=False),
        norm(768),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(768, classes),
    )
