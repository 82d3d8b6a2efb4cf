"""The registered tasks: what a network is trained for and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enas.data.images import DataSettings
from enas.data.text import TextSettings
from enas.plugins import Entry, NoSettings
from enas.tasks.image_classification import ImageClassificationSettings
from enas.tasks.language_model import LanguageModelSettings


@dataclass(frozen=True)
class TaskEntry(Entry):
    data: type[Any] = NoSettings
    """The settings of the data that it reads."""


TASKS: dict[str, TaskEntry] = {
    "image_classification": TaskEntry(
        "enas.tasks.image_classification:ImageClassification", ImageClassificationSettings, DataSettings
    ),
    "language_model": TaskEntry("enas.tasks.language_model:LanguageModel", LanguageModelSettings, TextSettings),
}
