"""Derive, with drawings of the best architecture beside `best.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from enas.reports.drawing.render import save
from enas.runs.files import read_json
from enas.spaces.architecture import Architecture
from enas.spaces.registry import space_of


def derive(run: str | Path, *, settings: Any = None, listen: Callable[[Any], None] | None = None, **changes: Any) -> Path:
    """Ranks architectures of a search by its shared weights. Returns `best.json`; writes it, `best.svg` and `best.png`.
    `changes`: settings of `DeriveSettings` by name, in place of the run's own."""
    from enas.runs.derive import derive as derive_run  # torch with it: only where it is needed
    from enas.runs.loop import silent

    path = derive_run(run, settings=settings, listen=listen or silent, **changes)
    best = read_json(path)
    arch = Architecture.from_dict(best["ranked"][0])
    for ending in (".svg", ".png"):
        save(space_of(arch.space), arch, path.with_suffix(ending), best["marks"])
    return path
