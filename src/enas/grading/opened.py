"""This module opens a derived run once for everything that grades it, and does the trainings from
scratch beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enas.procedures.search import Search
from enas.runs.folder import RunFolder
from enas.runs.jobs import Jobs, side_by_side
from enas.runs.loop import Listener, after
from enas.runs.plan import Plan
from enas.runs.results import Best, Result
from enas.runs.retrain import Job, check_version, retrain_folder, retrain_many
from enas.spaces.architecture import Architecture, Reference


@dataclass(frozen=True)
class OpenedRun:
    """An `OpenedRun` is the folder of a search, with the plan that it was made by."""

    folder: RunFolder
    plan: Plan

    @classmethod
    def at(cls, path: str | Path) -> OpenedRun:
        folder = RunFolder.open(Path(path))
        return cls(folder, Plan.recorded(folder))

    @property
    def path(self) -> Path:
        return self.folder.path

    def search(self) -> Search:
        """Returns the search as its last checkpoint has it."""
        search = self.plan.search()
        self.folder.put(self.folder.read_checkpoint(), search)
        return search


class OutOfTime(Exception):
    """This exception stops a part of a comparison. Its text says why."""


class Trainings:
    """A `Trainings` object trains models from scratch in the folder of a run, side by side, and
    keeps their results.

    `best` is what the run derived. `plan` holds the recipe, where no other one is named.
    """

    def __init__(self, run: OpenedRun, best: Best, plan: Plan, jobs: Jobs, max_seconds: float | None, listen: Listener):
        self.run, self.best, self.plan, self.listen = run, best, plan, listen
        self.jobs = jobs or side_by_side(plan)
        self.ends = None if max_seconds is None else time.monotonic() + max_seconds
        self.why: str | None = None
        """The reason why nothing more is begun, or None."""
        self.results: dict[Job, Result] = {}

    def seconds_left(self) -> float | None:
        """Returns the seconds that are left, or None where there is no end."""
        return None if self.ends is None else max(0.0, self.ends - time.monotonic())

    def stop(self, why: str | None) -> None:
        """Raises `OutOfTime` where the comparison has to stop now, or had to before."""
        self.why = self.why or why
        if self.why:
            raise OutOfTime(self.why)

    def job(self, model: Architecture | Reference, seed: int, plan: Plan | None = None) -> Job:
        return Job(model, retrain_folder(self.run.path, model, seed, plan or self.plan, self.run.plan), seed)

    def train(self, jobs: Sequence[Job], plan: Plan | None = None) -> list[float]:
        """Returns test figures as they are shown, with NaN for a training that diverged. Raises
        `OutOfTime` where one was stopped."""
        plan = plan or self.plan
        for job in jobs:
            if job not in self.results and (result := Result.of(job.folder)) is not None:
                check_version(job.folder, plan)
                self.results[job] = result
        if missing := [job for job in jobs if job not in self.results]:
            self.stop(None)
            stop = after(self.seconds_left())
            results, why = retrain_many(plan, missing, jobs=self.jobs, listen=self.listen, stop=stop)
            self.results |= {job: result for job, result in zip(missing, results, strict=True) if result is not None}
            if None in results:
                self.stop(why or "not all trainings are done")
        return [self.results[job].shown(plan.metric) for job in jobs]

    def over_seeds(self, model: Architecture | Reference, seeds: int) -> tuple[float, ...]:
        """Returns the test figures of a model over seeds, as `train` does."""
        return tuple(self.train([self.job(model, seed) for seed in range(seeds)]))

    def finished(self, of_every_recipe: bool = False) -> dict[Job, Result]:
        """Returns the results of the trainings that did not diverge, by default only those by the
        plan's recipe."""
        results = {job: result for job, result in self.results.items() if result.diverged is None}
        return {
            job: result
            for job, result in results.items()
            if of_every_recipe or job.folder == self.job(job.model, job.seed).folder
        }
