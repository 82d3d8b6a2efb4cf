"""This module makes a table of one's own: architectures of a preset's space, trained from scratch
by its recipe.

`build` draws the architectures (or takes a whole small space), trains them in local processes, and
goes on where it was stopped. `Built` is the file, with everything that it was made by. `enas
oracle` reads it like a published table.

Signal is the standard deviation between architectures, of figures without noise. Noise is the
standard deviation between seeds of one architecture. They are the variance components of a one-way
layout. Where signal is below noise, no search can show that it works.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np

from enas.grading.asked import TableWanted
from enas.procedures.events import Done, Stopped
from enas.procedures.statistics import Coefficient, coefficient, kendalls
from enas.reading import LARGEST, from_json, read_whole
from enas.runs.files import Damaged, blaming, read_lines, write_atomically
from enas.runs.folder import RunFolder
from enas.runs.jobs import Jobs
from enas.runs.loop import Listener, never, silent
from enas.runs.plan import Plan, check_source
from enas.runs.process import machine, versions
from enas.runs.results import Result
from enas.runs.retrain import Job, retrain_many
from enas.runs.settings import to_dict
from enas.runs.values import Json, Value
from enas.spaces.architecture import Architecture
from enas.spaces.registry import space_of
from enas.spaces.space import SearchSpace
from enas.state import Record, seed_of
from enas.tasks.metrics import METRICS, Metric

MARK = '{"form": "enas table"'  # how the file of a table of one's own begins
AGAIN = "the same command"
MOST_DIGITS = 1000  # of the size of a space
FEWEST_ROWS = 6  # architectures of which a table can be summed up
COMMITTED = Path(__file__).parent / "tables"  # tables that come with enas, by names of presets
Figures = tuple[float | None, ...]  # one figure per seed, as it is shown; None where it diverged


# ------------------------------------------------------------------------------------- the file
@dataclass(frozen=True)
class Row(Value):
    """A `Row` is an architecture, with its answers in the order of its space's decisions, and its
    figures by seed."""

    answers: tuple[object, ...]
    parameters: int
    test: Figures
    validation: Figures

    @property
    def seeds(self) -> int:
        """Returns the number of trainings that did not diverge."""
        return sum(figure is not None for figure in self.test)


@dataclass(frozen=True)
class Built(Value):
    """A `Built` is a table with its provenance."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("form",))
    preset: str
    recipe: str
    names: Json
    space: Json
    size: int  # number of architectures of the space
    drawn: str  # "all" architectures of the space, or "random" ones
    wanted: Json  # numbers of architectures and seeds, and the seed of the draw
    metric: str
    settings: Json
    versions: Json
    machine: Json
    date: str
    rows: tuple[Row, ...]

    @classmethod
    def read(cls, path: Path) -> Built:
        """Reads a table. Raises a ValueError where there is no such table, and `Damaged` where it
        is not as it should be."""
        if not is_built(path):
            raise ValueError(f"a table is a file that `enas table build` wrote; there is none at '{path}'")
        with blaming(path):
            data = from_json(read_whole(path))
            del data["form"]
            if data.pop("version") > 1:
                raise Damaged(f"'{path}' was written by a later version of enas")
            if isinstance(data["size"], str):
                data["size"] = int(data["size"][:MOST_DIGITS])
            return cls.from_json(data)

    def write(self, path: Path) -> Path:
        """Writes one line per architecture, compressed where the name ends in .gz. The same table
        gives the same bytes."""
        data = {"form": "enas table", "version": 1, **self.to_json()}
        if self.size >= LARGEST:  # which is no number of a file that is read
            data["size"] = str(self.size)
        rows = data.pop("rows")
        assert isinstance(rows, list)
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        text = f'{json.dumps(data)[:-1]}, "rows": [\n{lines}\n]}}\n'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text)
        return path

    @property
    def figure(self) -> Metric:
        """Returns the metric of its figures."""
        return METRICS[self.metric]

    @property
    def complete(self) -> bool:
        """Returns whether the table has every architecture of its space."""
        return len(self.rows) == self.size

    def architectures(self) -> tuple[Architecture, ...]:
        """Returns the architectures of the rows, in order, checked against their space."""
        space = space_of(self.space)
        return tuple(answered(space, row.answers) for row in self.rows)

    def figures(self, part: str = "test") -> tuple[float, ...]:
        """Returns the mean figure of each row over its seeds, as it is shown. A training that
        diverged is left out. A row of which all trainings diverged gets the worst figure of the
        table."""
        means = [_mean(getattr(row, part)) for row in self.rows]
        known = [mean for mean in means if mean is not None]
        worst = max(known, key=self.figure.cost, default=math.nan)
        return tuple(worst if mean is None else mean for mean in means)

    @property
    def best(self) -> float:
        """Returns the best test figure among the rows with the most seeds, because the best of many
        single trainings is in part luck."""
        most = max(row.seeds for row in self.rows)
        figures = [figure for figure, row in zip(self.figures(), self.rows, strict=True) if row.seeds == most]
        return min(figures, key=self.figure.cost)


def located(file: Path) -> Path:
    """Returns the file itself, or a table that comes with enas, where the name is that of such a
    table and there is no such file here."""
    ours = COMMITTED / f"{file}.json.gz"
    return ours if not file.exists() and len(file.parts) == 1 and ours.exists() else file


def is_built(path: Path) -> bool:
    """Returns whether a file is a table that `build` made, and not a published one."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return bool(file.read(len(MARK)) == MARK.encode())
    except (OSError, EOFError):
        return False


def _mean(figures: Figures) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return fmean(known) if known else None


def answers_of(space: SearchSpace, arch: Architecture) -> tuple[object, ...]:
    """Returns the answers of an architecture in the order of its space's decisions."""
    return tuple(arch.choices[decision.name] for decision in space.decisions if decision.name in arch.choices)


def answered(space: SearchSpace, answers: Sequence[object]) -> Architecture:
    """Returns the architecture that gives these answers. Raises a ValueError where they do not
    fit."""
    left, choices = list(answers), dict[str, Any]()
    for decision in space.decisions:
        if space.active(decision, choices):
            if not left:
                raise ValueError(f"a row has an answer for each decision of its space; '{decision.name}' has none")
            answer = left.pop(0)
            choices[decision.name] = tuple(answer) if isinstance(answer, list) else answer
    if left:
        raise ValueError(f"a row has an answer for each decision of its space; left over are {left}")
    return space.architecture(choices)


# ---------------------------------------------------------------------------------------- building
def drawn(space: SearchSpace, wanted: TableWanted) -> tuple[str, list[Architecture]]:
    """Returns which architectures are trained: "all" of a space that has no more than wanted, or
    "random" ones."""
    if space.limit is None and space.size() <= wanted.cells:
        return "all", list(space.enumerate())
    rng, archs = random.Random(seed_of(wanted.seed, "table")), dict[Architecture, None]()
    while len(archs) < wanted.cells:
        archs[space.sample(rng)] = None
    return "random", list(archs)


class Trainings:
    """A `Trainings` object holds the trainings of a table in the work folder beside it: a line of
    `trainings.jsonl` for each that is done, and the run folders of those that are running."""

    def __init__(self, folder: RunFolder, plan: Plan, jobs: Jobs, listen: Listener, stop: Callable[[], str | None]):
        self.folder, self.plan, self.jobs, self.listen, self.stop = folder, plan, jobs, listen, stop
        self.file = folder.path / "trainings.jsonl"
        if self.file.exists():  # a crash may have cut its last line short
            whole = self.file.read_bytes().rpartition(b"\n")
            write_atomically(self.file, whole[0] + whole[1])
        self.done: dict[tuple[str, int], Record] = {(line["id"], line["seed"]): line for line in read_lines(self.file)}

    def train(self, archs: Sequence[Architecture], seeds: int) -> str | None:
        """Trains what is missing, one seed of all architectures after the other. Returns the reason
        why it was stopped, or None."""
        missing = [
            Job(arch, self.folder.path / f"{arch.id}-seed{seed}", seed)
            for seed in range(seeds)
            for arch in archs
            if (arch.id, seed) not in self.done
        ]
        if not missing:
            return None
        _, why = retrain_many(self.plan, missing, jobs=self.jobs, listen=self.listen, stop=self.stop, finished=self._keep)
        return why

    def _keep(self, job: Job, result: Result) -> None:
        """Writes the line of a training, and removes its folder."""
        assert isinstance(job.model, Architecture)
        line: Record = {"id": job.model.id, "seed": job.seed, **result.to_json(), "diverged": result.diverged}
        with open(self.file, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
        self.done[job.model.id, job.seed] = line
        shutil.rmtree(job.folder, ignore_errors=True)

    def row(self, space: SearchSpace, arch: Architecture) -> Row:
        """Returns the row of an architecture, from its trainings so far."""
        lines = [self.done[arch.id, seed] for seed in range(len(self.done)) if (arch.id, seed) in self.done]
        figure = self.plan.metric

        def shown(part: str) -> Figures:
            known = (line.get(f"{part}_{figure.name}") for line in lines)
            return tuple(None if value is None else round(figure.shown(value), 4) for value in known)

        return Row(answers_of(space, arch), max(line["parameters"] for line in lines), shown("test"), shown("validation"))


def build(
    plan: Plan,
    wanted: TableWanted,
    out: Path,
    *,
    jobs: Jobs = 1,
    listen: Listener = silent,
    stop: Callable[[], str | None] = never,
) -> Built | None:
    """Trains the architectures of a table from scratch, as `jobs` asks, and writes the table to
    `out`. `listen` is called with the events of `retrain_many`.

    Returns the table, or None where it was stopped. Called again, it goes on. Raises a ValueError
    where the work folder, `out` and ".work", belongs to another table, or another process works in
    it.
    """
    space, metric = plan.space, plan.metric
    kind, archs = drawn(space, wanted)
    work = out.with_name(out.name + ".work")
    asked = to_dict(wanted)
    if (work / "config.json").exists():
        folder = RunFolder.open(work)
        if trained_by(Plan.recorded(folder)) != trained_by(plan):
            raise ValueError(f"'{work}' holds the trainings of a table with other settings: choose another --out")
        check_source(work, plan)
    else:
        folder = RunFolder.create(work, plan.to_dict("table"))
    with folder:
        folder.lock()
        trainings = Trainings(folder, plan, jobs, listen, stop)

        def figures(arch: Architecture) -> float:
            mean = _mean(trainings.row(space, arch).test[: wanted.seeds])
            return math.inf if mean is None else metric.cost(mean)

        why = trainings.train(archs[: wanted.repeats], wanted.more_seeds) or trainings.train(archs, wanted.seeds)
        if why is None and wanted.best:
            why = trainings.train(sorted(archs, key=figures)[: wanted.best], wanted.more_seeds)
        if why is not None:
            listen(Stopped(work, why, again=AGAIN))
            return None
        built = Built(
            preset=plan.preset, recipe=plan.recipe, names=to_dict(plan.names), space=space.spec, size=space.size(),
            drawn=kind, wanted=asked, metric=metric.name, settings=to_dict(plan.settings), versions=versions(),
            machine=machine(plan.device), date=time.strftime("%Y-%m-%d"),
            rows=tuple(trainings.row(space, arch) for arch in archs),
        )  # fmt: skip
    built.write(out)
    listen(Done(work, built))
    return built


def trained_by(plan: Plan) -> list[object]:
    """Returns everything that a training from scratch depends on, which leaves out its search."""
    names, settings = plan.names, plan.settings
    return [plan.seed, names.space, names.network, names.task, settings.space, settings.data, settings.retrain]


# ------------------------------------------------------------------------------- signal and noise
@dataclass(frozen=True)
class Components:
    """A `Components` value holds standard deviations, in points of the metric: between
    architectures, and between seeds."""

    architectures: int
    signal: float
    noise: float

    @property
    def ratio(self) -> float:
        """Returns signal divided by noise."""
        return self.signal / self.noise if self.noise else math.inf


def components(figures: Sequence[Figures], measured: Sequence[Figures]) -> Components:
    """Returns the variance components of rows of figures, with one figure per seed. The noise is
    that of those rows of `measured` that have at least two seeds. It is NaN where none has."""
    known = [[f for f in row if f is not None] for row in figures]
    known = [row for row in known if row]
    repeated = [[f for f in row if f is not None] for row in measured]
    repeated = [row for row in repeated if len(row) > 1]
    squares = sum(float(np.var(row)) * len(row) for row in repeated)
    freedom = sum(len(row) - 1 for row in repeated)
    noise2 = squares / freedom if freedom else math.nan
    means = np.array([fmean(row) for row in known])
    signal2 = float(np.var(means, ddof=1)) - noise2 * fmean(1 / len(row) for row in known) if len(known) > 1 else math.nan
    return Components(len(known), math.sqrt(max(0.0, signal2)), math.sqrt(noise2))


@dataclass(frozen=True)
class Summary:
    """A `Summary` is what `enas table show` says of a table."""

    every: Components
    better_half: Components
    mean: float
    best: float
    best_seeds: int
    worst: float
    parameters: Coefficient  # Kendall's tau; larger figures are better
    best_of: Mapping[int, float]  # expected figure of the best of k random rows
    diverged: int  # number of trainings that diverged


def summary(table: Built) -> Summary:
    """Returns the summary of a table. Raises a ValueError for fewer than six rows.

    Noise is measured on the rows that got more seeds by the draw, and not because they were best,
    since the first figure of the best rows is in part luck. Without such rows, it is measured on
    the later seeds of the best.
    """
    rows, metric = table.rows, table.figure
    if len(rows) < FEWEST_ROWS:
        raise ValueError(f"a table is summed up from {FEWEST_ROWS} architectures on; this one has {len(rows)}")
    wanted = TableWanted(**{**table.wanted})  # type: ignore[arg-type]
    figures = np.array(table.figures())
    order = np.argsort([metric.cost(figure) for figure in figures], kind="stable")
    half = [rows[i] for i in order[: len(rows) // 2]]

    def parts(some: Sequence[Row]) -> Components:
        unselected = [row.test for row in some if wanted.seeds > 1 or row in rows[: wanted.repeats]]
        later = [row.test[wanted.seeds :] for row in some]
        return components([row.test for row in some], unselected or later)

    upward = [-metric.cost(figure) for figure in figures]
    tau = coefficient(kendalls, np.array([row.parameters for row in rows]), np.array(upward))
    most = max(row.seeds for row in rows)
    ranked = [float(figure) for figure in figures[order]]
    expected = {k: best_of(ranked, k) for k in (1, 8, 50) if k <= len(rows)}
    diverged = sum(figure is None for row in rows for figure in row.test)
    return Summary(parts(rows), parts(half), fmean(figures), table.best, most, ranked[-1], tau, expected, diverged)


def best_of(ranked: Sequence[float], k: int) -> float:
    """Returns the expected best of k figures drawn at random from `ranked`, the best first."""
    n = len(ranked)
    chances = [math.comb(n - 1 - i, k - 1) / math.comb(n, k) for i in range(n - k + 1)]
    return sum(chance * figure for chance, figure in zip(chances, ranked, strict=False))
