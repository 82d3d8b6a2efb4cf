"""This module says how well the shared weights of a search rank, compared with a table of the truth
(`enas oracle RUN --table FILE`) or with trainings from scratch (`enas compare RUN`). Beside them
stand rankers that cost nothing: parameters, multiply-adds, depth."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from enas.grading.opened import OpenedRun
from enas.grading.verdict import uniform_architectures
from enas.networks.supernet import Supernet
from enas.procedures.statistics import Ranking, rank
from enas.runs.loop import silent
from enas.runs.results import Best
from enas.runs.values import File, Json, Value
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import seed_of
from enas.tasks.metrics import METRICS, Metric
from enas.tasks.task import Task


@dataclass(frozen=True)
class Place(Value):
    """A `Place` says where a derived architecture stands among those of a table."""

    id: str
    score: float
    rank: int
    better_than: float  # share of all architectures
    space: Json
    choices: Json
    provenance: Json = field(default_factory=dict)
    seeds: int = 0  # number of own trainings whose mean is the score; 0 if it is the table's


@dataclass(frozen=True)
class Grade(File):
    """A `Grade` compares a search with a table of the truth, in figures as they are shown."""

    FILE: ClassVar[str] = "oracle.json"
    run: str
    epochs: int
    space_size: int
    derived: Place | None
    uniform_mean: float
    rankings: tuple[Ranking, ...]
    table: str = ""
    score: str = ""  # column of the table
    note: str = ""
    metric: str = "accuracy"
    best: float | None = None  # score of the best architecture of the table


def grade(
    run: OpenedRun,
    truth: Mapping[Architecture, float],
    cells: int,
    *,
    batches: int = 4,
    metric: Metric = METRICS["accuracy"],
    best: float | None = None,
    own: Sequence[float] = (),
    listen: Callable[[str], object] = silent,
) -> Grade:
    """Compares a search with the truth, which is a mapping from architecture to its figure of
    `metric`, as it is shown. Returns where the derived architecture stands, and how the shared
    weights rank `cells` random ones on `batches` minibatches. Where the truth is a sample of the
    space, all of this is within the sample.

    `best` is the figure of the best, where the best of the truth is in part luck. `own` are figures
    of trainings of the derived architecture, which count where the truth lacks it. `listen` gets a
    text after each architecture. Raises a ValueError for a run of another space.
    """
    space = run.plan.space
    if not truth or next(iter(truth)).space != space.spec:
        raise ValueError(f"the table is of another space than '{run.path}', which searches {space.name}")
    search = run.search()
    kinds = ("accuracy", "loss") if hasattr(run.plan.settings.task, "reward") else ("reward",)
    tasks = {kind: rewarding(search.task, kind) for kind in kinds}
    if len(truth) == space.size():
        archs = uniform_architectures(space, min(cells, len(truth)), run.plan.seed)
    else:
        archs = random.Random(seed_of(run.plan.seed, "grade")).sample(list(truth), min(cells, len(truth)))
    scores: dict[str, list[float]] = {f"shared weights, {kind}": [] for kind in tasks}
    for i, arch in enumerate(archs):
        for kind, task in tasks.items():
            rewards = [task.reward(search.supernet, arch, task.reward_batch(batch)) for batch in range(batches)]
            scores[f"shared weights, {kind}"].append(sum(rewards) / batches)
        listen(f"scoring architecture {i + 1} of {len(archs)}")
    scores |= free_scores(search.supernet, archs, tasks[kinds[-1]])
    true = [truth[arch] for arch in archs]
    derived = Best.find(run.path)
    place = _place(derived.architecture, truth, metric, own) if derived else None
    best = min(truth.values(), key=metric.cost) if best is None else best
    return Grade(
        run.path.name, search.epoch, len(truth), place, sum(true) / len(true), _rankings(scores, true, metric),
        metric=metric.name, best=best,
    )  # fmt: skip


def _rankings(scores: Mapping[str, Sequence[float]], figures: Sequence[float], metric: Metric) -> tuple[Ranking, ...]:
    """Returns for each list of scores how it ranks architectures with these figures, as they are
    shown."""
    sign = 1.0 if metric.larger_is_better else -1.0
    truth = [sign * figure for figure in figures]
    return tuple(rank(name, values, truth).times(sign) for name, values in scores.items())


def rewarding(task: Task, kind: str) -> Any:
    """Returns the task with another kind of reward, where it has kinds."""
    other: Any = copy.copy(task)
    if kind != "reward":
        other.settings = dataclasses.replace(other.settings, reward=kind)
    return other


def _place(arch: Architecture, truth: Mapping[Architecture, float], metric: Metric, own: Sequence[float]) -> Place | None:
    """Returns the place of an architecture, or None where the truth lacks it and it has no
    trainings of its own."""
    if arch not in truth and not own:
        return None
    score, seeds = (truth[arch], 0) if arch in truth else (sum(own) / len(own), len(own))
    costs, cost = [metric.cost(other) for other in truth.values()], metric.cost(score)
    better, worse = sum(other < cost for other in costs), sum(other > cost for other in costs)
    place = {"id": arch.id, "score": score, "rank": better + 1, "better_than": worse / len(truth), "seeds": seeds}
    what = {name: value for name, value in arch.to_dict().items() if name != "version"}
    return Place.from_json({**place, **what})


@torch.no_grad()
def free_scores(net: Supernet, archs: Sequence[Architecture], task: Task) -> dict[str, list[float]]:
    """Returns scores that are known of architectures without training any. Larger is taken to be
    better."""
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
    """Returns how many edges of each network have each op, for the ops that some architecture
    has."""
    counts = []
    for arch in archs:
        nodes = [node for cell in space.wire(arch).values() for node in cell.nodes]
        counts.append(Counter(edge.op for node in nodes for edge in node.edges))
    ops = sorted({op for count in counts for op in count})
    return {f"number of {op}": [float(count[op]) for count in counts] for op in ops}


def depth(space: SearchSpace, arch: Architecture) -> int:
    """Returns the number of edges on the longest way through each cell, added up over cells."""
    total = 0
    for cell in space.wire(arch).values():
        far = dict.fromkeys(cell.inputs, 0)
        for node in cell.nodes:
            far[node.name] = 1 + max(far[name] for name in node.reads)
        total += max((far[name] for name in cell.outputs), default=0)
    return total


def ranked_from_scratch(
    run: OpenedRun, archs: Sequence[Architecture], figures: Sequence[float], metric: Metric
) -> tuple[Ranking, ...]:
    """Returns how a search's shared weights, and the scores that cost nothing, rank architectures
    that were trained from scratch to `figures` of `metric`, as they are shown. The scores are
    computed on the whole validation part. The result is empty for fewer than 6 architectures."""
    if len(archs) < 6:
        return ()
    search = run.search()
    net, task = search.supernet, search.task
    evaluated = [task.evaluate(net, arch, "validation") for arch in archs]
    scores = {
        f"shared weights, {metric.name}": [-metric.cost(each[metric.name]) for each in evaluated],
        "shared weights, loss": [-each["loss"] for each in evaluated],
    } | free_scores(net, archs, task)
    return _rankings(scores, figures, metric)
