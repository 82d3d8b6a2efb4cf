"""A training step of the recurrent network: share of the machine's matrix-product peak, and against
the plain cell; each measured in turn in one run.

python -m benchmarks.recurrent [--threads 1] [--rounds 5] [--hidden 200 1000]

Batch 64, 35 steps, 10,000 words, the 12 nodes of Figure 6; forward, backward, clipping and update.
Work is counted by hand: products of the forward, three times. The plain alternative runs cell and
softmax as they are written in a textbook.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.timing import emit, paired, ratio
from enas.networks.recurrent import RecurrentNetwork
from enas.networks.settings import RecurrentSettings
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.published import named
from enas.spaces.rnn_cell import rnn_cell
from enas.state import seeded

T, B, V = 35, 64, 10_000
OPTIMIZER = OptimizerSettings(learning_rate=20.0, momentum=0.0, weight_decay=1e-7, grad_clip=0.25)
PEAK = 2048  # rows of the square matrices whose product is the peak


def work(hidden: int, nodes: int) -> float:
    """Floating-point operations of a training step: words and state into the first node, one
    product for each other, softmax."""
    return 3 * 2.0 * T * B * (2 * hidden * 2 * hidden + (nodes - 1) * hidden * 2 * hidden + hidden * V)


def step(network: RecurrentNetwork, arch: Any, whole_softmax: bool) -> Callable[[], None]:
    optimizer = make_optimizer(list(network.parameters()), OPTIMIZER)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(V, (T, B), generator=generator) for _ in range(2))
    state = network.initial_state(B)

    def run() -> None:
        out, _ = network(x, arch, state)
        logits = out.logits_TBV.flatten(0, 1) if whole_softmax else None
        loss = out.softmax.cross_entropy(y) if logits is None else F.cross_entropy(logits, y.flatten())
        loss.backward()
        update(optimizer, network.parameters_of(arch), 0.01, OPTIMIZER.grad_clip)

    return run


def measure(hidden: int, rounds: int) -> None:
    arch, space = named("enas_rnn"), rnn_cell()
    settings = RecurrentSettings(hidden=hidden, input_dropout=0.1, hidden_dropout=0.1, output_dropout=0.1)
    with seeded(0):
        fused = RecurrentNetwork(space, settings, V).train()
    plain = RecurrentNetwork(space, dataclasses.replace(settings, computation="plain"), V).train()
    plain.load_state_dict(fused.state_dict())
    a, b = torch.randn(PEAK, PEAK), torch.randn(PEAK, PEAK)
    alternatives: dict[str, Callable[[], Any]] = {
        "fused": step(fused, arch, whole_softmax=False),
        "plain": step(plain, arch, whole_softmax=True),
        "peak": lambda: a @ b,
    }
    seconds = paired(alternatives, rounds, warm=1)
    sizes = {"hidden": hidden, "batch": B, "steps": T, "nodes": 12, "threads": torch.get_num_threads()}
    flops = work(hidden, 12)
    for name in ("fused", "plain"):
        # seconds the work takes at the peak
        at_peak = [flops / (2.0 * PEAK**3) * s for s in seconds["peak"]]
        emit(f"recurrent training step, {name}: share of the peak", sizes, seconds[name], **ratio(at_peak, seconds[name]))
    emit("recurrent training step, plain / fused", sizes, seconds["fused"], **ratio(seconds["plain"], seconds["fused"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which every alternative runs once")
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 1000], help="hidden units")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for hidden in args.hidden:
        measure(hidden, args.rounds)


if __name__ == "__main__":
    main()
