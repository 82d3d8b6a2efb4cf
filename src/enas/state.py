"""What makes a run repeatable: seeds from keys, and the state that a procedure saves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


def seed_of(*key: object) -> int:
    """Returns a seed from a key such as (run seed, phase, step, child), on every machine alike."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


@contextmanager
def seeded(*key: object, device: torch.device | None = None) -> Iterator[None]:
    """Makes torch's random numbers inside depend on `key` only, and changes none outside."""
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed_of(*key))
        yield


@dataclass(frozen=True)
class State:
    """What a procedure needs to go on: tensors, and values that JSON can hold."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def under(self, prefix: str) -> State:
        """Returns the part saved with `nested(prefix, ...)`."""
        start = f"{prefix}/"
        tensors = {k[len(start) :]: t for k, t in self.tensors.items() if k.startswith(start)}
        return State(tensors, self.values[prefix])

    @staticmethod
    def nested(values: Mapping[str, Any], **parts: State) -> State:
        tensors = {f"{prefix}/{key}": t for prefix, part in parts.items() for key, t in part.tensors.items()}
        return State(tensors, {**values, **{prefix: part.values for prefix, part in parts.items()}})


def module_state(module: nn.Module) -> State:
    return State(module.state_dict())


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], prefix: str
) -> dict[str, Tensor]:
    """Returns the optimiser's memory by parameter name: `{prefix}{kind}/{name}`."""
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
    """Puts back what `optimizer_tensors` returned."""
    optimizer.state.clear()
    for key, value in tensors.items():
        if key.startswith(prefix):
            kind, name = key[len(prefix) :].split("/", 1)
            parameter = named[name]
            kept = value.clone() if kind == "step" else torch.empty_like(parameter).copy_(value)
            optimizer.state[parameter][kind] = kept


def copied(state: State) -> State:
    return State({key: tensor.clone() for key, tensor in state.tensors.items()}, dict(state.values))
