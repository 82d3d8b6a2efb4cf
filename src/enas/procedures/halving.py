"""Successive halving: finalists are trained from scratch for a short time, and the better half of
them goes on, again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

import torch

from enas.networks.supernet import Supernet
from enas.procedures.events import Scored
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.state import State, seeded
from enas.tasks.task import Task


@dataclass(frozen=True)
class ShortTraining:
    """How finalists are trained; `build` makes the child of an architecture with fresh weights."""

    build: Callable[[Architecture], Supernet]
    task: Task
    optimizer: OptimizerSettings
    seed: int = 0
    batches: int = 8
    """Number of validation minibatches that score each."""


def trained(training: ShortTraining, arch: Architecture, steps: int) -> float:
    """Returns the reward of an architecture after `steps` of training from scratch, the mean over
    validation minibatches; the worst there is where it diverged."""
    (scored,) = finals(steps, training, [arch])
    return scored.metrics["reward"]


def finals(steps: int, training: ShortTraining, archs: list[Architecture]) -> Iterator[Scored]:
    """Yields the scores of every round: it trains those that are left for `steps` more, and the
    better half goes on to the next."""
    models = {arch: training.build(arch) for arch in archs}
    optimizers = {arch: make_optimizer(list(model.parameters()), training.optimizer) for arch, model in models.items()}
    left, done, round_ = archs, 0, 0
    while left:
        scores: dict[Architecture, float] = {}
        for i, arch in enumerate(left):
            task = training.task
            remembered = task.state()
            task.load(State())  # what the task remembers of earlier batches is of another network
            models[arch].train()
            diverged = False
            for step in range(steps):
                epoch, at = divmod(done + step, task.train_steps)
                with seeded(training.seed, "finals", done + step):
                    loss = task.loss(models[arch], None, task.train_batch(epoch, at))
                    torch.autograd.backward(loss)
                rate = 0.5 * training.optimizer.learning_rate * (1 + math.cos(math.pi * step / steps))
                rate *= min(1.0, (step + 1) / (0.1 * steps)) * task.rate_scale(epoch, at)
                norm = update(optimizers[arch], list(models[arch].parameters()), rate, training.optimizer.grad_clip)
                if diverged := task.diverged(float(loss.detach())) or not math.isfinite(norm):
                    break
            task.load(remembered)
            rewards = [task.reward(models[arch], None, task.reward_batch(batch)) for batch in range(training.batches)]
            scores[arch] = task.worst_reward if diverged else fmean(rewards)
            yield Scored(arch, "alone", {"reward": scores[arch], "round": round_ + 1.0}, i + 1, len(left))
        done += steps
        round_ += 1
        kept = sorted(left, key=lambda arch: -scores[arch])[: len(left) // 2]
        left = kept if len(left) > 2 else []
