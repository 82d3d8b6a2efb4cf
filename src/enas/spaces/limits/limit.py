"""Hard limits: which answers may be given so that an architecture stays within a budget.

A limit is asked along the decisions of a space. An option is allowed where some completion of what
was answered is within the limit, so that no walk ever comes to a dead end, and nothing that is
drawn has to be thrown away. Several architectures are answered side by side:

    cursor = limit.start(M)
    cursor.options()            (M, K) which options the current decision may take
    cursor.bits(taken)          for a subset instead: whether the next option may be in, and out
    cursor.take(answer)         (M,) indices, or (M, K) booleans for a subset; on to the next

Here are the contract, the limit by a rule, which a user writes, and the base of limits on costs:
`table`, `cells`, `layers` and `tree` in this folder are exact for one cost (an option is allowed if
and only if some completion is within the limit), `witness` serves any other space. With several
costs, completions that are cheapest in one of them, or in their sum in shares of the limits, are
tried. Each of those is a fixed way to go on: where it is allowed now, it is allowed to the end.
No torch in here.

Shapes: M architectures, K options of a decision, C costs; Q ways to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from enas.spaces.architecture import Answer
from enas.spaces.costs import SLACK, Limits, shown
from enas.spaces.decisions import Decision, SubsetChoice

SearchSpace = Any  # of enas.spaces.space, which imports this file
Array = np.ndarray
Rule = Callable[[Decision, Mapping[str, Answer]], "tuple[bool, ...] | None"]


# ------------------------------------------------------------------------------------ the contract
class Cursor(Protocol):
    """A walk of M architectures along the decisions of a space."""

    def options(self) -> Array | None:
        """Returns which options the decision may take, (M, K); None: all."""

    def bits(self, taken: Array) -> tuple[Array, Array]:
        """Returns whether the next option may be in the subset, and whether it may be out, (M,)
        each, after the yes or no to those before it: `taken` (M, j)."""

    def take(self, answer: Array) -> None:
        """Goes on to the next decision. Where the decision was not asked, any answer will do."""


class Limit(Protocol):
    """What a search space can be limited by."""

    @property
    def about(self) -> str:
        """What it says, in words."""

    def start(self, n: int) -> Cursor:
        """Returns a walk of n architectures at the first decision."""


@dataclass(frozen=True)
class RuleLimit:
    """A limit by a rule: a function of a decision and of the answers before it that says which
    options may be taken; None: all. Every prefix that it allows should lead to an architecture."""

    space: SearchSpace
    rule: Rule
    about: str = ""

    def start(self, n: int) -> Cursor:
        return _RuleCursor(self, n)


class _RuleCursor:
    def __init__(self, limit: RuleLimit, n: int):
        self.limit, self.n = limit, n
        self.answers: list[Array] = []
        self._mask: Array | None = None

    def _allowed(self) -> Array:
        """Returns the options that the rule allows, (M, K)."""
        if self._mask is None:
            space = self.limit.space
            decision = space.decisions[len(self.answers)]
            everything = (True,) * len(decision.options)
            rows = []
            for choices in space.decoded(self.answers, self.n):
                asked = space.active(decision, choices)
                rows.append((self.limit.rule(decision, choices) if asked else None) or everything)
            self._mask = np.array(rows)
        return self._mask

    def options(self) -> Array:
        return self._allowed()

    def bits(self, taken: Array) -> tuple[Array, Array]:
        decision = self.limit.space.decisions[len(self.answers)]
        assert isinstance(decision, SubsetChoice)
        mask, j, members = self._allowed(), taken.shape[1], taken.sum(1)
        low, high = decision.bounds
        left = mask[:, j + 1 :].sum(1)  # that can be in, after this one
        return mask[:, j] & (members < high) & (low - members <= left + 1), low - members <= left

    def take(self, answer: Array) -> None:
        self.answers.append(answer)
        self._mask = None


def counted_bits(decision: SubsetChoice, taken: Array) -> tuple[Array, Array]:
    """Returns what `Cursor.bits` says without a limit: only the number of members forces a bit."""
    (low, high), members = decision.bounds, taken.sum(1)
    return members != high, low - members != len(decision.options) - taken.shape[1]


def within(costs: Array, most: Array) -> Array:
    """Returns where costs (..., Q, C) are within the limits (C,) for some way to go on, (...)."""
    return np.asarray(np.all(costs <= most, axis=-1).any(axis=-1))


def cheapest_way(values: Array, weights: Array) -> Array:
    """Returns the costs (Q, C) of the cheapest of some (n, Q, C) in each row, by weights (Q, C)."""
    sums = np.einsum("nqc,qc->nq", np.minimum(values, 1e30), weights)
    chosen: Array = np.take_along_axis(values, sums.argmin(0)[None, :, None], 0)[0]
    return chosen


class Infeasible(ValueError):
    """No architecture of a space is within the limits."""


class CostLimit:
    """Base of the limits on costs. `most` (C,) holds the limits."""

    def __init__(self, limits: Limits):
        self.limits, self.about = limits, limits.about()
        self.most = np.array(list(limits.kinds.values())) * SLACK
        shares = 1 / self.most
        alone = np.diag(shares) if len(shares) > 1 else np.zeros((0, len(shares)))
        self.weights: Array = np.concatenate([shares[None], alone + 1e-6 * shares * (alone == 0)])
        """Weights of costs whose sum a completion makes smallest, (W, C): of all in shares of the
        limits; where there are several costs, of each alone too."""
        self.smallest = ""

    def checked(self, smallest: Array, fits: bool) -> None:
        """Keeps the smallest costs in words; Infeasible where nothing fits."""
        named = (shown(kind, value) for kind, value in zip(self.limits.kinds, smallest, strict=True))
        self.smallest = " and ".join(named)
        if not fits:
            raise Infeasible(f"no architecture has {self.about}: the smallest possible is {self.smallest}")
