"""This module runs problems of a user's own, from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from enas.runs.checkpoint import CHECKPOINT
from enas.runs.files import blaming
from enas.runs.folder import RunFolder
from enas.runs.loop import Listener, silent
from enas.runs.plan import Plan
from enas.runs.planning import problem_plan
from enas.runs.results import Retrained
from enas.runs.search import search_plan, with_epochs
from enas.runs.settings import Config, Settings, from_dict
from enas.spaces.architecture import Architecture
from enas.tasks.problem import NO_FUNCTION, Problem, own_network, problem_of


def search_problem(
    what: str | Problem,
    *,
    settings: Settings | Mapping[str, object] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    max_seconds: float | None = None,
    device: str | None = None,
    threads: int | None = None,
    strategy: str | None = None,
    listen: Listener = silent,
) -> Path:
    """Searches in a problem's network and returns the run folder.

    `settings` are those of `problem_plan`, changed as you like, or only the changes, such as
    `{"search.controller_steps": 5}`. With `epochs`, the warm-up becomes shorter or longer in
    proportion, unless `settings` change it. Raises a ValueError for a problem that no function
    made, and for a setting that does not exist.
    """
    path = what if isinstance(what, str) else what.path
    if not path:
        raise ValueError(NO_FUNCTION)
    problem_of(path)
    plan = problem_plan(path, seed, device, strategy)
    before = plan.settings.search.warmup_epochs
    if isinstance(settings, Config):
        plan = dataclasses.replace(plan, settings=settings)
    if epochs is not None:
        plan = with_epochs(plan, epochs, keeps_warmup=plan.settings.search.warmup_epochs != before)
    if isinstance(settings, Mapping):
        plan = dataclasses.replace(plan, settings=changed(plan.settings, settings))
    return search_plan(plan.on(None, device, threads), out=out, max_seconds=max_seconds, listen=listen)


def changed(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Returns the settings with some values replaced, by their dotted names. Raises a ValueError
    for an unknown name."""
    for name, value in changes.items():
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        settings = from_dict(settings, nested)
    return settings


def trained_child(run: Path) -> nn.Module:
    """Returns the network that `retrained.json` chose, a plain module with its trained weights.
    Raises a ValueError where none is trained, or where the run does not belong to a problem of the
    user's own."""
    plan = Plan.recorded(RunFolder.open(run))
    if not plan.problem:
        raise ValueError(f"'{run}' is not a search in a network of your own")
    training = RunFolder.open(run / Retrained.read(run).best.folder)
    Plan.recorded(training).warn_of_changes()
    arch = Architecture.from_dict(training.config["architecture"])
    child = own_network(plan.space, plan.settings.network, arch)
    load_trained(child, training)
    network: nn.Module = child.network
    return network.eval()


def load_trained(child: nn.Module, training: RunFolder) -> None:
    """Loads the weights that a training from scratch was scored with. Raises `Damaged` where they
    are of another network."""
    state = training.read_checkpoint()
    tensors = {**state.under("weights").tensors}
    if "average" in state.values:
        tensors |= state.under("average").tensors
    with blaming(training.path / CHECKPOINT), training.fitting():
        child.load_state_dict(tensors)
