"""This module registers the tasks. A task says what a network is trained for and how it is
scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enas.data.settings import DataSettings, TextSettings
from enas.plugins import Entry, NoSettings, Registry, callable_at, settings_type
from enas.tasks.settings import ImageClassificationSettings, LanguageModelSettings, OwnDataSettings, OwnTaskSettings


@dataclass(frozen=True)
class TaskEntry(Entry):
    """A `TaskEntry` registers a task."""

    data: type[Any] = NoSettings
    """The settings class of the data that it reads."""


def _made(path: str) -> TaskEntry:
    thing = callable_at("a task", path)
    bases = {f"{base.__module__}:{base.__qualname__}" for base in getattr(thing, "__mro__", ())}
    for entry in _BUILT_IN.values():
        if entry.where in bases:
            return TaskEntry(path, settings_type(thing), entry.data)
    names = ", ".join(entry.where.partition(":")[2] for entry in _BUILT_IN.values())
    raise ValueError(f"a task is a class that inherits from a registered one ({names}); '{path}' does not")


_BUILT_IN = {
    "image_classification": TaskEntry(
        "enas.tasks.image_classification:ImageClassification", ImageClassificationSettings, DataSettings
    ),
    "own": TaskEntry("enas.tasks.own:Own", OwnTaskSettings, OwnDataSettings),
    "language_model": TaskEntry("enas.tasks.language_model:LanguageModel", LanguageModelSettings, TextSettings),
}
TASKS = Registry("tasks", "a task", _made, _BUILT_IN)
