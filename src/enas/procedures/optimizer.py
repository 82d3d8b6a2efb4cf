"""The optimiser: its settings, schedules, the update of shared weights, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from enas.state import State


@dataclass(frozen=True)
class OptimizerSettings:
    """SGD: with Nesterov momentum on a cosine schedule (paper 3.2), or plain, its rate decaying (paper 3.1)."""

    learning_rate: float = 0.05
    """The largest, l_max (paper 3.2)."""
    min_learning_rate: float = 0.001
    """The smallest, l_min (paper 3.2: 0.001; released code: 0.0005 in search)."""
    schedule: Literal["cosine_restarts", "cosine", "decay", "constant"] = "cosine_restarts"
    """With restarts (paper 3.2, Loshchilov & Hutter 2017), one cosine over all epochs, a factor an epoch (3.1), or none."""
    restart_epochs: int = 10
    """Length of the first cosine in epochs, T0 (paper 3.2)."""
    restart_factor: int = 2
    """Each next cosine is longer by this, Tmul (paper 3.2)."""
    decay: float = 0.96
    """Of schedule "decay": the rate is multiplied by this after every epoch from `decay_start` on (paper 3.1: 0.96)."""
    decay_start: int = 15
    """The first epoch, counted from 1, after which the rate decays (paper 3.1: 15)."""
    per_epoch: bool = False
    """Step the schedule once an epoch (released code) rather than at every batch (Loshchilov & Hutter)."""
    warmup_steps: int = 0
    """The rate rises linearly over the first steps (not in the paper)."""
    momentum: float = 0.9
    """Nesterov's; 0: plain SGD (released code; the paper names no value)."""
    weight_decay: float = 1e-4
    """l2 as torch counts it: gradient += weight_decay x weight (paper 3.2: 1e-4; the released flag is half of torch's)."""
    grad_clip: float = 0.0
    """Largest norm of the gradient; 0: no clipping (paper 3.1: 0.25; the released flag of 5.0 for images clips nothing)."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or not 0 <= self.min_learning_rate <= self.learning_rate:
            raise ValueError(
                "learning rates obey 0 <= min_learning_rate <= learning_rate, learning_rate > 0; got"
                f" {self.min_learning_rate} and {self.learning_rate}"
            )
        if self.restart_epochs < 1 or self.restart_factor < 1:
            raise ValueError(
                f"restart_epochs and restart_factor are at least 1; got {self.restart_epochs}, {self.restart_factor}"
            )
        if not 0 < self.decay <= 1 or self.decay_start < 1:
            raise ValueError(
                f"decay is above 0 and at most 1, decay_start at least 1; got {self.decay} and {self.decay_start}"
            )
        for name in ("weight_decay", "grad_clip", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0; got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is at least 0 and below 1; got {self.momentum}")


def learning_rate(settings: OptimizerSettings, epoch: int, step: int, steps: int, epochs: int) -> float:
    """The rate at batch `step` of `steps` in epoch `epoch` of `epochs`, all from 0."""
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


def make_optimizer(parameters: Sequence[nn.Parameter], settings: OptimizerSettings) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
        fused=True,  # one call for all tensors; same numbers every time on one machine
    )


def gradient_norm(gradients: list[Tensor]) -> float:
    """Returns the Euclidean norm of all gradients together: finite where every one of them is. Their squares are
    not: a gradient of 1e20 is finite, its square overflows float32. inf where there is a gradient that is not."""
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).double()))
    if math.isfinite(norm):
        return norm
    largest = float(torch.stack(torch._foreach_norm(gradients, math.inf)).max())
    if not math.isfinite(largest):
        return math.inf
    scaled = torch._foreach_norm(torch._foreach_div(gradients, largest))
    return largest * float(torch.linalg.vector_norm(torch.stack(scaled).double()))


def update(optimizer: torch.optim.Optimizer, used: Sequence[nn.Parameter], rate: float, clip: float) -> float:
    """One step on the parameters that the children of this step used; every other stays untouched (no decay, no
    momentum). Clears their gradients. Returns the gradient's norm before clipping; where it is not finite there
    is no step."""
    gradients = [parameter.grad for parameter in used if parameter.grad is not None]
    norm = gradient_norm(gradients)
    if not math.isfinite(norm):
        forget_gradients(used)
        return norm
    if 0 < clip < norm:
        torch._foreach_mul_(gradients, clip / (norm + 1e-6))  # as torch's clip_grad_norm_, which multiplies always
    (group,) = optimizer.param_groups
    if group.get("momentum"):
        for parameter in used:  # torch's fused step does not mix first-time parameters with others; 0 x momentum + g = g
            if parameter.grad is not None and "momentum_buffer" not in optimizer.state[parameter]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter.grad)
    everything = group["params"]
    group["lr"], group["params"] = rate, list(used)  # the optimiser keeps momentum by parameter, so a part can be stepped
    optimizer.step()
    group["params"] = everything
    forget_gradients(used)
    return norm


def forget_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


class GradientNorms:
    """The norms of an epoch's gradients before clipping, and what `metrics.jsonl` says of them."""

    def __init__(self, clip: float):
        self.clip = clip  # the largest norm that is not clipped; 0: none is
        self.norms: list[float] = []

    def summary(self) -> dict[str, float]:
        """Returns the median, the 99 % quantile and the largest, and the share that was clipped; nothing where
        no step was made."""
        if not self.norms:
            return {}
        ordered = sorted(self.norms)
        found = {
            "gradient_norm_median": median(ordered),
            "gradient_norm_p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
            "gradient_norm_largest": ordered[-1],
        }
        if self.clip:
            found["clipped_share"] = sum(norm > self.clip for norm in ordered) / len(ordered)
        return found


# -------------------------------------------------------------------------------------------------------- averaging
class AveragedWeights:
    """The mean of the weights over the steps since a trigger: averaged SGD with the non-monotone trigger of Merity et al.
    2018, NT-ASGD. Training itself goes on with the weights as they are; `applied` puts the mean in their place.

    named: the weights by name. interval: n; averaging begins at the evaluation whose loss is above the least of those more
    than n evaluations ago.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], interval: int):
        self.named, self.interval = named, interval
        self.losses: list[float] = []
        self.steps = 0
        self.means: dict[str, Tensor] = {}  # none before the trigger

    def evaluated(self, loss: float) -> None:
        """Tell the loss of an evaluation."""
        if not self.means and len(self.losses) > self.interval and loss > min(self.losses[: -self.interval]):
            self.means = {name: parameter.detach().clone() for name, parameter in self.named.items()}
        self.losses.append(loss)

    @torch.no_grad()
    def stepped(self) -> None:
        """Call after every step of the optimiser."""
        if self.means:
            self.steps += 1
            for name, mean in self.means.items():
                mean.lerp_(self.named[name], 1 / self.steps)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the weights are their means, where averaging has begun."""
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
