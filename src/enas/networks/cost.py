"""What an architecture costs before it is built: parameters, multiply-accumulates, memory, latency.

Weights lie at addresses, and what one address costs does not depend on the others. So the cost of
an architecture is a sum over the addresses that it uses. It is known once an address was seen in
some forward pass, or one at the same place with a module alike. Those passes run on torch's meta
device, which computes shapes alone; each checks that costs do not depend on the architecture.

- parameters: numbers that are trained, without an auxiliary head;
- multiply-accumulates: of convolutions and products, as torch's own counter has them, of one image
  or of one token, the classifier or softmax included;
- memory: the activations that one training step keeps for its backward pass, in bytes of float32.
  Counted is what every convolution, product, batch norm and pool reads, and the indices of max
  pools. Autograd keeps less where two of them read the same tensor: this is an upper bound for
  images. Of recurrent cells it is what products read, at one token;
- latency: seconds of a forward pass, by a table that was measured (`enas.networks.latency`).

Shapes: C kinds of cost, in the order of `KINDS`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from enas.networks import kernels
from enas.networks.macro import OP, MacroNetwork
from enas.networks.micro import STEM, MicroNetwork
from enas.networks.own import OwnNetwork
from enas.networks.supernet import Supernet
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.cells import MERGED, possible_edges
from enas.spaces.costs import KINDS, Costs, Limits
from enas.spaces.decisions import Decision, SubsetChoice
from enas.spaces.limits import (
    SMALL,
    CellPrices,
    CellsLimit,
    LayerPrices,
    LayersLimit,
    Limit,
    TableLimit,
    TreeLimit,
    WitnessLimit,
    digits_of,
)
from enas.spaces.space import SearchSpace

BYTES = 4  # of a float32
INDEX_BYTES = 8  # of what a max pool remembers for each of its outputs
REST = ""  # where is put what no address does
TRIED = 200  # random architectures without an unseen address, after which all are taken to be seen
CHECKED = 64  # random architectures on which is checked that costs add up
COUNTED = 256  # architectures of a network of a user's own of which each is counted
Alike = tuple[str, str, tuple[tuple[int, ...], ...]]


class Bill:
    """The costs of all architectures of a backbone, by address.

    `network` is a supernet on the meta device, `example` the inputs of one call, and `batch` the
    number of examples of a training step, for memory.
    """

    def __init__(self, network: Supernet, example: tuple[Tensor, ...], batch: int = 1):
        self.network, self.example, self.batch = network.eval(), example, batch
        self.seen: dict[Alike, np.ndarray] = {}  # MACs and memory of one example
        self.seconds: Mapping[str, float] | None = None  # by `key`; None: no latencies are known
        self._alike: dict[str, Alike] = {}
        self._prices: dict[str, np.ndarray] = {}

    def used(self, arch: Architecture) -> list[str]:
        """Returns the addresses that a forward pass of `arch` uses."""
        return list(dict.fromkeys(self.network.addresses(arch, aux=False)))

    def alike(self, address: str) -> Alike:
        """Returns what an address has in common with all that cost the same: the beginning of its
        name, its module in words, and the shapes of its weights."""
        if address not in self._alike:
            module = self.network.at(address) if address != REST else nn.Module()
            shapes = tuple(tuple(parameter.shape) for parameter in module.parameters())
            self._alike[address] = (".".join(address.split(".")[:-1][:2]), repr(module), shapes)
        return self._alike[address]

    def of(self, arch: Architecture) -> Costs:
        """Returns what `arch` costs."""
        addresses = [REST, *self.used(arch)]
        try:
            prices = [self.price(address) for address in addresses]
        except KeyError:
            self.look_at(arch)
            prices = [self.price(address) for address in addresses]
        parameters, macs, memory, seconds = np.sum(prices, axis=0)
        known = self.seconds is not None
        return Costs(int(parameters), int(macs), int(memory), float(seconds) if known else None)

    def price(self, address: str) -> np.ndarray:
        """Returns what one address costs, (C,); KeyError where none alike was seen."""
        if address not in self._prices:
            alike = self.alike(address)
            parameters = sum(math.prod(shape) for shape in alike[2])
            macs, memory = self.seen[alike]
            seconds = 0.0 if self.seconds is None else self.seconds.get(key(alike), 0.0)
            self._prices[address] = np.array([parameters, macs, memory * self.batch, seconds])
        return self._prices[address]

    def priced(self, seconds: Mapping[str, float]) -> None:
        """Takes the latencies of all addresses that are alike, by `key`."""
        self.seconds = seconds
        self._prices.clear()

    def look_at(self, arch: Architecture) -> None:
        """Counts what each address of `arch` does in a forward pass."""
        used = self.used(arch)
        with _Attributed({address: self.network.at(address) for address in used}) as counted, torch.no_grad():
            answered(self.network(*self.example, arch))
        for address in (REST, *used):
            count = counted.counts.get(address, np.zeros(2))
            before = self.seen.setdefault(self.alike(address), count)
            assert np.array_equal(before, count), f"'{address}' costs {before} and {count}: costs do not add up"

    def see_all(self) -> None:
        """Looks at random architectures until every address that one can use was seen."""
        rng, failed = random.Random(0), 0
        unseen = {alike for address in self.network._at if (alike := self.alike(address)) not in self.seen}
        while unseen and failed < TRIED:
            arch = self.network.space.sample(rng)
            failed += 1
            if any(self.alike(address) in unseen for address in self.used(arch)):
                self.look_at(arch)
                unseen, failed = unseen - self.seen.keys(), 0


class OwnBill:
    """The costs of a network of a user's own, each architecture counted by itself and remembered.

    A parameter that several paths use counts once. The network runs as it is, in evaluation mode,
    on `example`; `examples` of them are in it, over which multiply-accumulates are divided.
    """

    def __init__(self, network: OwnNetwork, call: Callable[[Callable[..., Any]], object], batch: int, examples: int = 1):
        self.network, self.call, self.batch, self.examples = network.eval(), call, batch, examples
        self._known: dict[Architecture, Costs] = {}

    def of(self, arch: Architecture) -> Costs:
        """Returns what `arch` costs."""
        if arch not in self._known:
            with _Attributed({REST: self.network.view(arch).module}) as counted, torch.no_grad():
                self.call(lambda *inputs: self.network(*inputs, arch))
            macs, memory = sum(counted.counts.values(), np.zeros(2)) / self.examples
            parameters = self.network.num_parameters(arch)
            self._known[arch] = Costs(parameters, round(macs), round(memory * self.batch))
        return self._known[arch]


def key(alike: Alike) -> str:
    """Returns a short name for addresses that are alike, for files."""
    return hashlib.sha256(repr(alike).encode()).hexdigest()[:12]


# ------------------------------------------------------------------------------------ hard limits
def limited(space: SearchSpace, limits: Limits, bill: Bill | OwnBill) -> SearchSpace:
    """Returns the space with these limits on costs, by the cheapest test that is exact.

    ValueError where nothing is within the limits, or a latency is limited and none is known.
    """
    if not limits.kinds:
        return space
    if "latency" in limits.kinds and (isinstance(bill, OwnBill) or bill.seconds is None):
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
    """Returns the architecture of first answers."""
    return _completed(space, {})


def _completed(space: SearchSpace, choices: Mapping[str, Answer]) -> Architecture:
    """Returns the architecture that follows `choices`, first answers in place of others."""
    whole: dict[str, Answer] = {}
    for decision in space.decisions:
        if space.active(decision, whole):
            whole[decision.name] = choices.get(decision.name, next(decision.answers()))
    return Architecture.of(space.spec, whole)


def _by_cost(space: SearchSpace, costs: Callable[[Architecture], Costs], limits: Limits) -> dict[str, tuple[str, ...]]:
    """Returns the options of each decision, the cheapest first, in shares of the limits."""
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
    """Returns answers because of which `decision` is asked."""
    if decision.when is None:
        return {}
    name, (option, *_) = next(decision.when.ways)
    parent = space.decision(name)
    answer = next(answer for answer in parent.answers() if parent.contains(answer, option))
    return {**_asking(space, parent), name: answer}


def _own_limit(space: SearchSpace, limits: Limits, bill: OwnBill, places: list[int]) -> Limit:
    """Returns a limit for a network of a user's own: a table of a small space; a tree where costs
    add up, which is checked on random architectures; or else one architecture at a time."""
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
    """Returns the costs of everything but choices, and those of each option without what is asked
    because of it: differences of architectures."""

    def cost(choices: Mapping[str, Answer]) -> np.ndarray:
        return np.array(bill.of(_completed(space, choices)).values())[places]

    own: dict[str, np.ndarray] = {}
    for decision in reversed(space.decisions):
        needed, whole = _asking(space, decision), []
        for option in decision.options:
            if isinstance(decision, SubsetChoice):
                others = [other for other in decision.options if other != option][: max(1, decision.bounds[0])]
                if len(others) + 1 > decision.bounds[1]:  # exactly k: one option in the place of another
                    others = others[:-1]
                without = decision.check(others) if len(others) >= decision.bounds[0] else ()
                with_it = decision.check([option, *others][: decision.bounds[1]])
                gain = cost({**needed, decision.name: with_it}) - cost({**needed, decision.name: without})
            else:
                gain = cost({**needed, decision.name: option})
            whole.append(gain - _below(space, decision, option, own))
        own[decision.name] = np.array(whole)
    for decision in space.decisions:
        if not isinstance(decision, SubsetChoice):
            own[decision.name] = own[decision.name] - own[decision.name].min(0)
    prices = [own[decision.name] for decision in space.decisions]
    first = _first(space)
    return cost({}) - _summed(space, first, np.zeros(len(places)), prices), prices


def _below(space: SearchSpace, decision: Decision, option: str, own: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns what the first answers to all that is asked because of an option cost."""
    total = np.zeros(1)
    for other in space.decisions:
        if other.when is not None and any(n == decision.name and option in answers for n, answers in other.when.ways):
            answer = next(other.answers())
            for k, inner in enumerate(other.options):
                if other.contains(answer, inner):
                    total = total + own[other.name][k] + _below(space, other, inner, own)
    return total


def _summed(space: SearchSpace, arch: Architecture, base: np.ndarray, own: list[np.ndarray]) -> np.ndarray:
    """Returns the cost of an architecture as a sum of those of its options, (C,)."""
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
    """Returns the prices of all cells, by which of their inputs they read."""
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


# ----------------------------------------------------------------------------------------- helpers
def answered(out: Any) -> Any:
    """Returns the logits of what a backbone returns, computed."""
    return out[0].logits_TBV if isinstance(out, tuple) and hasattr(out[0], "logits_TBV") else out


def example_of(dimensions: Mapping[str, int], device: str = "meta", batch: int = 1) -> tuple[Tensor, ...]:
    """Returns the inputs of one call of a backbone for data of these dimensions: a batch of images,
    or one token of as many streams."""
    if "vocabulary" in dimensions:
        return (torch.zeros(1, batch, dtype=torch.long, device=device),)
    size = dimensions["image_size"]
    return (torch.zeros(batch, dimensions["channels"], size, size, device=device),)


def countable(settings: Any) -> Any:
    """Returns settings of the same network, computed so that every product can be counted."""
    return replace(settings, computation="plain") if hasattr(settings, "computation") else settings


@contextmanager
def _addressed(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Gives a list whose last entry is the address of the module that is running."""
    running: list[str] = []
    handles = []
    for address, module in modules.items():
        handles.append(module.register_forward_pre_hook(lambda *_, address=address: running.append(address)))
        handles.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


class _Attributed(TorchDispatchMode):
    """Counts multiply-accumulates and bytes that layers read, by the address of their weights.

    A weight that is put together from several (by `cat`, a view, a slice) belongs to all of them,
    in proportion to their numbers of elements. What has no weights belongs to the address whose
    module is running.
    """

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        self.modules = {address: module for address, module in modules.items() if address != REST}
        self.counts: dict[str, np.ndarray] = {}
        # The tensors are kept, so that no other one gets the id of one of them.
        self.owned: dict[int, tuple[Tensor, Counter[str]]] = {
            id(tensor): (tensor, Counter({address: tensor.numel()}))
            for address, module in modules.items()
            for tensor in (*module.parameters(), *module.buffers())
        }

    def __enter__(self) -> Any:
        self._addressed = _addressed(self.modules)
        self._running = self._addressed.__enter__()
        self._without = kernels.without("pool")  # as convolutions they would count
        self._without.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        self._without.__exit__(None, None, None)
        self._addressed.__exit__(None, None, None)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in _flat(args) if isinstance(t, Tensor)]
        packet, name = func._overloadpacket, str(func._overloadpacket)
        if packet in flop_registry:
            first, second = args[-2:] if "mm" in name.rsplit(".", 1)[-1] else args[:2]
            x, owners = (first, self._owners(second)) if id(second) in self.owned else (second, self._owners(first))
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=out)
            self._add(owners, flops / 2, x.numel() * BYTES)
        elif "batch_norm" in name:
            self._add(self._owners(args[1]) if args[1] is not None else self._here(), 0, args[0].numel() * BYTES)
        elif "_pool" in name and "adaptive" not in name:
            indices = out[1].numel() * INDEX_BYTES if isinstance(out, tuple) else 0
            self._add(self._here(), 0, args[0].numel() * BYTES + indices)
        elif tensors and all(id(tensor) in self.owned for tensor in tensors):
            whole = sum((self.owned[id(tensor)][1] for tensor in tensors), Counter[str]())
            for tensor in _flat(out):
                if isinstance(tensor, Tensor):
                    self.owned[id(tensor)] = (tensor, whole)
        return out

    def _here(self) -> Counter[str]:
        return Counter({self._running[-1] if self._running else REST: 1})

    def _owners(self, weight: Tensor) -> Counter[str]:
        return self.owned[id(weight)][1] if id(weight) in self.owned else self._here()

    def _add(self, owners: Counter[str], macs: float, memory: float) -> None:
        for address, share in owners.items():
            count = self.counts.setdefault(address, np.zeros(2))
            count += np.array([macs, memory]) * share / owners.total()


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def counted(run: Callable[[], object]) -> int:
    """Returns the multiply-accumulates of a call by torch's own counter; pools count as none."""
    with kernels.without("pool"), FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops()) // 2
