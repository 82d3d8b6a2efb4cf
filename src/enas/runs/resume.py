"""This module continues a search or a training from its run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from enas.procedures.events import Begun, Done
from enas.procedures.ranks import joined
from enas.runs.files import Damaged
from enas.runs.folder import Follower, RunFolder
from enas.runs.loop import Listener, after, never, silent
from enas.runs.plan import Plan
from enas.runs.process import warn_of_differences
from enas.runs.retrain import run_retrain
from enas.runs.search import finished, run_search, shares
from enas.spaces.architecture import model_from_dict


def resume(
    run: str | Path,
    *,
    max_seconds: float | None = None,
    stop: Callable[[], str | None] = never,
    listen: Listener = silent,
) -> Path:
    """Continues a search or a training from its last checkpoint, as if it had never stopped, and
    returns its folder. One that is finished stays as it is. It can continue on another number of
    ranks, which a warning says. Raises a ValueError where the folder belongs to `enas table
    build`."""
    path, stop = Path(run), after(max_seconds, stop)
    plan = Plan.recorded(RunFolder.open(path))
    with joined(plan.device) as ranks, RunFolder.open(path) as opened:
        folder = opened if ranks.first else Follower(path, opened.config)
        folder.lock()
        plan = plan.shared(ranks)
        if folder.config["command"] == "table":
            raise ValueError(f"'{path}' is the work of `enas table build`: the same command goes on with it")
        warn_of_differences(folder.config, plan.device)
        if folder.config["command"] == "retrain":
            arch = model_from_dict(folder.config["architecture"])
            run_retrain(folder, plan, arch, folder.config["train_seed"], listen, stop, ranks)
            return path
        procedure, ended = plan.search(ranks), ranks.told(lambda: _ended(path))
        state = ranks.told(folder.restore)
        if state is not None:
            folder.put(state, procedure)
        if ended and procedure.epoch >= procedure.settings.epochs:
            listen(Done(path))
            return path
        cost = procedure.preview()
        at = {"epoch": procedure.epoch, "phase": procedure.phase, "step": procedure.step}
        folder.clock("resume", ranks=ranks.size, **at)
        listen(Begun(path, cost, procedure.epoch, procedure.task.about, shares(procedure)))
        run_search(folder, procedure, listen, stop)
    return path


def _ended(path: Path) -> bool:
    """Returns whether a search went to its end, as far as its clock can be read."""
    try:
        return finished(path)
    except Damaged:  # which the folder says when it is restored
        return False
