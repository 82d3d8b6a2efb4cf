"""This module asks whether the derived architecture is a local optimum. It trains changed
architectures (studies.py) from scratch, and says how much worse they are."""

from __future__ import annotations

import dataclasses
import math
import random
import warnings
from collections.abc import Sequence
from statistics import mean

import torch

from enas.grading.opened import Trainings
from enas.grading.studies import SINGLE, STUDIES, Study, drawn, single_changes
from enas.networks.width import widest
from enas.procedures.statistics import Interval, difference
from enas.runs.compared import Changed, StudyResult
from enas.runs.plan import Plan
from enas.spaces.architecture import Architecture
from enas.state import seed_of
from enas.tasks.metrics import Metric

EVERY_CHANGE = Study(SINGLE, "a single answer of all is changed", "not in the paper", lambda *_: None)


def studies_of(space: str, local: int, single: int) -> list[tuple[Study, int]]:
    """Returns the studies that are asked for, each with its number of changed architectures."""
    paper = [(study, local) for study in STUDIES.get(space, ())] if local else []
    return paper + ([(EVERY_CHANGE, single)] if single else [])


def study_result(trainings: Trainings, study: Study, number: int, derived: Sequence[float]) -> StudyResult:
    """Trains `number` changed architectures, or as many as there are, and returns how much worse
    they are. A study with a single changed architecture trains it over as many seeds as the derived
    one, whose test figures are `derived`. Changed architectures obey the limits of the search.
    Raises `OutOfTime` where it was stopped."""
    plan, space = trainings.plan, trainings.run.plan.limited_space
    rng, there_are = random.Random(seed_of(plan.seed, "study", study.name)), None
    if study.name == SINGLE:
        everything = list(single_changes(space, trainings.best.architecture))
        there_are = len(everything)
        changes = rng.sample(everything, min(number, there_are))
    else:
        changes = drawn(study, space, trainings.best.architecture, number, rng)
    seeds = range(len(derived) if len(changes) == 1 else 1)
    if study.equal_parameters:  # each network has a recipe of its own
        plans = [_as_large(trainings, arch) for _, arch in changes]
        by_change = [
            trainings.train([trainings.job(arch, seed, other) for seed in seeds], other)
            for (_, arch), other in zip(changes, plans, strict=True)
        ]
    else:
        scores = trainings.train([trainings.job(arch, seed) for _, arch in changes for seed in seeds])
        by_change = [scores[i : i + len(seeds)] for i in range(0, len(scores), len(seeds))]
    finite = [tuple(filter(math.isfinite, scores)) for scores in by_change]
    changed = tuple(Changed(arch.id, change, test) for (change, arch), test in zip(changes, finite, strict=True) if test)
    gap, largest = worse_by(derived, [entry.test for entry in changed], plan.metric)
    base, diverged = tuple(derived), len(changes) - len(changed)
    return StudyResult(study.name, study.about, study.paper, there_are, base, changed, gap, largest, diverged)


def _as_large(trainings: Trainings, arch: Architecture) -> Plan:
    """Returns the plan with the width that gives this network as many parameters as the derived
    one."""
    plan = trainings.plan
    parameters = trainings.results[trainings.job(trainings.best.architecture, 0)].parameters
    retrain, on_meta = plan.settings.retrain, dataclasses.replace(plan, device="meta")
    task = plan.task(plan.load_data(), retrain.task)

    def size(filters: int) -> int:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # half of a single filter is none
            return on_meta.network(dataclasses.replace(retrain.network, filters=filters), task, arch).num_parameters(
                aux=False
            )

    filters = widest(size, parameters, "a network of one filter")
    wide = dataclasses.replace(retrain, network=dataclasses.replace(retrain.network, filters=filters))
    return plan.with_settings(retrain=wide)


def worse_by(
    base: Sequence[float], changed: Sequence[Sequence[float]], metric: Metric
) -> tuple[Interval | None, float | None]:
    """Returns how much worse changed networks are than the unchanged one, in points of the metric:
    the mean with Welch's interval, and the largest.

    The interval compares seeds of the unchanged network with changed networks, or with seeds, where
    there is only one changed network. A value for which there are too few figures is None.
    """
    if not changed:
        return None, None
    values = changed[0] if len(changed) == 1 else [mean(scores) for scores in changed]
    cost, base_cost = [metric.cost(value) for value in values], [metric.cost(value) for value in base]
    largest = max(cost) if len(changed) > 1 else mean(cost)
    gap = difference(cost, base_cost) if min(len(cost), len(base_cost)) > 1 else None
    return gap, largest - mean(base_cost)
