"""This module finds architectures by what names them: a run, a file, a published name or a
published form. It does not import torch."""

from __future__ import annotations

import os
from pathlib import Path

from enas.runs.records import Config
from enas.runs.results import Best
from enas.spaces import forms
from enas.spaces.architecture import Architecture
from enas.spaces.published import NAMED, named


def best_of(run: str | Path) -> list[Architecture]:
    """Returns the ranked architectures of a derived run."""
    Config.read(Path(run))
    return [entry.architecture for entry in Best.read(Path(run)).ranked]


def is_run(what: str | Path | None) -> bool:
    """Returns whether `what` is a folder. A text that is too long for a path is no folder."""
    return what is not None and os.path.isdir(what)


def architecture_of(what: str | Path) -> Architecture:
    """Returns the architecture that `what` names: the best of a run, the content of a JSON file, a
    published architecture by its name, or a text in a published form (`enas.spaces.forms`). Raises
    a ValueError where `what` is none of these."""
    text, path = str(what), Path(what)
    if text in NAMED:
        return named(text)
    if is_run(text):
        trained = Config.read(path).architecture
        return best_of(path)[0] if trained is None else Architecture.from_dict(trained)
    if os.path.isfile(text):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            raise ValueError(f"an architecture is read from a text file; '{path}' is not text") from None
        if (arch := forms.read(text)) is not None:
            return arch
        return Architecture.from_json(text)  # raises an error that says what is wrong
    if (arch := forms.read(text)) is not None:
        return arch
    text = text if len(text) <= 60 else f"{text[:57]}..."
    raise ValueError(
        f"'{text}' is not a run, an architecture file, a published form or a published architecture ({', '.join(NAMED)})"
    )
