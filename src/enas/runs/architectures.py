"""Architectures by what names them: a run, a file, a published name. No torch in here."""

from __future__ import annotations

from pathlib import Path

from enas.runs.records import Best, Config
from enas.spaces.architecture import Architecture
from enas.spaces.published import NAMED, named
from enas.spaces.registry import space_of


def best_of(run: str | Path) -> list[Architecture]:
    """Returns the ranked architectures of a derived run."""
    Config.read(Path(run))
    return [entry.architecture for entry in Best.read(Path(run)).ranked]


def architecture_of(what: str | Path) -> Architecture:
    """Returns the best of a run, what a JSON file holds, or a published architecture by its name;
    ValueError where `what` is none of them."""
    text, path = str(what), Path(what)
    if text in NAMED:
        return named(text)
    if path.is_dir():
        trained = Config.read(path).architecture
        return best_of(path)[0] if trained is None else Architecture.from_dict(trained)
    if path.is_file():
        try:
            arch = Architecture.from_json(path.read_text())
        except UnicodeDecodeError:
            raise ValueError(f"an architecture is read from a JSON file; '{path}' is not text") from None
        return space_of(arch.space).architecture(arch.choices, dict(arch.provenance))  # one value, however it was written
    raise ValueError(f"'{text}' is not a run, an architecture file or a published architecture ({', '.join(NAMED)})")
