"""`enas check`: the laws, asked of what a user brings, and what breaks in words.

What a dotted path leads to decides what is checked: a problem, a space of cells, an op, a data set,
a task or a preset becomes the plan of a small search, on which every law runs; a strategy is asked
the laws of strategies. Registered names are checked alike.

Nothing is trained beyond a few steps. Architectures are taken so that every option of every
decision occurs, as far as number and time allow.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from enas.data.images import ImageData
from enas.data.parts import PARTS, Part
from enas.data.registry import DATASETS
from enas.data.text import TextData
from enas.grading import laws
from enas.grading.laws import Broken, called, require, tensors
from enas.networks.registry import BACKBONES
from enas.plugins import entry_of, load
from enas.procedures.optimizer import learning_rate, make_optimizer, update
from enas.runs.plan import Plan, preset_plan, problem_plan
from enas.runs.presets.registry import PRESETS
from enas.runs.process import prepare
from enas.runs.settings import Preset
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import ConvMicroSettings
from enas.spaces.registry import OPS, SPACES, make_space, op_names
from enas.spaces.rnn_cell import RnnCellSettings
from enas.spaces.space import SearchSpace
from enas.state import seeded
from enas.strategies.registry import STRATEGIES
from enas.tasks.own import OwnData
from enas.tasks.problem import Problem
from enas.tasks.registry import TASKS
from enas.tasks.task import Task

IMAGES, TEXT = "digits-micro", "text-rnn"  # presets around a space, an op or a task that is checked
TRAINED = 10  # steps of training, at most
TARGETS = 3  # times that targets are drawn anew
Draw = Callable[[SearchSpace, Architecture], object]


@dataclass(frozen=True)
class Result:
    """What came out of a law: it holds where there is no finding."""

    law: str
    finding: str | None = None
    about: str = ""


@dataclass(frozen=True)
class Asked:
    """How much is looked at."""

    architectures: int = 16
    """Number of architectures to build and run, at most."""
    seed: int = 0
    """Seed of the architectures, the weights and the batches."""
    seconds: float = 30.0
    """Seconds after which no further architecture is looked at."""


def check(what: str, asked: Asked, data: Path | None, draw: Draw) -> Iterator[Result]:
    """Yields the results for a name or a dotted path. ValueError where it leads to nothing that can
    be checked. `draw` draws an architecture, and returns anything."""
    kind, thing = kind_of(what)
    if kind == "strategy":
        yield from _strategy(what, thing, asked)
        return
    if kind == "op":
        yield from _op(what)
    yield from Case.of(kind, what, asked, data, draw).results()


# ------------------------------------------------------------------------------- what it leads to
NAMES: Mapping[str, Mapping[str, Any]] = {
    "space": SPACES,  # before presets, of which some are called as their space and need a folder
    "preset": PRESETS,
    "strategy": STRATEGIES,
    "task": TASKS,
    "data set": DATASETS,
}


def kind_of(what: str) -> tuple[str, Any]:
    """Returns what a name or path stands for, "space" or "op", and the thing itself."""
    if ":" not in what:
        for kind, names in NAMES.items():
            if what in names and what != "own":
                return kind, names[what] if kind == "preset" else names[what].make
        if what in op_names():
            return "op", what
        raise ValueError(f"'{what}' is not registered (`enas list`), and no `package.module:thing`")
    thing = load(what)
    if isinstance(thing, Preset):
        return "preset", thing
    if isinstance(thing, Problem):
        return "problem", thing
    if not callable(thing):
        raise ValueError(f"'{what}' is {type(thing).__name__}: a problem, space, strategy, op, data set, task or preset is")
    if inspect.isclass(thing):
        if hasattr(thing, "ask") or hasattr(thing, "tell"):
            return "strategy", thing
        if Task in thing.__mro__:
            return "task", thing
        if not issubclass(thing, nn.Module):
            raise ValueError(f"'{what}' is a class that is no strategy (ask, tell), no task and no op")
    needed = [
        name
        for name, p in inspect.signature(thing).parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    if "folder" in needed:
        return "data set", thing
    if needed not in ([], ["settings"]):
        return "op", thing
    made = thing() if not needed else entry_of("a space", what, SPACES).make(entry_of("a space", what, SPACES).settings())
    for kind, types in {"problem": Problem, "space": SearchSpace, "data set": (ImageData, TextData)}.items():
        if isinstance(made, types):  # type: ignore[arg-type]
            return kind, thing
    if isinstance(made, nn.Module):
        raise ValueError(f"'{what}' makes a network; a function that returns enas.Problem(...) with it can be checked")
    raise ValueError(
        f"'{what}' returns {type(made).__name__}: a problem, a SearchSpace, an ImageData or a TextData can be checked"
    )


def _fits_text(thing: Any) -> bool:
    """Returns whether a network or an activation belongs to language models."""
    parameters = inspect.signature(thing).parameters
    return "vocabulary" in parameters or len([p for p in parameters.values() if p.default is p.empty]) == 1


def plan_of(kind: str, what: str, data: Path | None, seed: int) -> Plan:
    """Returns the plan of a small search with what is checked in it, on the CPU."""
    if kind == "problem":
        return problem_plan(what, seed, "cpu").on(data)
    if kind == "preset":
        return preset_plan(what, seed=seed, device="cpu").on(data)
    plans = {text: preset_plan(TEXT if text else IMAGES, seed=seed, device="cpu") for text in (False, True)}
    if kind == "task":
        text = entry_of("a task", what, TASKS).data is type(plans[True].settings.data)
        plan = plans[text].with_task(what)
    elif kind == "data set":
        made = DATASETS[what].kind if what in DATASETS else None
        text = made == "text" if made else isinstance(_loaded(what, data), TextData)
        changed = dataclasses.replace(plans[text].settings.data, dataset=what)
        return _small(plans[text].with_settings(data=changed)).on(data)
    elif kind == "space":
        settings = entry_of("a space", what, SPACES).settings()
        backbone = entry_of("a network", make_space(what, settings).backbone, BACKBONES)
        plan = plans[_fits_text(backbone.make)].with_space_named(what)
    else:  # an op: beside another one
        text = _fits_text(load(what)) if ":" in what else what in plans[True].settings.space.ops
        macro = not text and ":" not in what and what not in plans[False].settings.space.ops
        plan = preset_plan("digits-macro", seed=seed, device="cpu") if macro else plans[text]
        other = next(op for op in plan.settings.space.ops if op != what)
        space = dataclasses.replace(plan.settings.space, ops=(what, other), **({"num_layers": 3} if macro else {}))
        plan = plan.with_settings(space=space)
    if data is not None:
        raise ValueError(f"--data is of data sets and presets; '{what}' is a {kind}")
    few = {"train": 2000 if plan.names.network == "recurrent" else 200}
    return _small(plan.with_settings(data=dataclasses.replace(plan.settings.data, **few)))


def _small(plan: Plan) -> Plan:
    """Returns the plan with a network and batches small enough to look at many architectures."""
    network = entry_of("a network", plan.names.network, BACKBONES).small
    if isinstance(plan.settings.space, ConvMicroSettings | RnnCellSettings):
        plan = plan.with_settings(space=dataclasses.replace(plan.settings.space, num_nodes=1))
    return plan.with_settings(network=network, task=dataclasses.replace(plan.settings.task, batch_size=8))


def _loaded(what: str, folder: Path | None) -> object:
    from enas.data.registry import load as load_data

    return load_data(what, folder)


# -------------------------------------------------------------------------------------- the cases
@dataclass
class Case:
    """A plan with its parts, and what was found so far."""

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

    @classmethod
    def of(cls, kind: str, what: str, asked: Asked, data: Path | None, draw: Draw) -> Case:
        began = time.monotonic()
        plan = plan_of(kind, what, data, asked.seed)
        prepare(plan.device, 1)
        data_set: Any = plan.load_data()
        task = plan.task(data_set, plan.settings.task)
        net = plan.network(plan.settings.network, task)
        return cls(plan, asked, draw, began, data_set, task, net, net.space)

    # --------------------------------------------------------------------------- how it is run
    def loss(self, model: Any, arch: Architecture | None) -> Tensor:
        """Returns the loss of the first batch, with one stream of random numbers."""
        model.train()
        self.task.forget(0)
        with seeded(self.asked.seed, "check"):
            return self.task.loss(model, arch, self.batch)

    def trained(self, model: Any, arch: Architecture | None) -> list[Tensor]:
        """Returns all that comes out of the model in training, and the loss."""
        seen: list[Tensor] = []
        hook = model.register_forward_hook(lambda module, inputs, output: seen.extend(tensors(output)))
        try:
            loss = self.loss(model, arch)
        finally:
            hook.remove()
        return [x.detach().clone() for x in (*seen, loss)]

    def scored(self, model: Any, arch: Architecture | None) -> list[Tensor]:
        """Returns all that comes out of the model where its reward is taken, and the reward."""
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
        about = f"{len(self.looked_at)} architectures"
        failed = "each architecture builds and runs" in self.findings
        if failed:
            self.note("parts of a choice fit each other", None, lambda: laws.parts_keep_their_shape(seen))
        good = [arch for arch in self.looked_at if arch not in self.fallen()]
        if len(good) == len(self.looked_at) == len(self.archs):
            self.note("every parameter is used", None, lambda: laws.every_weight_is_reached(self.net, self.reached))
        if good:
            infinite = {arch for arch, _ in self.findings.get("the loss is finite", [])}
            self.note(
                "the loss stays finite in training", None, lambda: self.trains([a for a in good if a not in infinite])
            )
            self.rewards(good)
        for law in LAWS:
            yield Result(law, self.said(law), about)

    def one(self, law: str, holds: Callable[[], None], about: str = "") -> Result:
        """Returns the result of a law that is asked once."""
        self.note(law, None, holds)
        return Result(law, self.said(law), about)

    def note(self, law: str, arch: Architecture | None, holds: Callable[[], None]) -> bool:
        """Asks a law, and keeps what it finds. An error of the user's own code is a finding."""
        try:
            holds()
        except Broken as finding:
            self.findings.setdefault(law, []).append((arch, str(finding)))
        except Exception as error:  # any: it is code that is checked
            self.findings.setdefault(law, []).append((arch, _first_line(error)))
        else:
            return True
        return False

    def look_at(self, arch: Architecture, seen: laws.Watched) -> None:
        """Asks all laws of one architecture; the later ones where it runs at all."""
        self.looked_at.append(arch)
        own = self.plan.names.space == "own"
        self.note("architectures are values", arch, lambda: laws.survives_json(self.space, arch, find=not own))
        self.note("each architecture draws", arch, lambda: (self.draw(self.space, arch), None)[1])
        before = {name: value.clone() for name, value in self.net.state_dict().items()}
        if not self.note("each architecture builds and runs", arch, lambda: self.runs(arch, seen)):
            return
        self.note("the loss is finite", arch, lambda: self.finite(arch))
        self.note("inputs are not changed in place", arch, lambda: self.in_place(arch, seen))
        if self.note(
            "evaluation is deterministic", arch, lambda: laws.evaluation_is_repeatable(self.net, arch, self.scored)
        ):
            self.note("a child computes what the supernet computes", arch, lambda: self.child(arch))
        self.note("gradients stay within an architecture", arch, lambda: self.reached.update(self.gradients(arch)))
        self.net.load_state_dict(before)

    def runs(self, arch: Architecture, seen: laws.Watched) -> None:
        """Trains and scores without an error."""
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
            raise Broken(f"{called(arch)} fails: {_first_line(error)}") from error
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
        """Weights, batches and a loss come out the same when they are made again."""
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
        """A few steps of the plan's optimiser."""
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
        """Asks what rewards tell, on these weights and others, with true and random targets."""
        batch, batches = self.reward_batch, []
        for i in range(TARGETS):
            if (drawn := _with_random_targets(batch, self.asked.seed + i)) is not None:
                batches.append(drawn)

        def of(net: Any, batch: Any) -> list[float]:
            return [_raw_reward(self.task, net, arch, batch) for arch in archs]

        def differ() -> None:
            true, shuffled = of(self.net, batch), [of(self.net, drawn) for drawn in batches]
            everything = [*true, *(reward for some in shuffled for reward in some)]
            if len(set(everything)) == 1:
                again = dataclasses.replace(self.plan, seed=self.plan.seed + 1)
                everything += of(again.network(self.plan.settings.network, self.task), batch)
            laws.rewards_differ(everything)
            if batches:
                laws.rewards_depend_on_targets(true, shuffled)

        self.note("the reward tells one from another", None, differ)

    def fallen(self) -> set[Architecture | None]:
        return {arch for arch, _ in self.findings.get("each architecture builds and runs", [])}

    def said(self, law: str) -> str | None:
        """Returns the first finding of a law, and which architectures it is of; None without."""
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
    "each architecture builds and runs",
    "parts of a choice fit each other",
    "inputs are not changed in place",
    "the loss is finite",
    "the loss stays finite in training",
    "evaluation is deterministic",
    "a child computes what the supernet computes",
    "gradients stay within an architecture",
    "every parameter is used",
    "the reward tells one from another",
)


def _raw_reward(task: Task, net: Any, arch: Architecture, batch: Any) -> float:
    """Returns the reward as it is; a task itself takes the worst one for one that is not finite."""
    problem = getattr(task, "problem", None)
    if not isinstance(problem, Problem):
        return task.reward(net, arch, batch)
    with torch.no_grad():
        net.eval()
        return float(problem.reward(lambda *inputs: net(*inputs, arch), [batch]))


def _with_random_targets(batch: Any, seed: int) -> Any:
    """Returns a batch whose targets are drawn from its own; None where it is not known which they
    are, or where they are all the same."""
    if not isinstance(batch, tuple) or len(batch) < 2 or not isinstance(batch[-1], Tensor) or batch[-1].ndim == 0:
        return None
    target = batch[-1]
    drawn = target[torch.randint(len(target), (len(target),), generator=torch.Generator().manual_seed(seed))]
    if torch.equal(drawn, target):
        return None
    parts = (*batch[:-1], drawn)
    return type(batch)(*parts) if hasattr(batch, "_fields") else parts


def apart(data: object) -> None:
    """Training, validation and test part share no example: none is one object, or one memory."""
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
    """Yields what tells whether an example is another one: where it lies in memory, or which object
    of which data set it is."""
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


def _size(n: int) -> str:
    return f"{n:,}" if n < 1e9 else f"{n:.1e}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


# ------------------------------------------------------------------------------ strategies and ops
def _strategy(what: str, thing: Any, asked: Asked) -> Iterator[Result]:
    """Yields the results of a strategy, on the small instances of all registered spaces."""
    entry = entry_of("a strategy", what, STRATEGIES)
    spaces = [other.make(small) for other in SPACES.values() for small in other.small]
    missing = [name for name in ("learns", "ask", "tell", "state", "load") if not hasattr(thing, name)]
    yield Result("it has learns, ask, tell, state and load", f"'{what}' lacks {', '.join(missing)}" if missing else None)
    if missing:
        return
    settings = [entry.settings()] if "settings" in inspect.signature(thing).parameters else []

    def on(space: SearchSpace) -> laws.MakeStrategy:
        return lambda seed: thing(space, *settings, seed=asked.seed + seed)

    def others(space: SearchSpace) -> list[Architecture]:
        return [space.sample(random.Random(i)) for i in range(4)]

    about = f"{len(spaces)} spaces"
    for law, holds in (
        ("it asks for architectures of its space", lambda s: laws.asks_what_there_is(on(s), s, others(s))),
        ("one seed gives one result", lambda s: laws.asking_depends_on_the_seed_alone(on(s))),
        ("it goes on after it was saved and loaded", lambda s: laws.goes_on_after_load(on(s))),
        ("it learns where it says so", lambda s: laws.learns_as_it_says(on(s))),
    ):
        yield Result(law, _asked_of(spaces if "learns" not in law else spaces[:1], holds), about)


def _asked_of(spaces: list[SearchSpace], holds: Callable[[SearchSpace], None]) -> str | None:
    for space in spaces:
        try:
            holds(space)
        except Broken as finding:
            return f"space '{space.name}': {finding}"
        except Exception as error:  # any: it is code that is checked
            return f"space '{space.name}': {_first_line(error)}"
    return None


def _op(what: str) -> Iterator[Result]:
    """Yields the results of an op by itself."""
    from enas.networks.ops import LAYER_OPS, batch_norm, make_op

    if ":" not in what and what not in OPS:
        return  # a registered one is in the networks that are checked
    if _fits_text(load(what)):
        yield Result("it keeps the shape", _holds(lambda: _activation_keeps_its_shape(what)))
        return

    def shapes() -> None:
        for channels, stride in ((4, 1), (6, 2)):
            op = make_op(what, channels, stride, batch_norm, LAYER_OPS)
            x = torch.randn(2, channels, 8, 8, requires_grad=True)
            side = 8 // stride
            kept = x.detach().clone()
            out = op(x * 1)
            require(
                out.shape == (2, channels, side, side),
                f"an op maps (B, C, H, W) to (B, C, H / stride, W / stride): at stride {stride} (2, {channels}, 8, 8)"
                f" becomes {tuple(out.shape)}",
            )
            y = kept.clone()
            op(y)
            require(torch.equal(y, kept), "the op changes its input in place; other edges read that too")

    yield Result("it keeps channels and input, and halves at stride 2", _holds(shapes))


def _activation_keeps_its_shape(what: str) -> None:
    x = torch.randn(3, 4)
    kept = x.clone()
    out = load(what)(x)
    require(out.shape == x.shape, f"an activation keeps the shape: (3, 4) becomes {tuple(out.shape)}")
    require(torch.equal(x, kept), "the activation changes its input in place; other nodes read that too")


def _holds(law: Callable[[], None]) -> str | None:
    try:
        law()
    except Broken as finding:
        return str(finding)
    except Exception as error:  # any: it is code that is checked
        return _first_line(error)
    return None
