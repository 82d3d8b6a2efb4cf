"""Laws of choices in a network of one's own, over networks that hypothesis makes: nested, shared
and tied, with tuples and dicts; and examples of what else a network may hold."""

from __future__ import annotations

import copy
import io
import json
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import process_time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from enas.data.registry import load as load_data
from enas.networks.choices import Choice, OneOf, Repeat, SomeOf, space_from
from enas.networks.own import Child, OwnNetwork
from enas.procedures.derive import derive, ranked, recalibrated
from enas.procedures.halving import ShortTraining
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.procedures.settings import DeriveSettings, OptimizerSettings, RetrainSettings, SearchSettings
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice, OpSubset, When
from enas.strategies.random_search import RandomSearch
from enas.strategies.registry import STRATEGIES
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ControllerSettings, ReinforceSettings
from enas.tasks.image_classification import ImageClassification, ImageClassificationSettings
from enas.tasks.metrics import METRICS
from enas.tasks.task import Task
from laws import one_line, samples

D = 3  # features of every part


# ---------------------------------------------------------------- networks to try
class Residual(nn.Module):
    """Adds what its part gives."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return x + self.part(x)


class Branches(nn.Module):
    """Holds its parts in a list and a dict, and runs the first one twice."""

    def __init__(self, parts: list[nn.Module]):
        super().__init__()
        self.first, self.others = nn.ModuleList(parts[:1]), nn.ModuleDict({str(i): p for i, p in enumerate(parts[1:])})

    def forward(self, x: Tensor) -> Tensor:
        x = self.first[0](self.first[0](x))
        for part in self.others.values():
            x = part(x)
        return x


class OnDict(nn.Module):
    """From a dict with a tuple in it to such a dict."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        left, right = data["pair"]
        return {"pair": (self.part(left), right), "seen": data["seen"] + 1}


class Boxed(nn.Module):
    """Gives its part a dict, and takes a tensor out of another."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        data = self.part({"pair": (x, x.tanh()), "seen": 0})
        return sum(data["pair"]) * (1 + data["seen"])


class Whole(nn.Module):
    """A network from a batch and a keyword to a tuple."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.stem, self.part = nn.Linear(D, D), part

    def forward(self, batch: dict[str, Tensor], scale: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.part(self.stem(batch["x"]))
        return x * scale, {"mean": x.mean()}


def largest(outputs: list[Tensor]) -> Tensor:
    return torch.stack(outputs).logsumexp(0)


class Mixer(nn.Module):
    """Combines by learned weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, outputs: list[Tensor]) -> Tensor:
        return sum(outputs) * self.weight


Spec = tuple[Any, ...]
LEAVES = st.sampled_from([("linear",), ("tied",), ("norm",), ("tanh",), ("frozen",)]) | st.tuples(
    st.just("again"), st.integers(0, 9)
)


def specs(inner: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    few = st.lists(inner, min_size=1, max_size=3).map(tuple)
    blocks = few.flatmap(lambda parts: st.tuples(st.just("repeat"), st.just(parts), st.integers(0, len(parts))))
    some = few.flatmap(
        lambda parts: st.tuples(
            st.just("some"),
            st.just(parts),
            st.sampled_from([None, *range(1, len(parts) + 1)]),
            st.sampled_from(["sum", "mean", "largest", "mixer"]),
        )
    )
    one = st.tuples(st.just("one"), few, st.booleans())
    around = st.tuples(st.sampled_from(["residual", "boxed", "boxed_one"]), inner)
    return one | blocks | some | around | st.tuples(st.sampled_from(["sequence", "branches"]), few)


NETWORKS = st.recursive(LEAVES, specs, max_leaves=8)


def build(spec: Spec, made: list[nn.Module] | None = None) -> nn.Module:
    """Makes a part. Equal specs make equal networks but for the weights."""
    made = made if made is not None else []
    kind, *rest = spec
    parts = [build(s, made) for s in rest[0]] if kind in ("one", "some", "repeat", "sequence", "branches") else []
    linears = [m for m in made if isinstance(m, nn.Linear)]
    module: nn.Module
    if kind == "again" and made:
        return made[rest[0] % len(made)]
    if kind == "one":
        module = OneOf({f"p{i}": (lambda p=p: p) if rest[1] else p for i, p in enumerate(parts)})
    elif kind == "some":
        combine: Any = {"largest": largest, "mixer": Mixer()}.get(rest[2], rest[2])
        module = SomeOf({f"p{i}": part for i, part in enumerate(parts)}, k=rest[1], combine=combine)
    elif kind == "repeat":
        module = Repeat(parts, least=rest[1])
    elif kind == "sequence":
        module = nn.Sequential(*parts)
    elif kind == "branches":
        module = Branches(parts)
    elif kind in ("residual", "boxed", "boxed_one"):
        part = build(rest[0], made)
        boxed = Boxed(OneOf({"a": OnDict(part), "half": OnDict(nn.Linear(D, D))})) if kind == "boxed_one" else None
        module = boxed or (Residual(part) if kind == "residual" else Boxed(OnDict(part)))
    elif kind == "norm":
        module = nn.BatchNorm1d(D)
    elif kind == "tanh":
        module = nn.Tanh()
    else:
        module = nn.Linear(D, D)
        if kind == "tied" and linears:
            module.weight = linears[-1].weight
        elif kind == "frozen":
            module.requires_grad_(False)
    made.append(module)
    return module


def network(spec: Spec) -> nn.Module:
    torch.manual_seed(0)
    return Whole(nn.Sequential(build(spec), OneOf("last", {"linear": nn.Linear(D, D), "skip": nn.Identity()})))


def runs_in(module: nn.Module, choices: dict[str, Any], names: dict[Choice, str]) -> set[str]:
    """The names of the choices that run, found by going through what runs."""
    if isinstance(module, Choice):
        keys = module.taken(choices[names[module]])
        return {names[module]}.union(*(runs_in(module.part(key), choices, names) for key in keys))
    return set().union(*(runs_in(child, choices, names) for child in module.children()))


def flat(outputs: Any) -> list[Tensor]:
    return [outputs[0], outputs[1]["mean"]]


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def batch(seed: int = 1) -> dict[str, Tensor]:
    return {"x": torch.randn(4, D, generator=torch.Generator().manual_seed(seed))}


def plain(child: nn.Module) -> bool:
    """Whether a module holds nothing of this package, in any attribute."""
    return all(not type(m).__module__.startswith("enas") for m in child.modules()) and b"enas." not in pickle.dumps(child)


def obeys_the_laws(spec: Spec, archs: int) -> None:
    net = OwnNetwork(network(spec), factory=partial(network, spec))
    space = net.space
    assert space_from(net.network).spec == space.spec
    if space.size() <= 200:
        assert space.size() == len(set(space.enumerate()))
    for arch in samples(space, archs):
        assert space.check(Architecture.from_json(arch.to_json())) == arch
        assert set(arch.choices) == runs_in(net.network, dict(arch.choices), net.choices.names)
        net.train()
        child = net.child(arch)
        assert plain(child)
        assert child.training
        for mode in (True, False):
            out, expected = flat(net.train(mode)(batch(), arch, scale=2.0)), flat(child.train(mode)(batch(), scale=2.0))
            assert all(map(torch.equal, out, expected))
            assert equal(net.slice(arch), child.state_dict())  # buffers too
        net.train()
        used = net.parameters_of(arch)
        assert len(used) == len(set(used)) == len(list(child.parameters()))
        assert net.num_parameters(arch) == sum(p.numel() for p in child.parameters())
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        flat(net(batch(), arch))[0].square().sum().backward()
        trained = {name for name, p in net.named_parameters() if p.grad is not None}
        assert trained == {name for name, p in net.named_parameters() if p.requires_grad and any(p is q for q in used)}
        optimizer = make_optimizer(list(net.parameters()), OptimizerSettings())
        update(optimizer, used, 0.01, 1.0)
        assert {name for name, p in net.named_parameters() if not torch.equal(p, before[name])} <= trained
        fresh = net.child(arch, fresh=True)
        assert fresh.state_dict().keys() == child.state_dict().keys()
        fresh.load_state_dict(net.slice(arch))
        assert all(map(torch.equal, flat(fresh.eval()(batch())), flat(net.eval()(batch(), arch))))
        net.train()


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(NETWORKS)
def test_laws_of_all_networks(spec: Spec) -> None:
    obeys_the_laws(spec, 2)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.recursive(LEAVES, specs, max_leaves=20))
def test_laws_of_large_networks(spec: Spec) -> None:
    obeys_the_laws(spec, 4)


# ---------------------------------------------------------------- the space
def linear() -> nn.Module:
    return nn.Linear(D, D)


def relu() -> nn.Module:
    return nn.Sequential(nn.Linear(D, D), nn.ReLU())


def answered(net: OwnNetwork, **choices: Any) -> Architecture:
    return net.space.architecture({name.replace("__", "."): answer for name, answer in choices.items()})


def test_the_space_is_read_off_the_network() -> None:
    net = nn.Sequential(
        OneOf("kernel", {"3": linear(), "5": linear}),
        nn.ModuleDict({"a": nn.ModuleList([SomeOf({"x": linear(), "y": nn.Identity})])}),
        Repeat([linear(), nn.Sequential(OneOf({"deep": linear(), "skip": nn.Identity()})), linear], least=0),
        SomeOf("pair", {"x": linear(), "y": linear(), "z": linear()}, k=2, combine="mean"),
    )
    assert space_from(net, "mine").spec == {"name": "mine"}
    assert space_from(net).decisions == (
        OpChoice(("3", "5"), name="kernel"),
        OpSubset(("x", "y"), name="1.a.0", least=1),
        OpChoice(("0", "1", "2", "3"), name="2"),
        OpChoice(("deep", "skip"), name="2.1.0", when=When("2", ("2", "3"))),
        OpSubset(("x", "y", "z"), name="pair", k=2, least=2),
    )
    assert space_from(net).size() == 2 * 3 * (2 + 2 * 2) * 3


def test_what_can_be_reached_in_several_ways_is_asked_where_any_is_taken() -> None:
    shared = nn.Sequential(OneOf("shared", {"a": linear(), "b": linear()}))
    first = OneOf("first", {"x": shared, "y": nn.Identity(), "z": nn.Sequential(shared)})
    second = OneOf("second", {"u": nn.Identity(), "v": SomeOf("some", {"s": shared, "t": linear()})})
    net = OwnNetwork(nn.Sequential(first, second))
    assert [decision.name for decision in net.space.decisions] == ["first", "second", "some", "shared"]
    assert net.space.decision("shared").when == When("first", ("x", "z"), When("some", ("s",)))
    asked = {tuple(arch.choices.values()) for arch in net.space.enumerate() if "shared" not in arch.choices}
    assert asked == {("y", "u"), ("y", "v", ("t",))}
    assert net.space.size() == 2 * (1 + 3) * 2 + 1 + (2 + 1 + 2)  # x and z; y with u, and with v
    always = nn.Sequential(first, shared, second)  # and in a way that no choice stands in
    assert space_from(always).decision("shared").when is None


def test_one_choice_in_two_places_is_one_decision() -> None:
    choice = OneOf({"a": linear(), "b": nn.Tanh()})
    net = OwnNetwork(nn.ModuleDict({"x": choice, "y": nn.ModuleList([choice])}))
    assert [decision.name for decision in net.space.decisions] == ["x"]
    arch = answered(net, x="a")
    assert list(net.child(arch).state_dict()) == ["x.weight", "x.bias", "y.0.weight", "y.0.bias"]
    assert net.num_parameters(arch) == D * D + D


ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "no options": (lambda: OneOf("a", {}), "OneOf 'a' chooses between parts; got none"),
    "no blocks": (lambda: Repeat([]), "Repeat chooses between parts; got none"),
    "a dot": (lambda: OneOf("a", {"x.y": linear()}), "words without dots; got 'x.y'"),
    "a number": (lambda: OneOf({3: linear()}), "words without dots; got 3"),  # type: ignore[dict-item]
    "no module": (lambda: OneOf("a", {"x": 3}), "'x' is 3"),  # type: ignore[dict-item]
    "made no module": (lambda: space_from(OneOf("a", {"x": dict})), "'x' returned {}"),
    "k": (lambda: SomeOf("a", {"x": linear()}, k=2), "SomeOf 'a' takes k of its 1 options, at least 1; got k=2"),
    "least of options": (lambda: SomeOf({"x": linear()}, least=2), "SomeOf has 1 options; got least=2"),
    "least of blocks": (lambda: Repeat("a", [linear()], least=2), "Repeat 'a' has 1 blocks; got least=2"),
    "concat of none": (lambda: SomeOf({"x": linear()}, least=0, combine="concat"), "cannot concatenate none"),
    "combine": (lambda: SomeOf({"x": linear()}, combine="max"), "got 'max'"),  # type: ignore[arg-type]
    "a partial": (
        lambda: SomeOf({"x": linear()}, combine=partial(torch.cat, dim=1)),
        "a function or a module; got functools.p",
    ),
    "a name of modules": (lambda: SomeOf({"half": linear()}), "another name for option 'half'"),
    "a choice that combines": (lambda: SomeOf({"x": linear()}, combine=OneOf({"y": linear()})), "put it beside"),
    "no choice": (lambda: space_from(linear()), "the network holds no choice"),
    "two of a name": (
        lambda: space_from(nn.Sequential(OneOf("a", {"x": OneOf("a", {"y": linear()})}))),
        "two choices are named 'a', at '0' and at '0.x'",
    ),
    "a name and a place": (
        lambda: space_from(nn.Sequential(OneOf("1", {"x": linear()}), OneOf({"x": linear()}))),
        "two choices are named '1', at '0' and at '1'",
    ),
    "not wrapped": (lambda: OneOf("a", {"x": linear()})(torch.ones(D)), "OneOf 'a' does not run by itself"),
    "no architecture": (lambda: OwnNetwork(OneOf({"x": linear()}))(torch.ones(D)), "supernet(x, arch)"),
    "no factory": (lambda: fresh(OwnNetwork(OneOf({"x": linear()}))), "OwnNetwork(network, factory=...)"),
    "another factory": (
        lambda: fresh(OwnNetwork(OneOf({"x": linear()}), factory=lambda: OneOf({"y": linear()}))),
        "the factory makes another network: OneOf with y in the place of OneOf with x",
    ),
    "a hook": (lambda: hooked(OneOf("a", {"x": linear()})), "OneOf 'a' does not run, so its hooks do not"),
    "compiled around": (
        lambda: fresh(OwnNetwork(torch.compile(nn.Sequential(OneOf({"x": linear()})), backend="eager"))),
        "compile the parts of choices, or the child",
    ),
    "a list that is not registered": (
        lambda: OwnNetwork(Unregistered())(torch.ones(D), Architecture.of({"name": "own"}, {"choice": "x"})),
        "OneOf does not run by itself: wrap the network that registers it",
    ),
    "another space": (
        lambda: OwnNetwork(OneOf({"x": linear()})).child(Architecture.of({"name": "other"}, {})),
        "this needs an architecture of space own()",
    ),
}


class Unregistered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.choice = OneOf({"x": nn.Linear(D, D)})
        self.parts = [self.choice]

    def forward(self, x: Tensor) -> Tensor:
        return self.parts[0](x)


def fresh(net: OwnNetwork) -> nn.Module:
    arch = next(net.space.enumerate())
    net.view(arch)
    return net.child(arch, fresh=True)


def hooked(choice: Choice) -> object:
    choice.register_forward_hook(lambda module, inputs, output: output)
    return fresh(OwnNetwork(choice))


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_line(name: str) -> None:
    wrong, says = ERRORS[name]
    with one_line(ValueError, says):
        wrong()


def test_options_are_made_when_they_are_needed() -> None:
    made: list[str] = []

    def make(name: str) -> nn.Module:
        made.append(name)
        return nn.Linear(D, D)

    def whole() -> nn.Module:
        return nn.Sequential(OneOf("a", {name: partial(make, name) for name in "xyz"}), Repeat("b", [linear, relu]))

    net = OwnNetwork(whole(), factory=whole)
    assert made == ["x", "y", "z"]
    net.child(answered(net, a="y", b="1"), fresh=True)
    assert made == ["x", "y", "z", "y"]


# ---------------------------------------------------------------- what combines, repeats
def test_some_are_combined_as_asked() -> None:
    x = torch.randn(4, D)
    parts = {"a": linear(), "b": nn.Tanh(), "c": nn.ReLU()}
    a, c = parts["a"](x), parts["c"](x)
    mixer = Mixer()
    expected = {"sum": a + c, "mean": (a + c) / 2, "concat": torch.cat([a, c], 1)}
    for combine, value in (*expected.items(), (largest, largest([a, c])), (mixer, mixer([a, c]))):
        net = OwnNetwork(SomeOf("s", dict(parts), combine=combine))  # type: ignore[arg-type]
        arch = answered(net, s=("c", "a"))
        assert torch.equal(net(x, arch), value)
        child = net.child(arch)
        assert torch.equal(child(x), value)
        assert child.state_dict().keys() == {"a.weight", "a.bias"} | ({"combine.weight"} if combine is mixer else set())
    net = OwnNetwork(SomeOf("s", dict(parts), least=0))
    none = answered(net, s=())
    assert not net(x, none).any()
    assert not net.child(none)(x).any()


class Attend(nn.Module):
    """Takes two inputs, one of them optional."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, x: Tensor, other: Tensor | None = None, scale: float = 2.0) -> Tensor:
        return self.linear(x) * scale + (0 if other is None else other)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.some = SomeOf("some", {"a": Attend(), "b": Attend()})
        self.layers = Repeat("depth", [Attend(), Attend(), Attend()])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.some(x) + self.some(x, y, 3.0)
        for layer in self.layers:  # as in any list of modules
            x = layer(x, y)
        return x


def test_parts_may_take_several_inputs() -> None:
    net = OwnNetwork(TwoInputs())
    x, y = torch.randn(2, 4, D)
    for arch in net.space.enumerate():
        child = net.child(arch)
        assert torch.equal(net(x, y, arch), child(x, y))
        assert len(child.layers) == int(arch.choices["depth"])


# ---------------------------------------------------------------- what else may be in
def hand_written() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2)), nn.Flatten(), nn.Linear(8, 2))


def own_image_network() -> nn.Module:
    return nn.Sequential(
        OneOf("conv", {"three": nn.Conv2d(1, 2, 3), "one": nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(3, 1))}),
        Repeat("depth", [nn.ReLU(), nn.BatchNorm2d(2), nn.BatchNorm2d(2)]),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


def test_a_child_is_a_plain_network() -> None:
    net = OwnNetwork(own_image_network())
    child = net.child(answered(net, conv="three", depth="2"))
    assert list(child.state_dict()) == list(hand_written().state_dict())
    hand_written().load_state_dict(child.state_dict())
    x = torch.randn(5, 1, 4, 4)
    for again in (copy.deepcopy(child), pickle.loads(pickle.dumps(child)), saved(child)):
        assert torch.equal(again(x), copy.deepcopy(child)(x))
    exported = torch.export.export(child.eval(), (x,)).module()
    torch.testing.assert_close(exported(x), child(x))


def saved(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_child_of_merged_parts_is_exported_and_saved() -> None:
    torch.manual_seed(0)
    some = SomeOf("s", {"a": relu(), "b": SomeOf("t", {"c": linear(), "d": nn.Tanh()}, combine="mean")}, combine="concat")
    net = OwnNetwork(nn.Sequential(some, Residual(OneOf("r", {"a": nn.Linear(2 * D, 2 * D)}))))
    child, x = net.child(answered(net, s=("a", "b"), t=("c", "d"), r="a")).eval(), torch.randn(2, D)
    assert plain(child)
    for again in (copy.deepcopy(child), saved(child), torch.export.export(child, (x,)).module()):
        torch.testing.assert_close(again(x), child(x), rtol=0, atol=0)
        assert again.state_dict().keys() == child.state_dict().keys()


class Rich(nn.Module):
    """Hooks that are its own methods, plain attributes, checkpoints, a buffer, and a mode that it
    sets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(D, D)
        self.choice = OneOf("c", {"a": relu(), "b": nn.Sequential(nn.Linear(D, D), nn.Dropout(0.0))})
        self.norm = nn.BatchNorm1d(D).requires_grad_(False)
        self.order = [self.stem, self.norm]
        self.register_buffer("seen", torch.zeros(()))
        self.stem.register_forward_hook(self.look)
        self.calls, self.looked, self.penalty = 0, 0, torch.zeros(())

    def look(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.looked += 1
        self.output = output

    def train(self, mode: bool = True) -> Rich:
        super().train(mode)
        self.norm.eval()  # frozen statistics
        return self

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += 1
        self.order[0](x)
        x = checkpoint(self.choice, self.output, use_reentrant=False)
        self.penalty = x.square().mean()
        return self.order[1](x)


def test_hooks_attributes_checkpoints_and_frozen_parts() -> None:
    net = OwnNetwork(Rich())
    heard: list[type] = []
    net.network.register_forward_hook(lambda module, inputs, output: heard.append(type(module)))
    arch, other = answered(net, c="a"), answered(net, c="b")
    x = torch.randn(4, D)
    for i, a in enumerate((arch, other, arch)):
        net.train()(x, a).sum().backward()
        assert (net.network.calls, net.network.looked, int(net.network.seen), len(heard)) == (i + 1,) * 4
    assert all(issubclass(kind, Rich) and kind.__qualname__ == "Rich" for kind in heard)
    assert net.network.penalty.requires_grad  # a loss may read it
    assert not net.network.norm.training
    assert all(p.grad is None for p in net.network.norm.parameters())
    child = net.child(arch)
    assert child.order[0] is child.stem
    assert child.order[1] is child.norm
    (hook,) = child.stem._forward_hooks.values()
    assert hook.__self__ is child
    assert not any(p.requires_grad for p in child.norm.parameters())
    assert torch.equal(child(x), net(x, arch))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(child(x), net(x, arch))
    net.eval()(x, arch)
    assert not net.network.choice.training


def test_compiled_parts_and_moved_networks() -> None:
    compiled = torch.compile(relu(), backend="eager")
    net = OwnNetwork(nn.Sequential(OneOf("c", {"fast": compiled, "skip": nn.Identity()}), linear()))
    arch, x = answered(net, c="fast"), torch.randn(2, D)
    before = net(x, arch)
    assert torch.equal(before, net.network[1](compiled(x)))
    net.double()  # after the view was made
    assert net(x.double(), arch).dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in net.parameters_of(arch))
    net.load_state_dict({name: torch.zeros_like(value) for name, value in net.state_dict().items()}, assign=True)
    assert not net(x.double(), arch).any()
    assert {id(p) for p in net.parameters_of(arch)} <= {id(p) for p in net.parameters()}
    again = pickle.loads(pickle.dumps(OwnNetwork(nn.Sequential(OneOf("c", {"a": relu()})))))
    assert again(x, next(again.space.enumerate())).shape == (2, D)


class Tied(nn.Module):
    """Reads and writes by one matrix, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(7, D), OneOf("body", {"a": relu(), "b": linear()})
        self.head = nn.Linear(D, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.words(x)))


def test_tied_and_pretrained_weights_come_along() -> None:
    pretrained = Tied().state_dict()
    net = OwnNetwork(Tied(), factory=Tied)
    net.network.load_state_dict(pretrained)
    arch = answered(net, body="b")
    child, fresh_child = net.child(arch), net.child(arch, fresh=True)
    assert torch.equal(child.words.weight, pretrained["words.weight"])
    assert torch.equal(child.body.weight, pretrained["body.b.weight"])
    assert not torch.equal(fresh_child.words.weight, pretrained["words.weight"])
    for each in (child, fresh_child):
        assert each.head.weight is each.words.weight
    assert net.num_parameters(arch) == 7 * D + D * D + D


def test_a_step_keeps_what_the_child_keeps_and_nothing_of_unused_parts() -> None:
    net = OwnNetwork(nn.Sequential(*(OneOf({"a": relu(), "b": linear()}) for _ in range(4)), Repeat([relu(), relu()])))
    x = torch.randn(5, D)
    for arch in samples(net.space, 4):
        kept: dict[str, list[tuple[int, ...]]] = {}
        for name, run in (("view", lambda arch=arch: net(x, arch)), ("child", lambda arch=arch: net.child(arch)(x))):
            sizes = kept.setdefault(name, [])
            with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: (sizes.append(tuple(t.shape)), t)[1], id):
                run()
        assert kept["view"] == kept["child"]


def test_the_tree_of_modules_ends_where_no_choice_is() -> None:
    shared = OneOf("shared", {"x": linear(), "y": nn.Identity()})
    net = nn.Sequential(relu(), nn.Sequential(linear(), shared), Repeat("depth", [nn.Sequential(shared), linear]))
    tree = space_from(net).tree
    assert tree is not None
    assert [(part.name, part.kind, part.decision) for part in tree.parts] == [
        ("0", "Sequential", ""),
        ("1", "Sequential", ""),
        ("2", "Repeat", "depth"),
    ]
    assert not tree.parts[0].parts
    (_, choice), (again, block) = tree.parts[1].parts, tree.parts[2].parts
    assert (choice.kind, choice.decision, [part.name for part in choice.parts]) == ("OneOf", "shared", ["x", "y"])
    # whole in the first place only
    assert (again.parts[0].decision, again.parts[0].parts) == ("shared", ())
    assert block.kind == "Linear"


def test_a_network_is_copied_with_its_choices() -> None:
    net = OwnNetwork(nn.Sequential(OneOf("c", {"a": relu(), "b": linear()})))
    x, arch = torch.randn(2, D), answered(net, c="b")
    before = net(x, arch)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(x, arch).any()
    assert torch.equal(net(x, arch), before)


# ---------------------------------------------------------------- procedures
class Toy(Task):
    """Regression on a few numbers, called as the task of one's own would be: a child takes the
    inputs alone."""

    metric = METRICS["accuracy"]

    def __init__(self) -> None:
        self.dimensions: dict[str, int] = {}
        self.about = "numbers"

    @property
    def train_steps(self) -> int:
        return 3

    def train_batch(self, epoch: int, step: int) -> dict[str, Tensor]:
        return batch(100 * epoch + step)

    def loss(self, model: Any, arch: Any, batch: Any, progress: float = 1.0, child: int = 0) -> Tensor:
        out, more = model(batch) if arch is None else model(batch, arch)
        return F.mse_loss(out, batch["x"].flip(1)) + 0.0 * more["mean"]

    def reward_batch(self, step: int) -> dict[str, Tensor]:
        return batch(10_000 + step)

    @torch.no_grad()
    def reward(self, model: Any, arch: Any, batch: Any) -> float:
        model.eval()
        return float(torch.exp(-self.loss(model, arch, batch)))

    def evaluate(self, model: Any, arch: Any, part: Any) -> dict[str, float]:
        reward = self.reward(model, arch, batch(50_000))
        return {"accuracy": reward, "loss": 1 - reward, "reward": reward}

    def probabilities(self, model: Any, arch: Any, part: Any) -> Tensor:
        raise NotImplementedError

    def judged(self, probabilities: Tensor, part: Any) -> dict[str, float]:
        raise NotImplementedError


SPEC: Spec = (
    "branches",
    (
        ("one", (("norm",), ("some", (("linear",), ("tied",), ("tanh",)), None, "mixer")), False),
        ("repeat", (("residual", ("one", (("linear",), ("frozen",)), True)), ("linear",), ("again", 0)), 1),
    ),
)
SETTINGS = SearchSettings(
    epochs=2, children=2, controller_steps=2, architectures=3, probes=3, optimizer=OptimizerSettings(learning_rate=0.05)
)
POLICY = ReinforceSettings(controller=ControllerSettings(hidden=8))


def search(strategy: str) -> Search:
    net = OwnNetwork(network(SPEC), factory=partial(network, SPEC))
    make = STRATEGIES[strategy].make
    return Search(SETTINGS, Toy(), net, make(net.space, POLICY) if strategy == "reinforce" else make(net.space))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_runs_and_resumes(strategy: str) -> None:
    whole = search(strategy)
    state = None
    for i, _ in enumerate(whole.run()):
        if i == 4:
            kept = whole.state()
            state = type(kept)(
                {key: t.clone() for key, t in kept.tensors.items()}, json.loads(json.dumps(dict(kept.values)))
            )
    assert whole.epoch == 2
    assert state is not None
    again = search(strategy)
    again.load(state)
    for _ in again.run():
        pass
    assert equal(whole.state().tensors, again.state().tensors)


@pytest.mark.slow
def test_a_step_leaves_the_other_weights_alone_and_children_train() -> None:
    whole = search("reinforce")
    net: Any = whole.supernet
    before, shares = {name: p.detach().clone() for name, p in net.named_parameters()}, []
    for event in whole.run():
        changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
        if getattr(event, "phase", "") == "shared":
            used = {name for arch in event.archs for name in net.used(arch)}
            assert changed
            assert changed <= used
            shares.append(len(used) / len(before))
        else:
            assert not changed
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
    assert min(shares) < 1
    whole.preview(children=2, warm=1)
    uniform = RandomSearch(net.space)
    alone = ShortTraining(net.rebuilt, whole.task, OptimizerSettings(), batches=2)  # type: ignore[arg-type, return-value]
    derived = DeriveSettings(
        samples=4, keep=2, uniform=2, statistics="recalibrated", shortlist=3, finalists=2, finalist_steps=3
    )
    best = ranked(list(derive(derived, whole.task, net, whole.strategy, uniform, alone)), 1)[0].arch
    torch.manual_seed(1)
    retrain = Retrain(RetrainSettings(epochs=2), Toy(), net.child(best, fresh=True))
    losses = [event.loss for event in retrain.run() if hasattr(event, "loss")]
    assert len(losses) == 6


def test_a_task_of_the_package_searches_and_trains_it() -> None:
    data = load_data("digits", train=60, validation=40)
    task = ImageClassification(data, ImageClassificationSettings(batch_size=20, reward_batch=20))
    size, classes = task.dimensions["image_size"], task.dimensions["classes"]

    def make() -> nn.Module:
        head = nn.Linear(2 * (size - 2) ** 2, classes)
        return nn.Sequential(*list(own_image_network())[:3], head)

    net: Any = OwnNetwork(make(), factory=make)
    assert len(list(Search(SETTINGS, task, net, Reinforce(net.space, POLICY)).run())) == 2 * (3 + 2 + 1)
    arch = answered(net, conv="one", depth="3")
    final = list(Retrain(RetrainSettings(epochs=1), task, net.rebuilt(arch)).run())[-1]
    assert "test_accuracy" in final.metrics
    for steps in (1, 2):
        recalibrated(task, net, arch, steps)
    child = Child(net.child(arch))
    assert task.evaluate(child, None, "validation") == task.evaluate(net, arch, "validation")
    assert net.num_parameters(arch, aux=False) == sum(p.numel() for p in child.parameters())


# ---------------------------------------------------------------- cost
def deep(n: int, width: int) -> nn.Module:
    def option() -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU())

    return nn.Sequential(*(Residual(OneOf({"a": option(), "b": option(), "c": nn.Identity()})) for _ in range(n)))


@pytest.mark.slow
def test_a_view_costs_next_to_nothing() -> None:
    """Forward and backward of 50 choices, in turns with the child: at most 1.03 of its time."""
    torch.manual_seed(0)
    net = OwnNetwork(deep(50, 128))
    (arch,) = samples(net.space, 1)
    child, x = net.child(arch), torch.randn(128, 128)
    runs: list[Callable[[], Tensor]] = [lambda: net(x, arch), lambda: child(x)]
    ratios = []  # of medians: what a view costs is in all of them, what disturbs the machine is not
    for _ in range(5):
        times: list[list[float]] = [[], []]
        for i in range(50):
            for which in (0, 1) if i % 2 else (1, 0):
                start = process_time()
                runs[which]().sum().backward()
                times[which].append(process_time() - start)
        view, alone = map(median, times)
        ratios.append(view / alone)
    print(f"ratios of processor time: {', '.join(f'{ratio:.4f}' for ratio in ratios)}")
    assert min(ratios) <= 1.03
