"""This module makes runs repeatable: it makes random seeds from keys, and it describes the state
that a procedure saves so that it can go on later.

torch is imported only inside the functions that need it, so that files without tensors can use the
rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Record = dict[str, Any]  # names and values that JSON can hold
Values = Mapping[str, Any]  # the same, only read


def seed_of(*key: object) -> int:
    """Returns a seed for a key such as (run seed, phase, step, child): equal keys give equal seeds
    on every machine."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


@contextmanager
def seeded(*key: object, device: torch.device | None = None) -> Iterator[None]:
    """Makes torch's random numbers (dropout, initialisation) depend only on `key` inside the `with`
    block, and changes nothing outside of it."""
    import torch

    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed_of(*key))
        yield


def exact(tensor: Tensor) -> Tensor:
    """Returns a tensor as float64. It is moved to the CPU first where its device has no float64
    (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


@dataclass(frozen=True)
class State:
    """A `State` holds everything that a procedure needs to go on: tensors, and values that JSON can
    hold."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Values = field(default_factory=dict)

    def under(self, prefix: str) -> State:
        """Returns the part that was saved as `nested(..., prefix=part)`."""
        start = f"{prefix}/"
        tensors = {k[len(start) :]: t for k, t in self.tensors.items() if k.startswith(start)}
        return State(tensors, self.values[prefix])

    @staticmethod
    def nested(values: Values, **parts: State) -> State:
        """Returns one state that holds `values` and the states of parts, each part under its
        name."""
        tensors = {f"{prefix}/{key}": t for prefix, part in parts.items() for key, t in part.tensors.items()}
        return State(tensors, {**values, **{prefix: part.values for prefix, part in parts.items()}})


def module_state(module: nn.Module) -> State:
    """Returns a state that holds all tensors of a module."""
    return State(module.state_dict())


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], prefix: str
) -> dict[str, Tensor]:
    """Returns the optimiser's memory (momentum and the like) as tensors named
    `{prefix}{kind}/{name}`. Parameters that it never updated have none."""
    from torch import Tensor

    return {
        f"{prefix}{kind}/{name}": value
        for name, parameter in named.items()
        if parameter in optimizer.state
        for kind, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Puts back into an optimiser the memory that `optimizer_tensors` returned."""
    import torch

    optimizer.state.clear()
    for key, value in tensors.items():
        if key.startswith(prefix):
            kind, name = key[len(prefix) :].split("/", 1)
            parameter = named[name]
            kept = value.clone() if kind == "step" else torch.empty_like(parameter).copy_(value)
            optimizer.state[parameter][kind] = kept


def copied(state: State) -> State:
    """Returns a copy that later steps do not change."""
    return State({key: tensor.clone() for key, tensor in state.tensors.items()}, dict(state.values))
