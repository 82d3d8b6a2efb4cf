"""How well a search's shared weights rank: against a table of the truth (`enas oracle RUN --table FILE`), and against
trainings alone (`enas compare RUN`). Beside them what costs nothing: parameters, multiply-adds, depth."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from enas.grading.verdict import uniform_architectures
from enas.networks.supernet import Supernet
from enas.procedures.statistics import rank
from enas.runs.files import read_json
from enas.runs.folder import RunFolder
from enas.runs.loop import silent
from enas.runs.plan import Plan
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace, wire
from enas.tasks.metrics import Metric
from enas.tasks.task import Task


def grade(
    run: str | Path, truth: Mapping[Architecture, float], cells: int, *, batches: int = 4, listen: Any = silent
) -> dict[str, Any]:
    """A search held against the truth (architecture to percent): where its derived architecture stands, and how the shared
    weights rank `cells` uniform architectures on `batches` validation minibatches, beside rankers that cost nothing.

    `listen` is called with a text after each architecture. ValueError for a run of another space."""
    path = Path(run)
    folder = RunFolder.open(path)
    plan = Plan.of(folder.config)
    if not truth or next(iter(truth)).space != plan.space.spec:
        raise ValueError(f"the table is of another space than '{path}', which searches {plan.space.name}")
    procedure = plan.search()
    procedure.load(folder.read_checkpoint())
    net = procedure.supernet
    task: Any = procedure.task
    kinds = ("accuracy", "loss")
    by_kind = {kind: copy.copy(task) for kind in kinds}
    for kind, other in by_kind.items():
        other.settings = dataclasses.replace(task.settings, reward=kind)
    archs = uniform_architectures(plan.space, cells, plan.seed)
    scores: dict[str, list[float]] = {f"shared weights, {kind}": [] for kind in kinds}
    for i, arch in enumerate(archs):
        for kind in kinds:
            rewards = [by_kind[kind].reward(net, arch, by_kind[kind].reward_batch(batch)) for batch in range(batches)]
            scores[f"shared weights, {kind}"].append(sum(rewards) / batches)
        listen(f"scoring architecture {i + 1} of {cells}")
    scores |= free_scores(net, archs, by_kind["loss"])
    true = [truth[arch] for arch in archs]
    derived = None
    if (path / "best.json").exists():
        arch = Architecture.from_dict(read_json(path / "best.json")["ranked"][0])
        better = sum(value > truth[arch] for value in truth.values())
        derived = {"id": arch.id, **arch.to_dict(), "score": truth[arch], "rank": better + 1,
                   "better_than": sum(value < truth[arch] for value in truth.values()) / len(truth)}  # fmt: skip
    return {
        "run": path.name,
        "epochs": procedure.epoch,
        "space_size": len(truth),
        "derived": derived,
        "uniform_mean": sum(true) / len(true),
        "rankings": [rank(name, values, true).to_dict() for name, values in scores.items()],
    }


@torch.no_grad()
def free_scores(net: Supernet, archs: Sequence[Architecture], task: Task) -> dict[str, list[float]]:
    """What is known of architectures without training any: larger is said to be better."""
    batch, counts = task.reward_batch(0), []
    for arch in archs:
        with FlopCounterMode(display=False) as counter:
            task.reward(net, arch, batch)
        counts.append(float(counter.get_total_flops()))
    return {
        "number of parameters": [float(net.num_parameters(arch, aux=False)) for arch in archs],
        "multiply-adds": counts,
        "depth": [float(depth(net.space, arch)) for arch in archs],
        **_op_counts(net.space, archs),
    }


def _op_counts(space: SearchSpace, archs: Sequence[Architecture]) -> dict[str, list[float]]:
    """Of each op, how many edges of the network have it; not of those that no architecture has."""
    counts = []
    for arch in archs:
        nodes = [node for cell in wire(space, arch).values() for node in cell.nodes]
        counts.append(Counter(edge.op for node in nodes for edge in node.edges))
    ops = sorted({op for count in counts for op in count})
    return {f"number of {op}": [float(count[op]) for count in counts] for op in ops}


def depth(space: SearchSpace, arch: Architecture) -> int:
    """Edges on the longest way through the cells, added up over cells."""
    total = 0
    for cell in wire(space, arch).values():
        far = dict.fromkeys(cell.inputs, 0)
        for node in cell.nodes:
            far[node.name] = 1 + max(far[name] for name in node.reads)
        total += max((far[name] for name in cell.outputs), default=0)
    return total


def ranked_alone(
    run: str | Path, archs: Sequence[Architecture], alone: Sequence[float], metric: Metric
) -> list[dict[str, Any]]:
    """How a search's shared weights, and what costs nothing, rank architectures that were trained alone; `alone`: figures
    of `metric` as they are shown. Scores are of the whole validation part. Empty below 6 architectures."""
    if len(archs) < 6:
        return []
    folder = RunFolder.open(Path(run))
    procedure = Plan.of(folder.config).search()
    procedure.load(folder.read_checkpoint())
    net, task = procedure.supernet, procedure.task
    found = [task.evaluate(net, arch, "validation") for arch in archs]
    scores = {
        f"shared weights, {metric.name}": [-metric.cost(figures[metric.name]) for figures in found],
        "shared weights, loss": [-figures["loss"] for figures in found],
    } | free_scores(net, archs, task)
    rows = [rank(name, values, [-metric.cost(value) for value in alone]).to_dict() for name, values in scores.items()]
    for row in rows:  # back to figures as they are shown
        row |= {key: abs(row[key]) for key in ("pick", "top_five")}
    return rows
