"""What the files of a run hold, as frozen values: whoever writes a file and whoever reads it meet
in the class of that file here. No torch in here.

`enas.runs.values` says how they are written and read.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from enas.procedures.statistics import Coefficient, Interval, Ranking
from enas.ranges import THREADS, check_finite, check_name, check_ranges
from enas.reading import SEAL, check_folder
from enas.runs.before import flat_settings
from enas.runs.checkpoint import check_logs
from enas.runs.files import Damaged, blaming, each_line, lines, record_of, stamped_lines, write_sealed
from enas.runs.marks import trust_own
from enas.runs.values import VERSION, File, Json, Value, parsed, plain
from enas.spaces.architecture import Architecture
from enas.state import Record
from enas.tasks.metrics import METRICS, Metric

MOST_EPOCHS = 4000  # that a report reads: more than a chart can show
Scores = tuple[float, ...]  # test figures as they are shown, one per seed


# ------------------------------------------------------------------------------ config.json, logs
@dataclass(frozen=True)
class Config(File):
    """What a run was asked for, to read; a `Plan` writes it."""

    FILE: ClassVar[str] = "config.json"
    BESIDE: ClassVar[frozenset[str]] = frozenset(("version", SEAL))
    MISSING: ClassVar[str] = "a run is a folder with a config.json; '{folder}' has none (`enas search` makes one)"
    command: str
    preset: str
    recipe: str
    settings: Json  # by dotted names
    names: Mapping[str, str] | None = None  # of its parts
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
    architecture: Json | None = None  # of a training; of a hand-designed model its name and size

    def __post_init__(self) -> None:
        check_name("its command", self.command, ("search", "retrain", "table"))
        check_ranges(self, "", threads=THREADS)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """As every file; ValueError too where something in the folder is a link, a pipe or a
        device."""
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
    """A line of the clock, timing.jsonl."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(
        ("epoch", "phase", "step", "seconds", "threads", "estimated_seconds", "factor")
    )

    event: str
    time: str = ""
    why: str = ""

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.time)


@dataclass(frozen=True)
class Sampled(Value):
    """A line of architectures.jsonl: a child that was trained or scored."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("epoch", "step", "child", "loss", "reward", "skipped"))

    id: str
    phase: str = ""
    choices: Json | None = None  # where the architecture appears for the first time


@dataclass(frozen=True)
class Learned(Value):
    """What the policy had learned after an epoch: mean reward of its samples minus that of random
    architectures, on the same shared weights and minibatches, with its 95 % interval."""

    epoch: int
    mean: float
    half_width: float


def ticks(folder: Path) -> list[Tick]:
    """Returns the lines of the clock. Damaged where one is not as it was written, or some that the
    last checkpoint knows of are missing."""
    check_logs(folder, "timing")
    with blaming(folder / "timing.jsonl"):
        return [Tick.from_json(line) for line in stamped_lines(folder / "timing.jsonl")]


def sampled(folder: Path) -> Iterator[Sampled]:
    """Yields the children of a search. Damaged as `ticks`."""
    check_logs(folder, "architectures")
    with blaming(folder / "architectures.jsonl"):
        yield from map(Sampled.from_json, each_line(folder / "architectures.jsonl"))


def epochs(folder: Path, most: int = MOST_EPOCHS) -> list[Record]:
    """Returns the lines of metrics.jsonl, whose names depend on task and strategy; of more than
    `most` every second, every third and so on, and the last. Damaged as `ticks`."""
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
    """Returns an entry per epoch that the search probed."""
    gap = "policy_minus_uniform"
    return tuple(Learned(line["epoch"], line[gap], line[f"{gap}_half_width"]) for line in epochs(folder) if gap in line)


# -------------------------------------------------------------------------------------- best.json
@dataclass(frozen=True)
class Ranked(Value):
    """An architecture that a search derived."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("version",))  # of the form of the architecture
    rank: int
    id: str
    shared_weights: Mapping[str, float]  # scores
    parameters: int  # of the network that is trained from scratch
    space: Json
    choices: Json
    provenance: Json = field(default_factory=dict)

    @classmethod
    def of(cls, rank: int, arch: Architecture, shared_weights: Mapping[str, float], parameters: int) -> Self:
        space, choices, provenance = (dict(items) for items in (arch.space_items, arch.choice_items, arch.provenance))
        return cls(rank, arch.id, shared_weights, parameters, space, choices, provenance)

    @cached_property
    def architecture(self) -> Architecture:
        return Architecture.from_dict({"space": self.space, "choices": self.choices, "provenance": self.provenance})


@dataclass(frozen=True)
class PolicyAgainstUniform(Value):
    """The policy's samples beside random ones, on the same shared weights and minibatch."""

    policy_median: float
    uniform_median: float
    policy_beats_uniform: float  # share of pairs


@dataclass(frozen=True)
class Policy(Value):
    """What the strategy prefers at the end of the search, by what it draws."""

    draws: int
    shares: Mapping[str, Mapping[str, float]]
    """By decision and option: the share of draws that take it, of those where it is asked."""
    random: Mapping[str, Mapping[str, float]]
    """The same of as many random architectures."""


@dataclass(frozen=True)
class ParetoPoint(Value):
    """An architecture that no other one beats in reward and cost at once."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("version",))
    id: str
    reward: float  # of shared weights, on the minibatch
    cost: float
    space: Json
    choices: Json

    @cached_property
    def architecture(self) -> Architecture:
        return Architecture.from_dict({"space": self.space, "choices": self.choices})


@dataclass(frozen=True)
class Pareto(Value):
    """The front of reward against a cost, the cheapest first, and all that were scored."""

    kind: str  # parameters, macs, memory in bytes, or latency in seconds
    points: tuple[ParetoPoint, ...]
    scored: tuple[tuple[float, float], ...]  # reward and cost


@dataclass(frozen=True)
class Judgement(Value):
    """How well each judge ranked what short trainings reached (`enas.procedures.taught`)."""

    taus: Mapping[str, Coefficient]  # Kendall's, by the name of the judge
    trainings: int
    predicted: int  # of them, after the regression was first taught
    seconds: float  # processor time of all


@dataclass(frozen=True, kw_only=True)
class Best(File):
    """What a search derived."""

    FILE: ClassVar[str] = "best.json"
    MISSING: ClassVar[str] = "'{folder}' has no best.json yet: run `enas derive {quoted}` first"
    note: str = "scores are of shared weights: they rank, they are no results of a training from scratch (`enas retrain`)"
    searched_epochs: int
    search_finished: bool = True
    samples: int = 0
    score_on: str = "validation"
    policy_against_uniform: PolicyAgainstUniform | None = None
    policy: Policy | None = None
    settings: Json = field(default_factory=dict)  # of `derive`
    marks: Mapping[str, str] = field(default_factory=dict)  # notes for a drawing, by layer
    ranked: tuple[Ranked, ...]  # the best first
    pareto: Pareto | None = None
    judged: Judgement | None = None

    def __post_init__(self) -> None:
        if not self.ranked:
            raise ValueError("it ranks no architecture")

    def to_json(self) -> dict[str, object]:
        later = ("policy", "pareto", "judged")  # fields that earlier files lack
        return {name: value for name, value in super().to_json().items() if name not in later or value is not None}

    @property
    def architecture(self) -> Architecture:
        """The architecture that ranks first."""
        return self.ranked[0].architecture


# -------------------------------------------------------------------- result.json, retrained.json
@dataclass(frozen=True)
class Result(File):
    """What a training from scratch came to."""

    FILE: ClassVar[str] = "result.json"
    figures: Mapping[str, float]  # `test_accuracy`, `validation_loss` and the like
    parameters: int = 0
    rollbacks: int = 0  # how often it diverged and went on at a lower rate
    diverged: str | None = None  # where and how it diverged for good; there are no figures then

    @classmethod
    def from_json(cls, data: object) -> Self:
        figures = parsed(Mapping[str, float], data)
        parameters, rollbacks = figures.pop("parameters"), figures.pop("rollbacks", 0.0)
        return cls(figures, int(parameters), int(rollbacks))

    @property
    def metrics(self) -> dict[str, float]:
        """Figures, parameters and rollbacks by name."""
        rollbacks = {"rollbacks": self.rollbacks} if self.rollbacks else {}
        return {**self.figures, **rollbacks, "parameters": self.parameters}

    def to_json(self) -> dict[str, object]:
        return {**self.metrics}

    def write(self, folder: Path) -> Path:
        """Writes only figures: earlier versions would take a `version` for one."""
        write_sealed(folder / self.FILE, self.to_json())
        return folder / self.FILE

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Returns the outcome of a training, None while it has none. One that diverged is an
        outcome: the same seed would diverge again."""
        last = [] if (result := cls.find(folder)) is not None else ticks(folder)[-1:]
        if result is not None:
            Config.read(folder)  # one that is missing is not passed over
        if last and last[0].why == "diverged":
            return cls({}, diverged=f"it diverged before, see '{folder / 'timing.jsonl'}'")
        return result

    def shown(self, metric: Metric, part: str = "test") -> float:
        """Returns the figure of `metric` as it is shown; NaN where the training diverged."""
        return metric.shown(self.figures.get(f"{part}_{metric.name}", math.nan))


@dataclass(frozen=True)
class Training(Value):
    """A training of a derived architecture from scratch."""

    rank: int
    id: str
    folder: str  # relative to the run
    result: Result

    @classmethod
    def from_json(cls, data: object) -> Self:
        figures = parsed(Json, data)
        place = {name: figures.pop(name) for name in ("rank", "id", "folder")}
        return super().from_json({**place, "result": figures})

    def to_json(self) -> dict[str, object]:
        return {"rank": self.rank, "id": self.id, "folder": self.folder, **self.result.metrics}


@dataclass(frozen=True)
class Retrained(File):
    """Derived architectures trained from scratch; `chosen` is the id of the best by validation."""

    FILE: ClassVar[str] = "retrained.json"
    train_on: str
    chosen: str
    trainings: tuple[Training, ...]

    def __post_init__(self) -> None:
        if self.chosen not in [training.id for training in self.trainings]:
            raise ValueError(f"no training of the chosen '{self.chosen}'")

    @property
    def best(self) -> Training:
        return next(training for training in self.trainings if training.id == self.chosen)


# ----------------------------------------------------------------------------------- compare.json
@dataclass(frozen=True)
class Rival(Value):
    """The strongest rival of a derived architecture: the derived one minus it, with its 95 %
    interval."""

    name: str
    difference: float
    half_width: float


@dataclass(frozen=True)
class Verdict(Value):
    """Figures as they are shown: accuracies in percent, perplexities. `difference` is the derived
    architecture minus the mean of the random ones, with a 95 % interval of +- `half_width`;
    `metric` says which sign is better."""

    derived: float
    derived_spread: float  # standard deviation over seeds
    seeds: int
    uniform: float
    uniform_spread: float  # standard deviation over random architectures
    uniform_best: float
    cells: int  # random architectures
    rank: int  # of the derived one among all, 1 is best
    difference: float
    half_width: float
    metric: str = "accuracy"
    diverged: int = 0  # random architectures whose training diverged; they are in no other figure
    references: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation over the same seeds, of hand-designed models as large."""
    diverged_references: tuple[str, ...] = ()
    rival: Rival | None = None  # the strongest, where any was trained
    limits: str = ""
    """What all architectures obey, in words."""
    acceptance: float = 1.0
    """Share of the random architectures drawn that do; others were drawn anew."""

    def to_json(self) -> dict[str, object]:
        # of searches that have none
        left_out: tuple[str, ...] = () if self.limits else ("limits", "acceptance")
        left_out += () if self.rival else ("rival",)
        return {name: value for name, value in super().to_json().items() if name not in left_out}

    def __post_init__(self) -> None:
        check_name("metric", self.metric, METRICS)
        both = (value for pair in self.references.values() for value in pair)
        check_finite(self.derived, self.derived_spread, self.uniform, self.uniform_spread, self.uniform_best, *both)
        check_finite(self.difference, self.half_width)

    @property
    def better(self) -> bool | None:
        """True or False where the interval excludes zero, None where it does not."""
        if abs(self.difference) <= self.half_width:
            return None
        return (self.difference > 0) == METRICS[self.metric].larger_is_better

    @property
    def sentence(self) -> str:
        gap = self._by(self.difference, self.half_width)
        if self.better is None:
            side = "above" if self.difference >= 0 else "below"
            said = f"no difference shown: the derived architecture is {side} the mean random architecture {gap}"
        else:
            verb = "beats" if self.better else "loses to"
            said = f"the derived architecture {verb} the mean random architecture {gap}"
        return said + self._against_rival

    def _by(self, difference: float, half_width: float) -> str:
        return f"by {abs(difference):.2f} +- {half_width:.2f} {METRICS[self.metric].points}"

    @property
    def _against_rival(self) -> str:
        """Returns how it does against the strongest rival, for the end of the sentence."""
        if self.rival is None:
            return ""
        ahead = (self.rival.difference > 0) == METRICS[self.metric].larger_is_better
        gap = self._by(self.rival.difference, self.rival.half_width)
        shown = "" if abs(self.rival.difference) > self.rival.half_width else ", which shows no difference"
        return f", and is {'ahead of' if ahead else 'behind'} its strongest rival, {self.rival.name}, {gap}{shown}"

    @property
    def figures(self) -> str:
        """The figures behind the sentence."""
        metric, diverged = METRICS[self.metric], self.diverged

        def text(mean: float, deviation: float) -> str:
            return f"{mean:.2f}{metric.unit}, standard deviation {deviation:.2f}"

        parts = [
            f"derived {text(self.derived, self.derived_spread)} over {self.seeds} seeds",
            f"random {text(self.uniform, self.uniform_spread)} over {self.cells} architectures,"
            f" best {self.uniform_best:.2f}{metric.unit}",
            *([] if metric.larger_is_better else ["lower is better"]),
            f"rank {self.rank} of {self.cells + 1}",
            *([f"{diverged} more random architecture{'s' * (diverged > 1)} diverged"] if diverged else []),
            *(f"{name} {text(*both)}" for name, both in self.references.items()),
            *(f"{name} diverged" for name in self.diverged_references),
            *([f"all have {self.limits}, as {self.acceptance:.1%} of random architectures do"] if self.limits else []),
        ]
        return "; ".join(parts)

    def __str__(self) -> str:
        return f"{self.sentence} ({self.figures})"


@dataclass(frozen=True)
class Ledger(Value):
    """Seconds on the clock, of processes of the run's number of threads each."""

    search_seconds: float
    trainings: int  # from scratch, to the end
    training_seconds: float  # all of them, one after the other
    children: int  # different architectures that the search trained or scored
    # training each child, at the mean cost of a training, per cost of the search
    times_cheaper: float
    # multiply-accumulates, which do not depend on the machine; 0: not counted
    search_macs: float = 0.0
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
            f"the search took {search} and saw {self.children:,} children; training each of them from scratch,"
            f" at {each:.0f} s, would have cost {cheaper}; {self.trainings} trainings took {trainings}"
        )


def _large(number: float) -> str:
    """Returns 1.23e+12 as 1.23 T."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


@dataclass(frozen=True)
class Disabled(Value):
    """The disabled controller (paper 3.3), on the test part, in figures as they are shown."""

    metric: str
    mean: float
    spread: float  # standard deviation over configurations
    ensemble: float
    configurations: int


@dataclass(frozen=True)
class Changed(Value):
    """A changed architecture of a study."""

    id: str
    change: str  # in words
    test: Scores


@dataclass(frozen=True)
class StudyResult(Value):
    """Architectures that differ a little from the derived one; positive differences are worse."""

    name: str
    about: str = ""
    paper: str = ""  # what the paper found
    there_are: int | None = None  # changed architectures, where all can be listed
    base: Scores = ()  # of the derived architecture
    changed: tuple[Changed, ...] = ()
    difference: Interval | None = None
    largest: float | None = None
    diverged: int = 0


@dataclass(frozen=True)
class Compared(File):
    """What a search was worth."""

    FILE: ClassVar[str] = "compare.json"
    BESIDE: ClassVar[frozenset[str]] = frozenset(("version", "skip_rate"))
    verdict: Verdict
    derived_id: str
    derived: Scores
    uniform: Mapping[str, Scores]  # of the random architectures, by id
    references: Mapping[str, Scores] = field(default_factory=dict)
    recipe: Json = field(default_factory=dict)
    cell_seeds: int = 1
    learning: tuple[Learned, ...] = ()
    uniform_architectures: tuple[Json, ...] = ()
    ledger: Ledger | None = None
    rankings: tuple[Ranking, ...] = ()
    disabled: Disabled | None = None
    studies: tuple[StudyResult, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # parts that are not in here, and why
    rolled_back: Mapping[str, int] = field(default_factory=dict)  # trainings, and how often
    parameters: Mapping[str, int] = field(default_factory=dict)  # of what was trained

    @property
    def metric(self) -> Metric:
        return METRICS[self.verdict.metric]

    @classmethod
    def from_json(cls, data: object) -> Self:
        record = parsed(Json, data)
        of_verdict = {f.name for f in dataclasses.fields(Verdict)}
        verdict = Verdict.from_json({name: value for name, value in record.items() if name in of_verdict})
        figures, local = parsed(Json, record[f"test_{verdict.metric}"]), parsed(Json, record.get("local") or {})
        for part in (record.get("disabled") or {}, local):
            if part.get("metric", verdict.metric) != verdict.metric:
                raise ValueError(f"a part of it is of {part['metric']}, where the run is of {verdict.metric}")
        rest = {name: value for name, value in record.items() if name not in of_verdict - {"derived", "references"}}
        rest |= {"verdict": verdict.to_json(), "studies": local.get("studies", []), "derived": figures.pop("derived")}
        rest |= {"references": {name: figures.pop(name) for name in verdict.references}, "uniform": figures}
        del rest[f"test_{verdict.metric}"]
        return super().from_json({name: value for name, value in rest.items() if name != "local"})

    def to_json(self) -> dict[str, object]:
        apart = ("verdict", "derived", "uniform", "references", "studies", *([] if self.disabled else ["disabled"]))
        rest = {name: value for name, value in super().to_json().items() if name not in apart}
        figures = {"derived": self.derived, **self.uniform, **self.references}
        local = {"local": {"metric": self.metric.name, "studies": self.studies}} if self.studies else {}
        words = {"verdict": str(self.verdict), **self.verdict.to_json()}
        return {**words, **rest, f"test_{self.metric.name}": plain(figures), **plain(local)}
