"""This module holds the parts that static programs are made of. A part does the same operations on
the same shapes for every architecture. What differs is data.

E edges run side by side, as groups of channels: x is (B, E C, H, W) in channels_last, and "apart"
the same memory is (B, H, W, E, C). An op that holds weights gives zero for an edge that does not
use it, since all its weights are zero then, those of the batch norm too. Pools and identity are
chosen by number. So the sum of all ops is what the edge chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enas.networks import kernels
from enas.networks.kernels import Context
from enas.networks.static.weights import Layout, Part, Slot
from enas.spaces.cells import Cell, possible_edges

KINDS = ("sep", "conv", "avg", "max", "identity")
KIND = {
    "sep_conv_3x3": "sep",
    "sep_conv_5x5": "sep",
    "conv_3x3": "conv",
    "conv_5x5": "conv",
    "nor_conv_1x1": "conv",
    "nor_conv_3x3": "conv",
    "avg_pool_3x3": "avg",
    "max_pool_3x3": "max",
    "identity": "identity",
    "skip_connect": "identity",
}
POOLS = {"avg": 1, "max": 2, "identity": 3}
NUMBERS = 2  # how many numbers stand for an op in codes


class Choice(NamedTuple):
    """A `Choice` says which ops E edges chose."""

    sizes: Tensor  # (E,), the kernel of a separable convolution: 3 or 5; else 0
    pools: Tensor  # (E,), a place in `POOLS`; else 0

    @staticmethod
    def of(numbers: Tensor) -> Choice:
        """Returns the choice for numbers (..., E, 2), in the form of `numbers_of`."""
        return Choice(*numbers.movedim(-1, 0).contiguous())

    def at(self, *places: int | slice) -> Choice:
        """Returns some of the choices of many edges."""
        return Choice(self.sizes[places], self.pools[places])


def numbers_of(op: str | None) -> list[int]:
    """Returns an op as numbers. None stands for no edge."""
    kind = KIND[op] if op is not None else None
    return [int(op[-1]) if op is not None and kind == "sep" else 0, POOLS.get(kind or "", 0)]


EPS = 1e-5  # torch's default for batch norms
Options = Sequence[Mapping[str, nn.Module]]  # for each edge the modules it may use, by address


# ----------------------------------------------------------------------------------- edges at once
def apart(x: Tensor, edges: int) -> Tensor:
    """Returns (B, E C, H, W) as (B, H, W, E, C)."""
    return x.permute(0, 2, 3, 1).unflatten(3, (edges, -1))


def joined(x: Tensor) -> Tensor:
    """Returns (B, H, W, E, C) as (B, E C, H, W), the inverse of `apart`."""
    return x.flatten(3).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Returns each channel convolved by itself. weight is (E, C, 1, k, k)."""
    E, C, _, k, _ = weight.shape
    return F.conv2d(x, weight.flatten(0, 1), None, stride, k // 2, 1, E * C)


def relu_depthwise(x: Tensor, weight: Tensor, sizes: Tensor, stride: int = 1) -> Tensor:
    """Returns x after a ReLU and a k x k convolution of each channel by itself. weight is (E, C, 1,
    k, k). `sizes` (E,) says which square of the kernel an edge uses: 3 or 5. With 0 it uses none,
    and the result is zero, as the weights are."""
    if (kernel := triton_of(x)) is not None:
        out: Tensor = kernel.relu_depthwise(x, weight, sizes, stride)
        return out
    return depthwise(F.relu(x), weight, stride)


def pool(x: Tensor, pools: Tensor, stride: int = 1) -> Tensor:
    """Returns x pooled over 3x3, or unchanged at stride 1, by the choice of each edge: `pools` (E,)
    is that of `Choice`. The result is zero where it is 0."""
    if (kernel := triton_of(x)) is not None:
        out: Tensor = kernel.pool(x, pools, stride)
        return out
    parts = [F.avg_pool2d(x, 3, stride, 1, count_include_pad=False), F.max_pool2d(x, 3, stride, 1)]
    parts += [x] if stride == 1 else []
    chosen = (scaled(part, pools == i) for i, part in enumerate(parts, 1))
    return reduce(torch.add, chosen)


def scaled(x: Tensor, shares: Tensor) -> Tensor:
    """Returns x (B, E C, H, W) times the share of each edge (E,)."""
    return joined(apart(x, len(shares)) * shares[:, None].to(x.dtype))


def triton_of(x: Tensor) -> Any:
    """Returns the module `fused` where x is on a GPU with Triton, else None."""
    return _fused() if x.is_cuda and kernels.on("triton") else None


@cache
def _fused() -> Any:
    try:
        from enas.networks.static import fused
    except ImportError:
        return None
    return fused


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Returns one 1x1 product for all edges. weight is (E, C_out, C_in), where C_in counts the
    channels of all edges. The rows of an edge are zero except in its own columns."""
    return F.conv2d(x, weight.reshape(-1, weight.shape[2], 1, 1))


def conv(x: Tensor, weight: Tensor) -> Tensor:
    """Returns the channels of each edge convolved with each other. weight is (E, C_out, C_in, k,
    k)."""
    return F.conv2d(x, weight.flatten(0, 1), None, 1, weight.shape[3] // 2, 1, len(weight))


def norm(x: Tensor, weight: Tensor, bias: Tensor, used: Tensor | None = None) -> Tensor:
    """Returns x normalised by the statistics of the batch. weight and bias are (E, C). `used` (E,)
    is 0 for an edge that does not use the norm. Its weight and bias are zero, so the result is too.
    None means that all edges use it."""
    if (kernel := triton_of(x)) is not None:
        out: Tensor = kernel.norm(x, weight, bias, _ones(len(weight), x.device) if used is None else used, EPS)
        return out
    return F.batch_norm(x, None, None, weight.flatten(), bias.flatten(), True, 0.0, EPS)


@cache
def _ones(edges: int, device: torch.device) -> Tensor:
    return torch.ones(edges, dtype=torch.int64, device=device)


# ---------------------------------------------------------------------------- weights of each edge
def slots(edges: Options, parts: Callable[[Any], Sequence[Part]]) -> list[Slot]:
    """Returns for each edge what it holds: these parts of the module that it uses."""
    return [{address: parts(module) for address, module in edge.items()} for edge in edges]


def under(edges: Options, path: str | int) -> Options:
    """Returns for every module the submodule at a path."""
    return [{address: module.get_submodule(str(path)) for address, module in edge.items()} for edge in edges]


def matrix(layout: Layout, rows: int, columns: int, edges: Options) -> int:
    """Declares the matrix of a 1x1 convolution for each edge, (E, rows, E columns), as `pointwise`
    takes it. Returns its number."""
    spans = [slice(e * columns, (e + 1) * columns) for e in range(len(edges))]
    parts = [
        {address: [(cast(nn.Parameter, module.weight), (slice(rows), span))] for address, module in edge.items()}
        for edge, span in zip(edges, spans, strict=True)
    ]
    return layout.piece([rows, len(edges) * columns], parts)


class Norm:
    """A `Norm` holds a batch norm for each edge."""

    def __init__(self, layout: Layout, width: int, edges: Options):
        self.weight = layout.piece([width], slots(edges, lambda m: [(m.weight, None)]))
        self.bias = layout.piece([width], slots(edges, lambda m: [(m.bias, None)]))

    def __call__(self, w: Sequence[Tensor], x: Tensor, used: Tensor | None = None) -> Tensor:
        return norm(x, w[self.weight], w[self.bias], used)


def halving_parts(even: nn.Parameter, odd: nn.Parameter | None, start: int = 0) -> list[Part]:
    """Returns the weights of a factorized reduction as parts of one matrix (C_out, ...). Its
    columns from `start` on read even pixels first, then odd ones."""
    rows, columns = even.shape[:2]
    middle, end = start + columns, start + 2 * columns
    parts: list[Part] = [(even, (slice(rows), slice(start, middle)))]
    return [*parts, (odd, (slice(rows, None), slice(middle, end)))] if odd is not None and len(odd) else parts


def picked(x: Tensor, edges: int) -> Tensor:
    """Returns the pixels that factorized reductions read, even ones and odd ones for each edge, (B,
    E 2 C, H / 2, W / 2)."""
    both = torch.stack([apart(part, edges) for part in kernels.diagonals(x, both=True)], 4)
    return joined(both.flatten(4))


class Halving:
    """A `Halving` is a factorized reduction for each edge. It halves the size of a value to which a
    ReLU was applied."""

    def __init__(self, layout: Layout, width_in: int, width: int, edges: Options):
        parts: list[Slot] = []
        for e, edge in enumerate(edges):
            own: Mapping[str, Any] = edge
            at = 2 * width_in * e
            parts.append({a: halving_parts(m.even.weight, m.odd.weight, at) for a, m in own.items()})
        self.weight = layout.piece([width, len(edges) * 2 * width_in], parts)
        self.norm = Norm(layout, width, under(edges, "norm"))

    def __call__(self, w: Sequence[Tensor], x: Tensor) -> Tensor:
        weight = w[self.weight]
        return self.norm(w, pointwise(picked(x, len(weight)), weight))


class Edges:
    """An `Edges` object runs E edges, each of which applies the op that it chose to the value that
    it reads.

    Convolutions of several sizes are run as one of the largest size, whose kernel has a border of
    zeros. Where an edge may read a value at stride 2, both strides are run up to the first product.
    """

    def __init__(self, layout: Layout, width: int, options: Sequence[Mapping[str, tuple[str, nn.Module]]]):
        """Declares the weights. `options` holds for each edge the ops that it may choose, by
        address, each with its name and its module."""

        def of(kind: str) -> Options:
            return [{a: m for a, (op, m) in edge.items() if KIND[op] == kind} for edge in options]

        self.kinds = {kind for kind in KINDS if any(of(kind))}
        self.stages: list[tuple[int, int, Norm]] = []  # of separable convolutions
        if "sep" in self.kinds:
            edges = of("sep")
            first = next(iter(m for edge in edges for m in edge.values()))
            for i in range(0, len(cast(nn.Sequential, first)), 4):
                weight = self._kernel(layout, [width, 1], under(edges, i + 1))
                product = matrix(layout, width, width, under(edges, i + 2))
                self.stages.append((weight, product, Norm(layout, width, under(edges, i + 3))))
        if "conv" in self.kinds:
            edges = of("conv")
            self.conv = self._kernel(layout, [width, width], under(edges, 1)), Norm(layout, width, under(edges, 2))
        # an identity that halves is a factorized reduction
        strided = [{a: m for a, m in edge.items() if isinstance(m, nn.Sequential)} for edge in of("identity")]
        if any(strided):
            self.halving = Halving(layout, width, width, under(strided, 1))

    @staticmethod
    def _kernel(layout: Layout, channels: list[int], edges: Options) -> int:
        k = max(cast(nn.Conv2d, m).kernel_size[0] for edge in edges for m in edge.values())
        return layout.piece([*channels, k, k], slots(edges, lambda m: [(m.weight, None)]))

    def __call__(
        self,
        w: Sequence[Tensor],
        choice: Choice,
        x: Tensor | None,
        large: Tensor | None = None,
        reads_x: Tensor | None = None,
    ) -> Tensor:
        """Returns the output of each edge, apart. `x` is what edges read at stride 1, and `large`
        what they read at stride 2. Where both are given, `reads_x` (E,) is 1 for the edges that
        read x, else 0."""
        sizes, pools = choice
        ways: list[tuple[Tensor, int, Tensor | None]] = []
        if x is not None:
            ways.append((x, 1, reads_x))
        if large is not None:
            ways.append((large, 2, None if reads_x is None else 1 - reads_x))
        parts: list[Tensor] = []
        if self.stages:
            firsts: list[Tensor] = []
            for value, stride, of in ways:
                first = relu_depthwise(value, w[self.stages[0][0]], sizes if of is None else sizes * of, stride)
                firsts.append(first if of is None else scaled(first, of))
            y = reduce(torch.add, firsts)
            for i, (number, product, normed) in enumerate(self.stages):
                y = relu_depthwise(y, w[number], sizes) if i else y
                y = normed(w, pointwise(y, w[product]), sizes)
            parts.append(y)
        if "conv" in self.kinds:
            assert x is not None
            number, normed = self.conv
            parts.append(normed(w, conv(F.relu(x), w[number])))
        for value, stride, of in ways:
            if self.kinds & POOLS.keys():
                here = pools if of is None else pools * of
                # an identity that halves is a factorized reduction
                parts.append(pool(value, here if stride == 1 else here * (here < POOLS["identity"]), stride))
            if "identity" in self.kinds and stride == 2:
                parts.append(self.halving(w, F.relu(value)))
        return apart(reduce(torch.add, parts), len(sizes))


def edges_into(node: str, cell: Cell, layout: Layout, width: int, position: int) -> Edges:
    """Returns the edges into a node of the cell at a position, each with all ops that it may
    choose."""
    net = layout.net
    options: dict[int, dict[str, tuple[str, nn.Module]]] = {}
    for edge in possible_edges(cell):
        if edge.node == node:
            address = net.address(edge, position)
            options.setdefault(edge.slot, {})[address] = (edge.op, net.at(address))
    return Edges(layout, width, [options[slot] for slot in sorted(options)])


# ------------------------------------------------------------------------------- values of a cell
class Values:
    """A `Values` object holds all values of a cell in one buffer (B, H, W, K, C), and they are read
    by index.

    A value is written once, and before it is read. Gradients add up in a second buffer, so that
    nothing is copied except what is read. An empty tensor, the token, goes from call to call, and
    tells autograd their order.
    """

    def __init__(self, count: int, like: Tensor):
        """Makes the buffer. `count` is K, and `like` (B, H, W, E, C) is a value of the kind that
        will be put in."""
        B, H, W, _, C = like.shape
        self._buffers = _Buffers(like.new_empty(B, H, W, count, C))
        self._token = like.new_empty(0)
        self.filled = 0

    def put(self, edges: Tensor) -> None:
        """Adds a value: the sum of its edges (B, H, W, E, C)."""
        self._token = _Put.apply(self._token, edges, self._buffers, self.filled)
        self.filled += 1

    def read(self, index: Tensor) -> Tensor:
        """Returns the values at index (E,) side by side, (B, E C, H, W)."""
        return joined(_Read.apply(self._token, index, self._buffers))

    def relu(self, start: int = 0) -> Tensor:
        """Returns all values from `start` on after a ReLU, side by side."""
        return joined(_Relu.apply(self._token, self._buffers, start))


class _Buffers:
    def __init__(self, values: Tensor):
        self.values = values
        self.gradients: Tensor | None = None

    def gradient(self) -> Tensor:
        if self.gradients is None:
            self.gradients = torch.zeros_like(self.values)
        return self.gradients


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, token: Tensor, edges: Tensor, buffers: _Buffers, place: int) -> Tensor:
        ctx.buffers, ctx.place, ctx.like = buffers, place, (edges.dtype, edges.shape)
        values = buffers.values
        torch.sum(edges, 3, dtype=values.dtype, out=values[..., place, :])
        return values.new_empty(0)

    @staticmethod
    def backward(ctx: Context, token: Tensor) -> tuple[Tensor | None, ...]:
        dtype, shape = ctx.like
        return token, ctx.buffers.gradient()[..., ctx.place, None, :].to(dtype).expand(shape), None, None


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, token: Tensor, index: Tensor, buffers: _Buffers) -> Tensor:
        ctx.buffers = buffers
        ctx.save_for_backward(index)
        return buffers.values.index_select(3, index)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        (index,), whole = ctx.saved_tensors, ctx.buffers.gradient()
        for e in range(len(index)):  # one after the other: edges may read the same value
            whole.index_add_(3, index[e : e + 1], grad[..., e : e + 1, :])
        return grad.new_empty(0), None, None


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, token: Tensor, buffers: _Buffers, start: int) -> Tensor:
        ctx.buffers, ctx.start = buffers, start
        out = F.relu(buffers.values[..., start:, :].contiguous())
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        ctx.buffers.gradient()[..., ctx.start :, :].add_(torch.ops.aten.threshold_backward(grad, out, 0))
        return grad.new_empty(0), None, None
