"""REINFORCE on the LSTM controller, with a moving-average baseline (paper 2.2, 3.1, 3.2).

    R'(m) = R(m) + w H - k KL                      reward, entropy bonus, skip penalty
    gradient of the loss = -mean over m of (R'(m) - b) grad log p(m)

A term whose value does not depend on what was drawn has no REINFORCE gradient, so entropy and
penalty come in one of two forms, both with the exact expected gradient (held by a test). `sampled`:
the one-sample estimates -log p(m) and the mean over skips of log p(bit) / rho(bit). `exact`: the
sums along the walk, differentiated, plus their own REINFORCE part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import State, load_optimizer, optimizer_tensors, seed_of
from enas.strategies.controller import Controller
from enas.strategies.settings import ReinforceSettings, weights


class Reinforce:
    """The controller as a strategy."""

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
        """Makes one Adam step on the mean over `archs`, with the baseline from before these
        rewards."""
        loss, metrics, mean = self.loss(archs, rewards)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        decay = self.settings.baseline_decay
        self.baseline = mean if self.baseline is None else decay * self.baseline + (1 - decay) * mean
        return metrics

    def loss(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> tuple[torch.Tensor, dict[str, float], float]:
        """Returns the loss whose gradient `tell` follows, the metrics, and the mean of R'."""
        s = self.settings
        walk = self.controller.score(archs)
        reward = torch.tensor(rewards, dtype=walk.log_prob.dtype)
        bonus, penalty = (-walk.log_prob, walk.log_ratio) if s.terms == "sampled" else (walk.entropy, walk.divergence)
        # (M,) R'
        total = (reward + self.entropy_weight * bonus - self.skip_weight * penalty).detach()
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
