"""This module holds frozen values for the files that a run writes while it goes on. The code that
writes a file and the code that reads it both use the class of that file. This module does not
import torch.

`enas.runs.values` says how the values are written and read. `enas.runs.results` and
`enas.runs.compared` hold the results of a run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Self

from enas.ranges import THREADS, check_name, check_ranges
from enas.reading import SEAL, check_folder
from enas.runs.before import flat_settings
from enas.runs.checkpoint import check_logs
from enas.runs.files import Damaged, blaming, each_line, lines, record_of, stamped_lines
from enas.runs.marks import trust_own
from enas.runs.values import VERSION, File, Json, Value, parsed
from enas.state import Record

MOST_EPOCHS = 4000  # most epochs that a report reads: more than a chart can show


@dataclass(frozen=True)
class Config(File):
    """A `Config` is the content of config.json, to be read: everything that a run was asked for. A
    `Plan` writes it."""

    FILE: ClassVar[str] = "config.json"
    BESIDE: ClassVar[frozenset[str]] = frozenset(("version", SEAL))
    MISSING: ClassVar[str] = "a run is a folder with a config.json; '{folder}' has none (`enas search` makes one)"
    command: str
    preset: str
    recipe: str
    settings: Json  # values by dotted names
    names: Mapping[str, str] | None = None  # names of its parts
    seed: int | None = None
    data: str | None = None
    device: str = "cpu"
    threads: int = 1
    source: Mapping[str, str] | None = None
    limits: Json = field(default_factory=dict)
    latencies: Json | None = None
    versions: Json = field(default_factory=dict)
    machine: Json = field(default_factory=dict)
    mark: str | None = None
    train_seed: int = 0
    architecture: Json | None = None  # what a training trains: an architecture or a reference

    def __post_init__(self) -> None:
        check_name("its command", self.command, ("search", "retrain", "table"))
        check_ranges(self, "", threads=THREADS)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the file, as every `File` does. Raises a ValueError also where something in the
        folder is a link, a pipe or a device."""
        if os.path.isdir(folder):
            check_folder(folder)
        return super().read(folder)

    @classmethod
    def from_json(cls, data: object) -> Self:
        config = parsed(Json, data)
        if isinstance(version := config.get("version", VERSION), int) and version > VERSION:
            raise Damaged("its config.json was written by a later version of enas")
        for name in ("settings", "names"):
            if name in config:
                parsed(Json, config[name], name)
        trust_own(config)
        return super().from_json({**config, "settings": flat_settings(config)})


@dataclass(frozen=True)
class Tick(Value):
    """A `Tick` is a line of the clock, timing.jsonl."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(
        ("epoch", "phase", "step", "seconds", "threads", "estimated_seconds", "factor", "sent_bytes")
    )

    event: str
    time: str = ""
    why: str = ""
    ranks: int = 1  # number of processes that began or resumed

    @property
    def at(self) -> datetime:
        """Returns the time of the event."""
        return datetime.fromisoformat(self.time)


@dataclass(frozen=True)
class Sampled(Value):
    """A `Sampled` value is a line of architectures.jsonl: a child that was trained or scored."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("epoch", "step", "child", "loss", "reward", "skipped"))

    id: str
    phase: str = ""
    choices: Json | None = None  # where the architecture appears for the first time


@dataclass(frozen=True)
class Learned(Value):
    """A `Learned` value says what the policy had learned after an epoch. `mean` is the mean reward
    of its samples minus that of random architectures, on the same shared weights and minibatches,
    with its 95 % interval."""

    epoch: int
    mean: float
    half_width: float


def ticks(folder: Path) -> Iterator[Tick]:
    """Yields the lines of the clock. Raises `Damaged` where a line is not as it was written, or
    where lines that the last checkpoint knows of are missing."""
    check_logs(folder, "timing")
    with blaming(folder / "timing.jsonl"):
        yield from map(Tick.from_json, stamped_lines(folder / "timing.jsonl"))


def sampled(folder: Path) -> Iterator[Sampled]:
    """Yields the children of a search. Raises `Damaged` as `ticks` does."""
    check_logs(folder, "architectures")
    with blaming(folder / "architectures.jsonl"):
        yield from map(Sampled.from_json, each_line(folder / "architectures.jsonl"))


def epochs(folder: Path, most: int = MOST_EPOCHS) -> list[Record]:
    """Returns the lines of metrics.jsonl, whose names depend on task and strategy. Where there are
    more than `most`, returns every second, every third and so on, and the last. Raises `Damaged` as
    `ticks` does."""
    file = folder / "metrics.jsonl"
    check_logs(folder, "metrics")
    number = sum(1 for _ in lines(file))
    records = []
    with blaming(file):
        for i, line in enumerate(lines(file), 1):
            if i % -(-number // most) == 0 or i == number:
                record = record_of(line)
                if type(record.get("epoch")) is not int:
                    raise ValueError(f"line {i} has no whole number 'epoch'")
                records.append(record)
    return records


def learned(folder: Path) -> tuple[Learned, ...]:
    """Returns an entry for each epoch that the search probed."""
    gap = "policy_minus_uniform"
    return tuple(Learned(line["epoch"], line[gap], line[f"{gap}_half_width"]) for line in epochs(folder) if gap in line)
