"""What the registry knows of a reference model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from enas.ranges import Settings


@dataclass(frozen=True)
class ReferenceEntry:
    make: Callable[[Mapping[str, int], Settings, int], nn.Module]
    """From dimensions of a task, network settings of a recipe, and the most parameters."""
    task: str
    parameters: int  # of the published model
    about: str
