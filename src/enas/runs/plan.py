"""From settings to working parts: the plan of a run, and what it is put together from.

A `Setup` holds everything that config.json records; its methods look the parts up in the registries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from enas.data.registry import check_folder, source_of
from enas.data.registry import load as load_data
from enas.networks.references.reference import ReferenceEntry
from enas.networks.references.registry import REFERENCES
from enas.networks.registry import BACKBONES
from enas.networks.supernet import Supernet
from enas.procedures.search import Search
from enas.runs.presets import registry as presets
from enas.runs.process import cores, machine, prepare, versions
from enas.runs.settings import as_recorded, to_dict
from enas.spaces.architecture import Architecture, Reference
from enas.spaces.registry import SPACES, settings_of
from enas.spaces.space import SearchSpace
from enas.state import seeded
from enas.strategies.registry import STRATEGIES
from enas.strategies.strategy import Strategy
from enas.tasks.metrics import Metric
from enas.tasks.registry import TASKS
from enas.tasks.task import Task


@dataclass(frozen=True)
class Setup:
    """A run's settings, resolved: everything that config.json records."""

    preset: str
    recipe: str
    settings: Any
    seed: int = 0
    data: str | None = None
    device: str = "cpu"
    threads: int = 1
    source: dict[str, str] | None = None
    """What identified embedded data when the run was made (data.source_of); None: a new run."""

    @classmethod
    def of(cls, config: dict[str, Any]) -> Setup:
        """From a config.json."""
        like = presets.config_of(config["preset"], config["recipe"])
        fields = {f.name: config[f.name] for f in dataclasses.fields(cls) if f.name in config}
        return cls(**{**fields, "settings": as_recorded(like, config["settings"])})

    def to_dict(self, command: str, **more: Any) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "settings"}
        fields["source"] = self.source or source_of(self.settings.data.dataset)
        settings = to_dict(self.settings)
        ran = {"versions": versions(), "machine": machine(self.device)}
        return {"command": command, **fields, **more, **ran, "settings": settings}

    @property
    def space(self) -> SearchSpace:
        return SPACES[presets.preset(self.preset).space].make(self.settings.space)

    def load_data(self) -> Any:
        """The data; ValueError where it is missing or damaged, or another than the run was made with."""
        d = self.settings.data
        if self.source and self.source["sha256"] != (here := source_of(d.dataset))["sha256"]:
            was, now = (", ".join(f"{key} {value[:16]}" for key, value in some.items()) for some in (self.source, here))
            raise ValueError(
                f"a run goes on with the data it began with; data set '{d.dataset}' was {was} and is {now} here"
            )
        given = {f.name: getattr(d, f.name) for f in dataclasses.fields(d) if f.name != "dataset"}
        return load_data(d.dataset, self.data, **{name: value for name, value in given.items() if value is not None})

    def task(self, data: Any, settings: Any, train_on: str = "train") -> Task:
        entry = TASKS[presets.preset(self.preset).task]
        return entry.make(data, settings, seed=self.seed, device=self.device, train_on=train_on)

    @property
    def metric(self) -> Metric:
        """What the task is judged by."""
        return TASKS[presets.preset(self.preset).task].make.metric

    def network(self, settings: Any, task: Task, only: Architecture | None = None, seed: int | None = None) -> Supernet:
        """A supernet, or a child with running statistics, with weights drawn from the seed."""
        space = self.space
        entry = BACKBONES[space.backbone]
        with seeded(self.seed if seed is None else seed, "weights"):
            network = entry.make(
                space, settings, **task.dimensions, only=only, statistics="batch" if only is None else "running"
            )
        return network.to(self.device)

    def model(self, settings: Any, task: Task, what: Architecture | Reference, seed: int) -> nn.Module:
        """What trains alone: the child model of an architecture, or a reference by the same settings. ValueError for a
        reference that is none, or is for another task."""
        if isinstance(what, Architecture):
            return self.network(settings, task, what, seed)
        entry = reference_entry(what.name, presets.preset(self.preset).task)
        with seeded(seed, "weights"):
            return entry.make(task.dimensions, settings, what.parameters).to(self.device)

    def strategy(self) -> Strategy:
        name = self.settings.strategy
        arguments = [self.settings.reinforce] if name == "reinforce" else []
        return STRATEGIES[name].make(self.space, *arguments, seed=self.seed)

    def search(self) -> Search:
        prepare(self.device, self.threads)
        task = self.task(self.load_data(), self.settings.task)
        supernet = self.network(self.settings.network, task)
        return Search(self.settings.search, task, supernet, self.strategy(), self.seed)


def reference_entry(name: str, task: str) -> ReferenceEntry:
    """A registered reference model; ValueError where it is none, or is for another task."""
    fitting = [key for key, entry in REFERENCES.items() if entry.task == task]
    if name not in fitting:
        raise ValueError(f"a reference model for {task.replace('_', ' ')} is one of {', '.join(fitting)}; got '{name}'")
    return REFERENCES[name]


def setup(
    preset: str,
    recipe: str | None = None,
    settings: Any = None,
    seed: int = 0,
    data: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Setup:
    """A resolved setup; None picks the recipe's settings, a GPU where there is one, and the preset's number of threads
    (all cores where it names none, or one beside a GPU: what is left for them, the controller, is small)."""
    recipe = recipe or presets.preset(preset).default
    settings = settings or presets.config_of(preset, recipe)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from None
    if threads is not None and threads < 1:
        raise ValueError(f"threads is at least 1; got {threads}")
    check_folder(settings.data.dataset, data)
    folder = str(Path(data).resolve()) if data is not None else None
    usual = presets.preset(preset).threads or (1 if device.startswith("cuda") else cores())
    return Setup(preset, recipe, settings, seed, folder, device, threads or usual)


def with_space(plan: Setup, spec: Mapping[str, Any]) -> Setup:
    """The plan for an architecture's own space, such as more layers; ValueError where the preset is of another kind."""
    name = presets.preset(plan.preset).space
    if spec["name"] != name:
        raise ValueError(f"preset '{plan.preset}' trains architectures of space '{name}'; got one of '{spec['name']}'")
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, space=settings_of(spec)))
