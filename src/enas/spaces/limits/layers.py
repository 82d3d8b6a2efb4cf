"""This module limits the cost of layers with skips (the macro space). The cheapest completion of
such a network is a chain.

Shapes are as in `limit`. In addition, S is the number of sources and L the number of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from enas.spaces.costs import Limits
from enas.spaces.limits.limit import Array, CostLimit, Cursor, SearchSpace, cheapest_way, within


@dataclass(frozen=True)
class LayerPrices:
    """A `LayerPrices` holds what layers cost that merge chosen outputs. Source 0 is the stem, and
    source k is layer k."""

    base: Array
    """Cost of the stem and the classifier, (C,)."""
    ops: Array
    """Cost of each op of each layer, (L, ops, C)."""
    merges: Array
    """Cost of one source in the merge of a layer, (L, S, C)."""
    merge: Array
    """Cost that a merge has whatever is in it, (L, C)."""
    halvings: Array
    """Cost of halving an output at a reduction, (cuts, S, C)."""
    level: Array
    """Number of reductions before the place of each output, (S,)."""
    chained: bool
    """Whether a layer reads the one before it even where it merges others too."""


class LayersLimit(CostLimit):
    """A `LayersLimit` serves networks whose layers choose an op, and then which earlier outputs
    they merge.

    The cheapest completion has the cheapest ops and no merges, with one exception: where a layer
    with a merge does not read the layer before it, merging a single source can leave out all layers
    that this source does not need.
    """

    def __init__(self, space: SearchSpace, limits: Limits, prices: LayerPrices, sources: Sequence[Sequence[int]]):
        super().__init__(limits)
        self.prices, self.sources = prices, [np.array(s, dtype=int) for s in sources]
        p, L, w = prices, len(prices.ops), self.weights
        self.L, W, C = L, len(w), len(self.most)
        cheapest = np.einsum("loc,wc->lwo", p.ops, w).argmin(2)
        self.cheap = np.stack([p.ops[k][cheapest[k]] for k in range(L)])  # (L, W, C)
        # cost from layer k to the end where each layer reads the one before
        chain = np.zeros((L + 1, W, C))
        for k in reversed(range(L)):
            chain[k] = chain[k + 1] + self.cheap[k] + self.halved(k, k)
        # cost from layer k to the end, where source s is the last one that is still read of those
        # before k, (L + 1, S, W, C)
        self.tail = np.full((L + 1, L + 1, W, C), np.inf)
        for k in range(L + 1):
            ways: dict[int, list[Array]] = {k: [chain[k]]}
            for j in range(k, L) if not p.chained else ():  # index of a layer to come
                for s in self.sources[j][self.sources[j] <= k]:
                    begun = p.merges[j, s] + p.merge[j] + self.halved(s, j) + self.cheap[j] + chain[j + 1]
                    ways.setdefault(int(s), []).append(begun)
            for s, some in ways.items():
                self.tail[k, s] = cheapest_way(np.stack(some), w)
        total = p.base + self.halved(0, 0) + self.cheap[0] + self.tail[1, 1]
        self.checked(total.min(0), bool((total <= self.most).all(1).any()))

    def halved(self, s: int, j: int) -> Array:
        """Returns the cost of bringing source s to the resolution of the layer at index j, (C,)."""
        here, there = self.prices.level[s], self.prices.level[j + 1]
        out: Array = self.prices.halvings[here:there, s].sum(0)
        return out

    def start(self, n: int) -> Cursor:
        return _LayersCursor(self, n)


class _LayersCursor:
    """This cursor takes the decisions layer by layer: the op of a layer, then its subset where it
    has one."""

    def __init__(self, limit: LayersLimit, n: int):
        self.limit, self.k, self.n, S = limit, 0, n, limit.L + 1
        C, cuts = len(limit.most), len(limit.prices.halvings)
        self.own = np.zeros((n, S, C))  # cost of each output by itself
        self.whole = np.zeros((n, S, C))  # cost of each output with all that it depends on
        self.needs = np.zeros((n, S, S), dtype=bool)  # which outputs each output depends on
        self.halves = np.zeros((n, S, S * cuts), dtype=bool)  # which halvings it needs by itself
        self.halvings = limit.prices.halvings.transpose(1, 0, 2).reshape(S * cuts, C)
        self.whole[:, 0] = self.own[:, 0] = limit.prices.base
        self.needs[:, 0, 0] = True
        self.op: Array | None = None

    def _fits(self, cost: Array) -> Array:
        """Returns where costs (..., W, C) are within the limits for some way to go on."""
        return within(cost, self.limit.most)

    def _otherwise(self) -> Array:
        """Returns where the network fits without using this layer at all, (M,)."""
        k, tail = self.k, self.limit.tail[self.k + 1]
        return np.asarray(self._fits(self.whole[:, : k + 1, None] + tail[: k + 1]).any(axis=1))

    def _single(self) -> Array:
        """Returns what this layer costs without its op, (M, 1 + sources, C): where it reads the
        layer before it, or one source alone."""
        k, limit = self.k, self.limit
        ways = [self.whole[:, k] + limit.halved(k, k)]
        if not limit.prices.chained:
            p = limit.prices
            ways += [
                self.whole[:, s] + limit.halved(s, k) + p.merges[k, s] + p.merge[k] for s in limit.sources[k]
            ]  # fmt: skip
        return np.stack(ways, 1)

    def options(self) -> Array:
        k, limit = self.k, self.limit
        single = self._single()[:, :, None, None] + limit.prices.ops[k][:, None] + limit.tail[k + 1, k + 1]
        return self._fits(single).any(1) | self._otherwise()[:, None]

    def _joined(self, sources: Array) -> tuple[Array, Array, Array]:
        """Returns three values for this layer with its op where it merges `sources` (M, S): the
        cost of the layer with all that it depends on (M, C), the outputs that it depends on (M, S),
        and the halvings that it needs by itself."""
        k, p = self.k, self.limit.prices
        merging = np.asarray(sources.any(axis=1))
        reads = sources.copy()
        reads[:, k] |= ~merging | p.chained
        own = self.own[:, k + 1] + np.einsum("ms,sc->mc", sources, p.merges[k]) + merging[:, None] * p.merge[k]
        needs = np.einsum("ms,mst->mt", reads, self.needs)
        cuts = np.arange(len(p.halvings))
        places = (p.level[:, None] <= cuts) & (cuts < p.level[k + 1])  # (S, cuts)
        halves = (reads[:, :, None] & places).reshape(self.n, -1)
        every = np.einsum("ms,msh->mh", needs, self.halves) | halves
        cost = own + np.einsum("ms,msc->mc", needs, self.own) + np.einsum("mh,hc->mc", every, self.halvings)
        return cost, needs, halves

    def bits(self, taken: Array) -> tuple[Array, Array]:
        k, j, limit = self.k, taken.shape[1], self.limit
        free, sources, tail = self._otherwise(), limit.sources[k], limit.tail[k + 1, k + 1]
        members = np.zeros((self.n, limit.L + 1), dtype=bool)
        members[:, sources[:j]] = taken
        members[:, sources[j]] = True
        yes = free | self._fits(self._joined(members)[0][:, None] + tail)
        none = ~taken.any(1)
        if limit.prices.chained or not none.any():
            return yes, np.ones(self.n, dtype=bool)
        single = self._fits((self._single() + self.own[:, k + 1, None])[:, :, None] + tail)
        return yes, ~none | free | single[:, 0] | single[:, j + 2 :].any(1)

    def take(self, answer: Array) -> None:
        k, limit = self.k, self.limit
        sources = np.zeros((self.n, limit.L + 1), dtype=bool)
        if self.op is None:
            self.own[:, k + 1] = limit.prices.ops[k][answer]
            self.op = answer
            if len(limit.sources[k]):
                return
        else:
            sources[:, limit.sources[k]] = answer
        cost, needs, halves = self._joined(sources)
        merging = np.asarray(sources.any(axis=1))[:, None]
        self.own[:, k + 1] += np.einsum("ms,sc->mc", sources, limit.prices.merges[k]) + merging * limit.prices.merge[k]
        self.whole[:, k + 1], self.needs[:, k + 1], self.halves[:, k + 1] = cost, needs, halves
        self.needs[:, k + 1, k + 1] = True
        self.op, self.k = None, k + 1
