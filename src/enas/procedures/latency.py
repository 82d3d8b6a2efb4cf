"""Latencies of all architectures of a network, from the measured ones of a few.

Random children run side by side, one forward pass of each in turn, so that what disturbs the
machine disturbs all alike. The median of each is taken as a sum over its addresses. Addresses that
are alike (`enas.networks.cost`) take the same time. Their times are the least-squares solution
without negative ones, in relative errors, drawn a little to a first guess: a time per address and
one per multiply-accumulate. Other children, that were left out, say how good that is.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.stats import kendalltau
from torch import nn

from enas.networks.attributed import REST
from enas.networks.cost import Bill, answered, key
from enas.ranges import COUNT, at_least, check_ranges
from enas.spaces.architecture import Architecture

DRAWN = 0.1  # weight of the first guess of a time beside one measured child


@dataclass(frozen=True)
class LatencySettings:
    """What is measured."""

    batch: int = 1
    """Number of images, or of tokens side by side, of a forward pass."""
    children: int = 40
    """Number of random children from which the times are made."""
    held_out: int = 20
    """Number of further ones that say how far off the sums are."""
    rounds: int = 15
    """Forward passes of each child; the median counts."""

    def __post_init__(self) -> None:
        check_ranges(self, "", batch=COUNT, children=at_least(5), held_out=at_least(5), rounds=COUNT)


@dataclass(frozen=True)
class Latencies:
    """Seconds by addresses that are alike, and how far off their sums are on other children."""

    seconds: dict[str, float]
    examples: dict[str, str]
    """An address of each."""
    kendall: float
    """Kendall's tau between predicted and measured latencies of the children held out."""
    relative_error: float
    """Their median relative error."""
    largest_error: float
    """The largest one."""


def timed(models: Sequence[nn.Module], example: tuple[torch.Tensor, ...], rounds: int) -> list[float]:
    """Returns the median seconds of a forward pass of each model, measured in turn."""
    cuda = example[0].is_cuda
    seconds: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for done in range(rounds + 2):  # the first two warm up
            for model, own in zip(models, seconds, strict=True):
                start = time.perf_counter()
                answered(model(*example, None))
                if cuda:
                    torch.cuda.synchronize()
                own += [time.perf_counter() - start] if done >= 2 else []
    return [median(own) for own in seconds]


def measure(
    settings: LatencySettings,
    bill: Bill,
    build: Callable[[Architecture], nn.Module],
    example: tuple[torch.Tensor, ...],
    seed: int = 0,
) -> Latencies:
    """Returns the latencies. `build` makes the child of an architecture; `example` is what it is
    called with, on its device."""
    n = settings.children
    archs = bill.network.space.samples(random.Random(seed), n + settings.held_out)[0]
    seconds = np.array(timed([build(arch).eval() for arch in archs], example, settings.rounds))
    places: dict[str, str] = {}
    counts, macs = [], {}
    for arch in archs:
        bill.of(arch)  # from now on every address of it has a price
        addresses = [REST, *bill.used(arch)]
        names = [key(bill.alike(address)) for address in addresses]
        counts.append(Counter(names))
        for name, address in zip(names, addresses, strict=True):
            places.setdefault(name, address)
            macs[name] = float(bill.price(address)[1])
    features = list(places)
    matrix = np.array([[count[name] for name in features] for count in counts], dtype=float)
    solved = solve(matrix[:n], seconds[:n], np.array([macs[name] for name in features]))
    predicted, measured = matrix[n:] @ solved, seconds[n:]
    errors = np.abs(predicted / measured - 1)
    return Latencies(
        dict(zip(features, solved.tolist(), strict=True)),
        places,
        float(np.nan_to_num(kendalltau(predicted, measured).statistic)),
        float(np.median(errors)),
        float(errors.max()),
    )


def solve(counts: np.ndarray, seconds: np.ndarray, macs: np.ndarray) -> np.ndarray:
    """Returns the time of each kind of address (F,), none negative: of `counts` (n, F) of them in n
    children that took `seconds` (n,), and of the multiply-accumulates of each kind (F,)."""
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
