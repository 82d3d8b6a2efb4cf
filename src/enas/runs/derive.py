"""Derives architectures of a run, and writes `best.json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enas.procedures import derive as derive_procedure
from enas.procedures.events import Done, Scored
from enas.procedures.halving import ShortTraining
from enas.runs.folder import RunFolder
from enas.runs.loop import Listener, silent
from enas.runs.plan import Plan
from enas.runs.process import versions
from enas.runs.records import Best, Pareto, ParetoPoint, Policy, PolicyAgainstUniform, Ranked
from enas.runs.settings import to_dict
from enas.spaces.costs import pareto
from enas.state import Record
from enas.strategies.random_search import RandomSearch

DRAWS = 300  # architectures by which `Policy` tells what a strategy prefers: +- 6 points at most


def derive(run: str | Path, *, settings: Any = None, listen: Listener = silent, **changes: Any) -> Path:
    """Ranks architectures of a search by its shared weights; writes and returns `best.json`.
    `changes`: settings of `DeriveSettings` by name, in place of the run's own."""
    with RunFolder.open(Path(run)) as folder:
        folder.lock("derive")
        return _derive(folder, settings, listen, changes)


def _derive(folder: RunFolder, settings: Any, listen: Listener, changes: Record) -> Path:
    path = folder.path
    if folder.config["command"] != "search":
        raise ValueError(f"architectures are derived from a search; '{path}' is a {folder.config['command']}")
    plan = Plan.recorded(folder)
    settings = dataclasses.replace(settings or plan.settings.derive, **changes)
    procedure = plan.search()
    folder.put(folder.read_checkpoint(), procedure)
    network = plan.settings.retrain.network
    training = ShortTraining(
        lambda arch: plan.network(network, procedure.task, arch), procedure.task, plan.settings.retrain.optimizer, plan.seed
    )
    policy, space = None, procedure.supernet.space
    if procedure.strategy.learns:
        drawers = (procedure.strategy, RandomSearch(space, seed=plan.seed))
        policy = Policy(DRAWS, *(derive_procedure.preferred(drawer, space, DRAWS) for drawer in drawers))
    scores = []
    for scored in derive_procedure.derive(
        settings, procedure.task, procedure.supernet, procedure.strategy, procedure.uniform, training
    ):
        scores.append(scored)
        listen(scored)
    best = derive_procedure.ranked(scores, settings.keep)
    first = {s.arch: s.metrics["reward"] for s in scores if s.stage == "minibatch"}
    origin: Record = {"run": path.name, "preset": plan.preset, "recipe": plan.recipe, "data": plan.data_name}
    origin |= {"seed": plan.seed, "epochs": procedure.epoch}
    size = plan.network(plan.settings.retrain.network, procedure.task, best[0].arch)
    ranked = []
    for rank, scored in enumerate(best, 1):
        arch = scored.arch.with_provenance(**origin, rank=rank, enas=versions()["enas"])
        child = size if rank == 1 else plan.network(plan.settings.retrain.network, procedure.task, scored.arch)
        shared = {"minibatch_reward": first[scored.arch]}
        if scored.stage in ("validation", "alone"):
            shared |= {f"{scored.stage}_{key}": value for key, value in scored.metrics.items()}
        ranked.append(Ranked.of(rank, arch, shared, child.num_parameters(aux=False)))
    front = None if settings.pareto == "none" else pareto_of(plan, scores, settings.pareto)
    learned = derive_procedure.learned(scores, settings)
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
    )
    file = derived.write(path)
    listen(Done(path, [entry.to_json() for entry in ranked]))
    return file


def pareto_of(plan: Plan, scores: Sequence[Scored], kind: str) -> Pareto:
    """Returns what no other architecture beats, of all that were scored on the minibatch."""
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
