"""This module checks a plan: it asks every law of the plan, and keeps in words what it finds.

Nothing is trained for more than a few steps. Architectures are chosen so that every option of every
decision occurs, as far as number and time allow.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import Subset, TensorDataset

from enas.data.parts import PARTS, Part
from enas.grading import laws
from enas.grading.examples import read_once
from enas.grading.laws import Broken, called, require, tensors
from enas.procedures.optimizer import learning_rate, make_optimizer, update
from enas.runs.plan import Plan
from enas.runs.process import prepare
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import seeded
from enas.tasks.own import Own, OwnData
from enas.tasks.problem import Problem
from enas.tasks.task import Task

TRAINED = 10  # number of training steps, at most
TARGETS = 3  # how often targets are drawn anew
EXAMPLES, RUNS, FINITE = "each example has a finite loss", "each architecture builds and runs", "the loss is finite"
NOISES = 16  # how often outputs are drawn at random
Draw = Callable[[SearchSpace, Architecture], object]


@dataclass(frozen=True)
class Result:
    """A `Result` is the outcome of a law. The law holds where it was tried and there is no
    finding."""

    law: str
    finding: str | None = None
    about: str = ""
    tried: bool = True
    """False where other laws failed before, or where the law needs more architectures than ran."""


@dataclass(frozen=True)
class Asked:
    """An `Asked` value says how much is looked at."""

    architectures: int = 16
    """Largest number of architectures to build and run."""
    seed: int = 0
    """Seed of the architectures, the weights and the batches."""
    seconds: float = 30.0
    """Seconds after which no further architecture is looked at."""


@dataclass
class Case:
    """A `Case` is a plan with its parts, and what was found so far."""

    plan: Plan
    asked: Asked
    draw: Draw
    began: float
    data: object
    task: Task
    net: Any
    space: SearchSpace
    archs: list[Architecture] = field(default_factory=list)
    findings: dict[str, list[tuple[Architecture | None, str]]] = field(default_factory=dict)
    looked_at: list[Architecture] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    """The laws that were asked."""
    read: str = ""
    """The number of examples that were read, in words."""

    @classmethod
    def of(cls, plan: Plan, asked: Asked, draw: Draw) -> Case:
        began = time.monotonic()
        prepare(plan.device, 1)
        data_set: Any = plan.load_data()
        task = plan.task(data_set, plan.settings.task)
        net = plan.network(plan.settings.network, task)
        return cls(plan, asked, draw, began, data_set, task, net, net.space)

    # --------------------------------------------------------------------------- how it is run
    def loss(self, model: Any, arch: Architecture | None) -> Tensor:
        """Returns the loss of the first batch, computed with the same random numbers each time."""
        model.train()
        self.task.forget(0)
        with seeded(self.asked.seed, "check"):
            return self.task.loss(model, arch, self.batch)

    def trained(self, model: Any, arch: Architecture | None) -> list[Tensor]:
        """Returns all tensors that come out of the model in training, and the loss."""
        seen: list[Tensor] = []
        hook = model.register_forward_hook(lambda module, inputs, output: seen.extend(tensors(output)))
        try:
            loss = self.loss(model, arch)
        finally:
            hook.remove()
        return [x.detach().clone() for x in (*seen, loss)]

    def scored(self, model: Any, arch: Architecture | None) -> list[Tensor]:
        """Returns all tensors that come out of the model where its reward is computed, and the
        reward."""
        seen: list[Tensor] = []
        hook = model.register_forward_hook(lambda module, inputs, output: seen.extend(tensors(output)))
        try:
            reward = self.task.reward(model, arch, self.reward_batch)
        finally:
            hook.remove()
        return [*(x.detach().clone() for x in seen), torch.tensor(float(reward), dtype=torch.float64)]

    # ------------------------------------------------------------------------------ the results
    def results(self) -> Iterator[Result]:
        """Yields a result for each law, in an order that goes from the space to the reward."""
        size = self.space.size() if self.space.limit is None else 0
        yield self.one(
            "there is something to choose", lambda: laws.has_a_choice(self.space), f"{_size(size)} architectures"
        )
        yield self.one("the space counts itself", lambda: laws.counts_itself(self.space))
        yield self.one("the parts of the data are apart", lambda: apart(self.data))
        self.batch, self.reward_batch = self.task.train_batch(0, 0), self.task.reward_batch(0)
        yield self.one("one seed gives one result", self.one_seed)
        rng = random.Random(f"check {self.asked.seed}")
        self.archs = laws.covering(self.space, rng, self.asked.architectures)
        rng.shuffle(self.archs)
        with laws.watching(self.net) as seen:
            for arch in self.archs[: max(2, self.asked.architectures)]:
                if len(self.looked_at) >= 2 and time.monotonic() - self.began > self.asked.seconds:
                    break
                self.look_at(arch, seen)
                if arch not in self.unfit(RUNS, FINITE):
                    self.read_examples(arch)
        for arch in self.looked_at[:1]:  # where none has a finite loss, an example may be why
            self.read_examples(arch)
        if isinstance(self.task, Own):
            yield Result(EXAMPLES, self.said(EXAMPLES), self.read, EXAMPLES in self.tried)
        about = f"{len(self.looked_at)} architectures"
        failed = RUNS in self.findings
        if failed:
            self.note("parts of a choice fit each other", None, lambda: laws.parts_keep_their_shape(seen))
        else:
            self.tried.add("parts of a choice fit each other")  # all of them ran
        fallen = self.unfit(RUNS)
        good = [arch for arch in self.looked_at if arch not in fallen]
        if len(good) == len(self.looked_at) == len(self.archs):
            self.note("every parameter is used", None, lambda: laws.every_weight_is_reached(self.net, self.reached))
        if good:
            infinite = self.unfit(FINITE)
            self.note(
                "the loss stays finite in training", None, lambda: self.trains([a for a in good if a not in infinite])
            )
            self.rewards(good)
        for law in LAWS:
            yield Result(law, self.said(law), about, law in self.tried)

    def one(self, law: str, holds: Callable[[], None], about: str = "") -> Result:
        """Returns the result of a law that is asked only once."""
        self.note(law, None, holds)
        return Result(law, self.said(law), about)

    def note(self, law: str, arch: Architecture | None, holds: Callable[[], None]) -> bool:
        """Asks a law, and keeps what it finds. Returns whether the law holds."""
        self.tried.add(law)
        finding = finding_of(holds)
        if finding is not None:
            self.findings.setdefault(law, []).append((arch, finding))
        return finding is None

    def look_at(self, arch: Architecture, seen: laws.Watched) -> None:
        """Asks all laws of one architecture. The later ones are asked only where it runs at all."""
        self.looked_at.append(arch)
        own = self.plan.names.space == "own"
        self.note("architectures are values", arch, lambda: laws.survives_json(self.space, arch, find=not own))
        self.note("each architecture draws", arch, lambda: (self.draw(self.space, arch), None)[1])
        before = {name: value.clone() for name, value in self.net.state_dict().items()}
        if not self.note(RUNS, arch, lambda: self.runs(arch, seen)):
            return
        self.note(FINITE, arch, lambda: self.finite(arch))
        self.note("inputs are not changed in place", arch, lambda: self.in_place(arch, seen))
        if self.note(
            "evaluation is deterministic", arch, lambda: laws.evaluation_is_repeatable(self.net, arch, self.scored)
        ):
            self.note("a child computes what the supernet computes", arch, lambda: self.child(arch))
        self.note("gradients stay within an architecture", arch, lambda: self.reached.update(self.gradients(arch)))
        self.net.load_state_dict(before)

    def read_examples(self, arch: Architecture) -> None:
        """Reads all examples of a problem once, in half of the time that is left."""
        if EXAMPLES in self.tried or not isinstance(self.task, Own):
            return
        now = time.monotonic()
        n, finding = read_once(self.task, self.net, arch, now + 0.5 * (self.began + self.asked.seconds - now))
        if n or arch not in self.unfit(RUNS, FINITE):
            total = sum(self.task.size(part) for part in PARTS)
            self.read = f"{total:,} examples" if n == total else f"{n:,} of {total:,} examples"
            self.note(EXAMPLES, None, lambda: require(finding is None, str(finding)))

    def runs(self, arch: Architecture, seen: laws.Watched) -> None:
        """Raises `Broken` where the architecture does not train and score without an error."""
        try:
            loss = self.loss(self.net, arch)
            require(loss.ndim == 0, f"a loss is one number; that of {called(arch)} has shape {tuple(loss.shape)}")
            loss.backward()
            self.task.reward(self.net, arch, self.reward_batch)
        except Broken:
            raise
        except Exception as error:
            if "inplace operation" in str(error):
                self.note("inputs are not changed in place", arch, lambda: self.in_place(arch, seen))
            raise Broken(f"{called(arch)} fails: {first_line(error)}") from error
        finally:
            self.net.zero_grad(set_to_none=True)

    def in_place(self, arch: Architecture, seen: laws.Watched) -> None:
        def run(model: Any, arch: Architecture | None) -> list[Tensor]:
            self.loss(model, arch).backward()
            model.zero_grad(set_to_none=True)
            return self.scored(model, arch)

        laws.inputs_stay_as_they_are(self.net, arch, run, seen)

    def finite(self, arch: Architecture) -> None:
        loss = float(self.loss(self.net, arch).detach())
        require(math.isfinite(loss), f"the loss of {called(arch)} is {loss}")

    def child(self, arch: Architecture) -> None:
        laws.child_computes_what_the_supernet_does(self.net, arch, self.trained, "computes, in training,")
        laws.child_computes_what_the_supernet_does(self.net, arch, self.scored, "computes, in evaluation,")

    def gradients(self, arch: Architecture) -> set[str]:
        return laws.gradients_stay_within(self.net, arch, self.loss)

    def one_seed(self) -> None:
        """Raises `Broken` where weights or batches differ when they are made again with the same
        seed."""
        again = self.plan.network(self.plan.settings.network, self.task)
        kept, other = self.net.state_dict(), again.state_dict()
        require(kept.keys() == other.keys(), "the network that is made again holds other weights")
        for name, value in kept.items():
            require(
                laws.same([value], [other[name]]),
                f"weight '{laws.name_of(self.net, name)}' begins otherwise when the network is made again with one"
                " seed: draw it by torch's generator, or set it",
            )
        task = self.plan.task(self.plan.load_data(), self.plan.settings.task)
        for what, one, two in (
            ("a training batch", self.batch, task.train_batch(0, 0)),
            ("a reward batch", self.reward_batch, task.reward_batch(0)),
        ):
            require(
                laws.same(tensors(one), tensors(two)), f"{what} holds other examples when it is made again with one seed"
            )

    def trains(self, archs: list[Architecture]) -> None:
        """Makes a few steps of the plan's optimiser. Raises `Broken` where a loss or a gradient is
        not finite."""
        settings = self.plan.settings.search.optimizer
        if not archs:
            return
        optimizer = make_optimizer(list(self.net.parameters()), settings)
        for step in range(TRAINED):
            arch = archs[step % len(archs)]
            loss = self.loss(self.net, arch)
            loss.backward()
            value = float(loss.detach())
            require(math.isfinite(value), f"after {step} steps the loss of {called(arch)} is {value}")
            rate = learning_rate(settings, 0, step, self.task.train_steps, self.plan.settings.search.epochs)
            norm = update(optimizer, self.net.parameters_of(arch), rate, settings.grad_clip)
            require(math.isfinite(norm), f"after {step} steps the gradient of {called(arch)} is {norm}")

    def rewards(self, archs: list[Architecture]) -> None:
        """Asks the laws of rewards, on these weights, on others and of random outputs, with true
        and with random targets."""
        batch, batches = self.reward_batch, []
        for i in range(TARGETS):
            if (drawn := _with_random_targets(batch, self.asked.seed + i)) is not None:
                batches.append(drawn)

        def of(net: Any, batch: Any) -> list[float]:
            return [_raw_reward(self.task, net, arch, batch) for arch in archs]

        def differ() -> None:
            true, shuffled = of(self.net, batch), [of(self.net, drawn) for drawn in batches]
            laws.rewards_are_finite([*true, *(reward for some in shuffled for reward in some)])
            some = list(true)
            if len(set(some)) == 1:
                again = dataclasses.replace(self.plan, seed=self.plan.seed + 1)
                some += of(again.network(self.plan.settings.network, self.task), batch)
            # A few examples may have one accuracy by chance, or by weights that begin at zero.
            if len(set(some)) == 1:
                some += self.of_random_outputs(archs[0], batch)
            laws.rewards_differ(some)
            if batches:
                if all(true == other for other in shuffled):
                    true, *shuffled = [self.of_random_outputs(archs[0], targets) for targets in (batch, *batches)]
                laws.rewards_depend_on_targets(true, shuffled)

        self.note("the reward tells one from another", None, differ)

    def of_random_outputs(self, arch: Architecture, batch: Any) -> list[float]:
        """Returns the rewards of a network whose outputs are random, and each time the same. Where
        the reward does not take such outputs, returns nan, which is like no other reward."""

        def noise(module: nn.Module, inputs: object, output: Any) -> Any:
            return tree_map_only(Tensor, lambda x: torch.randn_like(x) if x.is_floating_point() else x, output)

        hook = self.net.register_forward_hook(noise)
        try:
            with seeded(self.asked.seed, "outputs"):
                return [_raw_reward(self.task, self.net, arch, batch) for _ in range(NOISES)]
        except Exception:  # the user's code may raise anything: it has looked at the outputs
            return [float("nan")]
        finally:
            hook.remove()

    def unfit(self, *laws: str) -> set[Architecture | None]:
        """Returns the architectures for which one of some laws does not hold."""
        return {arch for law in laws for arch, _ in self.findings.get(law, [])}

    def said(self, law: str) -> str | None:
        """Returns the first finding of a law, with the architectures that it concerns, or None
        where there is none."""
        found = self.findings.get(law, [])
        archs = [arch for arch, _ in found if arch is not None]
        if len(archs) < 2 and found:
            return found[0][1]
        if not found:
            return None
        common = set.intersection(*(set(arch.choice_items) for arch in archs))
        fine = [set(arch.choice_items) for arch in self.looked_at if arch not in archs]
        culprits = [
            f"{name}={answer}" for name, answer in sorted(common, key=str) if not any((name, answer) in a for a in fine)
        ]
        which = f"all with {' and '.join(culprits)}" if culprits and fine else f"{len(archs)} of {len(self.looked_at)}"
        return f"{found[0][1]} ({which})"


LAWS = (
    "architectures are values",
    "each architecture draws",
    RUNS,
    "parts of a choice fit each other",
    "inputs are not changed in place",
    FINITE,
    "the loss stays finite in training",
    "evaluation is deterministic",
    "a child computes what the supernet computes",
    "gradients stay within an architecture",
    "every parameter is used",
    "the reward tells one from another",
)


def _raw_reward(task: Task, net: Any, arch: Architecture, batch: Any) -> float:
    """Returns the reward as the user's function computes it. A task would replace a reward that is
    not finite by the worst one."""
    problem = getattr(task, "problem", None)
    if not isinstance(problem, Problem):
        return task.reward(net, arch, batch)
    with torch.no_grad():
        net.eval()
        return float(problem.reward(lambda *inputs: net(*inputs, arch), [batch]))


def _with_random_targets(batch: Any, seed: int) -> Any:
    """Returns a batch whose targets are drawn at random from its own. Returns None where the
    targets are not known, or are all the same."""
    if not isinstance(batch, tuple) or len(batch) < 2 or not isinstance(batch[-1], Tensor) or batch[-1].ndim == 0:
        return None
    target = batch[-1]
    drawn = target[torch.randint(len(target), (len(target),), generator=torch.Generator().manual_seed(seed))]
    if torch.equal(drawn, target):
        return None
    parts = (*batch[:-1], drawn)
    return type(batch)(*parts) if hasattr(batch, "_fields") else parts


def apart(data: object) -> None:
    """Raises `Broken` where training, validation and test part share an example: the same object,
    or the same memory."""
    keys: dict[Part, set[object]] = {}
    for part in PARTS:
        if isinstance(data, OwnData):
            keys[part] = {key for examples, indices in data.parts[part] for key in _keys(examples.given, indices)}
        else:
            held = getattr(data, part)
            keys[part] = set(_keys(getattr(held, "images", held), range(len(held))))
    for i, one in enumerate(PARTS):
        for other in PARTS[i + 1 :]:
            shared = len(keys[one] & keys[other])
            require(
                not shared,
                f"the {one} and the {other} part share {shared} examples: a score of examples that were trained or"
                " chosen on says nothing",
            )


def _keys(examples: Any, indices: Iterable[int]) -> Iterator[object]:
    """Yields a key for each example that tells it from all others: its place in memory, or its data
    set and index."""
    while isinstance(examples, Subset):
        taken = list(examples.indices)
        indices, examples = [int(taken[index]) for index in indices], examples.dataset
    examples = examples.tensors if isinstance(examples, TensorDataset) else examples
    first = (
        examples if isinstance(examples, Tensor) else next(iter(examples), None) if isinstance(examples, tuple) else None
    )
    if isinstance(first, Tensor):
        yield from (first.data_ptr() + index * first.stride(0) * first.element_size() for index in indices)
    elif isinstance(examples, list):
        for index in indices:
            inside = tensors(examples[index])
            yield inside[0].data_ptr() if inside else (id(examples[index]),)
    else:
        yield from ((id(examples), index) for index in indices)


def finding_of(holds: Callable[[], None]) -> str | None:
    """Returns in words what breaks a law, or None where it holds. An error in the user's own code
    is a finding too."""
    try:
        holds()
    except Broken as finding:
        return str(finding)
    except Exception as error:  # the checked code may raise anything
        return first_line(error)
    return None


def _size(n: int) -> str:
    return f"{n:,}" if n < 1e9 else f"{n:.1e}"


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
