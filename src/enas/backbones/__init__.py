"""The registered backbones, the networks that spaces put their cells into (a space names its backbone), and the
hand-designed models to compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from enas.backbones.image_references import make_densenet_bc, make_resnet
from enas.backbones.macro import MacroNetwork, MacroSettings
from enas.backbones.micro import MicroNetwork, MicroSettings
from enas.backbones.nasbench201 import NasBench201Network, NasBench201NetworkSettings
from enas.backbones.nasbench_macro import NasBenchMacroNetwork, NasBenchMacroNetworkSettings
from enas.backbones.recurrent import RecurrentNetwork, RecurrentSettings
from enas.backbones.references import make_reference, settings_like
from enas.supernet import Supernet


@dataclass(frozen=True)
class BackboneEntry:
    make: Callable[..., Supernet]
    settings: type[Any]
    small: Any  # settings of a network small enough for tests


BACKBONES: dict[str, BackboneEntry] = {
    "micro": BackboneEntry(
        MicroNetwork, MicroSettings, small=MicroSettings(filters=4, cells=1, dropout=0.0, aux_weight=0.4)
    ),
    "macro": BackboneEntry(MacroNetwork, MacroSettings, small=MacroSettings(filters=4, dropout=0.0)),
    "nasbench201": BackboneEntry(
        NasBench201Network, NasBench201NetworkSettings, small=NasBench201NetworkSettings(filters=4, cells=1)
    ),
    "nasbench_macro": BackboneEntry(
        NasBenchMacroNetwork, NasBenchMacroNetworkSettings, small=NasBenchMacroNetworkSettings(filters=4, head=16)
    ),
    "recurrent": BackboneEntry(RecurrentNetwork, RecurrentSettings, small=RecurrentSettings(hidden=6, init_range=0.5)),
}


@dataclass(frozen=True)
class ReferenceEntry:
    make: Callable[[Mapping[str, int], Any, int], nn.Module]
    """From the dimensions of a task, the network settings of a recipe, and the most parameters it may have."""
    task: str
    parameters: int  # of the published model
    about: str


def _language_model(name: str) -> Callable[[Mapping[str, int], Any, int], nn.Module]:
    def make(dimensions: Mapping[str, int], network: Any, parameters: int) -> nn.Module:
        return make_reference(name, dimensions, settings_like(network), parameters)

    return make


_text = partial(ReferenceEntry, task="language_model", parameters=24_000_000)
REFERENCES: dict[str, ReferenceEntry] = {
    "lstm": _text(_language_model("lstm"), about="two LSTM layers, variational dropout, tied words (Inan et al. 2017)"),
    "rhn": _text(_language_model("rhn"), about="recurrent highway network, 10 layers deep in a step (Zilly et al. 2017)"),
    "resnet": ReferenceEntry(
        make_resnet, "image_classification", 1_700_000, "ResNet of 20 layers, widened to the budget (He et al. 2016)"
    ),
    "densenet_bc": ReferenceEntry(
        make_densenet_bc, "image_classification", 25_600_000, "DenseNet-BC, grown to the budget (Huang et al. 2017)"
    ),
}
