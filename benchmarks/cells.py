"""Children with shared weights, ours beside other programs: a training step, a forward, a
controller's step.

python -m benchmarks.cells [micro] [nasbench201] [recurrent] [--threads 1] [--rounds 5] [--drawn 12]

Synthetic data of the real shapes. Fixed children: of the micro space all nodes separable 3x3 of
inputs 0 and 1; of NAS-Bench-201 all 3x3; the recurrent cell of Figure 6. Drawn ones are uniform,
the same for all programs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import peers
from benchmarks.timing import (
    GIGA,
    Product,
    Program,
    emit,
    forward_gflops,
    options,
    paired,
    peak_memory,
    ratio,
    share_of_peak,
)
from enas.networks import kernels
from enas.networks.micro import MicroNetwork
from enas.networks.nasbench201 import NasBench201Network
from enas.networks.recurrent import RecurrentNetwork
from enas.networks.settings import MicroSettings, NasBench201NetworkSettings, RecurrentSettings
from enas.networks.supernet import Supernet
from enas.procedures.optimizer import make_optimizer, update
from enas.procedures.settings import OptimizerSettings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.nasbench201 import from_string, nasbench201
from enas.spaces.published import named
from enas.spaces.rnn_cell import rnn_cell
from enas.spaces.space import SearchSpace
from enas.state import seeded
from enas.strategies.reinforce import Reinforce

BATCH = 64
T, V = 35, 10_000
Step = Callable[[], Any]


class Ours:
    """A supernet with a batch, its optimiser and a controller."""

    updates = 10  # architectures a controller's step, as in the released code

    def __init__(self, network: Supernet, x: torch.Tensor, y: torch.Tensor, clip: float = 0.0):
        kernels.keep_memory()  # as the command line does
        self.network, self.x, self.y, self.clip = network.train(), x, y, clip
        self.optimizer = make_optimizer(list(network.parameters()), OptimizerSettings())
        self.strategy = Reinforce(network.space)

    def _loss(self, arch: Architecture) -> torch.Tensor:
        out = self.network(self.x, arch)
        if isinstance(self.network, RecurrentNetwork):
            softmax = out[0].softmax
            loss: torch.Tensor = (
                softmax.cross_entropy(self.y) if self.network.training else softmax.losses(self.y, -1).mean()
            )
            return loss
        return F.cross_entropy(out, self.y)

    def train(self, arch: Architecture) -> Step:
        def step() -> None:
            self.network.train()
            self._loss(arch).backward()
            update(self.optimizer, self.network.parameters_of(arch), 0.01, self.clip)

        return step

    def forward(self, arch: Architecture) -> Step:
        def step() -> None:
            with torch.no_grad():
                self.network.eval()
                self._loss(arch)

        return step

    def controller(self, _: Architecture) -> Step:
        def step() -> None:
            archs = self.strategy.ask(self.updates)
            with torch.no_grad():
                self.network.eval()
                rewards = [float((-self._loss(arch)).exp()) for arch in archs]
            self.strategy.tell(archs, rewards)

        return step


def images(batch: int = BATCH, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(10, (batch,))


# ----------------------------------------------------------------------------------------- makers
def micro(filters: int = 20, cells: int = 2, nodes: int = 5, batch: int = BATCH) -> Ours:
    """Eight cells with two a block, and two reductions."""
    with seeded(0):
        settings = MicroSettings(filters=filters, cells=cells, dropout=0.0)
        space = conv_micro(ConvMicroSettings(num_nodes=nodes))
        return Ours(MicroNetwork(space, settings, 3, 32, 10), *images(batch))


def nb201(filters: int = 16, cells: int = 5) -> Ours:
    with seeded(0):
        settings = NasBench201NetworkSettings(filters, cells)
        return Ours(NasBench201Network(nasbench201(), settings, 3, 32, 10), *images())


def recurrent(hidden: int, steps: int = T, batch: int = BATCH, computation: Any = "fused") -> Ours:
    with seeded(0):
        rates = {"input_dropout": 0.1, "hidden_dropout": 0.1, "output_dropout": 0.1}
        settings = RecurrentSettings(hidden=hidden, computation=computation, **rates)
        x, y = (torch.randint(V, (steps, batch)) for _ in range(2))
        return Ours(RecurrentNetwork(rnn_cell(), settings, V), x, y, clip=0.25)


def all_sep_3x3() -> Architecture:
    """Every node: separable 3x3 of both inputs of the cell."""
    space, choices = conv_micro(), {}
    for decision in space.decisions:
        source = "prev_prev" if decision.name.endswith("0") else "prev"
        choices[decision.name] = source if "input" in decision.name else "sep_conv_3x3"
    return space.architecture(choices)


def all_3x3() -> Architecture:
    return from_string("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")


def drawn(space: SearchSpace, n: int) -> list[Architecture]:
    rng = random.Random(0)
    return [space.sample(rng) for _ in range(n)]


# ------------------------------------------------------------------------------------------- rows
def compared(
    what: str,
    sizes: Mapping[str, Any],
    programs: Mapping[str, Program],
    method: str,
    arch: Architecture,
    rounds: int,
    gflops: float | None = None,
    times: int = 3,
    share: Mapping[str, int] | None = None,
    memory: tuple[Any, ...] | None = None,
) -> None:
    """One line a program, and one a ratio to ours. gflops: of the forward; `times` that is the work
    of what is timed. share: architectures that a call scores, where that is not one. memory: what
    `peak_memory` calls for ours."""
    for name, program in programs.items():
        program.prepare("step") if name == "peak" else program.prepare(method, arch)
    seconds = paired(programs, rounds, warm=1 if rounds < 4 else 2)
    peak = seconds.pop("peak")
    for name, taken in seconds.items():
        each = [s / (share or {}).get(name, 1) for s in taken]
        seconds[name] = each
        more: dict[str, Any] = {}
        if gflops is not None:
            more = {"gflops_forward": round(gflops, 3), "fraction_of_gemm_peak": share_of_peak(gflops * times, each, peak)}
        if memory is not None and name == "ours":
            more["peak_mem_mb"] = peak_memory(*memory)
        emit(f"{what}, {name}", sizes, each, **more)
    for name in seconds:
        if name != "ours":
            emit(f"{what}, {name} / ours", sizes, seconds["ours"], **ratio(seconds[name], seconds["ours"]))


def over_drawn(
    what: str,
    sizes: Mapping[str, Any],
    programs: Mapping[str, Program],
    archs: Sequence[Architecture],
    gflops: list[float],
    memory: tuple[Any, ...] | None = None,
) -> None:
    """Training steps of the same drawn children, each program in turn; the mean over children
    counts."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    programs["peak"].prepare("step")
    for arch in archs:
        for name, program in programs.items():
            if name != "peak":
                program.prepare("train", arch)
        for name, seconds in paired(programs, 1, warm=1).items():
            taken[name] += seconds
    peaks = taken.pop("peak")
    for name, each in taken.items():
        work = [3 * g * p / GIGA for g, p in zip(gflops, peaks, strict=True)]
        counts: dict[str, Any] = {"gflops_forward": round(fmean(gflops), 3)}
        counts["fraction_of_gemm_peak"] = round(sum(work) / sum(each), 4)
        if memory is not None and name == "ours":
            counts["peak_mem_mb"] = peak_memory(*memory)
        emit(f"{what}, {name}", sizes, each, mean=True, **counts)
    for name, each in taken.items():
        if name != "ours":
            times = round(sum(each) / sum(taken["ours"]), 3)
            emit(f"{what}, {name} / ours", sizes, taken["ours"], mean=True, ratio=times)


@contextmanager
def running(threads: int, ours: tuple[Any, ...], others: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Program]]:
    programs = {"ours": Program(threads, *ours), "peak": Program(threads, Product)}
    programs |= {name: Program(threads, *made) for name, made in others.items()}
    try:
        yield programs
    finally:
        for program in programs.values():
            program.close()


def step_in_a_process(make: Callable[..., Ours], arch: Architecture, *args: Any) -> None:
    step = make(*args).train(arch)
    for _ in range(2):
        step()


def drawn_in_a_process(make: Callable[..., Ours], n: int) -> None:
    ours = make()
    for arch in drawn(ours.network.space, n):
        ours.train(arch)()


def micro_rows(rounds: int, n: int, threads: int) -> None:
    path, arch, here = peers.folder("NNI"), all_sep_3x3(), micro()
    others: dict[str, tuple[Any, ...]] = {}
    if path:
        others = {name: (peers.NNI, path, 20, 8, BATCH, "last" in name) for name in ("NNI", "NNI channels_last")}
    sizes = {"nodes": 5, "filters": 20, "cells": 8, "batch": BATCH, "threads": threads}
    fixed = sizes | {"child": "all separable 3x3"}
    gflops = forward_gflops(here.forward(arch))
    archs = drawn(here.network.space, n)
    counts = [forward_gflops(here.forward(a)) for a in archs]
    with running(threads, (micro,), others) as programs:
        memory: tuple[Any, ...] = (step_in_a_process, micro, arch)
        compared("micro training step", fixed, programs, "train", arch, rounds, gflops, memory=memory)
        compared("micro forward", fixed, programs, "forward", arch, rounds, gflops, times=1)
        what = "micro training step, mean of drawn children"
        over_drawn(what, sizes | {"children": n}, programs, archs, counts, memory=(drawn_in_a_process, micro, n))
        share = dict.fromkeys(others, peers.NNI.updates) | {"ours": Ours.updates}
        what = "micro controller step, an architecture"
        compared(what, sizes, programs, "controller", arch, 2 if path else rounds, share=share)


def nasbench201_rows(rounds: int, n: int, threads: int) -> None:
    path, arch, here = peers.folder("XAUTODL"), all_3x3(), nb201()
    others: dict[str, tuple[Any, ...]] = {}
    if path:
        names = ("xautodl", "xautodl channels_last")
        others = {name: (peers.Xautodl, path, 16, 5, BATCH, "last" in name) for name in names}
    sizes = {"filters": 16, "cells a stage": 5, "batch": BATCH, "threads": threads}
    fixed = sizes | {"child": "all 3x3"}
    gflops = forward_gflops(here.forward(arch))
    archs = drawn(here.network.space, n)
    counts = [forward_gflops(here.forward(a)) for a in archs]
    with running(threads, (nb201,), others) as programs:
        memory: tuple[Any, ...] = (step_in_a_process, nb201, arch)
        compared("NAS-Bench-201 training step", fixed, programs, "train", arch, rounds, gflops, memory=memory)
        compared("NAS-Bench-201 forward", fixed, programs, "forward", arch, rounds, gflops, times=1)
        what = "NAS-Bench-201 training step, mean of drawn children"
        over_drawn(what, sizes | {"children": n}, programs, archs, counts)


def recurrent_rows(rounds: int, hidden: int, threads: int) -> None:
    path, arch = peers.folder("ENAS_PYTORCH"), named("enas_rnn")
    others = {"ENAS-pytorch": (peers.EnasPytorch, path, hidden, BATCH, T, V, 12)} if path else {}
    sizes = {"nodes": 12, "hidden": hidden, "batch": BATCH, "steps": T, "vocabulary": V, "threads": threads}
    # Counted on the cell as it is written in a textbook: torch's counter does not know products
    # that add in place.
    gflops = forward_gflops(recurrent(hidden, computation="plain").forward(arch))
    fixed = sizes | {"child": "Figure 6"}
    with running(threads, (recurrent, hidden), others) as programs:
        memory: tuple[Any, ...] = (step_in_a_process, recurrent, arch, hidden)
        compared("recurrent training step", fixed, programs, "train", arch, rounds, gflops, memory=memory)
        what, share = "recurrent controller step, an architecture", {"ours": Ours.updates}
        compared(what, sizes, programs, "controller", arch, max(1, rounds - 2), share=share)


def main() -> None:
    parser = options(__doc__, 5)
    parser.add_argument("what", nargs="*", default=["micro", "nasbench201", "recurrent"], help="spaces to measure")
    parser.add_argument("--drawn", type=int, default=12, help="children drawn for the rows that take a mean")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if "micro" in args.what:
        micro_rows(args.rounds, args.drawn, args.threads)
    if "nasbench201" in args.what:
        nasbench201_rows(args.rounds, args.drawn, args.threads)
    if "recurrent" in args.what:
        for hidden in (200, 1000):
            recurrent_rows(args.rounds if hidden < 500 else max(2, args.rounds - 2), hidden, args.threads)


if __name__ == "__main__":
    main()
