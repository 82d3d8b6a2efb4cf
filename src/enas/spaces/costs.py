"""This module describes what architectures cost, the most that they may cost, and the terms that
add a cost to a reward. It does not import torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from enas.ranges import POSITIVE, check_name, check_ranges

SLACK = 1 + 1e-12  # factor on every limit, since sums of seconds are not exact


@dataclass(frozen=True)
class Costs:
    """A `Costs` value says what one architecture costs."""

    parameters: int
    macs: int
    """Number of multiply-accumulates for one image or token."""
    memory: int
    """Bytes of activations that a training step keeps."""
    latency: float | None = None
    """Seconds of a forward pass, or None where it is not known."""

    def values(self) -> tuple[float, ...]:
        """Returns the costs in the order of `KINDS`, with nan for one that is not known."""
        return (self.parameters, self.macs, self.memory, math.nan if self.latency is None else self.latency)

    def of(self, kind: str) -> float:
        """Returns the cost of one kind, or nan where it is not known."""
        return self.values()[KINDS.index(kind)]


KINDS = tuple(f.name for f in fields(Costs))
COST_UNITS = {
    "parameters": (1e-3, "thousand parameters"),
    "macs": (1e-6, "million multiply-accumulates"),
    "memory": (1e-6, "MB of activations"),
    "latency": (1e3, "ms of latency"),
}
"""The factor and the unit in which tables and charts show each kind of cost."""


@dataclass(frozen=True)
class Limits:
    """A `Limits` value says the most that an architecture may cost. None allows any cost."""

    max_params: int | None = None
    """Largest number of parameters."""
    max_macs: int | None = None
    """Largest number of multiply-accumulates, per image or token."""
    max_latency: float | None = None
    """Longest forward pass, in seconds, as a table of latencies predicts it."""
    max_memory: int | None = None
    """Most bytes of activations that a training step from scratch keeps."""

    def __post_init__(self) -> None:
        check_ranges(self, "", **{f.name: POSITIVE for f in fields(self)})

    @property
    def kinds(self) -> dict[str, float]:
        """Returns the limits that are set, by kind of cost."""
        names = zip(KINDS, (self.max_params, self.max_macs, self.max_memory, self.max_latency), strict=True)
        return {kind: most for kind, most in names if most is not None}

    def hold(self, costs: Costs) -> bool:
        """Returns whether `costs` are within all limits."""
        return all(costs.of(kind) <= most * SLACK for kind, most in self.kinds.items())

    def about(self) -> str:
        """Returns the limits in words."""
        return " and ".join(f"at most {shown(kind, most)}" for kind, most in self.kinds.items())


def shown(kind: str, value: float) -> str:
    """Returns a cost with its unit, for people."""
    if kind == "latency":
        return f"{value * 1000:.3g} ms of latency"
    unit = {"parameters": "parameters", "macs": "multiply-accumulates", "memory": "bytes of activations"}[kind]
    return f"{value:,.0f} {unit}"


def amount(text: str) -> int:
    """Returns the whole number that a text such as 3M, 600M, 2G or 12,000 says. Raises a ValueError
    for another form."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMG]?)B?", text.strip().replace(",", "").replace("_", ""))
    if match is None:
        raise ValueError(f"a limit is a number and k, M or G, such as 3M or 600k; got '{text}'")
    return round(float(match[1]) * {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]])


def duration(text: str) -> float:
    """Returns the seconds that a text such as 8ms, 250us or 1.5s says. Raises a ValueError for
    another form."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    if match is None:
        raise ValueError(f"a latency is a number and us, ms or s, such as 8ms; got '{text}'")
    return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[match[2]]


# --------------------------------------------------------------------------------- soft limits
FORMS = ("power", "absolute")


@dataclass(frozen=True)
class CostTerm:
    """A `CostTerm` changes the reward by a cost. It is written `KIND:TARGET:FORM:WEIGHT`, such as
    `macs:600M:power:-0.07`.

    - power: the reward is multiplied by (cost / target)^weight (Tan et al. 2019, MnasNet: -0.07).
      A negative reward is divided by it, because it is better the nearer it is to zero.
    - absolute: weight x |cost / target - 1| is added to the reward (Bender et al. 2020, TuNAS).
    """

    kind: str
    target: float
    form: str
    weight: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a term from its text. Raises a ValueError where the text is no term."""
        parts = text.split(":")
        if len(parts) != 4:
            raise ValueError(f"a cost term is KIND:TARGET:FORM:WEIGHT, such as macs:600M:power:-0.07; got '{text}'")
        kind, target, form, weight = parts
        check_name("the cost of a term", kind, KINDS)
        check_name("the form of a cost term", form, FORMS)
        try:
            value = float(weight)
        except ValueError:
            raise ValueError(f"the weight of a cost term is a number; got '{weight}' in '{text}'") from None
        if not -math.inf < value <= 0:
            raise ValueError(
                f"the weight of a cost term is at most 0, since costs are to be small; got {weight} in '{text}'"
            )
        return cls(kind, duration(target) if kind == "latency" else float(amount(target)), form, value)

    def applied(self, reward: float, costs: Costs) -> float:
        """Returns the reward after this term. Raises a ValueError where the cost is not known."""
        cost = costs.of(self.kind)
        if math.isnan(cost):
            raise ValueError("a cost term on latency needs a table of latencies: --latency-table FILE")
        if self.form == "power":
            factor = math.pow(cost / self.target, self.weight)
            # so that more cost is never better
            return reward * factor if reward > 0 else reward / factor
        return reward + self.weight * abs(cost / self.target - 1)


def rewarded(reward: float, costs: Costs, terms: Sequence[CostTerm]) -> float:
    """Returns the reward after all terms, applied one after the other."""
    for term in terms:
        reward = term.applied(reward, costs)
    return reward


def pareto(rewards: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Returns the indices of the points that no other point beats, the cheapest first. A point is
    kept where its reward is larger than that of every point that costs as much or less."""
    order = sorted(range(len(rewards)), key=lambda i: (costs[i], -rewards[i]))
    front: list[int] = []
    for i in order:
        if not front or rewards[i] > rewards[front[-1]]:
            front.append(i)
    return front
