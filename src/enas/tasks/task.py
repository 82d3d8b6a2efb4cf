"""This module holds the contract of a task: everything that procedures ask of it. A new task
inherits from `Task` and is registered."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from enas.data.parts import Part
from enas.spaces.architecture import Architecture
from enas.state import State
from enas.tasks.metrics import Metric

Model = Any  # a supernet or a reference model; its task knows what a call returns
Batch = Any  # each task has its own


def sizes(n: int, k: int) -> list[int]:
    """Returns the sizes of at most `k` parts of `n` examples. They are as equal as possible, and at
    least two where n is, because batch norm needs two examples or more."""
    k = max(1, min(k, n // 2))
    return [n // k + (i < n % k) for i in range(k)]


class Task(Protocol):
    """A `Task` makes batches, and computes loss, metric and reward. A batch is a function of the
    step that asks for it.

    `model` is a supernet with the architecture to run, or any other model with None. `train_on` of
    the constructor says which part counts as training data.
    """

    metric: ClassVar[Metric]
    """The figure that counts, among those that `evaluate` returns."""

    dimensions: dict[str, int]
    """Sizes of the data that a backbone has to know, as arguments of its constructor."""

    worst_reward: ClassVar[float] = 0.0
    """The reward of an architecture that diverged: no reward is smaller.
    It is minus infinity where rewards may be negative and have no least one."""

    recordable: ClassVar[bool] = False
    """True where `loss` can be recorded on a GPU. It must only call the model and torch,
    wait for no number, and accept `progress` as a tensor and no architecture.
    Every class says so itself."""

    averages: ClassVar[bool] = True
    """False where outputs need not be probabilities, so that an ensemble cannot average them."""

    about: str
    """The data in a few words: its name, and how much there is to train, validate and test on."""

    @property
    @abstractmethod
    def train_steps(self) -> int:
        """Returns the number of steps of one pass over the training data."""

    @abstractmethod
    def train_batch(self, epoch: int, step: int) -> Batch: ...

    @abstractmethod
    def loss(self, model: Model, arch: Architecture | None, batch: Batch, progress: float = 1.0, child: int = 0) -> Tensor:
        """Returns the loss to minimise. `progress` is the share of the training that is done, 0 to
        1. `child` is the index of the child among the M of the batch, for tasks that remember
        something of each."""

    @abstractmethod
    def reward_batch(self, step: int) -> Batch:
        """Returns the validation minibatch of controller step `step` of the search."""

    @abstractmethod
    def reward(self, model: Model, arch: Architecture | None, batch: Batch) -> float:
        """Returns a number; larger is better. It is finite, or the worst reward."""

    def rewards(self, model: Model, archs: Sequence[Architecture], batch: Batch) -> list[float]:
        """Returns the `reward` of each architecture on one batch. Equal architectures are scored
        once, and what several compute alike is computed once."""
        with model.remembering():
            scored = {arch: self.reward(model, arch, batch) for arch in dict.fromkeys(archs)}
        return [scored[arch] for arch in archs]

    @abstractmethod
    def evaluate(self, model: Model, arch: Architecture | None, part: Part) -> dict[str, float]:
        """Returns the metric, the loss and the reward over a whole part."""

    @abstractmethod
    def probabilities(self, model: Model, arch: Architecture | None, part: Part) -> Tensor:
        """Returns the probabilities of the answers of a whole part, in its order: (n, classes), or
        (n,) for the right answers only. The probabilities of several models can be averaged."""

    @abstractmethod
    def judged(self, probabilities: Tensor, part: Part) -> dict[str, float]:
        """Returns the figures of `evaluate`, computed from probabilities."""

    # ------------------------------------------------- what most tasks need not say anything about
    def raw_batch(self, epoch: int, step: int) -> Batch:
        """Returns what `train_batch` returns, or a batch before its augmentation, which `loss` then
        does itself. So a recorded step includes the augmentation."""
        return self.train_batch(epoch, step)

    def cut(self, batch: Batch, k: int) -> list[tuple[float, Batch]]:
        """Returns a training batch cut into at most `k` parts of two examples or more, each with
        its weight in the mean loss. Returns the whole batch where `k` is 1."""
        if k == 1:
            return [(1.0, batch)]
        raise ValueError(f"{type(self).__name__} does not cut batches into parts: write `cut(batch, k)`, or leave k at 1")

    def rate_scale(self, epoch: int, step: int) -> float:
        """Returns a factor by which the learning rate of a step is multiplied."""
        return 1.0

    def diverged(self, loss: float) -> bool:
        """Returns whether a loss is not finite, or so far off that its step should be skipped."""
        return not math.isfinite(loss)

    def forget(self, child: int) -> None:
        """Drops what `loss` remembers of a child whose step was skipped."""

    def state(self) -> State:
        """Returns what `loss` remembers between batches. Procedures save it."""
        return State()

    def load(self, state: State) -> None:
        """Puts back what `state` returned."""
