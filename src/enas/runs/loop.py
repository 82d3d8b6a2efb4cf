"""This module holds the loop of every run: it drives a procedure and keeps its folder.

Every event is recorded and passed to a listener, such as the progress bar of the command line. A
checkpoint is written every half minute, at the end, and when time is up or a signal comes. The
current step is always finished first. Several ranks agree on all of this after every step.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from enas.procedures.events import Diverged, Finished, RolledBack, Step
from enas.procedures.retrain import Retrain
from enas.procedures.search import Search
from enas.runs.folder import RunFolder
from enas.runs.process import signals
from enas.state import State

CHECKPOINT_SECONDS = 30.0
Listener = Callable[[object], None]


def silent(event: object) -> None:
    """Takes an event, as a listener does, and shows nothing."""


def drive(
    folder: RunFolder,
    procedure: Search | Retrain,
    record: Callable[[object], None],
    listen: Listener,
    stop: Callable[[], str | None],
) -> str | None:
    """Runs `procedure` to its end and returns None, or until `stop` or a signal gives a reason, and
    returns that reason.

    A new checkpoint replaces the last one only after one more step was made. So a training that
    diverges can go back to a state from before.
    """
    last, packed, ranks = time.monotonic(), b"", procedure.ranks
    try:
        with signals() as caught, _saying_how_to_go_on(folder):
            if not ranks.told(folder.has_checkpoint):
                folder.checkpoint(_sound(procedure.state()))
            for event in procedure.run():
                made = not (isinstance(event, RolledBack) or (isinstance(event, Step) and event.skipped))
                if packed and made:
                    folder.keep(packed)
                packed = b""
                record(event)
                listen(event)
                due = made and time.monotonic() - last >= CHECKPOINT_SECONDS
                why, due = ranks.agreed(caught.why or stop(), due)
                if why is not None:
                    folder.checkpoint(_sound(procedure.state()))
                    if not isinstance(event, Finished):
                        return why
                elif due:
                    packed, last = folder.packed(_sound(procedure.state())), time.monotonic()
            folder.checkpoint(_sound(procedure.state()))
    except Diverged:
        folder.roll_back()
        folder.clock("end", why="diverged")
        raise
    return None


@contextmanager
def _saying_how_to_go_on(folder: RunFolder) -> Iterator[None]:
    """Adds a note on what was saved to an error that ends a run, and to a second Ctrl-C."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError, KeyboardInterrupt) as error:
        if not isinstance(error, Diverged):
            again = f"`enas resume {shlex.quote(str(folder.path))}`"
            error.add_note(f"what was saved before is whole, {again} goes on from it")
        raise


def _sound(state: State) -> State:
    """Returns `state`. Raises `Diverged` where it holds values that are not finite, because those
    must not replace a good checkpoint."""
    for key, tensor in state.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Diverged(
                f"'{key}' holds values that are not finite; try a lower learning rate: what was saved is from before"
            )
    return state


def never() -> str | None:
    """Returns None, as a `stop` that never comes."""
    return None


def after(seconds: float | None, stop: Callable[[], str | None] = never) -> Callable[[], str | None]:
    """Returns a `stop` that comes `seconds` from now, or when `stop` comes. With None, it comes
    only with `stop`."""
    if seconds is None:
        return stop
    end = time.monotonic() + seconds
    return lambda: "time is up" if time.monotonic() >= end else stop()
