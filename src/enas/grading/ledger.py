"""This module computes what a search and its trainings cost, by the clocks in their folders. It
also computes the ratio in the paper's title: the cost of training every child to the end, divided
by the cost of the search and its derivation. It does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from enas.runs.compared import Ledger
from enas.runs.files import blaming
from enas.runs.records import sampled, ticks


def seconds_at_work(folder: Path) -> float:
    """Returns how long a search or a training ran, in seconds: from each begin or resume to the
    last tick before the next one. Returns 0 where nothing is recorded."""
    with blaming(folder / "timing.jsonl"):
        works = (tick.at - before.at for before, tick in pairwise(ticks(folder)) if tick.event not in ("begin", "resume"))
        return sum(max(0.0, work.total_seconds()) for work in works)  # a clock may be set back


def ledger(
    run: Path,
    trainings: Iterable[Path],
    search_macs: float = 0.0,
    training_macs: float = 0.0,
    derivation_seconds: float = 0.0,
) -> Ledger | None:
    """Returns the costs, or None where a clock is missing. Clocks have whole seconds, and each
    counts at least one. `derivation_seconds` are those of the derivation, scores and short
    trainings, one after the other."""
    folders = list(dict.fromkeys(trainings))
    if next(ticks(run), None) is None or not folders:
        return None
    search = max(1.0, seconds_at_work(run))
    children = len({child.id for child in sampled(run)})
    total = sum(max(1.0, seconds_at_work(folder)) for folder in folders)
    cheaper = children * total / len(folders) / (search + derivation_seconds)
    return Ledger(search, len(folders), total, children, cheaper, search_macs, training_macs, derivation_seconds)
