"""best.json says what was derived, result.json and retrained.json say what was trained from
scratch: these frozen values are what the three hold. They need no torch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from enas.procedures.statistics import Coefficient
from enas.runs.files import write_sealed
from enas.runs.records import Config, ticks
from enas.runs.values import File, Json, Value, parsed
from enas.spaces.architecture import Architecture
from enas.tasks.metrics import Metric


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
    """A strategy's preferences at the end of a search, as what it draws then shows them."""

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
        last = deque([] if (result := cls.find(folder)) is not None else ticks(folder), maxlen=1)
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
