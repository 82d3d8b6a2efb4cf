"""This module retrains: it trains one architecture from scratch, to the figure that counts (paper
3.2).

The network keeps running statistics of its own. The validation part is scored after every epoch,
where one was kept back, and the test set once, at the end. A training that diverges goes back to
the start of its epoch and continues at a lower rate, at most `rollbacks` times.

Several ranks share each batch, and average their gradients (DistributedDataParallel). Batch, rate
and update are those of the recipe. But batch norm takes the statistics of a rank's share, and the
running statistics that score are those of the first rank.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import nullcontext

from torch import Tensor, nn

from enas.data.parts import Part
from enas.networks.supernet import Supernet
from enas.procedures.compute import Compute
from enas.procedures.events import Diverged, Finished, RolledBack, TrainEpochEnd, TrainStep
from enas.procedures.optimizer import AveragedWeights, GradientNorms, forget_gradients, learning_rate, make_optimizer
from enas.procedures.ranks import Ranks
from enas.procedures.recorded import ChildRecorder
from enas.procedures.settings import RetrainSettings
from enas.state import Record, State, load_optimizer, module_state, optimizer_tensors, seeded
from enas.tasks.task import Task


class Retrain:
    """A `Retrain` object trains `model`: a child with running statistics, or any module that the
    task can call like one. As in a search, `state` is complete at every event."""

    def __init__(self, settings: RetrainSettings, task: Task, model: nn.Module, seed: int = 0, ranks: Ranks | None = None):
        assert not isinstance(model, Supernet) or (model.only is not None and model.statistics == "running")
        self.settings, self.seed = settings, seed
        self.task, self.model, self.ranks = task, model, ranks or Ranks()
        self.compute = Compute(settings.compute, model)
        # Every step of a child of a registered space uses all its parameters.
        self._parallel = self.ranks.parallel(model, find_unused=not isinstance(model, Supernet))
        self._named = dict(model.named_parameters())
        self.optimizer = make_optimizer(list(self._named.values()), settings.optimizer)
        self.recorder: ChildRecorder | None = None
        # A recorder neither sends gradients nor scales losses.
        if self.ranks.size == 1 and settings.compute.precision != "fp16":
            self.recorder = ChildRecorder.of(model, task, self.optimizer, settings.optimizer)
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0
        self.validation: dict[str, float] | None = None
        self.average = AveragedWeights(self._named, settings.average_interval) if settings.average != "none" else None
        self.norms, self.rolled_back = GradientNorms(settings.optimizer.grad_clip), 0
        self._start = self._snapshot()

    def run(self) -> Iterator[TrainStep | RolledBack | TrainEpochEnd | Finished]:
        """Trains from where the state is to the end, and yields an event after each step and epoch.
        Raises `Diverged` where training diverged more than `rollbacks` times."""
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
            return self.ranks.told(lambda: self.task.evaluate(self.model, None, part))

    def _step(self) -> TrainStep | RolledBack:
        settings, steps = self.settings.optimizer, self.task.train_steps
        rate = learning_rate(settings, self.epoch, self.step, steps, self.settings.epochs)
        rate *= self.task.rate_scale(self.epoch, self.step) * self.settings.rollback_factor**self.rolled_back
        progress = (self.epoch * steps + self.step) / (self.settings.epochs * steps)
        value = self._gradient(progress)
        parameters = list(self._named.values())
        if self.task.diverged(value):
            forget_gradients(parameters)
            return self._roll_back(f"the loss is {value:.4g}", gradient=False)
        if self.recorder is not None:
            norm = self.recorder.update(parameters, rate)
        else:
            norm = self.compute.update(self.optimizer, parameters, rate, settings.grad_clip)
        if math.isfinite(norm):
            self.norms.norms.append(norm)
            if self.average:
                self.average.stepped()
        elif not self.compute.may_overflow:  # an overflow of fp16 only leaves the step out
            return self._roll_back("the gradient is not finite", gradient=True)
        self.step += 1
        self.loss_sum += value
        return TrainStep(self.epoch, self.step, steps, value)

    def _gradient(self, progress: float) -> float:
        """Gives the weights the gradient of a batch, and returns the loss of the whole batch. This
        rank computes its parts of the batch one after the other."""
        N = self.ranks.size
        make = self.task.train_batch if self.recorder is None else self.task.raw_batch
        parts = self.task.cut(make(self.epoch, self.step), self._parts)
        # Where a batch has too few examples for all ranks, a rank takes part with a weight of 0.
        mine = self.ranks.mine(parts) or [(len(parts) + self.ranks.rank, (0.0, parts[0][1]))]
        self._parallel.train()
        losses: list[Tensor] = []
        for place, (share, batch) in mine:
            key = () if len(parts) == 1 else (place,)
            last = len(losses) + 1 == len(mine)
            sends = nullcontext() if last else self.ranks.holding_back(self._parallel)
            with seeded(self.seed, "retrain", self.epoch, self.step, *key), sends:
                if self.recorder is not None:
                    with self.compute.casting():
                        loss = self.recorder.gradient(batch, progress, share)
                else:
                    with self.compute.casting():
                        loss = self.task.loss(self._parallel, None, batch, progress, place)
                    self.compute.backward(loss * (share * N))  # the ranks take the mean of this
            losses.append(loss.detach())
        mean = [float(loss) for loss in losses][: len(self.ranks.mine(parts))]
        mean = self.ranks.gathered(mean, len(parts))
        return sum(share * loss for (share, _), loss in zip(parts, mean, strict=True))

    @property
    def _parts(self) -> int:
        """Returns the number of parts that a batch is cut into. To the task, each is a child of its
        own."""
        return self.ranks.size * self.settings.compute.accumulate

    # ---------------------------------------------------------------------------------- going back
    def _snapshot(self) -> State:
        """Returns a copy of the state, which later steps do not change."""
        state = self._state()
        return State({key: tensor.detach().clone() for key, tensor in state.tensors.items()}, state.values)

    def _roll_back(self, why: str, gradient: bool) -> RolledBack:
        """Goes back to the start of the epoch, with a lower rate from now on. Raises `Diverged`
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
        """Returns the state. Within an epoch it also holds the state at the start of the epoch, to
        go back to."""
        now = self._state()
        values = {**now.values, "rolled_back": self.rolled_back, "parts": self._parts}
        state = State(now.tensors, values)
        if self.step:
            start = State.nested({}, start=self._start)
            state = State({**now.tensors, **start.tensors}, {**values, **start.values})
        whole = State.nested({}, task=self.ranks.whole(self.task.state()))
        return State({**state.tensors, **whole.tensors}, {**state.values, **whole.values})

    def load(self, state: State) -> None:
        parts = state.values.get("parts", 1)
        self._load(state, remembers=parts == self._parts)
        if parts != self._parts and any(key.startswith("task/") for key in state.tensors):
            warnings.warn("batches were cut into other parts: hidden states are zero until the next pass", stacklevel=2)
        # earlier checkpoints do not have these values
        self.rolled_back = state.values.get("rolled_back", 0)
        self._start = state.under("start") if "start" in state.values else self._snapshot()

    def _state(self) -> State:
        values = {"epoch": self.epoch, "step": self.step, "loss_sum": self.loss_sum, "validation": self.validation}
        scale = self.compute.state()
        return State.nested(
            {**values, "gradient_norms": list(self.norms.norms), **({"compute": scale} if scale else {})},
            weights=module_state(self.model),
            optimizer=State(optimizer_tensors(self.optimizer, self._named, "")),
            task=self.task.state(),
            average=self.average.state() if self.average else State(),
        )

    def _load(self, state: State, remembers: bool = True) -> None:
        values = state.values
        self.epoch, self.step = values["epoch"], values["step"]
        self.loss_sum, self.validation = values["loss_sum"], values["validation"]
        self.norms.norms = list(values.get("gradient_norms", ()))
        self.compute.load(values.get("compute", {}))
        self.model.load_state_dict(dict(state.under("weights").tensors))
        load_optimizer(self.optimizer, self._named, state.under("optimizer").tensors, "")
        # earlier checkpoints hold no state of the task
        if "task" in values and remembers:
            self.task.load(state.under("task"))
        mine = dict(self.ranks.mine(range(self._parts)))
        for part in range(self._parts):
            if part not in mine:  # another rank goes on with it
                self.task.forget(part)
        if self.average:
            self.average.load(state.under("average"))
