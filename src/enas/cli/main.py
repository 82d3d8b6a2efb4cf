"""The command line: `enas COMMAND ...`.

Each command is a file with a dataclass, its flags, and a function. Flags of settings come from the
dataclasses of the settings. A ValueError or OSError is shown as one line, with exit status 2;
`ENAS_TRACEBACK=1` in the environment shows the whole traceback of a ValueError too.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

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
    table,
)
from enas.cli import list as list_command  # noqa: F401
from enas.cli.commands import COMMANDS

ORDER = (
    *("search", "resume", "derive", "retrain", "compare", "report", "show", "export"),  # as one comes to need them
    *("check", "presets", "data", "list", "cost", "latency", "oracle", "table", "judges", "reproduce"),
)


def usage() -> str:
    names = [*ORDER, *(name for name in COMMANDS if name not in ORDER)]
    rows = "\n".join(f"  {name:9} {COMMANDS[name][0]}" for name in names)
    return (
        "usage: enas COMMAND ...   (enas COMMAND --help says more)\n\n"
        "Neural architecture search with shared weights (ENAS) that grades its own search.\n\n"
        f"{rows}\n\n"
        "A first run, on embedded data, a few minutes on a CPU:\n"
        "  enas search scattered-micro --out runs/first && enas derive runs/first && enas retrain runs/first\n"
        "  enas compare runs/first && enas report runs/first"
    )


TRAINING = ("search", "resume", "derive", "retrain", "compare", "table", "judges")  # commands that hold on to memory


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 2 after an error of one line, 130 after a second
    Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
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
        if args[0] in TRAINING and not {"-h", "--help"} & set(args):
            from enas.networks.kernels import keep_memory

            keep_memory()
        return COMMANDS[args[0]][1](args[1:])
    except ValueError as error:
        if os.environ.get("ENAS_TRACEBACK") == "1":
            traceback.print_exception(error)
        return _fail(str(error))
    except RuntimeError as error:
        from enas.procedures.events import Diverged

        if not isinstance(error, Diverged):
            raise
        return _fail(str(error))
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _fail(f"a name of a file or folder has at most 255 characters; got '{str(error.filename)[:40]}...'")
        what = f"'{error.filename}': " if error.filename else ""
        return _fail(f"{what}{error.strerror or error}; what was saved before is whole, `enas resume RUN` goes on from it")
    except KeyboardInterrupt:
        return _fail("interrupted; `enas resume RUN` goes on from the last checkpoint", 130)


def _fail(text: str, status: int = 2) -> int:
    sys.stdout.flush()
    print(f"enas: {' '.join(text.split())}", file=sys.stderr)
    return status
