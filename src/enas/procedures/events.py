"""Every event that a procedure yields or a run reports, and `Diverged`, which ends one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from enas.procedures.preview import Cost
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture


@dataclass(frozen=True)
class Step:
    """One step of either phase: `phase` is "shared" or "controller"; `values` are losses or rewards, one per child.
    `skipped`: why the shared weights were not changed by it ("loss": one is far off; "gradient": not finite)."""

    phase: str
    epoch: int
    step: int
    steps: int  # in this phase of this epoch
    archs: list[Architecture]
    values: list[float]
    metrics: dict[str, float]
    skipped: Literal["loss", "gradient"] | None = None


@dataclass(frozen=True)
class EpochEnd:
    """Both phases of an epoch are done. `metrics` are means over the epoch; every figure is of shared weights."""

    epoch: int
    metrics: dict[str, Any]


class Diverged(RuntimeError):
    """Training diverged, by losses that the task says so of, or gradients that are not finite: says where and what
    to try. The step was not made; what a run folder holds is from before."""

    @classmethod
    def at(cls, what: str, epoch: int, step: int, group: str, optimizer: OptimizerSettings, gradient: bool) -> Diverged:
        """`what` happened at a step (epoch and step from 0) of the procedure whose settings are `group`. `gradient`:
        it was the gradient that was not finite, while the loss was."""
        clip = optimizer.grad_clip / 2 if optimizer.grad_clip else 5
        lower = f"--{group}.optimizer.learning-rate {optimizer.learning_rate / 4:g}"
        shorter = f"--{group}.optimizer.grad-clip {clip:g}"
        if gradient:
            advice = f"smaller steps, {shorter} or {lower}, keep the weights where gradients are finite"
        elif epoch == 0 and not optimizer.warmup_steps:
            advice = f"let the rate rise slowly, --{group}.optimizer.warmup-steps {max(100, 4 * step)}, or try {lower}"
        else:
            advice = f"try {lower}, or {shorter}"
        return cls(f"{what} at epoch {epoch + 1}, step {step + 1}; {advice}: what was saved is from before it")


@dataclass(frozen=True)
class Scored:
    """One architecture scored: `stage` is "minibatch", "validation" or, for a uniform one on the minibatch, "uniform";
    "alone" is a finalist after a round. `done` of `total` in this stage."""

    arch: Architecture
    stage: str
    metrics: dict[str, float]
    done: int
    total: int


@dataclass(frozen=True)
class TrainStep:
    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class TrainEpochEnd:
    epoch: int
    metrics: dict[str, Any]


@dataclass(frozen=True)
class RolledBack:
    """A step was not made because training diverged at it; training goes on from the start of the epoch. `epoch` and
    `step` are those of the step, from 0; `factor` is what the rate is multiplied by from now on; `left` is how often
    this may happen again."""

    why: str
    epoch: int
    step: int
    factor: float
    left: int


@dataclass(frozen=True)
class Finished:
    """`metrics`: the task's metric and loss on the test part, and on the validation part where there is one; and
    `rollbacks`, their number, where there were any."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class Member:
    """One architecture of the ensemble is scored, `done` of `total`."""

    done: int
    total: int


@dataclass(frozen=True)
class Begun:
    """A run begins or goes on: its folder, and for a search what the rest will cost."""

    folder: Path
    cost: Cost | None = None
    resumed_at: int | None = None  # epochs that were done then
    data: str = ""  # in a few words


@dataclass(frozen=True)
class Stopped:
    """A run ended before its end, in good order; `again` is what goes on, where it is not `enas resume`."""

    folder: Path
    why: str
    again: str | None = None


@dataclass(frozen=True)
class Trained:
    """How far a number of trainings are: epochs of all, and trainings finished."""

    epochs: int
    of_epochs: int
    finished: int
    trainings: int


@dataclass(frozen=True)
class Done:
    """A command reached its end; `folder` holds what it made."""

    folder: Path
    result: Any = None
