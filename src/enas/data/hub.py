"""This module reads Hugging Face data sets that lie on this machine: folders written by
`save_to_disk`, or parquet or arrow files. It needs an extra: `pip install 'enas[hub]'`. Nothing is
downloaded, and nothing is written.

    data = load("hub_images", "saved")    # a column of images and one of labels
    data = load("hub_text", "saved")      # a column of texts

A folder of `save_to_disk` is read by `datasets`. Other files are read by pyarrow, with the features
that may stand at their beginning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from enas.data.image_folder import Corrupt, part_named, read_pictures
from enas.data.image_stream import limit
from enas.data.images import ImageData, parted
from enas.data.parts import PARTS, Part
from enas.data.pictures import Fit, Packed, Source
from enas.data.text import TextData, Tokens, own_text

LABELS = ("label", "labels", "class", "target", "targets", "category", "fine_label", "y")
TEXTS = ("text", "content", "sentence", "document")


@dataclass(frozen=True)
class Saved:
    """A `Saved` data set holds the table of each part, and finds its columns."""

    tables: Mapping[Part, Any]
    """The pyarrow table of each part."""
    class_names: Mapping[str, Sequence[str]]
    """The class names of each column whose labels are numbers with names."""

    @property
    def image(self) -> str | None:
        """Returns the name of the column of images, which holds bytes, or Hugging Face's bytes and
        path. Returns None where there is none."""
        import pyarrow as pa

        for field in self.tables["train"].schema:
            packed = pa.types.is_struct(field.type) and {f.name for f in field.type} == {"bytes", "path"}
            if packed or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
                return str(field.name)
        return None

    @property
    def text(self) -> str | None:
        """Returns the name of the column of texts, or None."""
        return next((name for name in TEXTS if name in self.tables["train"].column_names), None)

    @property
    def label(self) -> str | None:
        """Returns the name of the column of labels, or None: the column that has class names, or
        one with a usual name."""
        columns = self.tables["train"].column_names
        return next((name for name in (*self.class_names, *LABELS) if name in columns), None)


def is_saved(folder: Path) -> bool:
    """Returns whether a folder was written by `save_to_disk`."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def files_of(path: Path) -> list[Path]:
    """Returns the parquet and arrow files at a path, or in a folder `data` in it."""
    if path.is_file():
        return [path] if path.suffix in (".parquet", ".arrow") else []
    found = sorted(p for p in path.iterdir() if p.suffix in (".parquet", ".arrow"))
    return found or (files_of(path / "data") if (path / "data").is_dir() else [])


def kind_of(path: Path) -> Literal["images", "text"] | None:
    """Returns whether a saved data set holds images or text, or None for a table. Raises a
    ValueError where it is damaged, or the package that reads it is not installed."""
    saved = read(path)
    return "images" if saved.image else "text" if saved.text else None


def read(path: Path) -> Saved:
    """Returns the data set that is saved at a path. Raises a ValueError as `kind_of` does."""
    try:
        tables, names = _of_disk(path) if is_saved(path) else _of_files(path)
    except ModuleNotFoundError as error:
        raise ValueError(f"'{path}' is read by {error.name}: pip install 'enas[hub]'") from None
    if "train" not in tables:
        raise ValueError(f"'{path}' has no part to train on: {', '.join(tables) or 'nothing'}")
    return Saved(tables, names)


def _of_disk(path: Path) -> tuple[dict[Part, Any], dict[str, Sequence[str]]]:
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except (ValueError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"'{path}' is no whole folder of save_to_disk: {' '.join(str(error).split())[:200]}") from None
    splits = {"train": saved} if isinstance(saved, datasets.Dataset) else dict(saved)
    parts = {part: split for name, split in splits.items() if (part := part_named(name))}
    return {part: split.data.table for part, split in parts.items()}, _class_names(next(iter(splits.values())).features)


def _of_files(path: Path) -> tuple[dict[Part, Any], dict[str, Sequence[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: dict[Part, list[Any]] = {}
    names: dict[str, Sequence[str]] = {}
    for file in files_of(path):
        try:
            if file.suffix == ".parquet":
                table = pq.read_table(file)
            else:
                with pa.memory_map(str(file)) as source:
                    table = pa.ipc.open_stream(source).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"'{file}' is no whole {file.suffix} file: {' '.join(str(error).split())[:200]}") from None
        head = file.stem.replace("_", "-").split("-")[0]  # such as train-00000-of-00001
        tables.setdefault(part_named(head) or "train", []).append(table)
        if b"huggingface" in (table.schema.metadata or {}):
            import datasets

            names |= _class_names(datasets.Features.from_arrow_schema(table.schema))
    return {part: pa.concat_tables(some) for part, some in tables.items()}, names


def _class_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    return {name: feature.names for name, feature in features.items() if getattr(feature, "names", None)}


def load_hub_images(
    folder: str | Path,
    train: int | None = None,
    validation: int | None = None,
    image_size: int | None = None,
    fit: Fit = "resize",
    corrupt: Corrupt = "refuse",
    memory: float | None = None,
    workers: int = 0,
) -> ImageData:
    """Returns the images and labels of a saved data set. The arguments are as in `DataSettings`.
    Raises a ValueError where there is no column of images or of labels, and as for a folder of
    images."""
    saved = read(Path(folder))
    image, label = saved.image, saved.label
    if image is None or label is None:
        columns = ", ".join(saved.tables["train"].column_names)
        raise ValueError(
            f"images have a column of images and one of labels ({', '.join(LABELS)}); '{folder}' has {columns}"
        )
    labels = {part: table.column(label).to_pylist() for part, table in saved.tables.items()}
    names = [str(name) for name in saved.class_names.get(label, ())]
    numbers: dict[Any, int] = {value: value for value in range(len(names))}
    if not names:
        values = sorted({value for value in labels["train"] if value is not None}, key=lambda v: (str(type(v)), v))
        names, numbers = [str(value) for value in values], {value: i for i, value in enumerate(values)}
    for part, some in labels.items():
        if unknown := [value for value in some if value not in numbers]:
            raise ValueError(
                f"every image is of a class that is trained on; '{folder}' has {unknown[0]!r} in its {part} part"
            )
    items: dict[Part, list[tuple[Source, int]]] = {}
    for part in PARTS:
        if part in saved.tables:
            cells = saved.tables[part].column(image).to_pylist()
            sources = [_source(cell, f"row {i + 1} of {part}", Path(folder)) for i, cell in enumerate(cells)]
            items[part] = [(source, numbers[value]) for source, value in zip(sources, labels[part], strict=True)]
    pools, about = read_pictures(str(folder), items, image_size, fit, corrupt, limit(memory))
    about = f"Hugging Face data set, columns {image} and {label}: {len(names)} classes, {about}"
    return parted("hub_images", pools, tuple(names), about, train, validation, memory, workers)


def _source(cell: Any, name: str, folder: Path) -> Source:
    if isinstance(cell, Mapping):
        if cell["bytes"] is None and cell["path"]:
            return str(folder / cell["path"])
        cell = cell["bytes"]
    return Packed(name, cell or b"")


def load_hub_text(
    folder: str | Path,
    train: int | None = None,
    max_vocabulary: int = 10_000,
    min_count: int = 2,
    tokens: Tokens = "words",
) -> TextData:
    """Returns the texts of a saved data set, row after row. The arguments are as in `TextSettings`.
    Raises a ValueError where there is no column of texts, and as for a folder of texts."""
    saved = read(Path(folder))
    if (text := saved.text) is None:
        columns = ", ".join(saved.tables["train"].column_names)
        raise ValueError(f"texts are a column {', '.join(TEXTS)}; '{folder}' has {columns}")
    texts = {
        part: "\n".join(str(row) for row in table.column(text).to_pylist() if row is not None)
        for part, table in saved.tables.items()
    }
    about = f"Hugging Face data set, column {text}"
    return own_text("hub_text", texts, Path(folder), about, train, max_vocabulary, min_count, tokens)
