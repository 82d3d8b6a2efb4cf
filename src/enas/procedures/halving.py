"""This module implements successive halving: finalists are trained from scratch for a short time,
and the better half of them goes on, again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """A `ShortTraining` says how finalists are trained. `build` makes the child of an architecture
    with fresh weights."""

    build: Callable[[Architecture], Supernet]
    task: Task
    optimizer: OptimizerSettings
    seed: int = 0
    batches: int = 8
    """Number of validation minibatches that score each finalist."""


# returns the rewards of architectures, in order, after so many rounds of training
Rewards = Callable[[Sequence[Architecture], int], Iterable[float]]


def finals(
    steps: int, training: ShortTraining, archs: list[Architecture], rewards: Rewards | None = None
) -> Iterator[Scored]:
    """Yields the scores of every round. A round trains all that are left for `steps` more steps,
    and the better half goes on to the next. `rewards` trains them elsewhere."""
    rewards = rewards or _Kept(steps, training).rewards
    left, round_ = archs, 0
    while left:
        scores: dict[Architecture, float] = {}
        for i, (arch, reward) in enumerate(zip(left, rewards(left, round_ + 1), strict=True)):
            scores[arch] = reward
            yield Scored(arch, "alone", {"reward": reward, "round": round_ + 1.0}, i + 1, len(left))
        round_ += 1
        kept = sorted(left, key=lambda arch: -scores[arch])[: len(left) // 2]
        left = kept if len(kept) > 1 else []  # the last one needs no further round


def trained(training: ShortTraining, arch: Architecture, steps: int, rounds: int = 1) -> float:
    """Returns the reward of an architecture after rounds of `steps` training steps from scratch, as
    a mean over validation minibatches. Where it diverged, returns the worst reward there is."""
    kept = _Kept(steps, training)
    return [reward for round_ in range(rounds) for reward in kept.rewards([arch], round_ + 1)][-1]


class _Kept:
    """A `_Kept` object holds networks in the middle of their training. Each goes on round by
    round."""

    def __init__(self, steps: int, training: ShortTraining):
        self.steps, self.training = steps, training
        self.networks: dict[Architecture, tuple[Supernet, torch.optim.Optimizer]] = {}

    def rewards(self, archs: Sequence[Architecture], rounds: int) -> Iterator[float]:
        return (self._round(arch, (rounds - 1) * self.steps) for arch in archs)

    def _round(self, arch: Architecture, done: int) -> float:
        """Trains an architecture for a round, after `done` steps, and returns its reward."""
        training, task, steps = self.training, self.training.task, self.steps
        if arch not in self.networks:
            model = training.build(arch)
            self.networks[arch] = model, make_optimizer(list(model.parameters()), training.optimizer)
        model, optimizer = self.networks[arch]
        remembered = task.state()
        task.load(State())  # the task may remember earlier batches of another network
        model.train()
        diverged = False
        for step in range(steps):
            epoch, at = divmod(done + step, task.train_steps)
            with seeded(training.seed, "finals", done + step):
                loss = task.loss(model, None, task.train_batch(epoch, at))
                torch.autograd.backward(loss)
            rate = 0.5 * training.optimizer.learning_rate * (1 + math.cos(math.pi * step / steps))
            rate *= min(1.0, (step + 1) / (0.1 * steps)) * task.rate_scale(epoch, at)
            norm = update(optimizer, list(model.parameters()), rate, training.optimizer.grad_clip)
            if diverged := task.diverged(float(loss.detach())) or not math.isfinite(norm):
                break
        task.load(remembered)
        rewards = [task.reward(model, None, task.reward_batch(batch)) for batch in range(training.batches)]
        return task.worst_reward if diverged else fmean(rewards)
