"""This module limits the cost of stacked cells (the micro space) by dynamic programming over the
number of loose ends.

Shapes are as in `limit`. In addition, P is the number of combinations of cell inputs that are read,
and N the number of nodes of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enas.spaces.costs import Limits
from enas.spaces.limits.limit import Array, CostLimit, Cursor, SearchSpace, cheapest_way, within


@dataclass(frozen=True)
class CellPrices:
    """A `CellPrices` holds what stacked cells cost whose outputs are their loose ends.

    A cell that does not read one of its inputs may leave another cell without a reader. So prices
    depend on which inputs the cells read: `reads` has a row per combination, of shape (P, cells,
    inputs). All prices are for the cells that are then live.
    """

    reads: Array
    base: Array
    """Cost of everything but the nodes, (P, C)."""
    edges: Array
    """Cost of each edge, (P, cells, nodes, slots, inputs and nodes before, ops, C)."""
    loose: Array
    """Cost of a node that no other reads, summed over all that read the cell, (P, cells, C)."""


class CellsLimit(CostLimit):
    """A `CellsLimit` serves cells of nodes that each read two inputs by an op.

    A node pays the same price for reading any of the earlier nodes, except that a node that is read
    is no loose end. So a completion needs to know nothing of the nodes but the number of loose
    ends. The cheapest completion is found exactly, for each combination of cell inputs that are
    read. A combination that reads more inputs costs no less.
    """

    def __init__(self, space: SearchSpace, limits: Limits, prices: CellPrices):
        super().__init__(limits)
        self.space = space
        P, cells, N, slots, _, _, C = prices.edges.shape
        n_in = prices.reads.shape[2]
        assert slots == 2
        W = len(self.weights)
        q = np.repeat(np.arange(P), W)  # the combination of each way to go on
        w = np.tile(self.weights, (P, 1))  # (Q, C)
        for j in range(1, N):
            nodes = prices.edges[:, :, j, :, n_in : n_in + j]
            assert np.allclose(nodes, nodes[:, :, :, :1], rtol=1e-9), "reading one node costs as reading another"
        self.inputs = n_in
        # (Q, C), (cells, Q, C)
        self.base, self.loose = prices.base[q], prices.loose[q].transpose(1, 0, 2)
        edges = np.array(prices.edges[q], dtype=float)  # (Q, cells, N, 2, places, ops, C)
        for i in range(n_in):
            edges[~prices.reads[q][:, :, i], :, :, i] = np.inf
        self.edges = edges.transpose(1, 2, 3, 4, 5, 0, 6)  # (cells, N, 2, places, ops, Q, C)
        order = np.where(np.isfinite(self.edges), self.edges, 1e300)
        # (cells, N, 2, places, Q)
        cheapest = np.einsum("...qc,qc->...q", np.minimum(order, 1e30), w).argmin(4)
        self.best = np.take_along_axis(self.edges, cheapest[:, :, :, :, None, :, None], 4)[:, :, :, :, 0]
        after = np.zeros((len(q), C))  # cost of the cells that come after
        # cheapest cost from each node of each cell to the end: (loose, Q, C)
        self.rest: list[list[Array]] = [[] for _ in range(cells)]
        # the same once the first input of the node is chosen: (loose, kinds, Q, C)
        self.first: list[list[Array]] = [[] for _ in range(cells)]
        for c in reversed(range(cells)):
            rest = np.arange(N + 1)[:, None, None] * self.loose[c] + after
            self.rest[c], self.first[c] = [rest], []
            for j in reversed(range(N)):
                first = np.full((N + 1, n_in + 2, len(q), C), np.inf)
                for u in range(j + 1):
                    for kind in self._kinds(j, u):
                        seconds = [
                            self.best[c, j, 0, self._place(kind)] + self.best[c, j, 1, self._place(other)]
                            + rest[u - (kind > n_in) - (other > n_in) + 1]
                            for other in self._kinds(j, u - (kind > n_in), bool(kind > n_in))
                        ]  # fmt: skip
                        first[u, kind] = cheapest_way(np.stack(seconds), w)
                rest = np.full((N + 1, len(q), C), np.inf)
                for u in range(j + 1):
                    rest[u] = cheapest_way(first[u], w)
                self.first[c].insert(0, first)
                self.rest[c].insert(0, rest)
            after = rest[0]
        total = self.base + self.rest[0][0][0]  # (Q, C)
        self.checked(total.min(0), bool((total <= self.most).all(1).any()))

    def _kinds(self, j: int, loose: int, read: bool = False) -> list[int]:
        """Returns the kinds of input that node j can read where `loose` of the nodes before it are
        loose ends. A cell input is its own kind, `inputs` stands for a node that is read already,
        and `inputs + 1` for a loose end."""
        n_in = self.inputs
        return [*range(n_in), *([n_in] if read or j > loose else []), *([n_in + 1] if loose > 0 else [])]

    def _place(self, kind: int) -> int:
        place: int = min(kind, self.inputs)
        return place

    def start(self, n: int) -> Cursor:
        return _CellsCursor(self, n)


class _CellsCursor:
    """This cursor takes the decisions node by node: first input, second input, first op, second
    op."""

    def __init__(self, limit: CellsLimit, n: int):
        self.limit, self.step, self.n = limit, 0, n
        cells, nodes = limit.edges.shape[:2]
        self.places = [(c, j, part) for c in range(cells) for j in range(nodes) for part in range(4)]
        self.cost = np.repeat(limit.base[None], n, 0)  # cost of the answers so far, (M, Q, C)
        self.is_loose = np.zeros((n, nodes), dtype=bool)
        self.taken: list[Array] = []

    def _kinds(self, j: int) -> Array:
        """Returns the kind of every option for an input of node j, (M, n_in + j)."""
        n_in = self.limit.inputs
        nodes = np.where(self.is_loose[:, :j], n_in + 1, n_in)
        return np.concatenate([np.tile(np.arange(n_in), (self.n, 1)), nodes], 1)

    def options(self) -> Array:
        limit = self.limit
        c, j, part = self.places[self.step]
        loose = self.is_loose.sum(1)
        if part == 0:
            left = limit.first[c][j][loose[:, None], self._kinds(j)]  # (M, K, Q, C)
        elif part == 1:
            kinds = self._kinds(j)
            after = limit.rest[c][j + 1][loose[:, None] - (kinds > limit.inputs) + 1]
            second = limit.best[c, j, 1, : limit.inputs + j]
            left = limit.best[c, j, 0, self.taken[0]][:, None] + second + after
        else:
            left = limit.edges[c, j, part - 2, self.taken[part - 2]] + limit.rest[c][j + 1][loose + 1][:, None]
            if part == 2:
                left = left + limit.best[c, j, 1, self.taken[1]][:, None]
        return within(self.cost[:, None] + left, limit.most)

    def bits(self, taken: Array) -> tuple[Array, Array]:
        raise AssertionError("cells have no subsets")

    def take(self, answer: Array) -> None:
        limit = self.limit
        c, j, part = self.places[self.step]
        self.step += 1
        if part < 2:
            self.taken.append(answer)
            node = answer - limit.inputs
            rows = np.flatnonzero(node >= 0)
            self.is_loose[rows, node[rows]] = False
            return
        self.cost = self.cost + limit.edges[c, j, part - 2, self.taken[part - 2], answer]
        if part == 3:
            self.is_loose[:, j] = True
            self.taken = []
            if j == self.is_loose.shape[1] - 1:
                self.cost = self.cost + self.is_loose.sum(1)[:, None, None] * limit.loose[c]
                self.is_loose[:] = False
