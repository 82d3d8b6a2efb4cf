"""What a recurrent cell computes over a window. Four functions do it: `plain` is to be read,
`fused` is fast on a CPU, `static` is one program for all cells, `recorded` is fast on a GPU. A law
holds them equal.

    a node:    a = mask * s[source]
               [c | f] = a W,  c through a sigmoid, f through the node's activation
               s[node] = c * f + (1 - c) * s[source]         (paper, appendix A, Eq. 2 to 5)
               s[node] = f, where there is no highway gate    (paper 2.1, Fig. 1)
    the first node adds x Wx to the product, and its source is the previous state
    the state: mean of s over the outputs, batch norm where there is one

Shapes: T steps, B streams, E size of x, H hidden units, G columns of a node's product (2 H with a
gate, else H); x (T, B, E), state and mask (B, H), Wx (E, G), W (H, G), with the gate's columns
first. The result is a state per step (T, B, H), and the batch norm's statistics over the streams,
mean and unbiased variance (H,), averaged over steps; None without one.
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
    """Returns an activation by its name, or a user's own by its path; ValueError for others."""
    return registered(name, ACTIVATIONS, "an activation")


STATE = -1  # the source of the first node
_aten = torch.ops.aten


BOUND = 3.0
"""With running statistics a normalised value is held within this many standard deviations. A
batch's own statistics bound a state by themselves; with running ones, a cell of ReLUs that trained
well can grow without end on unseen text (docs/log, 2026-11-27)."""


class Norm(NamedTuple):
    """Batch norm over the streams at every step: with the batch's statistics, or with the running
    `mean` and `var`, and then held within `BOUND`."""

    weight: Tensor  # (H,)
    bias: Tensor
    mean: Tensor | None = None
    var: Tensor | None = None
    eps: float = 1e-5


class Group(NamedTuple):
    """The nodes that read one source, in one product. Those of one activation are adjacent."""

    source: int
    nodes: tuple[int, ...]
    runs: tuple[tuple[str, int, int], ...]  # activation, first place, last place + 1


@dataclass(frozen=True)
class Program:
    """A cell as numbers: nodes are 0, 1, ..., each after what it reads."""

    sources: tuple[int, ...]
    ops: tuple[str, ...]
    outputs: tuple[int, ...]
    highway: bool = True

    @staticmethod
    @lru_cache(maxsize=128)
    def of(cell: WiredCell, highway: bool = True) -> Program:
        """Reads a wired cell. ValueError for an unknown activation or a cell that is no tree."""
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
        """The groups, each after the node that it reads."""
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
    """What a cell is run on: one layer, T steps."""

    program: Program
    x: Tensor  # (T, B, E)
    state: Tensor  # (B, H), before the first step
    mask: Tensor | None  # (B, H), of what nodes read
    norm: Norm | None
    wx: Tensor  # (E, G)
    weights: Sequence[Tensor]  # (H, G) of each node

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors that have gradients: x, state, wx, the weights, and those of the norm."""
        norm = () if self.norm is None else (self.norm.weight, self.norm.bias)
        return (self.x, self.state, self.wx, *self.weights, *norm)


class Codes(NamedTuple):
    """A program as tensors: what differs between cells of N nodes is data."""

    sources: Tensor  # (N,), 0 is the state before, i the i-th node
    ops: Tensor  # (N,), places in `ACTIVATIONS`
    share: Tensor  # (N,), how much of each node leaves the cell

    @staticmethod
    def of(program: Program, like: Tensor) -> Codes:
        """On the device of `like`, shares in its type."""
        share = torch.zeros(len(program.ops), dtype=like.dtype)
        share[list(program.outputs)] = 1 / len(program.outputs)
        sources = torch.tensor([source + 1 for source in program.sources])
        ops = torch.tensor([list(ACTIVATIONS).index(op) for op in program.ops])
        return Codes(sources.to(like.device), ops.to(like.device), share.to(like.device))


Statistics = tuple[Tensor, Tensor]
Result = tuple[Tensor, Statistics | None]


def _normalise(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x (B, H) normalised, mean, inverse deviation (empty if statistics are running)."""
    if norm.mean is None or norm.var is None:
        return torch.native_batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps)
    held = ((x - norm.mean) * (norm.var + norm.eps).rsqrt()).clamp(-BOUND, BOUND)
    return held * norm.weight + norm.bias, x.new_empty(0), x.new_empty(0)


def _normalise_backward(
    norm: Norm, grad: Tensor, x: Tensor, mean: Tensor | None, deviation: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns gradients of x (B, H), weight and bias (H,), from that of `_normalise`."""
    if norm.mean is None or norm.var is None:
        wanted = [True, True, True]
        return _aten.native_batch_norm_backward(grad, x, norm.weight, None, None, mean, deviation, True, norm.eps, wanted)
    inverse = (norm.var + norm.eps).rsqrt()
    normal = (x - norm.mean) * inverse
    held = normal.clamp(-BOUND, BOUND)
    return grad * norm.weight * inverse * (normal == held), (grad * held).sum(0), grad.sum(0)


def _pairs(saved: Sequence[Tensor]) -> Statistics | None:
    """Statistics that an autograd function returned after its output, if any."""
    return (saved[0], saved[1]) if saved else None


@torch.no_grad()
def _statistics(norm: Norm | None, saved: Sequence[tuple[Tensor, Tensor]], B: int) -> Statistics | None:
    """Returns the statistics of a window from the means and inverse deviations of its steps."""
    if norm is None or norm.mean is not None:
        return None
    means, deviations = (torch.stack(parts) for parts in zip(*saved, strict=True))
    return means.mean(0), (deviations.pow(-2).mean(0) - norm.eps) * (B / max(1, B - 1))
