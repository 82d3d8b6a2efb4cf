"""REINFORCE on the LSTM controller, with a moving-average baseline (paper 2.2, 3.1, 3.2).

    R'(m) = R(m) + w H - k KL                      reward, entropy bonus, skip penalty
    gradient of the loss = -mean over m of (R'(m) - b) grad log p(m)

A term whose value does not depend on what was drawn has no REINFORCE gradient, so entropy and penalty come in one of two
forms, both with the exact expected gradient (held by a test): `sampled`, the one-sample estimates -log p(m) and the mean
over skips of log p(bit) / rho(bit); or `exact`, the sums along the walk, differentiated, plus their own REINFORCE part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from enas.architecture import Architecture
from enas.controller import Controller, ControllerSettings
from enas.space import SearchSpace
from enas.training import State, load_optimizer, optimizer_tensors, seed_of


@dataclass(frozen=True)
class ReinforceSettings:
    """How the controller learns."""

    controller: ControllerSettings = field(default_factory=ControllerSettings)
    learning_rate: float = 3.5e-4
    """Adam's (paper 3.1 and 3.2: 0.00035; released micro code: 0.0035)."""
    entropy_weight: float = 0.1
    """Bonus a nat of policy entropy (paper: 0.1 for images, 1e-4 for text; released code: 1e-4)."""
    skip_weight: float = 0.8
    """Weight of the penalty on the skip rate (paper 3.2: 0.8); nothing in spaces without skips."""
    skip_rate: float = 0.4
    """Prior belief rho in a skip (paper 3.2: 0.4)."""
    terms: Literal["sampled", "exact"] = "sampled"
    """Form of the entropy and skip terms: one-sample estimates in the reward, or differentiated sums."""
    baseline_decay: float = 0.99
    """Of the moving average of rewards (released code: 0.99; the paper does not say)."""
    normalise: bool = False
    """Divide advantages by their standard deviation within a step (not in the paper)."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"strategy.learning_rate is above 0; got {self.learning_rate}")
        for name in ("baseline_decay", "skip_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"strategy.{name} is between 0 and 1; got {getattr(self, name)}")
        for name in ("entropy_weight", "skip_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"strategy.{name} is at least 0; got {getattr(self, name)}")


class Reinforce:
    learns = True

    def __init__(self, space: SearchSpace, settings: ReinforceSettings = ReinforceSettings(), seed: int = 0):
        self.space, self.settings, self.seed = space, settings, seed
        generator = torch.Generator().manual_seed(seed_of(seed, "controller", "init"))
        self.controller = Controller(space, settings.controller, generator, settings.skip_rate)
        self.optimizer = torch.optim.Adam(self.controller.parameters(), lr=settings.learning_rate)
        self.baseline: float | None = None
        self.asked = 0

    def ask(self, n: int) -> list[Architecture]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "controller", "ask", self.asked))
        self.asked += 1
        return self.controller.sample(n, generator)

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        """One Adam step on the mean over `archs`; the baseline used is the one from before these rewards (at the very first
        step, their own mean)."""
        loss, metrics, mean = self.loss(archs, rewards)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        decay = self.settings.baseline_decay
        self.baseline = mean if self.baseline is None else decay * self.baseline + (1 - decay) * mean
        return metrics

    def loss(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> tuple[torch.Tensor, dict[str, float], float]:
        """The loss whose gradient `tell` follows, metrics, and the mean of R'."""
        s = self.settings
        walk = self.controller.score(archs)
        reward = torch.tensor(rewards, dtype=walk.log_prob.dtype)
        bonus, penalty = (-walk.log_prob, walk.log_ratio) if s.terms == "sampled" else (walk.entropy, walk.divergence)
        total = (reward + s.entropy_weight * bonus - s.skip_weight * penalty).detach()  # (M,) R'
        mean = float(total.mean())
        advantage = total - (mean if self.baseline is None else self.baseline)
        if s.normalise and len(archs) > 1:
            advantage = (total - total.mean()) / (total.std() + 1e-8)
        loss = -(advantage * walk.log_prob).mean()
        if s.terms == "exact":
            loss = loss - s.entropy_weight * walk.entropy.mean() + s.skip_weight * walk.divergence.mean()
        metrics = {
            "reward": float(reward.mean()),
            "reward_best": float(reward.max()),
            "entropy": float(walk.entropy.detach().mean()),
            "baseline": mean if self.baseline is None else self.baseline,
            "advantage": float(advantage.mean()),
        }
        return loss, metrics, mean

    def state(self) -> State:
        tensors = {f"controller.{name}": p.detach() for name, p in self.controller.named_parameters()}
        tensors |= optimizer_tensors(self.optimizer, dict(self.controller.named_parameters()), "adam.")
        return State(tensors, {"asked": self.asked, "baseline": self.baseline})

    def load(self, state: State) -> None:
        with torch.no_grad():
            for name, parameter in self.controller.named_parameters():
                parameter.copy_(state.tensors[f"controller.{name}"])
        load_optimizer(self.optimizer, dict(self.controller.named_parameters()), state.tensors, "adam.")
        self.asked, self.baseline = int(state.values["asked"]), state.values["baseline"]
