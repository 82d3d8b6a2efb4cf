"""This module registers data sets by name. Each is a function that returns an `ImageData` or a
`TextData`, and an entry here.

    data = load("digits")
    data = load("cifar10", "data", validation=25_000)
    data = load("ptb", "data")

Data of your own needs no entry: fill an `ImageData` or a `TextData` with your tensors. A function
that does so is a data set by its path, `package.module:function`. It is given those of the settings
above that it takes, and splits the data itself.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from enas.data.settings import DataSettings, TextSettings
from enas.plugins import Entry, Registry, callable_at, entry_of
from enas.plugins import load as load_thing


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A `DatasetEntry` registers a data set. `make` loads it: it takes the folder first, where it
    needs one, and then settings by name, among them the number `train` (None: all)."""

    about: str = ""
    needs_folder: bool = False
    how_to_get: str = ""
    kind: Literal["images", "text"] = "images"
    dimensions: Mapping[str, int] = field(default_factory=dict)
    """Sizes that a backbone has to know, where they are fixed (`Task.dimensions`)."""
    source: str = ""
    """The function that gives the `sha256` of embedded data that varies between machines.
    Runs record it."""


def _made(path: str) -> DatasetEntry:
    parameters = inspect.signature(loader := callable_at("a data set", path)).parameters
    if needed := [name for name, p in parameters.items() if p.default is p.empty and name != "folder"]:
        raise ValueError(
            f"a data set is a function of its `folder`, or of settings with defaults; '{path}' needs {needed[0]}"
        )
    needs = "folder" in parameters and parameters["folder"].default is inspect.Parameter.empty
    about = (inspect.getdoc(loader) or "a data set of your own").partition("\n")[0]
    return DatasetEntry(path, about=about, needs_folder=needs, how_to_get="is made by a function of your own")


_BUILT_IN: dict[str, DatasetEntry] = {
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
        about="those digits at a random place of a 14x14 canvas, among pieces of others",
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
    "images": DatasetEntry(
        "enas.data.image_folder:load_images",
        about="images of your own: a folder per class, perhaps in folders train, valid and test",
        needs_folder=True,
        how_to_get="name the folder of the class folders with --data",
    ),
    "arrays": DatasetEntry(
        "enas.data.arrays:load_arrays",
        about="images of your own as arrays: images and labels, or x_train, y_train, ..., in .npz or .npy files",
        needs_folder=True,
        how_to_get="name the .npz, or the folder of the files, with --data",
    ),
    "hub_images": DatasetEntry(
        "enas.data.hub:load_hub_images",
        about="a saved Hugging Face data set with a column of images and one of labels",
        needs_folder=True,
        how_to_get="name the folder of save_to_disk, or of .parquet or .arrow files, with --data",
    ),
    "text": DatasetEntry(
        "enas.data.text:load_text",
        about="a text of your own: train.txt, valid.txt and test.txt, or any .txt; a sentence a line, words or characters",
        needs_folder=True,
        how_to_get="put train.txt, valid.txt and test.txt, or any .txt, into a folder, and name it with --data",
        kind="text",
    ),
    "hub_text": DatasetEntry(
        "enas.data.hub:load_hub_text",
        about="a saved Hugging Face data set with a column of texts",
        needs_folder=True,
        how_to_get="name the folder of save_to_disk, or of .parquet or .arrow files, with --data",
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
DATASETS = Registry("datasets", "a data set", _made, _BUILT_IN)


def load(name: str, folder: str | Path | None = None, **settings: Any) -> Any:
    """Returns a registered data set, an `ImageData` or a `TextData`.

    `folder` is where the files are, for data that needs some. `settings` are those of its loader:
    for images `train` and `validation`, the numbers of images; for texts `train`, the number of
    tokens; and more for some data sets. Raises a ValueError for an unknown name or setting, for a
    folder that is missing or not asked for, for files that are missing or damaged, and for numbers
    that do not fit.
    """
    entry = _entry(name)
    known = [key for key in inspect.signature(entry.make).parameters if key != "folder"]
    if name not in _BUILT_IN:
        settings = {key: value for key, value in settings.items() if key in known}
    for key in settings:
        if key not in known:
            raise ValueError(f"data set '{name}' has settings {', '.join(known)}; got '{key}'")
    check_folder(name, folder)
    if not entry.needs_folder and folder is None:
        return entry.make(**settings)
    if folder is None:
        raise ValueError(f"data set '{name}' is read from a folder, and none was given: {entry.how_to_get}")
    return entry.make(folder, **settings)


def settings_for(data: DataSettings | TextSettings) -> dict[str, Any]:
    """Returns the settings to give to the loader of `data.dataset`: those that it knows, and also
    those that it does not know but that somebody changed, so that it refuses them."""
    fields = [f for f in dataclasses.fields(data) if f.name not in ("dataset", "memory", "workers")]
    values = {f.name: getattr(data, f.name) for f in fields}
    known = inspect.signature(_entry(data.dataset).make).parameters
    kept = {f.name for f in fields if f.name in known or values[f.name] != f.default}
    kept |= {name for name in ("memory", "workers") if name in known}
    return {name: getattr(data, name) for name in kept if getattr(data, name) is not None}


def check_folder(name: str, folder: str | Path | None) -> None:
    """Raises a ValueError where data that comes with a library is given a folder."""
    entry = _entry(name)
    if folder is not None and "folder" not in inspect.signature(entry.make).parameters:
        raise ValueError(f"data set '{name}' {entry.how_to_get} and takes no folder; got '{folder}'")


def get(name: str, folder: str | Path) -> Path:
    """Downloads a data set into `folder` and returns the file. Raises a ValueError where there is
    nothing to download or the checksum is wrong, and an OSError where the network or the disk
    fails."""
    entry = _entry(name)
    from enas.data import download

    if name not in download.SOURCES:
        nothing = "has nothing to download: " if entry.needs_folder else ""
        raise ValueError(f"data set '{name}' {nothing}{entry.how_to_get}")
    return download.get(name, folder)


def source_of(name: str) -> dict[str, str]:
    """Returns the values that identify a data set which varies from machine to machine. Returns an
    empty dict for all others."""
    entry = _entry(name)
    source: dict[str, str] = load_thing(entry.source)() if entry.source else {}
    return source


def _entry(name: str) -> DatasetEntry:
    return entry_of("a data set", name, DATASETS)
