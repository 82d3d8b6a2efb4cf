"""This module derives architectures of a run, and writes `best.json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from enas.procedures import derive as derive_procedure
from enas.procedures.derive import shared_reward
from enas.procedures.events import Done, Judged, Scored
from enas.procedures.scores import SCORES, Score, untrained_score
from enas.procedures.search import Search
from enas.procedures.settings import DeriveSettings
from enas.procedures.taught import Judge, Taught
from enas.runs.folder import RunFolder
from enas.runs.jobs import Jobs, side_by_side
from enas.runs.loop import Listener, silent
from enas.runs.plan import Plan
from enas.runs.process import versions
from enas.runs.results import Best, Judgement, Pareto, ParetoPoint, Policy, PolicyAgainstUniform, Ranked
from enas.runs.settings import to_dict
from enas.runs.short import ShortTrainings, short_training
from enas.spaces.architecture import Architecture
from enas.spaces.costs import pareto
from enas.state import Record
from enas.strategies.random_search import RandomSearch

FREE = frozenset(("parameters", "macs"))  # judges that cost too little to count
DRAWS = 300  # draws that show what a strategy prefers, to +- 6 points at most


def derive(
    run: str | Path,
    *,
    settings: Any = None,
    jobs: Jobs = None,
    workers: int | None = None,
    listen: Listener = silent,
    **changes: Any,
) -> Path:
    """Ranks architectures of a search by its shared weights, and by short trainings where there are
    any. Writes `best.json` and returns its path.

    `changes` are settings of `DeriveSettings` by name, in place of the run's own. `jobs` says how
    many short trainings run side by side, or where, as `--jobs` does. `workers` is its earlier
    name. Raises a ValueError where the run is no search.
    """
    with RunFolder.open(Path(run)) as folder:
        folder.lock("derive")
        return _derive(folder, settings, jobs or workers, listen, changes)


def _derive(folder: RunFolder, settings: Any, jobs: Jobs, listen: Listener, changes: Record) -> Path:
    path = folder.path
    if folder.config["command"] != "search":
        raise ValueError(f"architectures are derived from a search; '{path}' is a {folder.config['command']}")
    plan = Plan.recorded(folder)
    settings = dataclasses.replace(settings or plan.settings.derive, **changes)
    procedure = plan.search()
    folder.put(folder.read_checkpoint(), procedure)
    training = short_training(plan, procedure.task)
    policy, space = None, procedure.space  # random architectures keep to its limits too
    if procedure.strategy.learns:
        drawers = (procedure.strategy, RandomSearch(space, seed=plan.seed))
        policy = Policy(DRAWS, *(derive_procedure.preferred(drawer, space, DRAWS) for drawer in drawers))
    scores, judged = list[Scored](), None
    with ShortTrainings(plan, path, procedure.task, jobs or side_by_side(plan), listen) as trainings:
        # A job trains a finalist from the beginning, which pays only where several run at a time.
        elsewhere = None if jobs in (None, 1) else partial(trainings.rewards, settings.finalist_steps)
        scoring = derive_procedure.derive(
            settings,
            procedure.task,
            procedure.supernet,
            procedure.strategy,
            procedure.uniform,
            training,
            elsewhere,
            judges_of(plan, procedure, settings),
        )
        events = chain(scoring, taught_by(trainings, settings, procedure, scores)) if settings.teaches else scoring
        for event in events:
            listen(event)
            if isinstance(event, Judged):
                judged = event
            else:
                scores.append(event)
    best = derive_procedure.ranked(scores, settings.keep, judged)
    first = {s.arch: s.metrics["reward"] for s in scores if s.stage == "minibatch"}
    short = {s.arch: s.metrics["reward"] for s in scores if s.stage == "short"}
    origin: Record = {"run": path.name, "preset": plan.preset, "recipe": plan.recipe, "data": plan.data_name}
    origin |= {"seed": plan.seed, "epochs": procedure.epoch}
    size = plan.network(plan.settings.retrain.network, procedure.task, best[0].arch)
    ranked = []
    for rank, scored in enumerate(best, 1):
        arch = scored.arch.with_provenance(**origin, rank=rank, enas=versions()["enas"])
        child = size if rank == 1 else plan.network(plan.settings.retrain.network, procedure.task, scored.arch)
        shared = {"minibatch_reward": first[scored.arch]} if scored.arch in first else {}
        if scored.arch in short:
            shared["short_reward"] = short[scored.arch]
        if scored.stage in ("validation", "alone", "final"):
            shared |= {f"{scored.stage}_{key}": value for key, value in scored.metrics.items()}
        ranked.append(Ranked.of(rank, arch, shared, child.num_parameters(aux=False)))
    front = None if settings.pareto == "none" else pareto_of(plan, scores, settings.pareto)
    learned = derive_procedure.learned(scores, settings)
    judgement = Judgement(judged.taus, judged.trainings, judged.predicted, judged.seconds) if judged else None
    derived = Best(
        searched_epochs=procedure.epoch,
        search_finished=procedure.epoch >= plan.settings.search.epochs,
        samples=len(first),
        score_on=settings.score_on,
        policy_against_uniform=PolicyAgainstUniform.from_json(learned) if learned else None,
        policy=policy,
        settings=to_dict(settings),
        marks=size.marks(),
        ranked=tuple(ranked),
        pareto=front,
        judged=judgement,
        seconds=round(trainings.spent(), 3),
    )
    file = derived.write(path)
    listen(Done(path, [entry.to_json() for entry in ranked]))
    return file


def taught_by(
    trainings: ShortTrainings,
    settings: DeriveSettings,
    procedure: Search,
    scored: Sequence[Scored],
    picked: Sequence[Architecture] = (),
) -> Iterator[Scored | Judged]:
    """Yields the scores of short trainings after a search, and in the end what the judges were
    worth. `scored` holds what shared weights said of architectures, which is not computed again.
    `picked` holds more architectures that may be trained."""
    plan, task = trainings.plan, procedure.task
    known = {score.arch: score.metrics["reward"] for score in scored if score.stage == "minibatch"}
    judges = judges_of(plan, procedure, settings, known)
    follows = settings.draw != "uniform" and procedure.strategy.learns
    yield from Taught(
        settings,
        procedure.space,
        trainings,
        {name: judges[name] for name in settings.judges},
        frozenset(settings.judges) - FREE,
        lambda: plan.strategy(procedure.space) if follows else None,
        [*picked, *(score.arch for score in scored if score.stage == "minibatch")],
        plan.settings.retrain.epochs * task.train_steps,
        trainings.spent,
        plan.seed,
    ).run()


def judges_of(
    plan: Plan, procedure: Search, settings: DeriveSettings, known: Mapping[Architecture, float] | None = None
) -> dict[str, Judge]:
    """Returns every judge of a derivation by its name. Of each, larger is better. `known` holds
    rewards by shared weights, which are not computed again."""
    task, supernet, rewards = procedure.task, procedure.supernet, known or {}

    def shared(arch: Architecture) -> float:
        return rewards[arch] if arch in rewards else shared_reward(settings, task, supernet, arch)

    def untrained(score: Score, arch: Architecture) -> float:
        child = plan.network(plan.settings.retrain.network, task, arch)
        return untrained_score(score, child, task, plan.seed)

    return {
        **{name: partial(untrained, score) for name, score in SCORES.items()},
        "parameters": lambda arch: math.log1p(supernet.num_parameters(arch)),
        "macs": lambda arch: math.log1p(plan.cost(arch).macs),
        "shared": shared,
    }


def pareto_of(plan: Plan, scores: Sequence[Scored], kind: str) -> Pareto:
    """Returns the architectures that no other one beats, among all that were scored on the
    minibatch. Raises a ValueError for latency without a table of latencies."""
    rewards = {s.arch: s.metrics["reward"] for s in scores if s.stage in ("minibatch", "uniform")}
    archs, costs = list(rewards), [plan.cost(arch).of(kind) for arch in rewards]
    if any(map(math.isnan, costs)):
        raise ValueError("derive.pareto latency needs a search with a table of latencies: --latency-table FILE")
    front = pareto(list(rewards.values()), costs)
    points = tuple(
        ParetoPoint(archs[i].id, rewards[archs[i]], costs[i], dict(archs[i].space_items), dict(archs[i].choice_items))
        for i in front
    )
    return Pareto(kind, points, tuple(zip(rewards.values(), costs, strict=True)))
