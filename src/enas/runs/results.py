"""This module holds the results of a run as frozen values: best.json, which says what was derived,
and result.json and retrained.json, which say what was trained from scratch. It does not import
torch."""

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
    """A `Ranked` value is an architecture that a search derived."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("version",))  # version of an architecture's form
    rank: int
    id: str
    shared_weights: Mapping[str, float]  # scores by their names
    parameters: int  # number in the network that is trained from scratch
    space: Json
    choices: Json
    provenance: Json = field(default_factory=dict)

    @classmethod
    def of(cls, rank: int, arch: Architecture, shared_weights: Mapping[str, float], parameters: int) -> Self:
        space, choices, provenance = (dict(items) for items in (arch.space_items, arch.choice_items, arch.provenance))
        return cls(rank, arch.id, shared_weights, parameters, space, choices, provenance)

    @cached_property
    def architecture(self) -> Architecture:
        """Returns the architecture itself."""
        return Architecture.from_dict({"space": self.space, "choices": self.choices, "provenance": self.provenance})


@dataclass(frozen=True)
class PolicyAgainstUniform(Value):
    """A `PolicyAgainstUniform` value compares the policy's samples with random ones, on the same
    shared weights and minibatch."""

    policy_median: float
    uniform_median: float
    policy_beats_uniform: float  # share of pairs


@dataclass(frozen=True)
class Policy(Value):
    """A `Policy` value holds a strategy's preferences at the end of a search, as its draws show
    them."""

    draws: int
    shares: Mapping[str, Mapping[str, float]]
    """The share of draws that take each option, by decision and option.
    It is taken among the draws where the decision is asked."""
    random: Mapping[str, Mapping[str, float]]
    """The same shares for as many random architectures."""


@dataclass(frozen=True)
class ParetoPoint(Value):
    """A `ParetoPoint` is an architecture that no other one beats in reward and cost at once."""

    BESIDE: ClassVar[frozenset[str]] = frozenset(("version",))
    id: str
    reward: float  # reward by shared weights, on the minibatch
    cost: float
    space: Json
    choices: Json

    @cached_property
    def architecture(self) -> Architecture:
        return Architecture.from_dict({"space": self.space, "choices": self.choices})


@dataclass(frozen=True)
class Pareto(Value):
    """A `Pareto` value holds the front of reward against a cost, the cheapest first, and all
    architectures that were scored."""

    kind: str  # parameters, macs, memory in bytes, or latency in seconds
    points: tuple[ParetoPoint, ...]
    scored: tuple[tuple[float, float], ...]  # reward and cost


@dataclass(frozen=True)
class Judgement(Value):
    """A `Judgement` says how well each judge ranked the rewards of short trainings
    (`enas.procedures.taught`)."""

    taus: Mapping[str, Coefficient]  # Kendall's tau of each judge, by its name
    trainings: int
    predicted: int  # number of trainings after the regression was first taught
    seconds: float  # processor time of all trainings and scores


@dataclass(frozen=True, kw_only=True)
class Best(File):
    """A `Best` value is the content of best.json: the architectures that a search derived."""

    FILE: ClassVar[str] = "best.json"
    MISSING: ClassVar[str] = "'{folder}' has no best.json yet: run `enas derive {quoted}` first"
    note: str = (
        "scores are of shared weights or short trainings: they rank, they are no results (`enas retrain` gets those)"
    )
    searched_epochs: int
    search_finished: bool = True
    samples: int = 0
    score_on: str = "validation"
    policy_against_uniform: PolicyAgainstUniform | None = None
    policy: Policy | None = None
    settings: Json = field(default_factory=dict)  # settings of `derive`
    marks: Mapping[str, str] = field(default_factory=dict)  # notes for a drawing, by layer
    ranked: tuple[Ranked, ...]  # the best first
    pareto: Pareto | None = None
    judged: Judgement | None = None
    seconds: float | None = None  # processor time of the derivation: scores and short trainings

    def __post_init__(self) -> None:
        if not self.ranked:
            raise ValueError("it ranks no architecture")

    def to_json(self) -> dict[str, object]:
        later = ("policy", "pareto", "judged", "seconds")  # fields that earlier files lack
        return {name: value for name, value in super().to_json().items() if name not in later or value is not None}

    @property
    def ranked_by(self) -> str:
        """Returns whose rewards ranked: "short" trainings that teach, finalists that were trained
        "alone", or shared weights on the whole "validation" part or on a "minibatch"."""
        first = self.ranked[0].shared_weights
        return next((stage for stage in ("short", "alone", "validation") if f"{stage}_reward" in first), "minibatch")

    @property
    def cost(self) -> float:
        """Returns the processor time of the derivation in seconds. Earlier files say it of the ones
        with trainings that teach alone."""
        earlier = self.judged.seconds if self.judged else 0.0
        return earlier if self.seconds is None else self.seconds

    @property
    def architecture(self) -> Architecture:
        """Returns the architecture that ranks first."""
        return self.ranked[0].architecture


# -------------------------------------------------------------------- result.json, retrained.json
@dataclass(frozen=True)
class Result(File):
    """A `Result` is the outcome of a training from scratch."""

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
        """Returns figures, parameters and rollbacks by name."""
        rollbacks = {"rollbacks": self.rollbacks} if self.rollbacks else {}
        return {**self.figures, **rollbacks, "parameters": self.parameters}

    def to_json(self) -> dict[str, object]:
        return {**self.metrics}

    def write(self, folder: Path) -> Path:
        """Writes only figures, because earlier versions would take a `version` for one."""
        write_sealed(folder / self.FILE, self.to_json())
        return folder / self.FILE

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Returns the outcome of a training, or None while it has none. A training that diverged
        has an outcome, since the same seed would diverge again."""
        last = deque([] if (result := cls.find(folder)) is not None else ticks(folder), maxlen=1)
        if result is not None:
            Config.read(folder)  # raises an error where config.json is missing
        if last and last[0].why == "diverged":
            return cls({}, diverged=f"it diverged before, see '{folder / 'timing.jsonl'}'")
        return result

    def shown(self, metric: Metric, part: str = "test") -> float:
        """Returns the figure of `metric` as it is shown, or NaN where the training diverged."""
        return metric.shown(self.figures.get(f"{part}_{metric.name}", math.nan))


@dataclass(frozen=True)
class Training(Value):
    """A `Training` is a training from scratch of a derived architecture."""

    rank: int
    id: str
    folder: str  # path relative to the run
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
    """A `Retrained` value is the content of retrained.json: derived architectures that were trained
    from scratch. `chosen` is the id of the best by validation."""

    FILE: ClassVar[str] = "retrained.json"
    MISSING: ClassVar[str] = "'{folder}' has no retrained.json yet: run `enas retrain {quoted}` first"
    train_on: str
    chosen: str
    trainings: tuple[Training, ...]

    def __post_init__(self) -> None:
        if self.chosen not in [training.id for training in self.trainings]:
            raise ValueError(f"no training of the chosen '{self.chosen}'")

    @property
    def best(self) -> Training:
        """Returns the training of the chosen architecture."""
        return next(training for training in self.trainings if training.id == self.chosen)
