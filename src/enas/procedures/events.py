"""This module holds every event that a procedure yields or a run reports, and `Diverged`, the error
that ends a procedure."""

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
    """A `Step` is one step of a search. `phase` is "shared" or "controller". `values` are losses or
    rewards, one per child. `skipped` says why the step did not change the shared weights: a "loss"
    that is far off, or a "gradient" that is not finite, or in fp16 a "scale" that was too high."""

    phase: str
    epoch: int
    step: int
    steps: int  # number of steps in this phase of this epoch
    archs: list[Architecture]
    values: list[float]
    metrics: dict[str, float]
    skipped: Literal["loss", "gradient", "scale"] | None = None


@dataclass(frozen=True)
class EpochEnd:
    """An `EpochEnd` says that both phases of an epoch are done. `metrics` are means over the epoch,
    and every figure is one of shared weights."""

    epoch: int
    metrics: Record


class Diverged(RuntimeError):
    """This error says that training diverged: the task calls its loss far off, or a gradient is not
    finite. The text says where, and what to try. The step was not made, so a run folder holds the
    weights from before it."""

    @classmethod
    def at(cls, what: str, epoch: int, step: int, group: str, optimizer: OptimizerSettings, gradient: bool) -> Diverged:
        """Returns the error for `what` happened at a step (epoch and step from 0) of the procedure
        whose flags begin with `group`. `gradient` says that the gradient was not finite, while the
        loss was."""
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
    """A `Scored` event says that one architecture was scored, the `done`-th of `total` in its
    stage.

    The stages are "minibatch" and "validation"; "uniform" for a random architecture on the
    minibatch; "shortlist" for what a judge says, which is no reward; "alone" for a finalist after a
    round; "short" for a training that teaches; and "final" for one of the longer trainings that
    decide (`enas.procedures.taught`).
    """

    arch: Architecture
    stage: str
    metrics: dict[str, float]
    done: int
    total: int


@dataclass(frozen=True)
class Judged:
    """A `Judged` event says how well each judge ranked the rewards of short trainings, as Kendall's
    tau by the judge's name.

    "prediction" is the regression: it predicted `predicted` of the `trainings` before each was
    made. `seconds` is the processor time of all trainings and scores. `ranked` holds the
    architectures that were trained, the best first.
    """

    taus: dict[str, Coefficient]
    trainings: int
    predicted: int
    seconds: float
    ranked: tuple[Architecture, ...]


@dataclass(frozen=True)
class TrainStep:
    """A `TrainStep` is one step of a training from scratch. `epoch` and `step` count from 0."""

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class TrainEpochEnd:
    """A `TrainEpochEnd` says that an epoch of a training from scratch is done. It was scored where
    a validation part is left."""

    epoch: int
    metrics: Record


@dataclass(frozen=True)
class RolledBack:
    """A `RolledBack` event says that training diverged at a step. The step was not made, and
    training goes on from the start of the epoch.

    `epoch` and `step` are those of the step, from 0. The learning rate is multiplied by `factor`
    from now on, and this may happen `left` more times.
    """

    why: str
    epoch: int
    step: int
    factor: float
    left: int


@dataclass(frozen=True)
class Finished:
    """A `Finished` event says that a training from scratch is finished. `metrics` holds the task's
    metric and loss on the test part, and on the validation part where there is one. It also holds
    the number of `rollbacks`, where there were any."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class Member:
    """A `Member` event says that one architecture of the ensemble was scored, the `done`-th of
    `total`."""

    done: int
    total: int


@dataclass(frozen=True)
class Begun:
    """A `Begun` event says that a run begins or continues in `folder`. `cost` is what the rest of a
    search will take."""

    folder: Path
    cost: Cost | None = None
    resumed_at: int | None = None  # number of epochs that were done before
    data: str = ""  # name and sizes of the data
    ranks: str = ""  # which process does what, where several work together


@dataclass(frozen=True)
class Stopped:
    """A `Stopped` event says that a run was stopped in good order. `again` is the command that
    continues it, if it is not `enas resume`."""

    folder: Path
    why: str
    again: str | None = None


@dataclass(frozen=True)
class Trained:
    """A `Trained` event says how far trainings side by side are: epochs of all together, and
    trainings finished. `what` names them: "trainings", or the "searches" of a sweep."""

    epochs: int
    of_epochs: int
    finished: int
    trainings: int
    what: str = "trainings"


@dataclass(frozen=True)
class Connected:
    """A `Connected` event says that jobs go to a cluster with so many machines, cores and GPUs.
    `dashboard` is the link to its dashboard, or "" where it has none."""

    machines: int
    cpus: int
    gpus: int
    dashboard: str


@dataclass(frozen=True)
class Done:
    """A `Done` event says that a command is done. `folder` holds what it made."""

    folder: Path
    result: object = None
