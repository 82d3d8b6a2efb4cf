"""This module holds compare.json, which says what a search was worth: the frozen values of its
verdict, its ledger and its studies. It does not import torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

from enas.procedures.statistics import Interval, Ranking
from enas.ranges import check_finite, check_name
from enas.runs.records import Learned
from enas.runs.values import File, Json, Value, parsed, plain
from enas.tasks.metrics import METRICS, Metric

# the name in compare.json of the architecture that random search with weight sharing finds
SHARING = "uniform sharing"
Scores = tuple[float, ...]  # test figures as they are shown, one per seed


@dataclass(frozen=True)
class Rival(Value):
    """A `Rival` is the strongest rival of a derived architecture. `difference` is the derived
    architecture minus the rival, with its 95 % interval."""

    name: str
    difference: float
    half_width: float


@dataclass(frozen=True)
class Verdict(Value):
    """A `Verdict` compares the derived architecture with random ones, in figures as they are shown:
    accuracies in percent, perplexities.

    `difference` is the derived architecture minus the mean of the random ones, with a 95 % interval
    of +- `half_width`. `metric` says which sign is better.
    """

    derived: float
    derived_spread: float  # standard deviation over seeds
    seeds: int
    uniform: float
    uniform_spread: float  # standard deviation over random architectures
    uniform_best: float
    cells: int  # number of random architectures
    rank: int  # rank of the derived one among all, 1 is best
    difference: float
    half_width: float
    metric: str = "accuracy"
    diverged: int = 0  # random architectures whose training diverged; they are in no other figure
    references: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation over the same seeds, of hand-designed models of the same size."""
    diverged_references: tuple[str, ...] = ()
    rival: Rival | None = None  # the strongest rival, where any was trained
    limits: str = ""
    """The limits that all architectures obey, in words."""
    acceptance: float = 1.0
    """Share of the random architectures drawn that obey the limits; the others were drawn anew."""

    def to_json(self) -> dict[str, object]:
        # searches without limits or rivals leave these keys out
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
        """Returns True or False where the interval excludes zero, and None where it does not."""
        if not Interval(self.difference, self.half_width).excludes_zero:
            return None
        return (self.difference > 0) == METRICS[self.metric].larger_is_better

    @property
    def sentence(self) -> str:
        """Returns the verdict in one sentence."""
        gap = self._by(self.difference, self.half_width)
        if self.better is None:
            side = "above" if self.difference >= 0 else "below"
            said = f"no difference shown: the derived architecture is {side} the mean random architecture {gap}"
        else:
            verb = "beats" if self.better else "loses to"
            said = f"the derived architecture {verb} the mean random architecture {gap}"
        return said + self._against_rival

    def _by(self, difference: float, half_width: float) -> str:
        metric = METRICS[self.metric]
        by = f"by {metric.figure(abs(difference))}"
        if half_width == 0:
            return f"{by} {metric.points} (figures that do not vary have no interval)"
        return f"{by} +- {metric.figure(half_width)} {metric.points}"

    @property
    def _against_rival(self) -> str:
        """Returns how the derived architecture compares with the strongest rival, for the end of
        the sentence."""
        if self.rival is None:
            return ""
        if self.rival.difference == 0:
            return f", and is equal to its strongest rival, {self.rival.name}"
        ahead = (self.rival.difference > 0) == METRICS[self.metric].larger_is_better
        gap = self._by(self.rival.difference, self.rival.half_width)
        clear = Interval(self.rival.difference, self.rival.half_width).excludes_zero
        shown = "" if clear else ", which shows no difference"
        return f", and is {'ahead of' if ahead else 'behind'} its strongest rival, {self.rival.name}, {gap}{shown}"

    @property
    def figures(self) -> str:
        """Returns the figures behind the sentence."""
        metric, diverged = METRICS[self.metric], self.diverged

        def text(mean: float, deviation: float) -> str:
            return f"{metric.figure(mean)}{metric.unit}, standard deviation {metric.figure(deviation)}"

        parts = [
            f"derived {text(self.derived, self.derived_spread)} over {self.seeds} seeds",
            f"random {text(self.uniform, self.uniform_spread)} over {self.cells} architectures,"
            f" best {metric.figure(self.uniform_best)}{metric.unit}",
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
    """A `Ledger` holds the costs of a search and of trainings, in seconds on the clock. Each is of
    processes with the run's number of threads."""

    search_seconds: float
    trainings: int  # number of trainings from scratch, to the end
    training_seconds: float  # sum over all trainings
    children: int  # number of different architectures that the search trained or scored
    # cost of training each child, at the mean cost of a training, divided by the cost of search and
    # derivation
    times_cheaper: float
    # multiply-accumulates, which do not depend on the machine; 0 where they were not counted
    search_macs: float = 0.0
    training_macs: float = 0.0
    # seconds of the derivation, scores and short trainings; 0 where an earlier version compared
    derivation_seconds: float = 0.0
    processes: float = 1.0  # in which the search ran at a time; each costs its seconds

    def to_json(self) -> dict[str, object]:
        # earlier files lack them
        later: tuple[str, ...] = () if self.derivation_seconds else ("derivation_seconds",)
        later += () if self.processes != 1 else ("processes",)
        return {name: value for name, value in super().to_json().items() if name not in later}

    def __str__(self) -> str:
        each = self.training_seconds / self.trainings
        cheaper = f"{self.times_cheaper:,.0f} times as much"
        search, trainings = f"{self.search_seconds:.0f} s", f"{self.training_seconds:.0f} s"
        search += f" in {self.processes:.3g} processes" if self.processes != 1 else ""
        if self.search_macs and self.training_macs:
            by_work = self.children * self.training_macs / self.trainings / self.search_macs
            without = ", those of the derivation not counted" if self.derivation_seconds else ""
            cheaper += f" ({by_work:,.0f} times by multiply-accumulates{without})"
            search += f" ({_large(self.search_macs)} multiply-accumulates)"
            trainings += f" ({_large(self.training_macs)})"
        taught = f"; the derivation took {self.derivation_seconds:.0f} s" if self.derivation_seconds else ""
        return (
            f"the search took {search} and saw {self.children:,} children{taught}; training each of them from scratch,"
            f" at {each:.0f} s, would have cost {cheaper}; {self.trainings} trainings took {trainings}"
        )


def _large(number: float) -> str:
    """Returns a large number in short, such as 1.23 T for 1.23e+12."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


@dataclass(frozen=True)
class Disabled(Value):
    """A `Disabled` value holds the figures of the disabled controller (paper 3.3) on the test part,
    as they are shown."""

    metric: str
    mean: float
    spread: float  # standard deviation over configurations
    ensemble: float
    configurations: int


@dataclass(frozen=True)
class Changed(Value):
    """A `Changed` value is a changed architecture of a study."""

    id: str
    change: str  # in words
    test: Scores


@dataclass(frozen=True)
class StudyResult(Value):
    """A `StudyResult` holds architectures that differ a little from the derived one. Positive
    differences are worse."""

    name: str
    about: str = ""
    paper: str = ""  # what the paper found
    there_are: int | None = None  # number of changed architectures, where all can be listed
    base: Scores = ()  # scores of the derived architecture
    changed: tuple[Changed, ...] = ()
    difference: Interval | None = None
    largest: float | None = None
    diverged: int = 0


@dataclass(frozen=True)
class Compared(File):
    """A `Compared` value is the content of compare.json, which says what a search was worth."""

    FILE: ClassVar[str] = "compare.json"
    BESIDE: ClassVar[frozenset[str]] = frozenset(("version", "skip_rate"))
    verdict: Verdict
    derived_id: str
    derived: Scores
    uniform: Mapping[str, Scores]  # scores of the random architectures, by id
    references: Mapping[str, Scores] = field(default_factory=dict)
    recipe: Json = field(default_factory=dict)
    cell_seeds: int = 1
    learning: tuple[Learned, ...] = ()
    uniform_architectures: tuple[Json, ...] = ()
    ledger: Ledger | None = None
    rankings: tuple[Ranking, ...] = ()
    disabled: Disabled | None = None
    studies: tuple[StudyResult, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # missing parts, and why
    rolled_back: Mapping[str, int] = field(default_factory=dict)  # how often each training was
    parameters: Mapping[str, int] = field(default_factory=dict)  # number of each trained network

    @property
    def metric(self) -> Metric:
        """Returns the metric of all its figures."""
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
