"""This module holds the contract of a search strategy.

    Strategy(space, settings, seed=0)   settings: its own dataclass; may be left out
    ask(n) -> [Architecture]            n architectures to train or to score
    tell(archs, rewards) -> metrics     their rewards; larger is better
    state() / load(state)               everything that a resumed run needs

`ask` keeps no graph, and does not remember which architectures it returned: `tell` may be called
with any architectures of the space. Random numbers come from the strategy's seed and a counter, so
that its future is a function of its state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from enas.spaces.architecture import Architecture
from enas.state import State


class Strategy(Protocol):
    """A `Strategy` draws architectures, and may learn from their rewards."""

    learns: bool
    """False where `tell` changes nothing. A search then spends nothing on rewards."""

    def ask(self, n: int) -> list[Architecture]: ...

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]: ...

    def state(self) -> State: ...

    def load(self, state: State) -> None: ...
