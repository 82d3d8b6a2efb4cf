"""A recurrent cell's window to be read: node by node and step by step. Formulas and shapes are in
`program`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from enas.networks.recurrence.program import ACTIVATIONS, STATE, Norm, Program, Result, _normalise, _statistics


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
