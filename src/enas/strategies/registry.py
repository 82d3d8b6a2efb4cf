"""The registered search strategies. A strategy is one file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enas.strategies.evolution import Evolution, EvolutionSettings
from enas.strategies.random_search import RandomSearch, RandomSettings
from enas.strategies.reinforce import Reinforce, ReinforceSettings
from enas.strategies.strategy import Strategy


@dataclass(frozen=True)
class StrategyEntry:
    make: Callable[..., Strategy]
    settings: type[Any]


STRATEGIES: dict[str, StrategyEntry] = {
    "reinforce": StrategyEntry(Reinforce, ReinforceSettings),
    "evolution": StrategyEntry(Evolution, EvolutionSettings),
    "random": StrategyEntry(RandomSearch, RandomSettings),
}
