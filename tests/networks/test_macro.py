"""The macro space and its network: Fig. 3, both forms, reductions, counts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from enas.networks.macro import MacroNetwork, cuts
from enas.networks.ops import LAYER_OPS, batch_norm, make_op
from enas.networks.settings import MacroSettings
from enas.spaces.architecture import Architecture
from enas.spaces.cells import MERGED
from enas.spaces.conv_macro import OPS, ConvMacroSettings, conv_macro, from_tokens
from enas.spaces.published import named
from enas.spaces.space import SearchSpace
from enas.state import seeded

SMALL = MacroSettings(filters=4, dropout=0.0)
FORMS = ["paper", "released"]


def network(space: SearchSpace, settings: MacroSettings = SMALL, size: int = 16, **more: object) -> MacroNetwork:
    with seeded("macro"):
        return MacroNetwork(space, settings, channels=3, image_size=size, classes=10, **more)  # type: ignore[arg-type]


def of(space: SearchSpace, ops: list[str], skips: dict[str, list[str]] | str = "none") -> Architecture:
    """Ops by layer; skips by layer, or all of them, or none."""
    choices: dict[str, object] = {}
    for decision in space.decisions:
        _, layer, part = decision.name.split(".")
        if part == "op0":
            choices[decision.name] = ops[int(layer[1:]) - 1]
        elif isinstance(skips, str):
            choices[decision.name] = list(decision.options) if skips == "all" else []
        else:
            choices[decision.name] = skips.get(layer, [])
    return space.architecture(choices)


# ------------------------------------------------------------------------------------------ space
def test_the_papers_count() -> None:
    assert conv_macro().size() == 6**12 * 2**66 == conv_macro().paper_size
    assert f"{conv_macro().size():.1e}" == "1.6e+29"  # paper 2.3
    assert conv_macro(ConvMacroSettings(form="released")).size() == 6**12 * 2**66


def test_decisions_are_op_then_subset() -> None:
    names = [decision.name for decision in conv_macro(ConvMacroSettings(num_layers=3)).decisions]
    assert names == ["network.l1.op0", "network.l2.op0", "network.l2.skips", "network.l3.op0", "network.l3.skips"]


def test_figure_3() -> None:
    """Four layers; layer 4 chooses {1, 3}: their outputs are concatenated and sent to layer 4
    (paper 2.3, Fig. 3)."""
    space = conv_macro(ConvMacroSettings(num_layers=4))
    skips = {"l2": ["l1"], "l3": ["l2"], "l4": ["l1", "l3"]}
    arch = of(space, ["conv_3x3", "conv_5x5", "max_pool_3x3", "conv_5x5"], skips)
    cell = space.wire(arch)["network"]
    assert [(node.name, node.edges[0].op, node.reads) for node in cell.nodes] == [
        ("l1", "conv_3x3", ("stem",)),
        ("l2", "conv_5x5", ("l1",)),
        ("l3", "max_pool_3x3", ("l2",)),
        ("l4", "conv_5x5", ("l1", "l3")),
    ]
    # By hand, in torch's own functions, without reductions.
    net = network(space, replace(SMALL, reductions=0)).train()
    x = torch.randn(5, 3, 16, 16)
    at = net.at

    def norm(x: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
        return F.batch_norm(x, None, None, module.weight, module.bias, training=True, eps=module.eps)

    def conv(x: torch.Tensor, layer: str, op: str) -> torch.Tensor:
        _, convolution, bn = at(f"layers.{layer}.{op}")
        return norm(F.conv2d(F.relu(x), convolution.weight, padding="same"), bn)

    def merge(layer: str, *sources: tuple[str, torch.Tensor]) -> torch.Tensor:
        weight = torch.cat([at(f"merge.{layer}.{name}").weight for name, _ in sources], 1)
        y = F.conv2d(torch.cat([value for _, value in sources], 1), weight)
        return F.relu(norm(y, at(f"merge.{layer}.norm")))

    stem = norm(F.conv2d(x, at("stem")[0].weight, padding=1), at("stem")[1])
    l1 = conv(stem, "l1", "conv_3x3")
    l2 = conv(merge("l2", ("l1", l1)), "l2", "conv_5x5")
    l3 = F.max_pool2d(merge("l3", ("l2", l2)), 3, 1, 1)
    l4 = conv(merge("l4", ("l1", l1), ("l3", l3)), "l4", "conv_5x5")
    logits = at("classifier")(F.relu(l4).mean((2, 3)))
    torch.testing.assert_close(net(x, arch), logits, rtol=1e-4, atol=1e-5)


def test_with_none_chosen_the_op_reads_the_preceding_layer() -> None:
    space = conv_macro(ConvMacroSettings(num_layers=3))
    cell = space.wire(of(space, ["conv_3x3"] * 3))["network"]
    assert [node.reads for node in cell.nodes] == [("stem",), ("l1",), ("l2",)]
    assert not any(node.merged for node in cell.nodes)


def test_released_skips_are_of_the_stem_and_of_layers_before_the_preceding() -> None:
    space = conv_macro(ConvMacroSettings(num_layers=4, form="released"))
    cell = space.wire(of(space, ["conv_3x3"] * 4, "all"))["network"]
    assert [(node.edges[0].input, node.skips) for node in cell.nodes] == [
        ("stem", ()),
        ("l1", ("stem",)),
        ("l2", ("stem", "l1")),
        ("l3", ("stem", "l1", "l2")),
    ]
    assert MERGED not in {edge.input for node in cell.nodes for edge in node.edges}


def test_layers_that_the_last_does_not_depend_on_are_pruned() -> None:
    space = conv_macro(ConvMacroSettings(num_layers=4))
    arch = of(space, ["conv_3x3"] * 4, {"l2": ["l1"], "l3": ["l1"], "l4": ["l2"]})
    assert [node.name for node in space.wire(arch)["network"].nodes] == ["l1", "l2", "l4"]
    assert not any(".l3." in address for address in network(space).used(arch))


@pytest.mark.parametrize(
    ("tokens", "says"),
    [("", "no tokens"), ("0 x", "whole numbers"), ("0 1", "skips of 0 or 1"), ("0 1 2", "got 1 and [2]"), ("6", "0 to 5")],
)
def test_wrong_tokens(tokens: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("[", r"\[")):
        from_tokens(tokens)


def test_tokens() -> None:
    arch = from_tokens("0  3 1  5 0 1")
    assert dict(arch.choices) == {
        "network.l1.op0": "conv_3x3",
        "network.l2.op0": "sep_conv_5x5",
        "network.l2.skips": ("stem",),
        "network.l3.op0": "max_pool_3x3",
        "network.l3.skips": ("l1",),
    }


# ---------------------------------------------------------------------------------------- network
def drawn(form: str, n: int) -> tuple[SearchSpace, list[Architecture]]:
    """Random networks of 8 layers; the first are of pools only, without skips, and with all."""
    space = conv_macro(ConvMacroSettings(num_layers=8, form=form))  # type: ignore[arg-type]
    rng = random.Random(form)
    pools = ["avg_pool_3x3", "max_pool_3x3"] * 4
    convs = list(OPS[:4]) * 2
    special = [of(space, ops, skips) for ops in (pools, convs) for skips in ("none", "all")]
    return space, [*special, *(space.sample(rng) for _ in range(n - len(special)))]


def closed_form(arch: Architecture, settings: MacroSettings, space: SearchSpace) -> int:
    """docs/decisions.md: parameters of a macro child from its wired layers alone."""
    nodes = space.wire(arch)["network"].nodes
    L = len(space.cells[0].nodes)
    level = {"stem": 0} | {f"l{k}": sum(cut < k for cut in cuts(L, settings.reductions)) for k in range(1, L + 1)}
    C = [settings.filters * (2**i if settings.double_filters else 1) for i in range(3)]
    deepest = {nodes[-1].name: settings.reductions}
    total = 3 * 9 * C[0] + 2 * C[0]
    for node in nodes:
        c, op = C[level[node.name]], node.edges[0].op
        k = int(op[-1])
        total += {"conv": k * k * c * c + 2 * c, "sep": k * k * c + c * c + 2 * c}.get(op.split("_")[0], 0)
        total += (c * c + 2 * c) * settings.entry_conv
        sources = len(node.skips) + (node.skips != () and not node.merged)
        total += sources * c * c + 2 * c * bool(node.skips)
        for name in node.reads:
            deepest[name] = max(deepest.get(name, 0), level[node.name])
    for name, deep in deepest.items():
        total += sum(C[i] * C[i + 1] + 2 * C[i + 1] for i in range(level[name], deep))
    return total + 10 * C[settings.reductions] + 10


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("double", [False, True])
def test_random_networks_train_agree_and_count(form: str, double: bool) -> None:
    settings = replace(SMALL, double_filters=double, entry_conv=double)
    space, archs = drawn(form, 12)
    net = network(space, settings)
    every = dict(net.named_parameters())
    x, y = torch.randn(4, 3, 16, 16), torch.randint(10, (4,))
    for arch in archs:
        child = net.child(arch)
        count = sum(parameter.numel() for parameter in child.parameters())
        assert count == net.num_parameters(arch) == closed_form(arch, settings, space)
        F.cross_entropy(net(x, arch), y).backward()
        F.cross_entropy(child(x), y).backward()
        for name, parameter in child.named_parameters():
            shared = every[name]
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, shared.grad, rtol=1e-3, atol=1e-4)
            shared.grad = None
        assert all(parameter.grad is None for parameter in net.parameters())
        torch.testing.assert_close(child(x), net(x, arch), rtol=1e-4, atol=1e-5)


def test_reductions_stand_after_a_third_and_two_and_only_where_something_is_read() -> None:
    assert cuts(12, 2) == (4, 8)
    assert cuts(24, 2) == (8, 16)
    assert cuts(2, 2) == (1,)
    assert cuts(1, 2) == ()
    space = conv_macro()
    net = network(space)
    skips = {f"l{k}": [f"l{k - 1}"] for k in range(2, 13)}
    only = [address for address in net.used(of(space, ["conv_3x3"] * 12, skips)) if address.startswith("reductions")]
    assert only == ["reductions.0.l4", "reductions.1.l8"]
    skips["l12"] = ["l1", "l11"]
    more = [address for address in net.used(of(space, ["conv_3x3"] * 12, skips)) if address.startswith("reductions")]
    assert set(more) - set(only) == {"reductions.0.l1", "reductions.1.l1"}


def test_the_released_network_and_its_width() -> None:
    arch = named("enas_macro")
    space = conv_macro(ConvMacroSettings(num_layers=24, form="released"))
    assert arch.space == {"name": "conv_macro", "num_layers": 24, "form": "released"}
    ops = [arch.choices[f"network.l{k}.op0"] for k in range(1, 25)]
    assert [ops.count(op) for op in OPS] == [8, 2, 9, 5, 0, 0]
    dense = space.architecture({k: v.replace("sep_", "") if isinstance(v, str) else v for k, v in arch.choices.items()})

    def count(arch: Architecture, filters: int, entry: bool = True) -> int:
        settings = MacroSettings(filters=filters, double_filters=True, entry_conv=entry)
        with torch.device("meta"):
            return closed_form(arch, settings, space)

    assert count(arch, 96) == 30_891_370  # truly separable
    assert count(dense, 96) == 42_503_338  # as the released final network builds them
    assert count(arch, 96, entry=False) == 29_332_330
    for which in (arch, dense):
        # paper: 38.0 M / 21.3 M
        assert count(which, 128) / count(which, 96) == pytest.approx(1.78, abs=0.02)
    small = MacroNetwork(space, MacroSettings(filters=6, double_filters=True, entry_conv=True), 3, 32, 10, only=arch)
    assert small.num_parameters() == count(arch, 6)


@pytest.mark.parametrize("form", FORMS)
def test_a_merge_without_a_norm_starts_by_hes_rule_for_all_its_sources(form: str) -> None:
    """Variance 2 / fan-in, where the fan-in is that of the concat; each merging 1x1 holds one
    source's part of it."""
    space = conv_macro(ConvMacroSettings(form=form, num_layers=4))
    arch = of(space, ["max_pool_3x3"] * 4, "all")
    for norm in (False, True):
        net = network(space, replace(SMALL, filters=48, merge_norm=norm), only=arch)
        weights = {name: p.detach() for name, p in net.named_parameters() if p.ndim == 4}
        for node in space.wire(arch)["network"].nodes:
            parts = [weight for name, weight in weights.items() if f"merge.{node.name}." in name]
            assert len(parts) == len(node.skips) + (form == "released" and bool(node.skips))
            for part in parts:
                fan_in = part.shape[1] * (1 if norm else len(parts))
                assert float(part.std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", LAYER_OPS)
def test_layer_ops_keep_the_size_and_refuse_unknown_names(name: str) -> None:
    x = torch.randn(2, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    assert make_op(name, 6, 1, batch_norm, LAYER_OPS)(x).shape == x.shape
    with pytest.raises(ValueError, match="an op is one of"):
        make_op(f"{name}x", 6, 1, batch_norm, LAYER_OPS)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"filters": 0}, "network.filters is at least 1"),
        ({"reductions": 3}, "network.reductions is one of 0, 1, 2"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_wrong_settings(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_an_image_can_be_too_small() -> None:
    with pytest.raises(ValueError, match="need images of at least 4"):
        network(conv_macro(), size=3)
