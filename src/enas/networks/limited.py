"""This module sets hard limits on the costs of a network: it returns the network's space with the
cheapest test that is exact.

The tests need to know prices: of an op, of a loose end, of a merge. The prices are read off the
bill of the network (`enas.networks.cost`), which has the costs by address.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from enas.networks.attributed import REST
from enas.networks.cost import Bill, OwnBill
from enas.networks.macro import OP, MacroNetwork
from enas.networks.micro import STEM, MicroNetwork
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.cells import MERGED, possible_edges
from enas.spaces.costs import KINDS, Costs, Limits
from enas.spaces.decisions import Decision, SubsetChoice
from enas.spaces.limits.cells import CellPrices, CellsLimit
from enas.spaces.limits.layers import LayerPrices, LayersLimit
from enas.spaces.limits.limit import Limit
from enas.spaces.limits.table import SMALL, TableLimit, digits_of
from enas.spaces.limits.tree import TreeLimit
from enas.spaces.limits.witness import WitnessLimit
from enas.spaces.space import SearchSpace

CHECKED = 64  # number of random architectures on which it is checked that costs add up
COUNTED = 256  # in a space of a user's own with at most so many architectures, each is counted


def limited(space: SearchSpace, limits: Limits, bill: Bill | OwnBill) -> SearchSpace:
    """Returns the space with these limits on costs, by the cheapest test that is exact.

    Raises a ValueError where no architecture is within the limits, or where a latency is limited
    and none is known.
    """
    if not limits.kinds:
        return space
    if "latency" in limits.kinds and bill.seconds is None:
        raise ValueError("a limit on latency needs a table of latencies: --latency-table FILE, which `enas latency` writes")
    return replace(space, limit=_limit(space, limits, bill))


def _limit(space: SearchSpace, limits: Limits, bill: Bill | OwnBill) -> Limit:
    places = [KINDS.index(kind) for kind in limits.kinds]
    if isinstance(bill, OwnBill):
        return _own_limit(space, limits, bill, places)
    if math.prod(math.prod(sizes) for sizes in digits_of(space)) <= SMALL:
        return TableLimit(space, limits, bill.of)
    bill.see_all()
    if isinstance(bill.network, MicroNetwork):
        return CellsLimit(space, limits, _cell_prices(bill.network, bill, places))
    if isinstance(bill.network, MacroNetwork):
        prices = _layer_prices(bill.network, bill, places)
        return LayersLimit(space, limits, prices, _sources(bill.network))
    first = _first(space)
    base = bill.of(first).values()
    if all(bill.of(arch).values() == base for arch in space.samples(random.Random(0), CHECKED)[0]):
        own = [np.zeros((len(decision.options), len(places))) for decision in space.decisions]
        return TreeLimit(space, limits, np.array(base)[places], own)
    return WitnessLimit(space, limits, bill.of, _by_cost(space, bill.of, limits))


def _first(space: SearchSpace) -> Architecture:
    """Returns the architecture that gives the first answer everywhere."""
    return _completed(space, {})


def _completed(space: SearchSpace, choices: Mapping[str, Answer]) -> Architecture:
    """Returns the architecture that follows `choices`, and gives the first answer to all other
    decisions."""
    whole: dict[str, Answer] = {}
    for decision in space.decisions:
        if space.active(decision, whole):
            whole[decision.name] = choices.get(decision.name, next(decision.answers()))
    return Architecture.of(space.spec, whole)


def _by_cost(space: SearchSpace, costs: Callable[[Architecture], Costs], limits: Limits) -> dict[str, tuple[str, ...]]:
    """Returns the options of each decision, the cheapest first. Costs are added up as shares of the
    limits."""
    order = {}
    for decision in space.decisions:
        needed = _asking(space, decision)
        priced = []
        for option in decision.options:
            answer: Answer = option
            if isinstance(decision, SubsetChoice):
                rest = [other for other in decision.options if other != option]
                answer = decision.check([option, *rest[: max(0, decision.bounds[0] - 1)]])
            found = costs(_completed(space, {**needed, decision.name: answer}))
            priced.append((sum(found.of(kind) / most for kind, most in limits.kinds.items()), option))
        order[decision.name] = tuple(option for _, option in sorted(priced, key=lambda pair: pair[0]))
    return order


def _asking(space: SearchSpace, decision: Decision) -> dict[str, Answer]:
    """Returns answers that cause `decision` to be asked."""
    if decision.when is None:
        return {}
    name, (option, *_) = next(decision.when.ways)
    parent = space.decision(name)
    answer = next(answer for answer in parent.answers() if parent.contains(answer, option))
    return {**_asking(space, parent), name: answer}


def _own_limit(space: SearchSpace, limits: Limits, bill: OwnBill, places: list[int]) -> Limit:
    """Returns a limit for a network of a user's own. It is a table for a small space, and a tree
    where costs add up, which is checked on random architectures. Otherwise it looks at one
    architecture at a time."""
    if space.size() <= COUNTED:
        return TableLimit(space, limits, bill.of)
    single = all(d.when is None or d.when.otherwise is None for d in space.decisions)
    if single and not any(len(answers) > 1 for d in space.decisions if d.when for name, answers in d.when.ways
                          if isinstance(space.decision(name), SubsetChoice)):  # fmt: skip
        base, own = _own_prices(space, bill, places)
        checked = space.samples(random.Random(0), CHECKED)[0]
        if all(np.allclose(_summed(space, arch, base, own), np.array(bill.of(arch).values())[places]) for arch in checked):
            return TreeLimit(space, limits, base, own)
    return WitnessLimit(space, limits, bill.of, _by_cost(space, bill.of, limits))


def _own_prices(space: SearchSpace, bill: OwnBill, places: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the costs of everything but choices, and the costs of each option without those of
    decisions that are asked because of it. They are computed as differences between
    architectures."""

    def cost(choices: Mapping[str, Answer]) -> np.ndarray:
        return np.array(bill.of(_completed(space, choices)).values())[places]

    own: dict[str, np.ndarray] = {}
    for decision in reversed(space.decisions):
        needed, whole = _asking(space, decision), []
        for option in decision.options:
            if isinstance(decision, SubsetChoice):
                others = [other for other in decision.options if other != option][: max(1, decision.bounds[0])]
                # With exactly k members, one option takes the place of another.
                if len(others) + 1 > decision.bounds[1]:
                    others = others[:-1]
                without = decision.check(others) if len(others) >= decision.bounds[0] else ()
                with_it = decision.check([option, *others][: decision.bounds[1]])
                gain = cost({**needed, decision.name: with_it}) - cost({**needed, decision.name: without})
            else:
                gain = cost({**needed, decision.name: option})
            whole.append(gain - _below(space, decision, option, own))
        prices = np.array(whole)
        own[decision.name] = prices if isinstance(decision, SubsetChoice) else prices - prices.min(0)
    in_order = [own[decision.name] for decision in space.decisions]
    return cost({}) - _summed(space, _first(space), np.zeros(len(places)), in_order), in_order


def _below(space: SearchSpace, decision: Decision, option: str, own: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the cost of the first answers to all decisions that are asked because of an
    option."""
    total = np.zeros(1)
    for other in space.decisions:
        if other.when is not None and any(n == decision.name and option in answers for n, answers in other.when.ways):
            answer = next(other.answers())
            for k, inner in enumerate(other.options):
                if other.contains(answer, inner):
                    total = total + own[other.name][k] + _below(space, other, inner, own)
    return total


def _summed(space: SearchSpace, arch: Architecture, base: np.ndarray, own: list[np.ndarray]) -> np.ndarray:
    """Returns the cost of an architecture as the sum of the costs of its options, (C,)."""
    taken = [
        own[i][k]
        for i, decision in enumerate(space.decisions)
        if decision.name in arch.choices
        for k, option in enumerate(decision.options)
        if decision.contains(arch.choices[decision.name], option)
    ]
    total: np.ndarray = base + np.sum(taken, axis=0)
    return total


def _cell_prices(network: MicroNetwork, bill: Bill, places: list[int]) -> CellPrices:
    """Returns the prices of all cells, for each combination of inputs that they read."""
    cells, merge_norm = network.space.cells, network.settings.merge_norm
    inputs, nodes = cells[0].inputs, [node.name for node in cells[0].nodes]
    ops = next(edge.op.options for cell in cells for edge in cell.nodes[0].edges if isinstance(edge.op, Decision))
    some = [bits for bits in itertools.product((True, False), repeat=len(inputs)) if any(bits)]
    reads = np.array(list(itertools.product(some, repeat=len(cells))))  # (P, cells, inputs)
    C, n_in, N = len(places), len(inputs), len(nodes)

    def price(address: str) -> np.ndarray:
        found: np.ndarray = bill.price(address)[places]
        return found

    def of_any_node(prefix: str) -> np.ndarray:
        every = [price(f"{prefix}.{node}") for node in nodes]
        assert np.allclose(every, every[0]), "a loose end costs the same, whichever node it is"
        return every[0]

    base = np.zeros((len(reads), C))
    edges = np.zeros((len(reads), len(cells), N, 2, n_in + N - 1, len(ops), C))
    loose = np.zeros((len(reads), len(cells), C))
    index = {cell.name: c for c, cell in enumerate(cells)}
    for p, combination in enumerate(reads):
        choices: dict[str, Answer] = {}
        for c, cell in enumerate(cells):
            read = [name for name, bit in zip(inputs, combination[c], strict=True) if bit]
            for node in cell.nodes:
                for slot, edge in enumerate(node.edges):
                    assert isinstance(edge.input, Decision)
                    assert isinstance(edge.op, Decision)
                    choices[edge.input.name], choices[edge.op.name] = read[min(slot, len(read) - 1)], ops[0]
        live = network.live(Architecture.of(network.space.spec, choices), aux=False)
        base[p] = price("stem") + price("classifier.bias") + price(REST)
        for at in live:
            position = network.positions[at]
            c = index[position.cell]
            for name, bit in zip(inputs, combination[c], strict=True):
                if not bit:
                    continue
                prefix, source = f"cells.{at}.calibrate.{name}", network._sources(at)[name]
                base[p] += price(f"{prefix}.norm") if merge_norm else 0
                base[p] += price(f"{prefix}.again") if network.settings.extra_calibration and name == "prev" else 0
                if source == STEM:
                    base[p] += price(f"{prefix}.stem")
                else:
                    loose[p, index[network.positions[source].cell]] += of_any_node(prefix)
            for wired in possible_edges(cells[c]):
                j = nodes.index(wired.node)
                place = inputs.index(wired.input) if wired.input in inputs else n_in + nodes.index(wired.input)
                edges[p, c, j, wired.slot, place, ops.index(wired.op)] += price(network.address(wired, at))
        last = index[network.positions[-1].cell]
        loose[p, last] += of_any_node("classifier")
        loose[p, last] += of_any_node("classifier_norm") if network.settings.head_norm else 0
    return CellPrices(reads, base, edges, loose)


def _layer_prices(network: MacroNetwork, bill: Bill, places: list[int]) -> LayerPrices:
    """Returns the prices of all layers."""
    nodes, settings = network.cell.nodes, network.settings
    order = [network.first, *(node.name for node in nodes)]
    ops = next(edge.op.options for edge in nodes[0].edges if isinstance(edge.op, Decision))
    L, S, C, cuts = len(nodes), len(order), len(places), len(network.cuts)
    chained = nodes[-1].merge == "after"
    merges, merge, halvings = np.zeros((L, S, C)), np.zeros((L, C)), np.zeros((cuts, S, C))
    by_op = np.zeros((L, len(ops), C))

    def price(address: str) -> np.ndarray:
        found: np.ndarray = bill.price(address)[places]
        return found

    for k, node in enumerate(nodes):
        edges = [edge for edge in possible_edges(network.cell) if edge.node == node.name and edge.input != MERGED]
        for edge in edges:
            by_op[k, ops.index(edge.op)] = price(network.address(edge))
        if node.skips is not None and settings.merge:
            for option in node.skips.options:
                merges[k, order.index(option)] = price(f"merge.{node.name}.{option}")
            merge[k] += price(f"merge.{node.name}.{OP}") if chained else 0
            merge[k] += price(f"merge.{node.name}.norm") if settings.merge_norm else 0
    for name, level in network.level.items():
        for cut in range(level, cuts):
            halvings[cut, order.index(name)] = price(f"reductions.{cut}.{name}")
    levels = np.array([network.level[name] for name in order])
    base = price("stem") + price("classifier") + price(REST)
    return LayerPrices(base, by_op, merges, merge, halvings, levels, chained)


def _sources(network: MacroNetwork) -> list[list[int]]:
    """Returns the numbers of the outputs that each layer can merge."""
    order = [network.first, *(node.name for node in network.cell.nodes)]
    return [
        [order.index(option) for option in node.skips.options] if node.skips is not None else []
        for node in network.cell.nodes
    ]
