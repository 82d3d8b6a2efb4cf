"""Retrain: one architecture alone, from scratch, to the figure that counts (paper 3.2).

By the settings of the search unless the recipe says otherwise. The network keeps running statistics of its own; validation
accuracy is read after every epoch where a validation part was kept back, the test set once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from enas.search import Diverged
from enas.supernet import Supernet
from enas.tasks import Task
from enas.training import (
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
    """The training part, with validation accuracy to choose by; or all images, with none left (released code)."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"retrain.epochs is at least 1; got {self.epochs}")


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
    """`metrics`: test accuracy (0..1) and loss, and validation accuracy where there is one."""

    metrics: dict[str, float]


class Retrain:
    """Trains `model`, a child with running statistics. As with the search, `state` is complete at every event."""

    def __init__(self, settings: RetrainSettings, task: Task, model: Supernet, seed: int = 0):
        assert model.only is not None
        assert model.statistics == "running"
        self.settings, self.task, self.model, self.seed = settings, task, model, seed
        self._named = dict(model.named_parameters())
        self.optimizer = make_optimizer(list(self._named.values()), settings.optimizer)
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.validation: dict[str, float] | None = None

    def run(self) -> Iterator[TrainStep | TrainEpochEnd | Finished]:
        while self.epoch < self.settings.epochs:
            while self.step < self.task.train_steps:
                yield self._step()
            metrics: dict[str, Any] = {"epoch": self.epoch + 1, "train_loss": self.loss_sum / self.step}
            if self.settings.train_on == "train":
                self.validation = self.task.evaluate(self.model, None, "validation")
                metrics |= {f"validation_{key}": value for key, value in self.validation.items() if key != "reward"}
            self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
            yield TrainEpochEnd(self.epoch, metrics)
        test = self.task.evaluate(self.model, None, "test")
        final = {f"test_{key}": value for key, value in test.items() if key != "reward"}
        if self.validation is not None:
            final |= {f"validation_{key}": value for key, value in self.validation.items() if key != "reward"}
        yield Finished(final)

    def _step(self) -> TrainStep:
        settings, steps = self.settings.optimizer, self.task.train_steps
        rate = learning_rate(settings, self.epoch, self.step, steps, self.settings.epochs)
        progress = (self.epoch * steps + self.step) / (self.settings.epochs * steps)
        self.model.train()
        with seeded(self.seed, "retrain", self.epoch, self.step):
            loss = self.task.loss(self.model, None, self.task.train_batch(self.epoch, self.step), progress)
            loss.backward()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(
                f"the loss is {value} at epoch {self.epoch + 1}, step {self.step + 1}; try a lower"
                " --retrain.optimizer.learning-rate or --retrain.optimizer.grad-clip 5"
            )
        update(self.optimizer, list(self._named.values()), rate, settings.grad_clip)
        self.step += 1
        self.loss_sum += value
        return TrainStep(self.epoch, self.step, steps, value)

    def state(self) -> State:
        values = {"epoch": self.epoch, "step": self.step, "loss_sum": self.loss_sum, "validation": self.validation}
        return State.nested(
            values,
            weights=module_state(self.model),
            optimizer=State(optimizer_tensors(self.optimizer, self._named, "")),
        )

    def load(self, state: State) -> None:
        values = state.values
        self.epoch, self.step = values["epoch"], values["step"]
        self.loss_sum, self.validation = values["loss_sum"], values["validation"]
        self.model.load_state_dict(dict(state.under("weights").tensors))
        load_optimizer(self.optimizer, self._named, state.under("optimizer").tensors, "")
