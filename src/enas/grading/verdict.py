"""Compare: is the derived architecture better than uniformly drawn ones, trained by the same recipe? (paper 3.3, guided
random search; the question that nobody's tool answered).

Here are the choice of the uniform architectures and the statistics; training them is the caller's. A cell's score is the
mean over its training seeds. The derived architecture's mean is compared with the mean over uniform cells by Welch's
interval: the spread of the derived one is over seeds, that of the others over cells.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from enas.procedures.statistics import difference as welch
from enas.spaces.architecture import Architecture
from enas.spaces.space import SearchSpace
from enas.state import seed_of
from enas.tasks.metrics import METRICS, Metric


def uniform_architectures(space: SearchSpace, n: int, seed: int, without: Architecture | None = None) -> list[Architecture]:
    """n different random architectures, a function of `seed`; never `without`. ValueError in too small a space."""
    if space.size() < n + (without is not None):
        raise ValueError(f"space '{space.name}' has {space.size()} architectures; cannot draw {n} different ones")
    rng = random.Random(seed_of(seed, "compare"))
    drawn: dict[Architecture, None] = {}
    while len(drawn) < n:
        arch = space.sample(rng)
        if arch != without:
            drawn[arch] = None
    return list(drawn)


@dataclass(frozen=True)
class Verdict:
    """Figures as they are shown: accuracies in percent, perplexities. `difference` is derived minus mean of uniform, with a
    95 % interval of +- `half_width`; the figures of `metric` say which sign is better."""

    derived: float
    derived_spread: float  # standard deviation over seeds
    seeds: int
    uniform: float
    uniform_spread: float  # standard deviation over cells
    uniform_best: float
    cells: int
    rank: int  # of the derived among all cells, 1 is best
    difference: float
    half_width: float
    metric: str = "accuracy"
    diverged: int = 0
    """Uniform cells whose training came to nothing; they are in no other figure."""
    references: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation over the same seeds, of hand-designed models of as many parameters."""
    diverged_references: tuple[str, ...] = ()
    """Those of which a training came to nothing."""

    @property
    def better(self) -> bool | None:
        """True or False where the interval excludes zero, None where it does not."""
        if abs(self.difference) <= self.half_width:
            return None
        return (self.difference > 0) == METRICS[self.metric].larger_is_better

    def __str__(self) -> str:
        metric = METRICS[self.metric]
        gap = f"{abs(self.difference):.2f} +- {self.half_width:.2f} {metric.points}"
        lower = "" if metric.larger_is_better else "; lower is better"
        if self.better is None:
            side = "above" if self.difference >= 0 else "below"
            says = f"no difference shown: the derived architecture is {side} the mean uniform one by {gap}"
        else:
            says = f"the derived architecture {'beats' if self.better else 'loses to'} the mean uniform one by {gap}"
        u = metric.unit
        return (
            f"{says} (derived {self.derived:.2f}{u}, spread {self.derived_spread:.2f} over {self.seeds} seeds; uniform"
            f" {self.uniform:.2f}{u}, spread {self.uniform_spread:.2f} over {self.cells} architectures, best"
            f" {self.uniform_best:.2f}{u}{lower}); rank {self.rank} of {self.cells + 1}"
            + (f"; {self.diverged} more uniform diverged" if self.diverged else "")
            + "".join(f"; {name} {mean:.2f}{u}, spread {spread:.2f}" for name, (mean, spread) in self.references.items())
            + "".join(f"; {name} diverged" for name in self.diverged_references)
        )


def verdict(
    derived: Sequence[float],
    uniform: Sequence[Sequence[float]],
    metric: Metric = METRICS["accuracy"],
    references: Mapping[str, Sequence[float]] | None = None,
    diverged: int = 0,
    diverged_references: Sequence[str] = (),
) -> Verdict:
    """From test figures as they are shown (accuracies in percent, perplexities): of the derived architecture, one a seed,
    of each uniform cell, one a seed, and of each reference, likewise. diverged: uniform cells without a figure;
    diverged_references: names of references without one.

    ValueError with fewer than two on either side: there is no spread then, and no verdict.
    """
    if len(derived) < 2 or len(uniform) < 2:
        raise ValueError(f"a verdict needs at least 2 seeds and 2 uniform cells; got {len(derived)} and {len(uniform)}")
    cells = [mean(scores) for scores in uniform]
    gap = welch(derived, cells)
    return Verdict(
        derived=mean(derived),
        derived_spread=stdev(derived),
        seeds=len(derived),
        uniform=mean(cells),
        uniform_spread=stdev(cells),
        uniform_best=min(cells, key=metric.cost),
        cells=len(cells),
        rank=1 + sum(metric.cost(score) < metric.cost(mean(derived)) for score in cells),
        difference=gap.mean,
        half_width=gap.half_width,
        metric=metric.name,
        diverged=diverged,
        references={name: (mean(scores), stdev(scores)) for name, scores in (references or {}).items()},
        diverged_references=tuple(diverged_references),
    )
