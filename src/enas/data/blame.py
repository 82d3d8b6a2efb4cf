"""This module tells of errors inside a user's own code in one line: in which part the error was,
what was raised, and where.

The line is a ValueError `from` the original error. On the command line, `ENAS_TRACEBACK=1` in the
environment shows the whole traceback above it.
"""

from __future__ import annotations

import site
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

OURS = str(Path(__file__).parents[1])
MOST = 200  # characters of an error's first line
SEE = "ENAS_TRACEBACK=1 shows the whole traceback"


class Blamed(ValueError):
    """A `Blamed` error tells in one line of an error of a user's own code."""


@contextmanager
def blamed(part: str) -> Iterator[None]:
    """Turns an exception inside the `with` block into a `Blamed` error that names `part`, such as
    "the loss".

    Two kinds pass through as they are: a lack of memory, and this package's own ValueErrors, which
    already say what to do.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, Blamed):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and _frames(error)[-1].filename.startswith(OURS):
            raise
        raise Blamed(f"{part} {said(error)}; {SEE}") from error


def says_dead(error: BaseException) -> bool:
    """Returns whether an error of torch's DataLoader says that one of its processes ended: either
    the error names the process, or a batch that the process still had to hand over is gone with
    it."""
    by_name = isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")
    return by_name or isinstance(error, ConnectionError | EOFError | FileNotFoundError)


def said(error: BaseException) -> str:
    """Returns "raised TYPE: FIRST LINE at FILE:LINE". The place is the line of the user's own code
    that is nearest to the error."""
    first = next(iter(str(error).strip().splitlines()), "")
    first = first if len(first) <= MOST else f"{first[:MOST]}..."
    frame = _nearest(_frames(error))
    return f"raised {type(error).__name__}{': ' if first else ''}{first} at {frame.filename}:{frame.lineno}"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    walked = traceback.walk_tb(error.__traceback__)
    return list(traceback.StackSummary.extract(walked, lookup_lines=False))


def _nearest(frames: list[traceback.FrameSummary]) -> traceback.FrameSummary:
    """Returns the innermost frame outside of this package and of installed packages. Where there is
    none, returns the innermost outside of torch and this package, and where there is none either,
    the innermost of all."""
    torch_folder = str(Path(torch.__file__).parent)
    for foreign in ((OURS, *_installed()), (OURS, torch_folder)):
        for frame in reversed(frames):
            if not frame.filename.startswith((*foreign, "<")):
                return frame
    return frames[-1]


@cache
def _installed() -> tuple[str, ...]:
    """Returns the folders of Python's own modules and of installed packages."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(sorted(paths | {*site.getsitepackages(), site.getusersitepackages()}))
