"""What a name stands for: something registered, or `package.module:thing` of a user's own. No torch
in here."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from enas.ranges import check_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class NoSettings:
    """The settings of something that has nothing to set."""


@dataclass(frozen=True)
class Entry:
    """An entry of a registry: where a thing is, as `package.module:thing`, and the dataclass of its
    settings. The thing is imported when it is first made."""

    where: str
    settings: type[DataclassInstance] = NoSettings

    @property
    def make(self) -> Any:
        """The class or function itself."""
        return load(self.where)


E = TypeVar("E", bound=Entry)


def load(where: str) -> Any:
    """Returns the thing at `package.module:thing`; the current folder counts as a place of modules.
    ValueError where there is no such module, or no such thing in it."""
    name, _, attribute = where.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there: something that it imports is not
        raise ValueError(
            f"'{where}' names a module that is not found: go to the folder that holds it, or add that to PYTHONPATH"
        ) from None
    if not hasattr(module, attribute):
        raise ValueError(f"'{where}' names '{attribute}', which module '{name}' does not have")
    return getattr(module, attribute)


def entry_of(what: str, name: str, registry: Mapping[str, E]) -> E | Entry:
    """Returns the entry of a registered name or of `package.module:thing`; `what`: "a strategy".
    ValueError for any other name, and for a thing that cannot be called."""
    if ":" not in name:
        check_name(what, name, registry)
        return registry[name]
    thing = load(name)
    if not callable(thing):
        raise ValueError(f"{what} is a class or a function; '{name}' is {type(thing).__name__}")
    return Entry(name, settings_type(thing))


def settings_type(thing: Callable[..., object]) -> type[DataclassInstance]:
    """Returns the dataclass with which a class or function annotates its argument `settings`;
    `NoSettings` where it has no such argument. ValueError where the annotation is no dataclass of
    defaults."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    if "settings" not in inspect.signature(function).parameters:
        return NoSettings
    kind = get_type_hints(function).get("settings")
    if not (inspect.isclass(kind) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"the argument `settings` of '{thing.__name__}' is annotated with a dataclass; got {kind}")
    return kind
