"""What the law tests share: spaces made by hand beside the registered ones, and comparison with
exact probabilities.

No torch in here, so that the tests of the value layer run without it.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from enas.spaces.architecture import Answer, Architecture
from enas.spaces.cells import Cell, Edge, Node, WiredEdge
from enas.spaces.costs import Costs, Limits
from enas.spaces.decisions import Anchor, Decision, InputChoice, OpChoice, OpSubset, SubsetChoice, When
from enas.spaces.limits.layers import LayerPrices, LayersLimit
from enas.spaces.limits.limit import CostLimit, Limit, Rule
from enas.spaces.limits.table import TableLimit
from enas.spaces.limits.tree import TreeLimit
from enas.spaces.registry import SPACES
from enas.spaces.space import SearchSpace


def plain_address(edge: WiredEdge, position: int) -> str:
    return f"{position}.{edge.node}.{edge.slot}.{edge.input}.{edge.op}"


def of_cell(name: str, *nodes: Node, inputs: tuple[str, ...] = ("a", "b"), **cell: Any) -> SearchSpace:
    """A space of one cell named `c`."""
    cells = (Cell("c", inputs, nodes, **cell),)
    return SearchSpace.of_cells(name, cells, settings={}, backbone="none", address=plain_address)


def of_walk(name: str, *decisions: Decision, anchors: str = "abde", limit: Limit | Rule | None = None) -> SearchSpace:
    """A space of decisions alone, over anchors `c.a`, `c.b`, ..."""
    return SearchSpace(name, (*(Anchor(f"c.{anchor}") for anchor in anchors), *decisions), limit=limit)


def no_option_twice(decision: Decision, answers: Mapping[str, Answer]) -> tuple[bool, ...] | None:
    """A limit: what one decision took, no later one takes. Before the first answer it has nothing
    to say."""
    taken = {option for answer in answers.values() for option in ([answer] if isinstance(answer, str) else answer)}
    return tuple(option not in taken for option in decision.options) if taken else None


AB, ABDE = ("a", "b"), ("a", "b", "d", "e")
OPS = ("conv", "pool", "skip")

# A space by hand and the number of its architectures, counted by hand.
TOYS: dict[str, tuple[SearchSpace, int]] = {
    "op": (of_walk("op", OpChoice(OPS, name="c.op")), 3),
    "one_answer": (of_walk("one_answer", OpChoice(("conv",), name="c.op"), InputChoice(AB, name="c.in")), 2),
    "two_ops": (of_walk("two_ops", OpChoice(AB, name="c.first"), OpChoice(AB, name="c.second")), 4),
    "inputs": (
        of_cell(
            "inputs",
            Node("n1", (Edge(InputChoice(AB), OpChoice(OPS)),)),
            Node("n2", (Edge(InputChoice((*AB, "n1")), OpChoice(AB)),)),
        ),
        2 * 3 * 3 * 2,
    ),
    "subset": (of_walk("subset", SubsetChoice(ABDE, name="c.skips")), 2**4),
    "subset_and_op": (of_walk("subset_and_op", SubsetChoice(AB, name="c.skips"), OpChoice(OPS, name="c.op")), 12),
    "two_of_four": (of_walk("two_of_four", SubsetChoice(ABDE, name="c.skips", k=2)), 6),
    "all_or_none": (
        of_walk("all_or_none", SubsetChoice(AB, name="c.all", k=2), SubsetChoice(AB, name="c.none", k=0)),
        1,
    ),
    "prior": (
        of_walk(
            "prior",
            OpChoice(OPS, prior=(1.0, -0.5, 0.0), name="c.op"),
            InputChoice(AB, prior=(0.0, 2.0), name="c.in"),
            SubsetChoice(AB, prior=(-1.0, 1.5), name="c.skips"),
        ),
        3 * 2 * 4,
    ),
    "bias": (
        of_walk("bias", OpChoice(OPS, bias=(1.5, -0.5, 0.0), name="c.op"), InputChoice(AB, name="c.in")),
        3 * 2,
    ),
    "guided": (of_walk("guided", SubsetChoice(ABDE, rate=0.2, name="c.skips"), OpChoice(AB, name="c.op")), 2**4 * 2),
    "layers": (  # the shape of the macro space, with merges and the last node as output
        of_cell(
            "layers",
            Node("n1", (Edge("a", OpChoice(OPS)),)),
            Node("n2", (Edge("n1", OpChoice(OPS)),), SubsetChoice(("a",))),
            Node("n3", (Edge("n2", OpChoice(OPS)),), SubsetChoice(("a", "n1"))),
            inputs=("a",),
            output="last",
        ),
        3 * 3 * 2 * 3 * 4,
    ),
    "limited": (
        of_walk(
            "limited",
            OpChoice(OPS, name="c.first"),
            OpChoice(OPS, name="c.second", bias=(1.5, -0.5, 0.0)),
            InputChoice(ABDE, name="c.in"),
            SubsetChoice(ABDE, name="c.skips", prior=(1.0, 0.0, -1.0, 2.0)),
            limit=no_option_twice,
        ),
        3 * 2 * 4 * 2**3,
    ),
    "limited_pairs": (  # where c.one is not asked, the limit may leave it no answer
        of_walk(
            "limited_pairs",
            SubsetChoice(ABDE, name="c.skips", k=2),
            OpChoice(OPS, name="c.op"),
            SubsetChoice(AB, name="c.one", k=1, when=When("c.skips", "d")),
            SubsetChoice(ABDE, name="c.more"),
            limit=no_option_twice,
        ),
        3 * (3 * 2**2 + (1 + 1 + 2) * 2**1),  # skips without d; a and d, b and d, d and e
    ),
    # two levels: the kernel is asked where there is a convolution, its order where the kernel is 5
    "nested_ops": (
        of_walk(
            "nested_ops",
            OpChoice(OPS, name="c.op"),
            OpChoice(("3", "5"), when=When("c.op", "conv"), name="c.kernel"),
            OpChoice(("before", "after"), when=When("c.kernel", "5"), name="c.relu"),
            InputChoice(AB, when=When("c.op", "pool"), name="c.in"),
        ),
        (1 + 2) + 2 + 1,
    ),
    "nested_subset": (  # below members of a subset, two levels deep, again with a subset
        of_walk(
            "nested_subset",
            SubsetChoice(("a", "b", "d"), name="c.skips"),
            OpChoice(AB, when=When("c.skips", "a"), name="c.op_of_a"),
            SubsetChoice(AB, when=When("c.skips", "b"), name="c.below_b"),
            OpChoice(OPS, when=When("c.below_b", "a"), name="c.op_below"),
        ),
        (1 + 2) * (1 + (1 + 3) * 2) * 2,
    ),
    "some_ops": (  # yes or no to ops, not to nodes; at least two, any, exactly one
        of_walk(
            "some_ops",
            OpSubset(OPS, name="c.some", least=2, prior=(1.0, -0.5, 0.0)),
            OpChoice(OPS, name="c.op", bias=(1.5, -0.5, 0.0)),
            OpSubset(OPS, name="c.any"),
            OpSubset(AB, name="c.one", k=1),
            anchors="",
        ),
        (3 + 1) * 3 * 2**3 * 2,
    ),
    "limited_least": (
        of_walk(
            "limited_least", OpChoice(ABDE, name="c.op"), SubsetChoice(ABDE, name="c.skips", least=2), limit=no_option_twice
        ),
        4 * (3 + 1),
    ),
    # a condition on several answers, of one decision and of two, and below such a decision
    "several_ways": (
        of_walk(
            "several_ways",
            OpChoice(("1", "2", "3"), name="c.depth"),
            OpSubset(OPS, name="c.some", least=1),
            OpChoice(AB, name="c.deep", when=When("c.depth", ("2", "3"))),
            OpChoice(AB, name="c.shared", when=When("c.deep", "b", When("c.some", ("conv", "pool")))),
            OpChoice(AB, name="c.last", when=When("c.shared", "a")),
        ),
        (6 * 3 + 1) + 2 * ((6 * 3 + 1) + 7 * 3),  # depth 1; depth 2 or 3 with deep a, with deep b
    ),
    "nested_two_of_three": (
        of_walk(
            "nested_two_of_three",
            SubsetChoice(("a", "b", "d"), name="c.skips", k=2),
            OpChoice(OPS, when=When("c.skips", "a"), name="c.op_of_a"),
            SubsetChoice(AB, when=When("c.skips", "d"), name="c.below_d", k=1),
            InputChoice(AB, when=When("c.below_d", "b"), name="c.in_below"),
        ),
        3 + 3 * (1 + 2) + (1 + 2),  # {a b}, {a d}, {b d}
    ),
}


def budgets() -> dict[str, tuple[SearchSpace, int]]:
    """Spaces with limits on costs, whose prices are made by hand."""
    tree = of_walk(
        "budget",
        OpChoice(OPS, name="c.op"),
        OpSubset(OPS, name="c.some", least=1),
        OpChoice(("3", "5"), when=When("c.op", ("conv", "pool")), name="c.kernel"),
        OpSubset(("a", "b", "d"), when=When("c.some", "pool"), name="c.two", k=2),
        anchors="",
    )
    own = [np.arange(len(decision.options), dtype=float)[:, None] for decision in tree.decisions]
    limited = replace(tree, limit=TreeLimit(tree, Limits(max_params=3), np.array([0.0]), own))
    layers = SPACES["conv_macro"].make(SPACES["conv_macro"].small[0])
    ones = np.ones((3, 4, 1))
    prices = LayerPrices(
        np.zeros(1), np.array([[[2.0], [1.0]]] * 3), ones, ones[:, 0], np.zeros((0, 4, 1)), np.zeros(4, dtype=int), False
    )
    within = LayersLimit(layers, Limits(max_params=5), prices, [[], [1], [1, 2]])
    return {"budget": (limited, 19), "layers_budget": (replace(layers, limit=within, backbone="none"), 21)}


TOYS |= budgets()

# Everything small enough to enumerate: the registered spaces' own small instances and the hand-made
# ones.
SMALL: dict[str, SearchSpace] = {
    f"{name}{i or ''}": entry.make(settings) for name, entry in SPACES.items() for i, settings in enumerate(entry.small)
} | {name: space for name, (space, _) in TOYS.items()}

# As the paper has them.
FULL: dict[str, SearchSpace] = {name: entry.make(entry.settings()) for name, entry in SPACES.items() if entry.small}


def samples(space: SearchSpace, n: int, seed: int = 0) -> list[Architecture]:
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(n)]


def p_value(drawn: Iterable[Architecture], probability: Mapping[Architecture, float]) -> float:
    """Chi-square: how likely a deviation like that of the frequencies in `drawn` is, were
    `probability` their law. Architectures expected fewer than 5 times are counted together. Of a
    Counter the counts are taken."""
    assert math.isclose(sum(probability.values()), 1.0, abs_tol=1e-4)
    counts = dict.fromkeys(probability, 0)
    for arch, n in Counter(drawn).items():  # KeyError for what has no probability
        counts[arch] += n
    n = sum(counts.values())
    pairs = [(counts[arch], n * p) for arch, p in probability.items() if n * p >= 5]
    rare = [(counts[arch], n * p) for arch, p in probability.items() if n * p < 5]
    if rare:
        pairs.append((sum(seen for seen, _ in rare), sum(expected for _, expected in rare)))
    if len(pairs) == 1:
        return 1.0
    total = sum(expected for _, expected in pairs)
    return float(stats.chisquare([seen for seen, _ in pairs], [n * expected / total for _, expected in pairs]).pvalue)


@contextlib.contextmanager
def one_line(kind: type[Exception], *words: str) -> Iterator[None]:
    """The error is of this kind, in one line, and says these words."""
    with pytest.raises(kind) as caught:
        yield
    text = str(caught.value)
    assert "\n" not in text
    assert text
    for word in words:
        assert word in text


# ---------------------------------------------------------------- limits
def feasible(space: SearchSpace, limits: Limits, price: Callable[[Architecture], Costs]) -> set[Architecture]:
    return {arch for arch in space.enumerate() if limits.hold(price(arch))}


def agree_everywhere(space: SearchSpace, limit: CostLimit, table: TableLimit, expected: set[Architecture]) -> None:
    """Both allow the same after every prefix of what is within the limits, which is `expected`."""
    assert limit.smallest == table.smallest
    whole = list(space.enumerate())
    for some in (limit, table):
        forbidden = replace(space, limit=some).forbidden([arch.choices for arch in whole])
        assert {arch for arch, name in zip(whole, forbidden, strict=True) if name is None} == expected
    rows = [arch.choices for arch in expected]
    mine, other = limit.start(len(rows)), table.start(len(rows))
    for decision, answer in zip(space.decisions, space.encoded(rows), strict=True):
        asked = [decision.name in choices for choices in rows]
        if answer.ndim == 2:
            for j in range(answer.shape[1]):
                for a, b in zip(mine.bits(answer[:, :j]), other.bits(answer[:, :j]), strict=True):
                    assert np.array_equal(a[asked], b[asked])
        else:
            options, expected_options = mine.options(), other.options()
            assert options is not None
            assert expected_options is not None
            assert np.array_equal(options[asked], expected_options[asked])
        mine.take(answer)
        other.take(answer)
