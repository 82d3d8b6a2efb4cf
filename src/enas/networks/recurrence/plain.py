"""This module computes the window of a recurrent cell step by step, in code that is easy to read.
`program` has the formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.networks.recurrence.program import STATE, Result, Window, _normalise, _statistics, activation


def plain(window: Window) -> Result:
    """Runs the formulas node by node and step by step. The backward is autograd's."""
    program, mask, state = window.program, window.mask, window.state
    states, saved = [], []
    for x_t in window.x.unbind(0):
        nodes: list[Tensor] = []
        for i, (source, op, weight) in enumerate(zip(program.sources, program.ops, window.weights, strict=True)):
            read = state if source == STATE else nodes[source]
            z = (read if mask is None else read * mask) @ weight
            z = z + x_t @ window.wx if i == 0 else z
            if program.highway:
                gate, value = z.chunk(2, 1)
                nodes.append(torch.lerp(read, activation(op)(value), gate.sigmoid()))
            else:
                nodes.append(activation(op)(z))
        state = torch.stack([nodes[i] for i in program.outputs]).mean(0)
        if window.norm is not None:
            state, mean, deviation = _normalise(window.norm, state)
            saved.append((mean, deviation))
        states.append(state)
    return torch.stack(states), _statistics(window.norm, saved, state.shape[0])
