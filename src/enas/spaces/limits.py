"""Hard limits: which answers may be given so that an architecture stays within a budget.

A limit is asked along the decisions of a space. An option is allowed where some completion of what
was answered is within the limit, so that no walk ever comes to a dead end, and nothing that is
drawn has to be thrown away. Several architectures are answered side by side:

    cursor = limit.start(M)
    cursor.options()            (M, K) which options the current decision may take
    cursor.bits(taken)          for a subset instead: whether the next option may be in, and out
    cursor.take(answer)         (M,) indices, or (M, K) booleans for a subset; on to the next

Here are the limit by a rule, which a user writes, and limits on costs. `TableLimit` knows every
architecture of a small space. `CellsLimit` and `LayersLimit` find the cheapest completion of cells
and of layers by dynamic programming. `TreeLimit` is for choices whose costs add up. All are exact
for one cost: an option is allowed if and only if some completion is within the limit. With several
costs, completions that are cheapest in one of them, or in their sum in shares of the limits, are
tried. Each of those is a fixed way to go on: where it is allowed now, it is allowed to the end.
No torch in here.

Shapes: M architectures, K options of a decision, C costs, S sources, L layers; Q ways to go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from enas.spaces.architecture import Answer, Architecture
from enas.spaces.costs import KINDS, SLACK, Costs, Limits, shown
from enas.spaces.decisions import Decision, SubsetChoice

SearchSpace = Any  # of enas.spaces.space, which imports this file
Array = np.ndarray
Rule = Callable[[Decision, Mapping[str, Answer]], "tuple[bool, ...] | None"]
SMALL = 1 << 18  # cells of a table that is still filled for every architecture of a space


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


# ------------------------------------------------------------------------------------ small spaces
class TableLimit(CostLimit):
    """Knows of every architecture whether it is within the limits."""

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
        self.fits = [fits]  # of every prefix, the shortest first
        for size in reversed(sizes):
            self.fits.insert(0, np.asarray(self.fits[0].reshape(-1, size).any(axis=1)))

    def start(self, n: int) -> Cursor:
        return _TableCursor(self, n)


def digits_of(space: SearchSpace) -> list[tuple[int, ...]]:
    """Returns the number of answers to every decision: of a subset, two for each of its options."""
    return [(2,) * len(d.options) if isinstance(d, SubsetChoice) else (len(d.options),) for d in space.decisions]


def _place(space: SearchSpace, arch: Architecture, digits: Sequence[tuple[int, ...]]) -> int:
    """Returns the number of an architecture; what is not asked counts as the first answer."""
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


# ------------------------------------------------------------------------- any space, step by step
class WitnessLimit(CostLimit):
    """Completes what was answered in one fixed way, and asks what that costs.

    `order` has the options of each decision, the ones to complete with first. It costs one look at
    an architecture per option: for spaces of which nothing better is known.
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
        """Returns whether that architecture is within the limits."""
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


# ------------------------------------------------------------------------------- costs that add up
class TreeLimit(CostLimit):
    """For decisions whose options have costs of their own, that add up.

    `own` has the costs of the options of each decision, (K, C), without those of decisions that are
    asked because of them; `base` (C,) is what every architecture costs. Each decision depends on
    one other at most.
    """

    def __init__(self, space: SearchSpace, limits: Limits, base: Array, own: Sequence[Array]):
        super().__init__(limits)
        self.space, self.base, self.own = space, base, own
        names = [decision.name for decision in space.decisions]
        self.parent = [names.index(d.when.decision) if d.when is not None else None for d in space.decisions]
        self.least = [np.zeros_like(self.weights) for _ in names]  # of a decision with all below it, (W, C)
        self.below = [np.zeros((len(d.options), *self.weights.shape)) for d in space.decisions]  # (K, W, C)
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
        """Where the decision is asked, (M,)."""
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


# ------------------------------------------------------------------------------------------- cells
@dataclass(frozen=True)
class CellPrices:
    """What stacked cells cost whose loose ends leave them.

    A cell that does not read one of its inputs may leave others without a reader. So prices depend
    on which inputs the cells read: `reads` has a row per combination, (P, cells, inputs). All are
    for the cells that are then live.
    """

    reads: Array
    base: Array
    """(P, C): whatever the nodes do."""
    edges: Array
    """(P, cells, nodes, slots, inputs and nodes before, ops, C)."""
    loose: Array
    """(P, cells, C): of a node that no other reads, over all that read the cell."""


class CellsLimit(CostLimit):
    """For cells of nodes that read two inputs each by an op.

    Which of the earlier nodes a node reads costs the same, but for this: a node that is read is no
    loose end. So the number of loose ends is all that a completion needs to know of the nodes, and
    the cheapest one is found exactly, for each combination of cell inputs that are read. A
    combination with more of them costs no less.
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
        self.base, self.loose = prices.base[q], prices.loose[q].transpose(1, 0, 2)  # (Q, C), (cells, Q, C)
        edges = np.array(prices.edges[q], dtype=float)  # (Q, cells, N, 2, places, ops, C)
        for i in range(n_in):
            edges[~prices.reads[q][:, :, i], :, :, i] = np.inf
        self.edges = edges.transpose(1, 2, 3, 4, 5, 0, 6)  # (cells, N, 2, places, ops, Q, C)
        order = np.where(np.isfinite(self.edges), self.edges, 1e300)
        cheapest = np.einsum("...qc,qc->...q", np.minimum(order, 1e30), w).argmin(4)  # (cells, N, 2, places, Q)
        self.best = np.take_along_axis(self.edges, cheapest[:, :, :, :, None, :, None], 4)[:, :, :, :, 0]
        after = np.zeros((len(q), C))  # what the cells to come cost
        self.rest: list[list[Array]] = [[] for _ in range(cells)]  # of each cell and node: (loose, Q, C)
        self.first: list[list[Array]] = [[] for _ in range(cells)]  # after the first input: (loose, kinds, Q, C)
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
                        first[u, kind] = _cheapest(np.stack(seconds), w)
                rest = np.full((N + 1, len(q), C), np.inf)
                for u in range(j + 1):
                    rest[u] = _cheapest(first[u], w)
                self.first[c].insert(0, first)
                self.rest[c].insert(0, rest)
            after = rest[0]
        total = self.base + self.rest[0][0][0]  # (Q, C)
        self.checked(total.min(0), bool((total <= self.most).all(1).any()))

    def _kinds(self, j: int, loose: int, read: bool = False) -> list[int]:
        """Returns what node j can read where so many of the nodes before it are loose: the inputs,
        `inputs` for a node that is read already, one more for a loose one."""
        n_in = self.inputs
        return [*range(n_in), *([n_in] if read or j > loose else []), *([n_in + 1] if loose > 0 else [])]

    def _place(self, kind: int) -> int:
        place: int = min(kind, self.inputs)
        return place

    def start(self, n: int) -> Cursor:
        return _CellsCursor(self, n)


def _cheapest(values: Array, weights: Array) -> Array:
    """Returns the costs (Q, C) of the cheapest of some (n, Q, C) in each row, by weights (Q, C)."""
    sums = np.einsum("nqc,qc->nq", np.minimum(values, 1e30), weights)
    chosen: Array = np.take_along_axis(values, sums.argmin(0)[None, :, None], 0)[0]
    return chosen


class _CellsCursor:
    """Decisions come node by node: first input, second input, first op, second op."""

    def __init__(self, limit: CellsLimit, n: int):
        self.limit, self.step, self.n = limit, 0, n
        cells, nodes = limit.edges.shape[:2]
        self.places = [(c, j, part) for c in range(cells) for j in range(nodes) for part in range(4)]
        self.cost = np.repeat(limit.base[None], n, 0)  # (M, Q, C) of what was answered
        self.is_loose = np.zeros((n, nodes), dtype=bool)
        self.taken: list[Array] = []

    def _kinds(self, j: int) -> Array:
        """Returns what the options of an input of node j are, (M, n_in + j)."""
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


# ------------------------------------------------------------------------------------------ layers
@dataclass(frozen=True)
class LayerPrices:
    """What layers cost that merge chosen outputs. Source 0 is the stem, source k is layer k."""

    base: Array
    """(C,): stem and classifier."""
    ops: Array
    """(L, ops, C)."""
    merges: Array
    """(L, S, C): of a source in the merge of a layer."""
    merge: Array
    """(L, C): of any merge, whatever is in it."""
    halvings: Array
    """(cuts, S, C): of halving an output at a reduction."""
    level: Array
    """(S,): number of reductions before the place of an output."""
    chained: bool
    """Whether a layer reads the one before it even where it merges others too."""


class LayersLimit(CostLimit):
    """For layers that choose an op, and then which earlier outputs they merge.

    The cheapest completion has the cheapest ops, and no merges but for one: where a layer with a
    merge does not read the one before it, a single source leaves all behind that it does not need.
    """

    def __init__(self, space: SearchSpace, limits: Limits, prices: LayerPrices, sources: Sequence[Sequence[int]]):
        super().__init__(limits)
        self.prices, self.sources = prices, [np.array(s, dtype=int) for s in sources]
        p, L, w = prices, len(prices.ops), self.weights
        self.L, W, C = L, len(w), len(self.most)
        cheapest = np.einsum("loc,wc->lwo", p.ops, w).argmin(2)
        self.cheap = np.stack([p.ops[k][cheapest[k]] for k in range(L)])  # (L, W, C)
        chain = np.zeros((L + 1, W, C))  # from layer k to the end, each layer reading the one before
        for k in reversed(range(L)):
            chain[k] = chain[k + 1] + self.cheap[k] + self.halved(k, k)
        # (L + 1, S, W, C): to the end from layer k, where the last one reads source s at the last
        self.tail = np.full((L + 1, L + 1, W, C), np.inf)
        for k in range(L + 1):
            ways: dict[int, list[Array]] = {k: [chain[k]]}
            for j in range(k, L) if not p.chained else ():  # index of a layer to come
                for s in self.sources[j][self.sources[j] <= k]:
                    begun = p.merges[j, s] + p.merge[j] + self.halved(s, j) + self.cheap[j] + chain[j + 1]
                    ways.setdefault(int(s), []).append(begun)
            for s, some in ways.items():
                self.tail[k, s] = _cheapest(np.stack(some), w)
        total = p.base + self.halved(0, 0) + self.cheap[0] + self.tail[1, 1]
        self.checked(total.min(0), bool((total <= self.most).all(1).any()))

    def halved(self, s: int, j: int) -> Array:
        """Returns the costs of bringing source s to the level of the layer at index j, (C,)."""
        here, there = self.prices.level[s], self.prices.level[j + 1]
        out: Array = self.prices.halvings[here:there, s].sum(0)
        return out

    def start(self, n: int) -> Cursor:
        return _LayersCursor(self, n)


class _LayersCursor:
    """Decisions come layer by layer: its op, then its subset where it has one."""

    def __init__(self, limit: LayersLimit, n: int):
        self.limit, self.k, self.n, S = limit, 0, n, limit.L + 1
        C, cuts = len(limit.most), len(limit.prices.halvings)
        self.own = np.zeros((n, S, C))  # of each output by itself
        self.whole = np.zeros((n, S, C))  # of each with all that it depends on
        self.needs = np.zeros((n, S, S), dtype=bool)  # what it depends on
        self.halves = np.zeros((n, S, S * cuts), dtype=bool)  # which halvings it needs by itself
        self.halvings = limit.prices.halvings.transpose(1, 0, 2).reshape(S * cuts, C)
        self.whole[:, 0] = self.own[:, 0] = limit.prices.base
        self.needs[:, 0, 0] = True
        self.op: Array | None = None

    def _fits(self, cost: Array) -> Array:
        """Returns where costs (..., W, C) are within the limits for some way to go on."""
        return within(cost, self.limit.most)

    def _otherwise(self) -> Array:
        """Returns where this layer need not be used at all, (M,)."""
        k, tail = self.k, self.limit.tail[self.k + 1]
        return np.asarray(self._fits(self.whole[:, : k + 1, None] + tail[: k + 1]).any(axis=1))

    def _single(self) -> Array:
        """Returns what this layer costs without its op, (M, 1 + sources, C): reading the one before
        it, or one source alone."""
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
        """Returns of this layer with its op, where it merges `sources` (M, S): what it costs with
        all that it depends on (M, C), what that is (M, S), and the halvings of its own."""
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
