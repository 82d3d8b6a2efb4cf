"""A law of the settings of spaces, networks, tasks, data and controller: no number and no name goes unchecked."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from enas.data.images import DataSettings
from enas.data.text import TextSettings
from enas.networks.registry import BACKBONES
from enas.spaces.registry import SPACES
from enas.strategies.controller import ControllerSettings
from enas.tasks.registry import TASKS

REGISTERED = [
    *(("space", entry.settings) for entry in SPACES.values()),
    *(("network", entry.settings) for entry in BACKBONES.values()),
    *(("task", entry.settings) for entry in TASKS.values()),
    ("data", DataSettings),
    ("data", TextSettings),
    ("strategy.controller", ControllerSettings),
]


def wrong_values(kind: Any) -> list[Any]:
    kinds = {kind, *get_args(kind)}
    if get_origin(kind) is Literal:
        return ["?"]
    return [-1, float("nan")] if kinds & {int, float} else []


@pytest.mark.parametrize(("group", "settings"), REGISTERED, ids=[settings.__name__ for _, settings in REGISTERED])
def test_a_wrong_value_is_refused_by_the_name_of_its_flag(group: str, settings: type[Any]) -> None:
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):
        for wrong in wrong_values(hints[field.name]):
            with pytest.raises(
                ValueError, match=rf"^{re.escape(group)}\.{field.name} is .*; got {re.escape(repr(wrong))}$"
            ):
                settings(**{field.name: wrong})
        if "ops" in field.name and group == "space":
            for names in ((), ("relu", "relu")):
                with pytest.raises(ValueError, match=r"^space\.ops are distinct names, at least one; got \["):
                    settings(**{field.name: names})
