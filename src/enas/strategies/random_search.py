"""Random search: every answer equally likely. With the same shared weights it is the baseline that
a controller has to beat."""

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
    learns = False

    def __init__(self, space: SearchSpace, settings: RandomSettings = RandomSettings(), seed: int = 0):
        self.space, self.seed, self.asked = space, seed, 0

    def ask(self, n: int) -> list[Architecture]:
        rng = random.Random(seed_of(self.seed, "random", self.asked))
        self.asked += 1
        return [self.space.sample(rng) for _ in range(n)]

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        return {"reward": sum(rewards) / len(rewards)}

    def state(self) -> State:
        return State(values={"asked": self.asked})

    def load(self, state: State) -> None:
        self.asked = int(state.values["asked"])
