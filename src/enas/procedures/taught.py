"""This module lets short trainings teach, in rounds, what architectures are worth. A policy
follows.

    round 1      random architectures are trained from scratch for a short time
    then each    a regression learns from all trainings so far (`enas.procedures.correction`);
                 a fresh policy is trained by REINFORCE on what it predicts, which costs nothing;
                 what the regression prefers among the policy's, the search's, random ones and
                 variants of the best is trained, and corrects it
    finals       the best of all are trained from scratch for longer, and decide

A policy that is trained against a cheap reward finds its mistakes. Here they are trained, found out
and mended in the next round, where the policy went. On NAS-Bench-201's table six rounds of eight
trainings led to 94.02 %, the best of 48 random cells to 93.42 (docs/log, 2026-11-28).

The procedure writes no files and starts no processes: `train` does the trainings.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np

from enas.procedures.correction import Correction, Known
from enas.procedures.events import Judged, Scored
from enas.procedures.settings import LEAST_TRAININGS, DeriveSettings
from enas.procedures.statistics import FEWEST, Coefficient, coefficient, kendalls
from enas.spaces.architecture import Architecture
from enas.spaces.features import features
from enas.spaces.space import SearchSpace
from enas.strategies.evolution import mutated
from enas.strategies.strategy import Strategy

POOL = 500  # random architectures that are looked at in a round
POLICY_STEPS = 60  # steps of a policy on predicted rewards, in a round
POLICY_ASKS = 10  # architectures per step
# standard deviations that are added to a prediction when the next trainings are picked
BOLDNESS = 0.5
# of each of the best so many, this many architectures that differ in one answer
PARENTS, VARIANTS = 4, 20
SHORTLISTED = 4  # architectures per training that dear judges look at
LONGER = 4  # the most that a final training is longer than a short one


@dataclass(frozen=True)
class Short:
    """A `Short` is a training from scratch that is wanted, in rounds of `steps`."""

    arch: Architecture
    steps: int
    seed: int
    rounds: int = 1


@dataclass(frozen=True)
class Outcome:
    """An `Outcome` is the reward of such a training on validation data, and the processor time that
    it took in seconds."""

    reward: float
    seconds: float


Train = Callable[[Sequence[Short]], Iterable[Outcome]]  # gives outcomes in order
Judge = Callable[[Architecture], float]  # larger is better
# the parts of an architecture, which equal architectures share
Graph = frozenset[tuple[str, float]]


@dataclass
class Taught:
    """A `Taught` runs the rounds, and holds what they have learned so far."""

    settings: DeriveSettings
    space: SearchSpace
    train: Train
    judges: Mapping[str, Judge]
    """Judges by name. Those in `dear` take too long to ask for all that a policy draws."""
    dear: frozenset[str]
    policy: Callable[[], Strategy | None]
    """This function makes a strategy at its beginning, or None where only random ones are drawn."""
    searched: Sequence[Architecture]
    """Architectures that the search's own policy draws, or that judges picked of them."""
    full_steps: int
    """Number of steps of a training from scratch by the recipe. No final training is longer."""
    spent: Callable[[], float]
    """Processor time so far, in seconds, of this process and all trainings."""
    seed: int = 0
    learns: bool = True
    """False where rewards alone rank, without a regression."""
    outcomes: dict[Architecture, Outcome] = field(default_factory=dict)
    predicted: dict[Architecture, float] = field(default_factory=dict)
    """Rewards that the regression predicted before the trainings that came after it was taught."""
    predicted_in: dict[Architecture, int] = field(default_factory=dict)
    """The round of each prediction. A prediction is relative to the trainings before it."""
    final: dict[Architecture, float] = field(default_factory=dict)
    _said: dict[tuple[str, Architecture], float] = field(default_factory=dict)
    _parts: dict[Architecture, Mapping[str, float]] = field(default_factory=dict)

    # --------------------------------------------------------------------------------- the rounds
    def run(self) -> Iterator[Scored | Judged]:
        """Yields every training as it is done, and in the end what the judges were worth."""
        round_ = 0
        while (n := self._trainings_of(round_)) > 0:
            wanted = self._first(n) if len(self.outcomes) < LEAST_TRAININGS else self._next(n, round_)
            if not wanted:
                break
            yield from self.trained(wanted, round_)
            round_ += 1
        yield from self.finals()
        yield self.judged()

    def _trainings_of(self, round_: int) -> int:
        """Returns how many trainings the next round has; 0 where the finals come. A budget has two
        rounds at least: the first shows what a training takes."""
        settings, done = self.settings, len(self.outcomes)
        rounds = max(2, settings.rounds) if settings.budget else settings.rounds
        if round_ >= rounds:
            return 0
        if settings.budget and not done:
            return LEAST_TRAININGS  # they show what a training takes
        left = self.affordable(settings.budget) if settings.budget else settings.trainings - done
        share = math.ceil(left / (rounds - round_))
        return min(left, max(share, LEAST_TRAININGS - done)) if left > 0 else 0

    def affordable(self, budget: float) -> int:
        """Returns how many more short trainings fit into a budget of processor time in seconds,
        beside the final ones; at first as many as show what one takes."""
        if not self.outcomes:
            return LEAST_TRAININGS
        return max(0, int(self._left(budget) - self.settings.finalists * self.longer))

    def _left(self, budget: float) -> float:
        """Returns what is left of a budget, in short trainings."""
        each = max(1e-9, sum(outcome.seconds for outcome in self.outcomes.values()) / len(self.outcomes))
        return max(0.0, (budget - self.spent()) / each)

    @property
    def longer(self) -> int:
        """Returns how many times as long as a short training a final one is. At 1 it is the same
        training with another seed."""
        return max(1, min(LONGER, self.full_steps // self.settings.finalist_steps))

    def trained(self, wanted: Sequence[Architecture], round_: int) -> Iterator[Scored]:
        """Trains architectures for a short time; round from 0."""
        shorts = [Short(arch, self.settings.finalist_steps, 0) for arch in wanted]
        for i, (arch, outcome) in enumerate(zip(wanted, self.train(shorts), strict=True)):
            self.outcomes[arch] = outcome
            yield Scored(arch, "short", {"reward": outcome.reward, "round": round_ + 1.0}, i + 1, len(wanted))

    def _first(self, n: int) -> list[Architecture]:
        """Returns the first architectures to train: random ones. Those that judges prefer are so
        much alike that they teach less (docs/log, 2026-11-29)."""
        rng = random.Random(f"{self.seed} first")
        others = [] if self.settings.shortlist else self.space.samples(rng, POOL)[0]
        pool = self.new(chain(self.searched, others))
        return rng.sample(pool, min(n, len(pool)))

    def _next(self, n: int, round_: int) -> list[Architecture]:
        """Returns what the regression prefers: of what a policy that follows it draws, of what the
        search drew, of random ones and of variants of the best. Where judges picked a shortlist, it
        is of these only."""
        free = self.correction(self._free)
        candidates = [*self.searched, *([] if self.settings.shortlist else self._others(free, round_))]
        archs = self._preferred(free, self.new(candidates), SHORTLISTED * n if self.dear else n)
        last = self.correction([*self.judges]) if self.dear else free
        archs = self._preferred(last, archs, n) if self.dear else archs
        if archs:
            said, _ = last.predict([self._known(arch, last.judges) for arch in archs])
            self.predicted |= dict(zip(archs, said.tolist(), strict=True))
            self.predicted_in |= dict.fromkeys(archs, round_)
        return archs

    def _others(self, correction: Correction, round_: int) -> list[Architecture]:
        """Returns architectures that nobody picked: the policy's, random ones, and variants of the
        best."""
        rng = random.Random(f"{self.seed} {round_}")
        others = [*self._followed(correction, rng), *self.space.samples(rng, POOL)[0]]
        best = sorted(self.outcomes, key=lambda arch: -self.outcomes[arch].reward)[:PARENTS]
        return others + [mutated(self.space, arch, rng) for arch in best for _ in range(VARIANTS)]

    def _followed(self, correction: Correction, rng: random.Random) -> list[Architecture]:
        """Returns what a fresh policy draws while it is trained on predicted rewards; as many
        random architectures where there is none."""
        policy, drawn = self.policy(), list[Architecture]()
        if policy is None:
            return self.space.samples(rng, POLICY_STEPS * POLICY_ASKS)[0]
        for _ in range(POLICY_STEPS):
            archs = policy.ask(POLICY_ASKS)
            rewards, _ = correction.predict([self._known(arch, correction.judges) for arch in archs])
            policy.tell(archs, rewards.tolist())
            drawn += archs
        return drawn

    def _preferred(self, correction: Correction, archs: Sequence[Architecture], n: int) -> list[Architecture]:
        """Returns the n of largest prediction, in favour of those that are uncertain."""
        if not archs:
            return []
        mean, deviation = correction.predict([self._known(arch, correction.judges) for arch in archs])
        return [archs[i] for i in np.argsort(-(mean + BOLDNESS * deviation), kind="stable")[:n]]

    def finals(self) -> Iterator[Scored]:
        """Trains the best for longer: by their rewards and by what the regression makes of them;
        fewer where the budget is spent."""
        most, budget = self.settings.finalists, self.settings.budget
        order = self.ranked()[: min(most, int(self._left(budget) / self.longer)) if budget else most]
        shorts = [Short(arch, self.settings.finalist_steps * self.longer, 1) for arch in order]
        for i, (arch, outcome) in enumerate(zip(order, self.train(shorts), strict=True)):
            again = self.longer == 1  # the same training with another seed: both count
            self.final[arch] = (outcome.reward + self.outcomes[arch].reward) / 2 if again else outcome.reward
            yield Scored(arch, "final", {"reward": self.final[arch]}, i + 1, len(order))

    # ------------------------------------------------------------------------------ what is known
    @property
    def _free(self) -> list[str]:
        return [name for name in self.judges if name not in self.dear]

    def says(self, judge: str, arch: Architecture) -> float:
        """Returns what a judge says of an architecture; each is asked once."""
        if (judge, arch) not in self._said:
            self._said[judge, arch] = self.judges[judge](arch)
        return self._said[judge, arch]

    def _known(self, arch: Architecture, judges: Sequence[str]) -> Known:
        return Known(self._parts_of(arch), {judge: self.says(judge, arch) for judge in judges})

    def new(self, archs: Iterable[Architecture]) -> list[Architecture]:
        """Returns one architecture of each graph, without graphs that were trained: to train the
        same sum in another order tells nothing."""
        seen = {self._graph(arch) for arch in self.outcomes}
        new: dict[Graph, Architecture] = {}
        for arch in archs:
            if (graph := self._graph(arch)) not in seen:
                new.setdefault(graph, arch)
        return list(new.values())

    def _graph(self, arch: Architecture) -> Graph:
        return frozenset(self._parts_of(arch).items())

    def _parts_of(self, arch: Architecture) -> Mapping[str, float]:
        if arch not in self._parts:
            self._parts[arch] = features(self.space, arch)
        return self._parts[arch]

    def correction(self, judges: Sequence[str]) -> Correction:
        """Returns the regression, taught by all trainings so far."""
        known = [self._known(arch, judges) for arch in self.outcomes]
        return Correction.taught(known, [outcome.reward for outcome in self.outcomes.values()])

    def ranked(self) -> list[Architecture]:
        """Returns what was trained, best first: the final trainings by their rewards, then the
        others by the mean of their own place and of what the regression, which is less moved by
        luck, makes of them."""
        archs = list(self.outcomes)
        rewards = np.array([self.outcomes[arch].reward for arch in archs])
        worth = _places(rewards)
        if self.learns and len(archs) >= LEAST_TRAININGS:
            names = list(self.judges)
            mean, _ = self.correction(names).predict([self._known(arch, names) for arch in archs])
            worth += _places(mean)
        others = [archs[i] for i in np.argsort(-worth, kind="stable") if archs[i] not in self.final]
        return [*sorted(self.final, key=lambda arch: -self.final[arch]), *others]

    def judged(self) -> Judged:
        """Returns how well each judge ranked what was trained: Kendall's tau with the rewards, in
        its 95 % interval. The prediction is that of before the training was made, and is compared
        with others of its round only, since each regression has its own scale. A judge that says
        the same of all, as the number of parameters does of recurrent cells, ranks nothing. Neither
        can be told of fewer than three trainings."""
        later = list(self.predicted)
        said = {name: [self.says(name, arch) for arch in self.outcomes] for name in self.judges}
        enough = len(self.outcomes) >= FEWEST
        ranks = {name: values for name, values in said.items() if enough and len(set(values)) > 1}
        taus = {name: self._tau(values, list(self.outcomes)) for name, values in ranks.items()}
        if len(later) >= LEAST_TRAININGS:
            rounds = np.array([self.predicted_in[arch] for arch in later])
            taus["prediction"] = self._tau([self.predicted[arch] for arch in later], later, rounds)
        return Judged(taus, len(self.outcomes), len(later), self.spent(), tuple(self.ranked()))

    def _tau(self, said: Sequence[float], archs: Sequence[Architecture], groups: np.ndarray | None = None) -> Coefficient:
        rewards = [self.outcomes[arch].reward for arch in archs]
        return coefficient(partial(kendalls, groups=groups), np.array(said), np.array(rewards), self.seed)


def _places(values: np.ndarray) -> np.ndarray:
    """Returns the place of each value, the largest for the best. Equal values share one."""
    from scipy.stats import rankdata  # slow to import

    places: np.ndarray = rankdata(values)
    return places
