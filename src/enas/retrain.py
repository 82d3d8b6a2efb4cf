"""Retrain: one architecture alone, from scratch, to the figure that counts (paper 3.2).

By the settings of the search unless the recipe says otherwise. The network keeps running statistics of its own; the
validation part is scored after every epoch where one was kept back, the test set once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from enas.search import Diverged
from enas.supernet import Supernet
from enas.tasks import Task
from enas.training import (
    AveragedWeights,
    OptimizerSettings,
    State,
    learning_rate,
    load_optimizer,
    make_optimizer,
    module_state,
    optimizer_tensors,
    seeded,
    update,
)

TrainOn = Literal["train", "train+validation"]


@dataclass(frozen=True)
class RetrainSettings:
    """Length and optimiser of the training alone."""

    epochs: int = 310
    """Passes over the training data (paper 3.2: as in the search, 310; released micro code: 630)."""
    train_on: TrainOn = "train"
    """The training part, with validation figures to choose by; or all data, with none left (released code for images)."""
    average: Literal["none", "nt_asgd"] = "none"
    """Score the weights as they are, or their mean since validation stopped improving (Merity et al. 2018; released code
    for text; not in the paper)."""
    average_interval: int = 5
    """n of that trigger: validation is worse than the best of more than n epochs ago (Merity et al.: 5; released: 10)."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        for name in ("epochs", "average_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"retrain.{name} is at least 1; got {getattr(self, name)}")
        if self.average != "none" and self.train_on != "train":
            raise ValueError(
                f"retrain.average {self.average} begins by validation figures, and retrain.train_on {self.train_on} leaves"
                " none: train on 'train'"
            )


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
class Finished:
    """`metrics`: the task's metric and loss on the test part, and on the validation part where there is one."""

    metrics: dict[str, float]


class Retrain:
    """Trains `model`: a child with running statistics, or any module that the task can call as one. As with the search,
    `state` is complete at every event."""

    def __init__(self, settings: RetrainSettings, task: Task, model: nn.Module, seed: int = 0):
        assert not isinstance(model, Supernet) or (model.only is not None and model.statistics == "running")
        self.settings, self.task, self.model, self.seed = settings, task, model, seed
        self._named = dict(model.named_parameters())
        self.optimizer = make_optimizer(list(self._named.values()), settings.optimizer)
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.validation: dict[str, float] | None = None
        self.average = AveragedWeights(self._named, settings.average_interval) if settings.average != "none" else None

    def run(self) -> Iterator[TrainStep | TrainEpochEnd | Finished]:
        while self.epoch < self.settings.epochs:
            while self.step < self.task.train_steps:
                yield self._step()
            metrics: dict[str, Any] = {"epoch": self.epoch + 1, "train_loss": self.loss_sum / self.step}
            if self.settings.train_on == "train":
                self.validation = self._evaluate("validation")
                if self.average:
                    self.average.evaluated(self.validation["loss"])
                metrics |= {f"validation_{key}": value for key, value in self.validation.items() if key != "reward"}
            self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
            yield TrainEpochEnd(self.epoch, metrics)
        test = self._evaluate("test")
        final = {f"test_{key}": value for key, value in test.items() if key != "reward"}
        if self.validation is not None:
            final |= {f"validation_{key}": value for key, value in self.validation.items() if key != "reward"}
        yield Finished(final)

    def _evaluate(self, part: str) -> dict[str, float]:
        with self.average.applied() if self.average else nullcontext():
            return self.task.evaluate(self.model, None, part)

    def _step(self) -> TrainStep:
        settings, steps = self.settings.optimizer, self.task.train_steps
        rate = learning_rate(settings, self.epoch, self.step, steps, self.settings.epochs)
        rate *= self.task.rate_scale(self.epoch, self.step)
        progress = (self.epoch * steps + self.step) / (self.settings.epochs * steps)
        self.model.train()
        with seeded(self.seed, "retrain", self.epoch, self.step):
            loss = self.task.loss(self.model, None, self.task.train_batch(self.epoch, self.step), progress)
            loss.backward()
        value = float(loss.detach())
        if self.task.diverged(value):
            raise Diverged.at(f"the loss is {value:.4g}", self.epoch, self.step, "retrain", settings)
        if not math.isfinite(update(self.optimizer, list(self._named.values()), rate, settings.grad_clip)):
            raise Diverged.at("the gradient is no number", self.epoch, self.step, "retrain", settings)
        if self.average:
            self.average.stepped()
        self.step += 1
        self.loss_sum += value
        return TrainStep(self.epoch, self.step, steps, value)

    def state(self) -> State:
        values = {"epoch": self.epoch, "step": self.step, "loss_sum": self.loss_sum, "validation": self.validation}
        return State.nested(
            values,
            weights=module_state(self.model),
            optimizer=State(optimizer_tensors(self.optimizer, self._named, "")),
            task=self.task.state(),
            average=self.average.state() if self.average else State(),
        )

    def load(self, state: State) -> None:
        values = state.values
        self.epoch, self.step = values["epoch"], values["step"]
        self.loss_sum, self.validation = values["loss_sum"], values["validation"]
        self.model.load_state_dict(dict(state.under("weights").tensors))
        load_optimizer(self.optimizer, self._named, state.under("optimizer").tensors, "")
        if "task" in values:  # checkpoints of before tasks remembered anything have none
            self.task.load(state.under("task"))
        if self.average:
            self.average.load(state.under("average"))
