"""The macro supernet against plain modules, and its merge of skips against one 1x1: ratios,
measured in turn in one run.

python -m benchmarks.macro [--threads 1] [--rounds 9]

Synthetic CIFAR-10 batches; uniform networks of 12 layers with skips at 0.4, at the `quick` recipe's
size and at the paper's width of the search.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.plain_macro import PlainMacroChild
from benchmarks.timing import emit, paired, ratio
from enas.networks.macro import MacroNetwork
from enas.networks.settings import MacroSettings
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.conv_macro import conv_macro
from enas.state import seeded

SIZES = {
    "quick": (MacroSettings(filters=12, double_filters=True, stem_stride=2, dropout=0.0), 64),
    "36 filters": (MacroSettings(filters=36, dropout=0.0), 32),
}


def step_overhead(size: str, seed: int, rounds: int) -> None:
    settings, batch = SIZES[size]
    with seeded(0):
        network = MacroNetwork(conv_macro(), settings, channels=3, image_size=32, classes=10)
        x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        y = torch.randint(10, (batch,))
    arch = network.space.sample(random.Random(seed))
    plain = PlainMacroChild(network, arch).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    network.train()
    with torch.no_grad():
        assert torch.allclose(network(x, arch), plain(x), rtol=1e-3, atol=1e-3), "the plain child computes something else"
    optimizer = OptimizerSettings()
    shared, own = (make_optimizer(list(model.parameters()), optimizer) for model in (network, plain))
    own.param_groups[0]["lr"] = 0.01

    def supernet_step() -> None:
        F.cross_entropy(network(x, arch), y).backward()
        update(shared, network.parameters_of(arch), 0.01, 0.0)

    def plain_step() -> None:
        F.cross_entropy(plain(x), y).backward()
        own.step()
        own.zero_grad()

    seconds = paired({"supernet": supernet_step, "plain": plain_step}, rounds)
    sizes = {"network": size, "child": f"uniform {seed}", "batch": batch, "threads": torch.get_num_threads()}
    for name, taken in seconds.items():
        emit(f"macro training step, {name}", sizes, taken)
    emit("macro training step, supernet / plain channels_last", sizes, seconds["supernet"], **ratio(*seconds.values()))


def merge_cost(rounds: int, sources: int = 6) -> None:
    """Forward and backward of the merge of six layers, as the network does it, against an
    `nn.Conv2d` over their concat with the same batch norm and ReLU."""
    settings, batch = SIZES["36 filters"]
    space = conv_macro()
    with seeded(0):
        network = MacroNetwork(space, settings, channels=3, image_size=32, classes=10).train()
    choices = {d.name: list(d.options)[:sources] if d.name.endswith("skips") else d.options[0] for d in space.decisions}
    arch = space.architecture(choices)
    node = next(n for n in space.wire(arch)["network"].nodes if len(n.skips) == sources)
    width = settings.filters
    inputs = [torch.randn(batch, width, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
              for _ in range(sources)]  # fmt: skip
    conv = nn.Sequential(
        nn.Conv2d(sources * width, width, 1, bias=False), nn.BatchNorm2d(width, track_running_stats=False), nn.ReLU()
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(forward: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def step() -> None:
            forward().sum().backward()
            for tensor in inputs:
                tensor.grad = None

        return step

    seconds = paired(
        {"merge": run(lambda: network._merged(node, inputs)), "conv": run(lambda: conv(torch.cat(inputs, 1)))}, rounds
    )
    sizes = {"filters": width, "sources": sources, "batch": batch, "pixels": 16, "threads": torch.get_num_threads()}
    emit("macro merge of skips / one 1x1 over the concat", sizes, seconds["merge"], **ratio(*seconds.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which every alternative runs once")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for size in SIZES:
        for seed in (0, 1):
            step_overhead(size, seed, args.rounds)
    merge_cost(4 * args.rounds)


if __name__ == "__main__":
    main()
