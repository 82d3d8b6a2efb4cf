"""This module computes the window of a recurrent cell fast on a CPU. `program` has the formulas and
the shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from enas.networks.kernels import Context
from enas.networks.recurrence.program import (
    STATE,
    Group,
    Result,
    Window,
    _normalise,
    _normalise_backward,
    _pairs,
    _statistics,
)

_IN_PLACE = {"tanh": torch.tanh_, "relu": torch.relu_, "sigmoid": torch.sigmoid_}
_aten = torch.ops.aten


def fused(window: Window) -> Result:
    """Runs one product per step for all nodes that read one source, gates among them, and one
    product for the words of all steps. The backward runs one product per source for all weight
    gradients."""
    out, *statistics = _Fused.apply(window, *window.leaves)
    return out, _pairs(statistics)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, window: Window, *leaves: Tensor) -> tuple[Tensor, ...]:
        program, norm = window.program, window.norm
        x, state, mask = window.x, window.state, window.mask
        T, B, _ = x.shape
        H = state.shape[1]
        columns = 2 if program.highway else 1
        groups = program.groups
        stacked = [_stack(group, window.weights, H, program.highway) for group in groups]
        # For each group and all steps: the inputs of its product, its gates and values, and the
        # states of its nodes.
        read = [x.new_empty(T, B, H) if mask is not None or g.source == STATE else None for g in groups]
        z = [x.new_empty(T, B, columns * len(g.nodes) * H) for g in groups]
        torch.matmul(x, window.wx, out=z[0])
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
                out[t], mean, deviation = _normalise(norm, average)
                saved.append((mean, deviation))
            state = out[t]
        ctx.program, ctx.norm = program, norm
        ctx.saved, ctx.steps = saved, steps
        # The result must not be kept here. It holds this object, so neither would ever be freed.
        whole = [a if a is not None else b for a, b in zip(read, sources, strict=True)]
        ctx.save_for_backward(x, mask, window.wx)
        ctx.kept = (averages if norm is not None else None, sources, whole)
        ctx.stacked = stacked
        statistics = _statistics(norm, saved, B) or ()
        ctx.mark_non_differentiable(*statistics)
        return out, *statistics

    @staticmethod
    def backward(ctx: Context, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        program, norm, steps = ctx.program, ctx.norm, ctx.steps
        x, mask, wx = ctx.saved_tensors
        averages, sources, reads = ctx.kept
        T, B, H = grad.shape
        groups = program.groups
        # A product with a transposed right operand is slow on a CPU, so all are transposed once.
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
        if ctx.needs_input_grad[3]:
            dwx = torch.mm(x.reshape(T * B, -1).t(), first)
        gradients: list[Tensor | None] = [None] * len(program.ops)
        for group, read, d in zip(groups, reads, dz, strict=True):
            product = torch.mm(read.reshape(T * B, H).t(), d.view(T * B, -1))
            for node, gradient in zip(group.nodes, _unstack(group, product, H, program.highway), strict=True):
                gradients[node] = gradient
        return None, dx, dstate, dwx, *gradients, *(() if norm is None else (dweight, dbias))


def _stack(group: Group, weights: Sequence[Tensor], H: int, highway: bool) -> Tensor:
    """Returns the weights of a group (H, k G): first the gates of all nodes, then the values of
    all."""
    chosen = [weights[node] for node in group.nodes]
    if not highway or len(chosen) == 1:
        return chosen[0].contiguous() if len(chosen) == 1 else torch.cat(chosen, 1)
    return torch.cat([w[:, :H] for w in chosen] + [w[:, H:] for w in chosen], 1)


def _unstack(group: Group, stacked: Tensor, H: int, highway: bool) -> list[Tensor]:
    """Returns the weights of each node again from those that `_stack` joined. Each is a tensor of
    its own."""
    k = len(group.nodes)
    if k == 1:
        return [stacked]
    parts = stacked.split(H, 1)
    return [torch.cat([parts[i], parts[k + i]], 1) if highway else parts[i].contiguous() for i in range(k)]


class _Steps:
    """A `_Steps` object holds views of a group's buffers for each step. They are made all at once,
    since making them takes time."""

    def __init__(self, group: Group, z: Tensor, s: Tensor, H: int, highway: bool):
        T, B, _ = z.shape
        k = len(group.nodes)
        self.group, self.highway = group, highway
        self.z, self.s = z, s
        self.H, self.k = H, k
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
    """A `_StepsBack` object writes the gradient of a group's product into `dz`, step by step."""

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
        """Writes the gradients of step t, given `ds` (B, k H), the gradient of the nodes' states.
        Returns the gradient that reaches the source directly."""
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
