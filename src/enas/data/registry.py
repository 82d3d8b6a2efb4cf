"""Data sets, by name: each is a function that gives an `ImageData` or a `TextData`, and an entry
here.

    data = load("digits")
    data = load("cifar10", "data", validation=25_000)
    data = load("ptb", "data")

Data of your own needs no entry: fill an `ImageData` or a `TextData` with your tensors.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from enas.plugins import Entry
from enas.plugins import load as load_thing
from enas.ranges import check_name


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """`make` loads it: it takes the folder first, where it needs one; then settings by name, among
    them the number `train` (None: all)."""

    about: str = ""
    needs_folder: bool = False
    how_to_get: str = ""
    kind: Literal["images", "text"] = "images"
    dimensions: Mapping[str, int] = field(default_factory=dict)
    """What a backbone has to know of it, where that is fixed (`Task.dimensions`)."""
    source: str = ""
    """For embedded data that varies between machines: the function that gives its `sha256`.
    Runs record it."""


DATASETS: dict[str, DatasetEntry] = {
    "cifar10": DatasetEntry(
        "enas.data.cifar10:load_cifar10",
        about="60,000 colour photographs of 32x32 pixels in 10 classes, 10,000 of them to test on",
        needs_folder=True,
        how_to_get="`enas data get cifar10 --data DIR` downloads 163 MiB; a copy in any official form is read as it is",
        dimensions={"channels": 3, "image_size": 32, "classes": 10},
    ),
    "digits": DatasetEntry(
        "enas.data.digits:load_digits",
        about="1,797 handwritten digits of 8x8 pixels in 10 classes, 997 of them to test on",
        needs_folder=False,
        how_to_get="comes with scikit-learn, nothing to download",
    ),
    "scattered": DatasetEntry(
        "enas.data.scattered:load_scattered",
        about="those digits at a random place of a 12x12 canvas, among pieces of others",
        needs_folder=False,
        how_to_get="is made of scikit-learn's digits, nothing to download",
    ),
    "ptb": DatasetEntry(
        "enas.data.text:load_ptb",
        about="Penn Treebank in Mikolov's preprocessing: 929,589 words of news to train on, 10,000 different ones",
        needs_folder=True,
        how_to_get="`enas data get ptb --data DIR` downloads 6 MB; ptb.train.txt or train.txt, ... are read as they are",
        kind="text",
        dimensions={"vocabulary": 10_000},
    ),
    "wikitext2": DatasetEntry(
        "enas.data.text:load_wikitext2",
        about="WikiText-2: 2,088,628 words of good Wikipedia articles to train on, 33,278 different ones",
        needs_folder=True,
        how_to_get="`enas data get wikitext2 --data DIR` downloads 4 MB; the .zip or its files are read as they are",
        kind="text",
    ),
    "text": DatasetEntry(
        "enas.data.text:load_text",
        about="a text of your own: train.txt, valid.txt and test.txt, a sentence a line, words apart by spaces",
        needs_folder=True,
        how_to_get="put train.txt, valid.txt and test.txt into a folder, and name it with --data",
        kind="text",
    ),
    "topics": DatasetEntry(
        "enas.data.text:load_topics",
        about="help texts about the Python language: some 58,000 words to train on, 2,000 different ones",
        needs_folder=False,
        how_to_get="comes with Python (pydoc_data.topics), nothing to download",
        kind="text",
        source="enas.data.text:topics_source",
    ),
}


def load(name: str, folder: str | Path | None = None, **settings: Any) -> Any:
    """Returns a registered data set, an `ImageData` or a `TextData`.

    `folder`: where the files are, for data that needs some. `settings` are those of its loader: for
    images `train` and `validation`, the numbers of images; for texts `train`, the number of tokens,
    and more for some. ValueError for an unknown name or setting, a folder that is missing or not
    asked for, files that are missing or damaged, and numbers that do not fit.
    """
    entry = _entry(name)
    known = [key for key in inspect.signature(entry.make).parameters if key != "folder"]
    for key in settings:
        if key not in known:
            raise ValueError(f"data set '{name}' has settings {', '.join(known)}; got '{key}'")
    check_folder(name, folder)
    if not entry.needs_folder:
        return entry.make(**settings)
    if folder is None:
        raise ValueError(f"data set '{name}' is read from a folder, and none was given: {entry.how_to_get}")
    return entry.make(folder, **settings)


def check_folder(name: str, folder: str | Path | None) -> None:
    """Raises a ValueError where data that comes with a library is given a folder."""
    entry = _entry(name)
    if folder is not None and not entry.needs_folder:
        raise ValueError(f"data set '{name}' {entry.how_to_get} and takes no folder; got '{folder}'")


def get(name: str, folder: str | Path) -> Path:
    """Downloads a data set into `folder` and returns the file. ValueError where there is nothing to
    download or the checksum is wrong, OSError where the network or the disk fails."""
    entry = _entry(name)
    from enas.data import download

    if name not in download.SOURCES:
        nothing = "has nothing to download: " if entry.needs_folder else ""
        raise ValueError(f"data set '{name}' {nothing}{entry.how_to_get}")
    return download.get(name, folder)


def source_of(name: str) -> dict[str, str]:
    """Returns what identifies a data set that varies from machine to machine; nothing for all
    others."""
    entry = _entry(name)
    source: dict[str, str] = load_thing(entry.source)() if entry.source else {}
    return source


def _entry(name: str) -> DatasetEntry:
    check_name("a data set", name, DATASETS)
    return DATASETS[name]
