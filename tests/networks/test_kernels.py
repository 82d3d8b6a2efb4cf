"""The fast pieces compute what torch's own do: values, gradients, statistics; and so do whole
networks, step by step."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.data.registry import load
from enas.networks import kernels
from enas.networks.macro import MacroNetwork
from enas.networks.micro import MicroNetwork
from enas.networks.ops import LAYER_OPS, OPS, AfterRelu, Read, batch_norm, make_op
from enas.networks.registry import BACKBONES
from enas.networks.settings import MacroSettings, MicroSettings
from enas.networks.supernet import Supernet
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import ConvMacroSettings, conv_macro
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.state import seeded
from enas.tasks.image_classification import ImageClassification
from enas.tasks.settings import ImageClassificationSettings
from laws import FULL, samples

CL = torch.channels_last


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tensors of a test's size take the fast pieces too."""
    monkeypatch.setattr(kernels, "LEAST", 0)
    torch.manual_seed(0)


def images(channels: int, height: int = 6, width: int = 5, batch: int = 4) -> Tensor:
    x = torch.randn(batch, channels, height, width, dtype=torch.float64)
    return x.contiguous(memory_format=CL).requires_grad_()


def both_ways(run: Callable[[], list[Tensor]], name: str) -> None:
    """Values and gradients with the piece and without it, in double precision."""
    with kernels.without(name):
        expected = run()
    for got, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def with_gradients(f: Callable[[Tensor], Tensor], x: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    y = f(x)
    # not in channels_last: any gradient will do
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    gradients = torch.autograd.grad(y, [x, *parameters], weights)
    return [y.detach(), *gradients]


@pytest.mark.parametrize("channels", [1, 3, 8, 12, 20])
@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_batch_norm(channels: int, statistics: str) -> None:
    x = images(channels)

    def run() -> list[Tensor]:
        norm = batch_norm(channels, statistics).double()  # type: ignore[arg-type]
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2, channels))
            norm.bias.copy_(torch.linspace(-1, 1, channels))
        out = with_gradients(norm, x * 3 + 50, list(norm.parameters()))
        out += with_gradients(norm, x, list(norm.parameters()))
        tracked = [] if norm.running_mean is None else [norm.running_mean, norm.running_var, norm.num_batches_tracked]
        return out + [t for t in tracked if t is not None] + [norm.eval()(x).detach()]

    both_ways(run, "batch_norm")


def test_running_statistics_can_be_a_plain_average() -> None:
    """As recalibration wants them: no momentum."""

    def run() -> list[Tensor]:
        norm = batch_norm(12).double()
        norm.momentum = None
        for i in range(3):
            norm(images(12) * 0 + torch.linspace(i, 9, 4 * 12 * 30, dtype=torch.float64).view(4, 12, 6, 5))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return [norm.running_mean, norm.running_var]

    both_ways(run, "batch_norm")


def test_batch_norm_counts_exactly_in_single_precision() -> None:
    """Far from zero, where a difference of sums of squares would have lost everything."""
    norm = batch_norm(12, "batch")
    x = (torch.randn(16, 12, 8, 8) * 0.1 + 300).contiguous(memory_format=CL)
    exact = F.batch_norm(x.double(), None, None, training=True)
    torch.testing.assert_close(norm(x).double(), exact, rtol=0, atol=2e-3)
    with kernels.without("batch_norm"):
        own_error = (norm(x).double() - exact).abs().max()
    assert (norm(x).double() - exact).abs().max() <= 4 * own_error + 1e-6


@pytest.mark.parametrize("size", [(5, 5), (6, 9), (2, 3), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPS)
def test_ops(name: str, stride: int, size: tuple[int, int]) -> None:
    for piece in ("depthwise", "pool", "layout", "batch_norm"):
        with seeded(0):
            op = make_op(name, 4, stride, lambda c: batch_norm(c, "batch")).double()
        op = op.to(memory_format=CL)  # type: ignore[call-overload]
        x = images(4, *size)

        def run(op: nn.Module = op, x: Tensor = x) -> list[Tensor]:
            out = with_gradients(op, x, list(op.parameters()))
            with torch.no_grad():
                return [*out, op(x)]

        both_ways(run, piece)


@pytest.mark.parametrize("name", [name for name in LAYER_OPS if "pool" not in name])
def test_a_shared_relu(name: str) -> None:
    with seeded(0):
        a, b = (make_op(name, 3, 1, lambda c: batch_norm(c, "batch"), LAYER_OPS).double() for _ in range(2))
    assert isinstance(a, AfterRelu)
    x = images(3)

    def run() -> list[Tensor]:
        def f(x: Tensor) -> Tensor:
            read = Read({"x": x})
            return read.by(a, "x") + read.by(b, "x") + read.by(nn.Identity(), "x")

        return with_gradients(f, x, [*a.parameters(), *b.parameters()])

    both_ways(run, "relu")


@pytest.mark.parametrize("relu", [False, True])
def test_concat(relu: bool) -> None:
    x = images(4)
    both_ways(lambda: with_gradients(lambda x: kernels.concatenated([x, x.tanh(), -x], relu), x, []), "layout")
    y = kernels.concatenated([x], relu)
    assert torch.equal(y, F.relu(x) if relu else x)
    (gradient,) = torch.autograd.grad(kernels.concatenated([x[:, :1] * 2, x[:, 1:] * 3]), x, torch.ones_like(x))
    assert gradient.unique().tolist() == [2, 3]


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match=r"a piece is one of batch_norm, .*; got 'speed'"), kernels.without("speed"):
        pass
    with ThreadPoolExecutor(1) as other, kernels.without("pool"):
        assert other.submit(kernels.on, "pool").result(), "another thread's pieces stay as they are"
    with kernels.without("pool"), kernels.without("relu"):
        assert not kernels.on("pool")
        assert not kernels.on("relu")
    assert all(kernels.on(name) for name in kernels.SWITCHES)


def test_gradients_come_back_in_channels_last() -> None:
    seen: list[bool] = []

    def look(gradient: Tensor) -> None:
        seen.append(gradient.is_contiguous(memory_format=CL))

    x = images(4, 6, 6)
    parts = [x * 2, x * 3]
    for part in parts:
        part.register_hook(look)
    out = kernels.concatenated(parts, relu=True)
    even, odd = kernels.diagonals(out, both=True)
    out.register_hook(look)
    (even.sum() + odd.square().sum()).backward()
    assert len(seen) == 3
    assert all(seen)


# --------------------------------------------------------------------------------- whole networks
def micro(statistics: str = "batch") -> Supernet:
    settings = MicroSettings(filters=6, cells=1, dropout=0.1, drop_path=0.2, aux_weight=0.4)
    return MicroNetwork(conv_micro(ConvMicroSettings(num_nodes=3)), settings, 3, 8, 10, statistics=statistics)  # type: ignore[arg-type]


def macro(statistics: str = "batch") -> Supernet:
    settings = MacroSettings(filters=6, dropout=0.1)
    return MacroNetwork(conv_macro(ConvMacroSettings(num_layers=6)), settings, 3, 8, 10, statistics=statistics)  # type: ignore[arg-type]


def losses(make: Callable[[], Supernet], steps: int, dtype: torch.dtype) -> list[float]:
    """Of so many steps of shared weights, each with another uniform child."""
    with seeded(0):
        network = make().to(dtype).train()
    rng = random.Random(0)
    settings = OptimizerSettings()
    optimizer = make_optimizer(list(network.parameters()), settings)
    out = []
    for step in range(steps):
        arch: Architecture = network.space.sample(rng)
        with seeded(0, step):
            x = torch.randn(8, 3, 8, 8, dtype=dtype).contiguous(memory_format=CL)
            y = (x.mean((1, 2, 3)) > 0).long()  # something to learn
            made = network(x, arch)
            logits = made if isinstance(made, Tensor) else made[0]
            loss = F.cross_entropy(logits, y)
        loss.backward()
        update(optimizer, network.parameters_of(arch), 0.02, 5.0)
        out.append(float(loss.detach()))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("make", [micro, macro])
def test_a_training_has_the_losses_of_torchs_own_kernels(make: Callable[[], Supernet]) -> None:
    """In double precision, each piece off and all off: what differs is the order of sums, 1e-16 a
    step, and training's own sensitivity, which makes less than 1e-7 of it in so many steps."""
    expected = losses(make, 10, torch.float64)
    assert min(expected[-5:]) < expected[0], "it learned nothing"
    for off in [(piece,) for piece in kernels.SWITCHES] + [tuple(kernels.SWITCHES)]:
        with kernels.without(*off):
            assert losses(make, 10, torch.float64) == pytest.approx(expected, rel=1e-7), off


@pytest.mark.slow
def test_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steady state takes no new pages: otherwise it would take 40 blocks of 2,930 each. A system
    that is short of memory may take some away once. In a process of its own, for the setting
    stays."""
    if sys.platform != "linux":
        pytest.skip("glibc is Linux's")
    code = """
import resource, sys
import torch
from enas.networks import kernels as fast
if not fast.keep_memory():
    sys.exit(77)
def pages():
    for _ in range(20):
        a = torch.ones(3_000_000); b = a + 1; del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
pages(); before = pages(); print(pages() - before)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if done.returncode == 77:
        pytest.skip("the C library has no mallopt")
    assert int(done.stdout) < 20_000, "blocks went back to the system"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert not kernels.keep_memory(), "what the user has set up is left alone"


# ---------------------------------------------------------------- many architectures on one batch
@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_what_is_shared_on_a_batch_changes_nothing(name: str) -> None:
    """Exactly the same numbers; and where all architectures begin alike, that is computed once."""
    space = FULL[name]
    entry = BACKBONES[space.backbone]
    text = space.backbone == "recurrent"
    with seeded(0):
        net = entry.make(space, entry.small, *((7,) if text else (3, 8, 7))).eval()
    batches = [torch.randint(7, (3, 4)) if text else torch.randn(4, 3, 8, 8) for _ in range(2)]
    archs = samples(space, 6)
    archs += archs[:2]  # and some again

    def out(x: Tensor, arch: Architecture) -> Tensor:
        made = net(x, arch)
        return made[0].logits_TBV if text else made

    calls = []
    if not text:
        net.at("stem").register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        alone = [[out(x, arch) for arch in archs] for x in batches]
        calls.clear()
        with net.remembering():
            together = [[out(x, arch) for arch in archs] for x in batches]
        assert text or len(calls) == len(batches)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(0.5)
        with net.remembering():
            assert not torch.equal(out(batches[0], archs[0]), alone[0][0]), "remembered from other weights"
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_training_and_gradients_remember_nothing() -> None:
    net = micro()
    x, arch = torch.randn(4, 3, 8, 8), net.space.sample(random.Random(0))
    with net.remembering():
        for training in (True, False):
            net.train(training)
            out = net(x, arch)
            (out if isinstance(out, Tensor) else out[0]).sum().backward()
            assert net.at("stem")[0].weight.grad is not None
            net.zero_grad()
        assert not net._remembered


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enas.networks.supernet.MOST_REMEMBERED", 4 * 6 * 8 * 8)
    net = macro().eval()
    archs = samples(net.space, 4)
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad(), net.remembering():
        together = [net(x, arch) for arch in archs]
        assert net._remembered is not None
        assert sum(v.numel() for v in net._remembered.values()) <= 4 * 6 * 8 * 8 + x.numel()
    with torch.no_grad():
        assert all(torch.equal(net(x, arch), out) for arch, out in zip(archs, together, strict=True))


@pytest.mark.slow
def test_equal_architectures_are_scored_once() -> None:
    settings = ImageClassificationSettings(batch_size=20, reward_batch=30)
    task = ImageClassification(load("digits", None, train=100, validation=100), settings)
    net = MicroNetwork(conv_micro(), MicroSettings(filters=4, cells=1, dropout=0.0), **task.dimensions)
    archs = samples(net.space, 3)
    archs = [archs[0], archs[1], archs[0], archs[0], archs[2]]
    batch = task.reward_batch(0)
    one_by_one = [task.reward(net, arch, batch) for arch in archs]
    calls: list[int] = []
    net.register_forward_hook(lambda *_: calls.append(1))
    assert task.rewards(net, archs, batch) == one_by_one
    assert len(calls) == 3
