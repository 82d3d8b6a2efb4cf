"""Strategies against the truth: a table that has the accuracy of every architecture of a space (NAS-Bench-201,
NAS-Bench-Macro; `enas.spaces.registry` says how each is read).

A strategy alone is asked and told from the table: no weights, nothing to train, only what it learns from. Its *regret*
after q queries is what the best architecture of the table scores, less what the best of its q queries by reward scores.
Rewards are from one column, scores from another: where the benchmark has both, of a short training, validated, and of the
full one, tested, as a search has it.

Shapes: S seeds, Q queries.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.strategies.strategy import Strategy


@dataclass(frozen=True)
class Table:
    """What is known of each architecture: columns of numbers, accuracies in percent."""

    name: str
    archs: tuple[Architecture, ...]
    columns: Mapping[str, tuple[float, ...]]

    def column(self, name: str) -> dict[Architecture, float]:
        """Architecture to value; ValueError where there is no such column."""
        if name not in self.columns:
            raise ValueError(f"a column of '{self.name}' is one of {', '.join(self.columns)}; got '{name}'")
        return dict(zip(self.archs, self.columns[name], strict=True))


def read_table(
    path: Path, space: SearchSpace, parse: Callable[[str], Architecture], form: Literal["csv", "json"] = "csv"
) -> Table:
    """A file, .gz or not. `csv`: a column `arch` in the space's published form, and columns of numbers. `json`: an object
    with an entry for each published form, itself an object of numbers; a list of three is three columns, `name_1` to
    `name_3`.

    ValueError where the file is missing or is not that, or where an architecture is missing or of another space."""
    if not path.is_file():
        raise ValueError(f"--table is a file of the benchmark's accuracies; there is none at '{path}'")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        rows = (_csv_rows if form == "csv" else _json_rows)(text, path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, zlib.error, RecursionError) as error:
        raise ValueError(f"'{path}' is not a {form.upper()} file that can be read: {error}") from None
    archs = tuple(space.check(parse(published)) for published, _ in rows)
    if len(set(archs)) != space.size():
        raise ValueError(f"a table has each of the {space.size():,} architectures; '{path}' has {len(set(archs)):,}")
    names = list(rows[0][1])
    try:
        columns = {name: tuple(float(row[name]) for _, row in rows) for name in names}
    except KeyError as error:
        raise ValueError(f"each architecture of a table has the same columns; in '{path}' one lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"columns of a table are numbers; in '{path}': {error}") from None
    return Table(path.name, archs, columns)


def _csv_rows(text: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(published form, values by column) of each architecture."""
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or "arch" not in rows[0]:
        raise ValueError(f"a table has a column 'arch' and one of numbers at least; '{path}' has not")
    return [(row["arch"], {name: row[name] for name in rows[0] if name not in ("arch", "index")}) for row in rows]


def _json_rows(text: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    entries = json.loads(text)
    if not isinstance(entries, dict) or not entries or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"a table is a JSON object that has an object of numbers for each architecture; '{path}' is not")
    rows = []
    for published, entry in entries.items():
        row: dict[str, Any] = {}
        for name, value in entry.items():
            row |= {f"{name}_{i}": v for i, v in enumerate(value, 1)} if isinstance(value, list) else {name: value}
        rows.append((published, row))
    return rows


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
