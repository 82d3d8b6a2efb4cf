"""The registered tasks: what a network is trained for and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enas.ranges import Settings
from enas.tasks.image_classification import ImageClassification, ImageClassificationSettings
from enas.tasks.language_model import LanguageModel, LanguageModelSettings


@dataclass(frozen=True)
class TaskEntry:
    make: type[Any]
    settings: type[Settings]


TASKS: dict[str, TaskEntry] = {
    "image_classification": TaskEntry(ImageClassification, ImageClassificationSettings),
    "language_model": TaskEntry(LanguageModel, LanguageModelSettings),
}
