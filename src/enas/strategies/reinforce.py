"""REINFORCE on the LSTM controller, with a moving-average baseline (paper 2.2, 3.1, 3.2).

    R'(m) = R(m) + w H - k KL                      reward, entropy bonus, skip penalty
    gradient of the loss = -mean over m of (R'(m) - b) grad log p(m)

How H and KL are summed over the answers is a setting each; it decides what the policy converges to (`skip_rate`, `odds`).

A term whose value does not depend on what was drawn has no REINFORCE gradient, so entropy and penalty come in one of two
forms, both with the exact expected gradient (held by a test): `sampled`, the one-sample estimates -log p(m) and the mean
over skips of log p(bit) / rho(bit); or `exact`, the sums along the walk, differentiated, plus their own REINFORCE part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from enas.spaces.architecture import Architecture
from enas.spaces.decisions import SubsetChoice
from enas.spaces.space import SearchSpace
from enas.state import State, load_optimizer, optimizer_tensors, seed_of
from enas.strategies.controller import Controller, ControllerSettings


@dataclass(frozen=True)
class ReinforceSettings:
    """How the controller learns."""

    controller: ControllerSettings = field(default_factory=ControllerSettings)
    learning_rate: float = 3.5e-4
    """Adam's (paper 3.1 and 3.2: 0.00035; released micro code: 0.0035)."""
    adam_beta1: float = 0.9
    """Adam's decay of the mean gradient (released code for images: 0; the paper does not say)."""
    adam_eps: float = 1e-8
    """Added to Adam's denominator (released code for images: 1e-3; the paper does not say)."""
    entropy_weight: float = 0.1
    """Bonus per nat of policy entropy (paper 3.2: 0.1 for images; 3.1: 1e-4 for text; released code: 1e-4)."""
    entropy: Literal["sum", "mean"] = "sum"
    """Entropy of all answers of an architecture together (released code), or per answer: their mean (the paper does not
    say; docs/decisions.md)."""
    skip_weight: float = 0.8
    """Weight of the penalty on the skip rate (paper 3.2: 0.8); nothing in spaces without skips."""
    skip_penalty: Literal["mean", "layer_mean"] = "mean"
    """The penalty is a mean over all skips, or over layers, of the sums within a layer (released code)."""
    skip_rate: float = 0.4
    """Prior belief rho in a skip (paper 3.2: 0.4)."""
    terms: Literal["sampled", "exact"] = "sampled"
    """Form of the entropy and skip terms: one-sample estimates in the reward, or differentiated sums."""
    baseline_decay: float = 0.99
    """Of the moving average of rewards (released code: 0.99; the paper does not say)."""
    baseline_start: float | None = None
    """The moving average before the first step (released code: 0); None: the mean reward of that step."""
    normalise: bool = False
    """Standardise rewards within a step, by its own mean, in place of the moving average, and its standard deviation (not
    in the paper); a step of one architecture has neither, and uses the moving average."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"strategy.learning_rate is above 0; got {self.learning_rate}")
        if not 0 <= self.adam_beta1 < 1 or self.adam_eps <= 0:
            raise ValueError(
                "strategy.adam_beta1 is at least 0 and below 1, strategy.adam_eps above 0; got"
                f" {self.adam_beta1} and {self.adam_eps}"
            )
        for name, allowed in (("entropy", ("sum", "mean")), ("skip_penalty", ("mean", "layer_mean"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"strategy.{name} is {' or '.join(allowed)}; got '{getattr(self, name)}'")
        for name in ("baseline_decay", "skip_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"strategy.{name} is between 0 and 1; got {getattr(self, name)}")
        for name in ("entropy_weight", "skip_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"strategy.{name} is at least 0; got {getattr(self, name)}")


def weights(settings: ReinforceSettings, space: SearchSpace) -> tuple[float, float]:
    """Returns the weight per nat of an architecture's entropy, and that of the mean over skips of their divergence:
    whatever the settings say of sums and means, in the same two units."""
    skips = [len(d.options) for d in space.decisions if isinstance(d, SubsetChoice)]
    per_layer = sum(skips) / len(skips) if skips and settings.skip_penalty == "layer_mean" else 1.0
    entropy = settings.entropy_weight / (space.num_answers if settings.entropy == "mean" else 1)
    return entropy, settings.skip_weight * per_layer


def odds(settings: ReinforceSettings, space: SearchSpace, gain: float = 0.01) -> float:
    """Returns how many times as likely the best policy draws an architecture whose reward is larger by `gain`, all else
    equal: exp(gain / entropy weight). inf where there is no entropy bonus, or the number is too large."""
    weight, _ = weights(settings, space)
    return math.exp(gain / weight) if weight and gain / weight < 700 else math.inf


def skip_rate(settings: ReinforceSettings, space: SearchSpace) -> float:
    """Returns the rate of skips to which entropy bonus and penalty alone lead, where rewards do not depend on them. Per
    skip they are stationary where w logit(p) + (k / n) (logit(p) - logit(rho)) = 0, w and k the `weights`, n skips."""
    entropy, penalty = weights(settings, space)
    each = penalty / max(1, sum(len(d.options) for d in space.decisions if isinstance(d, SubsetChoice)))
    prior = math.log(settings.skip_rate / (1 - settings.skip_rate))
    logit = prior * each / (entropy + each) if entropy + each else 0.0
    return 1 / (1 + math.exp(-logit))


class Reinforce:
    learns = True

    def __init__(self, space: SearchSpace, settings: ReinforceSettings = ReinforceSettings(), seed: int = 0):
        self.space, self.settings, self.seed = space, settings, seed
        generator = torch.Generator().manual_seed(seed_of(seed, "controller", "init"))
        self.controller = Controller(space, settings.controller, generator, settings.skip_rate)
        self.optimizer = torch.optim.Adam(
            self.controller.parameters(),
            lr=settings.learning_rate,
            betas=(settings.adam_beta1, 0.999),
            eps=settings.adam_eps,
        )
        self.baseline = settings.baseline_start
        self.entropy_weight, self.skip_weight = weights(settings, space)
        self.asked = 0

    def ask(self, n: int) -> list[Architecture]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "controller", "ask", self.asked))
        self.asked += 1
        return self.controller.sample(n, generator)

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        """One Adam step on the mean over `archs`; the baseline used is the one from before these rewards."""
        loss, metrics, mean = self.loss(archs, rewards)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
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
        total = (reward + self.entropy_weight * bonus - self.skip_weight * penalty).detach()  # (M,) R'
        mean = float(total.mean())
        standardised = s.normalise and len(archs) > 1
        baseline = mean if standardised or self.baseline is None else self.baseline
        advantage = total - baseline
        if standardised:
            advantage = advantage / (total.std() + 1e-8)
        loss = -(advantage * walk.log_prob).mean()
        if s.terms == "exact":
            loss = loss - self.entropy_weight * walk.entropy.mean() + self.skip_weight * walk.divergence.mean()
        metrics = {
            "reward": float(reward.mean()),
            "reward_best": float(reward.max()),
            "entropy": float(walk.entropy.detach().mean()),
            "baseline": baseline,
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
