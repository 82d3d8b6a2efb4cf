"""From settings to working parts: the plan of a run, and what it is put together from."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from enas.data.images import ImageData
from enas.data.registry import check_folder, source_of
from enas.data.registry import load as load_data
from enas.data.text import TextData
from enas.networks.references.registry import REFERENCES, ReferenceEntry
from enas.networks.registry import BACKBONES
from enas.networks.supernet import Supernet
from enas.plugins import NoSettings, entry_of
from enas.procedures.search import Search
from enas.procedures.settings import DeriveSettings, OptimizerSettings, SearchSettings
from enas.ranges import check_name
from enas.runs.before import upgraded
from enas.runs.presets import registry as presets
from enas.runs.process import cores, machine, prepare, versions
from enas.runs.settings import Config, Names, RetrainConfig, Settings, as_recorded, to_dict
from enas.spaces.architecture import Architecture, Reference
from enas.spaces.own import OwnSpaceSettings
from enas.spaces.registry import make_space, settings_of
from enas.spaces.space import SearchSpace
from enas.state import Record, Values, seeded
from enas.strategies.registry import STRATEGIES
from enas.strategies.settings import ReinforceSettings
from enas.strategies.strategy import Strategy
from enas.tasks.metrics import METRICS, Metric
from enas.tasks.registry import TASKS
from enas.tasks.settings import OwnDataSettings, OwnTaskSettings
from enas.tasks.task import Task

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from enas.tasks.own import OwnData

    Data = ImageData | TextData | OwnData


@dataclass(frozen=True)
class Plan:
    """Everything that config.json records of a run: the names of its parts, and their settings."""

    preset: str
    """Where the names and settings came from, for people; nothing is looked up by it."""
    recipe: str
    names: Names
    settings: Settings
    seed: int = 0
    data: str | None = None
    device: str = "cpu"
    threads: int = 1
    source: dict[str, str] | None = None
    """What identified embedded data when the run was made (data.source_of); None: a new run."""

    @classmethod
    def of(cls, config: Values) -> Plan:
        """Returns the plan that a config.json holds; ValueError where a part or a setting of it is
        unknown."""
        config = upgraded(config)
        names = Names(**config["names"])
        fields = {f.name: config[f.name] for f in dataclasses.fields(cls) if f.name in config}
        return cls(**{**fields, "names": names, "settings": as_recorded(names.settings(), config["settings"])})

    def to_dict(self, command: str, **more: object) -> Record:
        """Returns what config.json holds, and `more`."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "settings"}
        source = problem_source(self.problem) if self.problem else source_of(self.settings.data.dataset)
        fields |= {"names": to_dict(self.names), "source": self.source or source}
        settings = to_dict(self.settings)
        ran = {"versions": versions(), "machine": machine(self.device)}
        return {"command": command, **fields, **more, **ran, "settings": settings}

    # ------------------------------------------------------------------------ a plan like this one
    def with_settings(self, **changes: Any) -> Plan:
        """Returns the plan with other groups of settings, such as `retrain=...`."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

    def with_strategy(self, name: str) -> Plan:
        """Returns the plan with a strategy by its name, at its default settings where these are of
        another kind."""
        kind, plan = entry_of("a strategy", name, STRATEGIES).settings, self
        if not isinstance(self.settings.strategy, kind):
            plan = self.with_settings(strategy=kind())
        return dataclasses.replace(plan, names=dataclasses.replace(self.names, strategy=name))

    def with_space(self, spec: Values) -> Plan:
        """Returns the plan for an architecture's own space, such as one of more layers; ValueError
        where the plan's is of another kind."""
        if spec["name"] != self.names.space:
            raise ValueError(
                f"preset '{self.preset}' trains architectures of space '{self.names.space}'; got one of '{spec['name']}'"
            )
        return self.with_settings(space=settings_of(spec))

    def on(self, data: str | Path | None = None, device: str | None = None, threads: int | None = None) -> Plan:
        """Returns the plan for this machine: another folder of the data, device or number of
        threads. None keeps the plan's own. ValueError where one of them cannot be used."""
        if threads is not None and threads < 1:
            raise ValueError(f"--threads is at least 1; got {threads}")
        device = device or self.device
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from None
        if not self.problem:
            check_folder(self.settings.data.dataset, data or self.data)
        elif data is not None:
            raise ValueError(f"'{self.problem}' brings its own data; leave out --data")
        folder = self.data if data is None else str(Path(data).resolve())
        return dataclasses.replace(self, data=folder, device=device, threads=threads or self.threads)

    # ----------------------------------------------------------------------------------- the parts
    @property
    def space(self) -> SearchSpace:
        """Returns the search space."""
        return make_space(self.names.space, self.settings.space)

    @property
    def problem(self) -> str:
        """Returns `module:function` of a problem of the user's own; "" where there is none."""
        return str(getattr(self.settings.space, "problem", ""))

    @property
    def data_name(self) -> str:
        """Returns the name of the data set, or that of the problem that brings it."""
        return self.problem or str(self.settings.data.dataset)

    def load_data(self) -> Data:
        """The data; ValueError where it is missing or damaged, or another than the run was made
        with."""
        d = self.settings.data
        if self.problem:
            if self.source and self.source != problem_source(self.problem):
                warnings.warn(f"the file of '{self.problem}' has changed since this run was made", stacklevel=2)
            return own_data(self.problem, d)
        if self.source and self.source["sha256"] != (here := source_of(d.dataset))["sha256"]:
            was, now = (", ".join(f"{key} {value[:16]}" for key, value in some.items()) for some in (self.source, here))
            raise ValueError(
                f"a run goes on with the data it began with; data set '{d.dataset}' was {was} and is {now} here"
            )
        given = {f.name: getattr(d, f.name) for f in dataclasses.fields(d) if f.name != "dataset"}
        return load_data(d.dataset, self.data, **{name: value for name, value in given.items() if value is not None})

    def task(self, data: Data, settings: DataclassInstance, train_on: str = "train") -> Task:
        entry = entry_of("a task", self.names.task, TASKS)
        made: Task = entry.make(data, settings, seed=self.seed, device=self.device, train_on=train_on)
        return made

    @property
    def metric(self) -> Metric:
        """Returns the figure that the task is judged by."""
        if self.problem:
            return METRICS[self.settings.task.metric]
        metric: Metric = entry_of("a task", self.names.task, TASKS).make.metric
        return metric

    @property
    def learns(self) -> bool:
        """Returns whether the strategy learns from rewards; random search does not."""
        return bool(entry_of("a strategy", self.names.strategy, STRATEGIES).make.learns)

    def network(
        self, settings: DataclassInstance, task: Task, only: Architecture | None = None, seed: int | None = None
    ) -> Supernet:
        """Returns a supernet, or a child with running statistics; the seed draws its weights."""
        entry = entry_of("a network", self.names.network, BACKBONES)
        statistics = "batch" if only is None else "running"
        with seeded(self.seed if seed is None else seed, "weights"):
            network: Supernet = entry.make(self.space, settings, **task.dimensions, only=only, statistics=statistics)
        return network.to(self.device)

    def model(self, settings: DataclassInstance, task: Task, what: Architecture | Reference, seed: int) -> nn.Module:
        """Returns what trains from scratch: the child model of an architecture, or a reference by
        the same settings. ValueError for a reference that does not exist, or is for another task.
        """
        if isinstance(what, Architecture):
            return self.network(settings, task, what, seed)
        entry = reference_entry(what.name, self.names.task)
        with seeded(seed, "weights"):
            return entry.make(task.dimensions, settings, what.parameters).to(self.device)

    def strategy(self) -> Strategy:
        """Returns the strategy at its beginning; ValueError where a class of a user's own lacks a
        part of the contract."""
        settings = self.settings.strategy
        arguments = [] if isinstance(settings, NoSettings) else [settings]
        strategy: Strategy = entry_of("a strategy", self.names.strategy, STRATEGIES).make(
            self.space, *arguments, seed=self.seed
        )
        if missing := [name for name in ("learns", "ask", "tell", "state", "load") if not hasattr(strategy, name)]:
            raise ValueError(
                f"a strategy has learns, ask, tell, state and load; '{self.names.strategy}' lacks {missing[0]}"
            )
        return strategy

    def search(self) -> Search:
        """Returns the search at its beginning, with its data loaded."""
        prepare(self.device, self.threads)
        task = self.task(self.load_data(), self.settings.task)
        supernet = self.network(self.settings.network, task)
        return Search(self.settings.search, task, supernet, self.strategy(), self.seed)


def reference_entry(name: str, task: str) -> ReferenceEntry:
    """Returns a registered reference model; ValueError where it does not exist, or is for another
    task."""
    fitting = [key for key, entry in REFERENCES.items() if entry.task == task]
    check_name(f"a reference model for {task.replace('_', ' ')}", name, fitting)
    return REFERENCES[name]


def preset_plan(
    preset: str,
    recipe: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    device: str | None = None,
    strategy: str | None = None,
) -> Plan:
    """Returns the plan of a preset, before anything is checked on this machine.

    None picks: the preset's default recipe, the recipe's settings and strategy, a GPU where there
    is one. The number of threads is the preset's. Where it has none: all cores, or one beside a
    GPU, because what is left for them is small.
    """
    entry = presets.preset(preset)
    recipe = recipe or entry.default
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    threads = entry.threads or (1 if device.startswith("cuda") else cores())
    settings = settings or presets.config_of(preset, recipe)
    return Plan(preset, recipe, entry.names, settings, seed, None, device, threads).with_strategy(
        strategy or entry.names.strategy
    )


def make_plan(
    preset: str,
    recipe: str | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    data: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    strategy: str | None = None,
) -> Plan:
    """Returns the plan of a preset, ready for this machine; None as in `preset_plan`. ValueError
    where the data's folder is missing, or the device cannot be used."""
    return preset_plan(preset, recipe, settings, seed, device, strategy).on(data, device, threads)


# ----------------------------------------------------------------------- a problem of one's own
def problem_source(path: str) -> dict[str, str]:
    from enas.tasks.problem import problem_of  # the user's module with it: only where it is needed

    return problem_of(path).source


def own_data(path: str, settings: DataclassInstance) -> OwnData:
    from enas.tasks.own import OwnData
    from enas.tasks.problem import problem_of

    return OwnData(problem_of(path), settings)  # type: ignore[arg-type]


def problem_plan(path: str, seed: int = 0, device: str | None = None, strategy: str | None = None) -> Plan:
    """Returns the plan of a problem, `module:function`, by settings that suit a small network.
    ValueError where it is no problem, or its network holds no choice."""
    from enas.tasks.problem import problem_of

    problem = problem_of(path)
    wanted: dict[str, Any] = {"kind": "adamw", "schedule": "cosine", "learning_rate": 1e-3, "min_learning_rate": 0.0}
    wanted |= {"weight_decay": 0.01, **problem.optimizer}
    optimizer = OptimizerSettings(**wanted)
    task = OwnTaskSettings(batch_size=problem.batch_size, metric=problem.metric.name)
    settings: Settings = Config(
        space=OwnSpaceSettings(path),
        network=NoSettings(),
        data=OwnDataSettings(),
        task=task,
        search=SearchSettings(epochs=30, warmup_epochs=15, controller_steps=20, architectures=8, optimizer=optimizer),
        strategy=ReinforceSettings(learning_rate=1e-2, entropy_weight=1e-3, normalise=True),
        derive=DeriveSettings(samples=40, draw="both", keep=10, uniform=0, finalists=8, finalist_steps=100),
        retrain=RetrainConfig(epochs=30, optimizer=optimizer, network=NoSettings(), task=task),
    )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    plan = Plan(path, "own", Names("own", "own", "own"), settings, seed, None, device, 1)
    plan.space  # noqa: B018 (a network without a choice is said at once)
    return plan.with_strategy(strategy or "reinforce")
