"""Continues a search or a training from its run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from enas.procedures.events import Begun
from enas.runs.folder import RunFolder
from enas.runs.loop import Listener, after, never, silent
from enas.runs.plan import Plan
from enas.runs.process import warn_of_differences
from enas.runs.retrain import run_retrain
from enas.runs.search import run_search
from enas.spaces.architecture import model_from_dict


def resume(
    run: str | Path,
    *,
    max_seconds: float | None = None,
    stop: Callable[[], str | None] = never,
    listen: Listener = silent,
) -> Path:
    """Continues a search or a training from its last checkpoint, as if it had never stopped."""
    path = Path(run)
    with RunFolder.open(path) as folder:
        folder.lock()
        plan = Plan.recorded(folder)
        if folder.config["command"] == "table":
            raise ValueError(f"'{path}' is the work of `enas table build`: the same command goes on with it")
        if folder.config["command"] == "retrain":
            arch = model_from_dict(folder.config["architecture"])
            run_retrain(folder, plan, arch, folder.config["train_seed"], listen, after(max_seconds, stop))
            return path
        warn_of_differences(folder.config, plan.device)
        procedure = plan.search()
        state = folder.restore()
        if state is not None:
            folder.put(state, procedure)
        folder.clock("resume", epoch=procedure.epoch, phase=procedure.phase, step=procedure.step)
        listen(Begun(path, procedure.preview(), procedure.epoch, procedure.task.about))
        run_search(folder, procedure, listen, after(max_seconds, stop))
    return path
