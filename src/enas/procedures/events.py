"""Every event that a procedure yields or a run reports, and `Diverged`, which ends one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from enas.procedures.preview import Cost
from enas.procedures.settings import OptimizerSettings
from enas.procedures.statistics import Coefficient
from enas.spaces.architecture import Architecture
from enas.state import Record


@dataclass(frozen=True)
class Step:
    """One step of a search. `phase` is "shared" or "controller"; `values` are losses or rewards,
    one per child. `skipped` says why the step did not change the shared weights: a "loss" that is
    far off, or a "gradient" that is not finite; in fp16 also a "scale" that was too high."""

    phase: str
    epoch: int
    step: int
    steps: int  # in this phase of this epoch
    archs: list[Architecture]
    values: list[float]
    metrics: dict[str, float]
    skipped: Literal["loss", "gradient", "scale"] | None = None


@dataclass(frozen=True)
class EpochEnd:
    """Both phases of an epoch are done. `metrics` are means over it; every figure is of shared
    weights."""

    epoch: int
    metrics: Record


class Diverged(RuntimeError):
    """Training diverged: the task calls its loss far off, or a gradient is not finite. The text
    says where, and what to try. The step was not made; what a run folder holds is from before it.
    """

    @classmethod
    def at(cls, what: str, epoch: int, step: int, group: str, optimizer: OptimizerSettings, gradient: bool) -> Diverged:
        """Returns the error for `what` happened at a step (epoch and step from 0) of the procedure
        whose flags begin with `group`. `gradient`: the gradient was not finite, while the loss was.
        """
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
    """One architecture is scored, `done` of `total` in its stage: "minibatch" or "validation";
    "uniform" for a random one on the minibatch; "shortlist" for what a judge says, which is no
    reward; "alone" for a finalist after a round; "short" for a training that teaches, "final" for
    one of the longer ones that decide (`enas.procedures.taught`)."""

    arch: Architecture
    stage: str
    metrics: dict[str, float]
    done: int
    total: int


@dataclass(frozen=True)
class Judged:
    """How well each judge ranked what short trainings reached: Kendall's tau, by its name.
    "prediction" is what the regression said of `predicted` of the `trainings` before each was made.
    `seconds`: processor time of all. `ranked`: what was trained, the best first."""

    taus: dict[str, Coefficient]
    trainings: int
    predicted: int
    seconds: float
    ranked: tuple[Architecture, ...]


@dataclass(frozen=True)
class TrainStep:
    """One step of a training from scratch; `epoch` and `step` count from 0."""

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class TrainEpochEnd:
    """An epoch of a training from scratch is done, and scored where a validation part is left."""

    epoch: int
    metrics: Record


@dataclass(frozen=True)
class RolledBack:
    """Training diverged at a step, which was not made, and goes on from the start of the epoch.

    `epoch` and `step` are those of the step, from 0. The rate is multiplied by `factor` from now
    on, and this may happen `left` times more.
    """

    why: str
    epoch: int
    step: int
    factor: float
    left: int


@dataclass(frozen=True)
class Finished:
    """A training from scratch is finished. `metrics`: the task's metric and loss on the test part,
    and on the validation part where there is one; and the number of `rollbacks`, where there were
    any."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class Member:
    """One architecture of the ensemble is scored, `done` of `total`."""

    done: int
    total: int


@dataclass(frozen=True)
class Begun:
    """A run begins or continues in `folder`; `cost` is what the rest of a search will take."""

    folder: Path
    cost: Cost | None = None
    resumed_at: int | None = None  # epochs that were done then
    data: str = ""  # its name and sizes
    ranks: str = ""  # who does what, where several processes work together


@dataclass(frozen=True)
class Stopped:
    """A run was stopped in good order; `again` is the command that continues it, if not `enas
    resume`."""

    folder: Path
    why: str
    again: str | None = None


@dataclass(frozen=True)
class Trained:
    """How far trainings side by side are: epochs of all together, and trainings finished. `what`
    they are: "trainings", or the "searches" of a sweep."""

    epochs: int
    of_epochs: int
    finished: int
    trainings: int
    what: str = "trainings"


@dataclass(frozen=True)
class Connected:
    """Jobs go to a cluster of so many machines, cores and GPUs; `dashboard` is its link, "" where
    it has none."""

    machines: int
    cpus: int
    gpus: int
    dashboard: str


@dataclass(frozen=True)
class Done:
    """A command is done; `folder` holds what it made."""

    folder: Path
    result: object = None
