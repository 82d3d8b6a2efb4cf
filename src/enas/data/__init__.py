"""Data sets, by name: one is a function that gives an `ImageData`, and a line here.

    data = load("digits")
    data = load("cifar10", "data", validation=25_000)

Data of your own needs no line: fill an `ImageData` with your tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.data.cifar10 import load_cifar10
from enas.data.digits import load_digits
from enas.data.images import ImageData, ImagePart, augment

__all__ = ["DATASETS", "DatasetEntry", "ImageData", "ImagePart", "augment", "get", "load"]


@dataclass(frozen=True)
class DatasetEntry:
    load: Callable[..., ImageData]
    """Takes the folder first, where it needs one; then by name the numbers `train` (None: all) and `validation`."""
    about: str
    needs_folder: bool
    how_to_get: str


DATASETS: dict[str, DatasetEntry] = {
    "cifar10": DatasetEntry(
        load_cifar10,
        about="60,000 colour photographs of 32x32 pixels in 10 classes, 10,000 of them to test on",
        needs_folder=True,
        how_to_get="`enas data get cifar10 --data DIR` downloads 163 MiB; a copy in any official form is read as it is",
    ),
    "digits": DatasetEntry(
        load_digits,
        about="1,797 handwritten digits of 8x8 pixels in 10 classes, 997 of them to test on",
        needs_folder=False,
        how_to_get="comes with scikit-learn, nothing to download",
    ),
}


def load(name: str, folder: str | Path | None = None, **settings: Any) -> ImageData:
    """A registered data set. ValueError for an unknown name, a folder that is missing or not asked for, files that are
    missing or damaged, and numbers that do not fit.

    folder: where the files are, for data that needs some. settings: of its loader: `train` and `validation` for every data
    set, the numbers of images to train and to validate on.
    """
    entry = _entry(name)
    if not entry.needs_folder:
        if folder is not None:
            raise ValueError(f"data set '{name}' {entry.how_to_get} and takes no folder; got '{folder}'")
        return entry.load(**settings)
    if folder is None:
        raise ValueError(f"data set '{name}' is read from a folder, and none was given: {entry.how_to_get}")
    return entry.load(folder, **settings)


def get(name: str, folder: str | Path) -> Path:
    """Download a data set into `folder` and return the file (download.py). ValueError where there is nothing to download or
    the checksum is wrong, OSError where the network or the disk fails."""
    entry = _entry(name)
    if not entry.needs_folder:
        raise ValueError(f"data set '{name}' {entry.how_to_get}")
    from enas.data import download

    return download.get(name, folder)


def _entry(name: str) -> DatasetEntry:
    if name not in DATASETS:
        raise ValueError(f"a data set is one of {', '.join(DATASETS)}; got '{name}'")
    return DATASETS[name]
