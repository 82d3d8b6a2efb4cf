"""This module holds the optimiser, its schedules, the update of shared weights, and averaged
weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor, nn

from enas.procedures.settings import OptimizerSettings
from enas.state import State, exact


def learning_rate(settings: OptimizerSettings, epoch: int, step: int, steps: int, epochs: int) -> float:
    """Returns the learning rate at batch `step` of `steps` in epoch `epoch` of `epochs`. Step and
    epoch count from 0."""
    low, high = settings.min_learning_rate, settings.learning_rate
    time = float(epoch) if settings.per_epoch else epoch + step / steps
    if settings.schedule == "constant":
        rate = high
    elif settings.schedule == "decay":
        rate = max(low, high * settings.decay ** max(0, epoch + 1 - settings.decay_start))
    else:
        length = float(epochs)
        if settings.schedule == "cosine_restarts":
            length = float(settings.restart_epochs)
            while time >= length:
                time -= length
                length *= settings.restart_factor
        rate = low + 0.5 * (high - low) * (1 + math.cos(math.pi * time / length))
    done = epoch * steps + step + 1
    return rate * min(1.0, done / settings.warmup_steps) if settings.warmup_steps else rate


def make_optimizer(parameters: Sequence[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Returns the optimiser. It is fused: it makes one call for all tensors, with the same numbers
    every time on one machine."""
    if settings.kind == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def gradient_norm(gradients: list[Tensor]) -> float:
    """Returns the Euclidean norm of all gradients together, or inf where one of them is not finite.

    The norm is finite wherever all gradients are, although their squares need not be: the square of
    1e20 overflows float32.
    """
    norm = float(torch.linalg.vector_norm(exact(torch.stack(torch._foreach_norm(gradients)))))
    if math.isfinite(norm):
        return norm
    largest = float(torch.stack(torch._foreach_norm(gradients, math.inf)).max())
    if not math.isfinite(largest):
        return math.inf
    scaled = torch._foreach_norm(torch._foreach_div(gradients, largest))
    return largest * float(torch.linalg.vector_norm(exact(torch.stack(scaled))))


def update(optimizer: torch.optim.Optimizer, used: Sequence[nn.Parameter], rate: float, clip: float) -> float:
    """Makes one step on the parameters that the children of this step used, and clears their
    gradients.

    Every other parameter stays untouched, without decay or momentum. Returns the gradient's norm
    before clipping. Where that is not finite, no step is made.
    """
    gradients = [parameter.grad for parameter in used if parameter.grad is not None]
    norm = gradient_norm(gradients)
    if not math.isfinite(norm):
        forget_gradients(used)
        return norm
    if 0 < clip < norm:
        # the numbers of torch's clip_grad_norm_
        torch._foreach_mul_(gradients, clip / (norm + 1e-6))
    (group,) = optimizer.param_groups
    if group.get("momentum"):
        # torch's fused step cannot mix parameters with and without momentum. Zeros do not change
        # the result: 0 x momentum + g = g.
        for parameter in used:
            if parameter.grad is not None and "momentum_buffer" not in optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)
    everything = group["params"]
    # The optimiser keeps momentum by parameter, so it can step only some of them.
    group["lr"], group["params"] = rate, list(used)
    optimizer.step()
    group["params"] = everything
    forget_gradients(used)
    return norm


def forget_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Clears the gradients of parameters."""
    for parameter in parameters:
        parameter.grad = None


class GradientNorms:
    """A `GradientNorms` object holds the norms of an epoch's gradients before clipping, and
    summarises them for metrics.jsonl."""

    def __init__(self, clip: float):
        self.clip = clip  # the largest norm that is not clipped; 0: none is
        self.norms: list[float] = []

    def summary(self) -> dict[str, float]:
        """Returns the median, the 99 % quantile, the largest norm and the share that was clipped,
        or an empty dict where no step was made."""
        if not self.norms:
            return {}
        ordered = sorted(self.norms)
        figures = {
            "gradient_norm_median": median(ordered),
            "gradient_norm_p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
            "gradient_norm_largest": ordered[-1],
        }
        if self.clip:
            figures["clipped_share"] = sum(norm > self.clip for norm in ordered) / len(ordered)
        return figures


# -------------------------------------------------------------------------------------- averaging
class AveragedWeights:
    """An `AveragedWeights` object holds the mean of the weights over the steps since a trigger:
    NT-ASGD, averaged SGD with the non-monotone trigger of Merity et al. 2018.

    Training goes on with the weights as they are. `applied` puts the mean in their place. `named`
    holds the weights by name. `interval` is n: averaging begins at the first evaluation whose loss
    is above the smallest loss of more than n evaluations ago.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], interval: int):
        self.named, self.interval = named, interval
        self.losses: list[float] = []
        self.steps = 0
        self.means: dict[str, Tensor] = {}  # empty before the trigger

    def evaluated(self, loss: float) -> None:
        """Takes in the loss of an evaluation."""
        if not self.means and len(self.losses) > self.interval and loss > min(self.losses[: -self.interval]):
            self.means = {name: parameter.detach().clone() for name, parameter in self.named.items()}
        self.losses.append(loss)

    @torch.no_grad()
    def stepped(self) -> None:
        """Takes in a step of the optimiser."""
        if self.means:
            self.steps += 1
            for name, mean in self.means.items():
                mean.lerp_(self.named[name], 1 / self.steps)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replaces the weights by their means inside the `with` block, if averaging has begun."""
        kept = {name: self.named[name].detach().clone() for name in self.means}
        with torch.no_grad():
            for name, mean in self.means.items():
                self.named[name].copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self.named[name].copy_(value)

    def state(self) -> State:
        return State(self.means, {"losses": self.losses, "steps": self.steps})

    def load(self, state: State) -> None:
        self.losses, self.steps = list(state.values["losses"]), state.values["steps"]
        self.means = {name: torch.empty_like(self.named[name]).copy_(mean) for name, mean in state.tensors.items()}
