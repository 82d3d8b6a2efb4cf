"""What a search and its trainings cost, from the clocks in their folders, and the ratio that the paper's title is about:
what training each child to the end would have cost, over what the search did. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from enas.runs.files import read_lines


def seconds_at_work(folder: Path) -> float:
    """Of a search or a training: from each begin or resume to what came last after it; 0 where nothing is recorded."""
    records = read_lines(folder / "timing.jsonl")
    times = [datetime.fromisoformat(record["time"]) for record in records]
    pauses = [record["event"] in ("begin", "resume") for record in records[1:]]
    return sum((b - a).total_seconds() for a, b, pause in zip(times, times[1:], pauses, strict=False) if not pause)


@dataclass(frozen=True)
class Ledger:
    """Seconds as the clock showed them, of processes of the run's number of threads each."""

    search_seconds: float
    trainings: int  # alone, to the end
    training_seconds: float  # all of them, one after the other
    children: int  # different architectures that the search trained or scored
    times_cheaper: float
    """Training each of these children alone, at the mean cost of a training, over the search."""
    search_macs: float = 0.0
    """Multiply-accumulates, which do not depend on the machine; 0: not counted."""
    training_macs: float = 0.0

    def __str__(self) -> str:
        each = self.training_seconds / self.trainings
        cheaper = f"{self.times_cheaper:,.0f} times as much"
        search, trainings = f"{self.search_seconds:.0f} s", f"{self.training_seconds:.0f} s"
        if self.search_macs and self.training_macs:
            by_work = self.children * self.training_macs / self.trainings / self.search_macs
            cheaper += f" ({by_work:,.0f} times by multiply-accumulates)"
            search += f" ({_large(self.search_macs)} multiply-accumulates)"
            trainings += f" ({_large(self.training_macs)})"
        return (
            f"the search took {search} and saw {self.children:,} children; training each of them alone,"
            f" at {each:.0f} s, would have cost {cheaper}; {self.trainings} trainings took {trainings}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _large(number: float) -> str:
    """1.23e+12 as 1.23 T."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def ledger(run: Path, trainings: Iterable[Path], search_macs: float = 0.0, training_macs: float = 0.0) -> Ledger | None:
    """None where a clock is missing. Clocks have whole seconds: a short search or training counts as one."""
    folders = list(dict.fromkeys(trainings))
    if not read_lines(run / "timing.jsonl") or not folders:
        return None
    search = max(1.0, seconds_at_work(run))
    children = len({record["id"] for record in read_lines(run / "architectures.jsonl")})
    total = sum(max(1.0, seconds_at_work(folder)) for folder in folders)
    cheaper = children * total / len(folders) / search
    return Ledger(search, len(folders), total, children, cheaper, search_macs, training_macs)
