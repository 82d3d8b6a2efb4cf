"""What the registry knows of a reference model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from enas.ranges import Settings


@dataclass(frozen=True)
class ReferenceEntry:
    make: Callable[[Mapping[str, int], Settings, int], nn.Module]
    """From the dimensions of a task, the network settings of a recipe, and the most parameters it
    may have."""
    task: str
    parameters: int  # of the published model
    about: str
