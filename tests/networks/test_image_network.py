"""Laws of the networks for images: what their base class gives them, and what begins in the
stem."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from enas.networks.image_network import ImageNetwork, ImageNetworkSettings
from enas.networks.micro import MicroNetwork, MicroSettings
from enas.networks.references.images import DenseLayer, make_densenet_bc
from enas.networks.registry import BACKBONES
from enas.spaces.registry import SPACES

ENTRIES = {
    name: (space, BACKBONES[space.backbone])
    for name, space in ((name, entry.make(entry.settings())) for name, entry in SPACES.items() if entry.small)
    if issubclass(BACKBONES[space.backbone].settings, ImageNetworkSettings)
}
every_space = pytest.mark.parametrize("name", ENTRIES)


def network(name: str, **changes: Any) -> ImageNetwork[Any]:
    space, entry = ENTRIES[name]
    net = entry.make(space, replace(entry.small, **changes), channels=3, image_size=16, classes=10)
    assert isinstance(net, ImageNetwork)
    return net


def highest(net: ImageNetwork[Any]) -> int:
    return net.positions[-1].channels if isinstance(net, MicroNetwork) else net.width(max(net.level.values(), default=2))


@pytest.mark.slow
@every_space
def test_a_widened_network_has_as_many_filters_in_its_highest_layer(name: str) -> None:
    settings = ENTRIES[name][1].small
    variants = [settings]
    if name == "conv_macro":
        variants = [replace(settings, double_filters=double, reductions=n) for double in (True, False) for n in (1, 2)]
    for small in variants:
        wide = small.widened(32)
        assert highest(network(name, **vars(wide))) == 32
        with pytest.raises(ValueError, match="got 0"):
            small.widened(0)


@every_space
def test_architectures_that_are_scored_on_one_batch_share_the_stem(name: str) -> None:
    net, x, rng = network(name).eval(), torch.randn(4, 3, 16, 16), random.Random(0)
    calls: list[int] = []
    net.at("stem").register_forward_hook(lambda *_: calls.append(1))
    archs = [net.space.sample(rng) for _ in range(4)]
    with torch.no_grad():
        fresh = [net(x, arch) for arch in archs]
        assert len(calls) == 4
        with net.remembering():
            assert all(torch.equal(net(x, arch), logits) for arch, logits in zip(archs, fresh, strict=True))
    assert len(calls) == 5


@pytest.mark.parametrize("name", ["conv_micro", "nasbench_macro"])
def test_a_relu_follows_the_stem(name: str) -> None:
    """Where the stem gives nothing above zero, no image differs from another."""
    net = network(name).eval()
    norm = net.at("stem")[1]
    assert isinstance(norm, nn.BatchNorm2d)
    arch = net.space.sample(random.Random(1))
    with torch.no_grad():
        norm.bias.fill_(-100)
        logits = net(torch.randn(4, 3, 16, 16), arch)
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


def test_the_classifier_of_cells_begins_with_the_fan_in_of_all_loose_ends() -> None:
    space, _ = ENTRIES["conv_micro"]
    torch.manual_seed(0)
    net = MicroNetwork(space, MicroSettings(filters=32, cells=1, reductions=1), 3, 16, 100)
    nodes, width = len(space.cells[0].nodes), net.positions[-1].channels
    weights = torch.cat([net.at(f"classifier.{node.name}").weight for node in space.cells[0].nodes])
    assert float(weights.detach().std()) == pytest.approx((2 / (nodes * width)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("parameters", "layers"), [(499_999, 18), (500_000, 48)])
def test_the_depth_of_a_densenet_follows_its_budget(parameters: int, layers: int) -> None:
    model = make_densenet_bc({"channels": 3, "classes": 10}, ENTRIES["conv_micro"][1].small, parameters)
    assert sum(isinstance(module, DenseLayer) for module in model.modules()) == layers
    assert 0.5 * parameters < model.num_parameters() <= parameters
