"""This module tells of errors inside a user's own code in one line: in which part the error was,
what was raised, and where. Warnings are told in one line too. It does not import torch.

The line is a ValueError `from` the original error. On the command line, `ENAS_TRACEBACK=1` in the
environment shows the whole traceback above it.
"""

from __future__ import annotations

import site
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

OURS = str(Path(__file__).parent)
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
    except Exception as error:
        if isinstance(error, Blamed) or lacks_memory(error) or _says_what_to_do(error):
            raise
        raise Blamed(f"{part} {said(error)}; {SEE}") from error


@contextmanager
def blamed_if_theirs() -> Iterator[None]:
    """Turns an exception inside the `with` block into a `Blamed` error, where it went through code
    that is neither of this package nor installed. All others pass through as they are."""
    try:
        yield
    except BrokenPipeError:  # the reader of the output has closed it
        raise
    except Exception as error:
        ours = type(error).__module__.startswith("enas.") or _says_what_to_do(error)
        if ours or lacks_memory(error) or not any(map(_is_theirs, _frames(error))):
            raise
        told = Blamed(f"your code {said(error)}; {SEE}")
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        raise told from error


def lacks_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory is short."""
    of_torch = "out of memory" in str(error) or "can't allocate memory" in str(error)
    of_torch = of_torch or type(error).__name__ == "OutOfMemoryError"
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and of_torch)


def _says_what_to_do(error: Exception) -> bool:
    return isinstance(error, ValueError) and _frames(error)[-1].filename.startswith(OURS)


def says_dead(error: BaseException) -> bool:
    """Returns whether an error of torch's DataLoader says that one of its processes ended: either
    the error names the process, or a batch that the process still had to hand over is gone with
    it."""
    by_name = isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")
    return by_name or isinstance(error, ConnectionError | EOFError | FileNotFoundError)


def said(error: BaseException) -> str:
    """Returns "raised TYPE: FIRST LINE at FILE:LINE". The place is the line of the user's own code
    that is nearest to the error, or the one that Python cannot read."""
    first = next(iter(str(error).strip().splitlines()), "")
    frame = _nearest(_frames(error))
    place = f"{frame.filename}:{frame.lineno}"
    if isinstance(error, SyntaxError) and error.filename is not None:
        first, place = error.msg, f"{error.filename}:{error.lineno}"
    first = first if len(first) <= MOST else f"{first[:MOST]}..."
    return f"raised {type(error).__name__}{': ' if first else ''}{first} at {place}"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    walked = traceback.walk_tb(error.__traceback__)
    return list(traceback.StackSummary.extract(walked, lookup_lines=False))


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith((OURS, *_installed(), "<"))


def _nearest(frames: list[traceback.FrameSummary]) -> traceback.FrameSummary:
    """Returns the innermost frame outside of this package and of installed packages. Where there is
    none, returns the innermost outside of torch and this package, and where there is none either,
    the innermost of all."""
    torch_folder = str(Path(str(sys.modules["torch"].__file__)).parent) if "torch" in sys.modules else OURS
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


# ---------------------------------------------------------------------------------------- warnings
def warn_in_one_line(speaks: bool = True) -> None:
    """Makes each warning that is meant for users one line on the screen, which is said once. Others
    are not shown, and none where this process does not speak."""
    told = set[str]()

    def say(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
        text = f"enas: {' '.join(str(message).split())}"
        if issubclass(category, UserWarning) and text not in told and speaks:
            told.add(text)
            print(text, file=sys.stderr)

    warnings.showwarning = say
