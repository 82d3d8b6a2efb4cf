"""The registered search strategies. A strategy is one file and a line here, or
`package.module:thing` of your own."""

from __future__ import annotations

from enas.plugins import Entry
from enas.strategies.evolution import EvolutionSettings
from enas.strategies.random_search import RandomSettings
from enas.strategies.settings import ReinforceSettings

STRATEGIES: dict[str, Entry] = {
    "reinforce": Entry("enas.strategies.reinforce:Reinforce", ReinforceSettings),
    "evolution": Entry("enas.strategies.evolution:Evolution", EvolutionSettings),
    "random": Entry("enas.strategies.random_search:RandomSearch", RandomSettings),
}
