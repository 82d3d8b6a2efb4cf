"""This module trains the LSTM controller by REINFORCE, with a moving-average baseline (paper 2.2,
3.1, 3.2).

    R'(m) = R(m) + w H - k KL                      reward, entropy bonus, skip penalty
    gradient of the loss = -mean over m of (R'(m) - b) grad log p(m)

A term whose value does not depend on the architecture that was drawn has no REINFORCE gradient. So
entropy and penalty come in one of two forms, both with the exact expected gradient (held by a
test). `sampled` uses the one-sample estimates -log p(m) and the mean over skips of log p(bit) /
rho(bit). `exact` uses the sums along the walk, differentiated, plus their own REINFORCE part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from enas.networks.static.recorded import Recordings
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import State, load_optimizer, optimizer_tensors, seed_of
from enas.strategies.controller import Controller, Walk
from enas.strategies.noise import Noise
from enas.strategies.settings import ReinforceSettings, weights

METRICS = ("reward", "reward_best", "entropy", "baseline", "advantage")


class Reinforce:
    """A `Reinforce` strategy draws from the controller, and trains it on the rewards."""

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
        self._asks: Recordings | None = None
        self._tells: Recordings | None = None

    def on(self, device: torch.device) -> None:
        """Moves the policy to a device. Where a walk does the same whatever is answered, `ask` and
        `tell` are recorded on a GPU, once for each number of architectures."""
        self.controller.to(device)
        if self.controller.is_static:
            self._asks, self._tells = Recordings(self._answers), Recordings(self._told)

    def ask(self, n: int) -> list[Architecture]:
        """Returns n architectures drawn from the policy."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "controller", "ask", self.asked))
        self.asked += 1
        if self._asks is None:
            return self.controller.sample(n, generator)
        noise = Noise.drawn(self.space, n, generator).to(self.controller.empty.device)
        with torch.no_grad():
            answers = self._asks(noise, n).cpu()
        return self.controller.decode(self.controller.unpacked(answers, n))

    def _answers(self, noise: Tensor) -> Tensor:
        n = len(noise) // sum(len(d.options) for d in self.space.decisions)
        return self.controller.packed(self.controller.walk(n, generator=Noise(noise), scored=False).answers)

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        """Makes one Adam step on the mean over `archs`, with the baseline from before these
        rewards. Returns metrics."""
        if self._tells is None:
            loss, metrics, mean = self.loss(archs, rewards)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
        else:
            metrics, mean = self._recorded_gradients(archs, rewards)
        self.optimizer.step()
        decay = self.settings.baseline_decay
        self.baseline = mean if self.baseline is None else decay * self.baseline + (1 - decay) * mean
        return metrics

    def _recorded_gradients(
        self, archs: Sequence[Architecture], rewards: Sequence[float]
    ) -> tuple[dict[str, float], float]:
        """Computes the gradients and leaves them where the optimiser finds them. Returns the
        metrics and the mean of R'."""
        assert self._tells is not None
        device, dtype = self.controller.empty.device, self.controller.empty.dtype
        baseline = math.nan if self.baseline is None else self.baseline
        numbers = torch.tensor([*rewards, baseline], dtype=dtype).to(device)
        with torch.enable_grad():
            answers = self.controller.packed(self.controller.encode(archs, "cpu")).to(device)
            gradients, values = self._tells((answers, numbers))
        for parameter, gradient in zip(self.controller.parameters(), gradients, strict=True):
            parameter.grad = gradient
        return self._named(values, len(archs))

    def _named(self, values: Tensor, n: int) -> tuple[dict[str, float], float]:
        """Returns the metrics by name, and the mean of R'."""
        *figures, mean = values.tolist()
        metrics = dict(zip(METRICS, figures, strict=True))
        if self.baseline is not None and not (self.settings.normalise and n > 1):
            metrics["baseline"] = self.baseline  # not rounded to float32
        return metrics, mean

    def _told(self, inputs: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor | None, ...], Tensor]:
        packed, numbers = inputs
        rewards, baseline = numbers[:-1], numbers[-1]
        walk = self.controller.walk(len(rewards), given=self.controller.unpacked(packed, len(rewards)))
        loss, values = self._objective(walk, rewards, baseline)
        gradients = torch.autograd.grad(loss, list(self.controller.parameters()), allow_unused=True)
        return gradients, values.detach()

    def loss(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> tuple[Tensor, dict[str, float], float]:
        """Returns the loss whose gradient `tell` follows, the metrics, and the mean of R'."""
        walk = self.controller.score(archs)
        numbers = torch.tensor(rewards, dtype=walk.log_prob.dtype, device=walk.log_prob.device)
        baseline = torch.tensor(math.nan if self.baseline is None else self.baseline, dtype=torch.float64)
        loss, values = self._objective(walk, numbers, baseline.to(numbers))
        return loss, *self._named(values, len(archs))

    def _objective(self, walk: Walk, reward: Tensor, baseline: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss, and one vector of the metrics and the mean of R'. baseline () is nan
        where there is none yet."""
        s = self.settings
        bonus, penalty = (-walk.log_prob, walk.log_ratio) if s.terms == "sampled" else (walk.entropy, walk.divergence)
        # R' of each architecture, (M,)
        total = (reward + self.entropy_weight * bonus - self.skip_weight * penalty).detach()
        mean = total.mean()
        standardised = s.normalise and len(reward) > 1
        baseline = mean if standardised else torch.where(baseline.isnan(), mean, baseline)
        advantage = total - baseline
        if standardised:
            advantage = advantage / (total.std() + 1e-8)
        loss = -(advantage * walk.log_prob).mean()
        if s.terms == "exact":
            loss = loss - self.entropy_weight * walk.entropy.mean() + self.skip_weight * walk.divergence.mean()
        entropy = walk.entropy.detach().mean()
        return loss, torch.stack([reward.mean(), reward.max(), entropy, baseline, advantage.mean(), mean])

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
