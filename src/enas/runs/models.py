"""This module holds hand-designed models, and computes what is known of an architecture before any
training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from enas.data.registry import DATASETS
from enas.networks.recurrent import hidden_for
from enas.networks.registry import BACKBONES
from enas.networks.settings import RecurrentSettings
from enas.plugins import NoSettings, entry_of
from enas.runs.architectures import is_run
from enas.runs.plan import Plan, reference_entry
from enas.runs.planning import preset_plan
from enas.runs.presets import registry as presets
from enas.runs.results import Best
from enas.spaces.architecture import Architecture, Reference
from enas.spaces.registry import space_of
from enas.tasks.problem import own_network


def reference_for(plan: Plan, name: str, run: str | Path | None = None, parameters: int | None = None) -> Reference:
    """Returns a hand-designed model to compare with, of at most `parameters` parameters. Without
    these, it has as many as the run's best architecture, or as the published model. Raises a
    ValueError for a name that is unknown or belongs to another task."""
    entry = reference_entry(name, plan.names.task)
    if parameters is None and run is not None:
        parameters = Best.read(Path(run)).ranked[0].parameters
    if parameters is not None and parameters < 1:
        raise ValueError(f"--parameters is at least 1; got {parameters}")
    return Reference(name, parameters or entry.parameters)


def sizes(arch: Architecture) -> dict[str, int]:
    """Returns by recipe the number of parameters of the network that is trained from scratch, on
    the paper's data. A network of a user's own has no recipe but its own. For a recurrent cell, it
    also returns the number of hidden units at 24 M parameters. Nothing of the others is
    allocated."""
    if arch.space["name"] == "own":
        child = own_network(space_of(arch.space), NoSettings(), arch)
        return {f"{arch.space['problem']} own": child.num_parameters(aux=False)}
    plan = preset_plan(presets.preset_for(arch.space["name"]), device="cpu")
    out = {}
    for recipe in presets.preset(plan.preset).recipes:
        other = dataclasses.replace(plan, settings=presets.config_of(plan.preset, recipe)).with_space(arch.space)
        network = other.settings.retrain.network
        dimensions = DATASETS[other.settings.data.dataset].dimensions
        with torch.device("meta"):
            model = entry_of("a network", other.names.network, BACKBONES).make(
                other.space, network, **dimensions, only=arch
            )
        out[f"{plan.preset} {recipe}"] = model.num_parameters(aux=False)
        if recipe == "paper" and isinstance(network, RecurrentSettings):
            out["hidden units of 24 M parameters (paper 3.1)"] = hidden_for(
                24_000_000, other.space, arch, network, **dimensions
            )
    return out


def marks_of(what: str | Path, arch: Architecture) -> dict[str, str]:
    """Returns notes for a drawing: sizes of outputs and filters, in the network of the run or of
    the recipe `paper`. Returns none where no preset trains its space, as that of a network of a
    user's own."""
    if is_run(what) and (derived := Best.find(Path(what))) is not None:
        return dict(derived.marks)
    try:
        name = presets.preset_for(arch.space["name"])
    except ValueError:
        return {}
    plan = preset_plan(name, "paper", device="cpu").with_space(arch.space)
    dimensions = DATASETS[plan.settings.data.dataset].dimensions
    with torch.device("meta"):
        model = entry_of("a network", plan.names.network, BACKBONES).make(
            plan.space, plan.settings.retrain.network, **dimensions, only=arch
        )
    return model.marks()
