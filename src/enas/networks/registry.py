"""This module registers the backbones: the networks that spaces put their cells into."""

from __future__ import annotations

from dataclasses import dataclass

from enas.networks.settings import (
    MacroSettings,
    MicroSettings,
    NasBench201NetworkSettings,
    NasBenchMacroNetworkSettings,
    RecurrentSettings,
)
from enas.plugins import Entry, Registry, callable_at, settings_type
from enas.ranges import Settings


@dataclass(frozen=True)
class BackboneEntry(Entry):
    """A `BackboneEntry` registers a backbone."""

    small: Settings = None
    """Settings of a network that is small enough for tests."""


def _backbone(where: str, small: Settings) -> BackboneEntry:
    return BackboneEntry(f"enas.networks.{where}", type(small), small)


def _made(path: str) -> BackboneEntry:
    settings = settings_type(callable_at("a network", path))
    return BackboneEntry(path, settings, settings())


_BUILT_IN = {
    "micro": _backbone("micro:MicroNetwork", MicroSettings(filters=4, cells=1, dropout=0.0, aux_weight=0.4)),
    "macro": _backbone("macro:MacroNetwork", MacroSettings(filters=4, dropout=0.0)),
    "nasbench201": _backbone("nasbench201:NasBench201Network", NasBench201NetworkSettings(filters=4, cells=1)),
    "nasbench_macro": _backbone("nasbench_macro:NasBenchMacroNetwork", NasBenchMacroNetworkSettings(filters=4, head=16)),
    "recurrent": _backbone("recurrent:RecurrentNetwork", RecurrentSettings(hidden=6, init_range=0.5)),
    "own": BackboneEntry("enas.tasks.problem:own_network"),
}
BACKBONES = Registry("networks", "a network", _made, _BUILT_IN)
