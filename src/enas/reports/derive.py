"""This module derives architectures, and draws the best one beside best.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from enas.reports.drawing.render import save
from enas.runs.results import Best
from enas.spaces.registry import space_of


def derive(run: str | Path, *, settings: Any = None, listen: Callable[[Any], None] | None = None, **changes: Any) -> Path:
    """Ranks architectures of a search by its shared weights, and returns the path of best.json.
    Writes best.json, best.svg and best.png. `changes` are settings of `DeriveSettings` in place of
    the run's own."""
    from enas.runs.derive import derive as derive_run  # imports torch, so only where it is needed
    from enas.runs.loop import silent

    # `changes` may hold `jobs` too
    path = derive_run(run, settings=settings, listen=listen or silent, **changes)
    best = Best.read(path.parent)
    for ending in (".svg", ".png"):
        save(space_of(best.architecture.space), best.architecture, path.with_suffix(ending), best.marks)
    return path
