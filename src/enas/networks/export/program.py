"""This module exports a network as a program by `torch.export`: a file that needs torch and nothing
else.

    program = torch.export.load("exported.pt2", extra_files := {"metadata.json": ""}).module()

The program takes any batch size of at least 1. A language model takes windows of one step (T = 1),
with the state as an input and an output.
"""

from __future__ import annotations

import io
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from enas.networks import kernels
from enas.networks.export.about import About

Inputs = tuple[Any, ...]
METADATA = "metadata.json"


def program_of(network: nn.Module, inputs: Inputs, dim: int = 0) -> torch.export.ExportedProgram:
    """Returns the program of a network in evaluation mode. `inputs` are tensors, or mappings and
    sequences of them, with a batch of more than 1. Dimension `dim` is the batch, and the program
    takes any size of it. Raises a ValueError where torch cannot follow the network."""
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    size = next(leaf.shape[dim] for leaf in _pytree.tree_leaves(inputs) if isinstance(leaf, Tensor))

    def shape(leaf: Any) -> dict[int, Any] | None:
        return {dim: batch} if isinstance(leaf, Tensor) and leaf.ndim > dim and leaf.shape[dim] == size else None

    # The format of the file knows no other memory layout.
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.contiguous()
    shapes = _pytree.tree_map(shape, inputs)
    try:
        with torch.no_grad(), kernels.without(*kernels.SWITCHES):
            program = torch.export.export(network.eval(), inputs, dynamic_shapes=shapes, strict=False)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"torch.export cannot follow the network: {' '.join(str(error).split())[:300]}") from error
    for node in program.graph.nodes:  # stack traces hold paths of this machine
        node.meta.pop("stack_trace", None)
    return program


def packed(program: torch.export.ExportedProgram, about: About) -> bytes:
    """Returns the bytes of a file with the program. It carries what `about` says as
    `metadata.json`."""
    buffer = io.BytesIO()
    values = {name: json.loads(value) for name, value in about.metadata().items()}
    torch.export.save(program, buffer, extra_files={METADATA: json.dumps(values, ensure_ascii=False)})
    return buffer.getvalue()


def loaded(data: bytes) -> nn.Module:
    """Returns the program in a file, as a module that can be called."""
    module: nn.Module = torch.export.load(io.BytesIO(data)).module()
    return module
