"""This module holds the settings of a run as one value, and converts them to plain values that
JSON, a command line and a table can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object

from enas.networks.registry import BACKBONES
from enas.plugins import entry_of
from enas.procedures.settings import DeriveSettings, RetrainSettings, SearchSettings
from enas.ranges import check_name, nearest, short
from enas.runs.before import DEFAULTS
from enas.spaces.registry import SPACES
from enas.state import Record, Values
from enas.strategies.registry import STRATEGIES
from enas.tasks.registry import TASKS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")
N = TypeVar("N", bound="DataclassInstance")
D = TypeVar("D", bound="DataclassInstance")
T = TypeVar("T", bound="DataclassInstance")
P = TypeVar("P", bound="DataclassInstance")


@dataclass(frozen=True)
class RetrainConfig(RetrainSettings, Generic[N, T]):
    """These settings describe the training from scratch, with its own network and batches."""

    network: N = field(kw_only=True)
    """The network that the architecture is built into."""
    task: T = field(kw_only=True)
    """Batches and augmentation of the training from scratch."""


@dataclass(frozen=True)
class Config(Generic[S, N, D, T, P]):
    """A `Config` holds every setting of a run."""

    space: S
    """The search space."""
    network: N
    """The supernet around the cells."""
    data: D
    """The data set, and how it is split."""
    task: T
    """Batches, augmentation and reward."""
    search: SearchSettings
    """Length and rhythm of the two phases."""
    strategy: P
    """Settings by which the strategy draws architectures, and learns."""
    derive: DeriveSettings
    """Choice of the architecture after the search."""
    retrain: RetrainConfig[N, T]
    """Training of the architecture from scratch."""


Settings = Config[Any, Any, Any, Any, Any]


@dataclass(frozen=True)
class Names:
    """A `Names` value says which parts a run is put together from: registered names, or
    `package.module:thing`."""

    space: str
    network: str
    task: str
    strategy: str = "reinforce"

    def settings(self) -> Settings:
        """Returns settings of the right types, every one at the default of its class."""
        network, task = entry_of("a network", self.network, BACKBONES), entry_of("a task", self.task, TASKS)
        return Config(
            space=entry_of("a space", self.space, SPACES).settings(),
            network=network.settings(),
            data=task.data(),
            task=task.settings(),
            search=SearchSettings(),
            strategy=entry_of("a strategy", self.strategy, STRATEGIES).settings(),
            derive=DeriveSettings(),
            retrain=RetrainConfig(network=network.settings(), task=task.settings()),
        )


@dataclass(frozen=True)
class Preset:
    """A `Preset` is a named combination of parts, whose `recipes` make its settings. `threads` is
    the number of CPU threads where more do not pay, or None for all cores."""

    about: str
    names: Names
    recipes: Mapping[str, Callable[[], Settings]]
    default: str = "quick"
    threads: int | None = None


def types_of(settings: Settings) -> Any:
    """Returns the type of these settings with the types of their parts. A command line is made from
    it."""
    s = settings
    return Config[type(s.space), type(s.network), type(s.data), type(s.task), type(s.strategy)]  # type: ignore[misc]


def retrain_types_of(settings: Settings) -> Any:
    """Returns the type of the settings of the training from scratch, with the types of their
    parts."""
    return RetrainConfig[type(settings.retrain.network), type(settings.retrain.task)]  # type: ignore[misc]


# ----------------------------------------------------------------------- settings as plain values
def to_dict(settings: DataclassInstance) -> Record:
    """Returns nested dataclasses as nested dicts, which JSON can hold."""
    return dataclasses.asdict(settings)


def as_recorded(like: Any, data: Values) -> Any:
    """Returns the settings that a run recorded, with the types of `like`. A setting that is missing
    did not exist then. It gets the value that describes what the code did then, which is the
    default of its class unless `DEFAULTS` has another."""

    def earlier(settings: Any, recorded: Any) -> Any:
        recorded = recorded if isinstance(recorded, Mapping) else {}  # from_dict says what is wrong
        values = {}
        for f in dataclasses.fields(settings):
            value = getattr(settings, f.name)
            default = DEFAULTS.get(f.name, f.default)
            if dataclasses.is_dataclass(value):
                values[f.name] = earlier(value, recorded.get(f.name))
            elif f.name not in recorded and default is not dataclasses.MISSING:
                values[f.name] = default
        return dataclasses.replace(settings, **values)

    return from_dict(earlier(like, data), data)


def from_dict(like: Any, data: Any, where: str = "") -> Any:
    """Returns `like`, a dataclass instance, with the values of `data`. Raises a ValueError for a
    setting that is unknown or of the wrong type."""
    if not isinstance(data, Mapping):
        raise ValueError(f"settings '{where or 'of a run'}' are a mapping; got {short(data)}")
    known = {f.name: getattr(like, f.name) for f in dataclasses.fields(like)}
    hints, values = get_type_hints(type(like)), dict[str, Any]()
    for name, value in data.items():
        path = f"{where}.{name}" if where else name
        if name not in known:
            hint = f": perhaps you meant {nearest(str(name), known)}" if known else ""
            raise ValueError(f"there is no setting '{path}'; there are {', '.join(known) or 'none'}{hint}")
        old = known[name]
        if dataclasses.is_dataclass(old):
            values[name] = from_dict(old, value, path)
        elif not _fits(hints.get(name, type(old)), value):
            kind = hints.get(name, type(old))
            if get_origin(kind) is Literal:
                check_name(f"setting '{path}'", value, get_args(kind))
            raise ValueError(f"setting '{path}' is of type {getattr(kind, '__name__', kind)}; got {short(value)}")
        elif isinstance(old, float) and isinstance(value, int | float):  # also those of NumPy
            values[name] = float(value)
        else:
            values[name] = _frozen(value)
    return dataclasses.replace(like, **values)


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _fits(kind: Any, value: object) -> bool:
    """Returns whether a value that JSON can hold is of a type that a field of settings may have."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if origin is Literal:
        return any(type(value) is type(allowed) and value == allowed for allowed in inside)
    if origin is Annotated:
        return _fits(inside[0], value)
    if origin in (Union, UnionType):
        return any(_fits(part, value) for part in inside)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        kinds = repeat(inside[0], len(value)) if inside[-1] is ... else inside
        return (inside[-1] is ... or len(value) == len(inside)) and all(map(_fits, kinds, value))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is (origin or kind)


def flat(settings: DataclassInstance, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields the dotted name and the value of every setting, in order."""
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        name = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def described(settings: DataclassInstance, prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Yields the dotted name, the value and the docstring of every setting."""
    classes = [c for c in reversed(type(settings).__mro__) if dataclasses.is_dataclass(c)]
    texts = {p.arg_name: p.description or "" for c in classes for p in parse_from_object(c).params}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        name = f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from described(value, f"{name}.")
        else:
            yield name, value, " ".join(texts.get(f.name, "").split())


def difference(a: DataclassInstance, b: DataclassInstance) -> list[tuple[str, object, object]]:
    """Returns the settings in which two recipes differ, with both values."""
    other = dict(flat(b))
    return [(name, value, other[name]) for name, value in flat(a) if value != other[name]]
