"""What a search and its trainings cost, from the clocks in their folders, and the ratio that the paper's title is about:
what training each child to the end would have cost, over what the search did. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from enas.logs import read_lines


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

    def __str__(self) -> str:
        each = self.training_seconds / self.trainings
        return (
            f"the search took {self.search_seconds:.0f} s and saw {self.children:,} children; training each of them alone,"
            f" at {each:.0f} s, would have cost {self.times_cheaper:,.0f} times as much; {self.trainings} trainings took"
            f" {self.training_seconds:.0f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ledger(run: Path, trainings: Iterable[Path]) -> Ledger | None:
    """None where a clock is missing. Clocks have whole seconds: short trainings count as at least one."""
    folders = list(dict.fromkeys(trainings))
    search = seconds_at_work(run)
    if search <= 0 or not folders:
        return None
    children = len({record["id"] for record in read_lines(run / "architectures.jsonl")})
    total = sum(max(1.0, seconds_at_work(folder)) for folder in folders)
    return Ledger(search, len(folders), total, children, children * total / len(folders) / search)
