"""Derive: pick architectures after the search (paper 2.2).

Samples from the trained policy are scored with the shared weights on one validation minibatch; the paper takes the best of
these. By default here the best k are then scored on the full validation set, because a minibatch of 128 tells little about
differences of a few points. Beside the policy's samples, uniform architectures are scored on the same shared weights and
the same minibatch: whether the policy knows more than chance. Every figure in here is of shared weights: it ranks, it is
not what a network reaches alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch

from enas.architecture import Architecture
from enas.ops import Statistics
from enas.strategies import Strategy
from enas.supernet import Supernet
from enas.tasks import Task


@dataclass(frozen=True)
class DeriveSettings:
    """How the architecture is picked."""

    samples: int = 100
    """Architectures drawn from the policy (the paper: "several"; released code: 10)."""
    score_on: Literal["validation", "minibatch"] = "validation"
    """Final score: the full validation set for the best `keep`, or the one minibatch (paper 2.2)."""
    keep: int = 10
    """Architectures that go on to the full validation set, and that `best.json` ranks."""
    uniform: int = 30
    """Uniform architectures to score beside the policy's, on the same minibatch (not in the paper); 0: none."""
    statistics: Literal["batch", "recalibrated"] = "batch"
    """Batch-norm statistics when scoring: of the batch at hand, or measured anew for each child on training batches."""
    recalibration_steps: int = 10
    """Training batches to measure them on."""

    def __post_init__(self) -> None:
        for name in ("samples", "keep", "recalibration_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"derive.{name} is at least 1; got {getattr(self, name)}")
        if self.uniform < 0:
            raise ValueError(f"derive.uniform is at least 0; got {self.uniform}")


@dataclass(frozen=True)
class Scored:
    """One architecture scored: `stage` is "minibatch", "validation" or, for a uniform one on the minibatch, "uniform";
    `done` of `total` in this stage."""

    arch: Architecture
    stage: str
    metrics: dict[str, float]
    done: int
    total: int


def derive(
    settings: DeriveSettings, task: Task, supernet: Supernet, strategy: Strategy, uniform: Strategy
) -> Iterator[Scored]:
    """Yields each score as it comes; rank them with `ranked`. `strategy` draws what is ranked, `uniform` what to compare
    it with."""
    batch = task.reward_batch(0)
    first: list[Scored] = []
    drawn = {"minibatch": list(dict.fromkeys(strategy.ask(settings.samples)))}
    if settings.uniform:
        drawn["uniform"] = uniform.ask(settings.uniform)
    for stage, archs in drawn.items():
        for i, arch in enumerate(archs):
            model, given = _scorer(settings, task, supernet, arch)
            scored = Scored(arch, stage, {"reward": task.reward(model, given, batch)}, i + 1, len(archs))
            first += [scored] if stage == "minibatch" else []
            yield scored
    if settings.score_on == "validation":
        best = sorted(first, key=lambda scored: -scored.metrics["reward"])[: settings.keep]
        for i, scored in enumerate(best):
            model, given = _scorer(settings, task, supernet, scored.arch)
            yield Scored(scored.arch, "validation", task.evaluate(model, given, "validation"), i + 1, len(best))


def ranked(scores: list[Scored], keep: int) -> list[Scored]:
    """The best `keep` by their last stage's reward, best first."""
    last = [s for s in scores if s.stage == "validation"] or [s for s in scores if s.stage == "minibatch"]
    return sorted(last, key=lambda scored: -scored.metrics["reward"])[:keep]


def learned(scores: list[Scored]) -> dict[str, float] | None:
    """Median rewards of the policy's and of uniform architectures on one minibatch, and how likely a uniform one is beaten
    by one of the policy's (0.5: the policy knows no more than chance). None where no uniform ones were scored."""
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
