"""This module reads CIFAR-10 (Krizhevsky 2009) from the published files, in their python form or
their binary form, packed or not.

Nothing is written to disk: an archive is read as a stream. Nothing in a file is trusted: pickles
are read as data (unpickle.py), sizes are checked before memory is spent, and a tar member that is a
link or lies elsewhere is refused. A wrong pixel is noticed only in an archive, which has a
checksum.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch

from enas.data.images import ImageData, ImagePart, balanced_order
from enas.data.unpickle import Array, read_pickle

IMAGES_A_FILE = 10_000
CLASSES = 10
SIDE = 32
PIXELS = 3 * SIDE * SIDE  # per image: all red ones row by row, then green, then blue
RECORD = 1 + PIXELS  # a label, and the image


def load_cifar10(folder: str | Path, validation: int = 5000, train: int | None = None) -> ImageData:
    """Returns CIFAR-10 with the last `validation` of the 50,000 training images kept apart, as in
    ENAS's released code (45,000 and 5,000), and with the official 10,000 test images.

    `folder` is as in `read_cifar10`. `train` is the number of the remaining training images to use:
    a random subset that is balanced over the classes and the same each time. None uses all. Raises
    a ValueError where files are missing or damaged, or the numbers do not fit.
    """
    pool, test, class_names = read_cifar10(folder)
    total = len(pool)
    if not 1 <= validation < total:
        raise ValueError(f"1 to {total - 1:,} of CIFAR-10's {total:,} training images can validate; got {validation:,}")
    rest, kept = pool[: total - validation], pool[total - validation :]
    if train is not None:
        if not 1 <= train <= len(rest):
            raise ValueError(
                f"CIFAR-10 has {total:,} training images of which {validation:,} validate, so 1 to {len(rest):,} can train;"
                f" got {train:,}"
            )
        rest = rest[balanced_order(rest.labels, seed=0)[:train].sort().values]
    return ImageData("cifar10", rest, kept, test, class_names)


def read_cifar10(folder: str | Path) -> tuple[ImagePart, ImagePart, tuple[str, ...]]:
    """Returns the 50,000 training images in official order, the 10,000 test images, and the class
    names.

    `folder` holds `cifar-10-batches-py/`, `cifar-10-batches-bin/`, `cifar-10-python.tar.gz` or
    `cifar-10-binary.tar.gz` (the first of these that is there is read), or it is one of these
    itself. Raises a ValueError in one line where files are missing or damaged.
    """
    path = Path(folder)
    form, where, files = _open(path)
    images = torch.empty(6 * IMAGES_A_FILE, 3, SIDE, SIDE, dtype=torch.uint8)
    labels = torch.empty(6 * IMAGES_A_FILE, dtype=torch.int64)
    class_names: tuple[str, ...] = ()
    seen = set()
    for name, data in files:
        try:
            if name == form.meta:
                class_names = form.read_names(data)
                _check_names(class_names)
            else:
                start = form.batches.index(name) * IMAGES_A_FILE
                rows = slice(start, start + IMAGES_A_FILE)
                pixels, classes = form.read_batch(data)
                _check_labels(classes)
                images[rows].numpy()[:] = pixels.reshape(-1, 3, SIDE, SIDE)
                labels[rows].numpy()[:] = classes
        except ValueError as error:
            holds = "the names of the 10 classes" if name == form.meta else f"{IMAGES_A_FILE:,} images of {RECORD:,} bytes"
            raise ValueError(
                f"{name} holds {holds}; got {len(data):,} bytes in '{where / name}': {error}; the file is damaged"
                " or not CIFAR-10's: download it again"
            ) from None
        seen.add(name)
    missing = [name for name in (*form.batches, form.meta) if name not in seen]
    if missing:
        raise ValueError(f"CIFAR-10 is 7 files in {form.folder}/; '{where}' lacks {', '.join(missing)}: download it again")
    split = 5 * IMAGES_A_FILE
    return ImagePart(images[:split], labels[:split]), ImagePart(images[split:], labels[split:]), class_names


# ---------------------------------------------------------------------------------- the two forms
def _python_batch(data: bytes) -> tuple[np.ndarray, list[int]]:
    batch = read_pickle(data)
    if not isinstance(batch, dict) or not isinstance(batch.get("data"), Array) or not isinstance(batch.get("labels"), list):
        raise ValueError('no "data" and "labels"')
    pixels, labels = batch["data"].numpy(), batch["labels"]
    if pixels.shape != (IMAGES_A_FILE, PIXELS) or len(labels) != IMAGES_A_FILE:
        raise ValueError(f"pixels of shape {pixels.shape} with {len(labels):,} labels")
    return pixels, labels


def _python_names(data: bytes) -> tuple[str, ...]:
    meta = read_pickle(data)
    if not isinstance(meta, dict) or not isinstance(meta.get("label_names"), list):
        raise ValueError('no "label_names"')
    return tuple(meta["label_names"])


def _binary_batch(data: bytes) -> tuple[np.ndarray, list[int]]:
    if len(data) != IMAGES_A_FILE * RECORD:
        raise ValueError(f"it has {IMAGES_A_FILE * RECORD:,} where it is whole")
    records = np.frombuffer(data, np.uint8).reshape(IMAGES_A_FILE, RECORD)
    return records[:, 1:], records[:, 0].tolist()


def _binary_names(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode().split())


@dataclass(frozen=True)
class Form:
    """A `Form` describes one of the forms in which the data set is published."""

    folder: str
    archive: str
    batches: tuple[str, ...]  # names of five files to train on and one to test on
    meta: str
    read_batch: Callable[[bytes], tuple[np.ndarray, list[int]]]  # pixels (N, 3072) and labels
    read_names: Callable[[bytes], tuple[str, ...]]  # both functions raise a ValueError


PYTHON = Form(
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"),
    "batches.meta",
    _python_batch,
    _python_names,
)
BINARY = Form(
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"),
    "batches.meta.txt",
    _binary_batch,
    _binary_names,
)
FORMS = (PYTHON, BINARY)


def _check_labels(labels: list[int]) -> None:
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise ValueError(f"labels other than 0 to {CLASSES - 1}")


def _check_names(names: tuple[str, ...]) -> None:
    if len(names) != CLASSES or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{len(names)} of them")


# -------------------------------------------------------------------------------- where files are
def _open(path: Path) -> tuple[Form, Path, Iterator[tuple[str, bytes]]]:
    """Returns the form, the folder or archive, and the files in it by name."""
    for form in FORMS:
        for folder in (path / form.folder, path):
            named = folder.name == form.folder and folder.is_dir()
            if named or any((folder / name).is_file() for name in form.batches):
                return form, folder, _unpacked(form, folder)
    path = next((path / form.archive for form in FORMS if (path / form.archive).is_file()), path)
    if path.is_file():
        return _packed(path)
    expected = ", ".join(f"{form.folder}/ or {form.archive}" for form in FORMS)
    raise ValueError(f"no CIFAR-10 in '{path}': expected {expected}; `enas data get cifar10 --data {path}` downloads it")


def _limit(form: Form, name: str) -> int:
    """Returns the most bytes that a file may have: the pixels, and for each image a label and a
    file name."""
    return 100_000 if name == form.meta else 100_000 + IMAGES_A_FILE * 3_600


def _read(file: IO[bytes], form: Form, name: str, where: Path) -> bytes:
    data = file.read(_limit(form, name) + 1)
    if len(data) > _limit(form, name):
        raise ValueError(
            f"{name} of CIFAR-10 has at most {_limit(form, name):,} bytes; '{where / name}' has more: download it again"
        )
    return data


def _unpacked(form: Form, folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in (*form.batches, form.meta):
        if (folder / name).is_file():
            with open(folder / name, "rb") as file:
                yield name, _read(file, form, name, folder)


def _packed(path: Path) -> tuple[Form, Path, Iterator[tuple[str, bytes]]]:
    """Returns what `_open` returns, for an archive. It reads one member ahead, because that shows
    the form."""
    members = _members(path)
    first = next(members, None)
    if first is None:
        raise ValueError(f"'{path}' is a .tar.gz without a file of CIFAR-10: download it again")

    def files() -> Iterator[tuple[str, bytes]]:
        yield first[1:]
        for form, name, data in members:
            if form is not first[0]:
                raise ValueError(f"'{path}' holds two forms of CIFAR-10: pack {form.folder} alone")
            yield name, data

    return first[0], path, files()


class _Bounded:
    """A `_Bounded` stream stops the reading where a small archive unpacks to something vast."""

    def __init__(self, stream: gzip.GzipFile, limit: int):
        self.stream, self.left = stream, limit

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.ReadError("it unpacks to more than CIFAR-10")
        return data


def _members(path: Path) -> Iterator[tuple[Form, str, bytes]]:
    """Yields the form, the name and the content of each file of CIFAR-10 in a .tar.gz, in its
    order."""
    seen = set()
    try:
        with gzip.open(path) as unzipped:
            stream = _Bounded(unzipped, 7 * _limit(PYTHON, PYTHON.batches[0]))
            with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]  # read only
                for member in archive:
                    form, name = _place(member, path)
                    if form is None or name not in (*form.batches, form.meta):
                        continue
                    if name in seen:
                        raise ValueError(f"'{path}' holds {name} twice: download it again")
                    seen.add(name)
                    file = archive.extractfile(member)  # a stream, nothing goes to disk
                    assert file is not None, member.name  # _place lets through regular files only
                    yield form, name, _read(file, form, name, path)
            while stream.read(1 << 20):  # to the end, where gzip checks its checksum
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"'{path}' is not a whole .tar.gz archive ({error}): download it again") from None


def _place(member: tarfile.TarInfo, path: Path) -> tuple[Form | None, str]:
    """Returns the form and the name of the file that a member holds. The form is None for a folder.
    Raises a ValueError for links, devices and other places."""
    folder, _, name = member.name.removeprefix("./").partition("/")
    form = next((form for form in FORMS if form.folder == folder), None)
    if member.isdir() and not name and (form or folder in ("", ".")):
        return None, ""
    if form is None or not member.isreg() or "/" in name or name in ("", ".", ".."):
        raise ValueError(
            f"an archive of CIFAR-10 holds files in {PYTHON.folder}/ or {BINARY.folder}/; '{path}' holds"
            f" {member.name[:80]!r}{'' if member.isreg() or member.isdir() else ', a link or device'}: download it again"
        )
    return form, name
