"""This module compares strategies and searches with the truth: a table that has the accuracy of
every architecture of a space (NAS-Bench-201, NAS-Bench-Macro; `enas.spaces.registry` says how each
is read), or of a sample of a space (`enas.grading.table`).

A strategy by itself is asked and told from the table. There are no weights and nothing to train,
only the strategy learns. Its *regret* after q queries is the score of the best architecture of the
table, minus the score of the best of its q queries by reward. Rewards and scores are two columns.
Where the benchmark has both, they are the accuracy of a short training on validation images, and
that of the full training on test images. The regret in rewards, measured to the best reward of the
table, stands beside it. That one is the strategy's own doing, while the first is in part luck.

With limits on costs, all strategies are asked within the limits, and the best is the best within
them. Costs are those of the network that the benchmark trained.

A strategy may ask for any architecture of a space, so it can be played only where the table has
them all. In a sample, evolution would find no neighbours, and a policy would get no answer to most
of what it asks for. A search is compared with a sample in two ways: by how its shared weights rank
the rows, and by the trainings of its derived architecture that `enas compare` made by the table's
recipe.

In shapes, S is the number of seeds and Q the number of queries.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from enas.grading.asked import Asked
from enas.grading.opened import OpenedRun
from enas.grading.ranking import Grade, grade
from enas.grading.table import Built, is_built, located
from enas.procedures.statistics import Interval, difference, interval
from enas.ranges import check_name
from enas.reading import from_json, read_whole
from enas.runs.compared import Compared
from enas.runs.planning import preset_plan
from enas.runs.presets.registry import config_of, preset_for
from enas.runs.process import versions
from enas.runs.results import Best
from enas.runs.settings import as_recorded
from enas.runs.values import File, Value
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Limits
from enas.spaces.registry import SPACES, space_of
from enas.spaces.space import MOST_DRAWN, SearchSpace
from enas.state import Record
from enas.strategies.registry import STRATEGIES
from enas.strategies.strategy import Strategy
from enas.tasks.metrics import METRICS

TABLE_ONLY = "--table-only plays strategies without a run: `enas oracle {} --table FILE --table-only`"
NO_LIMITS = Limits()
MARKS = (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000)  # numbers of queries that a table shows


@dataclass(frozen=True)
class Table:
    """A `Table` holds columns of what is known of each architecture. Accuracies are in percent."""

    name: str
    archs: tuple[Architecture, ...]
    columns: Mapping[str, tuple[float, ...]]

    def column(self, name: str) -> dict[Architecture, float]:
        """Returns the values of a column by architecture. Raises a ValueError where there is no
        such column."""
        check_name(f"a column of '{self.name}'", name, self.columns)
        return dict(zip(self.archs, self.columns[name], strict=True))


def read_table(
    path: Path, space: SearchSpace, parse: Callable[[str], Architecture], form: Literal["csv", "json"] = "csv"
) -> Table:
    """Reads the file of a table, which may be packed as .gz. A `csv` has a column `arch` in the
    space's published form, and columns of numbers. A `json` is an object with an entry for each
    published form, which is itself an object of numbers. A list of three numbers becomes three
    columns, `name_1` to `name_3`.

    Raises a ValueError where the file is missing or is something else, or lacks an architecture.
    """
    if not path.is_file():
        raise ValueError(f"--table is a file of the benchmark's accuracies; there is none at '{path}'")
    try:
        text = read_whole(path).decode("utf-8-sig")  # spreadsheets write a byte order mark
        content = list(csv.DictReader(text.splitlines())) if form == "csv" else from_json(text)
    except (OSError, csv.Error, ValueError) as error:
        raise ValueError(f"'{path}' is not a {form.upper()} file that can be read: {error}") from None
    rows = _csv_rows(content, path) if form == "csv" else _json_rows(content, path)
    archs = tuple(space.check(parse(published)) for published, _ in rows)
    if len(set(archs)) != space.size():
        raise ValueError(f"a table has each of the {space.size():,} architectures; '{path}' has {len(set(archs)):,}")
    names = list(rows[0][1])
    try:
        columns = {name: tuple(float(row[name]) for _, row in rows) for name in names}
    except KeyError as error:
        raise ValueError(f"each architecture of a table has the same columns; in '{path}' one lacks {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"columns of a table are numbers; in '{path}': {str(error)[:80]}") from None
    for name, column in columns.items():
        if not all(map(math.isfinite, column)):
            raise ValueError(f"columns of a table are finite numbers; '{name}' of '{path}' holds one that is not")
    return Table(path.name, archs, columns)


def _csv_rows(rows: list[dict[str, Any]], path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Returns the published form and the values by column of each architecture."""
    if not rows or "arch" not in rows[0]:
        raise ValueError(f"a table has a column 'arch' and one of numbers at least; '{path}' has not")
    return [(row["arch"], {name: row[name] for name in rows[0] if name not in ("arch", "index")}) for row in rows]


def _json_rows(entries: Any, path: Path) -> list[tuple[str, dict[str, Any]]]:
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
class Truth:
    """A `Truth` is a table with its space. `reward` is the column that strategies are told, and
    `score` the column that counts."""

    table: Table
    space: SearchSpace
    preset: str  # preset whose strategy is played
    recipe: str
    reward: str
    score: str
    note: str  # what a reader of its figures has to know
    run: OpenedRun | None  # the search that is compared with it
    built: Built | None = None  # the table, where it is no published one
    limits: Limits = NO_LIMITS
    feasible: frozenset[Architecture] | None = None
    """The architectures within the limits, or None where all are."""

    @classmethod
    def read(cls, what: str, file: Path, asked: Asked, table_only: bool = False, limits: Limits = NO_LIMITS) -> Truth:
        """Reads the table for `what`: a space, or the folder of a search in it, or for a table that
        `enas table build` made, its preset. `limits` are those of strategies, since a search has
        its own. Raises a ValueError where there is no table of the space, or a column is
        missing."""
        file = located(file)
        if is_built(file):
            if limits.kinds:
                raise ValueError("limits are for a benchmark's space by its name; a table of one's own takes none")
            return cls._of_built(what, file, asked, table_only)
        benchmarks = {name: entry.benchmark for name, entry in SPACES.items() if entry.benchmark}
        run = OpenedRun.at(what) if what not in benchmarks and Path(what).is_dir() else None
        if what not in benchmarks and run is None:
            raise ValueError(f"`enas oracle` takes {', '.join(benchmarks)} or the folder of a run; got '{what}'")
        name = run.plan.space.name if run else what
        if name not in benchmarks:
            raise ValueError(f"there are tables of {' and '.join(benchmarks)}; '{what}' searches {name}")
        if run and table_only:
            raise ValueError(TABLE_ONLY.format(name))
        benchmark, space = benchmarks[name], SPACES[name].make(SPACES[name].settings())
        table = read_table(file, space, benchmark.parse, benchmark.form)
        reward, score = asked.reward or benchmark.reward, asked.score or benchmark.score
        truth = cls(table, space, preset_for(name), "quick", reward, score, benchmark.note, run)._checked()
        return truth.within(limits)

    @classmethod
    def _of_built(cls, what: str, file: Path, asked: Asked, table_only: bool) -> Truth:
        built = Built.read(file)
        space, metric = space_of(built.space), built.figure
        run = OpenedRun.at(what) if what not in (built.preset, space.name) and Path(what).is_dir() else None
        if what not in (built.preset, space.name) and run is None:
            raise ValueError(
                f"'{file}' is a table of preset {built.preset}: `enas oracle` takes that, or the folder of a run in its"
                f" space; got '{what}'"
            )
        if run and table_only:
            raise ValueError(TABLE_ONLY.format(built.preset))
        if run is None and not (built.complete and metric.larger_is_better):
            what_it_has = f"{len(built.rows):,} of {built.size:,} architectures" if not built.complete else metric.name
            raise ValueError(
                "strategies are played where the table has the accuracy of every architecture that they may ask for;"
                f" '{file}' has {what_it_has}: hold a run against it, `enas oracle RUN --table {file}`"
            )
        test, validation = (f"{part}_{metric.name}" for part in ("test", "validation"))
        columns = {test: built.figures(), validation: built.figures("validation")}
        columns["parameters"] = tuple(float(row.parameters) for row in built.rows)
        table = Table(file.name, built.architectures(), columns)
        reward, score = asked.reward or validation, asked.score or test
        sample = f"'{file}' has {len(built.rows):,} of {built.size:,} architectures: ranks and regrets are within these"
        note = "" if built.complete else sample
        truth = cls(table, space, built.preset, built.recipe, reward, score, note, run, built)._checked()
        return truth.within(NO_LIMITS) if run else truth

    def within(self, limits: Limits) -> Truth:
        """Returns the truth within limits: those that are given, or those of the run."""
        if self.run and limits.kinds:
            raise ValueError(f"a run has its own limits: leave them out, or name the space {self.space.name}")
        if self.run:
            plan = self.run.plan
        else:  # the network that was trained for the table
            published = preset_plan(self.preset, "paper", device="cpu").with_space(self.space.spec)
            plan = dataclasses.replace(published, limits=limits)
        if not plan.limits.kinds:
            return self
        space, obeys = plan.limited_space, list[bool]()
        for i in range(0, len(self.table.archs), MOST_DRAWN):
            some = [arch.choices for arch in self.table.archs[i : i + MOST_DRAWN]]
            obeys += [forbidden is None for forbidden in space.forbidden(some)]
        feasible = frozenset(compress(self.table.archs, obeys))
        if not feasible:
            raise ValueError(f"no architecture of '{self.table.name}' has {plan.limits.about()}")
        # the best of a table is the best within the limits, too
        built = self.built and dataclasses.replace(self.built, rows=tuple(compress(self.built.rows, obeys)))
        return dataclasses.replace(self, space=space, limits=plan.limits, feasible=feasible, built=built)

    def known(self, column: str) -> dict[Architecture, float]:
        """Returns a column of the table, for the architectures within the limits."""
        values = self.table.column(column)
        return (
            values if self.feasible is None else {arch: values[arch] for arch in self.table.archs if arch in self.feasible}
        )

    def _checked(self) -> Truth:
        """Returns itself. Raises a ValueError for a wrong name of a column, and for a column
        without figures, before minutes are spent."""
        for name in (self.reward, self.score):
            values = self.table.column(name).values()
            counts = self.run is None or name == self.score  # a run needs no rewards
            # trainings on validation data too have none of it
            if counts and not all(map(math.isfinite, values)):
                raise ValueError(
                    f"'{self.table.name}' has no figures of '{name}': name another column by --reward or --score"
                )
            accuracies = self.built is None or name.endswith("_accuracy")
            if accuracies and name != "parameters" and max(values) <= 1:
                raise ValueError(
                    f"a table holds accuracies in percent; the largest '{name}' of '{self.table.name}' is {max(values):g}:"
                    " it seems to hold shares, which times 100 are percent"
                )
        return self

    def parts(self, asked: Asked) -> int:
        """Returns how often `held_against` tells of its progress."""
        return asked.cells if self.run else len(STRATEGIES) * asked.seeds


@dataclass(frozen=True)
class Played:
    """A `Played` value is the result of one strategy with one seed."""

    strategy: str
    seed: int
    seeds: int
    scores: list[float]
    rewards: list[float]
    """The best reward so far, after each query."""


@dataclass(frozen=True)
class Reached(Value):
    """A `Reached` value says how well one strategy did over seeds, in percent."""

    score: Mapping[str, Interval]  # by number of queries
    regret: Interval  # after all queries
    above_uniform: Interval | None  # after all queries; None for random search itself
    # regret in rewards after all queries; None in files of earlier versions
    regret_in_rewards: Interval | None = None


@dataclass(frozen=True)
class Contest(File):
    """A `Contest` holds the results of all strategies on one table."""

    FILE: ClassVar[str] = "oracle.json"
    table: str
    reward: str
    score: str
    best: float  # score of the best architecture
    seeds: int
    queries: int
    versions: Mapping[str, str]
    note: str
    strategies: Mapping[str, Reached]
    verdict: tuple[str, ...]
    limits: str = ""  # limits in words
    architectures: int = 0  # number of architectures within them


def play(
    make: Callable[..., Strategy],
    name: str,
    reward: Mapping[Architecture, float],
    score: Mapping[Architecture, float],
    queries: int,
    seeds: int,
    at_a_time: int,
) -> Iterator[Played]:
    """Asks and tells a strategy until the queries are spent, for each seed, and yields the results.
    Rewards are told as shares (percent / 100). An architecture that is asked for again counts
    again."""
    for seed in range(seeds):
        strategy = make(seed=seed)
        best = -math.inf
        scores: list[float] = []
        rewards: list[float] = []
        while len(scores) < queries:
            archs = strategy.ask(min(at_a_time, queries - len(scores)))
            strategy.tell(archs, [reward[arch] / 100 for arch in archs])
            for arch in archs:
                if reward[arch] > best:
                    best, chosen = reward[arch], arch
                scores.append(score[chosen])
                rewards.append(best)
        yield Played(name, seed, seeds, scores, rewards)


def play_all(truth: Truth, asked: Asked, listen: Callable[[str], object]) -> tuple[Contest, dict[str, np.ndarray]]:
    """Plays every registered strategy. `listen` is called with a text after each seed. Returns the
    results, and the regret of each strategy, (S, Q)."""
    torch.set_num_threads(1)  # a controller's tensors are small
    recipe = config_of(truth.preset, truth.recipe)
    reward, score = truth.known(truth.reward), truth.known(truth.score)
    best, scores, gained = max(score.values()), {}, {}
    for name, entry in STRATEGIES.items():
        of_recipe, rows, last_rewards = isinstance(recipe.strategy, entry.settings), [], []
        make = partial(entry.make, truth.space, recipe.strategy if of_recipe else entry.settings())
        at_a_time = recipe.search.architectures if of_recipe else 1
        for played in play(make, name, reward, score, asked.queries, asked.seeds, at_a_time):
            rows.append(played.scores)
            last_rewards.append(played.rewards[-1])
            listen(f"{name}: seed {played.seed + 1} of {asked.seeds}")
        scores[name], gained[name] = np.array(rows), np.array(last_rewards)
    last = {name: scores_SQ[:, -1] for name, scores_SQ in scores.items()}
    marks = [mark for mark in MARKS if mark < asked.queries] + [asked.queries]
    gaps = {name: difference(last[name], last["random"]) for name in scores if name != "random"}
    reached = {
        name: Reached(
            {str(q): interval(found[:, q - 1]) for q in marks},
            interval(best - last[name]),
            gaps.get(name),
            interval(max(reward.values()) - gained[name]),
        )
        for name, found in scores.items()
    }
    contest = Contest(
        truth.table.name, truth.reward, truth.score, best, asked.seeds, asked.queries, versions(), truth.note,
        reached, tuple(f"{n} {_in_words(gap)} after {asked.queries} queries: {gap} points" for n, gap in gaps.items()),
        truth.limits.about(), len(score),
    )  # fmt: skip
    return contest, {name: best - found for name, found in scores.items()}


def _in_words(gap: Interval) -> str:
    side = "above" if gap.mean > 0 else "below"
    return f"is {side} uniform" if gap.excludes_zero else "is not told apart from uniform"


def held_against(
    truth: Truth, asked: Asked, out: Path, listen: Callable[[str], object]
) -> tuple[Contest | Grade, dict[str, np.ndarray]]:
    """Plays all strategies, or grades the run of `truth`, and writes `out`/oracle.json. Returns the
    results, and the regret of each strategy, (S, Q)."""
    result: Contest | Grade
    regrets: dict[str, np.ndarray] = {}
    if truth.run is None:
        result, regrets = play_all(truth, asked, listen)
    else:
        column, built = truth.known(truth.score), truth.built
        # whether the score is the figure that trainings end with
        counts = built is not None and truth.score == f"test_{built.metric}"
        known = {"best": built.best, "own": trained_alike(truth.run, built)} if built and counts else {}
        metric = built.figure if built else METRICS["accuracy"]
        result = grade(truth.run, column, asked.cells, metric=metric, listen=listen, **known)  # type: ignore[arg-type]
        note = "; ".join(filter(None, (truth.note, truth.limits.about() and f"within {truth.limits.about()}")))
        result = dataclasses.replace(result, table=truth.table.name, score=truth.score, note=note)
    out.mkdir(parents=True, exist_ok=True)
    result.write(out)
    return result, regrets


def trained_alike(run: OpenedRun, built: Built) -> tuple[float, ...]:
    """Returns the test figures of the trainings of the derived architecture that `enas compare`
    made by the recipe and on the data of the table. It is empty where there are none."""
    best, compared = Best.find(run.path), Compared.find(run.path)
    if best is None or compared is None or compared.derived_id != best.architecture.id:
        return ()
    own = run.plan.settings
    try:  # settings that are missing did not exist then
        table: Record = dict(built.settings)
        recipes = [as_recorded(own.retrain, recorded) for recorded in (compared.recipe, table["retrain"])]
        alike = recipes[0] == recipes[1] and own.data == as_recorded(own.data, table["data"])
    except ValueError:  # the settings are of another network or data set
        alike = False
    return compared.derived if alike else ()
