"""This module holds the command line: `enas COMMAND ...`.

Each command is a file with a dataclass, which holds its flags, and a function. Flags of settings
come from the dataclasses of the settings. An error that a user or a machine can cause is shown as
one line, with exit status 2, and so is one in a user's own code. `ENAS_TRACEBACK=1` in the
environment shows the whole traceback too.
Each warning is one line. The user is asked before code that a file names is imported; `--trust`
answers yes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from enas import plugins
from enas.blame import blamed_if_theirs, lacks_memory, warn_in_one_line
from enas.cli import (  # noqa: F401
    check,
    compare,
    cost,
    data,
    derive,
    export,
    judges,
    latency,
    oracle,
    presets,
    report,
    reproduce,
    resume,
    retrain,
    search,
    show,
    sweep,
    table,
)
from enas.cli import list as list_command  # noqa: F401
from enas.cli.commands import COMMANDS

ORDER = (
    # in the order in which one needs them
    *("search", "resume", "derive", "retrain", "compare", "report", "show", "export", "sweep"),
    *("check", "presets", "data", "list", "cost", "latency", "oracle", "table", "judges", "reproduce"),
)


def usage() -> str:
    """Returns the text that `enas --help` prints."""
    names = [*ORDER, *(name for name in COMMANDS if name not in ORDER)]
    rows = "\n".join(f"  {name:9} {COMMANDS[name][0]}" for name in names)
    return (
        "usage: enas COMMAND ...   (enas COMMAND --help says more)\n\n"
        "Neural architecture search with shared weights (ENAS) that grades its own search.\n\n"
        f"{rows}\n\n"
        "With --trust a command imports the code that a run or a file of others names, without asking.\n\n"
        "A first run, on embedded data, a few minutes on a CPU:\n"
        "  enas search scattered-micro --out runs/first && enas derive runs/first && enas retrain runs/first\n"
        "  enas compare runs/first && enas report runs/first"
    )


# commands that keep freed memory
TRAINING = ("search", "resume", "derive", "retrain", "compare", "sweep", "table", "judges")
TOGETHER = ("search", "resume", "retrain")  # commands that torchrun may start as several processes


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status. It is 2 after an error of one line, and 130 after
    a second Ctrl-C."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = [arg for arg in given if arg != "--trust"]
    with _quiet(), _any_terminal(), plugins.asking(_asked, trusted=args, all_of_them=len(args) < len(given)):
        return _run(args)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lets all ranks but the first print nothing except errors inside the `with` block, since the
    first speaks for all."""
    if not _rank():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _any_terminal() -> Iterator[None]:
    """Writes a character that a terminal lacks as its number inside the `with` block, because
    output must never end a run. Each warning becomes one line."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")

    with warnings.catch_warnings():
        warn_in_one_line(speaks=not _rank())
        yield


def _rank() -> int:
    """Returns the number of this process among those that torchrun started."""
    return int(os.environ.get("RANK", "0")) if _ranks() > 1 else 0


def _ranks() -> int:
    """Returns how many processes torchrun started, as `enas.procedures.ranks` does, but without
    torch."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def _asked(path: str) -> bool:
    """Asks on a terminal whether code may be imported. Without a terminal the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = f"enas: a file that you did not make here names code, '{path}'. Import and run it? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    if args[0] in ("-V", "--version"):
        import enas

        print(f"enas {enas.__version__}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise ValueError(f"a command is one of {', '.join(COMMANDS)}; got '{args[0]}'")
        if _ranks() > 1 and args[0] not in TOGETHER:
            raise ValueError(f"torchrun is for {', '.join(TOGETHER)}; `enas {args[0]}` is for one process")
        if args[0] in TRAINING and not {"-h", "--help"} & set(args):
            from enas.networks.kernels import keep_memory

            keep_memory()
        with blamed_if_theirs():
            return COMMANDS[args[0]][1](args[1:])
    except ValueError as error:
        if os.environ.get("ENAS_TRACEBACK") == "1":
            traceback.print_exception(error)
        return _fail("; ".join([str(error), *_notes(error)]))
    except MemoryError as error:
        return _fail(_out_of_memory(error))
    except RuntimeError as error:
        from enas.procedures.events import Diverged

        if isinstance(error, Diverged):
            return _fail(str(error))
        if lacks_memory(error):
            return _fail(_out_of_memory(error))
        raise
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _fail(f"a name of a file or folder has at most 255 characters; got '{str(error.filename)[:40]}...'")
        what = f"'{error.filename}': " if error.filename else ""
        return _fail("; ".join([f"{what}{error.strerror or error}", *_notes(error)]))
    except KeyboardInterrupt as error:
        return _fail("; ".join(["interrupted", *_notes(error)]), 130)


def _notes(error: BaseException) -> list[str]:
    """Returns the notes that were added to an error on its way: what was saved, and how to go
    on."""
    return list(getattr(error, "__notes__", ()))


def _out_of_memory(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0][:200]
    advice = "a smaller batch or network takes less, such as half of --task.batch-size"
    return "; ".join([f"memory is short{': ' * bool(first)}{first}", advice, *_notes(error)])


def _fail(text: str, status: int = 2) -> int:
    sys.stdout.flush()
    who = f"enas, rank {_rank()}" if _rank() else "enas"
    print(f"{who}: {' '.join(text.split())}", file=sys.stderr)
    return status
