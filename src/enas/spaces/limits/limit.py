"""This module defines hard limits: they say which answers may be given so that an architecture
stays within a budget.

A limit is asked along the decisions of a space. An option is allowed where some completion of the
answers so far is within the limit. So no walk ever comes to a dead end, and no architecture that
was drawn has to be thrown away. Several architectures are answered side by side:

    cursor = limit.start(M)
    cursor.options()            (M, K) which options the current decision may take
    cursor.bits(taken)          for a subset instead: whether the next option may be in, and out
    cursor.take(answer)         (M,) indices, or (M, K) booleans for a subset; on to the next

This file holds the contract, the limit by a rule that a user writes, and the base class of limits
on costs. The files `table`, `cells`, `layers` and `tree` in this folder are exact for one cost: an
option is allowed if and only if some completion is within the limit. `witness` serves any other
space.

With several costs, only some completions are tried: those that are cheapest in one of the costs, or
in the sum of the costs as shares of their limits. Each of these is a fixed way to go on, so where
it is allowed now, it stays allowed to the end. No file here imports torch.

In shapes, M is the number of architectures, K of options of a decision, C of costs, and Q of ways
to go on.
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
    """A `Cursor` walks M architectures along the decisions of a space."""

    def options(self) -> Array | None:
        """Returns which options the decision may take, (M, K), or None where it may take all."""

    def bits(self, taken: Array) -> tuple[Array, Array]:
        """Returns whether the next option may be in the subset, and whether it may be out, (M,)
        each. `taken` (M, j) holds the yes or no to the options before it."""

    def take(self, answer: Array) -> None:
        """Takes the answers to this decision and goes on to the next one. Where the decision was
        not asked, any answer will do."""


class Limit(Protocol):
    """A `Limit` is what a search space can be limited by."""

    @property
    def about(self) -> str:
        """Returns in words what the limit demands."""

    def start(self, n: int) -> Cursor:
        """Returns a walk of n architectures at the first decision."""


@dataclass(frozen=True)
class RuleLimit:
    """A `RuleLimit` follows a rule: a function of a decision and of the answers before it. The rule
    returns whether each option may be taken, or None where all may. Every prefix that it allows
    should lead to an architecture."""

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
        left = mask[:, j + 1 :].sum(1)  # number of later options that can be in
        return mask[:, j] & (members < high) & (low - members <= left + 1), low - members <= left

    def take(self, answer: Array) -> None:
        self.answers.append(answer)
        self._mask = None


def counted_bits(decision: SubsetChoice, taken: Array) -> tuple[Array, Array]:
    """Returns what `Cursor.bits` returns without a limit: a bit is forced only by the number of
    members."""
    (low, high), members = decision.bounds, taken.sum(1)
    return members != high, low - members != len(decision.options) - taken.shape[1]


def within(costs: Array, most: Array) -> Array:
    """Returns where costs (..., Q, C) are within the limits (C,) for at least one way to go on,
    (...)."""
    return np.asarray(np.all(costs <= most, axis=-1).any(axis=-1))


def cheapest_way(values: Array, weights: Array) -> Array:
    """Returns the costs (Q, C) of the cheapest of n alternatives (n, Q, C), for each way to go on.
    Alternatives are compared by the sum of their costs with weights (Q, C)."""
    sums = np.einsum("nqc,qc->nq", np.minimum(values, 1e30), weights)
    chosen: Array = np.take_along_axis(values, sums.argmin(0)[None, :, None], 0)[0]
    return chosen


class Infeasible(ValueError):
    """This error says that no architecture of a space is within the limits."""


class CostLimit:
    """A `CostLimit` is the base class of the limits on costs. `most` (C,) holds the limits."""

    def __init__(self, limits: Limits):
        self.limits, self.about = limits, limits.about()
        self.most = np.array(list(limits.kinds.values())) * SLACK
        shares = 1 / self.most
        alone = np.diag(shares) if len(shares) > 1 else np.zeros((0, len(shares)))
        self.weights: Array = np.concatenate([shares[None], alone + 1e-6 * shares * (alone == 0)])
        """Weights of the costs, (W, C). A completion makes a weighted sum of the costs smallest:
        the sum of all costs as shares of their limits, and where there are several costs,
        each of them alone too."""
        self.smallest = ""

    def checked(self, smallest: Array, fits: bool) -> None:
        """Keeps the smallest costs in words. Raises `Infeasible` where nothing fits."""
        named = (shown(kind, value) for kind, value in zip(self.limits.kinds, smallest, strict=True))
        self.smallest = " and ".join(named)
        if not fits:
            raise Infeasible(f"no architecture has {self.about}: the smallest possible is {self.smallest}")
