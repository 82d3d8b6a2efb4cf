"""This module reads folders of images: a folder per class, and perhaps a folder per part around
them.

    data = load("images", "flowers")              # flowers/rose/1.jpg, flowers/tulip/2.png
    data = load("images", "flowers", image_size=64, fit="crop", corrupt="skip")

Files whose names begin with a dot or an underscore are skipped. Where the decoded images are too
many for the memory, they stay on disk (image_stream.py).

In shapes, N is the number of images, C their channels and S their side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from enas.data.image_stream import ImageFiles, limit
from enas.data.images import ImageData, ImagePart, parted
from enas.data.parts import PARTS, Part
from enas.data.pictures import Fit, Frame, Kind, Source, Unreadable, decoded, frame_of, is_image, kind_of, quiet, said

Corrupt = Literal["refuse", "skip"]
Layout = Mapping[Part, Mapping[str, list[str]]]  # for each part, the files of each class
NAMES: Mapping[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
THREADS = 8  # threads that decode side by side: Pillow releases Python's lock
IN_FLIGHT = 4_000_000  # bytes of decoded images that wait to be taken


def part_named(name: str) -> Part | None:
    """Returns the part that a folder, a file or an array of this name holds."""
    return next((part for part, names in NAMES.items() if name.lower() in names), None)


def layout_of(folder: Path) -> Layout | None:
    """Returns the image files of a folder by part and class, or None where there are none. Without
    folders of parts, all are training images. A folder that holds only one folder stands for that
    one."""
    subfolders = _subfolders(folder)
    named = {part: sub for sub in subfolders if (part := part_named(sub.name))}
    if "train" in named:
        parts = {part: _classes(named[part]) for part in PARTS if part in named}
        if parts["train"]:
            return {part: classes for part, classes in parts.items() if classes}
    if classes := _classes(folder):
        return {"train": classes}
    return layout_of(subfolders[0]) if len(subfolders) == 1 else None


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def _classes(folder: Path) -> dict[str, list[str]]:
    classes = {}
    for sub in _subfolders(folder):
        with os.scandir(sub) as entries:
            files = sorted(
                e.path for e in entries if is_image(e.name) and not e.name.startswith((".", "_")) and e.is_file()
            )
        if files:
            classes[sub.name] = files
    return classes


def load_images(
    folder: str | Path,
    train: int | None = None,
    validation: int | None = None,
    image_size: int | None = None,
    fit: Fit = "resize",
    corrupt: Corrupt = "refuse",
    memory: float | None = None,
    workers: int = 0,
) -> ImageData:
    """Returns the images of a folder that has a folder per class. The arguments are as in
    `DataSettings`. Raises a ValueError where there are no such folders or a single class, where a
    file is damaged and not to be skipped, and where numbers do not fit."""
    layout = layout_of(Path(folder))
    if layout is None:
        raise ValueError(f"images are in a folder per class, such as '{Path(folder) / 'cat' / '1.png'}'; there are none")
    names = tuple(layout["train"])
    if unknown := [name for classes in layout.values() for name in classes if name not in names]:
        raise ValueError(f"every class has images to train on; '{folder}' has none of class '{unknown[0]}'")
    items = {
        part: [(file, names.index(name)) for name, files in classes.items() for file in files]
        for part, classes in layout.items()
    }
    pools, about = read_pictures(str(folder), items, image_size, fit, corrupt, limit(memory))
    about = f"class folders: {len(names)} classes, {about}"
    return parted("images", pools, names, about, train, validation, memory, workers)


def read_pictures(
    where: str,
    items: Mapping[Part, Sequence[tuple[Source, int]]],
    image_size: int | None,
    fit: Fit,
    corrupt: Corrupt,
    most: float,
) -> tuple[dict[Part, ImagePart], str]:
    """Returns the decoded images of each part, and a description of them in words. `items` holds a
    source and a label for each image. Where the images are files and take more than `most` bytes,
    each file is read to the end, to know which are whole, and the images stay on disk. Raises a
    ValueError for a single class, and for damaged files that are not to be skipped."""
    sources = [source for part in items.values() for source, _ in part]
    if len({label for _, label in items["train"]}) < 2:
        raise ValueError(f"there are at least two classes to tell apart; '{where}' has one, of {len(sources):,} images")
    with quiet():
        kinds, wrong = _kinds(sources)
        if not kinds:
            raise ValueError(f"no image of '{where}' can be read, such as {_named(wrong)}")
        frame = frame_of(kinds.values(), image_size, fit)
        stays = all(isinstance(source, str) for source in sources)
        stays = stays and len(kinds) * frame.channels * frame.size**2 > most
        images, sums, rows = _read(list(kinds), frame, wrong, keep=not stays)
    if wrong and corrupt == "refuse":
        raise ValueError(
            f"{len(wrong):,} of {len(sources):,} images of '{where}' cannot be read: {_named(wrong)}; repair or remove"
            " them, or pass them over with data.corrupt 'skip'"
        )
    if not rows:
        raise ValueError(f"no image of '{where}' can be read, such as {_named(wrong)}")
    whole = [source for source in kinds if source in rows]
    if frame.channels in (2, 4) and all(kinds[source].alpha for source in whole) and _opaque(sums, frame):
        frame = replace(frame, channels=frame.channels - 1)
        images, sums = images[:, :-1].contiguous() if not stays else images, sums[:, :-1]
    pools: dict[Part, ImagePart] = {}
    for part, pairs in items.items():
        read = [(rows[source], label) for source, label in pairs if source in rows]
        index = torch.tensor([row for row, _ in read], dtype=torch.int64)
        labels = torch.tensor([label for _, label in read], dtype=torch.int64)
        if not read:
            raise ValueError(f"no image of the {part} part of '{where}' can be read")
        files = [str(whole[row]) for row in index.tolist()]
        pools[part] = ImagePart(ImageFiles(files, frame, sums[index]) if stays else images[index], labels)
    about = f"{len(whole):,} images of {said([kinds[source] for source in whole], frame)}"
    about += {1: ", grey", 3: ""}.get(frame.channels, f", {frame.channels} channels")
    if wrong:
        about += f"; skipped {len(wrong):,} that cannot be read: {_named(wrong)}"
    return pools, about


def _kinds(sources: Sequence[Source]) -> tuple[dict[Source, Kind], dict[Source, str]]:
    """Returns what the beginnings of the readable images say, and for each of the others why it
    cannot be read."""
    kinds: dict[Source, Kind] = {}
    wrong: dict[Source, str] = {}
    for source in sources:
        try:
            kinds[source] = kind_of(source)
        except Unreadable as error:
            wrong[source] = str(error)
    return kinds, wrong


def _read(
    sources: list[Source], frame: Frame, wrong: dict[Source, str], keep: bool
) -> tuple[Tensor, Tensor, dict[Source, int]]:
    """Returns the images that are whole, (N, C, S, S), or none where they are not kept, then their
    sums (N, C, 2), and the row of each. Adds the others to `wrong`."""
    shape = (frame.channels, frame.size, frame.size)
    images = torch.empty(len(sources) if keep else 0, *shape, dtype=torch.uint8)
    sums = torch.empty(len(sources), frame.channels, 2, dtype=torch.int64)
    rows: dict[Source, int] = {}
    for source, image in zip(sources, _decoded(sources, frame), strict=True):
        if isinstance(image, Unreadable):
            wrong[source] = str(image)
            continue
        row = rows[source] = len(rows)
        flat = image.reshape(frame.channels, -1).astype(np.int64)
        sums[row] = torch.from_numpy(np.stack([flat.sum(1), (flat**2).sum(1)], 1))
        if keep:
            images[row] = torch.from_numpy(image)
    return images[: len(rows)], sums[: len(rows)], rows


def _decoded(sources: Sequence[Source], frame: Frame) -> Iterator[np.ndarray | Unreadable]:
    def one(source: Source) -> np.ndarray | Unreadable:
        try:
            return decoded(source, frame)
        except Unreadable as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        some = max(THREADS, IN_FLIGHT // (frame.channels * frame.size**2))
        for start in range(0, len(sources), some):
            yield from pool.map(one, sources[start : start + some])


def _opaque(sums: Tensor, frame: Frame) -> bool:
    """Returns whether the last channel is 255 everywhere."""
    return bool((sums[:, -1, 0] == 255 * frame.size**2).all())


def _named(wrong: Mapping[Source, str], most: int = 3) -> str:
    """Returns the names of the first damaged files, and why each cannot be read."""
    texts = [f"'{source}' ({why})" for source, why in list(wrong.items())[:most]]
    return ", ".join(texts) + (", ..." if len(wrong) > most else "")
