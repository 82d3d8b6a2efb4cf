"""This module describes what a recurrent cell computes over a window. Four functions compute it:
`plain` is easy to read, `fused` is fast on a CPU, `static` is one program for all cells, and
`recorded` is fast on a GPU. A law holds them equal.

    a node:    a = mask * s[source]
               [c | f] = a W,  c through a sigmoid, f through the node's activation
               s[node] = c * f + (1 - c) * s[source]         (paper, appendix A, Eq. 2 to 5)
               s[node] = f, where there is no highway gate    (paper 2.1, Fig. 1)
    the first node adds x Wx to the product, and its source is the previous state
    the state: mean of s over the outputs, batch norm where there is one

In shapes, T is the number of steps, B of streams, E the size of x, H the number of hidden units,
and G the number of columns of a node's product (2 H with a gate, else H). x is (T, B, E), state and
mask are (B, H), Wx is (E, G) and W is (H, G), with the gate's columns first.

The result is a state per step (T, B, H), and the batch norm's statistics over the streams, mean and
unbiased variance (H,), averaged over steps. The statistics are None without a batch norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from enas.networks.ops import registered
from enas.spaces.cells import WiredCell

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """Returns an activation by its name, or a user's own by its path. Raises a ValueError for other
    names."""
    return registered(name, ACTIVATIONS, "an activation")


STATE = -1  # the source of the first node
_aten = torch.ops.aten


BOUND = 3.0
"""A value normalised by running statistics is held within this many standard deviations.

A batch's own statistics bound a state by themselves. With running ones, a cell of ReLUs that
trained well can grow without end on unseen text (docs/log, 2026-11-27).
"""


class Norm(NamedTuple):
    """A `Norm` holds a batch norm over the streams at every step. It uses the batch's statistics,
    or the running `mean` and `var`, and then holds the values within `BOUND`."""

    weight: Tensor  # (H,)
    bias: Tensor
    mean: Tensor | None = None
    var: Tensor | None = None
    eps: float = 1e-5


class Group(NamedTuple):
    """A `Group` holds the nodes that read one source, in one product. Nodes with the same
    activation are adjacent."""

    source: int
    nodes: tuple[int, ...]
    runs: tuple[tuple[str, int, int], ...]  # activation, first index, last index + 1


@dataclass(frozen=True)
class Program:
    """A `Program` is a cell as numbers. Nodes are 0, 1, ..., and each comes after the node that it
    reads."""

    sources: tuple[int, ...]
    ops: tuple[str, ...]
    outputs: tuple[int, ...]
    highway: bool = True

    @staticmethod
    @lru_cache(maxsize=128)
    def of(cell: WiredCell, highway: bool = True) -> Program:
        """Reads a wired cell. Raises a ValueError for an unknown activation or a cell that is no
        tree."""
        number = {name: i for i, name in enumerate([node.name for node in cell.nodes])}
        number |= dict.fromkeys(cell.inputs, STATE)
        edges = [node.edges[0] for node in cell.nodes]
        for node in cell.nodes:
            if len(node.edges) != 1 or node.skips or (node.edges[0].input in cell.inputs) != (number[node.name] == 0):
                raise ValueError(f"a recurrent node has one edge, and only the first reads the word; got '{node.name}'")
            activation(node.edges[0].op)
        outputs = tuple(number[name] for name in cell.outputs)
        return Program(tuple(number[e.input] for e in edges), tuple(e.op for e in edges), outputs, highway)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Returns the groups, each after the node that it reads."""
        out = []
        for source in sorted(set(self.sources)):
            nodes = sorted((i for i, s in enumerate(self.sources) if s == source), key=lambda i: (self.ops[i], i))
            runs, start = [], 0
            for op, run in groupby(nodes, key=lambda i: self.ops[i]):
                end = start + len(list(run))
                runs.append((op, start, end))
                start = end
            out.append(Group(source, tuple(nodes), tuple(runs)))
        return tuple(out)


@dataclass(frozen=True)
class Window:
    """A `Window` holds everything that a cell is run on: one layer, T steps."""

    program: Program
    x: Tensor  # (T, B, E)
    state: Tensor  # (B, H), before the first step
    mask: Tensor | None  # (B, H), multiplies everything that nodes read
    norm: Norm | None
    wx: Tensor  # (E, G)
    weights: Sequence[Tensor]  # (H, G) for each node

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Returns the tensors that have gradients: x, state, wx, the weights, and those of the
        norm."""
        norm = () if self.norm is None else (self.norm.weight, self.norm.bias)
        return (self.x, self.state, self.wx, *self.weights, *norm)


class Codes(NamedTuple):
    """A `Codes` value holds a program as tensors, so that what differs between cells of N nodes is
    data."""

    sources: Tensor  # (N,), 0 is the state before, i the i-th node
    ops: Tensor  # (N,), indices into `ACTIVATIONS`
    share: Tensor  # (N,), weight of each node in the output of the cell

    @staticmethod
    def of(program: Program, like: Tensor) -> Codes:
        """Returns the codes of a program, on the device of `like`. The shares have its type."""
        share = torch.zeros(len(program.ops), dtype=like.dtype)
        share[list(program.outputs)] = 1 / len(program.outputs)
        sources = torch.tensor([source + 1 for source in program.sources])
        ops = torch.tensor([list(ACTIVATIONS).index(op) for op in program.ops])
        return Codes(sources.to(like.device), ops.to(like.device), share.to(like.device))


Statistics = tuple[Tensor, Tensor]
Result = tuple[Tensor, Statistics | None]


def _normalise(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x (B, H) normalised, its mean and its inverse deviation. The last two are empty where
    statistics are running."""
    if norm.mean is None or norm.var is None:
        return torch.native_batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps)
    held = ((x - norm.mean) * (norm.var + norm.eps).rsqrt()).clamp(-BOUND, BOUND)
    return held * norm.weight + norm.bias, x.new_empty(0), x.new_empty(0)


def _normalise_backward(
    norm: Norm, grad: Tensor, x: Tensor, mean: Tensor | None, deviation: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of x (B, H), weight and bias (H,), from the gradient of what
    `_normalise` returned."""
    if norm.mean is None or norm.var is None:
        wanted = [True, True, True]
        return _aten.native_batch_norm_backward(grad, x, norm.weight, None, None, mean, deviation, True, norm.eps, wanted)
    inverse = (norm.var + norm.eps).rsqrt()
    normal = (x - norm.mean) * inverse
    held = normal.clamp(-BOUND, BOUND)
    return grad * norm.weight * inverse * (normal == held), (grad * held).sum(0), grad.sum(0)


def _pairs(saved: Sequence[Tensor]) -> Statistics | None:
    """Returns the statistics that an autograd function returned after its output, or None."""
    return (saved[0], saved[1]) if saved else None


@torch.no_grad()
def _statistics(norm: Norm | None, saved: Sequence[tuple[Tensor, Tensor]], B: int) -> Statistics | None:
    """Returns the statistics of a window from the means and inverse deviations of its steps, or
    None where there are none."""
    if norm is None or norm.mean is not None:
        return None
    means, deviations = (torch.stack(parts) for parts in zip(*saved, strict=True))
    return means.mean(0), (deviations.pow(-2).mean(0) - norm.eps) * (B / max(1, B - 1))
