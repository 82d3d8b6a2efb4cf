"""This module converts frozen values to JSON and back. It is the base of everything that the files
of a run hold, and does not import torch.

Keys of JSON are the names of fields. A field with a default may be missing, as it is in files of
earlier versions. A key that no field has, and that no version wrote, is refused. `version` is the
version of a file's form.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from enas.ranges import short
from enas.reading import check_kind
from enas.runs.files import Damaged, blaming, read_json, write_sealed

VERSION = 1
Json = Mapping[str, object]


@cache
def _kinds(cls: type[Any]) -> Json:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def parsed(kind: Any, data: object, name: str = "it") -> Any:
    """Returns a value of type `kind` from JSON. Raises a ValueError where the JSON is not of this
    type."""
    origin, inside = get_origin(kind), get_args(kind)
    if type(None) in inside:
        return None if data is None else parsed(inside[0], data, name)
    if isinstance(kind, type) and issubclass(kind, Value):
        return kind.from_json(data)
    if hasattr(kind, "__dataclass_fields__") and isinstance(data, Mapping):
        return kind(**_fields(kind, data, frozenset()))
    if origin is tuple and isinstance(data, list):
        kinds = repeat(inside[0], len(data)) if inside[-1] is ... else inside
        return tuple(parsed(part, value, name) for part, value in zip(kinds, data, strict=True))
    if origin is Mapping and isinstance(data, Mapping):
        return {str(key): parsed(inside[1], value, f"{name}.{key}") for key, value in data.items()}
    if kind is float and type(data) is int:
        return float(data)
    if kind not in (object, type(data)):
        raise ValueError(f"'{name}' is of type {getattr(kind, '__name__', kind)}; got {short(data)}")
    return data


def _fields(cls: Any, data: Mapping[str, object], beside: frozenset[str]) -> dict[str, Any]:
    kinds = _kinds(cls)
    if unknown := [key for key in data if key not in kinds and key not in beside]:
        raise ValueError(f"there is no '{str(unknown[0])[:60]}' in it; there are {', '.join(kinds)}")
    if missing := [f.name for f in dataclasses.fields(cls) if f.name not in data and f.init and _is_required(f)]:
        raise ValueError(f"there is no '{missing[0]}' in it")
    return {name: parsed(kind, data[name], name) for name, kind in kinds.items() if name in data}


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def plain(value: object) -> Any:
    """Returns a value in the form in which JSON holds it."""
    if isinstance(value, Value):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True)
class Value:
    """A `Value` is a part of a file. `BESIDE` holds more keys that may be in it, for people or from
    earlier versions."""

    BESIDE: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Returns the value that JSON holds. Raises a ValueError, TypeError or LookupError where
        the data is not as it should be."""
        if not isinstance(data, Mapping):
            raise ValueError(f"it should hold a mapping; got {short(data)}")
        return cls(**_fields(cls, data, cls.BESIDE))

    def to_json(self) -> dict[str, object]:
        """Returns the value as a mapping that JSON can hold."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}


@dataclass(frozen=True)
class File(Value):
    """A `File` is a whole file, in the folder of a run or of a training."""

    FILE: ClassVar[str]
    MISSING: ClassVar[str] = "no file '{file}'"
    BESIDE: ClassVar[frozenset[str]] = frozenset(("version", "note"))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the file of a folder. Raises a ValueError where there is no such file, and
        `Damaged` where it does not hold what it should."""
        file = folder / cls.FILE
        if not os.path.isfile(file):
            raise ValueError(cls.MISSING.format(file=file, folder=folder, quoted=shlex.quote(str(folder))))
        with blaming(file):
            check_kind(file)
            data = read_json(file, finite=False)
            if isinstance(data, Mapping) and parsed(int, data.get("version", VERSION), "version") > VERSION:
                raise Damaged(f"'{file}' was written by a later version of enas")
            return cls.from_json(data)

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Reads the file of a folder, and returns None where there is no such file."""
        return cls.read(folder) if (folder / cls.FILE).exists() else None

    def write(self, folder: Path) -> Path:
        """Writes the file into a folder, and returns its path."""
        write_sealed(folder / self.FILE, {"version": VERSION, **self.to_json()})
        return folder / self.FILE
