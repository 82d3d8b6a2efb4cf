"""What a second core brings: two threads in one process, and two processes of one thread each,
against one of one.

python -m benchmarks.cores [--rounds 5]

A training step of the recurrent cell of Figure 6 at 1,000 hidden units and of the fixed micro
child. The machine must be otherwise idle. Two processes do two steps in the time that is counted
for one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.cells import all_sep_3x3, micro, recurrent
from benchmarks.timing import Program, emit, options
from enas.spaces.published import named


def both(programs: list[Program]) -> float:
    """Seconds a step while all of them make one at the same time."""
    start = time.perf_counter()
    running = [threading.Thread(target=program) for program in programs]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return (time.perf_counter() - start) / len(programs)


def measure(what: str, arch: Any, rounds: int, make: Callable[..., Any], *args: Any) -> None:
    one = Program(1, make, *args).prepare("train", arch)
    two_threads = Program(2, make, *args).prepare("train", arch)
    two = [Program(1, make, *args).prepare("train", arch) for _ in range(2)]
    taken: dict[str, list[float]] = {"one core": [], "two threads": [], "two processes": []}
    for round_ in range(-1, rounds):
        seconds = {"one core": one(), "two threads": two_threads(), "two processes": both(two)}
        for name, value in seconds.items():
            if round_ >= 0:
                taken[name].append(value)
    for name, each in taken.items():
        times = round(median(a / b for a, b in zip(taken["one core"], each, strict=True)), 3)
        emit(f"{what}, {name}", {"cores": 1 if name == "one core" else 2}, each, times_one_core=times)
    for program in (one, two_threads, *two):
        program.close()


def main() -> None:
    args = options(__doc__, 5).parse_args()
    measure("micro training step", all_sep_3x3(), args.rounds, micro)
    measure("recurrent training step, hidden 1000", named("enas_rnn"), max(2, args.rounds - 2), recurrent, 1000)


if __name__ == "__main__":
    main()
