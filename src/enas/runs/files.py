"""This module reads and writes the files of a run, whole or not at all. It does not import
torch."""

from __future__ import annotations

import json
import os
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enas.plugins import named_by_file
from enas.reading import check_kind, from_json, read_whole, sealed, unsealed
from enas.state import Record, Values

MOST_LINE = 16 * 1024**2  # most bytes of a line of a log
FAULT = "ENAS_FAULT"


class Damaged(ValueError):
    """This error says in one line which file does not hold what it should."""


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turns an error inside the `with` block into a `Damaged` error that blames this file, unless
    another file was blamed already."""
    try:
        yield
    except Damaged:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise Damaged(f"'{path}' is damaged, or enas did not write it: {what}") from error


# ---------------------------------------------------------------------------------------- writing
_moments = 0  # number of moments so far at which a test can end this process


def _moment() -> None:
    """Ends this process as `kill -9` would, where the environment variable ENAS_FAULT is N and this
    is the Nth moment of its writes. So tests can end a process at every one of them."""
    global _moments
    if (fault := os.environ.get(FAULT)) is not None:
        _moments += 1
        if _moments == int(fault):
            os.kill(os.getpid(), signal.SIGKILL)


def write_atomically(path: Path, data: bytes | str, keep: Path | None = None) -> None:
    """Writes all of `data` or nothing: an OSError (a full disk) leaves the file that was there.

    `keep` is a name under which the old file stays. It has that name already before the new one is
    whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    content = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    _moment()
    try:
        with _new(temporary) as file:
            file.write(content[: len(content) // 2])
            if FAULT in os.environ:
                file.flush()
            _moment()
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())
        _moment()
        if keep is not None and path.exists():
            _link(path, keep)
            _moment()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _moment()
    _sync(path.parent)


def _new(path: Path) -> Any:
    """Opens a new file of this name. Whatever was there is removed, and not followed."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666), "wb")


def _link(path: Path, other: Path) -> None:
    """Gives a file a second name, which another file may have had until then. Where the disk does
    not support second names, the file is copied."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(path, temporary)
        except OSError:
            with _new(temporary) as file:
                file.write(path.read_bytes())
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, other)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_to_append(path: Path) -> Any:
    """Opens a log to append to. Raises `Damaged` where it is a link, a pipe or a device."""
    with blaming(path):
        check_kind(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666), "ab")


def write_json(path: Path, data: object) -> None:
    """Writes a value as JSON, whole or not at all."""
    write_atomically(path, json.dumps(data, indent=1) + "\n")


def write_sealed(path: Path, data: Values) -> None:
    """Writes a mapping with its checksum (`enas.reading`)."""
    write_atomically(path, sealed(json.dumps(data, indent=1)))


# ---------------------------------------------------------------------------------------- reading
def read_json(path: Path, *, finite: bool = True) -> Any:
    """Returns what a JSON file holds. Raises a ValueError where it is missing, and `Damaged` where
    it is not JSON, or has another checksum than it says."""
    return read_sealed(path, finite=finite)[0]


def read_sealed(path: Path, *, finite: bool = True) -> tuple[Any, bool]:
    """Returns what `read_json` returns, and whether the file has a checksum. Earlier versions wrote
    none."""
    if not path.is_file():
        raise ValueError(f"no file '{path}'")
    with blaming(path):
        data = read_whole(path)
        value, is_sealed = unsealed(data, from_json(data, finite=finite))
    named_by_file(value)
    return value, is_sealed


def lines(path: Path) -> Iterator[bytes]:
    """Yields the whole lines of a log, and none where it is missing. A last line that a crash cut
    short is left out. Raises `Damaged` where a line is too long."""
    if not path.exists():
        return
    with blaming(path):
        check_kind(path)
        with open(path, "rb") as file:
            while line := file.readline(MOST_LINE):
                if line.endswith(b"\n"):
                    yield line
                elif len(line) == MOST_LINE:
                    raise ValueError(f"its lines have at most {MOST_LINE:,} bytes")


def record_of(line: bytes) -> Record:
    """Returns what a line of a log holds. Raises a ValueError where it is no JSON object."""
    record = from_json(line, finite=False)
    if not isinstance(record, dict):
        raise ValueError("each of its lines should hold a mapping")
    return record


def each_line(path: Path) -> Iterator[Record]:
    """Yields the records of a log one by one. Raises `Damaged` where a line is not a JSON
    object."""
    for number, line in enumerate(lines(path), 1):
        with blaming(path):
            try:
                yield record_of(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def read_lines(path: Path) -> list[Record]:
    """Returns all records of a log. Raises `Damaged` as `each_line` does."""
    return list(each_line(path))


def stamped(line: str) -> str:
    """Returns the line of a log, a JSON object, with its checksum added as the last key."""
    return f'{line[:-1]},"crc":"{zlib.crc32(line.encode()):08x}"}}'


def stamped_lines(path: Path) -> Iterator[Record]:
    """Yields the records of a log whose lines may be `stamped`. Raises `Damaged` where a line is
    not as it was written."""
    for number, line in enumerate(lines(path), 1):
        with blaming(path):
            record = record_of(line)
            if "crc" in record:
                whole = line.rpartition(b',"crc":')[0].decode() + "}"
                if stamped(whole).encode() + b"\n" != line:
                    raise ValueError(f"the checksum of line {number} is another")
                del record["crc"]
            yield record


def mended(path: Path) -> bool:
    """Cuts off the last line of a log where a crash cut it short. Returns whether it did."""
    if not path.exists():
        return False
    size, whole = path.stat().st_size, sum(map(len, lines(path)))
    if size != whole:
        os.truncate(path, whole)
    return size != whole


def flat(settings: Values, prefix: str = "") -> Record:
    """Returns nested settings by their dotted names."""
    values: Record = {}
    for name, value in settings.items():
        values |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return values
