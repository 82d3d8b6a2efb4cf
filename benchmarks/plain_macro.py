"""A fixed child of the macro space written as plain modules, without addresses or shared weights:
what to compare with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks.macro import MacroNetwork
from enas.networks.ops import FactorizedReduction
from enas.spaces.architecture import Architecture


def op(name: str, width: int) -> nn.Module:
    kernel = int(name[-1])
    if name.startswith("avg"):
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    if name.startswith("max"):
        return nn.MaxPool2d(3, 1, 1)
    if name.startswith("sep"):
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
    return nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width))


class PlainMacroChild(nn.Module):
    """Of the `paper` form. The merge of skips is one 1x1 over their concat."""

    def __init__(self, network: MacroNetwork, arch: Architecture):
        super().__init__()
        assert not network.settings.entry_conv
        assert network.settings.merge
        assert network.settings.merge_norm
        self.nodes = network.only_cell(arch).nodes
        assert all(node.merged or not node.skips for node in self.nodes)
        self.level, self.first, last = network.level, network.first, len(network.cuts)
        self.last = last
        stem = network.width(0)
        self.stem = nn.Sequential(
            nn.Conv2d(network.channels, stem, 3, network.settings.stem_stride, 1, bias=False), nn.BatchNorm2d(stem)
        )
        self.ops, self.merges, self.reductions = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for node in self.nodes:
            width = network.width(network.level[node.name])
            self.ops[node.name] = op(node.edges[0].op, width)
            if node.merged:
                self.merges[node.name] = nn.Sequential(
                    nn.Conv2d(width * len(node.skips), width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
                )
        for name, cut in network._halvings(network.deepest(self.nodes)):
            widths = network.width(cut), network.width(cut + 1)
            self.reductions[f"{name}-{cut}"] = nn.Sequential(nn.ReLU(), FactorizedReduction(*widths, nn.BatchNorm2d))
        self.classifier = nn.Linear(network.width(last), network.classes)
        self._copy(network, arch)

    def forward(self, x: Tensor) -> Tensor:
        values = {(self.first, 0): self.stem(x)}

        def value(name: str, level: int) -> Tensor:
            if (name, level) not in values:
                values[name, level] = self.reductions[f"{name}-{level - 1}"](value(name, level - 1))
            return values[name, level]

        for node in self.nodes:
            level = self.level[node.name]
            if node.merged:
                inputs = self.merges[node.name](torch.cat([value(name, level) for name in node.skips], 1))
            else:
                inputs = value(node.edges[0].input, level)
            values[node.name, level] = self.ops[node.name](inputs)
        return self.classifier(F.relu(value(self.nodes[-1].name, self.last)).mean((2, 3)))

    @torch.no_grad()
    def _copy(self, network: MacroNetwork, arch: Architecture) -> None:
        self.stem.load_state_dict(network.at("stem").state_dict(), strict=False)
        for node in network.space.wire(arch)[network.cell.name].nodes:
            self.ops[node.name].load_state_dict(network.at(network.address(node.edges[0])).state_dict(), strict=False)
            if node.merged:
                parts = [network.at(f"merge.{node.name}.{source}").weight for source in node.skips]
                self.merges[node.name][0].weight.copy_(torch.cat(parts, 1))
                self.merges[node.name][1].load_state_dict(network.at(f"merge.{node.name}.norm").state_dict(), strict=False)
        for key, module in self.reductions.items():
            name, cut = key.rsplit("-", 1)
            module.load_state_dict(network.at(f"reductions.{cut}.{name}").state_dict(), strict=False)
        self.classifier.load_state_dict(network.at("classifier").state_dict())
