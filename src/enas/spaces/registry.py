"""This module registers the search spaces. Each space is one file. Every law test runs on each
space that has a line here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from enas.plugins import Entry, NoSettings, Registry, callable_at, entry_of, settings_type
from enas.ranges import Settings
from enas.spaces.architecture import Architecture
from enas.spaces.conv_macro import ConvMacroSettings
from enas.spaces.conv_micro import ConvMicroSettings
from enas.spaces.nasbench201 import NasBench201Settings
from enas.spaces.nasbench201 import from_string as nasbench201_of
from enas.spaces.nasbench_macro import NasBenchMacroSettings
from enas.spaces.nasbench_macro import from_string as nasbench_macro_of
from enas.spaces.own import OwnSpaceSettings
from enas.spaces.rnn_cell import RnnCellSettings
from enas.spaces.space import SearchSpace


@dataclass(frozen=True)
class Benchmark:
    """A `Benchmark` describes a published table. It says for every architecture of a space, at the
    space's default settings, what the architecture reaches when it is trained from scratch."""

    parse: Callable[[str], Architecture]  # reads the published form of an architecture
    form: Literal["csv", "json"]  # form of the table's file (enas.grading.oracle.read_table)
    reward: str  # column that a search is told as the reward, unless another is asked for
    score: str  # column by which what a search found is judged, unless another is asked for
    note: str = ""  # what a reader of the figures has to know


@dataclass(frozen=True)
class SpaceEntry(Entry):
    """A `SpaceEntry` registers a search space, with small settings for tests and, where there is
    one, its published table."""

    small: tuple[Settings, ...] = ()
    """Settings of spaces that are small enough to enumerate, for tests.
    It is empty for a space that a user brings."""
    benchmark: Benchmark | None = None


def _made(path: str) -> SpaceEntry:
    thing = callable_at("a space", path)
    needed = [name for name, p in inspect.signature(thing).parameters.items() if p.default is p.empty]
    if set(needed) - {"settings"}:
        raise ValueError(f"a space is a function of its `settings`, or of nothing; '{path}' takes {', '.join(needed)}")
    return SpaceEntry(path, settings_type(thing))


_BUILT_IN = {
    "conv_micro": SpaceEntry(
        "enas.spaces.conv_micro:conv_micro",
        ConvMicroSettings,
        small=(ConvMicroSettings(num_nodes=1, ops=("sep_conv_3x3", "max_pool_3x3")),),
    ),
    "conv_macro": SpaceEntry(
        "enas.spaces.conv_macro:conv_macro",
        ConvMacroSettings,
        small=(
            ConvMacroSettings(num_layers=3, ops=("conv_3x3", "max_pool_3x3")),
            ConvMacroSettings(num_layers=3, ops=("sep_conv_5x5", "avg_pool_3x3"), form="released"),
        ),
    ),
    "rnn_cell": SpaceEntry(
        "enas.spaces.rnn_cell:rnn_cell",
        RnnCellSettings,
        small=(
            RnnCellSettings(num_nodes=3, ops=("tanh", "identity")),
            RnnCellSettings(num_nodes=2, fixed_input=True, output="all", sharing="edge_op"),
        ),
    ),
    "nasbench201": SpaceEntry(
        "enas.spaces.nasbench201:nasbench201",
        NasBench201Settings,
        small=(NasBench201Settings(num_nodes=3, ops=("none", "skip_connect", "nor_conv_3x3")),),
        benchmark=Benchmark(nasbench201_of, "csv", reward="cifar10_valid_ep12", score="cifar10_test_ep200"),
    ),
    "nasbench_macro": SpaceEntry(
        "enas.spaces.nasbench_macro:nasbench_macro",
        NasBenchMacroSettings,
        small=(NasBenchMacroSettings(num_layers=4), NasBenchMacroSettings(num_layers=2, ops=("identity", "mb6_k5"))),
        benchmark=Benchmark(
            nasbench_macro_of,
            "json",
            reward="test_acc_1",
            score="mean_acc",
            note="NAS-Bench-Macro publishes test accuracy only: every column, that of rewards too, is of test images,"
            " which no search with shared weights here sees",
        ),
    ),
    "own": SpaceEntry("enas.tasks.problem:space_from_problem", OwnSpaceSettings),
}


def _op(path: str) -> Entry:
    callable_at("an op", path)
    return Entry(path)


SPACES = Registry("spaces", "a space", _made, _BUILT_IN)
OPS = Registry[Entry](
    "ops",
    "an op",
    _op,
    {},
    reserved=dict.fromkeys(op for entry in _BUILT_IN.values() for op in getattr(entry.settings, "ops", ())),
)
"""The ops that installed packages add. The built-in ones are in `enas.networks.ops`."""


def op_names() -> list[str]:
    """Returns the names of all registered ops."""
    names = (op for entry in _BUILT_IN.values() for op in getattr(entry.settings, "ops", ()))
    return list(dict.fromkeys([*names, *OPS]))


def space_of(spec: Mapping[str, object]) -> SearchSpace:
    """Returns the space that an architecture names: `space_of(arch.space)`. Raises a ValueError for
    an unknown name or setting."""
    return make_space(spec.get("name"), settings_of(spec))


def make_space(name: object, settings: Settings) -> SearchSpace:
    """Returns the space of a registered name, or of `package.module:thing`, for its settings.
    Raises a ValueError for an unknown name, and where the function returns no SearchSpace."""
    entry = entry_of("the space of an architecture", str(name), SPACES)
    space = entry.make() if isinstance(settings, NoSettings) else entry.make(settings)
    if not isinstance(space, SearchSpace):
        raise ValueError(f"a space is a function that returns a SearchSpace; '{name}' returns {type(space).__name__}")
    # The space takes the name that it was asked for, so that architectures can find it again.
    return space if space.name == name or entry.settings is OwnSpaceSettings else dataclasses.replace(space, name=str(name))


def settings_of(spec: Mapping[str, object]) -> Settings:
    """Returns the settings of the space that an architecture names. Raises a ValueError as
    `space_of` does."""
    name = str(spec.get("name"))
    entry = entry_of("the space of an architecture", name, SPACES)
    settings = {key: tuple(v) if isinstance(v, list | tuple) else v for key, v in spec.items() if key != "name"}
    known = {f.name: f for f in dataclasses.fields(entry.settings)}
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"space '{name}' has settings {', '.join(known)}; got '{key}'")
        expected = type(known[key].default)
        if known[key].default is not dataclasses.MISSING and not isinstance(value, expected):
            raise ValueError(f"setting '{key}' of space '{name}' is of type {expected.__name__}; got {value!r}")
    return entry.settings(**settings)
