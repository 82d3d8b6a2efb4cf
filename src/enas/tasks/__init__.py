"""The registered tasks: what a network is trained for and how it is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from enas.architecture import Architecture
from enas.supernet import Supernet
from enas.tasks.image_classification import ImageClassification, ImageClassificationSettings


class Task(Protocol):
    """What procedures ask of a task. A batch is whatever the task makes of it."""

    dimensions: dict[str, int]
    """What a backbone has to know of the data, as arguments of its constructor."""

    @property
    def train_steps(self) -> int: ...

    def train_batch(self, epoch: int, step: int) -> Any: ...

    def loss(self, model: Supernet, arch: Architecture | None, batch: Any, progress: float = 1.0) -> Tensor: ...

    def reward_batch(self, step: int) -> Any: ...

    def reward(self, model: Supernet, arch: Architecture | None, batch: Any) -> float: ...

    def evaluate(self, model: Supernet, arch: Architecture | None, part: Any) -> dict[str, float]: ...


@dataclass(frozen=True)
class TaskEntry:
    make: Callable[..., Task]
    settings: type[Any]


TASKS: dict[str, TaskEntry] = {
    "image_classification": TaskEntry(ImageClassification, ImageClassificationSettings),
}
