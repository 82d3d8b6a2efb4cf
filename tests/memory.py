"""Says how much memory, how many file descriptors and threads a search has after 200 steps and after
2,000: they should be the same.

    python tests/memory.py --space digits-micro

`tests/runs/test_memory.py` runs it in each space. The search is that of tests/kills.py, at as many
epochs as it takes; its checkpoints and logs are written as always.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
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
    parser.add_argument("--space", choices=SPACES, required=True)
    print(json.dumps(measured(parser.parse_args().space)))
