"""Laws of choices in a network of one's own, over networks that hypothesis makes: nested, shared and tied, with tuples and
dicts; and examples of what else a network may hold."""

from __future__ import annotations

import copy
import io
import json
import operator
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial, reduce
from statistics import median
from time import perf_counter
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
from enas.procedures.derive import derive, ranked
from enas.procedures.halving import Alone
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.procedures.settings import DeriveSettings, OptimizerSettings, RetrainSettings, SearchSettings
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice, OpSubset, When
from enas.spaces.space import SearchSpace
from enas.strategies.random_search import RandomSearch
from enas.strategies.registry import STRATEGIES
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ControllerSettings, ReinforceSettings
from enas.tasks.image_classification import ImageClassification, ImageClassificationSettings
from enas.tasks.metrics import METRICS
from enas.tasks.task import Task
from laws import one_line, samples

D = 3  # features of every part


# ------------------------------------------------------------------------------------------------------ networks to try
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
        update(optimizer, used, 0.1, 0.0)
        assert {name for name, p in net.named_parameters() if not torch.equal(p, before[name])} <= trained
        fresh = net.child(arch, fresh=True)
        assert fresh.state_dict().keys() == child.state_dict().keys()
        fresh.load_state_dict(net.slice(arch))
        assert all(map(torch.equal, flat(fresh.eval()(batch())), flat(net.eval()(batch(), arch))))
        net.train()


@settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(NETWORKS)
def test_laws_of_all_networks(spec: Spec) -> None:
    obeys_the_laws(spec, 2)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.recursive(LEAVES, specs, max_leaves=20))
def test_laws_of_large_networks(spec: Spec) -> None:
    obeys_the_laws(spec, 4)
