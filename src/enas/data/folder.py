"""This module tells what a folder or a file holds, and which registered data set reads it. It does
not import torch.

    found = recognised("flowers")         # Found("images", "images")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Holds = Literal["images", "text", "table"]
FORMS = (
    "a folder of images per class (.png, .jpg, .webp, .bmp, .tif, .npy), arrays of images and labels (.npz, .npy), a saved"
    " Hugging Face data set (save_to_disk, .parquet, .arrow), texts (.txt), CIFAR-10, the Penn Treebank or WikiText-2 as"
    " published"
)
PTB_BEGINS = (b"aer banknote berlitz calloway", b"consumers may want to move", b"no it was n't black monday")
OFFICIAL = ("train", "valid", "test")


@dataclass(frozen=True)
class Found:
    """A `Found` value says what a path holds."""

    dataset: str
    """The registered data set that reads it, or "" for a table."""
    holds: Holds


def recognised(path: str | Path, kind: Literal["images", "text"]) -> Found:
    """Returns what a path holds, by the names of its files. Where it holds several things, returns
    one of the `kind` that is wanted. Raises a ValueError that lists the forms that are read where
    the path holds none of them, or only something of another kind."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no folder or file '{path}'")
    first: Found | None = None
    for found in everything(path):
        if found.holds == kind:
            return found
        first = first or found
    if first is None:
        raise ValueError(f"'{path}' holds nothing that is read as {kind}; what is read: {FORMS}")
    if first.holds == "table":
        raise ValueError(
            f"'{path}' is a table; presets learn from images or text: give enas.data.tables.load_table's tensors to a"
            " problem of your own, as examples/tabular.py does"
        )
    raise ValueError(f"'{path}' holds {first.holds}, read as data set '{first.dataset}'; this preset learns from {kind}")


def look(path: str | Path) -> str:
    """Returns one line that says what a path holds, how it is read, and which files are damaged.
    This reads all of it. Raises a ValueError as `recognised` does, and where the path cannot be
    read."""
    from enas.data.registry import DATASETS, load

    path = Path(path)
    found = next(everything(path), None) if path.exists() else None
    if found is None or not found.dataset:
        recognised(path, "images")  # says what is wrong
    assert found is not None
    known = inspect.signature(DATASETS[found.dataset].make).parameters
    data = load(found.dataset, path, **({"corrupt": "skip"} if "corrupt" in known else {}))
    if found.holds == "text":
        counts = " / ".join(f"{n:,}" for n in data.counts.values())
        size = f"{counts} tokens, {len(data.vocabulary):,} types"
    else:
        counts = " / ".join(f"{len(part):,}" for part in (data.train, data.validation, data.test))
        size = f"{counts} images, {data.num_classes} classes"
    return f"{data.about or data.name}: {size} to train, validate and test on; read as data set '{found.dataset}'"


def everything(path: Path) -> Iterator[Found]:
    """Yields all that is recognised at a path, published data first."""
    for dataset, holds, is_here in READERS:
        if is_here(path):
            yield Found(dataset, holds)
    from enas.data import hub

    files = path.is_dir() and hub.is_saved(path)
    if files or hub.files_of(path):
        holds_what = hub.kind_of(path)
        yield Found(f"hub_{holds_what}", holds_what) if holds_what else Found("", "table")
    if _any(path, ".csv", ".tsv"):
        yield Found("", "table")


# ------------------------------------------------------------------------------- by form, in order
def _any(path: Path, *suffixes: str) -> bool:
    """Returns whether a path is, or holds, a file with one of these suffixes."""
    files = [path] if path.is_file() else path.iterdir()
    return any(file.suffix.lower() in suffixes and file.is_file() for file in files)


def _is_cifar10(path: Path) -> bool:
    from enas.data.cifar10 import FORMS

    if path.is_file():
        return path.name.lower().endswith((".tar.gz", ".tgz"))
    return any(
        (path / form.folder).is_dir()
        or path.name == form.folder
        or (path / form.archive).is_file()
        or any((path / name).is_file() for name in form.batches)
        for form in FORMS
    )


def _is_ptb(path: Path) -> bool:
    for place in (path, path / "ptb", path / "simple-examples" / "data"):
        for part in OFFICIAL:
            if (place / f"ptb.{part}.txt").is_file():
                return True
            if (file := place / f"{part}.txt").is_file():
                with open(file, "rb") as text:
                    if text.read(64).removeprefix(b"\xef\xbb\xbf").strip().startswith(PTB_BEGINS):
                        return True
    return False


def _is_wikitext2(path: Path) -> bool:
    places = (path, path / "wikitext-2")
    return (path / "wikitext-2-v1.zip").is_file() or any(
        (place / f"wiki.{part}.tokens").is_file() for place in places for part in OFFICIAL
    )


def _is_images(path: Path) -> bool:
    from enas.data.image_folder import layout_of

    return path.is_dir() and layout_of(path) is not None


def _is_arrays(path: Path) -> bool:
    from enas.data import arrays

    return any(file.suffix.lower() == ".npz" or arrays.role_of(file.stem) for file in arrays.files_of(path))


def _is_text(path: Path) -> bool:
    return _any(path, ".txt")


READERS: tuple[tuple[str, Holds, Callable[[Path], bool]], ...] = (
    ("cifar10", "images", _is_cifar10),
    ("ptb", "text", _is_ptb),
    ("wikitext2", "text", _is_wikitext2),
    ("images", "images", _is_images),
    ("arrays", "images", _is_arrays),
    ("text", "text", _is_text),
)
