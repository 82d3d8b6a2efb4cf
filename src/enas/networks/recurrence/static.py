"""This module computes the window of a recurrent cell as one program for all cells. `program` has
the formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.networks.recurrence.program import ACTIVATIONS, Codes, Result, Window, _normalise, _statistics


def static(window: Window) -> Result:
    """Runs the same operations on the same shapes for every cell of N nodes. What differs between
    cells is data: codes and weights. So one recorded graph of a GPU's work serves all cells."""
    return static_program(window, Codes.of(window.program, window.state))


def static_program(window: Window, codes: Codes) -> Result:
    """Runs a window. It reads the cell from `codes`, and from `window.program` only whether there
    are gates."""
    weights, state, norm = torch.stack(list(window.weights)), window.state, window.norm
    states, saved = [], []
    for x_t in (window.x @ window.wx).unbind(0):
        state = static_step(x_t, state, window.mask, weights, codes, window.program.highway)
        if norm is not None:
            state, mean, deviation = _normalise(norm, state)
            saved.append((mean, deviation))
        states.append(state)
    return torch.stack(states), _statistics(norm, saved, state.shape[0])


def static_step(
    x_t: Tensor, state: Tensor, mask: Tensor | None, weights: Tensor, codes: Codes, highway: bool = True
) -> Tensor:
    """Runs one step, before the batch norm, and returns the state (B, H). x_t (B, G) is the word's
    part of node 1."""
    sources, ops, share = codes
    nodes = [state]
    for i in range(len(weights)):
        read = torch.stack(nodes).index_select(0, sources[i : i + 1])[0]
        z = (read if mask is None else read * mask) @ weights[i]
        z = z + x_t if i == 0 else z
        value = z.chunk(2, 1)[1] if highway else z
        all_values = torch.stack([activation(value) for activation in ACTIVATIONS.values()])
        value = all_values.index_select(0, ops[i : i + 1])[0].to(read.dtype)  # from half precision
        gate = z.chunk(2, 1)[0].sigmoid().to(read.dtype) if highway else None
        nodes.append(torch.lerp(read, value, gate) if gate is not None else value)
    return (torch.stack(nodes[1:]) * share[:, None, None]).sum(0)
