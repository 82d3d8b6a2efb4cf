"""What choices in a network of one's own cost: forward and backward of a view of 50 choices against
the plain child, in turn; a view that is new against one that is at hand; and the memory of a step.

    python -m benchmarks.own

The child is a deep copy: plain modules that know of no choice. Sizes: convolutions as in a small
image network, linear layers, and layers so small that only Python's work counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import begin, emit, options, paired, peak_memory, ratio
from enas.networks.choices import OneOf
from enas.networks.own import OwnNetwork
from enas.spaces.architecture import Architecture
from enas.strategies.random_search import RandomSearch

CHOICES = 50
SIZES: dict[str, dict[str, int]] = {
    "convolutions": {"width": 16, "side": 16, "batch": 32},
    "linear layers": {"width": 256, "side": 0, "batch": 256},
    "tiny linear layers": {"width": 8, "side": 0, "batch": 8},
}


class Residual(nn.Module):
    def __init__(self, part: nn.Module):
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return x + self.part(x)


def network(width: int, side: int, arch: Architecture | None = None) -> nn.Module:
    """50 blocks; each is residual, or only a choice, in turn. With an architecture: as somebody
    would write it who knows no choices."""

    def convolution(kernel: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, kernel, padding="same"), nn.GroupNorm(4, width), nn.ReLU())

    def linear(activation: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), activation)

    options: dict[str, Callable[[], nn.Module]] = {"relu": lambda: linear(nn.ReLU()), "tanh": lambda: linear(nn.Tanh())}
    options |= {"skip": nn.Identity}
    if side:
        options = {str(kernel): partial(convolution, kernel) for kernel in (1, 3, 5)}
    parts = [OneOf(f"c{i}", options) if arch is None else options[str(arch.choices[f"c{i}"])]() for i in range(CHOICES)]
    return nn.Sequential(*(Residual(part) if i % 2 else part for i, part in enumerate(parts)))


def made(width: int, side: int, batch: int, archs: int) -> tuple[OwnNetwork, Tensor, list[Architecture]]:
    torch.manual_seed(0)
    net = OwnNetwork(network(width, side))
    x = torch.randn(batch, width, side, side) if side else torch.randn(batch, width)
    return net, x, RandomSearch(net.space, seed=0).ask(archs)


def step(model: Callable[..., Tensor], *inputs: Any) -> Callable[[], None]:
    return lambda: model(*inputs).square().mean().backward()


def one_step(which: str, width: int, side: int, batch: int, arch: Architecture) -> None:
    """What is measured in a process of its own: a step, of one architecture."""
    if which == "child":
        x = torch.randn(batch, width, side, side) if side else torch.randn(batch, width)
        step(network(width, side, arch), x)()
    else:
        net, x, _ = made(width, side, batch, 1)
        step(net, x, arch)()


def turns(steps: list[Callable[[], None]]) -> Callable[[], None]:
    """Returns what does the next of the steps with each call."""

    def endless() -> Iterator[Callable[[], None]]:
        while True:
            yield from steps

    following = endless()
    return lambda: next(following)()


def main() -> None:
    args = options(__doc__, 100).parse_args()
    begin(args)
    for name, size in SIZES.items():
        rounds = args.rounds if "tiny" not in name else 5 * args.rounds
        net, x, archs = made(**size, archs=rounds + 3)
        arch = archs[0]
        child = net.child(arch)
        seconds = paired({"view": step(net, x, arch), "child": step(child, x)}, rounds)
        about = {"choices": CHOICES, **size}
        emit(f"own network, {name}: a step of a view", about, seconds["view"], **ratio(seconds["view"], seconds["child"]))
        few = archs[:53]  # a child of each is held in memory
        children = [step(net.child(arch), x) for arch in few]
        fresh = [step(net, x, arch) for arch in few]
        seconds = paired({"fresh": turns(fresh), "child": turns(children)}, len(few) - 3)
        emit(
            f"own network, {name}: a step of a new architecture",
            about,
            seconds["fresh"],
            mean=True,
            **ratio(seconds["fresh"], seconds["child"]),
        )
        times = []
        net._views.clear()
        for arch in archs:
            start = time.perf_counter()
            net.view(arch)
            times.append(time.perf_counter() - start)
        print(f"own network, {name}: a view is made in {1e6 * median(times):.0f} microseconds")
    size = {"width": 512, "side": 0, "batch": 512}
    net, _, (arch,) = made(**size, archs=1)
    memory = {which: peak_memory(one_step, which, *size.values(), arch) for which in ("view", "child")}
    unused = sum(p.numel() for p in net.parameters()) - net.num_parameters(arch)
    print(json.dumps({"what": "own network: memory of a step", "sizes": size, "peak_mem_mb": memory}))
    print(f"parameters that this architecture does not use: {4e-6 * unused:.0f} MB")


if __name__ == "__main__":
    main()
