"""Derive: pick architectures after the search (paper 2.2).

Samples from the trained policy are scored with the shared weights on one validation minibatch; the paper takes the best of
these. By default here the best k are then scored on the full validation set, because a minibatch of 128 tells little about
differences of a few points. Beside the policy's samples, uniform architectures are scored on the same shared weights and
the same minibatch: whether the policy knows more than chance. Every such figure is of shared weights: it ranks, it is not
what a network reaches alone. Where that is not enough, the best can be trained alone for a short time before the last word.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from statistics import median
from typing import Any

import torch

from enas.networks.ops import Statistics
from enas.networks.supernet import Supernet
from enas.procedures.events import Scored
from enas.procedures.halving import Alone, finals
from enas.procedures.settings import DeriveSettings
from enas.spaces.architecture import Architecture
from enas.strategies.strategy import Strategy
from enas.tasks.task import Task


def derive(
    settings: DeriveSettings,
    task: Task,
    supernet: Supernet,
    strategy: Strategy,
    uniform: Strategy,
    alone: Alone | None = None,
) -> Iterator[Scored]:
    """Yields each score as it comes; rank them with `ranked`. `strategy` draws what is ranked, `uniform` what to compare
    it with. `alone`: needed where there are finalists."""
    batch = task.reward_batch(0)
    first: list[Scored] = []
    who = {"policy": [strategy], "uniform": [uniform], "both": [strategy, uniform]}[settings.draw]
    asked = [source.ask(n) for source, n in zip(who, _shares(settings.samples, len(who)), strict=True)]
    sources = [set(archs) for archs in asked]
    drawn = {"minibatch": _largest(supernet, list(dict.fromkeys(chain(*asked))), settings.shortlist)}
    if settings.uniform:
        drawn["uniform"] = uniform.ask(settings.uniform)
    for stage, archs in drawn.items():
        for i, arch in enumerate(archs):
            model, given = _scorer(settings, task, supernet, arch)
            scored = Scored(arch, stage, {"reward": task.reward(model, given, batch)}, i + 1, len(archs))
            first += [scored] if stage == "minibatch" else []
            yield scored
    first = _best_first(first)
    best = first
    if settings.score_on == "validation":
        again, second = first[: settings.keep], []
        for i, scored in enumerate(again):
            model, given = _scorer(settings, task, supernet, scored.arch)
            second.append(Scored(scored.arch, "validation", task.evaluate(model, given, "validation"), i + 1, len(again)))
            yield second[-1]
        best = _best_first(second) + first[settings.keep :]
    if settings.finalists:
        assert alone is not None
        yield from finals(
            settings.finalist_steps, alone, _from_each([scored.arch for scored in best], sources, settings.finalists)
        )


def _shares(n: int, parts: int) -> list[int]:
    """n in equal parts, the first ones larger by one where they are not."""
    return [n // parts + (i < n % parts) for i in range(parts)]


def _from_each(ranked: list[Architecture], sources: list[set[Architecture]], n: int) -> list[Architecture]:
    """The first n of `ranked`, as many from each source, in that order; where one has too few, others' follow."""
    chosen: list[Architecture] = []
    for source, share in zip(sources, _shares(n, len(sources)), strict=True):
        chosen += [arch for arch in ranked if arch in source and arch not in chosen][:share]
    chosen += [arch for arch in ranked if arch not in chosen][: n - len(chosen)]
    return sorted(chosen, key=ranked.index)


def _largest(supernet: Supernet, archs: list[Architecture], n: int) -> list[Architecture]:
    """The n with most parameters, where n is not 0."""
    return sorted(archs, key=lambda arch: -supernet.num_parameters(arch))[:n] if n else archs


def ranked(scores: list[Scored], keep: int) -> list[Scored]:
    """The best `keep` by their last stage's reward, best first; of finalists, those first that were trained longest."""
    alone = {s.arch: s for s in scores if s.stage == "alone"}  # the last of each
    if alone:
        order = sorted(alone.values(), key=lambda s: (-s.metrics["round"], -s.metrics["reward"]))
        return order[:keep]
    last = [s for s in scores if s.stage == "validation"] or [s for s in scores if s.stage == "minibatch"]
    return _best_first(last)[:keep]


def _best_first(scores: list[Scored]) -> list[Scored]:
    return sorted(scores, key=lambda scored: -scored.metrics["reward"])


def learned(scores: list[Scored], settings: DeriveSettings) -> dict[str, float] | None:
    """Median rewards of the policy's and of uniform architectures on one minibatch, and how likely a uniform one is beaten
    by one of the policy's (0.5: the policy knows no more than chance). None where no uniform ones were scored, and where
    what was scored is not the policy's alone, or was picked by size."""
    if settings.draw != "policy" or settings.shortlist:
        return None
    policy, uniform = ([s.metrics["reward"] for s in scores if s.stage == stage] for stage in ("minibatch", "uniform"))
    if not uniform:
        return None
    wins = sum((a > b) + 0.5 * (a == b) for a in policy for b in uniform) / (len(policy) * len(uniform))
    return {"policy_median": median(policy), "uniform_median": median(uniform), "policy_beats_uniform": wins}


def _scorer(
    settings: DeriveSettings, task: Task, supernet: Supernet, arch: Architecture
) -> tuple[Supernet, Architecture | None]:
    """Who scores `arch`: the supernet itself, or its child with batch-norm statistics of its own."""
    if settings.statistics == "batch":
        return supernet, arch
    return recalibrated(task, supernet, arch, settings.recalibration_steps), None


@torch.no_grad()
def recalibrated(task: Task, supernet: Supernet, arch: Architecture, steps: int) -> Supernet:
    """The child of `arch` with shared weights, and running statistics averaged over `steps` training batches."""
    statistics: Statistics = "running"
    child = supernet.child(arch, statistics).train()
    norms: list[Any] = [m for m in child.modules() if hasattr(m, "reset_running_stats")]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    remembered = task.state()
    for step in range(min(steps, task.train_steps)):
        task.loss(child, None, task.train_batch(0, step))
    task.load(remembered)
    return child.eval()
