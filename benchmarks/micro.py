"""The micro supernet against plain modules, and the controller's walk: ratios, each measured in
turn in one run.

python -m benchmarks.micro [--threads 1] [--rounds 9]

Synthetic CIFAR-10 batches. Two sizes: that of the search benchmark of a known peer (20 filters, 8
cells, batch 64) and the `quick` recipe's. The fixed child has five nodes, each a separable 3x3
convolution of either cell input; and the released cell, which has many loose ends and all kinds of
ops.
"""

from __future__ import annotations

import argparse
import copy

import torch
import torch.nn.functional as F

from benchmarks.cells import all_sep_3x3
from benchmarks.plain_micro import PlainChild
from benchmarks.timing import emit, paired, ratio
from enas.networks.micro import MicroNetwork
from enas.networks.settings import MicroSettings
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import conv_micro
from enas.spaces.published import named
from enas.state import seeded
from enas.strategies.controller import Controller
from enas.strategies.settings import ControllerSettings

SIZES = {
    "20 filters, 8 cells": (MicroSettings(filters=20, cells=2, dropout=0.0), 64),
    "quick": (MicroSettings(filters=12, cells=1, stem_stride=2, dropout=0.0), 64),
}


def step_overhead(size: str, name: str, arch: Architecture, rounds: int) -> None:
    settings, batch = SIZES[size]
    with seeded(0):
        network = MicroNetwork(conv_micro(), settings, channels=3, image_size=32, classes=10)
        x = torch.randn(batch, 3, 32, 32)
        y = torch.randint(10, (batch,))
    last, nchw = x.contiguous(memory_format=torch.channels_last), x.contiguous()
    plain = PlainChild(network, arch).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    other = copy.deepcopy(plain).to(memory_format=torch.contiguous_format)
    network.train()
    with torch.no_grad():
        same = torch.allclose(network(last, arch), plain.train()(last), rtol=1e-3, atol=1e-3)
    assert same, "the plain child computes something else"
    optimizer = OptimizerSettings()
    shared = make_optimizer(list(network.parameters()), optimizer)

    def supernet_step() -> None:
        F.cross_entropy(network(last, arch), y).backward()
        update(shared, network.parameters_of(arch), 0.01, 0.0)

    def plain_step(model: PlainChild, inputs: torch.Tensor):
        sgd = make_optimizer(list(model.parameters()), optimizer)
        for group in sgd.param_groups:
            group["lr"] = 0.01

        def step() -> None:
            F.cross_entropy(model(inputs), y).backward()
            sgd.step()
            sgd.zero_grad()

        return step

    alternatives = {
        "supernet": supernet_step,
        "plain channels_last": plain_step(plain, last),
        "plain NCHW": plain_step(other.train(), nchw),
    }
    seconds = paired(alternatives, rounds)
    sizes = {"network": size, "child": name, "batch": batch, "threads": torch.get_num_threads()}
    for alternative in alternatives:
        emit(f"micro training step, {alternative}", sizes, seconds[alternative])
    ours, plain_last, plain_nchw = seconds.values()
    emit("micro training step, supernet / plain channels_last", sizes, ours, **ratio(ours, plain_last))
    emit("micro training step, plain NCHW / supernet", sizes, ours, **ratio(plain_nchw, ours))


def controller_walk(rounds: int, n: int = 100) -> None:
    generator = torch.Generator().manual_seed(0)
    controller = Controller(conv_micro(), ControllerSettings(), generator)

    def singles() -> None:
        for _ in range(n):
            controller.sample(1, generator)

    seconds = paired({"walk": lambda: controller.sample(n, generator), "singles": singles}, rounds)
    sizes = {"space": "conv_micro", "architectures": n, "threads": torch.get_num_threads()}
    emit(f"controller draws {n} in one walk", sizes, seconds["walk"])
    emit(f"controller draws {n} one by one", sizes, seconds["singles"])
    emit("controller, one by one / one walk", sizes, seconds["walk"], **ratio(seconds["singles"], seconds["walk"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which every alternative runs once")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for size in SIZES:
        for name, arch in (("all separable 3x3", all_sep_3x3()), ("enas_micro", named("enas_micro"))):
            step_overhead(size, name, arch, args.rounds)
    controller_walk(max(3, args.rounds // 3))


if __name__ == "__main__":
    main()
