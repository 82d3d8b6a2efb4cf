"""This module limits choices whose costs add up, including choices inside the options of other
choices.

Shapes are as in `limit`. In addition, W is the number of weightings of the costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enas.spaces.costs import Limits
from enas.spaces.decisions import SubsetChoice
from enas.spaces.limits.limit import Array, CostLimit, Cursor, SearchSpace, counted_bits, within


class TreeLimit(CostLimit):
    """A `TreeLimit` serves decisions whose options have costs of their own, which add up.

    `own` holds the costs of the options of each decision, (K, C), without the costs of decisions
    that are asked because of them. `base` (C,) is what every architecture costs. Each decision
    depends on at most one other.
    """

    def __init__(self, space: SearchSpace, limits: Limits, base: Array, own: Sequence[Array]):
        super().__init__(limits)
        self.space, self.base, self.own = space, base, own
        names = [decision.name for decision in space.decisions]
        self.parent = [names.index(d.when.decision) if d.when is not None else None for d in space.decisions]
        # least cost of a decision with all decisions below it, (W, C)
        self.least = [np.zeros_like(self.weights) for _ in names]
        # least cost of the decisions below each option, (K, W, C)
        self.below = [np.zeros((len(d.options), *self.weights.shape)) for d in space.decisions]
        for i in reversed(range(len(names))):
            decision = space.decisions[i]
            whole = own[i][:, None] + self.below[i]  # (K, W, C)
            order = np.einsum("kwc,wc->kw", whole, self.weights).argsort(0, kind="stable")
            members = decision.bounds[0] if isinstance(decision, SubsetChoice) else 1
            chosen = np.take_along_axis(whole, order[:members, :, None], 0)
            self.least[i] = chosen.sum(0)
            if decision.when is not None:
                parent = self.parent[i]
                assert parent is not None
                assert decision.when.otherwise is None
                for k in self._options_that_ask(i):
                    self.below[parent][k] += self.least[i]
        total = base + sum(self.least[i] for i, parent in enumerate(self.parent) if parent is None)
        self.checked(total.min(0), bool((total <= self.most).all(1).any()))

    def _options_that_ask(self, i: int) -> list[int]:
        decision, parent = self.space.decisions[i], self.parent[i]
        assert decision.when is not None
        assert parent is not None
        _, answers = next(decision.when.ways)
        return [self.space.decisions[parent].options.index(answer) for answer in answers]

    def start(self, n: int) -> Cursor:
        return _TreeCursor(self, n)


class _TreeCursor:
    def __init__(self, limit: TreeLimit, n: int):
        self.limit, self.at = limit, 0
        first = limit.base + sum(limit.least[i] for i, parent in enumerate(limit.parent) if parent is None)
        self.cost = np.repeat(first[None], n, 0)  # (M, W, C), completed as cheaply as can be
        self.answers: list[Array] = []

    @property
    def asked(self) -> Array:
        """Returns where the decision is asked, (M,)."""
        return self._asked(self.at)

    def _asked(self, i: int) -> Array:
        parent = self.limit.parent[i]
        if parent is None:
            return np.ones(len(self.cost), dtype=bool)
        answer, options = self.answers[parent], self.limit._options_that_ask(i)
        taken = answer[:, options].any(axis=1) if answer.ndim == 2 else np.isin(answer, options)
        return np.asarray(taken & self._asked(parent))

    def _whole(self) -> Array:
        """Returns what each option costs with all below it, (K, W, C)."""
        return self.limit.own[self.at][:, None] + self.limit.below[self.at]

    def _fits(self, cost: Array) -> Array:
        return within(cost, self.limit.most)

    def options(self) -> Array:
        without = self.cost - self.limit.least[self.at]
        allowed: Array = self._fits(without[:, None] + self._whole()) | ~self.asked[:, None]
        return allowed

    def bits(self, taken: Array) -> tuple[Array, Array]:
        decision = self.limit.space.decisions[self.at]
        assert isinstance(decision, SubsetChoice)
        counted, j, whole = counted_bits(decision, taken), taken.shape[1], self._whole()
        before = self.cost - self.limit.least[self.at] + np.einsum("mk,kwc->mwc", taken, whole[:j])
        later = whole[j + 1 :]
        order = np.einsum("kwc,wc->kw", later, self.limit.weights).argsort(0, kind="stable")
        sums = np.concatenate([np.zeros((1, *later.shape[1:])), np.take_along_axis(later, order[:, :, None], 0).cumsum(0)])
        both = []
        for bit, possible in zip((1, 0), counted, strict=True):
            lacking = np.clip(decision.bounds[0] - taken.sum(1) - bit, 0, len(later))
            both.append(possible & (self._fits(before + bit * whole[j] + sums[lacking]) | ~self.asked))
        return both[0], both[1]

    def take(self, answer: Array) -> None:
        whole = self._whole()
        spent = np.einsum("mk,kwc->mwc", answer, whole) if answer.ndim == 2 else whole[answer]
        self.cost = np.where(self.asked[:, None, None], self.cost - self.limit.least[self.at] + spent, self.cost)
        self.answers.append(answer)
        self.at += 1
