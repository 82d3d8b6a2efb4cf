"""This module is `compare`: it says what a search was worth. Everything is trained from scratch by
one recipe, and gathered in compare.json.

The parts come in this order, and `max_seconds` ends them wherever they are: the derived
architecture and random ones (the verdict), hand-designed models, random search with weight sharing,
rivals, the disabled controller, and the local-optimum studies. Nothing is done twice. The parts
that were left out are named.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from enas.grading.asked import Wanted
from enas.grading.ledger import ledger
from enas.grading.local import studies_of, study_result
from enas.grading.macs import of_search, of_trainings
from enas.grading.opened import OpenedRun, OutOfTime, Trainings
from enas.grading.ranking import ranked_from_scratch
from enas.grading.rivals import RIVALS, in_time, rival
from enas.grading.searches import disabled_controller, random_search
from enas.grading.studies import STUDIES, Study
from enas.grading.verdict import Verdict, drawn_for, verdict
from enas.procedures.events import Diverged, Done, Stopped
from enas.procedures.statistics import Ranking
from enas.runs.compared import SHARING, Compared, Disabled, StudyResult
from enas.runs.jobs import Jobs
from enas.runs.loop import Listener, after, silent
from enas.runs.models import reference_for
from enas.runs.records import learned
from enas.runs.results import Best, Result
from enas.runs.retrain import Job, retrain
from enas.runs.settings import to_dict
from enas.spaces.architecture import Architecture, Reference

AGAIN = "the same command"


@dataclass
class Comparison:
    """A `Comparison` holds the parts of a comparison, as far as it has come."""

    trainings: Trainings
    wanted: Wanted
    derived: tuple[float, ...] = ()
    """Test figures of the derived architecture, one per seed."""
    uniform: dict[Architecture, tuple[float, ...]] = field(default_factory=dict)
    """Test figures of the random architectures of which no training diverged."""
    references: dict[str, tuple[float, ...]] = field(default_factory=dict)
    rankings: tuple[Ranking, ...] = ()
    disabled: Disabled | None = None
    studies: dict[str, StudyResult] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    acceptance: float = 1.0
    """Share of the random architectures drawn that obey the limits of the search."""
    cells: int = 0
    """Number of random architectures that are trained."""

    # ----------------------------------------------------------------------------------- the parts
    def of_the_verdict(self) -> tuple[list[Job], dict[Architecture, list[Job]]]:
        """Returns the trainings of the derived architecture, and those of each random one."""
        wanted, best, plan = self.wanted, self.trainings.best.architecture, self.trainings.plan
        # limits are those of the search's network, whatever network is trained here
        space = self.trainings.run.plan.limited_space
        archs, self.acceptance = drawn_for(space, wanted.cells, plan.seed, without=best)
        self.cells = len(archs)
        of_best = [self.trainings.job(best, seed) for seed in range(wanted.seeds)]
        return of_best, {arch: [self.trainings.job(arch, seed) for seed in range(wanted.cell_seeds)] for arch in archs}

    def train_derived_and_random(self) -> None:
        """Trains the derived architecture and random ones. Raises `Diverged` where a training of
        the derived architecture diverged, since there is no verdict then."""
        best, plan = self.trainings.best.architecture, self.trainings.plan
        of_best, of_random = self.of_the_verdict()
        every = [*of_best, *(jobs[k] for k in range(self.wanted.cell_seeds) for jobs in of_random.values())]
        scores = dict(zip(every, self.trainings.train(every), strict=True))
        for job in of_best:
            if not math.isfinite(scores[job]):
                figure = f"its test {plan.metric.name} is {scores[job]} with seed {job.seed}"
                why = self.trainings.results[job].diverged or figure
                raise Diverged(f"{best.id} diverged, and without it there is no verdict: {why}")
        self.derived = tuple(scores[job] for job in of_best)
        by_arch = {arch: tuple(scores[job] for job in jobs) for arch, jobs in of_random.items()}
        self.uniform = {arch: test for arch, test in by_arch.items() if all(map(math.isfinite, test))}
        self.verdict()  # raises a ValueError for too few figures before more is trained
        means = [mean(test) for test in self.uniform.values()]
        self.rankings = ranked_from_scratch(self.trainings.run, list(self.uniform), means, plan.metric)

    def train_reference(self, reference: Reference) -> None:
        self.references[reference.name] = self.trainings.over_seeds(reference, self.wanted.seeds)

    def search_at_random(self) -> None:
        self.references[SHARING] = self.trainings.over_seeds(random_search(self.trainings), self.wanted.seeds)

    def train_rival(self, name: str) -> None:
        in_time(self.trainings)
        if (found := rival(self.trainings, name)) is None:
            self.left_out[name] = "all architectures have as many parameters"
        else:
            self.references[name] = self.trainings.over_seeds(found, self.wanted.seeds)

    def disable_controller(self) -> None:
        self.disabled = disabled_controller(self.trainings, self.wanted.disabled)

    def change(self, study: Study, number: int) -> None:
        result = study_result(self.trainings, study, number, self.derived)
        self.studies.pop(study.name, None)  # so that it goes to the end
        self.studies[study.name] = result

    def parts(self, references: list[Reference]) -> list[tuple[str, Callable[[], None]]]:
        """Returns the parts that are asked for beside the verdict, by name and in order."""
        wanted = self.wanted
        studies = studies_of(self.trainings.plan.space.name, wanted.local, wanted.single)
        return [
            *((model.name, partial(self.train_reference, model)) for model in references),
            *([(SHARING, self.search_at_random)] if wanted.sharing else []),
            *((name, partial(self.train_rival, name)) for name in RIVALS if wanted.rivals),
            *([("disabled controller", self.disable_controller)] if wanted.disabled else []),
            *((study.name.replace("_", " "), partial(self.change, study, number)) for study, number in studies),
        ]

    # ---------------------------------------------------------------------------------- the record
    def take_over(self, earlier: Compared) -> None:
        """Keeps what an earlier comparison of the same architecture by the same recipe found.
        Results of the disabled controller depend on neither, so they are always kept."""
        self.disabled = earlier.disabled
        same = earlier.derived_id == self.trainings.best.architecture.id
        if same and earlier.recipe == to_dict(self.trainings.plan.settings.retrain):
            self.references |= earlier.references
            self.studies |= {study.name: study for study in earlier.studies}

    def verdict(self) -> Verdict:
        """Returns the verdict on the figures so far. Raises a ValueError for too few of them."""
        lost = [name for name, test in self.references.items() if not all(map(math.isfinite, test))]
        references = {name: test for name, test in self.references.items() if name not in lost}
        diverged, metric = self.cells - len(self.uniform), self.trainings.plan.metric
        return verdict(
            self.derived, list(self.uniform.values()), metric, references, diverged, lost,
            rivals=(*RIVALS, SHARING), limits=self.trainings.run.plan.limits.about(), acceptance=self.acceptance,
        )  # fmt: skip

    def write(self, count_work: bool = False) -> Verdict:
        """Writes compare.json and returns the verdict. With `count_work` it counts
        multiply-accumulates too, which takes a while."""
        trainings, answer = self.trainings, self.verdict()
        run, plan, results = trainings.run, trainings.plan, trainings.finished()
        # hand-designed models cost what they cost, whatever the space
        of_space = [job for job in results if isinstance(job.model, Architecture)]
        work = (of_search(run), of_trainings(plan, [job.model for job in of_space])) if count_work else (0.0, 0.0)
        derivation = trainings.best.cost / plan.threads  # from processor time
        rolled_back = trainings.finished(of_every_recipe=True).items()
        Compared(
            verdict=answer,
            derived_id=trainings.best.architecture.id,
            derived=self.derived,
            uniform={arch.id: test for arch, test in self.uniform.items()},
            references={name: self.references[name] for name in answer.references},
            recipe=to_dict(plan.settings.retrain),
            cell_seeds=self.wanted.cell_seeds,
            learning=learned(run.path),
            uniform_architectures=tuple(arch.to_dict() for arch in self.uniform),
            ledger=ledger(run.path, [job.folder for job in of_space], *work, derivation),
            rankings=self.rankings,
            disabled=self.disabled,
            studies=tuple(self.studies.values()),
            left_out=self.left_out,
            rolled_back={job.folder.name: result.rollbacks for job, result in rolled_back if result.rollbacks},
            parameters={getattr(job.model, "name", job.model.id): result.parameters for job, result in results.items()},
        ).write(run.path)
        return answer


def compare_opened(
    run: OpenedRun,
    wanted: Wanted,
    settings: Any = None,
    jobs: Jobs = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> Verdict | None:
    """Does what `compare` does, for a run that is already open."""
    with run.folder:
        run.folder.lock("compare")
        return _compare_locked(run, wanted, settings, jobs, max_seconds, listen)


def _asked(
    run: OpenedRun, wanted: Wanted, settings: Any, jobs: Jobs, max_seconds: float | None, listen: Listener
) -> tuple[Comparison, list[Reference]]:
    """Returns the comparison at its beginning, and the hand-designed models in it. Raises a
    ValueError for parts that this run cannot have."""
    best, plan = Best.read(run.path), run.plan
    wanted = wanted.completed(plan.learns, plan.space.name in STUDIES, plan.averages)
    if settings is not None:
        plan = plan.with_settings(retrain=settings)
    as_derived = plan.settings.retrain.network == run.plan.settings.retrain.network
    size = best.ranked[0].parameters if as_derived else plan.cost(best.architecture).parameters
    references = [reference_for(plan, name, parameters=size) for name in wanted.references]
    if wanted.local and plan.space.name not in STUDIES:
        spaces = ", ".join(STUDIES)
        raise ValueError(f"the paper has local-optimum studies of {spaces}; for '{plan.space.name}' there is single")
    if wanted.sharing and not plan.learns:
        raise ValueError(f"'{run.path}' is a search with random children itself: sharing would repeat it")
    if wanted.disabled and not plan.averages:
        raise ValueError(
            "an ensemble averages probabilities, which a problem of your own need not have: leave out --disabled"
        )
    trainings = Trainings(run, best, plan, jobs, max_seconds, listen)
    return Comparison(trainings, wanted), references


def _compare_locked(
    run: OpenedRun, wanted: Wanted, settings: Any, jobs: Jobs, max_seconds: float | None, listen: Listener
) -> Verdict | None:
    comparison, references = _asked(run, wanted, settings, jobs, max_seconds, listen)
    trainings = comparison.trainings
    try:
        comparison.train_derived_and_random()
    except OutOfTime as why:
        listen(Stopped(run.path, str(why), again=AGAIN))
        return None
    if (earlier := Compared.find(run.path)) is not None:
        comparison.take_over(earlier)
    for name, run_part in comparison.parts(references):
        comparison.write()
        try:
            run_part()
        except (OutOfTime, Diverged) as why:
            comparison.left_out[name] = str(why)
    answer = comparison.write(count_work=True)
    listen(Stopped(run.path, trainings.why, again=AGAIN) if trainings.why else Done(run.path, answer))
    return answer


def trainings_of(run: OpenedRun, wanted: Wanted, settings: Any = None, listen: Listener = silent) -> list[Job]:
    """Returns the trainings that a comparison is known to need before it begins: those of the
    derived architecture, of random ones, and of hand-designed models. The order is always the
    same."""
    comparison, references = _asked(run, wanted, settings, None, None, listen)
    of_best, of_random = comparison.of_the_verdict()
    of_references = [comparison.trainings.job(model, seed) for model in references for seed in range(wanted.seeds)]
    return [*of_best, *(job for jobs in of_random.values() for job in jobs), *of_references]


def train_only(
    run: OpenedRun,
    wanted: Wanted,
    number: int,
    settings: Any = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
) -> None:
    """Does one of `trainings_of`, by its index from 0, in its own folder. The comparison then finds
    it done. Raises a ValueError for an index that does not exist."""
    trainings = trainings_of(run, wanted, settings, listen)
    if not 0 <= number < len(trainings):
        raise ValueError(f"--only is the place of a training, from 0 to {len(trainings) - 1}; got {number}")
    job, plan = trainings[number], run.plan if settings is None else run.plan.with_settings(retrain=settings)
    if Result.of(job.folder) is None:
        with contextlib.suppress(Diverged):  # this is an outcome too, which its folder records
            retrain(plan, job.model, job.folder, seed=job.seed, stop=after(max_seconds), listen=listen)


def compare(
    run: str | Path,
    *,
    settings: Any = None,
    jobs: Jobs = None,
    workers: int | None = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
    **wanted: Any,
) -> Verdict | None:
    """Says what a search was worth, and writes `compare.json`. It trains from scratch, by one
    recipe, the derived architecture over `seeds`, `cells` random ones over `cell_seeds`, and
    whatever else is asked for (`Wanted` lists it).

    `settings` is another recipe than the run's own, for all of them. `jobs` says how many trainings
    run side by side, or where, as `--jobs` does; `workers` is its earlier name.

    Returns the verdict, or None where it was stopped before the verdict. Called again, it goes on,
    and nothing is done twice. Raises a ValueError where less is asked for than a verdict needs.
    """
    asked = Wanted(**{**wanted, "references": tuple(wanted.get("references", ()))})
    return compare_opened(OpenedRun.at(run), asked, settings, jobs or workers, max_seconds, listen)
