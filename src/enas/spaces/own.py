"""The space of a network of a user's own, which a problem brings (`enas.tasks.problem`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OwnSpaceSettings:
    """Where a problem of a user's own is made."""

    problem: str = ""
    """`module:function` that returns an enas.Problem."""
