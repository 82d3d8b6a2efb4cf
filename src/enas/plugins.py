"""This module finds the thing that a name stands for. A name is registered, either here or by an
installed package, or it is the `package.module:thing` of a user's own code.

An installed package registers things by entry points of the groups `enas.spaces`, `enas.networks`,
`enas.strategies`, `enas.ops`, `enas.datasets`, `enas.presets` and `enas.tasks`. Nothing of a
package is imported before one of its names is asked for. This module does not import torch.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from enas.blame import blamed
from enas.ranges import check_name

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class NoSettings:
    """`NoSettings` is the settings class of things that have nothing to set."""


@dataclass(frozen=True)
class Entry:
    """An `Entry` of a registry says where a thing is, as `package.module:thing`, and which
    dataclass holds its settings. The thing is imported when `make` is first read."""

    where: str
    settings: type[DataclassInstance] = NoSettings

    @property
    def make(self) -> Any:
        """Returns the class or function itself."""
        if self.where.startswith("enas."):
            trust(self.where)  # our own code may be imported, also where a file names it
        return load(self.where)


E = TypeVar("E")


class Registry(MutableMapping[str, E]):
    """A `Registry` maps names to entries. The entries are built in, or an installed package adds
    them.

    - `group`: the group of entry points that packages register under.
    - `what`: what errors call an entry, such as "a strategy".
    - `made`: a function that makes the entry of `package.module:thing`.
    - `reserved`: more names that no package may take.
    """

    def __init__(
        self,
        group: str,
        what: str,
        made: Callable[[str], E],
        entries: dict[str, E],
        reserved: Iterable[str] = (),
    ):
        self.group, self.what, self.made = group, what, made
        self._entries, self._reserved = dict(entries), frozenset(reserved)

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        """Returns the entry points of installed packages, by name. Raises a ValueError for a name
        that is already taken."""
        from importlib.metadata import entry_points  # slow to import, so only where it is needed

        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=f"enas.{self.group}"):
            if point.name in found or point.name in self._entries or point.name in self._reserved:
                raise ValueError(
                    f"package '{_package(point)}' registers {self.what} '{point.name}', a name that is already"
                    " registered: uninstall the package, or have it take another name"
                )
            if ":" not in point.value or ":" in point.name:
                raise ValueError(
                    f"package '{_package(point)}' registers {self.what} as `name = package.module:thing`; got"
                    f" '{point.name} = {point.value}'"
                )
            found[point.name] = point
        return found

    def __getitem__(self, name: str) -> E:
        if name not in self._entries:
            point = self._points[name]
            trust(f"{point.module}:{point.attr}")  # whoever installed the package lets it run
            try:
                self._entries[name] = self.made(f"{point.module}:{point.attr}")
            except (ValueError, ImportError, AttributeError) as error:
                raise ValueError(
                    f"package '{_package(point)}' registers {self.what} '{name}', which cannot be used: {error}"
                ) from None
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._entries, *self._points]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __setitem__(self, name: str, entry: E) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def load(where: str) -> Any:
    """Returns the thing at `package.module:thing`. Modules are also looked for in the current
    folder. Raises a ValueError where there is no such module, or no such thing in it, and where the
    module cannot be imported."""
    name, _, attribute = where.partition(":")
    if not DOTTED.fullmatch(where):
        raise ValueError(f"code of yours is named as package.module:thing, with no folder before it; got '{where}'{FOUND}")
    _check_trusted(where)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with nullcontext() if where.startswith("enas.") else blamed(f"importing '{name}'"):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there: something that it imports is not
            if name.endswith(".py"):
                raise ValueError(f"a module is named without .py: {name[:-3]}:{attribute}; got '{where}'") from None
            raise ValueError(f"'{where}' names a module that is not found{FOUND}") from None
    if not hasattr(module, attribute):
        raise ValueError(f"'{where}' names '{attribute}', which module '{name}' does not have")
    return getattr(module, attribute)


def entry_of(what: str, name: str, registry: Registry[E]) -> E:
    """Returns the entry of a registered name or of `package.module:thing`. `what` says in errors
    what the name is of, such as "a strategy". Raises a ValueError for any other name, and for a
    thing that cannot be called."""
    if ":" in name:
        return registry.made(name)
    check_name(what, name, registry)
    return registry[name]


def check_call(rule: str, thing: Callable[..., object], *arguments: object, **named: object) -> None:
    """Raises a ValueError with this rule where a class or function of a user's own cannot be called
    with these arguments."""
    try:
        inspect.signature(thing).bind(*arguments, **named)
    except TypeError as error:
        raise ValueError(f"{rule}: {error}") from None


# ------------------------------------------------------------------ code that a file names
FOUND = ": go to the folder that holds it, or add that to PYTHONPATH"
DOTTED = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
_unasked: ContextVar[frozenset[str]] = ContextVar("unasked", default=frozenset())
_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())
_asks: ContextVar[Callable[[str], bool]] = ContextVar("asks", default=lambda path: False)


def dotted(data: object) -> frozenset[str]:
    """Returns every string of the form `package.module:thing` in a value that came from JSON."""
    found, left = set[str](), [data]
    while left:
        part = left.pop()
        if isinstance(part, str) and len(part) < 500 and DOTTED.fullmatch(part):
            found.add(part)
        elif isinstance(part, Mapping):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            left += part
    return frozenset(found)


def named_by_file(data: object) -> None:
    """Takes note of the code that a file names. Such code is imported only after the user was
    asked, because otherwise whoever wrote the file would choose what runs here."""
    _unasked.set(_unasked.get() | dotted(data))


def trust(*paths: str) -> None:
    """Lets the code at these paths be imported, even where a file names it."""
    _trusted.set(_trusted.get() | set(paths))


@contextmanager
def asking(ask: Callable[[str], bool], trusted: Iterable[str] = (), all_of_them: bool = False) -> Iterator[None]:
    """Lets `ask` decide, inside the `with` block, whether code that a file names may be imported.
    `trusted` are words that the user typed: code that is named there may be imported without
    asking."""
    typed = {word.rpartition("=")[2] for word in trusted}
    before = _unasked.get(), _trusted.get(), _asks.get()
    _asks.set(lambda path: all_of_them or path in typed or ask(path))
    try:
        yield
    finally:
        for variable, value in zip((_unasked, _trusted, _asks), before, strict=True):
            variable.set(value)  # type: ignore[attr-defined]


def _check_trusted(path: str) -> None:
    if path in _unasked.get() - _trusted.get() and not _asks.get()(path):
        raise ValueError(
            f"a file that was not made here names code, '{path}', which would be imported and run: look at it first, then"
            " say so with --trust (in Python: enas.plugins.trust)"
        )
    trust(path)


def callable_at(what: str, path: str) -> Callable[..., Any]:
    """Returns the class or function at `package.module:thing`. Raises a ValueError for anything
    else."""
    thing = load(path)
    if not callable(thing):
        raise ValueError(f"{what} is a class or a function; '{path}' is {type(thing).__name__}")
    return thing  # type: ignore[no-any-return]


def settings_type(thing: Callable[..., object]) -> type[DataclassInstance]:
    """Returns the dataclass with which a class or function annotates its argument `settings`, or
    `NoSettings` where it has no such argument. Raises a ValueError where the annotation is no
    dataclass."""
    function = thing.__init__ if inspect.isclass(thing) else thing
    if "settings" not in inspect.signature(function).parameters:
        return NoSettings
    kind = get_type_hints(function).get("settings")
    if not (inspect.isclass(kind) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"the argument `settings` of '{thing.__name__}' is annotated with a dataclass; got {kind}")
    return kind
