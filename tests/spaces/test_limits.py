"""Hard limits on costs: exact where there is one, sound where there are several, no dead ends."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from enas.spaces.architecture import Architecture
from enas.spaces.costs import Costs, CostTerm, Limits, amount, duration, pareto, rewarded
from enas.spaces.decisions import OpChoice, OpSubset, When
from enas.spaces.limits.cells import CellPrices, CellsLimit
from enas.spaces.limits.layers import LayerPrices, LayersLimit
from enas.spaces.limits.limit import CostLimit, Infeasible, RuleLimit
from enas.spaces.limits.table import TableLimit
from enas.spaces.limits.tree import TreeLimit
from enas.spaces.limits.witness import WitnessLimit
from enas.spaces.space import SearchSpace
from laws import OPS, SMALL, agree_everywhere, feasible, of_walk

rng = np.random.default_rng(0)
Price = Callable[[Architecture], Costs]

# A tree of decisions with prices by hand: conditions, subsets with bounds, and exactly k.
TREE = of_walk(
    "tree",
    OpChoice(OPS, name="c.op"),
    OpSubset(OPS, name="c.some", least=1),
    OpChoice(("3", "5"), when=When("c.op", ("conv", "pool")), name="c.kernel"),
    OpSubset(("a", "b", "d"), when=When("c.some", "pool"), name="c.two", k=2),
    OpChoice(("x", "y"), when=When("c.kernel", "5"), name="c.last"),
    anchors="",
)
OWN = [rng.integers(1, 9, (len(decision.options), 2)).astype(float) for decision in TREE.decisions]


def tree_costs(arch: Architecture) -> Costs:
    total = np.array([3.0, 1.0])
    for decision, own in zip(TREE.decisions, OWN, strict=True):
        answer = arch.choices.get(decision.name, ())
        total = total + sum((own[i] for i, o in enumerate(decision.options) if decision.contains(answer, o)), np.zeros(2))
    return Costs(int(total[0]), int(total[1]), 0)


def quantiles(space: SearchSpace, price: Price, share: float) -> tuple[int, int]:
    values = np.array([price(arch).values()[:2] for arch in space.enumerate()])
    parameters, macs = np.quantile(values, share, axis=0, method="lower")
    return int(parameters), int(macs)


def allowed(space: SearchSpace, limit: CostLimit) -> set[Architecture]:
    """What can be reached along the limit, one decision after the other, without a dead end."""
    whole = list(space.enumerate())
    forbidden = replace(space, limit=limit).forbidden([arch.choices for arch in whole])
    reached = {arch for arch, name in zip(whole, forbidden, strict=True) if name is None}
    walks = list(reached)
    cursor = limit.start(len(walks))
    for decision, answer in zip(space.decisions, space.encoded([arch.choices for arch in walks]), strict=True):
        asked = np.array([decision.name in arch.choices for arch in walks])
        if answer.ndim == 2:
            for j in range(answer.shape[1]):
                for bit, may in zip((True, False), cursor.bits(answer[:, :j]), strict=True):
                    for m in np.flatnonzero(may & asked):  # somebody goes this way to the end
                        assert any(_begins(space, walks[m], other, decision.name, j, bit) for other in reached)
        else:
            mask = cursor.options()
            assert mask is not None
            for m, k in zip(*np.nonzero(mask & asked[:, None]), strict=True):
                assert any(_follows(space, walks[m], other, decision.name, decision.options[k]) for other in reached)
        cursor.take(answer)
    return reached


def _before(space: SearchSpace, name: str) -> list[str]:
    names = [decision.name for decision in space.decisions]
    return names[: names.index(name)]


def _follows(space: SearchSpace, arch: Architecture, other: Architecture, name: str, option: str) -> bool:
    same = all(arch.choices.get(n) == other.choices.get(n) for n in _before(space, name))
    return same and other.choices.get(name) == option


def _begins(space: SearchSpace, arch: Architecture, other: Architecture, name: str, j: int, bit: bool) -> bool:
    if any(arch.choices.get(n) != other.choices.get(n) for n in _before(space, name)) or name not in other.choices:
        return False
    options = space.decision(name).options
    mine, others = ([option in a.choices[name] for option in options] for a in (arch, other))
    return mine[:j] == others[:j] and others[j] == bit


def tree(limits: Limits) -> TreeLimit:
    places = [("parameters", "macs").index(kind) for kind in limits.kinds]
    return TreeLimit(TREE, limits, np.array([3.0, 1.0])[places], [own[:, places] for own in OWN])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_one_cost_that_adds_up_is_exact(share: float) -> None:
    parameters, macs = quantiles(TREE, tree_costs, share)
    for limits in (Limits(max_params=parameters), Limits(max_macs=macs)):
        expected = feasible(TREE, limits, tree_costs)
        assert allowed(TREE, tree(limits)) == expected
        assert allowed(TREE, TableLimit(TREE, limits, tree_costs)) == expected


def test_several_costs_are_sound_and_a_table_is_exact() -> None:
    parameters, macs = quantiles(TREE, tree_costs, 0.4)
    limits = Limits(max_params=parameters, max_macs=macs)
    expected = feasible(TREE, limits, tree_costs)
    found = allowed(TREE, tree(limits))
    assert found <= expected
    assert len(found) > 0.7 * len(expected)
    assert allowed(TREE, TableLimit(TREE, limits, tree_costs)) == expected


def test_a_witness_obeys_and_comes_to_no_dead_end() -> None:
    parameters, _ = quantiles(TREE, tree_costs, 0.3)
    limits = Limits(max_params=parameters)
    order = {}
    for decision, own in zip(TREE.decisions, OWN, strict=True):
        order[decision.name] = tuple(decision.options[i] for i in own[:, 0].argsort())
    found = allowed(TREE, WitnessLimit(TREE, limits, tree_costs, order))
    assert found <= feasible(TREE, limits, tree_costs)
    assert len(found) > 10


def test_what_cannot_be_is_said_with_the_smallest_cost() -> None:
    smallest = min(tree_costs(arch).parameters for arch in TREE.enumerate())
    for make in (tree, lambda limits: TableLimit(TREE, limits, tree_costs)):
        with pytest.raises(Infeasible, match=f"at most {smallest - 1} parameters: the smallest possible is {smallest}"):
            make(Limits(max_params=smallest - 1))


# ---------------------------------------------------------------- cells and layers, prices by hand
def cells_case(space: SearchSpace, seed: int) -> tuple[CellPrices, Price]:
    """Prices of cells that grow with the inputs that are read, and what they make of an
    architecture, counted edge by edge."""
    draw = np.random.default_rng(seed)
    cells, nodes = space.cells, len(space.cells[0].nodes)
    ops = space.decisions[2].options
    reads = np.array(
        [[[bool(i & 1), bool(i & 2)] for i in pair] for pair in [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]]
    )
    more = 1 + reads.sum((1, 2))
    by_kind = draw.integers(0, 9, (len(cells), nodes, 2, 3, len(ops), 2))
    edges = np.zeros((len(reads), len(cells), nodes, 2, 2 + nodes - 1, len(ops), 2))
    for place in range(edges.shape[4]):
        edges[:, :, :, :, place] = by_kind[:, :, :, min(place, 2)] * more[:, None, None, None, None, None]
    base = draw.integers(1, 9, 2) * more[:, None]
    loose = draw.integers(1, 9, (len(cells), 2)) * more[:, None, None]
    prices = CellPrices(reads, base.astype(float), edges, loose.astype(float))

    def price(arch: Architecture) -> Costs:
        wired = space.wire(arch)
        read = [[name in wired[cell.name].inputs for name in cell.inputs] for cell in cells]
        p = next(i for i, row in enumerate(reads.tolist()) if row == read)
        total = prices.base[p].copy()
        for c, cell in enumerate(cells):
            total += len(wired[cell.name].outputs) * prices.loose[p, c]
            places = [*cell.inputs, *(node.name for node in cell.nodes)]
            for j, node in enumerate(wired[cell.name].nodes):
                for edge in node.edges:
                    total += prices.edges[p, c, j, edge.slot, places.index(edge.input), ops.index(edge.op)]
        return Costs(int(total[0]), int(total[1]), 0)

    return prices, price


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("nodes", [1, 2])
def test_cells_are_exact(nodes: int, share: float) -> None:
    from enas.spaces.conv_micro import ConvMicroSettings, conv_micro

    space = conv_micro(
        ConvMicroSettings(num_nodes=nodes, ops=("identity", "avg_pool_3x3") if nodes == 1 else ("identity",))
    )
    prices, price = cells_case(space, nodes)
    parameters, _ = quantiles(space, price, share)
    limits = Limits(max_params=parameters)
    one = replace(prices, base=prices.base[..., :1], edges=prices.edges[..., :1], loose=prices.loose[..., :1])
    limit = CellsLimit(space, limits, one)
    table = TableLimit(space, limits, price)
    agree_everywhere(space, limit, table, feasible(space, limits, price))


def layers_case(space: SearchSpace, seed: int) -> tuple[LayerPrices, list[list[int]], Price]:
    """Prices of layers, and what they make of an architecture by what is live."""
    draw = np.random.default_rng(seed)
    (cell,) = space.cells
    order = [cell.inputs[0], *(node.name for node in cell.nodes)]
    L, ops = len(cell.nodes), space.decisions[0].options
    level = np.array([sum(cut < i for cut in (1, 2)) for i in range(L + 1)])
    chained = cell.nodes[-1].merge == "after"
    prices = LayerPrices(
        *(
            draw.integers(1, 9, shape).astype(float)
            for shape in ((1,), (L, len(ops), 1), (L, L + 1, 1), (L, 1), (2, L + 1, 1))
        ),
        level,
        chained,
    )
    sources = [[order.index(o) for o in node.skips.options] if node.skips else [] for node in cell.nodes]

    def price(arch: Architecture) -> Costs:
        nodes = space.wire(arch)[cell.name].nodes
        deepest = {nodes[-1].name: 2}
        total = prices.base[0]
        for node in nodes:
            k = order.index(node.name) - 1
            total += prices.ops[k, ops.index(node.edges[0].op), 0]
            total += prices.merge[k, 0] * bool(node.skips) + sum(prices.merges[k, order.index(s), 0] for s in node.skips)
            for name in node.reads:
                deepest[name] = max(deepest.get(name, 0), int(level[k + 1]))
        total += sum(
            prices.halvings[c, order.index(n), 0] for n, d in deepest.items() for c in range(level[order.index(n)], d)
        )
        return Costs(int(total), 0, 0)

    return prices, sources, price


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("name", ["conv_macro", "conv_macro1"])
def test_layers_are_exact(name: str, share: float) -> None:
    space = SMALL[name]
    prices, sources, price = layers_case(space, 3)
    parameters, _ = quantiles(space, price, share)
    limits = Limits(max_params=parameters)
    limit = LayersLimit(space, limits, prices, sources)
    agree_everywhere(space, limit, TableLimit(space, limits, price), feasible(space, limits, price))


# ----------------------------------------------------------------------------- the space's own ways
def test_a_limited_space_draws_and_enumerates_what_obeys() -> None:
    parameters, _ = quantiles(TREE, tree_costs, 0.2)
    limits = Limits(max_params=parameters)
    space = replace(TREE, limit=tree(limits))
    expected = feasible(TREE, limits, tree_costs)
    assert set(space.enumerate()) == expected
    assert space.size() == len(expected)
    archs, drawn = space.samples(random.Random(0), 400)
    assert set(archs) <= expected
    assert len(archs) == 400
    share = sum(0.0 + (arch in expected) for arch in TREE.samples(random.Random(1), 4000)[0]) / 4000
    assert math.isclose(400 / drawn, share, rel_tol=0.3)
    outside = next(arch for arch in TREE.enumerate() if arch not in expected)
    with pytest.raises(ValueError, match=r"forbids the answer .*: an architecture has at most [\d,]+ parameters here"):
        space.check(outside)


def test_drawing_one_by_one_or_many_gives_what_obeys_in_equal_shares() -> None:
    parameters, _ = quantiles(TREE, tree_costs, 0.02)
    limits = Limits(max_params=parameters)
    space = replace(TREE, limit=tree(limits))
    source = random.Random(0)
    assert {space.sample(source) for _ in range(300)} == feasible(TREE, limits, tree_costs)


def test_amounts_are_read() -> None:
    assert [amount(text) for text in ("3M", "600k", "2G", "1.5M", "12,000", "7")] == [
        3_000_000,
        600_000,
        2 * 10**9,
        1_500_000,
        12_000,
        7,
    ]
    assert [duration(text) for text in ("8ms", "250us", "1.5s")] == [0.008, 250e-6, 1.5]
    for wrong in ("", "3X", "M"):
        with pytest.raises(ValueError, match="a limit is a number and k, M or G"):
            amount(wrong)
    with pytest.raises(ValueError, match="a latency is a number and us, ms or s"):
        duration("8")
    with pytest.raises(ValueError, match="max_params is above 0; got 0"):
        Limits(max_params=0)


def test_a_rule_stands_for_a_limit() -> None:
    space = of_walk("rule", OpChoice(OPS, name="c.op"), anchors="")
    only = replace(space, limit=lambda decision, answers: (True, False, False))
    same = replace(space, limit=RuleLimit(space, lambda decision, answers: (True, False, False)))
    assert list(only.enumerate()) == list(same.enumerate()) == [space.architecture({"c.op": "conv"})]


# -------------------------------------------------------------------------------------- soft terms
def test_terms_by_hand() -> None:
    costs = Costs(2_000_000, 900, 0, 0.004)
    power, absolute = CostTerm.parse("parameters:1M:power:-0.07"), CostTerm.parse("latency:8ms:absolute:-0.5")
    assert power.applied(0.8, costs) == 0.8 * 2**-0.07
    assert power.applied(-0.8, costs) == -0.8 / 2**-0.07, "more cost is never better"
    assert absolute.applied(0.8, costs) == pytest.approx(0.8 - 0.5 * 0.5)
    assert rewarded(0.8, costs, [power, absolute]) == pytest.approx(0.8 * 2**-0.07 - 0.25)
    assert CostTerm.parse("macs:900:power:-2").applied(0.5, costs) == 0.5
    with pytest.raises(ValueError, match="needs a table of latencies"):
        absolute.applied(0.8, Costs(1, 1, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("macs:3M:power", "a cost term is KIND:TARGET:FORM:WEIGHT"),
        ("flops:3M:power:-1", "the cost of a term is one of parameters, macs, memory, latency; got 'flops'"),
        ("macs:3M:square:-1", "the form of a cost term is one of power, absolute; got 'square'"),
        ("macs:3M:power:x", "the weight of a cost term is a number"),
        ("macs:3M:power:0.1", "the weight of a cost term is at most 0"),
    ],
)
def test_wrong_terms(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CostTerm.parse(text)


def test_a_front_is_what_nothing_beats() -> None:
    rewards, costs = [0.5, 0.9, 0.9, 0.4, 0.7, 0.95], [1, 3, 4, 0.5, 1, 9]
    assert pareto(rewards, costs) == [3, 4, 1, 5]
    points = rng.random((60, 2)).round(1)
    front = pareto(points[:, 0].tolist(), points[:, 1].tolist())
    beaten = [any((q >= p) & (c <= d) and (q > p or c < d) for q, c in points) for p, d in points]
    assert {tuple(points[i]) for i in front} == {tuple(p) for p, b in zip(points, beaten, strict=True) if not b}
