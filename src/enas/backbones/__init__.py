"""The registered backbones: the networks that spaces put their cells into. A space names its backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enas.backbones.macro import MacroNetwork, MacroSettings
from enas.backbones.micro import MicroNetwork, MicroSettings
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
}
