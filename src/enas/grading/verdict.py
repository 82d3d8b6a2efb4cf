"""This module says whether the derived architecture is better than random ones that are trained by
the same recipe (paper 3.3, guided random search).

It draws the random architectures and computes the statistics. The score of an architecture is the
mean over its training seeds. Welch's interval compares the mean of the derived architecture, which
varies over seeds, with the mean of the random ones, which vary over architectures.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, stdev

from enas.grading.asked import CELLS
from enas.procedures.statistics import difference as welch
from enas.runs.compared import Rival, Verdict
from enas.spaces.architecture import Architecture
from enas.spaces.space import TRIES, SearchSpace
from enas.state import seed_of
from enas.tasks.metrics import METRICS, Metric

LEAST = 2  # random architectures without which there is no interval


def uniform_architectures(space: SearchSpace, n: int, seed: int, without: Architecture | None = None) -> list[Architecture]:
    """Returns n different random architectures by `seed`, never `without`. Raises a ValueError
    where there are too few."""
    return drawn_for(space, n, seed, without)[0]


def drawn_for(
    space: SearchSpace, n: int | None, seed: int, without: Architecture | None = None
) -> tuple[list[Architecture], float]:
    """Returns what `uniform_architectures` returns, and which share of the architectures drawn the
    limit of the space allows. The share is 1 without a limit. With None for n, there are `CELLS`,
    or all where there are fewer, which a warning says."""
    size, wanted = replace(space, limit=None).size(), n or CELLS
    others = size - (without is not None)
    has = f"space '{space.name}' has {size} architectures{', of which one is derived' * (without is not None)}"
    _check_enough(n, others, has)
    rng = random.Random(seed_of(seed, "compare"))
    found: dict[Architecture, None] = {}
    again = allowed = drawn = 0
    while len(found) < min(wanted, others):
        (arch,), tries = space.samples(rng, 1)
        allowed, drawn = allowed + 1, drawn + tries
        again += arch in found or arch == without
        if again > TRIES:
            has = f"the limit of space '{space.name}' leaves {len(found)} different architectures to compare with"
            _check_enough(n, len(found), has)
            break
        if arch != without:
            found[arch] = None
    if len(found) < wanted:
        warnings.warn(f"{has}: there are {len(found)} random ones in place of {wanted}", stacklevel=2)
    return list(found), allowed / drawn


def _check_enough(n: int | None, there_are: int, has: str) -> None:
    """Raises a ValueError where there are fewer than n random architectures, or with None for n,
    where there are too few for a verdict. `has` says in words what there is."""
    if there_are < LEAST:
        raise ValueError(f"{has}: a verdict needs at least {LEAST} random ones")
    if n is not None and there_are < n:
        raise ValueError(f"{has}: give --cells {there_are} at most")


def verdict(
    derived: Sequence[float],
    uniform: Sequence[Sequence[float]],
    metric: Metric = METRICS["accuracy"],
    references: Mapping[str, Sequence[float]] | None = None,
    diverged: int = 0,
    diverged_references: Sequence[str] = (),
    rivals: Sequence[str] = (),
    limits: str = "",
    acceptance: float = 1.0,
) -> Verdict:
    """Returns the verdict on test figures as they are shown (accuracies in percent, perplexities):
    those of the derived architecture, of each random one and of each reference, with one figure per
    seed.

    - `diverged`: the number of random architectures without a figure.
    - `diverged_references`: the names of references without a figure.
    - `rivals`: the names of those references that were found at equal cost. The verdict names the
      strongest.
    - `limits`: what all architectures obey, in words.
    - `acceptance`: the share of random architectures that obey the limits.

    Raises a ValueError with fewer than two figures on either side, since there is no interval then.
    """
    if len(derived) < 2 or len(uniform) < 2:
        raise ValueError(
            f"a verdict needs at least 2 seeds and 2 random architectures; got {len(derived)} and {len(uniform)}"
        )
    cells = [mean(scores) for scores in uniform]
    found = {name: scores for name, scores in (references or {}).items() if name in rivals and len(scores) > 1}
    strongest = min(found, key=lambda name: metric.cost(mean(found[name])), default=None)
    lead = None if strongest is None else welch(derived, found[strongest])
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
        rival=None if strongest is None or lead is None else Rival(strongest, lead.mean, lead.half_width),
        limits=limits,
        acceptance=acceptance,
    )
