"""This module counts what happens in an epoch of a search: means of figures, and steps that were
skipped."""

from __future__ import annotations

from collections import Counter

from enas.state import Record, Values


class Means:
    """A `Means` object holds the mean of each figure over an epoch, by its name."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, value: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def values(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def state(self) -> Record:
        return {"sums": self.sums, "counts": self.counts}

    def load(self, values: Values) -> None:
        """Puts back what `state` returned. Earlier checkpoints hold the counts among the sums, as
        "n:NAME"."""
        counts = {name[2:]: n for name, n in values["sums"].items() if name.startswith("n:")}
        self.counts = dict(values.get("counts", counts))
        self.sums = {name: values["sums"][name] for name in self.counts}


class Skipped:
    """A `Skipped` object holds the training steps of an epoch that were skipped, and the
    architectures concerned."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()  # "loss", "loss_not_finite" or "gradient"
        self.ops: Counter[str] = Counter()  # ops of the architectures concerned
        self.architectures: set[str] = set()  # ids of these architectures
        self.scale = 0  # steps of fp16 whose scale was too high, which is no fault of the training

    @property
    def steps(self) -> int:
        """Returns the number of skipped steps."""
        return self.reasons.total()

    def metrics(self) -> Record:
        """Returns the entries of `metrics.jsonl` about skipped steps, or an empty dict where no
        step was skipped."""
        scale: Record = {"scale_lowered": self.scale} if self.scale else {}
        if not self.steps:
            return scale
        return {
            **scale,
            "skipped_steps": self.steps,
            "skipped_for": dict(sorted(self.reasons.items())),
            "skipped_ops": shares(self.ops),
        }

    def state(self) -> Record:
        return {
            "reasons": dict(self.reasons),
            "ops": dict(self.ops),
            "architectures": sorted(self.architectures),
            "scale": self.scale,
        }

    def load(self, values: Values) -> None:
        self.reasons, self.ops = Counter(values["reasons"]), Counter(values["ops"])
        self.architectures, self.scale = set(values["architectures"]), values.get("scale", 0)


def shares(counts: Counter[str]) -> dict[str, float]:
    return {name: n / counts.total() for name, n in sorted(counts.items())}
