"""This module predicts the latencies of all architectures of a network from the measured ones of a
few.

Random children run side by side, one forward pass of each in turn, so that whatever disturbs the
machine disturbs all alike. The fastest pass of each counts, because other processes make passes
slower and never faster. With one thread on a CPU the time is processor time. On an idle machine
that is the time of the clock, and on a busy one it leaves out waiting.

The time of a child is taken to be a sum over its parts (`enas.networks.cost`). The times of parts
are the non-negative least-squares solution in relative errors. It is drawn a little towards a first
guess: one time per part plus one time per multiply-accumulate. Further children, which were left
out, say how good the prediction is.
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

DRAWN = 0.1  # weight of a part's first guess, where a measured child has weight 1


@dataclass(frozen=True)
class LatencySettings:
    """These settings say what is measured."""

    batch: int = 1
    """Number of examples, or of tokens side by side, in a forward pass."""
    children: int = 40
    """Number of random children from which the times are computed."""
    held_out: int = 20
    """Number of further children that say how far off the sums are."""
    rounds: int = 15
    """Number of forward passes of each child; the fastest counts."""

    def __post_init__(self) -> None:
        check_ranges(self, "", batch=COUNT, children=at_least(5), held_out=at_least(5), rounds=COUNT)


@dataclass(frozen=True)
class Latencies:
    """A `Latencies` value holds the seconds of parts by their keys, and how far off their sums are
    on other children."""

    seconds: dict[str, float]
    examples: dict[str, str]
    """A place where each part occurs."""
    kendall: float
    """Kendall's tau between predicted and measured latencies of the children held out."""
    relative_error: float
    """The median relative error on these children."""
    largest_error: float
    """The largest relative error on these children."""
    others: int
    """Number of these children that are not among those that gave the times; a small space may
    have no others."""


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Returns the clock, in seconds, by which passes on a device are timed."""

    def after_all() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    if device.startswith("cuda"):
        return after_all
    return time.thread_time if threads == 1 else time.perf_counter


def timed(passes: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float]) -> list[float]:
    """Returns the seconds of the fastest of `rounds` runs of each function. The functions run in
    turn."""
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
        len(set(archs[n:]) - set(archs[:n])),
    )


def solve(counts: np.ndarray, seconds: np.ndarray, macs: np.ndarray) -> np.ndarray:
    """Returns the time of each part (F,) in seconds, none negative. `counts` (n, F) says how often
    each part occurs in n children, which took `seconds` (n,). `macs` (F,) holds the
    multiply-accumulates of each part."""
    simple = np.stack([counts.sum(1), counts @ macs], 1)
    scale = np.maximum(simple.max(0), 1e-30)
    first, _ = nnls(simple / scale / seconds[:, None], np.ones(len(seconds)))
    guess = np.maximum((first / scale) @ np.stack([np.ones_like(macs), macs]), 1e-12)
    drawn = DRAWN * np.eye(len(macs))  # unknowns are shares of the guess
    shares, _ = nnls(
        np.concatenate([counts * guess / seconds[:, None], drawn]),
        np.concatenate([np.ones(len(seconds)), DRAWN * np.ones(len(macs))]),
    )
    return np.asarray(shares * guess)
