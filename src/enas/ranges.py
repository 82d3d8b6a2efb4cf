"""This module checks values that a user gives: that a number is in its range, and that a name is
one of several. It does not import torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

Settings = Any  # a frozen dataclass of settings; the entry of a registry says which one


@dataclass(frozen=True)
class Range:
    """A `Range` says which numbers a setting may have, and holds the words for them in an error."""

    rule: str
    low: float
    high: float = math.inf
    includes_low: bool = True
    includes_high: bool = True

    def contains(self, value: float) -> bool:
        """Returns whether a number is in the range. nan and infinity are in no range."""
        if not math.isfinite(value):
            return False
        above = self.low <= value if self.includes_low else self.low < value
        return above and (value <= self.high if self.includes_high else value < self.high)


def at_least(low: float) -> Range:
    return Range(f"at least {low}", low)


COUNT = at_least(1)
NOT_NEGATIVE = at_least(0)
POSITIVE = Range("above 0", 0, includes_low=False)
SHARE = Range("between 0 and 1", 0, 1)
INSIDE = Range("between 0 and 1, without both", 0, 1, includes_low=False, includes_high=False)
RATE = Range("at least 0 and below 1", 0, 1, includes_high=False)  # dropout, momentum
SIZE = Range("between 1 and 256", 1, 256)  # nodes and layers of a space: the paper has at most 12
THREADS = Range("between 1 and 1024", 1, 1024)  # torch ends the process at 100,000


@lru_cache
def literals(kind: type[object]) -> dict[str, tuple[object, ...]]:
    """Returns the possible values of every attribute whose type is a Literal, by the attribute's
    name."""
    return {name: get_args(hint) for name, hint in get_type_hints(kind).items() if get_origin(hint) is Literal}


def check_ranges(settings: object, group: str, **ranges: Range) -> None:
    """Raises a ValueError for the first attribute of `settings` that is outside its range, or that
    is none of the names of its Literal. An attribute that is None is not checked for its range.

    `group` is how the flags of these settings begin, such as "search" of `--search.epochs`. It is
    "" for flags without a group.
    """
    prefix = f"{group}." if group else ""
    for name, value in vars(settings).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{prefix}{name} is a finite number; got {value}")
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if value is not None and not allowed.contains(value):
            raise ValueError(f"{prefix}{name} is {allowed.rule}; got {value}")
    for name, values in literals(type(settings)).items():  # type: ignore[arg-type]
        check_name(prefix + name, getattr(settings, name), values)


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns the name that is most like another one, or whose words begin with its letters, as
    those of `learning_rate` do with "lr"."""

    def likeness(other: str) -> float:
        initials = "".join(word[:1] for word in other.split("_"))
        return max(SequenceMatcher(None, name[:100], known).ratio() for known in (other, initials))

    return max(names, key=likeness)


def short(value: object) -> str:
    """Returns a value as an error shows it: at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_finite(*numbers: float) -> None:
    """Raises a ValueError for the first number that is not finite."""
    for number in numbers:
        if not math.isfinite(number):
            raise ValueError(f"a number is finite; got {number}")


def check_name(what: str, name: object, names: Iterable[object]) -> None:
    """Raises a ValueError that lists the possible names where `name` is none of them. `what` says
    in the error what the name is of, such as "an op" or "a preset"."""
    names = list(names)
    if name not in names:
        raise ValueError(f"{what} is one of {', '.join(map(str, names))}; got {name!r}")
