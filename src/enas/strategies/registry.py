"""This module registers the search strategies. A strategy is one file and a line here, or
`package.module:thing` of your own."""

from __future__ import annotations

from enas.plugins import Entry, Registry, callable_at, settings_type
from enas.strategies.evolution import EvolutionSettings
from enas.strategies.random_search import RandomSettings
from enas.strategies.settings import ReinforceSettings


def _made(path: str) -> Entry:
    return Entry(path, settings_type(callable_at("a strategy", path)))


STRATEGIES = Registry(
    "strategies",
    "a strategy",
    _made,
    {
        "reinforce": Entry("enas.strategies.reinforce:Reinforce", ReinforceSettings),
        "evolution": Entry("enas.strategies.evolution:Evolution", EvolutionSettings),
        "random": Entry("enas.strategies.random_search:RandomSearch", RandomSettings),
    },
)
