"""How files of a run are read and written: whole files at once or not at all, logs a JSON record a
line. No torch in here."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a log, none where it is missing; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line]


def write_atomically(path: Path, data: bytes | str) -> None:
    """All of `data` or nothing: OSError (a full disk, say) leaves what was there before."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, data: Any) -> None:
    write_atomically(path, json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """ValueError where the file is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"no file '{path}'") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not JSON: {error}") from None


Record = Mapping[str, Any]


class Damaged(ValueError):
    """A file does not hold what it should: one line that names it."""


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """What goes wrong inside is the fault of this file, if no other one has been blamed."""
    try:
        yield
    except Damaged:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise Damaged(f"'{path}' is damaged, or enas did not write it: {what}") from error


def read_records(path: Path) -> list[Record]:
    """The mappings in a .json (one) or .jsonl file, none where it is missing; a last line that a crash cut is left out."""
    if not path.exists():
        return []
    with blaming(path):
        text = path.read_text(encoding="utf-8")
        records = [json.loads(part) for part in (text.split("\n")[:-1] if path.suffix == ".jsonl" else [text])]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("it should hold mappings")
    return records


def flat(settings: Record, prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
