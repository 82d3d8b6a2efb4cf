"""Latencies of all architectures of a network, from the measured ones of a few.

Random children run side by side, one forward pass of each in turn, so that what disturbs the
machine disturbs all alike. The fastest pass of each counts: other processes make passes slower and
never faster. With one thread on a CPU it is processor time, which on an idle machine is that of the
clock, and on a busy one does not count what waits. It is taken as a sum over the parts of the child
(`enas.networks.cost`). The times of parts are the least-squares solution without negative ones, in
relative errors, drawn a little to a first guess: a time per part and one per multiply-accumulate.
Other children, that were left out, say how good that is.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.stats import kendalltau

from enas.networks.cost import Bill, OwnBill
from enas.ranges import COUNT, at_least, check_ranges
from enas.spaces.architecture import Architecture

DRAWN = 0.1  # weight of the first guess of a time beside one measured child


@dataclass(frozen=True)
class LatencySettings:
    """What is measured."""

    batch: int = 1
    """Number of examples, or of tokens side by side, of a forward pass."""
    children: int = 40
    """Number of random children from which the times are made."""
    held_out: int = 20
    """Number of further ones that say how far off the sums are."""
    rounds: int = 15
    """Forward passes of each child; the fastest counts."""

    def __post_init__(self) -> None:
        check_ranges(self, "", batch=COUNT, children=at_least(5), held_out=at_least(5), rounds=COUNT)


@dataclass(frozen=True)
class Latencies:
    """Seconds of parts by their keys, and how far off their sums are on other children."""

    seconds: dict[str, float]
    examples: dict[str, str]
    """Where each occurs."""
    kendall: float
    """Kendall's tau between predicted and measured latencies of the children held out."""
    relative_error: float
    """Their median relative error."""
    largest_error: float
    """The largest one."""


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Returns the clock that passes on a device are timed by, in seconds."""

    def after_all() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    if device.startswith("cuda"):
        return after_all
    return time.thread_time if threads == 1 else time.perf_counter


def timed(passes: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Returns the seconds of the fastest of `rounds` runs of each function, run in turn."""
    fastest = [math.inf] * len(passes)
    with torch.inference_mode():
        for done in range(rounds + 2):  # the first two warm up
            for i, forward in enumerate(passes):
                start = clock()
                forward()
                fastest[i] = min(fastest[i], clock() - start) if done >= 2 else math.inf
    return fastest


def measure(
    settings: LatencySettings,
    bill: Bill | OwnBill,
    build: Callable[[Architecture], Callable[[], object]],
    clock: Callable[[], float],
    seed: int = 0,
) -> Latencies:
    """Returns the latencies. `build` makes the child of an architecture, and returns a function
    that runs a forward pass of it."""
    n, every = settings.children, {part.key: part for part in bill.every_part()}
    archs = bill.network.space.samples(random.Random(seed), n + settings.held_out)[0]
    seconds = np.array(timed([build(arch) for arch in archs], settings.rounds, clock))
    counts = [Counter(part.key for part in bill.parts(arch)) for arch in archs]
    matrix = np.array([[count[name] for name in every] for count in counts], dtype=float)
    solved = solve(matrix[:n], seconds[:n], np.array([part.macs for part in every.values()]))
    predicted, measured = matrix[n:] @ solved, seconds[n:]
    errors = np.abs(predicted / measured - 1)
    return Latencies(
        dict(zip(every, solved.tolist(), strict=True)),
        {name: part.example for name, part in every.items()},
        float(np.nan_to_num(kendalltau(predicted, measured).statistic)),
        float(np.median(errors)),
        float(errors.max()),
    )


def solve(counts: np.ndarray, seconds: np.ndarray, macs: np.ndarray) -> np.ndarray:
    """Returns the time of each part (F,), none negative: of `counts` (n, F) of them in n children
    that took `seconds` (n,), and of the multiply-accumulates of each (F,)."""
    simple = np.stack([counts.sum(1), counts @ macs], 1)
    scale = np.maximum(simple.max(0), 1e-30)
    first, _ = nnls(simple / scale / seconds[:, None], np.ones(len(seconds)))
    guess = np.maximum((first / scale) @ np.stack([np.ones_like(macs), macs]), 1e-12)
    drawn = DRAWN * np.eye(len(macs))  # in shares of the guess
    shares, _ = nnls(
        np.concatenate([counts * guess / seconds[:, None], drawn]),
        np.concatenate([np.ones(len(seconds)), DRAWN * np.ones(len(macs))]),
    )
    return np.asarray(shares * guess)
