"""A cell's window as one program for all cells of N nodes, forward and backward written by hand; on a GPU each is recorded
once, as a graph of the device's work, and replayed for every cell: what differs between cells is data. On a CPU the same
program runs unrecorded, which is how a law holds it equal to the others (`plain.plain`).

Shapes as in `program`: T steps, B streams, H hidden units, N nodes, G = 2 H with a gate, else H. Buffers: s (T, N + 1,
B, H) are states, those of place 0 being what a step finds; read (N, T, B, H) is what products read; z (N, T, B, G) are
products, after the forward gates and values, after the backward their gradients. In the last two the node stands first, so
that the weight gradients of all steps are one batched product.
"""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.recurrence.program import ACTIVATIONS, Norm, Program, Result, _normalise, _normalise_backward

MOST_RECORDED = 6  # windows of as many kinds are kept; each holds its buffers
SEEN_BEFORE_RECORDING = 2  # windows of a kind that run unrecorded first: a last, shorter one is not worth it
MOST_LENGTHS = 3  # where windows have more lengths than this, they are filled up
ROUND_TO = 8  # to a multiple of so many steps
_seen: Counter[Any] = Counter()
_lengths: dict[Any, set[int]] = {}
_kept: OrderedDict[Any, Window] = OrderedDict()


def recorded(
    program: Program,
    x: Tensor,
    state: Tensor,
    mask: Tensor | None,
    norm: Norm | None,
    wx: Tensor,
    weights: Sequence[Tensor],
) -> Result:
    """As `plain.plain`, same shapes and results."""
    device, T = x.device, len(x)
    numbers = torch.tensor([[s + 1 for s in program.sources], [list(ACTIVATIONS).index(op) for op in program.ops]])
    share = torch.zeros(len(program.ops), dtype=state.dtype)
    share[list(program.outputs)] = 1 / len(program.outputs)
    given = (None, None, None, None, 0.0) if norm is None else tuple(norm)
    read_x = x @ wx  # in half precision under autocast, and so then are all products
    more = _length(T, (read_x.shape[1:], read_x.dtype, device)) - T
    valid = F.pad(torch.full((T,), 1 / T, dtype=state.dtype), (0, more))
    stacked = torch.stack([weight.to(read_x.dtype) for weight in weights])
    data = (F.pad(read_x, (0, 0, 0, 0, 0, more)), state, mask, *given, stacked)
    with torch.autocast(device.type, enabled=False):
        out, *statistics = _Recorded.apply(
            torch.is_grad_enabled(), program.highway, *data, numbers.to(device), share.to(device), valid.to(device)
        )
    return out[:T], (statistics[0], statistics[1]) if statistics else None


def _length(T: int, kind: Any) -> int:
    """Steps of the window in which T steps run: as many, until so many lengths were seen that most would go unrecorded."""
    lengths = _lengths.setdefault(kind, set())
    lengths.add(T)
    return T if kind[-1].type == "cpu" or len(lengths) <= MOST_LENGTHS else -(-T // ROUND_TO) * ROUND_TO


def forget() -> None:
    """Let go of all that was recorded, and of its memory."""
    _seen.clear()
    _lengths.clear()
    _kept.clear()


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        keeps: bool,
        highway: bool,
        read_x: Tensor,
        state: Tensor,
        mask: Tensor | None,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        mean: Tensor | None,
        var: Tensor | None,
        eps: float,
        weights: Tensor,
        numbers: Tensor,
        share: Tensor,
        valid: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs = {"read_x": read_x, "state": state, "weights": weights, "numbers": numbers, "share": share, "valid": valid}
        given = {"mask": mask, "norm_weight": norm_weight, "norm_bias": norm_bias, "mean": mean, "var": var}
        inputs |= {name: tensor for name, tensor in given.items() if tensor is not None}
        window = _window(inputs, highway, eps, keeps)
        ctx.window, ctx.serial = window, window.forward(inputs)
        ctx.names = list(inputs)
        ctx.save_for_backward(*inputs.values())
        found = tuple(tensor.clone() for tensor in window.statistics)
        ctx.mark_non_differentiable(*found)
        return window.out.clone(), *found

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        window: Window = ctx.window
        if window.serial != ctx.serial:  # another window of this kind ran since: its buffers hold that one
            ctx.serial = window.forward(dict(zip(ctx.names, ctx.saved_tensors, strict=True)))
        window.backward(grad)
        d = {name: tensor.clone() for name, tensor in window.gradients.items()}
        norm = (d.get("norm_weight"), d.get("norm_bias"))
        return None, None, d["read_x"], d["state"], None, *norm, None, None, None, d["weights"], None, None, None


def _window(inputs: dict[str, Tensor], highway: bool, eps: float, keeps: bool) -> Window:
    """The recorded window of this kind, or a new one, recorded where it pays."""
    kind = (highway, eps, keeps, *((name, x.shape, x.dtype, x.device) for name, x in inputs.items()))
    if torch.backends.cuda.matmul.allow_tf32:
        kind = (*kind, "tf32")
    if kind in _kept:
        _kept.move_to_end(kind)
        return _kept[kind]
    _seen[kind] += 1
    window = Window(inputs, highway, eps, keeps)
    if inputs["state"].is_cuda and _seen[kind] > SEEN_BEFORE_RECORDING:
        with torch.cuda.device(inputs["state"].device):
            window.record(inputs)
        _kept[kind] = window
        if len(_kept) > MOST_RECORDED:
            _kept.popitem(last=False)
    return window


class Window:
    """The buffers of one kind of window, and what runs over them. `keeps`: whether a backward will follow."""

    def __init__(self, inputs: dict[str, Tensor], highway: bool, eps: float, keeps: bool):
        self.inputs = {name: torch.empty_like(x, memory_format=torch.contiguous_format) for name, x in inputs.items()}
        read_x, state = self.inputs["read_x"], self.inputs["state"]
        T, B, G = read_x.shape
        N, H = len(self.inputs["weights"]), state.shape[1]
        self.T, self.N, self.highway, self.keeps, self.serial = T, N, highway, keeps, 0
        given = self.inputs
        self.norm: Norm | None = None
        if "norm_weight" in given:
            self.norm = Norm(given["norm_weight"], given["norm_bias"], given.get("mean"), given.get("var"), eps)
        steps = T if keeps else 1
        self.s = state.new_empty(steps, N + 1, B, H)
        self.read = read_x.new_empty(N, steps, B, H)
        self.z = read_x.new_empty(N, steps, B, G)
        self.before = state.new_empty(B, H)
        self.out = state.new_empty(T, B, H)
        self.averages = state.new_empty(T, B, H) if self.norm is not None else self.out
        self.saved: list[tuple[Tensor, Tensor]] = []
        self.statistics: tuple[Tensor, ...] = ()
        self.gradients: dict[str, Tensor] = {}
        self.grad = torch.empty_like(self.out)
        self.graphs: tuple[Any, Any] | None = None
        self.fuse = False

    # ----------------------------------------------------------------------------------------------- running
    def forward(self, inputs: dict[str, Tensor]) -> int:
        """Leaves the result in `out` and `statistics`; a number that says which forward was the last."""
        for name, x in inputs.items():
            self.inputs[name].copy_(x)
        self.graphs[0].replay() if self.graphs is not None else self._forward()
        self.serial += 1
        return self.serial

    def backward(self, grad: Tensor) -> None:
        """grad (T, B, H) of the last forward's `out`; leaves `gradients`."""
        self.grad.copy_(grad)
        self.graphs[1].replay() if self.graphs is not None else self._backward()
        self.serial += 1  # gates and values have become gradients

    def record(self, inputs: dict[str, Tensor]) -> None:
        """Record both directions, the backward where one will follow."""
        for name, x in inputs.items():
            self.inputs[name].copy_(x)
        self.grad.zero_()
        runs: list[Callable[[], None]] = [self._forward, *([self._backward] if self.keeps else [])]
        self.fuse = COMPILE
        try:
            self._warm_up(runs)
        except Exception as error:  # compilers fail in ways of their own; the program is right without
            if not self.fuse:
                raise
            warnings.warn(f"not compiled, and so slower: {str(error).splitlines()[0][:200]}", stacklevel=2)
            self.fuse = False
            self._warm_up(runs)
        graphs: list[Any] = []
        stream = torch.cuda.Stream(self.s.device)  # torch's own would be of the first device that recorded anything
        for run in runs:
            pool = graphs[0].pool() if graphs else None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                run()
            graphs.append(graph)
        self.graphs = (graphs[0], graphs[-1])

    def _warm_up(self, runs: list[Callable[[], None]]) -> None:
        """What a library prepares at its first call must not be recorded; on a stream of its own, as torch asks."""
        device = self.s.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(2):
                for run in runs:
                    run()
        torch.cuda.current_stream(device).wait_stream(side)

    # --------------------------------------------------------------------------------------------- the program
    @torch.no_grad()
    def _forward(self) -> None:
        read_x, weights, mask, share = (self.inputs.get(name) for name in ("read_x", "weights", "mask", "share"))
        assert read_x is not None
        assert weights is not None
        assert share is not None
        sources, ops = self.inputs["numbers"].unbind(0)
        enter, leave = pointwise(_enter, self.fuse), pointwise(_leave, self.fuse)
        state, self.saved = self.inputs["state"], []
        for t in range(self.T):
            k = t if self.keeps else 0
            s = self.s[k]
            s[0].copy_(state)
            for i in range(self.N):
                enter(s, sources[i : i + 1], mask, self.before, self.read[i, k])
                z = self.z[i, k]
                if i == 0:
                    torch.addmm(read_x[t], self.read[i, k], weights[i], out=z)
                else:
                    torch.mm(self.read[i, k], weights[i], out=z)
                leave(self.before, ops[i : i + 1], z, s[i + 1], self.highway)
            torch.sum(s[1:] * share[:, None, None], 0, out=self.averages[t])
            if self.norm is not None:
                normal, *statistics = _normalise(self.norm, self.averages[t])
                self.out[t].copy_(normal)
                self.saved.append((statistics[0], statistics[1]))
            state = self.out[t]
        self.statistics = ()
        if self.norm is not None and self.norm.mean is None:
            means, deviations = (torch.stack(parts) for parts in zip(*self.saved, strict=True))
            B, valid = state.shape[0], self.inputs["valid"][:, None]
            mean_square = ((deviations.pow(-2) - self.norm.eps) * valid).sum(0)
            self.statistics = ((means * valid).sum(0), mean_square * (B / max(1, B - 1)))

    @torch.no_grad()
    def _backward(self) -> None:
        weights, mask, share = self.inputs["weights"], self.inputs.get("mask"), self.inputs["share"]
        sources, ops = self.inputs["numbers"].unbind(0)
        back, arrive = pointwise(_back, self.fuse), pointwise(_arrive, self.fuse)
        norm = self.norm
        ds = torch.zeros_like(self.s[0])
        dweight = dbias = None
        if norm is not None:
            dweight, dbias = torch.zeros_like(norm.weight), torch.zeros_like(norm.bias)
        for t in reversed(range(self.T)):
            dout = self.grad[t] + ds[0]
            if norm is not None and dweight is not None and dbias is not None:
                dout, dw, db = _normalise_backward(norm, dout, self.averages[t], *self.saved[t])
                dweight, dbias = dweight + dw, dbias + db
            torch.mul(dout, share[:, None, None], out=ds[1:])
            ds[0].zero_()
            for i in reversed(range(self.N)):
                source, z = sources[i : i + 1], self.z[i, t]
                direct = back(self.s[t], source, ops[i : i + 1], z, ds[i + 1], self.highway)
                arrive(ds, source, direct, torch.mm(z, weights[i].t()), mask)
        dweights = torch.bmm(self.read.flatten(1, 2).transpose(1, 2), self.z.flatten(1, 2))
        self.gradients = {"read_x": self.z[0], "state": ds[0], "weights": dweights}
        if dweight is not None and dbias is not None:
            self.gradients |= {"norm_weight": dweight, "norm_bias": dbias}


# --------------------------------------------------------------------------------------------- what is no product
COMPILE = True
"""Whether the functions below are compiled where they are recorded, each to one kernel. None of them writes to memory that
another of its arguments shows: a compiled function would take the places of its first call for those of all calls."""


@cache
def pointwise(function: Callable[..., Any], fuse: bool) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False) if fuse else function


def _source(s: Tensor, source: Tensor) -> Tensor:
    return s.index_select(0, source)[0]


def _enter(s: Tensor, source: Tensor, mask: Tensor | None, before: Tensor, read: Tensor) -> None:
    """Writes a node's source, before (B, H), and what its product reads, read (B, H): the same, masked. s (N + 1, B, H),
    source (1,)."""
    value = _source(s, source)
    before.copy_(value)
    read.copy_(value if mask is None else value * mask)


def _leave(before: Tensor, op: Tensor, z: Tensor, out: Tensor, highway: bool) -> None:
    """Gate and activation: z (B, G) becomes gates and values; writes the node's state, out (B, H)."""
    H = out.shape[1]
    raw = z[:, -H:].to(out.dtype)
    value = torch.where(op == 0, raw.tanh(), torch.where(op == 1, raw.relu(), torch.where(op == 2, raw.sigmoid(), raw)))
    if not highway:
        z.copy_(value)
        out.copy_(value)
        return
    gate = z[:, :H].to(out.dtype).sigmoid()
    out.copy_(before + gate * (value - before))
    z.copy_(torch.cat([gate, value], 1))


def _back(s: Tensor, source: Tensor, op: Tensor, z: Tensor, d: Tensor, highway: bool) -> Tensor:
    """d (B, H) is the gradient of the node's state: z, gates and values, becomes the gradient of the product; returns what
    reaches the source past it."""
    H = d.shape[1]
    value = z[:, -H:].to(d.dtype)
    slope = torch.where(
        op == 0,
        1 - value * value,
        torch.where(op == 1, (value > 0).to(d.dtype), torch.where(op == 2, value * (1 - value), 1.0)),
    )
    if not highway:
        z.copy_(d * slope)
        return torch.zeros_like(d)
    gate = z[:, :H].to(d.dtype)
    before = _source(s, source)
    dgate, dvalue = d * (value - before) * gate * (1 - gate), d * gate * slope
    direct = d * (1 - gate)
    z.copy_(torch.cat([dgate, dvalue], 1))
    return direct


def _arrive(ds: Tensor, source: Tensor, direct: Tensor, product: Tensor, mask: Tensor | None) -> None:
    """Adds to the gradient of the source, in ds (N + 1, B, H)."""
    through = product.to(ds.dtype)
    ds.index_add_(0, source, (direct + (through if mask is None else through * mask))[None])
