"""This module lays out the weights of any child in one vector, in the same way for all children of
a space.

All parameters of a supernet become views of one vector, so `state_dict`, optimiser and checkpoints
see the same as before. A program of a space declares *pieces*: a piece has a shape and a number of
*slots*, and each slot says what it holds if a child uses an address. A weight that is smaller than
its slot stands in the middle of zeros (a 3x3 kernel in a 5x5). A slot that a child does not use is
zero. So a child is one index: `shared[index]` is its vector, and gradients and updated weights go
back to the same places.

In shapes, W is the number of elements of the supernet, P that of a child's vector, and S the number
of slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from enas.networks.kernels import Context
from enas.networks.supernet import Supernet
from enas.spaces.architecture import Architecture

ALIGNED = 8  # each parameter starts at a multiple of so many elements
Part = tuple[nn.Parameter, tuple[slice, ...] | None]  # with its region of a slot; None: centred
Slot = Mapping[str, Sequence[Part]]  # content of a slot, by the address that a child uses


class Shared:
    """A `Shared` object makes the parameters of a network views of one vector (W + P,). The last P
    elements are zeros. They stand where a child has no weight, and each element of a child has a
    zero of its own."""

    def __init__(self, net: nn.Module):
        self.parameters = list(net.parameters())
        sizes = [-(-p.numel() // ALIGNED) * ALIGNED for p in self.parameters]
        self.starts = [0, *np.cumsum(sizes).tolist()]
        self.start_of = dict(zip(self.parameters, self.starts, strict=False))
        self.size = self.starts[-1]  # W
        self.strides = {p: p.stride() for p in self.parameters}

    @torch.no_grad()
    def adopt(self, zeros: int) -> None:
        """Makes the vector, with P zeros, and turns the parameters into views of it."""
        like = self.parameters[0]
        self.vector = torch.zeros(self.size + zeros, dtype=like.dtype, device=like.device)
        for parameter in self.parameters:
            assert (parameter.dtype, parameter.device) == (like.dtype, like.device)
            view = self.view(self.vector, parameter)
            view.copy_(parameter)
            parameter.data = view

    def view(self, vector: Tensor, parameter: nn.Parameter) -> Tensor:
        """Returns the part of a vector (W + P,) that belongs to a parameter, in the parameter's
        shape."""
        return vector.as_strided(parameter.shape, self.strides[parameter], self.start_of[parameter])

    def places(self, parameter: nn.Parameter) -> Tensor:
        """Returns where each element of a parameter stands in the vector, in the parameter's
        shape."""
        count = torch.arange(parameter.numel())
        return count.as_strided(parameter.shape, self.strides[parameter]) + self.start_of[parameter]

    @property
    def whole(self) -> bool:
        """Returns whether the parameters are still these views. `to(device)` gives them other
        memory."""
        ends = (self.parameters[0], self.parameters[-1])
        return all(p.data_ptr() == self.view(self.vector, p).data_ptr() for p in ends)


class Layout:
    """A `Layout` says where each weight stands in the vector of a child."""

    def __init__(self, net: Supernet):
        self.net, self.shared = net, Shared(net)
        self.shapes: list[tuple[int, ...]] = []  # shapes of pieces, slots first
        self._sizes: list[int] = []  # number of elements of each slot
        self._rows: dict[str, list[tuple[int, int]]] = {}  # address to (slot, start in the table)
        self._table: list[Tensor] = []
        self._end = 0

    def piece(self, shape: Sequence[int], slots: Sequence[Slot]) -> int:
        """Declares a piece (len(slots), *shape), and returns its number."""
        for slot in slots:
            number = len(self._sizes)
            self._sizes.append(int(np.prod(shape)))
            for address, parts in slot.items():
                row = torch.full(tuple(shape), -1)
                for parameter, where in parts:
                    places = self.shared.places(parameter)
                    region = row[where if where is not None else _centred(parameter.shape, shape)]
                    region.copy_(places.reshape(region.shape))
                self._rows.setdefault(address, []).append((number, self._end))
                self._table.append(row.flatten())
                self._end += row.numel()
        self.shapes.append((len(slots), *shape))
        return len(self.shapes) - 1

    def fixed(self, address: str) -> Fixed:
        """Declares all weights of a module that no choice changes, and returns the module to
        call."""
        module = self.net.at(address)
        return Fixed(module, {name: self.piece(p.shape, [{address: [(p, None)]}]) for name, p in module.named_parameters()})

    def finish(self) -> None:
        """Makes the tables. No piece can be declared afterwards."""
        device = self.shared.parameters[0].device
        self._table.append(torch.full((max(self._sizes),), -1))
        self._unused = self._end
        self.table = torch.cat(self._table).to(device)
        sizes = torch.tensor(self._sizes)
        self._slot = torch.repeat_interleave(sizes).to(device)
        starts = torch.cumsum(sizes, 0) - sizes
        self._within = (torch.arange(int(sizes.sum())) - torch.repeat_interleave(starts, sizes)).to(device)
        self.shared.adopt(len(self._slot))
        self._zeros = torch.arange(len(self._slot), device=device) + self.shared.size
        self._splits = [int(np.prod(shape)) for shape in self.shapes]
        self._by_address = {
            address: (np.array([slot for slot, _ in rows]), np.array([start for _, start in rows]))
            for address, rows in self._rows.items()
        }
        self._table = []

    @property
    def slots(self) -> int:
        """Returns the number of slots, S."""
        return len(self._sizes)

    def starts(self, arch: Architecture) -> np.ndarray:
        """Returns where in the table the content of each slot begins, (S,) int64."""
        out = np.full(self.slots, self._unused)
        for address in self.net.used(arch):
            if address in self._by_address:
                slots, starts = self._by_address[address]
                out[slots] = starts
        return out

    def index(self, starts: Tensor) -> Tensor:
        """Returns for each element of a child where it stands in the shared vector, (P,). No two
        stand at one place, so that additions there need not wait for each other."""
        places = self.table.index_select(0, starts.index_select(0, self._slot) + self._within)
        return torch.where(places < 0, self._zeros, places)

    def pieces(self, child: Tensor) -> list[Tensor]:
        """Returns the pieces of a child's vector (P,), each in its shape."""
        parts = child.split(self._splits)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


class Fixed:
    """A `Fixed` module is a module of the supernet that is run with the weights in a child's
    vector."""

    def __init__(self, module: nn.Module, numbers: Mapping[str, int]):
        self.module, self.numbers = module, numbers

    def __call__(self, w: Sequence[Tensor], *args: Any) -> Any:
        return functional_call(self.module, {name: w[number][0] for name, number in self.numbers.items()}, args)


def _centred(small: Sequence[int], large: Sequence[int]) -> tuple[slice, ...]:
    """Returns where a weight stands in a larger one: its kernel in the middle, and its channels at
    the beginning."""
    first = [0 if d < 2 else (b - a) // 2 for d, (a, b) in enumerate(zip(small, large, strict=True))]
    return tuple(slice(start, start + size) for start, size in zip(first, small, strict=True))


class Child(torch.autograd.Function):
    """This function gathers the vector of a child. Its gradients go to the parameters that the
    child uses, and to no others."""

    @staticmethod
    def forward(ctx: Context, shared: Shared, index: Tensor, *used: nn.Parameter) -> Tensor:
        ctx.shared, ctx.used = shared, used
        ctx.save_for_backward(index)
        return shared.vector.index_select(0, index)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        whole = torch.zeros_like(ctx.shared.vector).index_add_(0, index, grad)
        return None, None, *(ctx.shared.view(whole, parameter) for parameter in ctx.used)
