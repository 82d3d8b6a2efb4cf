"""This module runs searches to compare with. They are as long as the run's own, but have random
children, or a controller that never learns. Each has a folder inside the run and goes on where it
was stopped."""

from __future__ import annotations

import dataclasses
import json
import time
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from enas.grading.opened import OpenedRun, Trainings
from enas.procedures.ensemble import Ensemble
from enas.procedures.events import Done, Stopped
from enas.runs.checkpoint import whole_ones
from enas.runs.compared import Disabled
from enas.runs.derive import derive
from enas.runs.files import write_atomically
from enas.runs.loop import after
from enas.runs.plan import Plan
from enas.runs.process import signals
from enas.runs.results import Best
from enas.runs.resume import resume
from enas.runs.search import search_plan
from enas.runs.settings import from_dict, to_dict
from enas.spaces.architecture import Architecture
from enas.state import State

SAVE_SECONDS = 30.0


def with_random_children(plan: Plan) -> Plan:
    """Returns the plan with random search in place of its strategy."""
    return plan.with_strategy("random")


def with_a_controller_at_rest(plan: Plan) -> Plan:
    """Returns the plan with a controller that never learns. Its architectures count as random ones,
    so that nobody is warned of them."""
    search = dataclasses.replace(plan.settings.search, controller_steps=0, warmup_epochs=0)
    derive = dataclasses.replace(plan.settings.derive, draw="uniform")
    return plan.with_settings(search=search, derive=derive).with_strategy("reinforce")


def random_search(trainings: Trainings) -> Architecture:
    """Returns the architecture that a search of the same length with random children derives by the
    same settings."""
    folder, plan = trainings.run.path / "uniform-sharing", with_random_children(trainings.run.plan)
    _finish(trainings, plan, folder)
    settings = from_dict(plan.settings.derive, {**trainings.best.settings, "uniform": 0})
    best = Best.find(folder)
    if best is None or best.settings != json.loads(json.dumps(to_dict(settings))):
        derive(folder, settings=settings, listen=trainings.listen)
        best = Best.read(folder)
    return best.architecture


def disabled_controller(trainings: Trainings, configurations: int) -> Disabled:
    """Scores the shared weights of a search of the same length whose controller never learns (paper
    3.3), on the test part: `configurations` of its architectures, and their ensemble."""
    folder = trainings.run.path / "disabled-controller"
    _finish(trainings, with_a_controller_at_rest(trainings.run.plan), folder)
    search = OpenedRun.at(folder).search()
    ensemble = Ensemble(search.task, search.supernet, search.strategy.ask(configurations))
    file, saved = folder / "ensemble.safetensors", time.monotonic()
    if file.exists():
        _load(ensemble, file)
    stop = after(trainings.seconds_left())
    if len(ensemble.single) < configurations:
        trainings.stop(None)
    with signals() as caught:
        for member in ensemble.run():
            trainings.listen(member)
            why = caught.why or stop()
            if why or member.done == member.total or time.monotonic() - saved > SAVE_SECONDS:
                saved = time.monotonic()
                _save(ensemble, file)
            trainings.why = trainings.why or why
            if member.done < member.total:
                trainings.stop(None)
    return Disabled(**ensemble.result(trainings.plan.metric))


def _load(ensemble: Ensemble, file: Path) -> None:
    tensors = load_file(file)
    # Sums of an ensemble of another size are of other architectures.
    if int(tensors.get("of", torch.zeros(()))) == len(ensemble.archs):
        ensemble.load(State({"sum": tensors["sum"]}, {"single": tensors["single"].tolist()}))


def _save(ensemble: Ensemble, file: Path) -> None:
    state = ensemble.state()
    single = torch.tensor(state.values["single"], dtype=torch.float64)
    of = torch.tensor(len(ensemble.archs))
    write_atomically(file, save({"sum": state.tensors["sum"].cpu().contiguous(), "single": single, "of": of}))


def _finish(trainings: Trainings, plan: Plan, folder: Path) -> None:
    """Searches by `plan` to the end, or continues to it. Raises `OutOfTime` where it was
    stopped."""
    if _finished(plan, folder):
        return
    trainings.stop(None)

    def listen(event: object) -> None:
        # the comparison itself is neither done nor stopped when the search is
        if not isinstance(event, Done | Stopped):
            trainings.listen(event)

    if (folder / "config.json").exists():
        resume(folder, max_seconds=trainings.seconds_left(), listen=listen)
    else:
        search_plan(plan, out=folder, max_seconds=trainings.seconds_left(), listen=listen)
    if not _finished(plan, folder):
        trainings.stop("time is up" if trainings.seconds_left() == 0 else "interrupted")


def _finished(plan: Plan, folder: Path) -> bool:
    if not (folder / "config.json").exists() or not (run := OpenedRun.at(folder).folder).has_checkpoint():
        return False
    return any(header.values["epoch"] >= plan.settings.search.epochs for _, header in islice(whole_ones(run.path), 1))
