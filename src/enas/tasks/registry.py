"""The registered tasks: what a network is trained for and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enas.data.settings import DataSettings, TextSettings
from enas.plugins import Entry, NoSettings
from enas.tasks.settings import ImageClassificationSettings, LanguageModelSettings, OwnDataSettings, OwnTaskSettings


@dataclass(frozen=True)
class TaskEntry(Entry):
    data: type[Any] = NoSettings
    """The settings of the data that it reads."""


TASKS: dict[str, TaskEntry] = {
    "image_classification": TaskEntry(
        "enas.tasks.image_classification:ImageClassification", ImageClassificationSettings, DataSettings
    ),
    "own": TaskEntry("enas.tasks.own:Own", OwnTaskSettings, OwnDataSettings),
    "language_model": TaskEntry("enas.tasks.language_model:LanguageModel", LanguageModelSettings, TextSettings),
}
