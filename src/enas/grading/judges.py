"""This module compares judges of architectures with a table of the truth: how they rank, what their
pick is worth, and what they cost.

    parameters, macs            free
    zico, expressivity,         scores of untrained networks (`enas.procedures.scores`)
    progressivity
    shared, N passes            rewards by shared weights after N passes with random children, as an
                                accuracy and as a loss
    the same, recalibrated      where batch norms use statistics of the validation batch: by
                                statistics of training batches, taken anew for each architecture
    short training, S steps     the reward after S steps from scratch
    correction by K trainings   the regression that K short trainings teach, of the others

All judges are asked for the same architectures. Most are a random sample of the table. The others
are where a search by shared weights leads: those that the shared weights of the most passes prefer
among many more, with the loss as reward, on other minibatches than they are ranked by. A judge that
ranks random architectures may be at chance there, and shared weights are at a disadvantage, because
they chose them. Only the correction is compared on those of the sample that did not teach it.
Seconds are processor time; those of the correction hold what the judges cost that it corrects.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from enas.grading.asked import JudgesWanted
from enas.grading.ranking import rewarding
from enas.grading.table import Built, is_built, located
from enas.networks.supernet import Supernet
from enas.procedures.correction import Correction, Known
from enas.procedures.derive import recalibrated
from enas.procedures.events import EpochEnd
from enas.procedures.scores import SCORES, Score, untrained_score
from enas.procedures.settings import LEAST_TRAININGS
from enas.procedures.statistics import Coefficient, Ranking, coefficient, kendalls, rank
from enas.procedures.taught import Short
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.short import outcome
from enas.runs.values import File, Value
from enas.spaces.architecture import Architecture
from enas.spaces.features import features
from enas.spaces.registry import SPACES
from enas.state import seed_of
from enas.tasks.task import Task

PREFERRED = 20  # one in so many is preferred, as far as the table has as many
FEWEST_LED = 6  # architectures of which a rank correlation says anything


@dataclass(frozen=True)
class JudgeFigures(Value):
    """A `JudgeFigures` value says how well one judge did, compared with the table."""

    judge: str
    ranking: Ranking
    regret: float  # truth of the best of the sample minus that of its pick, in the table's points
    before: float  # seconds before it can be asked
    each: float  # seconds per architecture
    led: Coefficient | None = None  # Kendall's tau of the architectures that shared weights lead to


@dataclass(frozen=True, kw_only=True)
class Judges(File):
    """A `Judges` value is the content of judges.json: all judges on one problem."""

    FILE: ClassVar[str] = "judges.json"
    table: str
    preset: str
    cells: int
    best: float  # best truth of the sample
    mean: float
    judged: tuple[JudgeFigures, ...]
    led: int = 0  # number of architectures that shared weights lead to
    led_mean: float | None = None  # mean of their truth


@dataclass(frozen=True)
class Sample:
    """A `Sample` holds random architectures of a table with their true figures. Larger is better.
    `sign` times the truth is the figure as the table shows it. `others` are more of them, among
    which shared weights may choose."""

    name: str
    archs: tuple[Architecture, ...]
    truth: tuple[float, ...]
    sign: float = 1.0
    others: Mapping[Architecture, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """Returns the best figure as the table shows it."""
        return self.sign * max(self.truth)

    @property
    def mean(self) -> float:
        """Returns the mean figure as the table shows it."""
        return self.sign * sum(self.truth) / len(self.truth)

    @classmethod
    def of(cls, what: str, file: Path, wanted: JudgesWanted) -> tuple[Sample, Plan]:
        """Returns a random sample of a table, and the plan of its preset. Raises a ValueError where
        the table is of another space than the preset `what`."""
        file, sign = located(file), 1.0
        if is_built(file):
            built = Built.read(file)
            archs, sign = built.architectures(), 1.0 if built.figure.larger_is_better else -1.0
            truth = dict(zip(archs, (sign * figure for figure in built.figures()), strict=True))
        else:
            from enas.grading.oracle import read_table  # it imports this much more

            plan = make_plan(what, wanted.recipe, seed=wanted.seed, data=wanted.data)
            entry = SPACES[plan.names.space]
            if entry.benchmark is None:
                raise ValueError(f"there is no published table of {plan.names.space}, the space of '{what}'")
            benchmark = entry.benchmark
            table = read_table(file, entry.make(entry.settings()), benchmark.parse, benchmark.form)
            truth = table.column(benchmark.score)
        plan = make_plan(what, wanted.recipe, seed=wanted.seed, data=wanted.data)
        if next(iter(truth)).space != plan.space.spec:
            raise ValueError(f"'{file}' is a table of another space than '{what}' searches")
        rng = random.Random(seed_of(wanted.seed, "judges"))
        chosen = tuple(rng.sample(list(truth), min(wanted.cells, len(truth))))
        taken = set(chosen)
        left = [arch for arch in truth if arch not in taken]
        others = rng.sample(left, min(PREFERRED * wanted.led, len(left)))
        truths = tuple(truth[arch] for arch in chosen)
        return cls(file.name, chosen, truths, sign, {arch: truth[arch] for arch in others}), plan


@dataclass(frozen=True)
class Weights:
    """A `Weights` value holds shared weights after some passes, and the seconds that these took."""

    passes: int
    supernet: Supernet
    seconds: float


class Court:
    """A `Court` asks the judges one after the other, and keeps every answer: those on the random
    architectures first, then those on the ones that shared weights lead to."""

    def __init__(self, sample: Sample, plan: Plan, wanted: JudgesWanted, listen: Callable[[str], object]):
        self.sample, self.plan, self.wanted, self.listen = sample, plan, wanted, listen
        self.task = plan.task(plan.load_data(), plan.settings.task)
        self.said: dict[str, list[float]] = {}
        self.seconds: dict[str, tuple[float, float]] = {}
        """Seconds of each judge, before it can be asked and per architecture."""
        self.weights: list[Weights] = []
        self.led: dict[Architecture, float] = {}
        """The architectures that shared weights lead to, with their truth."""

    def run(self) -> Iterator[JudgeFigures]:
        self._train()
        self._lead()
        yield from self._free()
        yield from self._untrained()
        yield from self._shared()
        yield from self._short()

    def _held(self, judge: str, scores: Sequence[float], before: float, each: float, start: int = 0) -> JudgeFigures:
        """Returns how a judge's scores rank the random architectures from `start` on, and the ones
        that shared weights lead to, whose scores come last."""
        truth, led = self.sample.truth[start:], None
        ranking = rank(judge, scores[: len(truth)], truth, self.wanted.seed)
        if self.led:
            values = np.asarray(scores[len(truth) :]), np.asarray(list(self.led.values()))
            led = coefficient(kendalls, *values, self.wanted.seed)
        sign, regret = self.sample.sign, max(truth) - ranking.pick
        return JudgeFigures(judge, ranking.times(sign), regret, before, each, led)

    def _asked(self, judge: str, ask: Callable[[Architecture], float], before: float = 0.0) -> JudgeFigures:
        began, scores, archs = time.process_time(), list[float](), (*self.sample.archs, *self.led)
        for i, arch in enumerate(archs):
            scores.append(ask(arch))
            self.listen(f"{judge}: {i + 1} of {len(archs)}")
        self.said[judge] = scores
        self.seconds[judge] = before, (time.process_time() - began) / len(scores)
        return self._held(judge, scores, *self.seconds[judge])

    def _free(self) -> Iterator[JudgeFigures]:
        yield self._asked("parameters", lambda arch: float(self.plan.cost(arch).parameters))
        yield self._asked("macs", lambda arch: float(self.plan.cost(arch).macs))

    def _untrained(self) -> Iterator[JudgeFigures]:
        for name, score in SCORES.items():
            if name not in self.said:
                yield self._asked(name, partial(self._untrained_score, score))

    def _untrained_score(self, score: Score, arch: Architecture) -> float:
        child = self.plan.network(self.plan.settings.retrain.network, self.task, arch)
        return untrained_score(score, child, self.task, self.plan.seed)

    def _train(self) -> None:
        """Trains shared weights with random children, and keeps them as they are after the passes
        that are wanted."""
        marks = sorted(self.wanted.passes)
        if not marks:
            return
        settings = dataclasses.replace(
            self.plan.settings.search, epochs=marks[-1], warmup_epochs=marks[-1], controller_steps=0, probes=0
        )
        search = self.plan.with_settings(search=settings).search()
        began = time.process_time()
        for event in search.run():
            if isinstance(event, EpochEnd):
                self.listen(f"shared weights: pass {event.epoch} of {marks[-1]}")
                if event.epoch in marks:
                    seconds = time.process_time() - began
                    self.weights.append(Weights(event.epoch, copy.deepcopy(search.supernet), seconds))

    def _lead(self) -> None:
        """Finds the architectures that the last shared weights prefer among the others of the
        table."""
        others = list(self.sample.others)
        wanted = min(self.wanted.led, len(others) // 2)
        if not self.weights or wanted < FEWEST_LED:
            return
        task, rewards = rewarding(self.task, self._kinds[-1]), dict[Architecture, float]()
        for i, arch in enumerate(others):
            rewards[arch] = self._shared_reward(self.weights[-1].supernet, task, arch, self.wanted.batches)
            self.listen(f"where shared weights lead: {i + 1} of {len(others)}")
        preferred = sorted(others, key=lambda arch: -rewards[arch])[:wanted]
        self.led = {arch: self.sample.others[arch] for arch in preferred}

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Returns the kinds of reward that the task has."""
        return ("accuracy", "loss") if hasattr(self.plan.settings.task, "reward") else ("reward",)

    def _shared(self) -> Iterator[JudgeFigures]:
        """Asks shared weights, with statistics of the validation batch and with recalibrated
        ones."""
        for weights in self.weights:
            rewards: dict[str, Callable[[Supernet, Task, Architecture], float]] = {"": self._shared_reward}
            supernet = weights.supernet
            if any(isinstance(module, nn.BatchNorm2d) for module in supernet.modules()):
                rewards[", recalibrated"] = self._recalibrated_reward
            for how, reward in rewards.items():
                for kind in self._kinds:
                    ask = partial(reward, supernet, rewarding(self.task, kind))
                    yield self._asked(f"shared, {weights.passes} passes, {kind}{how}", ask, weights.seconds)

    def _shared_reward(self, model: nn.Module, task: Task, arch: Architecture | None, first: int = 0) -> float:
        """Returns the mean reward on validation minibatches, from `first` on."""
        batches = range(first, first + self.wanted.batches)
        return sum(task.reward(model, arch, task.reward_batch(i)) for i in batches) / len(batches)

    def _recalibrated_reward(self, supernet: Supernet, task: Task, arch: Architecture) -> float:
        steps = self.plan.settings.derive.recalibration_steps
        return self._shared_reward(recalibrated(task, supernet, arch, steps), task, None)

    def _short(self) -> Iterator[JudgeFigures]:
        """Asks short trainings, and the regression that the first of them teach."""
        torch.set_num_threads(self.plan.threads)
        for steps in self.wanted.steps:
            name = f"short training, {steps} steps"
            yield self._asked(name, partial(self._trained, steps))
            for k in self.wanted.teachers:
                if LEAST_TRAININGS <= k <= len(self.sample.archs) - LEAST_TRAININGS:
                    yield self._corrected(name, k)

    def _trained(self, steps: int, arch: Architecture) -> float:
        return outcome(self.plan, self.task, Short(arch, steps, 0)).reward

    def _corrected(self, short: str, k: int) -> JudgeFigures:
        judges = {name: said for name, said in self.said.items() if not name.startswith("short")}
        known = [
            Known(features(self.plan.space, arch), {name: said[i] for name, said in judges.items()})
            for i, arch in enumerate((*self.sample.archs, *self.led))
        ]
        correction = Correction.taught(known[:k], self.said[short][:k])
        scores = correction.predict(known[k:])[0].tolist()
        # the shared weights of fewer passes are those of the most, on their way
        before = max((self.seconds[name][0] for name in judges), default=0.0)
        each = sum(self.seconds[name][1] for name in judges)
        before += k * (each + self.seconds[short][1])
        return self._held(f"correction by {k} of these", scores, before, each, start=k)


def judge(what: str, file: Path, wanted: JudgesWanted, out: Path, listen: Callable[[object], object]) -> Judges:
    """Asks all judges, and writes `out`/judges.json after each. `listen` gets the figures of each
    judge, and texts about progress."""
    sample, plan = Sample.of(what, file, wanted)
    court, judged = Court(sample, plan, wanted, listen), list[JudgeFigures]()
    out.mkdir(parents=True, exist_ok=True)
    for one in court.run():
        judged.append(one)
        listen(one)
        found = Judges(
            table=sample.name,
            preset=what,
            cells=len(sample.archs),
            best=sample.best,
            mean=sample.mean,
            judged=tuple(judged),
            led=len(court.led),
            led_mean=sample.sign * sum(court.led.values()) / len(court.led) if court.led else None,
        )
        found.write(out)
    return found
