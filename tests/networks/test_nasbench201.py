"""The space of NAS-Bench-201: its published form, sizes and counts; cells that lead nowhere."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from enas.networks.nasbench201 import NasBench201Network
from enas.networks.settings import NasBench201NetworkSettings
from enas.spaces.architecture import Architecture
from enas.spaces.nasbench201 import OPS, NasBench201Settings, from_string, nasbench201, to_string

SPACE = nasbench201()
ALL_3X3 = from_string("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")
SMALL = NasBench201NetworkSettings(filters=4, cells=1)


def cell(*ops: str) -> Architecture:
    names = [d.name for d in SPACE.decisions]
    return SPACE.architecture(dict(zip(names, ops, strict=True)))


def test_there_are_15625_cells() -> None:
    assert SPACE.size() == 15_625 == len(OPS) ** 6


def test_the_published_form_is_read_and_written() -> None:
    for arch in (SPACE.sample(random.Random(seed)) for seed in range(50)):
        assert from_string(to_string(arch)) == arch
    assert cell(*["nor_conv_3x3"] * 6) == ALL_3X3
    three = nasbench201(NasBench201Settings(num_nodes=3))
    assert from_string("|none~0|+|skip_connect~0|none~1|").space == three.spec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("|skip_connect~0|+|none~0|", r"node 2 of a cell is \|op~0\|"),
        ("skip_connect~0", "node 1 of a cell"),
        ("|skip_connect~1|", "node 1 of a cell"),
        ("|skip_connect|", "node 1 of a cell"),
        ("", "node 1 of a cell"),
        ("|sep_conv~0|", "takes one of none, skip_connect, .*; got 'sep_conv'"),
    ],
)
def test_other_forms_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_string(text)


@pytest.mark.slow
def test_every_cell_of_the_table_is_one(data_dir: Path) -> None:
    with gzip.open(data_dir / "nasbench" / "nasbench201.csv.gz", "rt") as file:
        texts = [row["arch"] for row in csv.DictReader(file)]
    archs = [from_string(text) for text in texts]
    assert len(set(archs)) == 15_625
    assert [to_string(arch) for arch in archs] == texts


def test_the_published_counts() -> None:
    """The largest cell has 1.531546 M parameters and 220.12 M multiply-adds on CIFAR-10 (Dong &
    Yang 2020, its API)."""
    net = NasBench201Network(SPACE, NasBench201NetworkSettings(), 3, 32, 10, only=ALL_3X3)
    assert net.num_parameters() == 1_531_546
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 3, 32, 32))
    assert round(counter.get_total_flops() / 2e6, 2) == 220.12


def test_edges_that_lead_nowhere_are_not_run() -> None:
    """Node 1 has nothing to read, so what reads it has nothing either; node 2 is read by nobody."""
    arch = cell("none", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "none")
    (node,) = SPACE.wire(arch)["cell"].nodes
    assert [(edge.input, edge.op) for edge in node.edges] == [("n0", "skip_connect")]


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_a_cell_without_a_way_through_gives_zeros(statistics: str) -> None:
    dead = cell("nor_conv_3x3", "none", "none", "none", "none", "nor_conv_3x3")
    assert SPACE.wire(dead)["cell"].outputs == ()
    net = NasBench201Network(SPACE, SMALL, 3, 8, 10, statistics=statistics)  # type: ignore[arg-type]
    assert net.used(dead) == ["norm", "classifier"]
    for x in (torch.zeros(4, 3, 8, 8), torch.randn(4, 3, 8, 8)):
        logits = net(x, dead)
        assert torch.allclose(logits, logits[0].expand_as(logits)), "no image can be told from another"
        assert torch.equal(net.child(dead)(x), net(x, dead))


def test_settings_are_checked() -> None:
    for wrong, says in (({"num_nodes": 1}, "space.num_nodes is between 2 and 64"), ({"ops": ("a", "a")}, "distinct")):
        with pytest.raises(ValueError, match=says):
            NasBench201Settings(**wrong)  # type: ignore[arg-type]
    for broken, message in (
        ({"filters": 0}, "network.filters"),
        ({"stem_stride": 3}, "network.stem_stride is one of 1, 2"),
    ):
        with pytest.raises(ValueError, match=message):
            NasBench201NetworkSettings(**broken)
    with pytest.raises(ValueError, match="images of at least 8 pixels; got 4"):
        NasBench201Network(SPACE, NasBench201NetworkSettings(stem_stride=2), 3, 4, 10)
    with pytest.raises(ValueError, match="a multiple of 4"):
        NasBench201NetworkSettings().widened(30)
    assert NasBench201NetworkSettings().widened(32).filters == 8
