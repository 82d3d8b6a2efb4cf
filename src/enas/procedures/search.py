"""This module holds the search: two phases that alternate (paper 2.2).

    phase 1, shared weights: a pass over the training data; each step trains M children, drawn from
             the strategy, on the same minibatch (Eq. 1)
    phase 2, controller: a number of steps; each scores n architectures by their reward on a
             validation minibatch and tells the strategy

`run` yields an event after every step, and at every event `state` is complete: a search that is
stopped there and loaded again continues bit for bit. The search knows no concrete space, network,
task or strategy, and writes no files.

Several ranks share the children and the rewards of a step (`enas.procedures.ranks`). One process
alone runs the same code. All ranks yield the same events and have the same `state`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from enas.networks.supernet import Supernet
from enas.procedures.alarms import alarms, probed
from enas.procedures.compute import Compute
from enas.procedures.counted import Means, Skipped, shares
from enas.procedures.events import Diverged, EpochEnd, Step
from enas.procedures.optimizer import GradientNorms, forget_gradients, learning_rate, make_optimizer
from enas.procedures.preview import Cost, seconds_of_a_tell
from enas.procedures.ranks import Ranks
from enas.procedures.recorded import Recorder
from enas.procedures.settings import SearchSettings
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Costs, CostTerm, rewarded
from enas.spaces.decisions import OpChoice, SubsetChoice
from enas.spaces.space import SearchSpace
from enas.state import Record, State, copied, load_optimizer, module_state, optimizer_tensors, seed_of, seeded
from enas.strategies.random_search import RandomSearch
from enas.strategies.reinforce import Reinforce
from enas.strategies.strategy import Strategy
from enas.tasks.task import Task

MOST_ASKED = 512  # children drawn in one walk in phase 1, where the policy stands still
ALWAYS_MAY_SKIP = 3  # steps of an epoch that may be skipped however few steps it has


class Search:
    """A `Search` trains shared weights and a strategy in two phases that alternate."""

    def __init__(
        self,
        settings: SearchSettings,
        task: Task,
        supernet: Supernet,
        strategy: Strategy,
        seed: int = 0,
        space: SearchSpace | None = None,
        costs: Callable[[Architecture], Costs] | None = None,
        ranks: Ranks | None = None,
    ):
        """Prepares a search. `space` is the space that random architectures are drawn from, where
        it has a limit that the supernet's does not have. `costs` is needed for terms of costs in
        the reward. `ranks` is None for one process."""
        self.settings, self.seed = settings, seed
        self.ranks = ranks or Ranks()
        self.space = space or supernet.space
        self.terms, self.costs = [CostTerm.parse(term) for term in settings.cost_terms], costs
        self.task, self.supernet, self.strategy = task, supernet, strategy
        self.uniform = RandomSearch(self.space, seed=seed)
        self._named, self._buffers = dict(supernet.named_parameters()), list(supernet.buffers())
        self.optimizer = make_optimizer(list(self._named.values()), settings.optimizer)
        self.compute = Compute(settings.compute, supernet)
        self.recorder: Recorder | None = None
        # A recorder neither sends gradients nor scales losses.
        if self.ranks.size == 1 and settings.compute.precision != "fp16":
            self.recorder = Recorder.of(supernet, task, self.optimizer, settings.optimizer)
        device = next(supernet.parameters()).device
        if self.recorder is not None and device.type == "cuda" and isinstance(strategy, Reinforce):
            strategy.on(device)
        self.epoch, self.phase, self.step = 0, "shared", 0
        self.controller_step = 0  # counts over the whole search, for the next validation minibatch
        self.pending: list[Architecture] = []
        self.entropy: float | None = None  # entropy of the policy in the epoch before
        self.smallest = math.inf  # smallest reward so far
        self.means = Means()
        self.ops: Counter[str] = Counter()
        self.norms, self.skipped = GradientNorms(settings.optimizer.grad_clip), Skipped()

    # ------------------------------------------------------------------------------------ the loop
    def run(self) -> Iterator[Step | EpochEnd]:
        """Searches from where the state is to the end, and yields an event after each step and
        epoch. Raises `Diverged` where too many steps were skipped."""
        while self.epoch < self.settings.epochs:
            if self.phase == "shared":
                while self.step < self.task.train_steps:
                    yield self._shared_step()
                self.phase, self.step = "controller", 0
            while self.step < self.controller_steps(self.epoch):
                yield self._controller_step()
            yield self._epoch_end()

    def controller_steps(self, epoch: int) -> int:
        """Returns the number of steps of phase 2 in an epoch. It is 0 while warming up, and where
        the strategy does not learn."""
        return self.settings.controller_steps if self.strategy.learns and epoch >= self.settings.warmup_epochs else 0

    def _who_draws(self) -> Strategy:
        """Returns the strategy that draws the children of phase 1."""
        return self.uniform if self.epoch < self.settings.warmup_epochs else self.strategy

    def _shared_step(self) -> Step:
        M, steps = self.settings.children, self.task.train_steps
        if not self.pending:  # the policy does not change in this phase, so many are drawn at once
            self.pending = self._who_draws().ask(M * min(steps - self.step, max(1, MOST_ASKED // M)))
        archs, self.pending = self.pending[:M], self.pending[M:]
        batch = self._train_batch(self.epoch, self.step)
        rate = learning_rate(self.settings.optimizer, self.epoch, self.step, steps, self.settings.epochs)
        rate *= self.task.rate_scale(self.epoch, self.step)
        losses = self._gradients(archs, batch, (self.seed, "shared", self.epoch, self.step))
        used = list(dict.fromkeys(p for arch in archs for p in self.supernet.parameters_of(arch)))
        skipped: Literal["loss", "gradient", "scale"] | None = None
        if failing := [child for child, loss in enumerate(losses) if self.task.diverged(loss)]:
            skipped = "loss"
            forget_gradients(used)
        else:
            self.ranks.add_up(used)
            if self.recorder is not None:
                norm = self.recorder.update(used, rate)
            else:
                norm = self.compute.update(self.optimizer, used, rate, self.settings.optimizer.grad_clip)
            if not math.isfinite(norm):
                skipped, failing = "scale" if self.compute.may_overflow else "gradient", list(range(M))
        if skipped == "scale":
            self.skipped.scale += 1
        elif skipped:
            self._skip(skipped, failing, archs, losses)
        else:
            self.norms.norms.append(norm)
            self.means.add("shared_loss", sum(losses) / M)
        self.step += 1
        for arch in archs:
            self.ops.update(self._op_names(arch))
        return Step("shared", self.epoch, self.step, steps, archs, losses, {"learning_rate": rate}, skipped)

    def _skip(
        self, why: Literal["loss", "gradient"], failing: list[int], archs: list[Architecture], losses: list[float]
    ) -> None:
        """Notes a step that changes no weights. `failing` holds the indices of the children
        concerned. Raises `Diverged` where there are too many such steps."""
        skipped, steps = self.skipped, self.task.train_steps
        finite = why == "gradient" or any(math.isfinite(losses[child]) for child in failing)
        skipped.reasons[why if finite else "loss_not_finite"] += 1
        for child in failing:
            self._forget(child)
            skipped.architectures.add(archs[child].id)
            skipped.ops.update(self._op_names(archs[child]))
        if skipped.steps > min(steps - 1, max(ALWAYS_MAY_SKIP, self.settings.max_skipped * steps)):
            ops = " and ".join(name for name, _ in skipped.ops.most_common(2))
            last = f"the loss of {archs[failing[0]].id} is {losses[failing[0]]:.4g}"
            last = last if why == "loss" else f"the gradient of {' and '.join(arch.id for arch in archs)} is not finite"
            raise Diverged.at(
                f"{skipped.steps} of {steps} steps were skipped (search.max_skipped is {self.settings.max_skipped:g}),"
                f" most often of architectures with {ops}, and {last}",
                self.epoch,
                self.step,
                "search",
                self.settings.optimizer,
                gradient=2 * skipped.reasons["gradient"] > skipped.steps,
            )

    def _train_batch(self, epoch: int, step: int) -> object:
        """Returns a batch for `_gradient`. A recorded step augments its own batch."""
        return (self.task.train_batch if self.recorder is None else self.task.raw_batch)(epoch, step)

    def _gradients(self, archs: list[Architecture], batch: object, key: tuple[object, ...]) -> list[float]:
        """Adds this rank's share of the mean of the children's gradients (Eq. 1) to the shared
        weights. Returns the losses of all children."""
        mine = self.ranks.mine(archs)
        with self.ranks.one_of_buffers(self._buffers):
            losses = [self._gradient(arch, child, len(archs), batch, key) for child, arch in mine]
        return self.ranks.gathered(list(map(float, losses)), len(archs))

    def _gradient(self, arch: Architecture, child: int, M: int, batch: object, key: tuple[object, ...]) -> Tensor:
        """Adds a child's gradient, divided by M, to the weights that it uses. Returns the child's
        loss."""
        self.supernet.train()
        progress, total = self.epoch / self.settings.epochs, torch.zeros(())
        for part, (share, piece) in enumerate(parts := self.task.cut(batch, self._parts)):
            place = (child,) if len(parts) == 1 else (child, part)
            with seeded(*key, *place):
                if self.recorder is not None:
                    with self.compute.casting():
                        loss = self.recorder.gradient(arch, piece, progress, share / M)
                else:
                    with self.compute.casting():
                        loss = self.task.loss(self.supernet, arch, piece, progress, child * self._parts + part)
                    self.compute.backward(loss * share / M)
            total = loss.detach() if len(parts) == 1 else total.to(loss.device) + share * loss.detach()
        return total

    @property
    def _parts(self) -> int:
        """Returns the number of parts that a batch is cut into. To the task, each is a child of its
        own."""
        return self.settings.compute.accumulate

    def _forget(self, child: int) -> None:
        """Drops what the task remembers of a child."""
        for part in range(self._parts):
            self.task.forget(child * self._parts + part)

    def _rewards(self, archs: list[Architecture], batch: object) -> list[float]:
        """Returns the reward of each architecture on one batch. Each rank computes a share of
        them."""
        # A recording scores a fixed number of architectures, so equal ones are scored again.
        distinct = archs if self.recorder is not None else list(dict.fromkeys(archs))
        mine = [arch for _, arch in self.ranks.mine(distinct)]
        with self.compute.casting():
            rewards = self.task.rewards(self.supernet, mine, batch)
        scored = dict(zip(distinct, self.ranks.gathered(rewards, len(distinct)), strict=True))
        return [scored[arch] for arch in archs]

    def _controller_step(self) -> Step:
        archs = self.strategy.ask(self.settings.architectures)
        batch = self.task.reward_batch(self.controller_step)
        rewards = self._rewards(archs, batch)
        if self.terms:
            assert self.costs is not None
            rewards = [rewarded(r, self.costs(arch), self.terms) for r, arch in zip(rewards, archs, strict=True)]
        failed = self.skipped.architectures
        rewards = [math.nan if arch.id in failed else reward for arch, reward in zip(archs, rewards, strict=True)]
        self.smallest = min([self.smallest, *filter(math.isfinite, rewards)])
        rewards = self._learnable(rewards)
        metrics = self.strategy.tell(archs, rewards)
        self.step += 1
        self.controller_step += 1
        for name, value in metrics.items():
            self.means.add(name, value)
        steps = self.controller_steps(self.epoch)
        return Step("controller", self.epoch, self.step, steps, archs, rewards, metrics)

    def _learnable(self, rewards: list[float]) -> list[float]:
        """Returns rewards that a strategy can learn from. An architecture that diverged has the
        worst reward, or the smallest one so far where the task knows none that is worst."""
        known = (value for value in (self.task.worst_reward, self.smallest, 0.0) if math.isfinite(value))
        worst = next(known)
        return [reward if math.isfinite(reward) else worst for reward in rewards]

    def _epoch_end(self) -> EpochEnd:
        metrics: Record = {"epoch": self.epoch + 1, **self.means.values()}
        metrics |= {"ops": shares(self.ops), **self.norms.summary(), **self.skipped.metrics()}
        metrics |= self._probed()
        for drawer in (self.uniform, self.strategy):
            if isinstance(drawer, RandomSearch) and drawer.acceptance is not None:
                metrics["acceptance"] = drawer.acceptance
        if wrong := alarms(metrics, self.supernet.space, self.entropy):
            metrics["alarms"] = wrong
        self.entropy = metrics.get("entropy")
        self.ranks.check("weights and policy", self._learned())
        self.epoch += 1
        self.phase, self.step, self.pending = "shared", 0, []
        self.means, self.ops = Means(), Counter()
        self.norms, self.skipped = GradientNorms(self.settings.optimizer.grad_clip), Skipped()
        return EpochEnd(self.epoch, metrics)

    def _probed(self) -> dict[str, float]:
        """Returns figures of the strategy's architectures beside random ones, pair by pair on the
        next validation minibatches. The strategy and the weights are left as they are."""
        n = self.settings.probes
        if not n or not self.controller_steps(self.epoch):
            return {}
        before = copied(self.strategy.state())
        mine = self.strategy.ask(n)
        self.strategy.load(before)
        others = RandomSearch(self.space, seed=seed_of(self.seed, "probe", self.epoch)).ask(n)
        pairs = []
        for i, pair in self.ranks.mine(list(zip(mine, others, strict=True))):
            with self.compute.casting():
                pairs.append(self.task.rewards(self.supernet, pair, self.task.reward_batch(self.controller_step + i)))
        policy, uniform = (self.ranks.gathered([pair[k] for pair in pairs], n) for k in range(2))
        again = self._rewards(others, self.task.reward_batch(self.controller_step + n))
        return probed(*map(self._learnable, (policy, uniform, again)))

    def _op_names(self, arch: Architecture) -> Iterator[str]:
        """Yields the names that the histogram counts: `cell.op` for each op, and `cell.skip` for
        each skip that is taken."""
        for decision in self.supernet.space.decisions:
            answer = arch.choices.get(decision.name)
            cell = decision.name.split(".")[0]
            if isinstance(decision, OpChoice) and answer is not None:
                yield f"{cell}.{answer}"
            elif isinstance(decision, SubsetChoice):
                yield from (f"{cell}.{option if decision.anchors is None else 'skip'}" for option in answer or ())

    # --------------------------------------------------------------------------------------- state
    def state(self) -> State:
        """Returns the whole state at an event. Children that were drawn but not trained yet are
        kept as their answers."""
        names = [decision.name for decision in self.supernet.space.decisions]
        values = {
            "epoch": self.epoch,
            "phase": self.phase,
            "step": self.step,
            "controller_step": self.controller_step,
            "pending": [[arch.choices.get(name) for name in names] for arch in self.pending],
            **self.means.state(),
            "ops": dict(self.ops),
            "gradient_norms": self.norms.norms,
            "skipped": self.skipped.state(),
            "entropy": self.entropy,
            **({"smallest": self.smallest} if math.isfinite(self.smallest) else {}),
            **({"compute": scale} if (scale := self.compute.state()) else {}),
        }
        learned = self._learned()
        task = State.nested({}, task=self.ranks.whole(self.task.state()))
        return State({**learned.tensors, **task.tensors}, {**values, **learned.values, **task.values})

    def _learned(self) -> State:
        """Returns the part of the state that is the same on all ranks: all but what the task
        remembers of the children that a rank trains."""
        return State.nested(
            {},
            weights=module_state(self.supernet),
            optimizer=State(optimizer_tensors(self.optimizer, self._named, "")),
            strategy=self.strategy.state(),
            uniform=self.uniform.state(),
        )

    def load(self, state: State) -> None:
        values = state.values
        self.epoch, self.phase, self.step = values["epoch"], values["phase"], values["step"]
        self.controller_step, self.ops = values["controller_step"], Counter(values["ops"])
        self.means.load(values)
        # earlier checkpoints do not have these values
        self.norms.norms = list(values.get("gradient_norms", ()))
        self.skipped.load(values.get("skipped", Skipped().state()))
        self.entropy = values.get("entropy")
        self.smallest = values.get("smallest", math.inf)
        space = self.supernet.space
        self.pending = [
            space.architecture({d.name: a for d, a in zip(space.decisions, answers, strict=True) if a is not None})
            for answers in values["pending"]
        ]
        self.supernet.load_state_dict(dict(state.under("weights").tensors))
        load_optimizer(self.optimizer, self._named, state.under("optimizer").tensors, "")
        self.strategy.load(state.under("strategy"))
        self.uniform.load(state.under("uniform"))
        self.compute.load(values.get("compute", {}))
        if "task" in values:  # earlier checkpoints hold no state of the task
            self.task.load(state.under("task"))
        mine = dict(self.ranks.mine(range(self.settings.children)))
        for child in range(self.settings.children):
            if child not in mine:  # another rank goes on with it
                self._forget(child)

    # ------------------------------------------------------------------------------------- preview
    def preview(self, children: int = 8, warm: int = 2, seconds: float = 3.0, most: int = 48) -> Cost:
        """Measures on random children what the rest of the search will take, and changes nothing.
        It measures `children` of them after `warm` others, and more, up to `most`, until `seconds`
        are over, because children differ."""
        asked = RandomSearch(self.space, seed=self.seed).ask(warm + max(children, most))
        began = time.perf_counter()
        buffers, remembered = {name: b.clone() for name, b in self.supernet.named_buffers()}, self.task.state()
        batch, reward_batch = self._train_batch(0, 0), self.task.reward_batch(0)
        train, reward = [], []
        for i, arch in enumerate(asked):
            start = time.perf_counter()
            if i >= warm + children and start - began >= seconds:
                break
            self._train_batch(0, i % self.task.train_steps)
            float(self._gradient(arch, 0, 1, batch, (self.seed, "preview")))
            between = time.perf_counter()
            self.task.reward(self.supernet, arch, reward_batch)
            if i >= warm:
                train.append(between - start)
                reward.append(time.perf_counter() - between)
            for parameter in self.supernet.parameters_of(arch):
                parameter.grad = None
        with torch.no_grad():
            for name, b in self.supernet.named_buffers():
                b.copy_(buffers[name])
        self.task.load(remembered)
        think = 0.0
        if self.strategy.learns and self.settings.controller_steps:
            archs, n = asked[:1] * self.settings.architectures, self.settings.architectures
            think = seconds_of_a_tell(self.strategy, archs)
            think += self.ranks.most(n) * median(reward)
        shared_steps = (self.settings.epochs - self.epoch) * self.task.train_steps
        shared_steps -= self.step if self.phase == "shared" else min(shared_steps, self.task.train_steps)
        controller_steps = sum(self.controller_steps(e) for e in range(self.epoch, self.settings.epochs))
        controller_steps -= self.step if self.phase == "controller" else 0
        mean = sum(train) / len(train)
        return Cost(shared_steps, controller_steps, self.ranks.most(self.settings.children) * mean, think)
