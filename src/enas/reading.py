"""This module reads files that may come from anywhere. It bounds their size and their depth, and
accepts nothing that is malformed. It does not import torch.

JSON is read without duplicate keys, without `NaN` and `Infinity` (unless figures may be such), and
without numbers that no setting or figure can be. A file may have a seal: its last key, `sha256`, is
the checksum of the bytes before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import zlib
from pathlib import Path
from typing import Any

MOST_BYTES = 256 * 1024**2  # largest size of a file of JSON or text, unpacked
MOST_DEPTH = 64  # how deep lists and mappings may stand within each other
LARGEST = 2**63  # whole numbers are smaller
SEAL = "sha256"


def _whole_number(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) >= LARGEST:
        raise ValueError(f"a whole number has at most 19 digits; got {text[:20]}...")
    return number


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"a number is finite; got {text[:20]}")
    return number


def _not_finite(text: str) -> float:
    raise ValueError(f"a number is finite; got {text}")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a key stands once; got {next(name for name in names if names.count(name) > 1)[:60]!r} twice")
    return mapping


_strict = json.JSONDecoder(
    object_pairs_hook=_mapping, parse_int=_whole_number, parse_float=_number, parse_constant=_not_finite
)
_figures = json.JSONDecoder(object_pairs_hook=_mapping, parse_int=_whole_number, parse_float=_number)


def from_json(data: bytes | str, *, finite: bool = True) -> Any:
    """Returns what JSON holds. With `finite=False`, numbers may be NaN or Infinity. Raises a
    ValueError where the text is no JSON, is deeper than 64, holds a key twice, or holds a number
    that is out of bounds."""
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        value = (_strict if finite else _figures).decode(text)
    except RecursionError:
        raise ValueError(f"lists and mappings are at most {MOST_DEPTH} deep") from None
    level, depth = [value], 0
    while level := [part for part in level if isinstance(part, list | dict) and part]:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"lists and mappings are at most {MOST_DEPTH} deep")
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return value


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """Returns the bytes of a file, unpacked where its name ends in .gz. Raises a ValueError where
    they are more than `most`, or where the packed file is damaged."""
    too_long = ValueError(f"a file of this kind has at most {most:,} bytes; '{path}' has more")
    with open(path, "rb") as file:
        if path.suffix != ".gz":
            data = file.read(most + 1)
        else:
            unpacked, parts, length = zlib.decompressobj(wbits=31), list[bytes](), 0
            try:
                while not unpacked.eof and (packed := file.read(1 << 16)):
                    while packed:
                        parts.append(unpacked.decompress(packed, 1 << 20))
                        length += len(parts[-1])
                        if length > most:
                            raise too_long
                        packed = unpacked.unconsumed_tail
            except zlib.error as error:
                raise ValueError(f"'{path}' is no file of gzip, or damaged: {error}") from None
            if not unpacked.eof:
                raise ValueError(f"'{path}' ends early: it is damaged")
            data = b"".join(parts)
    if len(data) > most:
        raise too_long
    return data


# ------------------------------------------------------------------------------------------ seals
def sealed(text: str) -> str:
    """Returns the JSON of a mapping with its own checksum added as the last key."""
    body = text.rstrip().removesuffix("}").rstrip()
    comma = "," if body != "{" else ""
    return f'{body}{comma}\n "{SEAL}": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


def unsealed(data: bytes, value: Any) -> tuple[Any, bool]:
    """Returns what a file holds without its seal, and whether it has a seal. `value` is what the
    JSON `data` holds. Raises a ValueError where the checksum does not match."""
    if not isinstance(value, dict) or SEAL not in value:
        return value, False
    body = data.rpartition(f'\n "{SEAL}": '.encode())[0].removesuffix(b",")
    rest = {name: part for name, part in value.items() if name != SEAL}
    if sealed((body + b"}").decode()).encode() != data:
        raise ValueError(
            f'its checksum is another: it was damaged, or edited by hand (who edited it leaves out the line "{SEAL}")'
        )
    return rest, True


# ------------------------------------------------------------------- links, pipes and devices
def check_kind(path: Path) -> None:
    """Raises a ValueError where `path` exists and is no plain file, but a link, a folder, a pipe or
    a device."""
    with contextlib.suppress(FileNotFoundError):
        _check(path, os.lstat(path).st_mode, folders=False)


def check_folder(folder: Path) -> None:
    """Raises a ValueError where anything in a folder, however deep, is neither a plain file nor a
    plain folder. A link that came from elsewhere could lead a reader or a writer out of the
    folder."""
    left = [os.fspath(folder)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                try:
                    mode = entry.stat(follow_symlinks=False).st_mode
                except FileNotFoundError:  # a process at work there has removed it
                    continue
                _check(Path(entry.path), mode, folders=True)
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)


def _check(path: Path, mode: int, folders: bool) -> None:
    if stat.S_ISREG(mode) or (folders and stat.S_ISDIR(mode)):
        return
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"))
    kind = next((name for holds, name in kinds if holds(mode)), "a device")
    raise ValueError(f"a run folder holds plain files and folders; '{path}' is {kind}: put the file itself there")
