"""This module limits the cost of a small space by a table of all its architectures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from enas.spaces.architecture import Architecture
from enas.spaces.costs import KINDS, Costs, Limits
from enas.spaces.decisions import SubsetChoice
from enas.spaces.limits.limit import Array, CostLimit, Cursor, SearchSpace

SMALL = 1 << 18  # a table of at most so many entries is filled for every architecture of a space


class TableLimit(CostLimit):
    """A `TableLimit` knows of every architecture whether it is within the limits."""

    def __init__(self, space: SearchSpace, limits: Limits, costs: Callable[[Architecture], Costs]):
        super().__init__(limits)
        self.digits = digits_of(space)
        sizes = [size for decision in self.digits for size in decision]
        fits = np.zeros(math.prod(sizes), dtype=bool)
        places = [KINDS.index(kind) for kind in limits.kinds]
        smallest = np.full(len(places), np.inf)
        for arch in space.enumerate():
            values = np.array(costs(arch).values())[places]
            smallest = np.minimum(smallest, values)
            fits[_place(space, arch, self.digits)] = bool((values <= self.most).all())
        self.checked(smallest, bool(fits.any()))
        self.fits = [fits]  # whether some completion of each prefix fits, the shortest prefix first
        for size in reversed(sizes):
            self.fits.insert(0, np.asarray(self.fits[0].reshape(-1, size).any(axis=1)))

    def start(self, n: int) -> Cursor:
        return _TableCursor(self, n)


def digits_of(space: SearchSpace) -> list[tuple[int, ...]]:
    """Returns the number of answers to every decision. For a subset there are two for each of its
    options."""
    return [(2,) * len(d.options) if isinstance(d, SubsetChoice) else (len(d.options),) for d in space.decisions]


def _place(space: SearchSpace, arch: Architecture, digits: Sequence[tuple[int, ...]]) -> int:
    """Returns the number of an architecture in the table. A decision that is not asked counts as
    its first answer."""
    place = 0
    for decision, sizes in zip(space.decisions, digits, strict=True):
        answer = arch.choices.get(decision.name)
        if isinstance(decision, SubsetChoice):
            for option in decision.options:
                place = place * 2 + (option in (answer or ()))
        else:
            place = place * sizes[0] + (0 if answer is None else decision.options.index(str(answer)))
    return place


class _TableCursor:
    def __init__(self, limit: TableLimit, n: int):
        self.limit, self.at, self.level = limit, 0, 0
        self.place = np.zeros(n, dtype=np.int64)

    def options(self) -> Array:
        (size,) = self.limit.digits[self.at]
        allowed: Array = self.limit.fits[self.level + 1][self.place[:, None] * size + np.arange(size)]
        return allowed

    def bits(self, taken: Array) -> tuple[Array, Array]:
        place = self._after(taken) * 2
        fits = self.limit.fits[self.level + taken.shape[1] + 1]
        return fits[place + 1], fits[place]

    def _after(self, taken: Array) -> Array:
        place = self.place
        for bit in taken.T:
            place = place * 2 + bit
        return place

    def take(self, answer: Array) -> None:
        sizes = self.limit.digits[self.at]
        self.place = self._after(answer) if answer.ndim == 2 else self.place * sizes[0] + answer
        self.at, self.level = self.at + 1, self.level + len(sizes)
