"""The space of NAS-Bench-Macro: its published form, sizes and counts; its stages."""

from __future__ import annotations

import gzip
import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from enas.networks.nasbench_macro import NasBenchMacroNetwork, stages
from enas.networks.ops import NBMACRO_OPS, InvertedResidual, Shortcut, batch_norm, registered
from enas.networks.settings import NasBenchMacroNetworkSettings
from enas.runs.presets import registry as presets
from enas.spaces.architecture import Architecture
from enas.spaces.nasbench_macro import OPS, NasBenchMacroSettings, from_string, nasbench_macro, to_string
from repeats import repeats

SPACE = nasbench_macro()
SMALL = NasBenchMacroNetworkSettings(filters=4, head=16)
# Of the published table: parameters and multiply-adds on CIFAR-10.
PUBLISHED = {
    "22212220": (1_985_514, 85_164_544),  # the best
    "00000000": (387_882, 7_713_280),
    "11111111": (1_588_874, 53_246_464),
    "22222222": (2_932_586, 105_660_928),
    "02012100": (890_666, 47_327_744),
}


def published_network() -> NasBenchMacroNetwork:
    return NasBenchMacroNetwork(SPACE, NasBenchMacroNetworkSettings(), 3, 32, 10)


def multiply_adds(net: NasBenchMacroNetwork, arch: Architecture) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32, device=next(net.parameters()).device), arch)
    return counter.get_total_flops() // 2


def test_there_are_6561_chains() -> None:
    assert SPACE.size() == 6_561 == len(OPS) ** 8


def test_the_published_form_is_read_and_written() -> None:
    for arch in (SPACE.sample(random.Random(seed)) for seed in range(50)):
        assert from_string(to_string(arch)) == arch
    best = from_string(" 22212220\n", {"source": "table"})
    assert list(best.choices.values()) == ["mb6_k5"] * 3 + ["mb3_k3"] + ["mb6_k5"] * 3 + ["identity"]
    assert dict(best.provenance) == {"source": "table"}
    assert from_string("201").space == nasbench_macro(NasBenchMacroSettings(num_layers=3)).spec
    other = nasbench_macro(NasBenchMacroSettings(num_layers=1, ops=("mb9_k9",)))
    with pytest.raises(ValueError, match="has digits for identity, mb3_k3, mb6_k5; got 'mb9_k9'"):
        to_string(other.sample(random.Random(0)))


@pytest.mark.parametrize("text", ["", "2221222x", "2 2", "33333333", "²"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a digit per layer: 0 identity, 1 mb3_k3, 2 mb6_k5; got"):
        from_string(text)


# ------------------------------------------------------------------------------------- the counts
def test_the_published_counts() -> None:
    net = published_network()
    for text, (parameters, adds) in PUBLISHED.items():
        assert net.num_parameters(from_string(text)) == parameters
        assert multiply_adds(net, from_string(text)) == adds


@pytest.mark.slow
@pytest.mark.soak
def test_every_count_of_the_table_is_ours(data_dir: Path) -> None:
    """Parameters of a tenth of the 6,561 chains, in `make soak` of all; multiply-adds of a chain
    are those of its layers added up, and those are measured as what each op of each layer adds to a
    chain of identities."""
    with gzip.open(data_dir / "nasbench" / "nasbench_macro_cifar10.json.gz", "rt") as file:
        table: dict[str, dict[str, Any]] = json.load(file)
    assert table.keys() == {"".join(digits) for digits in product("012", repeat=8)}
    net = published_network().to("meta")
    least = multiply_adds(net, from_string("00000000"))
    more = {(k, "0"): 0 for k in range(8)}
    for k, digit in product(range(8), "12"):
        text = "0" * k + digit + "0" * (7 - k)
        more[k, digit] = multiply_adds(net, from_string(text)) - least
    built = set(random.Random(1).sample(sorted(table), repeats(656, len(table))))
    for text, entry in table.items():
        assert text not in built or net.num_parameters(from_string(text)) == entry["params"]
        assert least + sum(more[place] for place in enumerate(text)) == entry["flops"]
    for text in random.Random(0).sample(sorted(table), 20):
        assert multiply_adds(net, from_string(text)) == table[text]["flops"]
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for text, entry in table.items():
        parts = (text[0], text[1], text[2], text[3:5].replace("0", ""), text[5], text[6:].replace("0", ""))
        kinds.setdefault(parts, []).append(entry)
    assert len(kinds) == 3_969
    assert all(entry == entries[0] for entries in kinds.values() for entry in entries), "trained once, listed under all"


# --------------------------------------------------------------------------------- layers, stages
def test_stages() -> None:
    assert [stages(n) for n in (8, 1, 2, 3, 4, 12)] == [(2, 3, 3), (1,), (1, 1), (1, 1, 1), (1, 1, 2), (4, 4, 4)]
    net = published_network()
    assert net.marks() == {
        "stem": "32 x 32, 32 filters",
        **dict.fromkeys(("l1", "l2"), "16 x 16, 64 filters"),
        **dict.fromkeys(("l3", "l4", "l5"), "8 x 8, 128 filters"),
        **dict.fromkeys(("l6", "l7", "l8"), "4 x 4, 256 filters"),
    }
    firsts = [f"l{k}" for k in range(1, 9) if isinstance(net.at(f"layers.l{k}.identity"), Shortcut)]
    assert firsts == ["l1", "l3", "l6"]
    assert all(isinstance(net.at(f"layers.l{k}.identity"), nn.Identity) for k in (2, 4, 5, 7, 8))


def test_where_identities_stand_in_a_stage_changes_nothing() -> None:
    """As the publication has it, where the ops that are there share their weights: `0` after `1` is
    `1` after `0`."""
    net = NasBenchMacroNetwork(SPACE, SMALL, 3, 8, 10).eval()
    net.at("layers.l5.mb3_k3").load_state_dict(net.at("layers.l4.mb3_k3").state_dict())
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(net(x, from_string("11210222")), net(x, from_string("11201222")))
    assert not torch.equal(net(x, from_string("11210222")), net(x, from_string("11200222")))


@pytest.mark.parametrize("size", [8, 9])
def test_a_shortcut_is_a_1x1_of_stride_2(size: int) -> None:
    """Pixels are picked first, which is what the stride does."""
    shortcut = Shortcut(8, 16, 2, batch_norm).eval()
    x = torch.randn(2, 8, size, size)
    strided = nn.functional.conv2d(x, shortcut.conv.weight, stride=2)
    torch.testing.assert_close(shortcut(x), shortcut.norm(strided))


def test_an_inverted_residual_adds_its_input_where_shape_stays() -> None:
    x = torch.randn(2, 4, 6, 6)
    for channels, stride, adds in ((4, 1, True), (8, 1, False), (4, 2, False)):
        op = InvertedResidual(4, channels, stride, batch_norm, expansion=3, kernel=5)
        nn.init.zeros_(op.project[1].weight)  # its own part is nothing then
        y = op(x)
        assert y.shape == (2, channels, 6 // stride, 6 // stride)
        assert torch.equal(y, x if adds else torch.zeros_like(y))


# --------------------------------------------------------------------------------------- settings
def test_settings_are_checked() -> None:
    for wrong, says in (
        ({"num_layers": 0}, "space.num_layers is between 1 and 256"),
        ({"ops": ("a", "a")}, "distinct"),
        ({"ops": ()}, "distinct"),
        ({"ops": ("none", "identity")}, "are ops that compute something; got 'none'"),
    ):
        with pytest.raises(ValueError, match=says):
            NasBenchMacroSettings(**wrong)  # type: ignore[arg-type]
    for broken, message in (
        ({"filters": 0}, "network.filters is at least 1"),
        ({"head": 0}, "network.head is at least 1"),
        ({"stem_stride": 3}, "network.stem_stride is one of 1, 2"),
    ):
        with pytest.raises(ValueError, match=message):
            NasBenchMacroNetworkSettings(**broken)
    with pytest.raises(ValueError, match="3 stages and a stem of stride 2 need images of at least 16 pixels; got 8"):
        NasBenchMacroNetwork(SPACE, NasBenchMacroNetworkSettings(stem_stride=2), 3, 8, 10)
    with pytest.raises(ValueError, match="an op is one of identity, mb3_k3, mb6_k5; got 'mb9_k9'"):
        registered("mb9_k9", NBMACRO_OPS)


def test_widths_scale_together() -> None:
    published = NasBenchMacroNetworkSettings()
    assert published.widened(256) == published
    assert published.widened(64) == NasBenchMacroNetworkSettings(filters=8, head=320)
    for highest in (4, 30):
        with pytest.raises(ValueError, match=f"a multiple of 8, .* got {highest}"):
            published.widened(highest)
    with pytest.raises(ValueError, match="the 3 channels before the classifier"):
        NasBenchMacroNetworkSettings(filters=4, head=3).widened(16)


def test_recipes_keep_the_proportions_of_the_network() -> None:
    published = presets.config_of("nasbench_macro", "paper").network
    quick = presets.config_of("nasbench_macro", "quick")
    for network in (quick.network, quick.retrain.network):
        assert network.head * published.filters == published.head * network.filters
