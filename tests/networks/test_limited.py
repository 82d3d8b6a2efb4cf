"""Limits on the costs of real networks: what is allowed after every prefix is what a table of the
built children's costs allows."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from enas.networks import limited
from enas.networks.choices import OneOf, Repeat, SomeOf
from enas.networks.cost import Bill, OwnBill, example_of
from enas.networks.own import OwnNetwork
from enas.networks.registry import BACKBONES
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.costs import KINDS, Costs, Limits
from enas.spaces.limits.cells import CellsLimit
from enas.spaces.limits.layers import LayersLimit
from enas.spaces.limits.table import TableLimit
from enas.spaces.limits.tree import TreeLimit
from enas.spaces.limits.witness import WitnessLimit
from enas.spaces.space import SearchSpace
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ReinforceSettings
from laws import agree_everywhere, feasible, p_value

FEW = ("sep_conv_3x3", "max_pool_3x3")
SPACES = {
    "micro": conv_micro(ConvMicroSettings(num_nodes=1, ops=(*FEW, "identity"))),
    "macro": conv_macro(ConvMacroSettings(num_layers=3, ops=FEW)),
    "macro released": conv_macro(ConvMacroSettings(num_layers=3, ops=FEW, form="released")),
}
NAMES = {"parameters": "max_params", "macs": "max_macs", "memory": "max_memory"}


@cache
def known(name: str) -> tuple[Bill, dict[Architecture, Costs]]:
    space = SPACES[name]
    entry, data = BACKBONES[space.backbone], {"channels": 3, "image_size": 16, "classes": 10}
    settings = replace(entry.small, reductions=2, cells=1, extra_calibration=True) if name == "micro" else entry.small
    with torch.device("meta"):
        bill = Bill(entry.make(space, settings, **data, statistics="running"), example_of(data))
    bill.see_all()
    return bill, {arch: bill.of(arch) for arch in space.enumerate()}


def limits_at(costs: dict[Architecture, Costs], kind: str, share: float) -> Limits:
    values = [found.of(kind) for found in costs.values()]
    return Limits(**{NAMES[kind]: int(np.quantile(values, share, method="lower"))})


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", SPACES)
def test_prices_of_cells_and_layers_are_exact(name: str, kind: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited, "SMALL", 0)  # no table, however small the space
    bill, costs = known(name)
    space, limits = SPACES[name], limits_at(costs, kind, share)
    limit = limited.limited(space, limits, bill).limit
    assert isinstance(limit, CellsLimit if name == "micro" else LayersLimit)
    table = TableLimit(space, limits, costs.__getitem__)
    agree_everywhere(space, limit, table, feasible(space, limits, costs.__getitem__))


def asks_as_it_says(space: SearchSpace, within: set[Architecture]) -> None:
    """A taught policy draws only what is within, as often as it scores it; its probabilities sum
    to 1 over that."""
    strategy = Reinforce(space, ReinforceSettings(learning_rate=0.02, normalise=True))
    target = space.sample(random.Random(0))
    for _ in range(12):
        archs = strategy.ask(16)
        strategy.tell(archs, [len(set(arch.choice_items) & set(target.choice_items)) for arch in archs])
    whole = list(within)
    with torch.no_grad():
        probability = strategy.controller.score(whole).log_prob.double().exp()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-4)
    assert float(probability.max()) > 1.5 / len(whole), "it has learned something"
    drawn = strategy.ask(1500)
    assert set(drawn) <= within
    assert p_value(drawn, dict(zip(whole, probability.tolist(), strict=True))) > 1e-3


@pytest.mark.parametrize("name", SPACES)
def test_a_policy_under_a_limit_asks_as_it_scores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the prices of real networks, and not by a table."""
    monkeypatch.setattr(limited, "SMALL", 0)
    bill, costs = known(name)
    limits = limits_at(costs, "macs", 0.2)
    asks_as_it_says(limited.limited(SPACES[name], limits, bill), feasible(SPACES[name], limits, costs.__getitem__))


# ------------------------------------------------------------------------------ networks of a user
def layer(width: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(4, 4, width, stride, width // 2)


def own(strides: tuple[int, int]) -> tuple[SearchSpace, OwnBill]:
    inner = OneOf("inner", {"1": layer(1), "5": layer(5)})
    net = nn.Sequential(
        OneOf("first", {"plain": layer(3, strides[0]), "nested": nn.Sequential(inner, layer(1, strides[1]))}),
        SomeOf("some", {"1": layer(1), "3": layer(3), "none": nn.Identity()}),
        Repeat("depth", [layer(3), layer(1), layer(5)]),
    )
    supernet = OwnNetwork(net)
    x = torch.rand(1, 4, 8, 8)
    return supernet.space, OwnBill(supernet, lambda model: model(x), batch=2)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(("strides", "expected"), [((1, 1), TreeLimit), ((1, 2), WitnessLimit)])
def test_ones_own_networks_obey(
    strides: tuple[int, int], expected: type, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where options change the shape, multiply-accumulates and memory do not add up: then only what
    obeys is allowed, and from everywhere there is a way on."""
    monkeypatch.setattr(limited, "COUNTED", 0)
    space, bill = own(strides)
    costs = {arch: bill.of(arch) for arch in space.enumerate()}
    limits = limits_at(costs, kind, 0.3)
    limit = limited.limited(space, limits, bill).limit
    within = feasible(space, limits, costs.__getitem__)
    assert 0 < len(within) < len(costs)
    if kind == "parameters" or expected is TreeLimit:
        assert isinstance(limit, TreeLimit)
        agree_everywhere(space, limit, TableLimit(space, limits, costs.__getitem__), within)
        if kind == "macs":
            asks_as_it_says(replace(space, limit=limit), within)
        return
    assert isinstance(limit, WitnessLimit)
    reached = set(replace(space, limit=limit).enumerate())
    if kind == "macs":
        asks_as_it_says(replace(space, limit=limit), reached)
    assert reached
    assert reached <= within
    assert KINDS[:3] == tuple(NAMES)
