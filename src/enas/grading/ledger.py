"""This module computes what a search and its trainings cost, by the clocks in their folders. It
also computes the ratio in the paper's title: the cost of training every child to the end, divided
by the cost of the search and its derivation. It does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from enas.runs.compared import Ledger
from enas.runs.files import blaming
from enas.runs.records import sampled, ticks

STARTS = ("begin", "resume")  # ticks before which nothing was running


def _works(folder: Path) -> Iterator[tuple[float, int]]:
    """Yields the seconds from each tick to the next at which a search or a training was running,
    with the number of its processes."""
    ranks = 1
    with blaming(folder / "timing.jsonl"):
        for before, tick in pairwise(ticks(folder)):
            ranks = before.ranks if before.event in STARTS else ranks
            if tick.event not in STARTS:  # a clock may be set back
                yield max(0.0, (tick.at - before.at).total_seconds()), ranks


def seconds_at_work(folder: Path) -> float:
    """Returns how long a search or a training ran, in seconds: from each begin or resume to the
    last tick before the next one. Returns 0 where nothing is recorded."""
    return sum(seconds for seconds, _ in _works(folder))


def processes(folder: Path) -> float:
    """Returns in how many processes (ranks) a search or a training ran, as a mean over its time.
    Returns 1 where nothing is recorded."""
    total = weight = 0.0
    for seconds, ranks in _works(folder):
        weight += max(seconds, 1e-9)
        total += max(seconds, 1e-9) * ranks
    return total / weight if weight else 1.0


def ledger(
    run: Path,
    trainings: Iterable[Path],
    search_macs: float = 0.0,
    training_macs: float = 0.0,
    derivation_seconds: float = 0.0,
) -> Ledger | None:
    """Returns the costs, or None where a clock is missing. Clocks have whole seconds, and each
    counts at least one. The search costs the seconds of each of its processes.
    `derivation_seconds` are those of the derivation, scores and short trainings, one after the
    other."""
    folders = list(dict.fromkeys(trainings))
    if next(ticks(run), None) is None or not folders:
        return None
    search = max(1.0, seconds_at_work(run))
    children = len({child.id for child in sampled(run)})
    total = sum(max(1.0, seconds_at_work(folder)) for folder in folders)
    ranks = processes(run)
    cheaper = children * total / len(folders) / (search * ranks + derivation_seconds)
    return Ledger(search, len(folders), total, children, cheaper, search_macs, training_macs, derivation_seconds, ranks)
