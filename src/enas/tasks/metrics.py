"""This module holds the figures that tasks are judged by: name, format, and which way is better. It
does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


def figure(value: float, places: int = 2, sign: str = "") -> str:
    """Returns a figure with `places` digits after the point. One that would be nothing but zeros
    has three digits that count instead, since rewards of one's own may be of any size. Minus
    infinity is the reward of an architecture that diverged."""
    if value == -math.inf:
        return "diverged"
    zeros = 0.0 < abs(value) < 0.1**places
    return f"{value:{sign}.3g}" if zeros else f"{value:{sign}.{places}f}"


@dataclass(frozen=True)
class Metric:
    """A `Metric` says how a figure is shown: as `scale` times its value, then the `unit`.
    Differences are shown in `points`."""

    name: str
    larger_is_better: bool
    scale: float
    unit: str
    points: str
    places: int = 2  # digits after the point

    def shown(self, value: float) -> float:
        """Returns the value on the scale on which it is shown."""
        return self.scale * value

    def text(self, value: float) -> str:
        """Returns the value as text, such as `93.21 %` or `81.20`."""
        return f"{self.figure(self.shown(value))}{self.unit}"

    def figure(self, shown: float, sign: str = "") -> str:
        """Returns a figure as text that is already as it is shown, without its unit."""
        return figure(shown, self.places, sign)

    def cost(self, value: float) -> float:
        """Returns a key to sort by, of which smaller is better."""
        return -value if self.larger_is_better else value


METRICS = {
    "accuracy": Metric("accuracy", larger_is_better=True, scale=100.0, unit=" %", points="points"),
    "score": Metric("score", larger_is_better=True, scale=1.0, unit="", points="of the reward", places=4),
    "perplexity": Metric("perplexity", larger_is_better=False, scale=1.0, unit="", points="of perplexity"),
}


def metric_in(record: Mapping[str, object]) -> Metric | None:
    """Returns the metric of a record of figures such as `validation_accuracy`, or None."""
    for metric in METRICS.values():
        if any(f"{part}{metric.name}" in record for part in ("", "validation_", "test_")):
            return metric
    return None
