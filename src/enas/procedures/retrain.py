"""Retrain: one architecture from scratch, to the figure that counts (paper 3.2).

The network keeps running statistics of its own. The validation part is scored after every epoch,
where one was kept back; the test set once, at the end. A training that diverges goes back to the
start of its epoch and on at a lower rate, at most `rollbacks` times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import nn

from enas.data.parts import Part
from enas.networks.supernet import Supernet
from enas.procedures.events import Diverged, Finished, RolledBack, TrainEpochEnd, TrainStep
from enas.procedures.optimizer import (
    AveragedWeights,
    GradientNorms,
    forget_gradients,
    learning_rate,
    make_optimizer,
    update,
)
from enas.procedures.settings import RetrainSettings
from enas.state import Record, State, load_optimizer, module_state, optimizer_tensors, seeded
from enas.tasks.task import Task


class Retrain:
    """Trains `model`: a child with running statistics, or any module that the task can call like
    one. As in a search, `state` is complete at every event."""

    def __init__(self, settings: RetrainSettings, task: Task, model: nn.Module, seed: int = 0):
        assert not isinstance(model, Supernet) or (model.only is not None and model.statistics == "running")
        self.settings, self.seed = settings, seed
        self.task, self.model = task, model
        self._named = dict(model.named_parameters())
        self.optimizer = make_optimizer(list(self._named.values()), settings.optimizer)
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.validation: dict[str, float] | None = None
        self.average = AveragedWeights(self._named, settings.average_interval) if settings.average != "none" else None
        self.norms, self.rolled_back = GradientNorms(settings.optimizer.grad_clip), 0
        self._start = self._snapshot()

    def run(self) -> Iterator[TrainStep | RolledBack | TrainEpochEnd | Finished]:
        while self.epoch < self.settings.epochs:
            while self.step < self.task.train_steps:
                yield self._step()
            metrics: Record = {"epoch": self.epoch + 1, "train_loss": self.loss_sum / self.step}
            metrics |= self.norms.summary()
            if self.rolled_back:
                metrics["rollbacks"] = self.rolled_back
            if self.settings.train_on == "train":
                self.validation = self._evaluate("validation")
                if self.average:
                    self.average.evaluated(self.validation["loss"])
                metrics |= {f"validation_{key}": value for key, value in self.validation.items() if key != "reward"}
            self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
            self.norms = GradientNorms(self.settings.optimizer.grad_clip)
            self._start = self._snapshot()
            yield TrainEpochEnd(self.epoch, metrics)
        test = self._evaluate("test")
        final = {f"test_{key}": value for key, value in test.items() if key != "reward"}
        if self.validation is not None:
            final |= {f"validation_{key}": value for key, value in self.validation.items() if key != "reward"}
        if self.rolled_back:
            final["rollbacks"] = self.rolled_back
        yield Finished(final)

    def _evaluate(self, part: Part) -> dict[str, float]:
        with self.average.applied() if self.average else nullcontext():
            return self.task.evaluate(self.model, None, part)

    def _step(self) -> TrainStep | RolledBack:
        settings, steps = self.settings.optimizer, self.task.train_steps
        rate = learning_rate(settings, self.epoch, self.step, steps, self.settings.epochs)
        rate *= self.task.rate_scale(self.epoch, self.step) * self.settings.rollback_factor**self.rolled_back
        progress = (self.epoch * steps + self.step) / (self.settings.epochs * steps)
        self.model.train()
        with seeded(self.seed, "retrain", self.epoch, self.step):
            loss = self.task.loss(self.model, None, self.task.train_batch(self.epoch, self.step), progress)
            torch.autograd.backward(loss)
        value = float(loss.detach())
        parameters = list(self._named.values())
        if self.task.diverged(value):
            forget_gradients(parameters)
            return self._roll_back(f"the loss is {value:.4g}", gradient=False)
        norm = update(self.optimizer, parameters, rate, settings.grad_clip)
        if not math.isfinite(norm):
            return self._roll_back("the gradient is not finite", gradient=True)
        self.norms.norms.append(norm)
        if self.average:
            self.average.stepped()
        self.step += 1
        self.loss_sum += value
        return TrainStep(self.epoch, self.step, steps, value)

    # ---------------------------------------------------------------------------------- going back
    def _snapshot(self) -> State:
        """Returns a copy of the state, which later steps do not change."""
        state = self._state()
        return State({key: tensor.detach().clone() for key, tensor in state.tensors.items()}, state.values)

    def _roll_back(self, why: str, gradient: bool) -> RolledBack:
        """Goes back to the start of the epoch, with a lower rate from now on; raises `Diverged`
        where that was done too often."""
        epoch, step, limit = self.epoch, self.step, self.settings.rollbacks
        if self.rolled_back >= limit:
            often = f" after {limit} times at a lower rate," if limit else ""
            raise Diverged.at(f"{why}{often}", epoch, step, "retrain", self.settings.optimizer, gradient)
        self._load(self._start)
        self.rolled_back += 1
        factor = self.settings.rollback_factor**self.rolled_back
        return RolledBack(why, epoch, step, factor, limit - self.rolled_back)

    # --------------------------------------------------------------------------------------- state
    def state(self) -> State:
        """Returns the state and, within an epoch, the one to go back to."""
        now = self._state()
        values = {**now.values, "rolled_back": self.rolled_back}
        if not self.step:
            return State(now.tensors, values)
        start = State.nested({}, start=self._start)
        return State({**now.tensors, **start.tensors}, {**values, **start.values})

    def load(self, state: State) -> None:
        self._load(state)
        # earlier checkpoints do not know of going back
        self.rolled_back = state.values.get("rolled_back", 0)
        self._start = state.under("start") if "start" in state.values else self._snapshot()

    def _state(self) -> State:
        values = {"epoch": self.epoch, "step": self.step, "loss_sum": self.loss_sum, "validation": self.validation}
        return State.nested(
            {**values, "gradient_norms": list(self.norms.norms)},
            weights=module_state(self.model),
            optimizer=State(optimizer_tensors(self.optimizer, self._named, "")),
            task=self.task.state(),
            average=self.average.state() if self.average else State(),
        )

    def _load(self, state: State) -> None:
        values = state.values
        self.epoch, self.step = values["epoch"], values["step"]
        self.loss_sum, self.validation = values["loss_sum"], values["validation"]
        self.norms.norms = list(values.get("gradient_norms", ()))
        self.model.load_state_dict(dict(state.under("weights").tensors))
        load_optimizer(self.optimizer, self._named, state.under("optimizer").tensors, "")
        if "task" in values:  # checkpoints of before tasks remembered anything have none
            self.task.load(state.under("task"))
        if self.average:
            self.average.load(state.under("average"))
