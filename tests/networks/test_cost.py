"""Costs before anything is built: laws over the registries."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from enas.networks import kernels
from enas.networks.attributed import REST
from enas.networks.choices import OneOf, Repeat, SomeOf
from enas.networks.cost import Bill, OwnBill, answered, countable, example_of, key
from enas.networks.own import OwnNetwork
from enas.networks.registry import BACKBONES
from enas.spaces.architecture import Architecture
from enas.spaces.registry import SPACES
from enas.spaces.space import SearchSpace
from laws import FULL, SMALL

IMAGES, WORDS = {"channels": 3, "image_size": 16, "classes": 10}, {"vocabulary": 30}


def dimensions(space: SearchSpace) -> dict[str, int]:
    return WORDS if space.backbone == "recurrent" else IMAGES


def network(space: SearchSpace, settings: Any = None, only: Architecture | None = None, device: str = "cpu") -> Any:
    entry = BACKBONES[space.backbone]
    with torch.device(device):
        return entry.make(
            space, countable(settings or entry.small), **dimensions(space), only=only, statistics="running"
        ).eval()


@cache
def bill_of(name: str) -> Bill:
    space = SMALL.get(name) or FULL[name]
    return Bill(network(space, device="meta"), example_of(dimensions(space)))


def by_torch(space: SearchSpace, arch: Architecture, settings: Any = None) -> tuple[int, int]:
    """Parameters and multiply-accumulates of the built child, by torch's own counter."""
    child = network(space, settings, arch)
    example = example_of(dimensions(space), "cpu")
    with kernels.without("pool"), FlopCounterMode(display=False) as counter, torch.no_grad():
        answered(child(*example))
    return child.num_parameters(aux=False), counter.get_total_flops() // 2


REGISTERED = [name for name, space in SMALL.items() if space.backbone in BACKBONES]


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTERED)
def test_costs_are_those_of_the_built_child(name: str) -> None:
    space, bill = SMALL[name], bill_of(name)
    for arch in space.samples(random.Random(0), 6)[0]:
        costs = bill.of(arch)
        assert (costs.parameters, costs.macs) == by_torch(space, arch)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_full_spaces_too(name: str) -> None:
    bill = Bill(network(FULL[name], device="meta"), example_of(dimensions(FULL[name])), batch=7)
    for arch in FULL[name].samples(random.Random(1), 2)[0]:
        costs = bill.of(arch)
        assert (costs.parameters, costs.macs) == by_torch(FULL[name], arch)


@pytest.mark.slow
def test_settings_that_change_the_network_change_its_costs() -> None:
    micro = BACKBONES["micro"].small
    space = SMALL["conv_micro"]
    for settings in (
        replace(micro, extra_calibration=True, head_norm=True),
        replace(micro, merge_norm=False, reductions=3, stem_stride=2),
    ):
        bill = Bill(network(space, settings, device="meta"), example_of(IMAGES))
        for arch in space.samples(random.Random(0), 3)[0]:
            assert bill.of(arch).values()[:2] == by_torch(space, arch, settings)


def saved(child: Any, example: Any) -> int:
    """Bytes of the activations that autograd keeps of one training step, each tensor once."""
    weights = {p.untyped_storage().data_ptr() for p in child.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach() if tensor.requires_grad else tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = child.train()(*example)
        total = sum(kept.values())
    del out
    return total


@pytest.mark.parametrize("name", ["conv_micro", "conv_macro", "nasbench201", "nasbench_macro"])
def test_memory_grows_with_the_batch_and_is_about_what_autograd_keeps(name: str) -> None:
    space, batch = SMALL[name], 16
    bill = Bill(network(space, device="meta"), example_of(IMAGES), batch=batch)
    for arch in space.samples(random.Random(2), 4)[0]:
        # a cell that may be empty leaves a head that learns alone
        if "none" in arch.choices.values():
            continue
        settings = replace(BACKBONES[space.backbone].small, **({"aux_weight": 0.0} if name == "conv_micro" else {}))
        child = network(space, settings, arch)
        counted = bill.of(arch).memory
        assert counted == batch * bill_of(name).of(arch).memory
        assert 0.8 * counted < saved(child, (torch.rand(batch, 3, 16, 16),)) < 1.4 * counted


def test_a_recurrent_cell_keeps_twice_what_its_products_read() -> None:
    """By the plain computation, at one token; so docs/commands.md says."""
    space, batch = SMALL["rnn_cell"], 16
    bill = Bill(network(space, device="meta"), example_of(WORDS), batch=batch)
    for arch in space.samples(random.Random(2), 4)[0]:
        kept = saved(network(space, None, arch), (torch.zeros(1, batch, dtype=torch.long),))
        assert 1.7 < kept / bill.of(arch).memory < 2.6


def test_what_no_address_shares_is_counted_where_it_stands() -> None:
    bill = bill_of("nasbench201")
    archs = list(SMALL["nasbench201"].enumerate())
    empty = next(arch for arch in archs if set(arch.choices.values()) == {"none"})
    costs = bill.of(empty)
    assert costs.parameters == sum(p.numel() for a in ("norm", "classifier") for p in bill.network.at(a).parameters())
    assert costs.macs == 10 * bill.network.at("classifier").in_features
    assert costs.latency is None


def test_latencies_are_sums_over_addresses() -> None:
    space = SMALL["nasbench201"]
    bill = Bill(network(space, device="meta"), example_of(IMAGES))
    arch = space.sample(random.Random(0))
    bill.of(arch)
    names = [key(bill.alike(address)) for address in [REST, *bill.used(arch)]]
    bill.priced(dict.fromkeys(names, 2.0))
    assert bill.of(arch).latency == 2.0 * len(names)


# ------------------------------------------------------------------------- networks of one's own
class Shared(nn.Module):
    """A convolution that two options use, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first = OneOf("first", {"a": conv, "b": nn.Identity(), "twice": nn.Sequential(conv, conv)})
        self.more = SomeOf("more", {"same": conv, "wide": nn.Conv2d(3, 3, 5, padding=2)})
        self.depth = Repeat("depth", [nn.Conv2d(3, 3, 1) for _ in range(3)])
        self.out = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.depth(self.more(self.first(x))).mean((2, 3)))


def test_networks_of_ones_own_count_what_their_children_have() -> None:
    supernet = OwnNetwork(Shared())
    x = torch.rand(2, 3, 8, 8)
    bill = OwnBill(supernet, lambda model: model(x), batch=4, examples=2)
    costs = {}
    for arch in supernet.space.enumerate():
        child = supernet.child(arch).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            child(x[:1])
        found = bill.of(arch)
        assert found.parameters == sum(p.numel() for p in child.parameters())
        assert found.macs == counter.get_total_flops() // 2
        costs[arch] = found
    assert len({c.parameters for c in costs.values()}) > 4
    assert np.isfinite([c.memory for c in costs.values()]).all()


def test_every_registered_space_with_a_network_is_held_to_the_law() -> None:
    assert {SMALL[name].name for name in REGISTERED} == {name for name, entry in SPACES.items() if entry.small}
