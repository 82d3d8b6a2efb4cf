"""This module estimates what the rest of a search will cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from enas.spaces.architecture import Architecture
from enas.state import copied
from enas.strategies.strategy import Strategy


def seconds_of_a_tell(strategy: Strategy, archs: list[Architecture]) -> float:
    """Returns the seconds of one `ask` and `tell`. The strategy is put back as it was."""
    before = copied(strategy.state())
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        strategy.ask(len(archs))
        strategy.tell(archs, [0.0] * len(archs))
        seconds.append(time.perf_counter() - start)
    strategy.load(before)
    return median(seconds)


@dataclass(frozen=True)
class Cost:
    """A `Cost` holds the number of steps that are left, and the seconds that each takes."""

    shared_steps: int
    controller_steps: int
    shared_seconds: float
    controller_seconds: float

    @property
    def seconds(self) -> float:
        """Returns the seconds that all steps together will take."""
        return self.shared_steps * self.shared_seconds + self.controller_steps * self.controller_seconds
