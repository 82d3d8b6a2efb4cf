"""This module shares weights by address. It holds the base class of every backbone, for supernet
and child alike (paper 2.2; design 3).

A supernet holds the weights of all children of a space, and a child model those of one
architecture. Both are the same class and run the same forward. Weights are modules registered under
an *address* (`cells.3.n4.0.prev.sep_conv_3x3`), which is also their key in `state_dict`. So
`child.load_state_dict(supernet.slice(arch))` is a filter, and two children share exactly the
addresses that both use. The architecture is an argument of the forward, and never state of a
module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from enas.networks.ops import Statistics
from enas.spaces.architecture import Architecture
from enas.spaces.cells import WiredCell, WiredEdge
from enas.spaces.space import SearchSpace

MOST_USED = 128  # number of architectures whose addresses are remembered
MOST_REMEMBERED = 1 << 26  # elements that `remembering` keeps for one batch: 256 MB


class Outputs(NamedTuple):
    """An `Outputs` value is what a classifier returns while it trains with an auxiliary head."""

    logits: Tensor  # (B, classes)
    aux: Tensor  # (B, classes), logits of the auxiliary head


class Supernet(nn.Module):
    """A `Supernet` is the base class of all backbones. A backbone calls `provide` for every address
    that it could need. With `only` set, only the addresses that this architecture uses are made,
    and the result is a child model."""

    aux_weight: float = 0.0  # weight of the auxiliary head's loss; 0: there is none

    def __init__(self, space: SearchSpace, only: Architecture | None, statistics: Statistics):
        super().__init__()
        self.space = space
        self.only = space.check(only) if only is not None else None
        self.statistics: Statistics = statistics
        self._at: dict[str, nn.Module] = {}
        self._remembered: dict[tuple[int, object], Tensor] | None = None
        self._blocks: list[Tensor] | None = None
        self._used: dict[tuple[Architecture, bool], tuple[list[str], list[nn.Parameter]]] = {}

    # ------------------------------------------------------------------------------- for backbones
    def addresses(self, arch: Architecture, aux: bool) -> list[str]:
        """Returns every address that `arch` uses, in order. With `aux`, those of the auxiliary head
        too."""
        raise NotImplementedError

    def address(self, edge: WiredEdge, position: int = 0) -> str:
        """Returns the address of an edge whose cell stands at `position`, by the space's rule."""
        assert self.space.address is not None
        if "." in edge.op:  # an op by its path: dots are between modules
            edge = replace(edge, op=edge.op.replace(".", "/"))
        return self.space.address(edge, position)

    def only_cell(self, arch: Architecture) -> WiredCell:
        """Returns the wired cell of `arch`, in a space of one cell. The space caches it."""
        (cell,) = self.space.wire(arch).values()
        return cell

    @cached_property
    def _needed(self) -> set[str] | None:
        """Returns the addresses that a child model uses, or None for a supernet, which needs
        all."""
        return None if self.only is None else set(self.addresses(self.only, aux=self.aux_weight > 0))

    def provide(self, address: str, make: Callable[[], nn.Module]) -> None:
        """Registers `make()` at `address`, unless a child does not need it."""
        if address in self._at or (self._needed is not None and address not in self._needed):
            return
        *path, last = address.split(".")
        parent: nn.Module = self
        for name in path:
            if name not in parent._modules:
                parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        module = make()
        parent.add_module(last, module)
        self._at[address] = module

    def at(self, address: str) -> Any:
        """Returns the module at an address. Raises a ValueError where this child model does not
        hold it."""
        try:
            return self._at[address]
        except KeyError:
            raise ValueError(
                f"this child model holds the weights of architecture {self.only.id if self.only else '?'} only;"
                f" '{address}' is not among them"
            ) from None

    def once(self, x: Tensor, key: object, make: Callable[[], Tensor]) -> Tensor:
        """Returns `make()`. While `remembering`, returns what it made before for this very `x` and
        `key`. The key holds all that the value depends on besides `x` and the weights."""
        if self._remembered is None or self.training or torch.is_grad_enabled():
            return make()
        place = (id(x), key)
        if place not in self._remembered:
            value = make()
            held = sum(v.numel() for v in self._remembered.values())
            if held + value.numel() > MOST_REMEMBERED:
                return value
            self._remembered[id(x), None] = x  # kept, so that no other tensor gets its id
            self._remembered[place] = value
        return self._remembered[place]

    def block(self, x: Tensor) -> Tensor:
        """Returns `x` unchanged. It is the output of a block of the network: of a cell, or of a
        layer of a whole network. A backbone calls this in the order of the blocks, so that `blocks`
        collects the outputs."""
        if self._blocks is not None:
            self._blocks.append(x)
        return x

    # ----------------------------------------------------------------------------------- for users
    @contextmanager
    def blocks(self) -> Iterator[list[Tensor]]:
        """Collects the outputs of the network's blocks inside the `with` block, in their order. The
        list stays empty for a backbone without blocks, such as a recurrent one."""
        before, self._blocks = self._blocks, []
        try:
            yield self._blocks
        finally:
            self._blocks = before

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Lets architectures that are scored on one batch, without gradient, share what they
        compute alike. The numbers are the same, but are computed once. The weights must not change
        inside the `with` block."""
        before, self._remembered = self._remembered, {}
        try:
            yield
        finally:
            self._remembered = before

    def architecture(self, arch: Architecture | None) -> Architecture:
        """Returns `arch`. For a child that is called with None, returns its own architecture.
        Raises a ValueError for a supernet that is called with None."""
        arch = arch if arch is not None else self.only
        if arch is None:
            raise ValueError("a supernet is called with an architecture: supernet(x, arch)")
        return arch

    def used(self, arch: Architecture | None = None) -> list[str]:
        """Returns the addresses that a training step of `arch` uses."""
        return self._usage(self.architecture(arch))[0]

    def parameters_of(self, arch: Architecture | None = None) -> list[nn.Parameter]:
        """Returns the parameters that a training step of `arch` uses, each once."""
        return self._usage(self.architecture(arch))[1]

    def _usage(self, arch: Architecture) -> tuple[list[str], list[nn.Parameter]]:
        key = (arch, self.aux_weight > 0)
        if key not in self._used:
            if len(self._used) >= MOST_USED:
                self._used.clear()
            self.space.check(arch)
            addresses = list(dict.fromkeys(self.addresses(arch, aux=self.aux_weight > 0)))
            self._used[key] = (addresses, [p for a in addresses for p in self.at(a).parameters()])
        return self._used[key]

    def train(self, mode: bool = True) -> Self:
        """Does what `nn.Module.train` does, but costs nothing where nothing changes, since there
        are many modules."""
        return self if mode == self.training else super().train(mode)

    def slice(self, arch: Architecture) -> dict[str, Tensor]:
        """Returns the part of `state_dict()` that `arch` uses, which its child model loads."""
        parts = {address: self.at(address).state_dict() for address in self.used(arch)}
        return {f"{address}.{name}": value for address, part in parts.items() for name, value in part.items()}

    def child(self, arch: Architecture, statistics: Statistics | None = None) -> Supernet:
        """Returns a child model of `arch` with copies of these weights. With `statistics` "running"
        it has running statistics, which start fresh where this model keeps none."""
        child = self.rebuilt(arch, statistics or self.statistics)
        missing = child.load_state_dict(self.slice(arch), strict=False)
        lacking = [key for key in missing.missing_keys if not key.endswith(("running_mean", "running_var", "tracked"))]
        assert not lacking, lacking
        reference = next(self.parameters())
        return child.to(reference.device).train(self.training)

    def marks(self) -> dict[str, str]:
        """Returns notes for a drawing, by node, such as the size of its output."""
        return {}

    def rebuilt(self, only: Architecture | None, statistics: Statistics) -> Supernet:
        """Returns the same backbone with fresh weights, as the child of `only`, or as a supernet
        for None."""
        raise NotImplementedError

    def num_parameters(self, arch: Architecture | None = None, aux: bool = True) -> int:
        """Returns the number of parameters of a child. With `aux`, those of the auxiliary head
        count too."""
        arch = self.architecture(arch)
        addresses = dict.fromkeys(self.addresses(arch, aux=aux and self.aux_weight > 0))
        return sum(p.numel() for address in addresses for p in self.at(address).parameters())


class Bias(nn.Module):
    """A `Bias` holds the bias of a linear layer whose weight lies at addresses of its own."""

    def __init__(self, size: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(size))


@torch.no_grad()
def he_normal(weight: Tensor) -> None:
    """Draws a weight with variance 2 / fan-in (He et al. 2015). It skips the meta device, where
    models are only counted, because torch would load its compiler for it."""
    if weight.numel() and not weight.is_meta:
        nn.init.kaiming_normal_(weight, nonlinearity="relu")


@torch.no_grad()
def he_initialise(model: nn.Module) -> None:
    """Initialises a model by He's rule (paper 3.2). Weights of convolutions and linear layers are
    normal with variance 2 / fan-in, and biases are zero. Batch norms keep weights of one and biases
    of zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            he_normal(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
