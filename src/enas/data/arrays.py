"""This module reads labelled images from arrays: a `.npz`, or a folder of `.npz` or `.npy` files.

    data = load("arrays", "mine.npz")     # images and labels; or x_train, y_train, x_test, y_test
    data = load("arrays", "mine")         # images.npy and labels.npy; or train.npz, test.npz

Nothing in a file is run: arrays of Python objects are refused.

In shapes, N is the number of images, H their height, W their width, C their channels, and S the
side of the square that they are turned into.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap

from enas.data.image_folder import part_named
from enas.data.images import ImageData, ImagePart, parted
from enas.data.parts import Part
from enas.data.pictures import MOST_CHANNELS, Fit, Frame, Kind, as_bytes, fitted, frame_of, said

Role = Literal["images", "labels"]
ROLES: Mapping[Role, tuple[str, ...]] = {
    "images": ("images", "image", "x", "data"),
    "labels": ("labels", "label", "y", "targets", "target"),
}
FORMS = "images and labels, or x_train, y_train, x_test, y_test"


def role_of(name: str) -> tuple[Part | None, Role] | None:
    """Returns the part, or None where the name says none, and the role of an array by its name,
    such as `x_train`, `train_images` or `labels`. Returns None for any other name."""
    words = name.lower().split("_")
    parts = [part for word in words if (part := part_named(word))]
    roles = [role for word in words for role, names in ROLES.items() if word in names]
    if len(roles) != 1 or len(parts) > 1 or len(words) != len(roles) + len(parts):
        return None
    return (parts[0] if parts else None), roles[0]


def files_of(path: Path) -> list[Path]:
    """Returns the files of arrays at a path, which is one file or a folder of files."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".npz" else []
    return sorted(p for p in path.iterdir() if p.suffix.lower() in (".npz", ".npy") and not p.name.startswith("."))


def load_arrays(
    folder: str | Path,
    train: int | None = None,
    validation: int | None = None,
    image_size: int | None = None,
    fit: Fit = "resize",
    memory: float | None = None,
    workers: int = 0,
) -> ImageData:
    """Returns the labelled images of a `.npz`, or of a folder of such files or of `.npy` files.

    Images have the shape (N, H, W), (N, H, W, C) or (N, C, H, W). They are bytes, numbers of 16
    bits, or fractions between 0 and 1. Labels have the shape (N,) and are numbers or words. The
    other arguments are as in `DataSettings`. Raises a ValueError where arrays are missing or
    damaged, have other shapes, or do not go together.
    """
    found = _named(Path(folder))
    pools: dict[Part, tuple[np.ndarray, np.ndarray]] = {}
    for part in {part for part, _ in found}:
        if len(here := [found[part, role] for role in ROLES if (part, role) in found]) < 2:
            raise ValueError(f"arrays are {FORMS}; '{folder}' has {' and '.join(name for name, _ in here)} alone")
        (name, values), (other, labels) = here
        images = _images(values, name, folder)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "biufSU":
            raise ValueError(
                f"labels are numbers or words, one per image; '{folder}' has {other} of {labels.dtype} and shape"
                f" {labels.shape} beside {len(images):,} images"
            )
        pools[part or "train"] = images, labels
    if "train" not in pools:
        raise ValueError(f"arrays are {FORMS}; '{folder}' has none to train on")
    classes = np.unique(pools["train"][1])
    if len(classes) < 2 or (classes.dtype.kind == "f" and not np.equal(classes, np.rint(classes)).all()):
        raise ValueError(f"labels are at least two classes, whole numbers or words; '{folder}' has {classes[:4].tolist()}")
    names = tuple(str(int(value) if classes.dtype.kind == "f" else value) for value in classes.tolist())
    kinds = [Kind(im.shape[2], im.shape[1], im.shape[3]) for im, _ in pools.values()]
    frame = frame_of(kinds, image_size, fit)
    parts = {part: _part(part, *pool, classes, frame, folder) for part, pool in pools.items()}
    about = f"arrays: {len(names)} classes, {sum(map(len, parts.values())):,} images of {said(kinds, frame)}"
    about += {1: ", grey", 3: ""}.get(frame.channels, f", {frame.channels} channels")
    return parted("arrays", parts, names, about, train, validation, memory, workers)


def _named(path: Path) -> dict[tuple[Part | None, Role], tuple[str, np.ndarray]]:
    """Returns the arrays by the part and the role that their names say, each with its name."""
    found: dict[tuple[Part | None, Role], tuple[str, np.ndarray]] = {}
    for file in files_of(path):
        whole = part_named(file.stem)
        for name, array in _read(file).items():
            if (at := role_of(name)) is None:
                continue
            at = (at[0] or whole, at[1])
            if at in found:
                raise ValueError(f"'{path}' has {found[at][0]} and {name} for the same: leave one out")
            found[at] = name, array
    if not found:
        raise ValueError(f"arrays are {FORMS}; there are none of these in '{path}'")
    if len({part is None for part, _ in found}) > 1:
        raise ValueError(f"arrays are {FORMS}; '{path}' has some of both: {', '.join(name for name, _ in found.values())}")
    return found


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        if file.suffix.lower() == ".npy":
            return {file.stem: open_memmap(file, mode="r")} if role_of(file.stem) else {}
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if role_of(name)}
    except (
        ValueError,
        OSError,
        EOFError,
        SyntaxError,
        LookupError,
        TypeError,
        TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"'{file}' is no whole file of arrays of numbers: {' '.join(str(error).split())[:200]}") from None


def _images(values: np.ndarray, name: str, where: str | Path) -> np.ndarray:
    """Returns images of any of the three shapes as (N, H, W, C)."""
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or not values.size:
        raise ValueError(
            f"images are (N, H, W), (N, H, W, C) or (N, C, H, W), at least one; '{name}' of '{where}' has"
            f" shape {values.shape}"
        )
    _, first, middle, last = values.shape
    # The channels are the axis beside two equal sides. Where that does not tell, they are the axis
    # with the smaller number.
    channels_last = first == middle if (first == middle) != (middle == last) else last <= first
    values = values if channels_last else values.transpose(0, 2, 3, 1)
    if values.shape[3] > MOST_CHANNELS:
        raise ValueError(f"images have at most {MOST_CHANNELS} channels; '{where}' has {name} of shape {values.shape}")
    return values


def _part(
    part: Part, images: np.ndarray, labels: np.ndarray, classes: np.ndarray, frame: Frame, where: str | Path
) -> ImagePart:
    numbers = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    if (wrong := classes[numbers] != labels).any():
        raise ValueError(f"every class is trained on; '{where}' has class {labels[wrong][0]} in its {part} part only")
    try:
        pixels = as_bytes(images)
        out = np.empty((len(pixels), frame.channels, frame.size, frame.size), np.uint8)
        for image, target in zip(pixels, out, strict=True):
            target[:] = fitted(image, frame)
    except ValueError as error:
        raise ValueError(f"the {part} images of '{where}' cannot be used: {error}") from None
    return ImagePart(torch.from_numpy(out), torch.from_numpy(numbers.astype(np.int64)))
