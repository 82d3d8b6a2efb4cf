"""This module prices architectures before they are built: parameters, multiply-accumulates (MACs),
memory and latency.

Weights lie at addresses, and the cost of one address does not depend on the others. So the cost of
an architecture is a sum over the addresses that it uses. The cost of an address is known once some
forward pass used it, or used one at the same kind of place with the same kind of module. Those
passes run on torch's meta device, which computes shapes alone. Each pass checks that costs do not
depend on the architecture.

- Parameters are the numbers that are trained, without an auxiliary head.
- Multiply-accumulates are those of convolutions and products, as torch's own counter counts them,
  for one image or one token. The classifier or softmax is included.
- Memory is the activations that one training step keeps for its backward pass, in bytes of float32.
  This is an estimate: it counts what every convolution, product, batch norm and pool reads, and the
  indices of max pools. Autograd keeps less where two of them read the same tensor, and more
  elsewhere: 0.87 to 1.33 times as much in image networks (log, 2026-11-28). For recurrent cells it
  counts what products read, at one token, which is about half of what is kept.
- Latency is the seconds of a forward pass, by a table that was measured
  (`enas.procedures.latency`).

In shapes, C is the number of kinds of cost, in the order of `KINDS`.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from enas.networks.attributed import REST, Attributed
from enas.networks.own import OwnNetwork
from enas.networks.supernet import Supernet
from enas.spaces.architecture import Architecture
from enas.spaces.costs import Costs
from enas.spaces.decisions import Decision

TRIED = 200  # after this many random architectures with nothing new, all addresses count as seen
EVERYTHING_ELSE = "everything but choices"
Alike = tuple[str, str, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class Part:
    """A `Part` is a term of a latency: addresses that are alike, or an option of a network of one's
    own."""

    key: str
    example: str
    """A place where it occurs."""
    macs: float = 0.0


class Bill:
    """A `Bill` knows the costs of all architectures of a backbone, by address.

    `network` is a supernet on the meta device, `example` holds the inputs of one call, and `batch`
    is the number of examples of a training step, for memory.
    """

    def __init__(self, network: Supernet, example: tuple[Tensor, ...], batch: int = 1):
        self.network, self.example, self.batch = network.eval(), example, batch
        self.seen: dict[Alike, np.ndarray] = {}  # MACs and memory of one example
        # seconds of each part, by `key`, or None where no latencies are known
        self.seconds: Mapping[str, float] | None = None
        self._alike: dict[str, Alike] = {}
        self._prices: dict[str, np.ndarray] = {}

    def used(self, arch: Architecture) -> list[str]:
        """Returns the addresses that a forward pass of `arch` uses."""
        return list(dict.fromkeys(self.network.addresses(arch, aux=False)))

    def alike(self, address: str) -> Alike:
        """Returns what an address has in common with all addresses that cost the same: the
        beginning of its name, its module as text, and the shapes of its weights."""
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
        """Returns the costs of one address, (C,). Raises a KeyError where no address like it was
        seen."""
        if address not in self._prices:
            alike = self.alike(address)
            parameters = sum(math.prod(shape) for shape in alike[2])
            macs, memory = self.seen[alike]
            seconds = 0.0 if self.seconds is None else looked_up(self.seconds, Part(key(alike), address))
            self._prices[address] = np.array([parameters, macs, memory * self.batch, seconds])
        return self._prices[address]

    def priced(self, seconds: Mapping[str, float]) -> None:
        """Takes the latencies of all parts, by `key`."""
        self.seconds = seconds
        self._prices.clear()

    def parts(self, arch: Architecture) -> list[Part]:
        """Returns the parts whose latencies add up to that of `arch`."""
        self.of(arch)  # from now on every address of it has a price
        return [self._part(address) for address in (REST, *self.used(arch))]

    def every_part(self) -> list[Part]:
        """Returns the parts of all architectures, each with one of its addresses."""
        self.see_all()
        known = (address for address in (REST, *self.network._at) if self.alike(address) in self.seen)
        return list({self.alike(address): self._part(address) for address in known}.values())

    def _part(self, address: str) -> Part:
        return Part(key(self.alike(address)), address, float(self.price(address)[1]))

    def look_at(self, arch: Architecture) -> None:
        """Counts what each address of `arch` does in a forward pass."""
        used = self.used(arch)
        with Attributed({address: self.network.at(address) for address in used}) as counted, torch.no_grad():
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
    """An `OwnBill` knows the costs of a network of a user's own. Each architecture is counted by
    itself, and remembered.

    A parameter that several paths use counts once. The network runs as it is, in evaluation mode.
    `call` runs a model on some inputs. These inputs hold `examples` examples, over which
    multiply-accumulates are divided. Latencies are sums over the options that are taken.
    """

    def __init__(self, network: OwnNetwork, call: Callable[[Callable[..., Any]], object], batch: int, examples: int = 1):
        self.network, self.call, self.batch, self.examples = network.eval(), call, batch, examples
        # seconds of each part, by `key`, or None where no latencies are known
        self.seconds: Mapping[str, float] | None = None
        self._known: dict[Architecture, Costs] = {}

    def of(self, arch: Architecture) -> Costs:
        """Returns what `arch` costs."""
        if arch not in self._known:
            with Attributed({REST: self.network.view(arch).module}) as counted, torch.no_grad():
                self.call(lambda *inputs: self.network(*inputs, arch))
            macs, memory = sum(counted.counts.values(), np.zeros(2)) / self.examples
            parameters, seconds = self.network.num_parameters(arch), None
            if self.seconds is not None:
                seconds = sum(looked_up(self.seconds, part) for part in self.parts(arch))
            self._known[arch] = Costs(parameters, round(macs), round(memory * self.batch), seconds)
        return self._known[arch]

    def priced(self, seconds: Mapping[str, float]) -> None:
        """Takes the latencies of all parts, by `key`."""
        self.seconds = seconds
        self._known.clear()

    def parts(self, arch: Architecture) -> list[Part]:
        """Returns the parts whose latencies add up to that of `arch`."""
        return [part for decision, option, part in self._options() if decision is None
                or (decision.name in arch.choices and decision.contains(arch.choices[decision.name], option))]  # fmt: skip

    def every_part(self) -> list[Part]:
        """Returns the parts of all architectures."""
        return [part for _, _, part in self._options()]

    def _options(self) -> Iterator[tuple[Decision | None, str, Part]]:
        yield None, "", Part(EVERYTHING_ELSE, EVERYTHING_ELSE)
        for decision in self.network.space.decisions:
            for option in decision.options:
                name = f"{decision.name}={option}"
                yield decision, option, Part(name, name)


def looked_up(seconds: Mapping[str, float], part: Part) -> float:
    """Returns the latency of a part, in seconds. Raises a ValueError where the table has none."""
    if part.key not in seconds:
        raise ValueError(f"the table of latencies has nothing like '{part.example}': measure it anew, `enas latency`")
    return seconds[part.key]


def key(alike: Alike) -> str:
    """Returns a short name for addresses that are alike, for files."""
    return hashlib.sha256(repr(alike).encode()).hexdigest()[:12]


def answered(out: Any) -> Any:
    """Returns the logits of a backbone's output. A tied softmax computes them now."""
    return out[0].logits_TBV if isinstance(out, tuple) and hasattr(out[0], "logits_TBV") else out


def example_of(dimensions: Mapping[str, int], device: str = "meta", batch: int = 1) -> tuple[Tensor, ...]:
    """Returns the inputs of one call of a backbone for data of these dimensions: a batch of images,
    or one token for each of `batch` streams."""
    if "vocabulary" in dimensions:
        return (torch.zeros(1, batch, dtype=torch.long, device=device),)
    size = dimensions["image_size"]
    return (torch.zeros(batch, dimensions["channels"], size, size, device=device),)


def countable(settings: Any) -> Any:
    """Returns settings of the same network with the plain computation, in which every product can
    be counted."""
    return replace(settings, computation="plain") if hasattr(settings, "computation") else settings
