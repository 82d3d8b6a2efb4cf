"""This module finds rivals of the derived architecture. Each is found in the processor time of the
search and its derivation, by a method that a sceptic would use, and is trained by the same recipe
over the same seeds.

    best of k random   as many random architectures as there is time for are trained shortly, and
                       the four best for longer (or as many as in the derivation); rewards alone
                       decide
    most parameters    the largest of a thousand random architectures, which costs nothing; there is
                       none where all are of one size
    without sharing    the derivation by short trainings, with the time of the search added to them,
                       and shared weights left out

Random search with the same sharing is `enas.grading.searches.random_search`. The run folder keeps
what a rival found: with the same time and settings it is not looked for again.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

from enas.grading.ledger import processes, seconds_at_work
from enas.grading.opened import Trainings
from enas.procedures.derive import shortlisted
from enas.procedures.events import Judged, Scored
from enas.procedures.settings import DeriveSettings
from enas.procedures.taught import Taught
from enas.runs.derive import judges_of, taught_by
from enas.runs.settings import from_dict
from enas.runs.short import ShortTrainings
from enas.runs.values import File, Json
from enas.spaces.architecture import Architecture
from enas.spaces.space import TRIES
from enas.state import seed_of

COUNTED = 1000  # number of random architectures whose parameters are counted
FINALISTS = 4  # number of finalists where the derivation had none

Rival = Callable[[Trainings], Architecture | None]


@dataclass(frozen=True, kw_only=True)
class Found(File):
    """A `Found` value is the content of found.json, in the folder of a rival: what it found, in
    which time and by which settings of the derivation."""

    FILE: ClassVar[str] = "found.json"
    seconds: float
    settings: Json
    architecture: Json


def rival(trainings: Trainings, name: str) -> Architecture | None:
    """Returns the architecture that a rival finds, or None where there is none."""
    folder = _folder(trainings, name)
    seconds, settings = equal_seconds(trainings), trainings.best.settings
    found = Found.find(folder)
    if found is not None and (found.seconds, found.settings) == (seconds, settings):
        return Architecture.from_dict(found.architecture)
    arch = RIVALS[name](trainings)
    if arch is not None:
        Found(seconds=seconds, settings=settings, architecture=arch.to_dict()).write(folder)
    return arch


def most_parameters(trainings: Trainings) -> Architecture | None:
    """Returns the largest of a thousand random architectures, or None where all are of one size."""
    plan = trainings.plan
    task = plan.task(plan.load_data(), plan.settings.task)
    supernet = plan.network(plan.settings.network, task)
    archs = plan.limited_space.samples(random.Random(seed_of(plan.seed, "most parameters")), COUNTED)[0]
    sizes = {arch: supernet.num_parameters(arch) for arch in archs}
    return max(archs, key=lambda arch: sizes[arch]) if len(set(sizes.values())) > 1 else None


def best_of_random(trainings: Trainings) -> Architecture:
    """Returns the best of as many random architectures as there is time for, and no more than there
    are."""
    seconds = equal_seconds(trainings)
    settings = _with_finalists(_settings(trainings))
    settings = dataclasses.replace(settings, budget=seconds)  # that of the finals, too
    plan, folder = trainings.run.plan, _folder(trainings, "best of k random")
    task = plan.task(plan.load_data(), plan.settings.task)
    rng, in_vain = random.Random(seed_of(plan.seed, "best of random")), 0
    with ShortTrainings(plan, folder, task, trainings.jobs, trainings.listen) as train:
        method = Taught(
            settings, plan.limited_space, train, {}, frozenset(), lambda: None, [],
            plan.settings.retrain.epochs * task.train_steps, train.spent, plan.seed, learns=False,
        )  # fmt: skip
        while (n := method.affordable(seconds)) > 0 and in_vain < TRIES:
            archs = plan.limited_space.samples(rng, n)[0]
            new = method.new(archs)
            in_vain = 0 if new else in_vain + n
            for event in method.trained(new, 0):
                _heard(trainings, event)
        for event in method.finals():
            _heard(trainings, event)
    return method.ranked()[0]


def without_sharing(trainings: Trainings) -> Architecture:
    """Returns the architecture that the derivation finds where all the time is spent on short
    trainings. A shortlist is picked as in the derivation, but not by shared weights."""
    seconds, plan = equal_seconds(trainings), trainings.run.plan
    settings = _settings(trainings)  # its trainings that teach may do without finalists
    settings = _without_shared(settings if settings.teaches else _with_finalists(settings), seconds)
    procedure = plan.search()  # at its beginning, before anything was learned
    folder, events, picked = _folder(trainings, "without sharing"), list[Scored | Judged](), list[Architecture]()

    def picking() -> Iterator[Scored]:
        archs = plan.limited_space.samples(random.Random(seed_of(plan.seed, "without sharing")), settings.samples)[0]
        judges = judges_of(plan, procedure, settings)
        picked.extend((yield from shortlisted(list(dict.fromkeys(archs)), settings, judges)))

    with ShortTrainings(plan, folder, procedure.task, trainings.jobs, trainings.listen) as train:
        first = picking() if settings.shortlist else ()
        for event in chain(first, taught_by(train, settings, procedure, [], picked)):
            _heard(trainings, event)
            events.append(event)
    (judged,) = (event for event in events if isinstance(event, Judged))
    return judged.ranked[0]


def _without_shared(settings: DeriveSettings, seconds: float) -> DeriveSettings:
    """Returns the settings of a derivation of so many seconds that never asks shared weights."""
    judges, by = (
        tuple(judge for judge in names if judge != "shared") for names in (settings.judges, settings.shortlist_by)
    )
    return dataclasses.replace(
        settings,
        judges=judges,
        shortlist=settings.shortlist if by else 0,
        shortlist_by=by or settings.shortlist_by,
        trainings=0,
        budget=seconds,
    )


RIVALS: dict[str, Rival] = {
    "best of k random": best_of_random,
    "most parameters": most_parameters,
    "without sharing": without_sharing,
}


def _heard(trainings: Trainings, event: object) -> None:
    """Passes an event on. Raises `OutOfTime` where time is up. Finished trainings stay in the
    journal."""
    trainings.listen(event)
    in_time(trainings)


def in_time(trainings: Trainings) -> None:
    """Raises `OutOfTime` where a comparison has no time left, or was stopped."""
    trainings.stop("time is up" if trainings.seconds_left() == 0 else None)


def equal_seconds(trainings: Trainings) -> float:
    """Returns the processor time of a search and its derivation in seconds."""
    run = trainings.run
    search = max(1.0, seconds_at_work(run.path)) * processes(run.path) * run.plan.threads
    return search + trainings.best.cost


def _settings(trainings: Trainings) -> DeriveSettings:
    """Returns the settings that the derivation had."""
    return from_dict(trainings.run.plan.settings.derive, trainings.best.settings)


def _with_finalists(settings: DeriveSettings) -> DeriveSettings:
    return dataclasses.replace(settings, finalists=settings.finalists or FINALISTS)


def _folder(trainings: Trainings, name: str) -> Path:
    folder = trainings.run.path / "rivals" / name.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
