"""Says how much memory, how many file descriptors and threads a search has after 200 steps and
after 2,000: they should be the same.

    python tests/memory.py        (in each space; or --space digits-micro)

`make soak` runs it: it takes minutes. The search is that of tests/kills.py, at as many epochs as it
takes; its checkpoints and logs are written as always.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import enas.runs.search
from enas.cli.main import main
from enas.procedures.events import Step
from kills import SHORT, SPACES

EARLY, LATE = 200, 2000  # steps
MOST_GROWTH = 0.02


def now() -> dict[str, int]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return {"bytes": pages * resource.getpagesize(), "files": files, "threads": threading.active_count()}


def measured(space: str) -> dict[str, dict[str, int]]:
    """Searches, and returns what `now` says after so many steps."""
    found: dict[str, dict[str, int]] = {}
    drive, steps = enas.runs.search.drive, 0

    def watched(folder: Any, procedure: Any, record: Callable[[object], None], listen: Any, stop: Any) -> str | None:
        def recorded(event: object) -> None:
            nonlocal steps
            record(event)
            steps += isinstance(event, Step)
            if isinstance(event, Step) and steps in (EARLY, LATE):
                found[str(steps)] = now()
            if steps == LATE:
                os.kill(os.getpid(), signal.SIGTERM)

        return drive(folder, procedure, recorded, listen, stop)

    enas.runs.search.drive = watched
    with tempfile.TemporaryDirectory() as folder:
        long = [*SHORT, "--search.epochs", str(LATE)]
        assert main(["search", space, "--out", f"{folder}/run", *SPACES[space], *long]) == 143
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", choices=SPACES)
    asked = parser.parse_args().space
    for space in [asked] if asked else SPACES:
        # a process of its own for each: what one leaves is not the next one's
        pid = os.fork()
        if pid == 0:
            early, late = measured(space).values()
            growth = late["bytes"] / early["bytes"] - 1
            print(f"{space}: {early} after {EARLY} steps, {late} after {LATE}: {growth:+.1%}", flush=True)
            same = all(late[name] <= early[name] for name in ("files", "threads"))
            os._exit(0 if growth <= MOST_GROWTH and same else 1)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"{space}: memory, files or threads grow")
