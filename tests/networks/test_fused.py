"""The Triton kernels of static programs against their plain forms, by Triton's interpreter on a
CPU. Skipped where Triton is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from enas.networks.static import parts
from enas.state import seeded
from programs import architectures, gradients, images, network

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed: `pip install triton`", allow_module_level=True)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernels, interpreted."""
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("torch has loaded Triton to compile; run with TRITON_INTERPRET=1")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return importlib.import_module("enas.networks.static.fused")


def both(plain: Any, fused: Any, x: Tensor, *leaves: Tensor, rtol: float = 0.0, atol: float = 1e-12) -> None:
    """Asserts that results and gradients agree, also where the gradient lies in another order."""
    results = []
    for run in (plain, fused):
        inputs = [t.clone().requires_grad_() for t in (x, *leaves)]
        y = run(*inputs)
        with seeded("gradient"):
            gradient = torch.randn_like(y).contiguous()
        results.append([y, *torch.autograd.grad(y, inputs, gradient)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("C", "H", "W", "K"), [(3, 5, 4, 5), (66, 3, 3, 3), (4, 8, 8, 5)])
def test_relu_and_depthwise(fused: Any, C: int, H: int, W: int, K: int, stride: int) -> None:
    """Edges of kernels 5 and 3 side by side with one that has none; odd sizes, part tiles."""
    sizes = torch.tensor([K, 3, 0])
    with seeded("depthwise"):
        x = torch.randn(3, 3 * C, H, W, dtype=torch.double).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(3, C, 1, K, K, dtype=torch.double)
    mask = torch.zeros_like(weight)
    for e, size in enumerate(sizes.tolist()):
        mask[e, :, :, (K - size) // 2 : (K + size) // 2, (K - size) // 2 : (K + size) // 2] = float(size > 0)
    # what a kernel of 3x3 has outside is no weight: it has no gradient
    both(
        lambda x, w: parts.relu_depthwise(x, w * mask, sizes, stride),
        lambda x, w: fused.relu_depthwise(x, w * mask, sizes, stride),
        x,
        weight,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("C", "H", "W"), [(3, 5, 4), (65, 3, 3), (4, 8, 8)])
def test_pools_and_identity_by_choice(fused: Any, C: int, H: int, W: int, stride: int) -> None:
    """Zero, average, maximum and identity side by side; equal values, of which torch takes the
    first."""
    pools = torch.tensor([0, 1, 2, 3 if stride == 1 else 0, 2])
    with seeded("pool"):
        x = torch.randn(2, 5 * C, H, W, dtype=torch.double).contiguous(memory_format=torch.channels_last)
    x[:, -C:] = x[:, -C:].relu()
    both(lambda x: parts.pool(x, pools, stride), lambda x: fused.pool(x, pools, stride), x)


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
@pytest.mark.parametrize(("B", "C", "H", "W"), [(3, 5, 4, 5), (2, 66, 5, 7), (5, 3, 6, 9)])
def test_batch_norm(
    fused: Any, monkeypatch: pytest.MonkeyPatch, B: int, C: int, H: int, W: int, dtype: torch.dtype
) -> None:
    """Edges side by side, one of which does not use it; spans of several tiles, and the last one in
    part. float32 agrees to 1e-5 and to 2e-6 of a sum."""
    monkeypatch.setattr(fused, "MOST_SPANS", 3)
    used = torch.tensor([3, 0, 1])
    with seeded("norm"):
        x = torch.randn(B, 3 * C, H, W, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight, bias = torch.randn(2, 3, C, dtype=dtype)
    mask = (used > 0).to(dtype)[:, None]
    both(
        lambda x, w, b: parts.norm(x, w * mask, b * mask),
        lambda x, w, b: fused.norm(x, w * mask, b * mask, used, parts.EPS),
        x,
        weight,
        bias,
        **({} if dtype == torch.double else {"rtol": 2e-6, "atol": 1e-5}),
    )


def test_batch_norm_of_a_large_mean(fused: Any) -> None:
    """float32 has 24 bits: the mean of squares would lose all of a deviation of 1 beside 10,000."""
    with seeded("norm"):
        x = (10_000 + torch.randn(40, 2, 2, 2, dtype=torch.double)).float().double()
    one, zero, used = torch.ones(1, 2).double(), torch.zeros(1, 2).double(), torch.tensor([1])
    exact = parts.norm(x, one, zero)
    found = fused.norm(x.float(), one.float(), zero.float(), used, parts.EPS)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-3)


@pytest.mark.slow
def test_a_whole_program_by_kernels(fused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of micro cells equal the plain network."""
    name = "micro-one-filter"
    net, x = network(name), images(name, 2)
    program, (arch,) = net.train().program(), architectures(name, 1)
    monkeypatch.setattr(parts, "triton_of", lambda x: fused)
    assert program is not None
    (a, plain), (b, found) = (gradients(run, net, x, arch) for run in (net.computed, program))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    for key, gradient in plain.items():
        if gradient is not None:
            torch.testing.assert_close(gradient, found[key], rtol=0, atol=1e-9)


COMPILED = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from enas.networks.static import fused

kernels = {n: f for n, f in vars(fused).items() if isinstance(f, triton.JITFunction) and n != "_tile"}
assert len(kernels) == 10
pointers = {"sizes": "*i64", "kinds": "*i64", "used": "*i64", "taken": "*i8"}
floats = ("weight", "bias", "parts", "stats", "joined", "sums")
for dtype in ("fp32", "bf16"):
    for name, kernel in kernels.items():
        constants = {"E": 2, "K": 5, "ACC": triton.language.float32, "BP": fused.BLOCK_P, "BC": 32, "SPANS": 128}
        constants = {n: c for n, c in constants.items() if n in kernel.arg_names}
        numbers = ("n", "C", "H", "W", "Ho", "Wo", "stride", "span", "spans")
        of = {n: "i32" for n in numbers} | pointers | {n: "*fp32" for n in floats} | {"eps": "fp32"}
        signature = {n: "constexpr" if n in constants else of.get(n, f"*{dtype}") for n in kernel.arg_names}
        source = ASTSource(kernel, signature, constexprs=constants)
        assert compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(tmp_path: Any) -> None:
    """To code of an H100 or H200, without one."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
