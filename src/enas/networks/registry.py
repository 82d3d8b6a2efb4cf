"""The registered backbones: the networks that spaces put their cells into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enas.networks.macro import MacroNetwork, MacroSettings
from enas.networks.micro import MicroNetwork, MicroSettings
from enas.networks.nasbench201 import NasBench201Network, NasBench201NetworkSettings
from enas.networks.nasbench_macro import NasBenchMacroNetwork, NasBenchMacroNetworkSettings
from enas.networks.recurrent import RecurrentNetwork, RecurrentSettings
from enas.networks.supernet import Supernet
from enas.ranges import Settings


@dataclass(frozen=True)
class BackboneEntry:
    make: Callable[..., Supernet]
    settings: type[Settings]
    small: Settings  # settings of a network small enough for tests


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
