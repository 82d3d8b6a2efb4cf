"""`compare`: everything that tells what a search was worth, trained by one recipe and gathered in one file, `compare.json`.

Its parts come in this order, and `max_seconds` ends them wherever they are: the derived architecture and uniform ones (the
verdict), hand-designed models, random search with weight sharing, the disabled controller, the local-optimum studies. What
is done is never done twice; what was left out is named.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import load_file, save

from enas.grading.ledger import ledger
from enas.grading.macs import of_search, of_trainings
from enas.grading.ranking import ranked_alone
from enas.grading.studies import SINGLE, STUDIES, Study, drawn, single_changes
from enas.grading.verdict import Verdict, uniform_architectures, verdict
from enas.networks.width import widest
from enas.procedures.ensemble import Ensemble
from enas.procedures.events import Diverged, Done, Stopped
from enas.procedures.statistics import difference
from enas.runs.derive import derive
from enas.runs.files import read_json, read_lines, write_atomically, write_json
from enas.runs.folder import RunFolder
from enas.runs.jobs import DIVERGED, retrain_many
from enas.runs.loop import Listener, after, silent
from enas.runs.models import best_of, reference_for
from enas.runs.plan import Plan
from enas.runs.process import cores, signals
from enas.runs.resume import resume
from enas.runs.retrain import retrain_folder
from enas.runs.search import search_plan
from enas.runs.settings import from_dict, to_dict
from enas.spaces.architecture import Architecture, Reference
from enas.state import State, seed_of
from enas.tasks.metrics import Metric

SHARING = "uniform sharing"  # what `compare` calls the architecture of random search with weight sharing
SAVE_SECONDS = 30.0
AGAIN = "the same command"
Job = tuple[Architecture | Reference, Path, int]  # what to train, where, by which seed


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What `compare` is asked for."""

    cells: int = 16
    seeds: int = 4
    cell_seeds: int = 1
    references: tuple[str, ...] = ()
    sharing: bool = False
    disabled: int = 0
    """Configurations of the disabled controller's ensemble; 0: none (paper 3.3: 250)."""
    local: int = 0
    """Changed networks of each of the paper's local-optimum studies; 0: none."""
    single: int = 0
    """Networks with a single change, drawn among all there are; 0: none."""

    def __post_init__(self) -> None:
        if self.cells < 2 or self.seeds < 2 or self.cell_seeds < 1:
            asked = f"{self.cells}, {self.seeds}, {self.cell_seeds}"
            raise ValueError(f"a verdict needs at least 2 cells, 2 seeds and 1 cell seed; got {asked}")
        for name, low in (("disabled", 2), ("local", 1), ("single", 2)):
            if getattr(self, name) != 0 and getattr(self, name) < low:
                raise ValueError(f"{name} is 0 or at least {low}; got {getattr(self, name)}")


class Comparison:
    """The parts of one comparison. `best`: the derived architecture; `reference`: makes a hand-designed model by name."""

    def __init__(
        self,
        run: Path,
        plan: Plan,
        best: Architecture,
        reference: Callable[[str], Reference],
        derive: Callable[..., Any],
        wanted: Wanted,
        workers: int | None,
        max_seconds: float | None,
        listen: Listener,
    ):
        self.run, self.plan, self.best, self.reference, self.derive = run, plan, best, reference, derive
        self.wanted, self.listen = wanted, listen
        side_by_side = 1 if plan.device.startswith("cuda") else max(1, cores() // plan.threads)  # memory, else cores
        self.workers = workers or side_by_side
        self.ends = None if max_seconds is None else time.monotonic() + max_seconds
        self.why: str | None = None  # it was stopped
        self.left_out: dict[str, str] = {}  # a part, and why
        self.jobs: dict[Path, Job] = {}  # all that were done
        self.results: dict[Path, dict[str, Any]] = {}

    def seconds_left(self) -> float | None:
        return None if self.ends is None else max(0.0, self.ends - time.monotonic())

    # ------------------------------------------------------------------------------------------------ training
    def trained(self, plan: Plan, jobs: Sequence[Job]) -> list[float] | None:
        """Test figures as they are shown, NaN where a training came to nothing; None where it was stopped."""
        for job in jobs:
            if (found := outcome(job[1])) is not None:
                self.jobs[job[1]], self.results[job[1]] = job, found
        missing = [job for job in jobs if job[1] not in self.results]
        if missing and not self.why:
            results, why = retrain_many(
                plan, missing, workers=self.workers, listen=self.listen, stop=after(self.seconds_left())
            )
            for job, result in zip(missing, results, strict=True):
                if result is not None:
                    self.jobs[job[1]], self.results[job[1]] = job, result
            if any(result is None for result in results):
                self.why = why or "not all trainings are done"
        if any(folder not in self.results for _, folder, _ in jobs):
            return None
        name = f"test_{plan.metric.name}"
        return [plan.metric.shown(self.results[folder].get(name, math.nan)) for _, folder, _ in jobs]

    def job(self, what: Architecture | Reference, seed: int, plan: Plan | None = None) -> Job:
        return what, retrain_folder(self.run, what, seed, plan or self.plan), seed

    # ---------------------------------------------------------------------------------------------------- the parts
    def main(self) -> bool:
        """The derived architecture and the uniform ones; False where it was stopped. Diverged where the derived one came to
        nothing."""
        w = self.wanted
        drawn = uniform_architectures(self.plan.space, w.cells, self.plan.seed, without=self.best)
        jobs = [self.job(self.best, seed) for seed in range(w.seeds)]
        jobs += [self.job(arch, seed) for seed in range(w.cell_seeds) for arch in drawn]
        scores = self.trained(self.plan, jobs)
        if scores is None:
            return False
        for (_, folder, seed), score in zip(jobs[: w.seeds], scores, strict=False):
            if not math.isfinite(score):
                why = self.results[folder].get(DIVERGED, f"its test {self.plan.metric.name} is {score} with seed {seed}")
                raise Diverged(f"{self.best.id} came to nothing, and without it there is no verdict: {why}")
        self.derived = scores[: w.seeds]
        by_cell = [[scores[w.seeds + k * w.cells + i] for k in range(w.cell_seeds)] for i in range(w.cells)]
        well = [all(map(math.isfinite, by_seed)) for by_seed in by_cell]
        self.uniform, self.by_cell = list(itertools.compress(drawn, well)), list(itertools.compress(by_cell, well))
        self.by_reference: dict[str, list[float]] = {}
        self.verdict()  # too few of either side are said before more is trained
        self.rankings = ranked_alone(self.run, self.uniform, [mean(by_seed) for by_seed in self.by_cell], self.plan.metric)
        return True

    def over_seeds(self, name: str, what: Architecture | Reference) -> bool:
        scores = self.trained(self.plan, [self.job(what, seed) for seed in range(self.wanted.seeds)])
        if scores is not None:
            self.by_reference[name] = scores
        return scores is not None

    def hand_made(self, name: str) -> bool:
        return self.over_seeds(name, self.reference(name))

    def uniform_sharing(self) -> bool:
        """Random search with weight sharing: as long a search with uniform children, derived and trained alike."""
        folder = self.run / "uniform-sharing"
        plan = Plan.of(RunFolder.open(self.run).config)
        plan = plan.with_strategy("random")
        if not self._searched(plan, folder):
            return False
        alike = from_dict(plan.settings.derive, read_json(self.run / "best.json")["settings"])
        alike = dataclasses.replace(alike, uniform=0)
        best = folder / "best.json"
        if not best.exists() or read_json(best)["settings"] != to_dict(alike):
            self.derive(folder, settings=alike, listen=self.listen)
        return self.over_seeds(SHARING, Architecture.from_dict(read_json(best)["ranked"][0]))

    def disabled(self) -> dict[str, Any] | None:
        """Shared weights of as long a search whose controller never learns (paper 3.3), on the test part; None where it was
        stopped."""
        folder = self.run / "disabled-controller"
        plan = Plan.of(RunFolder.open(self.run).config)
        search = dataclasses.replace(plan.settings.search, controller_steps=0, warmup_epochs=0)
        plan = plan.with_settings(search=search).with_strategy("reinforce")
        if not self._searched(plan, folder):
            return None
        procedure = plan.search()
        procedure.load(RunFolder.open(folder).read_checkpoint())
        archs = procedure.strategy.ask(self.wanted.disabled)
        ensemble = Ensemble(procedure.task, procedure.supernet, archs)
        kept, saved = folder / "ensemble.safetensors", time.monotonic()
        if kept.exists():
            tensors = load_file(kept)
            if len(tensors["single"]) <= len(archs):  # those of a larger ensemble are of no use
                ensemble.load(State({"sum": tensors["sum"]}, {"single": tensors["single"].tolist()}))
        stop = after(self.seconds_left())
        with signals() as caught:
            for member in () if self.why else ensemble.run():
                self.listen(member)
                self.why = self.why or caught.why or stop()
                if self.why or member.done == member.total or time.monotonic() - saved > SAVE_SECONDS:
                    saved = time.monotonic()
                    state = ensemble.state()
                    single = torch.tensor(state.values["single"], dtype=torch.float64)
                    write_atomically(kept, save({"sum": state.tensors["sum"].cpu().contiguous(), "single": single}))
                if self.why:
                    break
        return ensemble.result(self.plan.metric) if len(ensemble.single) == len(archs) else None

    def _searched(self, plan: Plan, folder: Path) -> bool:
        """Whether the search in a folder is done, after going on with it."""

        def listen(event: Any) -> None:
            if not isinstance(event, Done | Stopped):  # what comes after it is ours to say
                self.listen(event)

        def done() -> bool:
            there = RunFolder.open(folder) if (folder / "config.json").exists() else None
            epochs = there.read_checkpoint().values["epoch"] if there and there.has_checkpoint() else 0
            return bool(epochs >= plan.settings.search.epochs)

        if not done() and not self.why:
            if (folder / "config.json").exists():
                resume(folder, max_seconds=self.seconds_left(), listen=listen)
            else:
                search_plan(plan, out=folder, max_seconds=self.seconds_left(), listen=listen)
            if not done():
                self.why = "time is up" if self.seconds_left() == 0 else "interrupted"
        return done()

    # ------------------------------------------------------------------------------------------------ local optimum
    def study(self, study: Study) -> dict[str, Any] | None:
        """The networks of a study trained alone, held against the derived one; None where it was stopped. Positive
        differences are worse."""
        space, rng = self.plan.space, random.Random(seed_of(self.plan.seed, "study", study.name))
        if study.name == SINGLE:
            everything = list(single_changes(space, self.best))
            there_are = len(everything)
            changed = rng.sample(everything, min(self.wanted.single, there_are))
        else:
            changed, there_are = drawn(study, space, self.best, self.wanted.local, rng), None
        row: dict[str, Any] = {"name": study.name, "about": study.about, "paper": study.paper, "there_are": there_are}
        row |= {"base": self.derived, "changed": [], "difference": None, "largest": None, "diverged": 0}
        if not changed:
            return row
        seeds = range(self.wanted.seeds if len(changed) == 1 else 1)
        plans = {arch: self._as_large(arch) if study.equal_parameters else self.plan for _, arch in changed}
        jobs = [(arch, self.job(arch, seed, plans[arch])) for _, arch in changed for seed in seeds]
        scores: list[float] = []
        if study.equal_parameters:  # each by a recipe of its own
            for arch, job in jobs:
                found = self.trained(plans[arch], [job])
                if found is None:
                    return None
                scores += found
        else:
            found = self.trained(self.plan, [job for _, job in jobs])
            if found is None:
                return None
            scores = found
        metric, n = self.plan.metric, len(seeds)
        for i, (change, arch) in enumerate(changed):
            test = [score for score in scores[i * n : (i + 1) * n] if math.isfinite(score)]
            row["diverged"] += not test
            row["changed"] += [{"id": arch.id, "change": change, "test": test}] if test else []
        return row | worse_by(self.derived, [entry["test"] for entry in row["changed"]], metric)

    def _as_large(self, arch: Architecture) -> Plan:
        """The plan with the width at which this network has as many parameters as the derived one."""
        parameters = self.results[self.job(self.best, 0)[1]]["parameters"]
        network = self.plan.settings.retrain.network
        task = self.plan.task(self.plan.load_data(), self.plan.settings.retrain.task)

        def size(filters: int) -> int:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a single filter, half is none
                there = dataclasses.replace(self.plan, device="meta")
                wide = dataclasses.replace(network, filters=filters)
                return there.network(wide, task, arch).num_parameters(aux=False)

        wide = dataclasses.replace(network, filters=widest(size, parameters, "a network of one filter"))
        retrain = dataclasses.replace(self.plan.settings.retrain, network=wide)
        return self.plan.with_settings(retrain=retrain)

    # --------------------------------------------------------------------------------------------------- the record
    def verdict(self) -> Verdict:
        lost = [name for name, by_seed in self.by_reference.items() if not all(map(math.isfinite, by_seed))]
        kept = {name: by_seed for name, by_seed in self.by_reference.items() if name not in lost}
        missing = self.wanted.cells - len(self.uniform)
        return verdict(self.derived, self.by_cell, self.plan.metric, kept, missing, lost)

    def earlier(self) -> dict[str, Any]:
        """What an earlier comparison of the same architecture by the same recipe found; of the disabled controller, any."""
        if not (self.run / "compare.json").exists():
            return {}
        found: dict[str, Any] = read_json(self.run / "compare.json")
        same = found.get("derived_id") == self.best.id and found.get("recipe") == to_dict(self.plan.settings.retrain)
        return found if same else {"disabled": found.get("disabled")}

    def record(self, answer: Verdict, parts: dict[str, Any], last: bool) -> dict[str, Any]:
        """What `compare.json` holds. Work is counted for the last one only: it takes a while."""
        metric, recipe = self.plan.metric, to_dict(self.plan.settings.retrain)
        well = [job for folder, job in self.jobs.items() if DIVERGED not in self.results[folder]]
        ours = [job for job in well if job[1] == self.job(job[0], job[2])[1]]  # not those of another width
        work = (0.0, 0.0)
        if last:
            work = (of_search(self.run, self.plan), of_trainings(self.plan, [what for what, *_ in ours]))
        cost = ledger(self.run, [folder for _, folder, _ in ours], *work)
        return {
            "verdict": str(answer),
            **dataclasses.asdict(answer),
            "derived_id": self.best.id,
            "cell_seeds": self.wanted.cell_seeds,
            "recipe": recipe,
            f"test_{metric.name}": {
                "derived": self.derived,
                **{a.id: s for a, s in zip(self.uniform, self.by_cell, strict=True)},
                **{name: self.by_reference[name] for name in answer.references},
            },
            "learning": learning(self.run),
            "uniform_architectures": [arch.to_dict() for arch in self.uniform],
            "ledger": cost.to_dict() if cost else None,
            "rankings": self.rankings,
            **parts,
            "left_out": self.left_out,
            "rolled_back": {folder.name: n for _, folder, _ in well if (n := self.results[folder].get("rollbacks"))},
            "parameters": {  # a reference by its name
                getattr(what, "name", what.id): self.results[folder]["parameters"] for what, folder, _ in ours
            },
        }


def outcome(folder: Path) -> dict[str, Any] | None:
    """Figures of a training that is over, or that it came to nothing, which the same seed would do again; None else."""
    if (folder / "result.json").exists():
        found: dict[str, Any] = read_json(folder / "result.json")
        return found
    ends = [record.get("why") for record in read_lines(folder / "timing.jsonl")][-1:]
    return {DIVERGED: f"it diverged before, see '{folder / 'timing.jsonl'}'"} if ends == ["diverged"] else None


def learning(run: Path) -> list[dict[str, float]]:
    """What the policy had learned after each epoch: mean reward of its samples less that of uniform ones, on the same
    shared weights and minibatches, with its 95 % interval. Empty where the search did not probe."""
    gap, half = "policy_minus_uniform", "policy_minus_uniform_half_width"
    records = [record for record in read_lines(run / "metrics.jsonl") if gap in record]
    return [{"epoch": r["epoch"], "mean": r[gap], "half_width": r[half]} for r in records]


def worse_by(base: Sequence[float], changed: Sequence[Sequence[float]], metric: Metric) -> dict[str, Any]:
    """How much worse changed networks are than the unchanged one, in points of the metric: the mean with Welch's interval,
    spread over seeds against spread over networks (over seeds, where there is one network), and the largest."""
    if not changed:
        return {}
    values = list(changed[0]) if len(changed) == 1 else [mean(scores) for scores in changed]
    cost, middle = [metric.cost(value) for value in values], mean(map(metric.cost, base))
    largest = max(cost) if len(changed) > 1 else mean(cost)
    out: dict[str, Any] = {"largest": largest - middle, "difference": None}
    if len(values) > 1 and len(base) > 1:
        gap = difference(cost, [metric.cost(value) for value in base])
        out["difference"] = {"mean": gap.mean, "half_width": gap.half_width}
    return out


EVERY_CHANGE = Study(SINGLE, "a single answer of all is changed", "not in the paper", lambda *_: None)


def all_parts(comparison: Comparison) -> Verdict | None:
    """All parts in order; `compare.json` is written after each. None where not even the verdict was reached."""
    c, w, run = comparison, comparison.wanted, comparison.run
    if not c.main():
        c.listen(Stopped(run, c.why or "", again=AGAIN))
        return None
    before = c.earlier()
    for name in before.get("references", {}):
        c.by_reference[name] = before[f"test_{c.plan.metric.name}"][name]
    parts: dict[str, Any] = {name: before[name] for name in ("disabled", "local") if before.get(name)}
    write_json(run / "compare.json", c.record(c.verdict(), parts, last=False))

    def part(name: str, run_it: Callable[[], Any]) -> Any:
        """What one part gives; nothing where it was stopped or came to nothing, which is noted."""
        why = None
        try:
            found = run_it()
        except Diverged as error:
            found, why = None, str(error)
        if not found:
            c.left_out[name] = why or c.why or "stopped"
        return found

    def disabled() -> None:
        if found := part("disabled controller", c.disabled):
            parts["disabled"] = found

    def studied(study: Study) -> None:
        if row := part(study.name.replace("_", " "), lambda: c.study(study)):
            kept = [other for other in parts.get("local", {}).get("studies", ()) if other["name"] != study.name]
            parts["local"] = {"metric": c.plan.metric.name, "studies": [*kept, row]}

    steps: list[Callable[[], Any]] = []
    steps += [partial(part, name, partial(c.hand_made, name)) for name in w.references]
    steps += [partial(part, SHARING, c.uniform_sharing)] if w.sharing else []
    steps += [disabled] if w.disabled else []
    studies = [*(STUDIES.get(c.plan.space.name, ()) if w.local else ()), *([EVERY_CHANGE] if w.single else ())]
    steps += [partial(studied, study) for study in studies]
    for step in steps:
        step()
        write_json(run / "compare.json", c.record(c.verdict(), parts, last=False))
    answer = c.verdict()
    write_json(run / "compare.json", c.record(answer, parts, last=True))
    c.listen(Stopped(run, c.why, again=AGAIN) if c.why else Done(run, answer))
    return answer


def compare(
    run: str | Path,
    *,
    settings: Any = None,
    workers: int | None = None,
    max_seconds: float | None = None,
    listen: Listener = silent,
    **wanted: Any,
) -> Verdict | None:
    """What the search was worth, trained alone by one recipe: the derived architecture over `seeds` against `cells` uniform
    ones over `cell_seeds`, and as asked hand-designed `references`, random search with weight `sharing`, the `disabled`
    controller, `local` and `single` changes (`Wanted` says more). Writes `compare.json`. `settings`: another
    recipe than the run's own for all of them. None where it was stopped before the verdict: call it again, nothing is done
    twice. ValueError below 2 of a kind."""
    path = Path(run)
    asked = Wanted(**{**wanted, "references": tuple(wanted.get("references", ()))})
    best = best_of(path)[0]
    plan = Plan.of(RunFolder.open(path).config)
    if settings is not None:
        plan = plan.with_settings(retrain=settings)
    for name in asked.references:
        reference_for(plan, name, path)  # a wrong name is said before hours are spent
    if asked.local and plan.space.name not in STUDIES:
        raise ValueError(
            f"the paper has local-optimum studies of {', '.join(STUDIES)}; for '{plan.space.name}' there is single"
        )
    if asked.sharing and not plan.learns:
        raise ValueError(f"'{path}' is a search with uniform children itself: sharing would repeat it")
    return all_parts(
        Comparison(
            path, plan, best, lambda name: reference_for(plan, name, path), derive, asked, workers, max_seconds, listen
        )
    )
