"""This module holds the random numbers of a controller's answers."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.spaces.decisions import SubsetChoice
from enas.spaces.space import SearchSpace


class Noise:
    """A `Noise` object gives the random numbers of a walk, in the order in which the walk takes
    them. They are drawn as it goes, or before as a vector, which can lie on another device."""

    def __init__(self, source: torch.Generator | Tensor):
        self.source, self.taken = source, 0

    @staticmethod
    def drawn(space: SearchSpace, n: int, generator: torch.Generator) -> Tensor:
        """Returns all random numbers that a walk of n architectures takes from `generator`, as one
        vector."""
        noise = Noise(generator)
        parts = []
        for decision in space.decisions:
            K = len(decision.options)
            if isinstance(decision, SubsetChoice):
                parts += [noise.uniform(n) for _ in range(K)]
            else:
                parts.append(noise.exponential(n, K).flatten())
        return torch.cat(parts)

    def _next(self, count: int) -> Tensor:
        assert isinstance(self.source, Tensor)
        self.taken += count
        return self.source[self.taken - count : self.taken]

    def exponential(self, n: int, K: int) -> Tensor:
        """Returns (n, K) exponential random numbers."""
        if isinstance(self.source, torch.Generator):
            return torch.empty(n, K).exponential_(generator=self.source)
        return self._next(n * K).view(n, K)

    def uniform(self, n: int) -> Tensor:
        """Returns (n,) random numbers, uniform between 0 and 1."""
        return torch.rand(n, generator=self.source) if isinstance(self.source, torch.Generator) else self._next(n)
