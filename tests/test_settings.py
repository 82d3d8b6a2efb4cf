"""A law of all settings: no number and no name goes unchecked, and the error names a flag that
exists."""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
import pytest

from enas.cli.main import COMMANDS
from enas.data.settings import DataSettings, TextSettings
from enas.networks.registry import BACKBONES
from enas.procedures.settings import ComputeSettings, DeriveSettings, OptimizerSettings, RetrainSettings, SearchSettings
from enas.runs.presets.registry import PRESETS, config_of
from enas.spaces.registry import SPACES
from enas.strategies.registry import STRATEGIES
from enas.strategies.settings import ControllerSettings
from enas.tasks.registry import TASKS

REGISTERED = [
    *(("space", entry.settings) for entry in SPACES.values()),
    *(("network", entry.settings) for entry in BACKBONES.values()),
    *(("task", entry.settings) for entry in TASKS.values()),
    ("data", DataSettings),
    ("data", TextSettings),
    ("strategy.controller", ControllerSettings),
    *(("strategy", entry.settings) for entry in STRATEGIES.values()),
    ("optimizer", OptimizerSettings),
    *(("search", SearchSettings), ("derive", DeriveSettings), ("retrain", RetrainSettings), ("compute", ComputeSettings)),
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
            if (field.name, wrong) == ("baseline_start", -1):
                continue  # rewards may be below zero
            with pytest.raises(
                ValueError, match=rf"^{re.escape(group)}\.{field.name} is .*; got {re.escape(repr(wrong))}$"
            ):
                settings(**{field.name: wrong})
        if "ops" in field.name and group == "space":
            for names in ((), ("relu", "relu")):
                with pytest.raises(ValueError, match=r"^space\.ops are distinct names, at least one; got \["):
                    settings(**{field.name: names})


def test_every_group_is_how_a_flag_begins() -> None:
    """Such as `optimizer`, of --search.optimizer and --retrain.optimizer."""
    groups = {settings: group for group, settings in REGISTERED}

    def check(settings: Any, path: str) -> None:
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            if dataclasses.is_dataclass(value):
                check(value, f"{path}.{field.name}")
        group = groups.get(type(settings), "retrain" if path else "")
        assert path.endswith(f".{group}") if group else not path

    for name in PRESETS:
        check(config_of(name), "")


FLAGS = [getattr(importlib.import_module(f"enas.cli.{name}"), f"{name.capitalize()}Flags") for name in COMMANDS]


@pytest.mark.parametrize("settings", [*(settings for _, settings in REGISTERED), *FLAGS])
def test_a_line_of_help_ends_with_a_clause(settings: type[Any]) -> None:
    """`--help` keeps the line breaks of a setting's text."""
    for param in docstring_parser.parse_from_object(settings).params:
        for line in (param.description or "").split("\n"):
            assert line.endswith((".", ";", ":", ")", ",", "?", '"')), f"{settings.__name__}.{param.arg_name}: {line}"
