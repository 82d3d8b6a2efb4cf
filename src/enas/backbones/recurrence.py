"""What a recurrent cell computes over a window, three times: to be read (`plain`), to be fast (`fused`), and as one program
for all cells (`static`). A law holds them equal.

    a node:    a = mask * s[source];   [c | f] = a W,  c through a sigmoid, f through the node's activation
               s[node] = c * f + (1 - c) * s[source]          (paper, appendix A, Eq. 2 to 5)
               s[node] = f, where there is no highway gate     (paper 2.1, Fig. 1)
    the first node adds x Wx to the product, and its source is the state that the step before left
    the state: mean of s over the outputs, batch norm where there is one

Shapes: T steps, B streams, E size of x, H hidden units, G columns of a node's product (2 H with a gate, else H); x (T, B,
E), state and mask (B, H), Wx (E, G), W (H, G), with the gate's columns first. The result is a state a step (T, B, H), and
the batch norm's statistics over the streams, mean and unbiased variance (H,), averaged over steps; None without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from enas.space import WiredCell

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda x: x}
STATE = -1  # the source of the first node
_IN_PLACE = {"tanh": torch.tanh_, "relu": torch.relu_, "sigmoid": torch.sigmoid_}
_aten = torch.ops.aten


BOUND = 3.0
"""With running statistics a normalised value is held within so many standard deviations. The statistics of a
batch bound a state by themselves; running ones do not, and a cell of ReLUs that trained well can grow
without end on text that it has not seen (docs/log.md, 2026-11-27)."""


class Norm(NamedTuple):
    """Batch norm over the streams at every step: with the batch's statistics, or with the running `mean` and
    `var`, and then held within `BOUND`."""

    weight: Tensor  # (H,)
    bias: Tensor
    mean: Tensor | None = None
    var: Tensor | None = None
    eps: float = 1e-5


class Group(NamedTuple):
    """The nodes that read one source: one product serves them all. Nodes of one activation stand together."""

    source: int
    nodes: tuple[int, ...]
    runs: tuple[tuple[str, int, int], ...]  # activation, its first place and the place after its last


@dataclass(frozen=True)
class Program:
    """A cell as numbers: nodes are 0, 1, ... in an order in which each comes after what it reads."""

    sources: tuple[int, ...]
    ops: tuple[str, ...]
    outputs: tuple[int, ...]
    highway: bool = True

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(cell: WiredCell, highway: bool = True) -> Program:
        """ValueError for an activation that is none, and for a cell that is not a tree below one first node."""
        number = {name: i for i, name in enumerate([node.name for node in cell.nodes])}
        number |= dict.fromkeys(cell.inputs, STATE)
        edges = [node.edges[0] for node in cell.nodes]
        for node in cell.nodes:
            if len(node.edges) != 1 or node.skips or (node.edges[0].input in cell.inputs) != (number[node.name] == 0):
                raise ValueError(f"a recurrent node has one edge, and only the first reads the word; got '{node.name}'")
            if node.edges[0].op not in ACTIVATIONS:
                raise ValueError(f"an activation is one of {', '.join(ACTIVATIONS)}; got '{node.edges[0].op}'")
        outputs = tuple(number[name] for name in cell.outputs)
        return Program(tuple(number[e.input] for e in edges), tuple(e.op for e in edges), outputs, highway)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """In an order in which each comes after the node that it reads."""
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


Statistics = tuple[Tensor, Tensor]
Result = tuple[Tensor, Statistics | None]


def _normalise(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x (B, H) normalised, and the mean and inverse deviation that the backward wants (empty where
    running statistics are given)."""
    if norm.mean is None or norm.var is None:
        return torch.native_batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps)
    held = ((x - norm.mean) * (norm.var + norm.eps).rsqrt()).clamp(-BOUND, BOUND)
    return held * norm.weight + norm.bias, x.new_empty(0), x.new_empty(0)


def _normalise_backward(
    norm: Norm, grad: Tensor, x: Tensor, mean: Tensor | None, deviation: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of x (B, H), weight and bias (H,), from that of what `_normalise` gave."""
    if norm.mean is None or norm.var is None:
        wanted = [True, True, True]
        return _aten.native_batch_norm_backward(grad, x, norm.weight, None, None, mean, deviation, True, norm.eps, wanted)
    inverse = (norm.var + norm.eps).rsqrt()
    normal = (x - norm.mean) * inverse
    held = normal.clamp(-BOUND, BOUND)
    return grad * norm.weight * inverse * (normal == held), (grad * held).sum(0), grad.sum(0)


@torch.no_grad()
def _statistics(norm: Norm | None, saved: Sequence[tuple[Tensor, Tensor]], B: int) -> Statistics | None:
    """From the means and inverse deviations of all steps."""
    if norm is None or norm.mean is not None:
        return None
    means, deviations = (torch.stack(parts) for parts in zip(*saved, strict=True))
    return means.mean(0), (deviations.pow(-2).mean(0) - norm.eps) * (B / max(1, B - 1))


# ------------------------------------------------------------------------------------------------------------ to be read
def plain(
    program: Program,
    x: Tensor,
    state: Tensor,
    mask: Tensor | None,
    norm: Norm | None,
    wx: Tensor,
    weights: Sequence[Tensor],
) -> Result:
    """The formulas above, node by node and step by step, with autograd's backward. `weights`: of each node."""
    states, saved = [], []
    for x_t in x.unbind(0):
        nodes: list[Tensor] = []
        for i, (source, op, weight) in enumerate(zip(program.sources, program.ops, weights, strict=True)):
            read = state if source == STATE else nodes[source]
            z = (read if mask is None else read * mask) @ weight
            z = z + x_t @ wx if i == 0 else z
            if program.highway:
                gate, value = z.chunk(2, 1)
                nodes.append(torch.lerp(read, ACTIVATIONS[op](value), gate.sigmoid()))
            else:
                nodes.append(ACTIVATIONS[op](z))
        state = torch.stack([nodes[i] for i in program.outputs]).mean(0)
        if norm is not None:
            state, *statistics = _normalise(norm, state)
            saved.append((statistics[0], statistics[1]))
        states.append(state)
    return torch.stack(states), _statistics(norm, saved, state.shape[0])


# ------------------------------------------------------------------------------------------------- one program for all
def static(
    program: Program,
    x: Tensor,
    state: Tensor,
    mask: Tensor | None,
    norm: Norm | None,
    wx: Tensor,
    weights: Sequence[Tensor],
) -> Result:
    """The same operations on the same shapes for every cell of N nodes; what differs is data: vectors of numbers, and the
    weights of the chosen edges in one tensor. So one recorded graph of a GPU's work serves all cells."""
    device = x.device
    sources = torch.tensor([s + 1 for s in program.sources], device=device)
    ops = torch.tensor([list(ACTIVATIONS).index(op) for op in program.ops], device=device)
    share = torch.zeros(len(program.ops), dtype=x.dtype, device=device)
    share[list(program.outputs)] = 1 / len(program.outputs)
    return static_program(x, state, mask, norm, wx, torch.stack(list(weights)), sources, ops, share, program.highway)


def static_program(
    x: Tensor,
    state: Tensor,
    mask: Tensor | None,
    norm: Norm | None,
    wx: Tensor,
    weights: Tensor,
    sources: Tensor,
    ops: Tensor,
    share: Tensor,
    highway: bool = True,
) -> Result:
    """weights (N, H, G); sources (N,), 0 being the state before and i the i-th node; ops (N,), places in `ACTIVATIONS`;
    share (N,), what of each node leaves the cell. No number is looked at from Python."""
    states, saved = [], []
    read_x = x @ wx
    for x_t in read_x.unbind(0):
        state = static_step(x_t, state, mask, weights, sources, ops, share, highway)
        if norm is not None:
            state, *statistics = _normalise(norm, state)
            saved.append((statistics[0], statistics[1]))
        states.append(state)
    return torch.stack(states), _statistics(norm, saved, state.shape[0])


def static_step(
    x_t: Tensor,
    state: Tensor,
    mask: Tensor | None,
    weights: Tensor,
    sources: Tensor,
    ops: Tensor,
    share: Tensor,
    highway: bool = True,
) -> Tensor:
    """One time step, before the batch norm: x_t (B, G), what the first node's product has of the word; state (B, H)."""
    nodes = [state]
    for i in range(len(weights)):
        read = torch.stack(nodes).index_select(0, sources[i : i + 1])[0]
        z = (read if mask is None else read * mask) @ weights[i]
        z = z + x_t if i == 0 else z
        value = z.chunk(2, 1)[1] if highway else z
        all_values = torch.stack([activation(value) for activation in ACTIVATIONS.values()])
        value = all_values.index_select(0, ops[i : i + 1])[0].to(read.dtype)  # products may be in half precision
        gate = z.chunk(2, 1)[0].sigmoid().to(read.dtype) if highway else None
        nodes.append(torch.lerp(read, value, gate) if gate is not None else value)
    return (torch.stack(nodes[1:]) * share[:, None, None]).sum(0)


# ----------------------------------------------------------------------------------------------------------- to be fast
def fused(
    program: Program,
    x: Tensor,
    state: Tensor,
    mask: Tensor | None,
    norm: Norm | None,
    wx: Tensor,
    weights: Sequence[Tensor],
) -> Result:
    """One product a step for all nodes that read the same source, gates among them; one product for the words of all steps;
    and in the hand-written backward one product a source for the weight gradients of all steps."""
    given = (None, None, None, None, 0.0) if norm is None else norm
    out, *statistics = _Fused.apply(program, x, state, mask, *given, wx, *weights)
    return out, (statistics[0], statistics[1]) if statistics else None


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        program: Program,
        x: Tensor,
        state: Tensor,
        mask: Tensor | None,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        mean: Tensor | None,
        var: Tensor | None,
        eps: float,
        wx: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        T, B, _ = x.shape
        H = state.shape[1]
        columns = 2 if program.highway else 1
        norm = Norm(norm_weight, norm_bias, mean, var, eps) if norm_weight is not None and norm_bias is not None else None
        groups = program.groups
        stacked = [_stack(group, weights, H, program.highway) for group in groups]
        # By group: what its product reads, its gates and values, and the states of its nodes, each of all steps.
        read = [x.new_empty(T, B, H) if mask is not None or g.source == STATE else None for g in groups]
        z = [x.new_empty(T, B, columns * len(g.nodes) * H) for g in groups]
        torch.matmul(x, wx, out=z[0])
        s = [x.new_empty(T, B, len(g.nodes) * H) for g in groups]
        at = {node: (g, place) for g, group in enumerate(groups) for place, node in enumerate(group.nodes)}
        node_states = {node: s[g].narrow(2, place * H, H) for node, (g, place) in at.items()}
        out = x.new_empty(T, B, H)
        averages = out if norm is None else x.new_empty(T, B, H)
        before = x.new_empty(T, B, H)  # the state that each step finds
        steps = [_Steps(group, z[g], s[g], H, program.highway) for g, group in enumerate(groups)]
        sources = [before if g.source == STATE else node_states[g.source] for g in groups]
        reads = [(a if a is not None else source).unbind(0) for a, source in zip(read, sources, strict=True)]
        sources_t = [source.unbind(0) for source in sources]
        outputs_t = [node_states[node].unbind(0) for node in program.outputs]
        products = [views.unbind(0) for views in z]
        share, saved = 1 / len(program.outputs), []
        for t in range(T):
            before[t].copy_(state)
            for g, group in enumerate(groups):
                source = sources_t[g][t]
                if read[g] is not None:
                    torch.mul(source, mask, out=reads[g][t]) if mask is not None else reads[g][t].copy_(source)
                if group.source == STATE:
                    products[g][t].addmm_(reads[g][t], stacked[g])
                else:
                    torch.mm(reads[g][t], stacked[g], out=products[g][t])
                steps[g].forward(t, source)
            average = averages[t]
            if len(outputs_t) == 1:
                average.copy_(outputs_t[0][t])
            else:
                torch.add(outputs_t[0][t], outputs_t[1][t], out=average)
                for node in outputs_t[2:]:
                    average += node[t]
                average *= share
            if norm is not None:
                out[t], *statistics = _normalise(norm, average)
                saved.append((statistics[0], statistics[1]))
            state = out[t]
        ctx.program, ctx.norm, ctx.saved, ctx.steps = program, norm, saved, steps
        # The result itself must not be among what is kept: it holds this object, which then would never be freed.
        whole = [a if a is not None else b for a, b in zip(read, sources, strict=True)]
        ctx.save_for_backward(x, mask, wx)
        ctx.kept = (averages if norm is not None else None, sources, whole)
        ctx.stacked = stacked
        found = _statistics(norm, saved, B) or ()
        ctx.mark_non_differentiable(*found)
        return out, *found

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        program, norm, steps = ctx.program, ctx.norm, ctx.steps
        (x, mask, wx), (averages, sources, reads) = ctx.saved_tensors, ctx.kept
        T, B, H = grad.shape
        groups = program.groups
        # A product with a transposed right operand is several times slower on a CPU: transposed once, for all steps.
        turned = [weight.t().contiguous() for weight in ctx.stacked]
        ds = [grad.new_empty(B, len(g.nodes) * H) for g in groups]
        at = {
            node: ds[g].narrow(1, place * H, H) for g, group in enumerate(groups) for place, node in enumerate(group.nodes)
        }
        dz = [torch.empty_like(step.z) for step in steps]
        dz_t = [views.unbind(0) for views in dz]
        sources_t = [source.unbind(0) for source in sources]
        outgoing = set(program.outputs)
        back = [_StepsBack(step, d) for step, d in zip(steps, dz, strict=True)]
        dstate = torch.zeros_like(grad[0])
        dweight = dbias = None
        if norm is not None:
            dweight, dbias = torch.zeros_like(norm.weight), torch.zeros_like(norm.bias)
        for t in reversed(range(T)):
            dout = grad[t] + dstate
            if norm is not None and dweight is not None and dbias is not None:
                dout, dw, db = _normalise_backward(norm, dout.contiguous(), averages[t], *ctx.saved[t])
                dweight += dw
                dbias += db
            dout = dout * (1 / len(program.outputs))
            for node, slot in at.items():
                slot.copy_(dout) if node in outgoing else slot.zero_()
            dstate = torch.zeros_like(dout)
            for g in reversed(range(len(groups))):
                target = dstate if groups[g].source == STATE else at[groups[g].source]
                direct = back[g].backward(t, ds[g], sources_t[g][t])
                if direct is not None:
                    target += direct
                if mask is None:
                    target.addmm_(dz_t[g][t], turned[g])
                else:
                    target.addcmul_(torch.mm(dz_t[g][t], turned[g]), mask)
        dx = dwx = None
        first = dz[0].view(T * B, -1)
        if ctx.needs_input_grad[1]:
            dx = torch.mm(first, wx.t()).view_as(x)
        if ctx.needs_input_grad[9]:
            dwx = torch.mm(x.reshape(T * B, -1).t(), first)
        gradients: list[Tensor | None] = [None] * len(program.ops)
        for group, read, d in zip(groups, reads, dz, strict=True):
            product = torch.mm(read.reshape(T * B, H).t(), d.view(T * B, -1))
            for node, gradient in zip(group.nodes, _unstack(group, product, H, program.highway), strict=True):
                gradients[node] = gradient
        return None, dx, dstate, None, dweight, dbias, None, None, None, dwx, *gradients


def _stack(group: Group, weights: Sequence[Tensor], H: int, highway: bool) -> Tensor:
    """(H, k G): the gates of all nodes, then the values of all."""
    chosen = [weights[node] for node in group.nodes]
    if not highway or len(chosen) == 1:
        return chosen[0].contiguous() if len(chosen) == 1 else torch.cat(chosen, 1)
    return torch.cat([w[:, :H] for w in chosen] + [w[:, H:] for w in chosen], 1)


def _unstack(group: Group, stacked: Tensor, H: int, highway: bool) -> list[Tensor]:
    """The inverse of `_stack`, a tensor of its own each."""
    k = len(group.nodes)
    if k == 1:
        return [stacked]
    parts = stacked.split(H, 1)
    return [torch.cat([parts[i], parts[k + i]], 1) if highway else parts[i].contiguous() for i in range(k)]


class _Steps:
    """Views of a group's buffers, a list a step: making them step by step would take as long as the arithmetic."""

    def __init__(self, group: Group, z: Tensor, s: Tensor, H: int, highway: bool):
        T, B, _ = z.shape
        k = len(group.nodes)
        self.z, self.s, self.H, self.k, self.group, self.highway = z, s, H, k, group, highway
        gate = z.narrow(2, 0, k * H) if highway else None
        value = z.narrow(2, k * H, k * H) if highway else z
        self.gate = gate.unbind(0) if gate is not None else ()
        self.gate_by_node = gate.unflatten(2, (k, H)).unbind(0) if gate is not None else ()
        self.value_by_node = value.unflatten(2, (k, H)).unbind(0)
        self.runs = [(op, value.narrow(2, a * H, (b - a) * H).unbind(0)) for op, a, b in group.runs]
        self.states = s.view(T, B, k, H).unbind(0)

    def forward(self, t: int, source: Tensor) -> None:
        for op, values in self.runs:
            if op in _IN_PLACE:
                _IN_PLACE[op](values[t])
        if self.highway:
            self.gate[t].sigmoid_()
            read = source.unsqueeze(1).expand(-1, self.k, -1)
            torch.lerp(read, self.value_by_node[t], self.gate_by_node[t], out=self.states[t])
        else:
            self.states[t].copy_(self.value_by_node[t])


class _StepsBack:
    """Writes the gradient of a group's product into `dz`, step by step."""

    def __init__(self, steps: _Steps, dz: Tensor):
        self.steps = steps
        H, k = steps.H, steps.k
        dgate = dz.narrow(2, 0, k * H) if steps.highway else None
        dvalue = dz.narrow(2, k * H, k * H) if steps.highway else dz
        self.dgate = dgate.unflatten(2, (k, H)).unbind(0) if dgate is not None else ()
        self.runs = [
            (op, a * H, (b - a) * H, values, dvalue.narrow(2, a * H, (b - a) * H).unbind(0))
            for (op, values), (_, a, b) in zip(steps.runs, steps.group.runs, strict=True)
        ]

    def backward(self, t: int, ds: Tensor, source: Tensor) -> Tensor | None:
        """ds (B, k H): gradient of the nodes' states. Returns what reaches the source past the product."""
        steps = self.steps
        through, direct = ds, None
        if steps.highway:
            ds_by_node = ds.unflatten(1, (steps.k, steps.H))
            through = ds_by_node * steps.gate_by_node[t]
            direct = ds_by_node - through
            direct = direct[:, 0] if steps.k == 1 else direct.sum(1)
            change = steps.value_by_node[t] - source.unsqueeze(1)
            change *= ds_by_node
            _aten.sigmoid_backward.grad_input(change, steps.gate_by_node[t], grad_input=self.dgate[t])
            through = through.flatten(1)
        for op, start, length, values, target in self.runs:
            part = through.narrow(1, start, length)
            if op == "tanh":
                _aten.tanh_backward.grad_input(part, values[t], grad_input=target[t])
            elif op == "relu":
                _aten.threshold_backward.grad_input(part, values[t], 0, grad_input=target[t])
            elif op == "sigmoid":
                _aten.sigmoid_backward.grad_input(part, values[t], grad_input=target[t])
            else:
                target[t].copy_(part)
        return direct
