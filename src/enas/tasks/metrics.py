"""The figures that tasks are judged by: how each is called and written, and which way is better. No
torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`scale` and `unit`: a value is shown as `scale` times itself, with the unit behind; a
    difference of shown values is in `points`."""

    name: str
    larger_is_better: bool
    scale: float
    unit: str
    points: str

    def shown(self, value: float) -> float:
        return self.scale * value

    def text(self, value: float) -> str:
        """`93.21 %`, `81.20`."""
        return f"{self.shown(value):.2f}{self.unit}"

    def cost(self, value: float) -> float:
        """Smaller is better: a key to sort by."""
        return -value if self.larger_is_better else value


METRICS = {
    "accuracy": Metric("accuracy", larger_is_better=True, scale=100.0, unit=" %", points="points"),
    "perplexity": Metric("perplexity", larger_is_better=False, scale=1.0, unit="", points="of perplexity"),
}


def metric_in(record: Mapping[str, object]) -> Metric | None:
    """The metric that a record of figures (`validation_accuracy`, `test_perplexity`) is about, if
    any."""
    for metric in METRICS.values():
        if any(f"{part}{metric.name}" in record for part in ("", "validation_", "test_")):
            return metric
    return None
