"""This module reads and seals the file of a checkpoint: a safetensors file with a checksum, which
also describes the logs beside it. It does not import torch.

Its header holds three things as JSON. `state` holds the values of the state that are no tensors.
`logs` and `digests` hold the length in bytes and the SHA-256 of each log when the checkpoint was
written. `sha256` is the checksum of the whole file with zeros in the place of this checksum.
Earlier versions wrote neither checksum, and such a file is read as it is.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from enas.reading import SEAL, check_kind, from_json
from enas.runs.files import Damaged, blaming
from enas.state import Record

CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
MOST_HEADER = 100_000_000  # bytes; the limit of safetensors
NO_SUM = "0" * 64
KEYS = {"state", "logs", "digests", SEAL}


@dataclass(frozen=True)
class Header:
    """A `Header` is everything that a checkpoint holds beside its tensors."""

    values: Record
    lengths: dict[str, int]
    """Length of each log, in bytes."""
    digests: dict[str, str] = field(default_factory=dict)


def sealed(packed: bytes) -> bytes:
    """Returns a safetensors file with its checksum. `packed` has `NO_SUM` in the checksum's
    place."""
    empty = f'"{SEAL}":"{NO_SUM}"'.encode()
    start = packed.index(empty)
    digest = hashlib.sha256(packed).hexdigest()
    whole = bytearray(packed)
    whole[start : start + len(empty)] = f'"{SEAL}":"{digest}"'.encode()
    return bytes(whole)


def read_header(path: Path) -> Header:
    """Returns the header of a checkpoint. Reads the whole file to compare its checksum. Raises a
    ValueError where the file is missing, and `Damaged` where it is damaged."""
    with blaming(path):
        check_kind(path)
        with open(path, "rb") as file:
            first = file.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else MOST_HEADER + 1
            if length > MOST_HEADER:
                raise ValueError("it has no header of safetensors")
            header = file.read(length)
            about = from_json(header).get("__metadata__", {})
            if not isinstance(about, dict) or not {"state", "logs"} <= about.keys() <= KEYS:
                raise ValueError("its header is not that of a checkpoint")
            if (said := about.get(SEAL)) is not None:
                digest = hashlib.sha256(first)
                digest.update(header.replace(f'"{SEAL}":"{said}"'.encode(), f'"{SEAL}":"{NO_SUM}"'.encode()))
                while part := file.read(1 << 20):
                    digest.update(part)
                if digest.hexdigest() != said:
                    raise ValueError("its checksum is another")
        values, lengths = from_json(about["state"], finite=False), from_json(about["logs"])
        digests = from_json(about.get("digests", "{}"))
        if not isinstance(values, dict) or not all(type(n) is int and n >= 0 for n in lengths.values()):
            raise ValueError("its header is not that of a checkpoint")
        return Header(values, {str(k): n for k, n in lengths.items()}, {str(k): str(d) for k, d in digests.items()})


def whole_ones(folder: Path) -> Iterator[tuple[Path, Header]]:
    """Yields the checkpoints of a folder that are whole, the last one first. Raises `Damaged` where
    there are some, and none is whole."""
    damage: Damaged | None = None
    newest_is_whole = found = False
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            header = read_header(path)
        except Damaged as error:
            damage = damage or error
            continue
        newest_is_whole, found = newest_is_whole or path.name == CHECKPOINT, True
        if not newest_is_whole:
            say_used(path, damage or f"'{folder / CHECKPOINT}' is missing")
        yield path, header
    if damage is not None and not found:
        raise damage


def say_used(path: Path, why: object) -> None:
    """Warns that a run goes on from the checkpoint before the last one."""
    warnings.warn(f"{why}; the checkpoint before it, '{path}', is used", stacklevel=3)


def check_log(path: Path, header: Header) -> None:
    """Raises `Damaged` where a log, up to its length when the checkpoint was written, is not the
    same as then."""
    name = path.stem
    length, left = header.lengths.get(name, 0), header.lengths.get(name, 0)
    with blaming(path):
        check_kind(path)
        size = path.stat().st_size if path.exists() else 0
        if size < length and name in header.digests:
            raise ValueError(f"it has {size:,} bytes, and had {length:,} at the last checkpoint")
        if not length or name not in header.digests:
            return
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while left and (part := file.read(min(left, 1 << 20))):
                digest.update(part)
                left -= len(part)
        if digest.hexdigest() != header.digests[name]:
            raise ValueError("it is not what it was at the last checkpoint, its checksum is another")


def check_logs(folder: Path, *names: str) -> None:
    """Raises `Damaged` where one of these logs is not as the last checkpoint says."""
    for _, header in whole_ones(folder):
        for name in names:
            check_log(folder / f"{name}.jsonl", header)
        break
