"""This module computes rank correlations with bootstrap intervals, and intervals of means and
differences.

A ranker is a list of scores for the same architectures as the truth. Larger is better in both. This
module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 400
FEWEST = 3  # pairs that a rank correlation can be told of


@dataclass(frozen=True)
class Coefficient:
    """A `Coefficient` is a rank correlation with its 95 % bootstrap interval (percentiles over
    resampled architectures)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Ranking:
    """A `Ranking` says how well a ranker ranks n architectures, compared with the truth."""

    ranker: str
    n: int
    kendall: Coefficient
    spearman: Coefficient
    kendall_better_half: Coefficient  # only of those whose truth is at the median or above
    pick: float  # truth of the ranker's first; where several are first alike, their mean
    top_five: float  # mean truth of the ranker's first five

    def times(self, sign: float) -> Ranking:
        """Returns the ranking with its figures as they are shown: `sign` is -1 where less is
        better, and the truth was given with the other sign."""
        return replace(self, pick=sign * self.pick, top_five=sign * self.top_five)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _above(values: np.ndarray, rows: slice) -> np.ndarray:
    """Returns +1 where the value of one of `rows` is larger than another of all values, -1 where it
    is smaller, and else 0."""
    some = values[rows, None]
    return (some > values).astype(float) - (some < values)


def _blocks(n: int) -> list[slice]:
    """Returns the rows of an n by n matrix in blocks, since n may be the size of a whole table."""
    return [slice(i, i + 512) for i in range(0, n, 512)]


def kendalls(a: np.ndarray, b: np.ndarray, times: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Returns Kendall's tau-b, which counts ties, for each sample (S,). It is 0 where one side has
    no order at all. `times` (S, n) says how often a sample has each of the n pairs. With `groups`
    (n,), only pairs of one group are compared with each other."""
    import numpy as np

    both, left, right = np.zeros((3, len(times)))
    for rows in _blocks(len(a)):
        x, y = _above(a, rows), _above(b, rows)
        if groups is not None:
            together = groups[rows, None] == groups
            x, y = x * together, y * together
        for total, matrix in ((both, x * y), (left, abs(x)), (right, abs(y))):
            total += (times[:, rows] * (times @ matrix.T)).sum(1)
    return _share(both, left, right)


def spearmans(a: np.ndarray, b: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns Spearman's coefficient for each sample (S,), with arguments as in `kendalls`. The
    rank of a value is the number of values below it minus the number above it, so ties share a
    rank."""
    import numpy as np

    x, y = (np.hstack([times @ _above(side, rows).T for rows in _blocks(len(a))]) for side in (a, b))
    both, left, right = ((times * product).sum(1) for product in (x * y, x * x, y * y))
    return _share(both, left, right)


def _share(both: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns how much two sides have in common, from -1 to 1, and 0 where one side has no order.
    Rounding must not leave this range."""
    import numpy as np

    share: np.ndarray = np.clip(both / np.maximum(np.sqrt(left) * np.sqrt(right), 1), -1, 1)
    return share


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Kendall's tau-b, or 0 where one side has no order at all."""
    import numpy as np

    return float(kendalls(a, b, np.ones((1, len(a))))[0])


def coefficient(
    kind: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    a: np.ndarray,
    b: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Coefficient:
    """Returns `kind` (`kendalls` or `spearmans`) of all pairs, with its interval. Raises a
    ValueError for fewer than three pairs."""
    import numpy as np

    if len(a) != len(b) or len(a) < FEWEST:
        raise ValueError(f"a rank correlation needs at least {FEWEST} pairs; got {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(a), size=(resamples, len(a)))
    once = np.ones((1, len(a)))
    value, *others = kind(a, b, np.vstack([once, *(np.bincount(index, minlength=len(a)) for index in drawn)]))
    low, high = np.percentile(others, [2.5, 97.5])
    return Coefficient(float(value), float(low), float(high))


def rank(ranker: str, scores: Sequence[float], truth: Sequence[float], seed: int = 0) -> Ranking:
    """Returns how well `scores` rank the `truth`. Raises a ValueError for fewer than six
    architectures, because the better half has three of six."""
    import numpy as np

    a, b = np.asarray(scores, float), np.asarray(truth, float)
    if len(a) < 6:
        raise ValueError(f"a ranking needs at least 6 architectures; got {len(a)}")
    better = b >= np.median(b)
    return Ranking(
        ranker,
        len(a),
        coefficient(kendalls, a, b, seed),
        coefficient(spearmans, a, b, seed),
        coefficient(kendalls, a[better], b[better], seed),
        _of_first(1, a, b),
        _of_first(5, a, b),
    )


def _of_first(n: int, scores: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean truth of the n best by their scores, as it is to be expected where chance
    decides between equal scores."""
    import numpy as np

    scores = np.where(np.isnan(scores), -np.inf, scores)
    last = np.sort(scores)[-n]
    above, equal = scores > last, scores == last
    return float((truth[above].sum() + (n - above.sum()) * truth[equal].mean()) / n)


@dataclass(frozen=True)
class Interval:
    """An `Interval` is a mean with its 95 % interval, +- `half_width`."""

    mean: float
    half_width: float

    @property
    def excludes_zero(self) -> bool:
        """Returns whether 0 is outside of the interval. Figures that do not vary at all say nothing
        of how much others would, so an interval without width excludes nothing."""
        return abs(self.mean) > self.half_width > 0

    def __str__(self) -> str:
        return f"{self.mean:.2f} +- {self.half_width:.2f}"


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of values with its interval by Student's t. Raises a ValueError for fewer
    than two values."""
    import numpy as np
    from scipy.stats import t  # slow to import, and rarely needed

    values = np.asarray(values, float)
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values; got {len(values)}")
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(float(values.mean()), float(t.ppf(0.975, len(values) - 1)) * error)


def difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Interval:
    """Returns mean(a) - mean(b) with Welch's interval. Raises a ValueError for fewer than two
    values of either."""
    import numpy as np
    from scipy.stats import t  # slow to import, and rarely needed

    values = [np.asarray(some, float) for some in (a, b)]
    if min(map(len, values)) < 2:
        raise ValueError(f"a difference of means needs at least 2 values of each; got {len(a)} and {len(b)}")
    errors = [float(some.var(ddof=1)) / len(some) for some in values]
    total = sum(errors)
    freedom = (
        total**2 / sum(error**2 / (len(some) - 1) for error, some in zip(errors, values, strict=True)) if total else 1.0
    )
    return Interval(float(values[0].mean() - values[1].mean()), float(t.ppf(0.975, freedom)) * math.sqrt(total))
