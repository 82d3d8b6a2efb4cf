"""Laws of shared weights: one forward for supernet and child, exactly the wired weights trained,
every other untouched.

Parametrised over the registered spaces, backbones and ops. A backbone of another kind than images
says in `network`, `batch_like` and `outputs` how it is built, fed and read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.grading import laws
from enas.networks.micro import MicroNetwork, drop_path
from enas.networks.ops import OPS, FactorizedReduction, Statistics, batch_norm, make_op
from enas.networks.recurrent import RecurrentNetwork
from enas.networks.registry import BACKBONES
from enas.networks.settings import (
    DROPOUTS,
    MicroSettings,
    NasBench201NetworkSettings,
    NasBenchMacroNetworkSettings,
    RecurrentSettings,
)
from enas.networks.supernet import Supernet
from enas.procedures.optimizer import learning_rate, make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro, from_tokens
from enas.spaces.rnn_cell import RnnCellSettings, rnn_cell
from enas.spaces.space import SearchSpace
from enas.state import seed_of, seeded
from laws import FULL, SMALL, samples

CLASSES = 5


def network(
    space: SearchSpace,
    settings: Any = None,
    statistics: Statistics = "batch",
    size: int = 8,
    channels: int = 3,
    only: Architecture | None = None,
) -> Supernet:
    """The backbone a space names, with its small settings unless told otherwise."""
    entry = BACKBONES[space.backbone]
    dimensions = (CLASSES,) if space.backbone == "recurrent" else (channels, size, CLASSES)
    with seeded("network", statistics):
        return entry.make(space, settings or entry.small, *dimensions, only=only, statistics=statistics)


def images(size: int = 8, channels: int = 3, n: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def batch_like(x: Tensor, seed: int = 0) -> Tensor:
    """Images, or words (T, B), of the shape of `x`."""
    if x.ndim == 2:
        return torch.randint(CLASSES, x.shape, generator=torch.Generator().manual_seed(seed))
    return images(x.shape[2], x.shape[1], seed=seed)


def outputs(model: Supernet, x: Tensor, arch: Architecture | None, key: object = 0, **more: Any) -> tuple[Tensor, ...]:
    """All that a forward returns, (B, classes) each; of a language model the mean over steps.
    Random numbers by `key`."""
    with seeded("outputs", key):
        out = model(x, arch, **more)
    if isinstance(model, RecurrentNetwork):
        return (out[0].logits_TBV.mean(0),)
    return tuple(out) if isinstance(out, tuple) else (out,)


def loss_of(model: Supernet, x: Tensor, arch: Architecture | None, key: object = 0) -> Tensor:
    return torch.stack([F.cross_entropy(out, torch.arange(len(x)) % CLASSES) for out in outputs(model, x, arch, key)]).sum()


def backward(model: Supernet, x: Tensor, arch: Architecture | None, key: object = 0) -> float:
    loss = loss_of(model, x, arch, key)
    loss.backward()
    return float(loss.detach())


# Every registered space on its backbone, and every setting of a backbone on a space of its own.
MICRO = conv_micro(ConvMicroSettings(num_nodes=2, ops=("sep_conv_3x3", "max_pool_3x3", "identity")))
PLAIN = MicroSettings(filters=4, cells=1, dropout=0.0)
CELLS = rnn_cell(RnnCellSettings(num_nodes=4))
RECURRENT = RecurrentSettings(hidden=6, batch_norm=False, init_range=0.5)
CASES: dict[str, tuple[SearchSpace, Any, int, int]] = {
    name: (space, BACKBONES[space.backbone].small, 8, 3)
    for name, space in (SMALL | {f"{name}-full": space for name, space in FULL.items()}).items()
    if space.backbone in BACKBONES
} | {
    "micro-plain": (MICRO, PLAIN, 8, 3),
    "micro-two-cells": (MICRO, replace(PLAIN, cells=2, aux_weight=0.4), 8, 3),
    "micro-random": (MICRO, replace(PLAIN, dropout=0.3, drop_path=0.5, aux_weight=0.4), 8, 3),
    "micro-no-merge-norm": (MICRO, replace(PLAIN, merge_norm=False), 8, 3),
    "micro-extra-calibration": (MICRO, replace(PLAIN, extra_calibration=True, aux_weight=0.4), 8, 3),
    "micro-one-reduction": (MICRO, replace(PLAIN, reductions=1, aux_weight=0.4), 8, 3),
    "micro-three-reductions": (MICRO, replace(PLAIN, reductions=3, aux_weight=0.4), 8, 3),
    "micro-stem-stride": (MICRO, replace(PLAIN, stem_stride=2), 16, 3),
    "micro-odd-image": (MICRO, replace(PLAIN, aux_weight=0.4), 9, 3),
    "micro-odd-stem-stride": (MICRO, replace(PLAIN, stem_stride=2, reductions=3), 9, 1),
    "micro-smallest": (MICRO, replace(PLAIN, reductions=3), 4, 1),
    "micro-one-filter": (MICRO, replace(PLAIN, filters=1, stem_multiplier=1), 8, 1),
    "nasbench201-stem-stride": (FULL["nasbench201"], NasBench201NetworkSettings(filters=2, cells=2, stem_stride=2), 16, 1),
    "nasbench_macro-stem-stride": (
        FULL["nasbench_macro"],
        NasBenchMacroNetworkSettings(filters=2, head=6, stem_stride=2),
        17,
        1,
    ),
    "recurrent-plain": (CELLS, RECURRENT, 0, 0),
    "recurrent-no-highway": (CELLS, replace(RECURRENT, highway=False, softmax_bias=False), 0, 0),
    "recurrent-two-layers": (CELLS, replace(RECURRENT, layers=2, batch_norm=True), 0, 0),
    "recurrent-random": (CELLS, replace(RECURRENT, **dict.fromkeys(DROPOUTS, 0.3)), 0, 0),
    "recurrent-node-by-node": (CELLS, replace(RECURRENT, computation="plain", hidden_dropout=0.3), 0, 0),
    "recurrent-static": (CELLS, replace(RECURRENT, computation="static", batch_norm=True), 0, 0),
}
every_case = pytest.mark.parametrize("case", CASES)
# Keeping running statistics is a thing of the norms, whatever stands around them: every space, and
# a few settings.
RUNNING = [case for case in CASES if case in SMALL or case in ("micro-plain", "micro-random", "micro-odd-image")]
CASE_AND_STATISTICS = [(case, "batch") for case in CASES] + [(case, "running") for case in RUNNING]


@cache
def build(case: str, statistics: Statistics = "batch") -> tuple[Supernet, Tensor, list[Architecture]]:
    """A supernet, a batch, and a few random architectures. Shared between tests: they put back what
    they change."""
    space, settings, size, channels = CASES[case]
    like = torch.zeros(4, 4) if space.backbone == "recurrent" else torch.zeros(4, channels, size, size)
    return network(space, settings, statistics, size, channels), batch_like(like), samples(space, 3, seed=1)


@cache
def children(case: str) -> list[Supernet]:
    """Of the first two."""
    net, _, archs = build(case)
    return [net.child(arch) for arch in archs[:2]]


def parameters_at(net: Supernet, addresses: Iterable[str]) -> set[str]:
    """Their names in the whole network."""
    return {f"{address}.{name}" for address in addresses for name, _ in net.at(address).named_parameters()}


# --------------------------------------------------------------------------- one forward for both
@pytest.mark.parametrize(("case", "statistics"), CASE_AND_STATISTICS)
def test_a_child_computes_what_the_supernet_computes(case: str, statistics: Statistics) -> None:
    net, x, archs = build(case, statistics)
    net.train()
    for i, arch in enumerate(archs):  # running statistics that are nobody's start
        outputs(net, batch_like(x, seed=i), arch)
    for arch in archs[:2]:
        child = net.train().child(arch)
        assert child.training
        assert child.only == arch
        for training in (True, False):
            ran: list[tuple[Tensor, ...]] = []

            def run(model: Supernet, arch: Architecture | None, training: bool = training, ran: Any = ran) -> Any:
                ran.append(outputs(model.train(training), x, arch))
                return ran[-1]

            laws.child_computes_what_the_supernet_does(net, arch, run, child=child)
            whole = ran[0]
            assert len(whole) == (2 if training and net.aux_weight else 1)
            assert all(out.shape == (len(x), CLASSES) and torch.isfinite(out).all() for out in whole)
    assert not net.child(archs[0]).training


def test_a_child_is_a_copy() -> None:
    net, _, archs = build("micro-plain")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.child(archs[0]).parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("case", RUNNING)
def test_scoring_changes_nothing(case: str) -> None:
    """Nor does one architecture leave anything behind for the next."""
    net, x, archs = build(case, "running")
    net.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first = [outputs(net, x, arch)[0] for arch in archs]
    again = [outputs(net, x, arch)[0] for arch in reversed(archs)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert not all(torch.equal(first[0], other) for other in first[1:])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_running_statistics_are_the_childs_own() -> None:
    """A child that keeps them scores an image by itself; a supernet scores by the batch."""
    net, x, archs = build("micro-plain")
    child = net.child(archs[0], "running")
    norms = [module for module in child.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.track_running_stats for norm in norms)
    for seed in range(5):
        outputs(child.train(), images(seed=seed), None)
    together, alone = outputs(child.eval(), x, None)[0], outputs(child, x[:1], None)[0]
    torch.testing.assert_close(alone, together[:1])
    net.eval()
    assert not torch.allclose(outputs(net, x[:2], archs[0])[0], outputs(net, x, archs[0])[0][:2], atol=1e-3)


# -------------------------------------------------------------------------- exactly these weights
@every_case
def test_exactly_the_used_weights_get_a_gradient(case: str) -> None:
    net, x, archs = build(case)
    held = dict(net.named_parameters())
    for i, arch in enumerate(archs[:2]):
        # the auxiliary head is used in training only
        for training in (True, False)[: 1 + (i == 0)]:
            net.train(training)
            used = net.addresses(arch, aux=training and net.aux_weight > 0)
            if training:
                assert list(dict.fromkeys(used)) == net.used(arch)
            expected = parameters_at(net, used)
            assert laws.gradients_stay_within(net, arch, lambda model, arch: loss_of(model, x, arch)) == expected
            if training:
                assert {id(p) for p in net.parameters_of(arch)} == {id(held[name]) for name in expected}
                assert len(net.parameters_of(arch)) == len(expected)
            net.zero_grad(set_to_none=True)


@every_case
def test_other_weights_play_no_part(case: str) -> None:
    net, x, archs = build(case)
    net.train()
    assert len(net.parameters_of(archs[0])) < len(list(net.parameters()))
    laws.other_weights_play_no_part(net, archs[0], lambda model, arch: outputs(model, x, arch))


@every_case
def test_slice_and_counts_are_the_childs(case: str) -> None:
    net, _, archs = build(case)
    space, settings, size, channels = CASES[case]
    bare = replace(settings, aux_weight=0.0) if hasattr(settings, "aux_weight") else settings
    for arch, child in zip(archs, children(case), strict=False):
        assert net.slice(arch).keys() == child.state_dict().keys()
        count = sum(parameter.numel() for parameter in child.parameters())
        assert net.num_parameters(arch) == child.num_parameters() == count
        without = network(space, bare, size=size, channels=channels, only=arch)
        assert net.num_parameters(arch, aux=False) == sum(p.numel() for p in without.parameters())
        assert set(child.used()) == set(net.used(arch))


@every_case
def test_two_children_share_exactly_what_both_use(case: str) -> None:
    net, _, archs = build(case)
    a, b = (set(child.state_dict()) for child in children(case))
    assert a & b == parameters_at(net, set(net.used(archs[0])) & set(net.used(archs[1])))


def test_models_say_what_they_hold() -> None:
    net, x, (a, b, _) = build("micro-plain")
    child = net.child(a)
    with pytest.raises(ValueError, match=rf"this child model holds the weights of architecture {a.id} only; 'cells\..* is"):
        child(x, b)
    with pytest.raises(ValueError, match="a supernet is called with an architecture"):
        net(x)
    other = samples(conv_micro(), 1)[0]
    for wrong in (lambda: net(x, other), lambda: net.used(other), lambda: net.child(other), lambda: net.slice(other)):
        with pytest.raises(ValueError, match="this needs an architecture of space conv_micro"):
            wrong()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"filters": 0}, "network.filters is at least 1; got 0"),
        ({"cells": 0}, "network.cells is at least 1; got 0"),
        ({"reductions": 4}, "network.reductions is one of 1, 2, 3; got 4"),
        ({"stem_stride": 3}, "network.stem_stride is one of 1, 2; got 3"),
        ({"dropout": 1.0}, "network.dropout is at least 0 and below 1; got 1.0"),
        ({"drop_path": -0.1}, "network.drop_path is at least 0 and below 1; got -0.1"),
        ({"aux_weight": -1.0}, "network.aux_weight is at least 0; got -1.0"),
    ],
)
def test_wrong_network_settings(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}$"):
        MicroSettings(**wrong)


def test_an_image_can_be_too_small() -> None:
    with pytest.raises(ValueError, match="the first cell needs at least 4x4 pixels; got 3"):
        network(MICRO, replace(PLAIN, stem_stride=2), size=6)


# ------------------------------------------------------------------------------ the micro network
def reads_only(normal: str, reduce: str) -> Architecture:
    """Every node of a cell reads only this cell input, by a separable convolution."""
    part = {f"{node}.{slot}{i}": "" for node in ("n2", "n3") for slot in ("input", "op") for i in (0, 1)}
    return MICRO.architecture(
        {
            f"{cell}.{name}": source if "input" in name else "sep_conv_3x3"
            for cell, source in (("normal", normal), ("reduce", reduce))
            for name in part
        }
    )


@pytest.mark.parametrize(
    ("normal", "reduce", "live", "with_aux"),
    [  # positions 0 to 7: n n r n n r n n; the auxiliary head stands on 6
        ("prev", "prev", [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
        ("prev_prev", "prev_prev", [1, 3, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
        ("prev_prev", "prev", [1, 2, 4, 5, 7], [1, 2, 4, 5, 6, 7]),
        ("prev", "prev_prev", [0, 2, 3, 5, 6, 7], [0, 2, 3, 5, 6, 7]),
    ],
)
def test_cells_that_no_output_needs_are_left_out(normal: str, reduce: str, live: list[int], with_aux: list[int]) -> None:
    arch = reads_only(normal, reduce)
    for aux_weight, expected in ((0.0, live), (0.4, with_aux)):
        net = network(MICRO, replace(PLAIN, cells=2, aux_weight=aux_weight))
        assert isinstance(net, MicroNetwork)
        assert [p.cell[0] for p in net.positions] == list("nnrnnrnn")
        assert net.live(arch, aux=False) == live
        assert net.live(arch, aux=aux_weight > 0) == expected
        assert {int(a.split(".")[1]) for a in net.used(arch) if a.startswith("cells.")} == set(expected)


def test_where_the_auxiliary_head_stands() -> None:
    """On the cell after the second reduction; released: 6 of 8 cells in search, 12 of 17 alone."""
    arch = samples(MICRO, 1)[0]
    for cells, reductions, position in ((5, 2, 12), (2, 2, 6), (2, 1, 3), (1, 3, 4)):
        settings = replace(PLAIN, cells=cells, reductions=reductions, aux_weight=0.4)
        assert MicroNetwork(MICRO, settings, 3, 8, CLASSES, only=arch).aux_position == position


@pytest.mark.parametrize("op", OPS)
def test_networks_of_one_op_train(op: str) -> None:
    """All identity and all pooling among them: every op alone builds, trains a step, keeps a finite
    loss."""
    space = conv_micro(ConvMicroSettings(num_nodes=2, ops=(op,)))
    net = network(space, replace(PLAIN, aux_weight=0.4))
    optimizer = make_optimizer(list(net.parameters()), OptimizerSettings())
    for arch in samples(space, 2):
        first = backward(net, images(), arch)
        update(optimizer, net.parameters_of(arch), 0.01, 5.0)
        assert math.isfinite(first)
        assert math.isfinite(backward(net, images(), arch))
        assert net.child(arch).num_parameters() > 0
        net.zero_grad(set_to_none=True)


def test_dropout_and_drop_path_are_for_training_and_grow() -> None:
    net, x, archs = build("micro-random")
    arch = archs[0]
    net.train()
    assert torch.equal(outputs(net, x, arch, 1)[0], outputs(net, x, arch, 1)[0])
    assert not torch.equal(outputs(net, x, arch, 1)[0], outputs(net, x, arch, 2)[0])
    calm = network(MICRO, replace(PLAIN, drop_path=0.5)).train()
    still = [outputs(calm, x, arch, key, progress=0.0)[0] for key in (1, 2)]
    assert torch.equal(*still)
    assert not torch.equal(outputs(calm, x, arch, 1, progress=1.0)[0], still[0])
    assert torch.equal(*(outputs(calm.eval(), x, arch, key)[0] for key in (1, 2)))


def test_drop_path_grows_with_depth_and_time_and_spares_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Released code: the last cell's probability at the end of training, times (cell + 1) / cells
    and the time passed."""
    seen: list[float] = []
    monkeypatch.setattr("enas.networks.micro.drop_path", lambda x, p: seen.append(p) or x)
    net = network(MICRO, replace(PLAIN, drop_path=0.5)).train()
    assert isinstance(net, MicroNetwork)
    for arch, progress in zip(samples(MICRO, 5, seed=3), (0.25, 0.5, 0.5, 1.0, 1.0), strict=True):
        seen.clear()
        outputs(net, images(), arch, progress=progress)
        assert seen == pytest.approx(
            [
                0.5 * (index + 1) / 5 * progress
                for index in net.live(arch, aux=False)
                for node in MICRO.wire(arch)[net.positions[index].cell].nodes
                for edge in node.edges
                if edge.op != "identity"
            ]
        )


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    with seeded("drop"):
        y = drop_path(torch.ones(4000, 2, 2, 2), 0.3)
    per_image = y.flatten(1)
    assert torch.equal(per_image.amin(1), per_image.amax(1))
    assert set(per_image[:, 0].tolist()) == {0.0, float(torch.tensor(1.0) / 0.7)}
    assert abs(float(y.mean()) - 1) < 0.03


NORMAL, REDUCE = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"


@pytest.mark.parametrize(
    ("cells", "extra", "golden", "without_aux"),
    [
        (5, False, 4_224_288, 3_729_430),
        (5, True, 4_389_240, 3_894_382),
        (6, True, 5_082_240, 4_587_382),  # the paper's 4.6 M
    ],
)
def test_the_size_of_the_released_network(cells: int, extra: bool, golden: int, without_aux: int) -> None:
    """36 filters; beside it the count by hand. Normal cell: 2 separable convolutions 3x3, 4 of 5x5,
    5 loose ends; reduction cell: 3 and 3, one identity at stride 2, 4 loose ends; both read both
    inputs."""

    def separable(c: int, k: int) -> int:
        return 2 * (k * k * c + c * c + 2 * c)

    settings = MicroSettings(filters=36, cells=cells, aux_weight=0.4, extra_calibration=extra)
    arch = from_tokens(NORMAL, REDUCE)
    net = MicroNetwork(conv_micro(), settings, 3, 32, 10, only=arch)
    total = 3 * 9 * 108 + 2 * 108  # stem
    outs, width = [108, 108], 36  # channels of the two cells before
    for position in range(3 * cells + 2):
        reduction = position in (cells, 2 * cells + 1)
        width *= 1 + reduction
        # calibrations; as factorized reductions the same
        total += sum(c * width + 2 * width for c in outs)
        total += extra * (width * width + 2 * width)
        total += (3 if reduction else 2) * separable(width, 3) + (3 if reduction else 4) * separable(width, 5)
        total += reduction * (width * width + 2 * width)
        outs = [outs[1], (4 if reduction else 5) * width]
    total += 5 * 144 * 10 + 10
    # 8x8, pooled to 2x2
    aux = 5 * 144 * 128 + 2 * 128 + 128 * 768 * 2 * 2 + 2 * 768 + 768 * 10 + 10
    assert net.num_parameters(aux=False) == total == without_aux
    assert net.num_parameters() == sum(p.numel() for p in net.parameters()) == total + aux == golden


# -------------------------------------------------------------------------------------------- ops
@pytest.mark.parametrize("name", OPS)
def test_ops_keep_or_halve_the_size(name: str) -> None:
    for stride in (1, 2):
        for channels in (2, 3, 4):
            op = make_op(name, channels, stride, batch_norm)
            for height, width in ((8, 8), (7, 7), (7, 8), (8, 7), (1, 1), (2, 3)):
                y = op(torch.randn(2, channels, height, width).contiguous(memory_format=torch.channels_last))
                assert y.shape == (2, channels, -(-height // stride), -(-width // stride))
                assert torch.isfinite(y).all()


def test_an_unknown_op() -> None:
    with pytest.raises(ValueError, match=r"an op is one of identity, .*; got 'conv_9x9'"):
        make_op("conv_9x9", 4, 1, batch_norm)


@pytest.mark.parametrize("size", [6, 7])
def test_a_factorized_reduction_reads_both_diagonals(size: int) -> None:
    """As the released one: its first half reads the pixels of even row and column, its second those
    of odd ones."""
    op = FactorizedReduction(2, 4, batch_norm).eval()
    x = images(size, 2, n=1)
    read = torch.zeros(size, size, dtype=torch.long)
    with torch.no_grad():
        y = op(x)
        for row in range(size):
            for column in range(size):
                moved = x.clone()
                moved[0, :, row, column] += 1
                first, second = (op(moved) != y).any(3).any(2)[0].split(2)
                read[row, column] = first.any() + 2 * second.any()
    rows, columns = torch.arange(size)[:, None] % 2, torch.arange(size)[None] % 2
    assert torch.equal(read, (rows == columns) * (1 + rows))


@pytest.mark.parametrize("channels", [2, 3, 5, 8])
def test_gradients_of_a_factorized_reduction(channels: int) -> None:
    """Against float64 in the plain layout: a strided 1x1 convolution in channels_last once wrote
    past its memory here."""
    op = FactorizedReduction(channels, 6, nn.Identity)
    exact = copy.deepcopy(op).double()
    x = images(8, channels)
    op.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    exact(x.double()).square().sum().backward()
    for found, expected in zip(op.parameters(), exact.parameters(), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-4, atol=1e-3)


def test_pooling_does_not_count_the_padding() -> None:
    x = torch.full((1, 2, 5, 5), -3.0)
    for name in ("avg_pool_3x3", "max_pool_3x3"):
        for stride in (1, 2):
            y = make_op(name, 2, stride, batch_norm)(x)
            torch.testing.assert_close(y, torch.full_like(y, -3.0))


@pytest.mark.parametrize(("name", "kernel"), [("sep_conv_3x3", 3), ("sep_conv_5x5", 5)])
def test_separable_convolutions_are_separable_and_applied_twice(name: str, kernel: int) -> None:
    """Appendix B: ReLU, convolution, batch norm, and all of it twice."""
    layers = list(make_op(name, 6, 2, batch_norm))  # type: ignore[call-overload]
    kinds = [nn.ReLU, nn.Conv2d, nn.Conv2d, nn.BatchNorm2d] * 2
    assert all(isinstance(layer, kind) for layer, kind in zip(layers, kinds, strict=True))
    depthwise, pointwise = layers[1::4], layers[2::4]
    assert [(c.kernel_size, c.groups, c.stride) for c in depthwise] == [((kernel,) * 2, 6, (s, s)) for s in (2, 1)]
    assert [(c.kernel_size, c.groups, c.stride) for c in pointwise] == [((1, 1), 1, (1, 1))] * 2


def test_he_initialisation() -> None:
    net = MicroNetwork(MICRO, MicroSettings(filters=64, cells=1), 3, 8, CLASSES, only=reads_only("prev", "prev"))
    weights = {name: p for name, p in net.named_parameters() if p.dim() > 1 and p.numel() > 4000}
    assert len(weights) > 10
    for name, weight in weights.items():
        fan_in = weight[0].numel()
        assert math.isclose(float(weight.detach().std()), math.sqrt(2 / fan_in), rel_tol=0.06), name
    for name, p in net.named_parameters():
        if p.dim() == 1:
            assert set(p.tolist()) == ({0.0} if name.endswith("bias") else {1.0}), name


# ------------------------------------------------------------------------------------- the update
def test_unused_weights_stay_bit_for_bit() -> None:
    """No decay and no momentum, also where an earlier step left a momentum."""
    net, x, (a, b, _) = build.__wrapped__("micro-two-cells")
    settings = OptimizerSettings(weight_decay=0.1, momentum=0.9)
    optimizer = make_optimizer(list(net.parameters()), settings)
    for arch in (a, b):
        backward(net, x, arch)
        update(optimizer, net.parameters_of(arch), 0.1, 0.0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    momentum = {name: s["momentum_buffer"].clone() for name, p in net.named_parameters() if (s := optimizer.state[p])}
    used = {id(p) for p in net.parameters_of(a)}
    only_b = {id(p) for p in net.parameters_of(b)} - used
    assert only_b
    backward(net, x, a)
    update(optimizer, net.parameters_of(a), 0.1, 0.0)
    for name, parameter in net.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name]) is (id(parameter) not in used), name
        if id(parameter) in only_b:
            assert torch.equal(optimizer.state[parameter]["momentum_buffer"], momentum[name])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_update_is_sgd_with_nesterov_momentum_for_each_weight_by_itself(momentum: float) -> None:
    """Against the formula, over steps that use other weights each time; layouts as they are in a
    network."""
    net, x, archs = build.__wrapped__("micro-two-cells")
    settings = OptimizerSettings(weight_decay=0.05, momentum=momentum)
    optimizer = make_optimizer(list(net.parameters()), settings)
    velocity: dict[nn.Parameter, Tensor] = {}
    for step, arch in enumerate([archs[0], archs[1], archs[0], archs[2], archs[1]]):
        backward(net, x, arch)
        rate = 0.1 / (step + 1)
        expected = {}
        for p in net.parameters_of(arch):
            assert p.grad is not None
            g = p.grad + 0.05 * p.detach()
            velocity[p] = momentum * velocity.get(p, torch.zeros_like(g)) + g
            expected[p] = p.detach() - rate * (g + momentum * velocity[p])
        norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in expected if p.grad is not None))
        assert update(optimizer, net.parameters_of(arch), rate, 0.0) == pytest.approx(norm, rel=1e-5)
        for p, value in expected.items():
            torch.testing.assert_close(p.detach(), value, rtol=1e-5, atol=1e-6)
        assert optimizer.param_groups[0]["params"] == list(net.parameters())


def test_clipping_clips() -> None:
    net, x, archs = build.__wrapped__("micro-plain")
    arch = archs[0]
    used = net.parameters_of(arch)
    optimizer = make_optimizer(list(net.parameters()), OptimizerSettings(momentum=0.0, weight_decay=0.0))
    for clip in (0.5, 1e6):
        backward(net, x, arch)
        grads = [p.grad.clone() for p in used if p.grad is not None]
        before = [p.detach().clone() for p in used]
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in grads))
        assert norm > 0.6
        assert update(optimizer, used, 1.0, clip) == pytest.approx(norm, rel=1e-5)
        moved = [b - p.detach() for p, b in zip(used, before, strict=True)]
        length = math.sqrt(sum(float(m.double().square().sum()) for m in moved))
        assert length == pytest.approx(min(norm, clip), rel=1e-3)
        copies = [nn.Parameter(torch.zeros_like(g)) for g in grads]
        for clone, g in zip(copies, grads, strict=True):
            clone.grad = g.clone()
        nn.utils.clip_grad_norm_(copies, clip)
        for m, clone in zip(moved, copies, strict=True):
            torch.testing.assert_close(m, clone.grad, rtol=1e-3, atol=1e-6)


# --------------------------------------------------------------------------- rates and randomness
def test_the_rate_restarts_at_10_30_70_150_310() -> None:
    settings = OptimizerSettings()

    def rate(epoch: int, step: int = 0) -> float:
        return learning_rate(settings, epoch, step, 100, 630)

    for start, length in ((0, 10), (10, 20), (30, 40), (70, 80), (150, 160), (310, 320)):
        assert rate(start) == 0.05
        assert rate(start + length // 2) == pytest.approx((0.05 + 0.001) / 2)
        assert rate(start + length // 4, 100 * (length // 4 * 4 != length) // 2) == pytest.approx(
            0.001 + 0.049 * (1 + math.sqrt(0.5)) / 2
        )
        assert 0.001 < rate(start + length - 1, 99) < 0.00101
    assert rate(3, 50) < rate(3) < rate(2, 50)


def test_other_schedules() -> None:
    def rates(epochs: int = 4, **settings: Any) -> list[float]:
        s = OptimizerSettings(learning_rate=1.0, min_learning_rate=0.0, **settings)
        return [learning_rate(s, epoch, step, 2, epochs) for epoch in range(epochs) for step in range(2)]

    half = math.sqrt(0.5)
    assert rates(schedule="constant") == [1.0] * 8
    assert rates(epochs=2, schedule="cosine") == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2])
    by_epoch = [1, 1, (1 + half) / 2, (1 + half) / 2, 0.5, 0.5, (1 - half) / 2, (1 - half) / 2]
    assert rates(schedule="cosine", per_epoch=True) == pytest.approx(by_epoch)
    assert rates(restart_epochs=1, restart_factor=1) == pytest.approx([1, 0.5] * 4)
    assert rates(restart_epochs=1, restart_factor=2) == pytest.approx([1, 0.5, 1, (1 + half) / 2, 0.5, (1 - half) / 2, 1,
                                                                     0.5 * (1 + math.cos(math.pi / 8))])  # fmt: skip
    assert rates(schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"learning_rate": 0.0}, r"optimizer.learning_rate is above 0; got 0.0"),
        ({"min_learning_rate": 0.1}, r"optimizer.min_learning_rate is between 0 and learning_rate \(0.05\); got 0.1"),
        ({"restart_epochs": 0}, "optimizer.restart_epochs is at least 1; got 0"),
        ({"momentum": 1.0}, "optimizer.momentum is at least 0 and below 1; got 1.0"),
        ({"weight_decay": -1.0}, "optimizer.weight_decay is at least 0; got -1.0"),
        ({"grad_clip": -1.0}, "optimizer.grad_clip is at least 0; got -1.0"),
    ],
)
def test_wrong_optimizer_settings(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}$"):
        OptimizerSettings(**wrong)


def test_seeded_depends_on_its_key_and_leaves_no_trace() -> None:
    def drawn(*key: object) -> Tensor:
        with seeded(*key):
            return torch.rand(4)

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = drawn("run", 1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(drawn("run", 1), first)
    assert not torch.equal(drawn("run", 2), first)
    with seeded("outer"):
        whole = torch.rand(4)
    with seeded("outer"):
        start = torch.rand(2)
        drawn("inner")
        assert torch.equal(torch.cat([start, torch.rand(2)]), whole)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError), seeded("error"):
        torch.rand(1 // 0)
    assert torch.equal(torch.rand(3), expected)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(0, "shared", 1, 2) == seed_of(0, "shared", 1, 2) != seed_of(0, "shared", 2, 1)
    assert seed_of(1, 23) != seed_of(12, 3)
    assert seed_of("golden", 1) == 2558862703463340263
    assert all(0 <= seed_of(i) < 2**63 for i in range(100))
