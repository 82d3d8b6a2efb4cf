"""This module implements random search, in which every answer is equally likely. With the same
shared weights it is the baseline that a controller has to beat. An architecture that a limit of the
space forbids is drawn anew."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import State, seed_of


@dataclass(frozen=True)
class RandomSettings:
    """Random search has nothing to set."""


class RandomSearch:
    """A `RandomSearch` strategy draws random architectures, and learns nothing."""

    learns = False

    def __init__(self, space: SearchSpace, settings: RandomSettings = RandomSettings(), seed: int = 0):
        self.space, self.seed, self.asked = space, seed, 0
        # number of architectures drawn and kept; fewer are kept where the space has a limit
        self.drawn, self.kept = 0, 0

    @property
    def acceptance(self) -> float | None:
        """Returns the share of the architectures drawn that the limit of the space allows. Returns
        None without a limit, or before any was drawn."""
        return self.kept / self.drawn if self.space.limit is not None and self.drawn else None

    def ask(self, n: int) -> list[Architecture]:
        """Returns n random architectures that the limit of the space allows."""
        rng = random.Random(seed_of(self.seed, "random", self.asked))
        self.asked += 1
        archs, drawn = self.space.samples(rng, n)
        self.drawn, self.kept = self.drawn + drawn, self.kept + n
        return archs

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        """Returns metrics of the rewards, and learns nothing."""
        accepted = {} if self.acceptance is None else {"acceptance": self.acceptance}
        return {"reward": sum(rewards) / len(rewards), **accepted}

    def state(self) -> State:
        counts = {} if self.space.limit is None else {"drawn": self.drawn, "kept": self.kept}
        return State(values={"asked": self.asked, **counts})

    def load(self, state: State) -> None:
        self.asked = int(state.values["asked"])
        self.drawn, self.kept = (int(state.values.get(name, 0)) for name in ("drawn", "kept"))
