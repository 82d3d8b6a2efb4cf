"""A fixed child of the micro space written as plain modules, without addresses or shared weights:
what to compare with.

It is what someone would write who knows the architecture beforehand: one `nn.Conv2d` on the concat
of a cell's loose ends, ops in `nn.ModuleList`s. `copy_weights` gives it the weights of a child, so
that both can be shown to compute the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.micro import MicroNetwork
from enas.networks.ops import FactorizedReduction
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredCell


def conv_norm(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


def sep_conv(channels: int, kernel: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for step in (stride, 1):
        layers += [
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
    return nn.Sequential(*layers)


def op(name: str, channels: int, stride: int) -> nn.Module:
    if name.startswith("sep_conv"):
        return sep_conv(channels, int(name[-1]), stride)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    return (
        nn.Identity() if stride == 1 else nn.Sequential(nn.ReLU(), FactorizedReduction(channels, channels, nn.BatchNorm2d))
    )


class PlainCell(nn.Module):
    def __init__(self, cell: WiredCell, widths_in: dict[str, int], width: int, halves: dict[str, bool], stride: int):
        super().__init__()
        self.inputs, self.outputs = cell.inputs, cell.outputs
        self.calibrate = nn.ModuleDict(
            {
                slot: FactorizedReduction(widths_in[slot], width, nn.BatchNorm2d)
                if halves[slot]
                else conv_norm(widths_in[slot], width)
                for slot in cell.inputs
            }
        )
        self.nodes = [(node.name, [edge.input for edge in node.edges]) for node in cell.nodes]
        self.ops = nn.ModuleList(
            nn.ModuleList(op(e.op, width, stride if e.input in cell.inputs else 1) for e in node.edges)
            for node in cell.nodes
        )

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        values = {slot: self.calibrate[slot](inputs[slot]) for slot in self.inputs}
        for (name, sources), (first, second) in zip(self.nodes, self.ops, strict=True):
            values[name] = first(values[sources[0]]) + second(values[sources[1]])
        return F.relu(torch.cat([values[name] for name in self.outputs], 1))


class PlainChild(nn.Module):
    def __init__(self, network: MicroNetwork, arch: Architecture):
        super().__init__()
        wired = network.space.wire(arch)
        stem = network.settings.filters * network.settings.stem_multiplier
        self.stem = nn.Sequential(
            nn.Conv2d(network.channels, stem, 3, network.settings.stem_stride, 1, bias=False), nn.BatchNorm2d(stem)
        )
        self.cells = nn.ModuleList()
        widths = {-1: stem}
        for p in network.positions:
            sources = {"prev_prev": max(p.index - 2, -1), "prev": max(p.index - 1, -1)}
            halves = {slot: network._halves(p.index, source) for slot, source in sources.items()}
            widths_in = {slot: widths[source] for slot, source in sources.items()}
            self.cells.append(
                PlainCell(wired[p.cell], widths_in, p.channels, halves, 2 if p.cell == "reduce" else 1),
            )
            widths[p.index] = p.channels * len(wired[p.cell].outputs)
        self.classifier = nn.Linear(widths[len(self.cells) - 1], network.classes)
        copy_weights(self, network, arch)

    def forward(self, x: Tensor) -> Tensor:
        before = last = F.relu(self.stem(x))
        for cell in self.cells:
            before, last = last, cell({"prev_prev": before, "prev": last})
        return self.classifier(last.mean((2, 3)))


@torch.no_grad()
def copy_weights(plain: PlainChild, network: MicroNetwork, arch: Architecture) -> None:
    """The supernet's weights of `arch` into the plain modules."""
    wired = network.space.wire(arch)
    plain.stem.load_state_dict(network.at("stem").state_dict(), strict=False)
    for index, module in enumerate(plain.cells):
        cell = wired[network.positions[index].cell]
        for slot in cell.inputs:
            source, prefix = network._sources(index)[slot], f"cells.{index}.calibrate.{slot}"
            to = module.calibrate[slot]
            if isinstance(to, FactorizedReduction):
                to.even.weight.copy_(network._gathered(prefix, source, arch))
                to.odd.weight.copy_(network._gathered(prefix, source, arch, "odd"))
                to.norm.load_state_dict(network.at(f"{prefix}.norm").state_dict(), strict=False)
            else:
                to[0].weight.copy_(network._gathered(prefix, source, arch))
                to[1].load_state_dict(network.at(f"{prefix}.norm").state_dict(), strict=False)
        for node, ops in zip(cell.nodes, module.ops, strict=True):
            for edge, to in zip(node.edges, ops, strict=True):
                to.load_state_dict(network.at(network.address(edge, index)).state_dict(), strict=False)
    plain.classifier.weight.copy_(network._gathered("classifier", len(network.positions) - 1, arch))
    plain.classifier.bias.copy_(network.at("classifier.bias").bias)
