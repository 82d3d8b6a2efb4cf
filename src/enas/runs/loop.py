"""The loop of every run: drives a procedure and keeps its folder.

Every event is recorded and passed to a listener (the command line's progress bars). A checkpoint is written every half
minute, at the end, and when time is up or a signal comes; the step at hand is always finished first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from enas.procedures.events import Diverged, Finished, RolledBack, Step
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.runs.folder import RunFolder
from enas.runs.process import signals
from enas.state import State

CHECKPOINT_SECONDS = 30.0
Listener = Callable[[Any], None]


def silent(event: Any) -> None:
    """Listens to nothing."""


def drive(
    folder: RunFolder,
    procedure: Search | Retrain,
    record: Callable[[Any], None],
    listen: Listener,
    stop: Callable[[], str | None],
) -> str | None:
    """Run `procedure` to its end, or until `stop` or a signal says why not: then the reason. Checkpoints as it goes: one
    replaces another when the step after it was made too, so that training that diverges goes back to before."""
    last, packed = time.monotonic(), b""
    try:
        with signals() as caught:
            for event in procedure.run():
                made = not (isinstance(event, RolledBack) or (isinstance(event, Step) and event.skipped))
                if packed and made:
                    folder.keep(packed)
                packed = b""
                record(event)
                listen(event)
                why = caught.why or stop()
                if why is not None:
                    folder.checkpoint(_sound(procedure.state()))
                    if not isinstance(event, Finished):
                        return why
                elif made and time.monotonic() - last >= CHECKPOINT_SECONDS:
                    packed, last = folder.packed(_sound(procedure.state())), time.monotonic()
            folder.checkpoint(_sound(procedure.state()))
    except Diverged:
        folder.roll_back()
        folder.clock("end", why="diverged")
        raise
    return None


def _sound(state: State) -> State:
    """`state`; `Diverged` where it holds values that are not finite, which must not replace a good checkpoint."""
    for key, tensor in state.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(
                f"'{key}' holds values that are not finite; try a lower learning rate: what was saved is from before"
            )
    return state


def never() -> str | None:
    """Stops nothing."""
    return None


def after(seconds: float | None) -> Callable[[], str | None]:
    """Stops when `seconds` from now are over; None: never."""
    if seconds is None:
        return never
    end = time.monotonic() + seconds
    return lambda: "time is up" if time.monotonic() >= end else None
