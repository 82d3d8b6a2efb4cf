"""Hand-designed models to compare with, and what is known of an architecture before it is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from enas.data.registry import DATASETS
from enas.networks.recurrent import RecurrentSettings, hidden_for
from enas.networks.registry import BACKBONES
from enas.runs.plan import Setup, reference_entry, setup, with_space
from enas.runs.presets import registry as presets
from enas.runs.records import Best
from enas.spaces.architecture import Architecture, Reference


def reference_for(plan: Setup, name: str, run: str | Path | None = None, parameters: int | None = None) -> Reference:
    """A hand-designed model to compare with: of `parameters` at most, or as many as the run's best architecture has, or as
    the published model had. ValueError where it is none, or is for another task."""
    entry = reference_entry(name, presets.preset(plan.preset).task)
    if parameters is None and run is not None:
        parameters = Best.of(Path(run)).ranked[0].parameters
    if parameters is not None and parameters < 1:
        raise ValueError(f"--parameters is at least 1; got {parameters}")
    return Reference(name, parameters or entry.parameters)


def sizes(arch: Architecture) -> dict[str, int]:
    """Parameters that the architecture has when it is trained alone, by recipe of the paper's data for its space; and the
    hidden units of a recurrent cell of the paper's 24 M. Nothing is allocated."""
    plan = setup(presets.preset_for(arch.space["name"]), data=".", device="cpu")
    out = {}
    for recipe in presets.preset(plan.preset).recipes:
        here = with_space(dataclasses.replace(plan, settings=presets.config_of(plan.preset, recipe)), arch.space)
        network = here.settings.retrain.network
        dimensions = DATASETS[here.settings.data.dataset].dimensions
        with torch.device("meta"):
            model = BACKBONES[here.space.backbone].make(here.space, network, **dimensions, only=arch)
        out[f"{plan.preset} {recipe}"] = model.num_parameters(aux=False)
        if recipe == "paper" and isinstance(network, RecurrentSettings):
            out["hidden units of 24 M parameters (paper 3.1)"] = hidden_for(
                24_000_000, here.space, arch, network, **dimensions
            )
    return out


def marks_of(what: str | Path, arch: Architecture) -> dict[str, str]:
    """Notes for a drawing: sizes of maps and filters in the run's network, or else in that of the recipe `paper`."""
    if (derived := Best.find(Path(what))) is not None:
        return dict(derived.marks)
    name = presets.preset_for(arch.space["name"])
    plan = with_space(setup(name, "paper", data=".", device="cpu"), arch.space)
    dimensions = DATASETS[plan.settings.data.dataset].dimensions
    with torch.device("meta"):
        model = BACKBONES[plan.space.backbone].make(plan.space, plan.settings.retrain.network, **dimensions, only=arch)
    return model.marks()
