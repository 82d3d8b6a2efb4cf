"""This module limits the cost of any space: it completes the answers so far in one fixed way, and
asks what the completed architecture costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from enas.spaces.architecture import Answer, Architecture
from enas.spaces.costs import KINDS, Costs, Limits
from enas.spaces.decisions import Decision, SubsetChoice
from enas.spaces.limits.limit import Array, CostLimit, Cursor, SearchSpace, counted_bits


class WitnessLimit(CostLimit):
    """A `WitnessLimit` completes the answers so far in one fixed way, and asks what that costs.

    `order` holds the options of each decision, and those to complete with come first. Each option
    takes the cost of one architecture, so this is for spaces without a better limit.
    """

    def __init__(
        self,
        space: SearchSpace,
        limits: Limits,
        costs: Callable[[Architecture], Costs],
        order: Mapping[str, Sequence[str]],
    ):
        super().__init__(limits)
        self.space, self.costs, self.order = space, costs, order
        self._fits: dict[Architecture, bool] = {}
        cheapest = self.completed({})
        values = np.array(costs(cheapest).values())[[KINDS.index(kind) for kind in limits.kinds]]
        self.checked(values, limits.hold(costs(cheapest)))

    def completed(self, choices: Mapping[str, Answer]) -> Architecture:
        """Returns the architecture that follows `choices` and is completed in the fixed way."""
        whole = dict(choices)
        for decision in self.space.decisions:
            if decision.name not in whole and self.space.active(decision, whole):
                order = self.order[decision.name]
                whole[decision.name] = order[0]
                if isinstance(decision, SubsetChoice):
                    whole[decision.name] = decision.check(list(order[: decision.bounds[0]]))
        return Architecture.of(self.space.spec, whole)

    def fits(self, choices: Mapping[str, Answer]) -> bool:
        """Returns whether the completed architecture of `choices` is within the limits."""
        arch = self.completed(choices)
        if arch not in self._fits:
            self._fits[arch] = self.limits.hold(self.costs(arch))
        return self._fits[arch]

    def start(self, n: int) -> Cursor:
        return _WitnessCursor(self, n)


class _WitnessCursor:
    def __init__(self, limit: WitnessLimit, n: int):
        self.limit, self.n = limit, n
        self.answers: list[Array] = []

    def _rows(self) -> tuple[Decision, list[dict[str, Answer]]]:
        space = self.limit.space
        return space.decisions[len(self.answers)], space.decoded(self.answers, self.n)

    def options(self) -> Array:
        decision, rows = self._rows()
        asked = [self.limit.space.active(decision, choices) for choices in rows]
        return np.array(
            [
                [not ask or self.limit.fits({**choices, decision.name: option}) for option in decision.options]
                for ask, choices in zip(asked, rows, strict=True)
            ]
        )

    def bits(self, taken: Array) -> tuple[Array, Array]:
        decision, rows = self._rows()
        assert isinstance(decision, SubsetChoice)
        counted, j = counted_bits(decision, taken), taken.shape[1]
        both = []
        for bit, possible in zip((True, False), counted, strict=True):
            fits = []
            for m, choices in enumerate(rows):
                begun = {decision.options[i] for i in np.flatnonzero(taken[m])} | ({decision.options[j]} if bit else set())
                left = [o for o in self.limit.order[decision.name] if o in decision.options[j + 1 :]]
                whole = begun | set(left[: max(0, decision.bounds[0] - len(begun))])
                members = tuple(option for option in decision.options if option in whole)
                asked = self.limit.space.active(decision, choices)
                fits.append(bool(possible[m]) and (not asked or self.limit.fits({**choices, decision.name: members})))
            both.append(np.array(fits))
        return both[0], both[1]

    def take(self, answer: Array) -> None:
        self.answers.append(answer)
