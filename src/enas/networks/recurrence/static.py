"""A recurrent cell's window as one program for all cells of N nodes. Formulas and shapes are in
`program`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from enas.networks.recurrence.program import ACTIVATIONS, Norm, Program, Result, _normalise, _statistics


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
