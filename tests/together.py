"""Runs a function on several ranks, as torchrun would, in forks of this process: they find torch
and all of enas imported, so that a group of two takes a fraction of a second."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 120.0  # until ranks that hang are killed


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(n: int, work: Callable[[int], Any]) -> list[tuple[int, int]]:
    """Starts `work(rank)` on `n` ranks; returns the process and the end of a pipe of each."""
    port = free_port()
    started = []
    for rank in range(n):
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a process with threads: they hold no lock here
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "MASTER_PORT": port}
                os.environ.update({**{key: str(value) for key, value in names.items()}, "MASTER_ADDR": "127.0.0.1"})
                with os.fdopen(write, "wb") as out:
                    try:
                        answer: Any = ("value", work(rank))
                    except BaseException as error:
                        answer = ("error", f"{type(error).__name__}: {error}", traceback.format_exc())
                    pickle.dump(answer, out)
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        started.append((pid, read))
    return started


def ended(started: list[tuple[int, int]], seconds: float = SECONDS) -> list[Any]:
    """Returns what each rank gave: its value, the text of its error, or None where it was
    killed."""
    deadline, data = time.monotonic() + seconds, {read: b"" for _, read in started}
    reading = set(data)
    while reading and (left := deadline - time.monotonic()) > 0:
        for read in select.select(list(reading), [], [], left)[0]:
            part = os.read(read, 1 << 20)
            data[read] += part
            if not part:
                reading.remove(read)
    for pid, read in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.close(read)
        os.waitpid(pid, 0)
    return [pickle.loads(some) if some else None for some in data.values()]


def together(n: int, work: Callable[[int], Any]) -> list[Any]:
    """Returns what `work(rank)` gives on each of `n` ranks; AssertionError where one fails."""
    answers = ended(start(n, work))
    for rank, answer in enumerate(answers):
        assert answer is not None, f"rank {rank} did not end within {SECONDS:g} s"
        assert answer[0] == "value", f"rank {rank}: {answer[2]}"
    return [answer[1] for answer in answers]


def commanded(args: list[str], folder: Path) -> Callable[[int], int]:
    """Returns a rank's work: a command of `enas`, what it says in FOLDER/said.RANK."""

    def work(rank: int) -> int:
        from enas.cli.main import main

        with open(folder / f"said.{rank}", "w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return main(args)

    return work
