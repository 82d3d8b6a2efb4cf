"""This module implements regularised evolution (Real et al. 2019). It keeps a population in which
the oldest member dies, not the worst.

Until the population is full, architectures are random. Then each new one is a copy of the best of a
few members, drawn at random, with one decision answered differently. `tell` takes in any
architectures, in order. There is no controller to train: the strategy knows nothing but the
population.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from enas.ranges import COUNT, Range, check_ranges
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.space import TRIES, SearchSpace
from enas.state import State, seed_of


@dataclass(frozen=True)
class EvolutionSettings:
    """These settings give the size of the population and of the tournament in it."""

    population: int = 50
    """Number of members; the oldest leaves when another comes.
    Real et al. 2019: 100, in searches of 20,000 architectures."""
    tournament: int = 10
    """Number of members drawn at random; the best is the parent (Real et al. 2019: 25)."""

    def __post_init__(self) -> None:
        at_most = Range(f"between 1 and population ({self.population})", 1, self.population)
        check_ranges(self, "strategy", population=COUNT, tournament=at_most)


class Evolution:
    """An `Evolution` strategy draws variants of the best architectures that it was told of."""

    learns = True

    def __init__(self, space: SearchSpace, settings: EvolutionSettings = EvolutionSettings(), seed: int = 0):
        self.space, self.settings, self.seed, self.asked = space, settings, seed, 0
        self.members: list[tuple[Architecture, float]] = []  # oldest first

    def ask(self, n: int) -> list[Architecture]:
        """Returns n architectures: random ones until the population is full, then mutated ones."""
        rng = random.Random(seed_of(self.seed, "evolution", self.asked))
        self.asked += 1
        return [self._draw(rng) for _ in range(n)]

    def _draw(self, rng: random.Random) -> Architecture:
        if len(self.members) < self.settings.population:
            return self.space.sample(rng)
        drawn = rng.sample(self.members, self.settings.tournament)
        return mutated(self.space, max(drawn, key=lambda member: member[1])[0], rng)

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        """Adds architectures with their rewards to the population, and returns metrics."""
        self.members += zip(archs, map(float, rewards), strict=True)
        del self.members[: -self.settings.population]
        known = [reward for _, reward in self.members]
        return {"reward": sum(rewards) / len(rewards), "reward_best": max(rewards), "population": sum(known) / len(known)}

    def state(self) -> State:
        members = [[dict(arch.choices), reward] for arch, reward in self.members]
        return State(values={"asked": self.asked, "members": _lists(members)})

    def load(self, state: State) -> None:
        self.asked = int(state.values["asked"])
        self.members = [(self.space.architecture(choices), reward) for choices, reward in state.values["members"]]


def mutated(space: SearchSpace, arch: Architecture, rng: random.Random) -> Architecture:
    """Returns `arch` with one decision answered differently, or `arch` itself where that is
    impossible.

    Each decision that has another answer is equally likely to change, and so is each of its
    `neighbours`. Decisions that the change brings in are drawn at random. Where the space's limit
    forbids the result, another change is drawn.
    """
    neighbours = {name: space.decision(name).neighbours(answer) for name, answer in arch.choices.items()}
    able = [d for d in space.decisions if neighbours.get(d.name)]
    for _ in range(TRIES if able else 0):
        changed = rng.choice(able)
        choices: dict[str, Answer] = {}
        for decision in space.decisions:
            if not space.active(decision, choices):
                continue
            if decision == changed:
                choices[decision.name] = rng.choice(neighbours[decision.name])
            elif decision.name in arch.choices:
                choices[decision.name] = arch.choices[decision.name]
            else:
                choices[decision.name] = decision.draw(rng)
        if space.within_limit(choices):
            return space.architecture(choices)
    return arch


def _lists(value: object) -> object:
    """Returns a value with lists in place of tuples, as JSON has it, so that a state is the same
    before and after it is written."""
    if isinstance(value, dict):
        return {key: _lists(v) for key, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, list | tuple) else value
