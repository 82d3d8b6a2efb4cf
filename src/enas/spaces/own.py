"""The space of a network of a user's own, which a problem brings (`enas.tasks.problem`), and the
tree of its modules, which drawings show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OwnSpaceSettings:
    """Where a problem of a user's own is made."""

    problem: str = ""
    """`module:function` that returns an enas.Problem."""


@dataclass(frozen=True)
class ModuleTree:
    """A module of a network as far as drawings show it: without what is below modules that hold no
    choice."""

    name: str
    """In the module above it, or the key of an option."""
    kind: str
    """Its class, such as "Linear"."""
    decision: str = ""
    """Where it is a choice: the name of its decision. `parts` are its options or blocks then."""
    parts: tuple[ModuleTree, ...] = ()
