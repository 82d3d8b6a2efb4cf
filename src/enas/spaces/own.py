"""This module describes the space of a network of a user's own, which a problem brings
(`enas.tasks.problem`), and the tree of its modules, which drawings show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OwnSpaceSettings:
    """These settings say where a problem of a user's own is made."""

    problem: str = ""
    """`module:function` that returns an enas.Problem."""


@dataclass(frozen=True)
class ModuleTree:
    """A `ModuleTree` describes a module of a network as far as drawings show it. Modules that hold
    no choice are shown without their parts."""

    name: str
    """The module's name in the module above it, or the key of an option."""
    kind: str
    """The module's class, such as "Linear"."""
    decision: str = ""
    """The name of the module's decision where it is a choice, else "".
    The `parts` of a choice are its options or blocks."""
    parts: tuple[ModuleTree, ...] = ()
