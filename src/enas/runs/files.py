"""How files of a run are read and written, whole or not at all. No torch in here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enas.state import Record, Values


class Damaged(ValueError):
    """A file does not hold what it should: one line that names it."""


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Blames this file for what goes wrong inside, unless another one has been blamed."""
    try:
        yield
    except Damaged:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise Damaged(f"'{path}' is damaged, or enas did not write it: {what}") from error


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes all of `data` or nothing: an OSError (a full disk) leaves the file that was there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, data: object) -> None:
    write_atomically(path, json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Returns what a file holds. ValueError where it is missing, Damaged if it is not JSON."""
    if not path.is_file():
        raise ValueError(f"no file '{path}'")
    with blaming(path):
        return json.loads(path.read_bytes())


def read_lines(path: Path) -> list[Record]:
    """Returns the records of a log, none where it is missing; a last line that a crash cut short is
    left out. Damaged where a line is not a JSON object."""
    if not path.exists():
        return []
    with blaming(path):
        records = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("each of its lines should hold a mapping")
    return records


def flat(settings: Values, prefix: str = "") -> Record:
    """Returns nested settings by their dotted names."""
    values: Record = {}
    for name, value in settings.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return values
