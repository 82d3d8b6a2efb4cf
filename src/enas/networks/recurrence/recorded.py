"""This module computes the window of a recurrent cell as one program for all cells of N nodes, with
a hand-written backward. On a GPU each direction is recorded once, as a graph of the device's work,
and replayed for every cell: what differs between cells is data. On a CPU the same program runs
unrecorded, and a law holds it equal to `plain`.

Shapes are as in `program`. The buffers are these: s (T, N + 1, B, H) holds states, where index 0 is
the state before a step. read (N, T, B, H) holds what the products read. z (N, T, B, G) holds the
products; after the forward it holds gates and values, and after the backward their gradients. The
node comes first there, so that the weight gradients of all steps are one batched product.
"""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from enas.networks.kernels import Context
from enas.networks.recurrence.program import Codes, Norm, Result, Window, _normalise, _normalise_backward, _pairs

MOST_RECORDED = 6  # recordings that are kept, each with its buffers
SEEN_BEFORE_RECORDING = 2  # windows of a kind that first run unrecorded
MOST_LENGTHS = 3  # more lengths of windows than this are rounded up
ROUND_TO = 8  # steps that lengths are rounded up to
_seen: Counter[Hashable] = Counter()
_lengths: dict[Hashable, set[int]] = {}
_kept: OrderedDict[Hashable, Recording] = OrderedDict()


def recorded(window: Window) -> Result:
    """Runs a window. The shapes and the results are those of `plain.plain`."""
    state, norm, T = window.state, window.norm, len(window.x)
    read_x = window.x @ window.wx  # under autocast this is in half precision, as are all products
    more = _length(T, (read_x.shape[1:], read_x.dtype, read_x.device)) - T
    inputs = {
        "read_x": F.pad(read_x, (0, 0, 0, 0, 0, more)),
        "state": state,
        "weights": torch.stack([weight.to(read_x.dtype) for weight in window.weights]),
        "valid": F.pad(torch.full((T,), 1 / T, dtype=state.dtype), (0, more)).to(state.device),
        **Codes.of(window.program, state)._asdict(),
    }
    optional = {"mask": window.mask}
    if norm is not None:
        optional |= {"norm_weight": norm.weight, "norm_bias": norm.bias, "mean": norm.mean, "var": norm.var}
    inputs |= {name: tensor for name, tensor in optional.items() if tensor is not None}
    kind = Kind(window.program.highway, norm.eps if norm is not None else 0.0, torch.is_grad_enabled())
    with torch.autocast(state.device.type, enabled=False):
        out, *statistics = _Recorded.apply(kind, tuple(inputs), *inputs.values())
    return out[:T], _pairs(statistics)


class Kind(NamedTuple):
    """A `Kind` holds what a recording depends on besides the shapes of its inputs."""

    highway: bool
    eps: float
    keeps: bool  # whether a backward will follow


def _length(T: int, kind: tuple[torch.Size, torch.dtype, torch.device]) -> int:
    """Returns the number of steps in which a window of T steps is run. It is T, or a rounded number
    once so many lengths were seen that most windows would go unrecorded."""
    lengths = _lengths.setdefault(kind, set())
    lengths.add(T)
    return T if kind[-1].type == "cpu" or len(lengths) <= MOST_LENGTHS else -(-T // ROUND_TO) * ROUND_TO


def forget() -> None:
    """Frees all recordings and their memory."""
    _seen.clear()
    _lengths.clear()
    _kept.clear()


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, kind: Kind, names: tuple[str, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(names, tensors, strict=True))
        recording = _recording(inputs, kind)
        ctx.recording, ctx.serial, ctx.names = recording, recording.forward(inputs), names
        ctx.save_for_backward(*tensors)
        statistics = tuple(tensor.clone() for tensor in recording.statistics)
        ctx.mark_non_differentiable(*statistics)
        return recording.out.clone(), *statistics

    @staticmethod
    def backward(ctx: Context, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        recording: Recording = ctx.recording
        if recording.serial != ctx.serial:  # another window has used the buffers since
            ctx.serial = recording.forward(dict(zip(ctx.names, ctx.saved_tensors, strict=True)))
        recording.backward(grad)
        gradients = {name: tensor.clone() for name, tensor in recording.gradients.items()}
        return None, None, *(gradients.get(name) for name in ctx.names)


def _recording(inputs: dict[str, Tensor], kind: Kind) -> Recording:
    """Returns the recording of this kind and shape. A new one is recorded if it pays."""
    shapes = tuple((name, x.shape, x.dtype, x.device) for name, x in inputs.items())
    key = (kind, shapes, torch.backends.cuda.matmul.allow_tf32)
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    _seen[key] += 1
    recording = Recording(inputs, kind)
    if inputs["state"].is_cuda and _seen[key] > SEEN_BEFORE_RECORDING:
        with torch.cuda.device(inputs["state"].device):
            recording.record(inputs)
        _kept[key] = recording
        if len(_kept) > MOST_RECORDED:
            _kept.popitem(last=False)
    return recording


class Recording:
    """A `Recording` holds the buffers of one kind of window, and runs the program over them."""

    def __init__(self, inputs: dict[str, Tensor], kind: Kind):
        self.inputs = {name: torch.empty_like(x, memory_format=torch.contiguous_format) for name, x in inputs.items()}
        read_x, state = self.inputs["read_x"], self.inputs["state"]
        T, B, G = read_x.shape
        N, H = len(self.inputs["weights"]), state.shape[1]
        self.T, self.N, self.kind = T, N, kind
        self.serial = 0
        self.norm: Norm | None = None
        if "norm_weight" in inputs:
            mean, var = self.inputs.get("mean"), self.inputs.get("var")
            self.norm = Norm(self.inputs["norm_weight"], self.inputs["norm_bias"], mean, var, kind.eps)
        steps = T if kind.keeps else 1
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
        self.graphs: tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph] | None = None
        self.fuse = False

    # ------------------------------------------------------------------------------------- running
    def forward(self, inputs: dict[str, Tensor]) -> int:
        """Runs the forward and leaves the result in `out` and `statistics`. Returns the number of
        this forward."""
        for name, x in inputs.items():
            self.inputs[name].copy_(x)
        self.graphs[0].replay() if self.graphs is not None else self._forward()
        self.serial += 1
        return self.serial

    def backward(self, grad: Tensor) -> None:
        """Runs the backward from the gradient (T, B, H) of the last forward's `out`, and leaves the
        results in `gradients`."""
        self.grad.copy_(grad)
        self.graphs[1].replay() if self.graphs is not None else self._backward()
        self.serial += 1  # the buffers now hold gradients in place of gates and values

    def record(self, inputs: dict[str, Tensor]) -> None:
        """Records the forward, and also the backward where one will follow."""
        for name, x in inputs.items():
            self.inputs[name].copy_(x)
        self.grad.zero_()
        runs: list[Callable[[], None]] = [self._forward, *([self._backward] if self.kind.keeps else [])]
        self.fuse = COMPILE
        try:
            self._warm_up(runs)
        except Exception as error:  # whatever a compiler raises: it is optional
            if not self.fuse:
                raise
            warnings.warn(f"not compiled, and so slower: {str(error).splitlines()[0][:200]}", stacklevel=2)
            self.fuse = False
            self._warm_up(runs)
        graphs: list[torch.cuda.CUDAGraph] = []
        stream = torch.cuda.Stream(self.s.device)  # torch's own belongs to the first device
        for run in runs:
            pool = graphs[0].pool() if graphs else None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                run()
            graphs.append(graph)
        self.graphs = (graphs[0], graphs[-1])

    def _warm_up(self, runs: list[Callable[[], None]]) -> None:
        """Runs the program twice unrecorded, so that libraries prepare, on a stream of its own as
        torch asks."""
        device = self.s.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(2):
                for run in runs:
                    run()
        torch.cuda.current_stream(device).wait_stream(side)

    # --------------------------------------------------------------------------------- the program
    @torch.no_grad()
    def _forward(self) -> None:
        read_x, weights, mask = self.inputs["read_x"], self.inputs["weights"], self.inputs.get("mask")
        sources, ops, share = (self.inputs[name] for name in Codes._fields)
        enter, leave = pointwise(_enter, self.fuse), pointwise(_leave, self.fuse)
        state, self.saved = self.inputs["state"], []
        for t in range(self.T):
            k = t if self.kind.keeps else 0
            s = self.s[k]
            s[0].copy_(state)
            for i in range(self.N):
                enter(s, sources[i : i + 1], mask, self.before, self.read[i, k])
                z = self.z[i, k]
                if i == 0:
                    torch.addmm(read_x[t], self.read[i, k], weights[i], out=z)
                else:
                    torch.mm(self.read[i, k], weights[i], out=z)
                leave(self.before, ops[i : i + 1], z, s[i + 1], self.kind.highway)
            torch.sum(s[1:] * share[:, None, None], 0, out=self.averages[t])
            if self.norm is not None:
                normal, mean, deviation = _normalise(self.norm, self.averages[t])
                self.out[t].copy_(normal)
                self.saved.append((mean, deviation))
            state = self.out[t]
        self.statistics = ()
        if self.norm is not None and self.norm.mean is None:
            means, deviations = (torch.stack(parts) for parts in zip(*self.saved, strict=True))
            B, valid = state.shape[0], self.inputs["valid"][:, None]
            mean_square = ((deviations.pow(-2) - self.norm.eps) * valid).sum(0)
            self.statistics = ((means * valid).sum(0), mean_square * (B / max(1, B - 1)))

    @torch.no_grad()
    def _backward(self) -> None:
        weights, mask = self.inputs["weights"], self.inputs.get("mask")
        sources, ops, share = (self.inputs[name] for name in Codes._fields)
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
                direct = back(self.s[t], source, ops[i : i + 1], z, ds[i + 1], self.kind.highway)
                arrive(ds, source, direct, torch.mm(z, weights[i].t()), mask)
        dweights = torch.bmm(self.read.flatten(1, 2).transpose(1, 2), self.z.flatten(1, 2))
        self.gradients = {"read_x": self.z[0], "state": ds[0], "weights": dweights}
        if dweight is not None and dbias is not None:
            self.gradients |= {"norm_weight": dweight, "norm_bias": dbias}


# ----------------------------------------------------------------------------- what is no product
COMPILE = True
"""The functions below are compiled where they are recorded, each to one kernel, if this is true.

None of them writes to memory that another of its arguments shows. Otherwise a compiled function
would take the overlap of its first call for that of all calls.
"""


@cache
def pointwise(function: Callable[..., Any], fuse: bool) -> Callable[..., Any]:
    """Returns the function, compiled where `fuse` is set."""
    return torch.compile(function, dynamic=False) if fuse else function


def _source(s: Tensor, source: Tensor) -> Tensor:
    return s.index_select(0, source)[0]


def _enter(s: Tensor, source: Tensor, mask: Tensor | None, before: Tensor, read: Tensor) -> None:
    """Writes a node's source to `before` (B, H), and the same masked, which the product reads, to
    `read` (B, H). s is (N + 1, B, H), and source is (1,)."""
    value = _source(s, source)
    before.copy_(value)
    read.copy_(value if mask is None else value * mask)


def _leave(before: Tensor, op: Tensor, z: Tensor, out: Tensor, highway: bool) -> None:
    """Turns the product z (B, G) into gates and values, and writes the state to `out` (B, H)."""
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
    """Turns the gates and values in z into the gradient of the product, given d (B, H), the
    gradient of the node's state. Returns the gradient that reaches the source past the product."""
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
    """Adds to the gradient of the source, which is in ds (N + 1, B, H)."""
    through = product.to(ds.dtype)
    ds.index_add_(0, source, (direct + (through if mask is None else through * mask))[None])
