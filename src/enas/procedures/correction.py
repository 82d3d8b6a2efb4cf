"""This module holds a regression that short trainings teach. It predicts the reward of an
architecture from its graph and from what judges say of it, with an uncertainty.

Judges that cost little (the number of parameters, shared weights) are wrong in ways of their own,
and an optimiser finds their mistakes. A few trainings from scratch say where they are right: each
judge is one input among the parts of the graph (`enas.spaces.features`), and evidence decides how
much it counts (Bayesian ridge regression, MacKay 1992). The square of each judge is an input too,
because what a judge says is often true up to a point only: beyond some number of parameters more of
them may be no better.

Shapes: k trainings that teach, m architectures that are predicted, p inputs without squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enas.procedures.settings import LEAST_TRAININGS

Array = NDArray[np.float64]

PART = 0.5  # a part of the graph is given this standard deviation
JUDGE = 1.5  # and a judge this, so that it needs a smaller weight: it is believed first
QUARTILES = 1.35  # between the quartiles of a normal distribution lie this many standard deviations
FARTHEST = 3.0  # standard deviations from the middle that a judge may say at most
RARE = 0.2  # smallest standard deviation that a part is divided by


@dataclass(frozen=True)
class Known:
    """A `Known` holds what is known of an architecture before it is trained: how often each part
    occurs in it, and what each judge says, both by name."""

    parts: Mapping[str, float]
    judges: Mapping[str, float]


@dataclass(frozen=True)
class Correction:
    """A `Correction` is the regression after it was taught. It predicts rewards as normal scores:
    0 is the median of the trainings, 1 one standard deviation above it."""

    names: tuple[str, ...]  # of the parts that occur in the trainings
    judges: tuple[str, ...]
    middle: Array  # (p,)
    scale: Array  # (p,)
    limit: Array  # (p,), of an input after both
    least: Array  # (p,), what stands for an input that is not finite
    model: Any

    @classmethod
    def taught(cls, known: Sequence[Known], rewards: Sequence[float]) -> Correction:
        """Returns the regression for k architectures and their rewards; ValueError for fewer than
        six. Rewards count by their ranks, so that one that diverged does no harm. Where a judge
        says no finite number, it is taken to say the least that it says of the others."""
        from scipy.stats import norm, rankdata
        from sklearn.linear_model import BayesianRidge  # slow to import, and only needed here

        if len(known) < LEAST_TRAININGS:
            raise ValueError(f"a correction is taught by {LEAST_TRAININGS} trainings at least; got {len(known)}")
        names = tuple(sorted({name for one in known for name in one.parts}))
        judges = tuple(known[0].judges)
        inputs = _inputs(known, names, judges)
        finite = np.isfinite(inputs)
        least = np.where(finite.any(0), np.where(finite, inputs, np.inf).min(0), 0.0)
        inputs = np.where(finite, inputs, least)
        is_judge = np.arange(inputs.shape[1]) >= len(names)
        # a judge may be far off for a few
        low, middle, high = np.percentile(inputs, [25, 50, 75], axis=0)
        middle = np.where(is_judge, middle, inputs.mean(0))
        spread = np.where(is_judge & (high > low), (high - low) / QUARTILES, inputs.std(0))
        scale = np.where(is_judge, JUDGE / np.maximum(spread, 1e-12), PART / np.maximum(spread, RARE))
        scale = np.where(spread > 0, scale, 0.0)
        limit = np.where(is_judge, FARTHEST * JUDGE, np.inf)
        targets = norm.ppf((rankdata(rewards) - 0.5) / len(rewards))
        scaled = _scaled(inputs, middle, scale, limit, len(judges))
        return cls(names, judges, middle, scale, limit, least, BayesianRidge().fit(scaled, targets))

    def predict(self, known: Sequence[Known]) -> tuple[Array, Array]:
        """Returns the expected rewards of m architectures and their standard deviations, (m,)."""
        inputs = _inputs(known, self.names, self.judges)
        inputs = np.where(np.isfinite(inputs), inputs, self.least)
        scaled = _scaled(inputs, self.middle, self.scale, self.limit, len(self.judges))
        mean, deviation = self.model.predict(scaled, return_std=True)
        return mean, deviation


def _scaled(inputs: Array, middle: Array, scale: Array, limit: Array, judges: int) -> Array:
    """Returns scaled inputs (k, p), and after them the squares of the judges, which are the last
    `judges` of them, in standard deviations."""
    scaled = np.clip((inputs - middle) * scale, -limit, limit)
    return np.hstack([scaled, (scaled[:, inputs.shape[1] - judges :] / JUDGE) ** 2])


def _inputs(known: Sequence[Known], names: Sequence[str], judges: Sequence[str]) -> Array:
    rows = [[*(one.parts.get(n, 0.0) for n in names), *(one.judges[j] for j in judges)] for one in known]
    return np.array(rows, dtype=np.float64)
