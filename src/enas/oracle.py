"""Strategies against the truth: a table that has the accuracy of every architecture of a space (NAS-Bench-201).

A strategy alone is asked and told from the table: no weights, nothing to train, only what it learns from. Its *regret*
after q queries is what the best architecture of the table scores, less what the best of its q queries by reward scores.
Rewards are from one column (a short training, validated), scores from another (the full training, tested), as a search has
it.

Shapes: S seeds, Q queries.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enas.architecture import Architecture
from enas.space import SearchSpace
from enas.strategies import Strategy


@dataclass(frozen=True)
class Table:
    """What is known of each architecture: columns of percent."""

    name: str
    archs: tuple[Architecture, ...]
    columns: Mapping[str, tuple[float, ...]]

    def column(self, name: str) -> dict[Architecture, float]:
        """Architecture to value; ValueError where there is no such column."""
        if name not in self.columns:
            raise ValueError(f"a column of '{self.name}' is one of {', '.join(self.columns)}; got '{name}'")
        return dict(zip(self.archs, self.columns[name], strict=True))


def read_table(path: Path, space: SearchSpace, parse: Callable[[str], Architecture]) -> Table:
    """A CSV file (.csv or .csv.gz) with a column `arch` in the space's published form, and columns of numbers.

    ValueError where the file is missing or is not that, or where an architecture is missing or of another space."""
    if not path.is_file():
        raise ValueError(f"--table is a file of the benchmark's accuracies; there is none at '{path}'")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        rows = list(csv.DictReader(text.splitlines()))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise ValueError(f"'{path}' is not a CSV file that can be read: {error}") from None
    if not rows or "arch" not in rows[0]:
        raise ValueError(f"a table has a column 'arch' and one of numbers at least; '{path}' has not")
    names = [name for name in rows[0] if name not in ("arch", "index")]
    archs = tuple(space.check(parse(row["arch"])) for row in rows)
    if len(set(archs)) != space.size():
        raise ValueError(f"a table has each of the {space.size():,} architectures; '{path}' has {len(set(archs)):,}")
    try:
        columns = {name: tuple(float(row[name]) for row in rows) for name in names}
    except (TypeError, ValueError) as error:
        raise ValueError(f"columns of a table are numbers; in '{path}': {error}") from None
    return Table(path.name, archs, columns)


@dataclass(frozen=True)
class Curves:
    """Of one strategy: the score of the best so far by reward, (S, Q), percent."""

    strategy: str
    scores: np.ndarray

    def regret(self, best: float) -> np.ndarray:
        return best - self.scores


@dataclass(frozen=True)
class Played:
    """One seed of one strategy is done."""

    strategy: str
    seed: int
    seeds: int
    scores: list[float]


def play(
    make: Callable[[int], Strategy],
    name: str,
    reward: Mapping[Architecture, float],
    score: Mapping[Architecture, float],
    queries: int,
    seeds: int,
    at_a_time: int,
) -> Iterator[Played]:
    """Ask and tell until the queries are spent, for each seed; rewards are told as shares (percent / 100). An architecture
    that is asked for again counts again."""
    for seed in range(seeds):
        strategy = make(seed)
        best = -math.inf
        scores: list[float] = []
        while len(scores) < queries:
            archs = strategy.ask(min(at_a_time, queries - len(scores)))
            strategy.tell(archs, [reward[arch] / 100 for arch in archs])
            for arch in archs:
                if reward[arch] > best:
                    best, chosen = reward[arch], arch
                scores.append(score[chosen])
        yield Played(name, seed, seeds, scores)
