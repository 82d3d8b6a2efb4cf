"""This module turns settings into working parts: it holds the plan of a run, and puts its parts
together."""

from __future__ import annotations

import dataclasses
import inspect
import random
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from enas.data.folder import recognised
from enas.data.images import ImageData
from enas.data.registry import DATASETS, check_folder, settings_for, source_of
from enas.data.registry import load as load_data
from enas.data.text import TextData
from enas.networks import cost
from enas.networks.limited import limited
from enas.networks.references.registry import REFERENCES, ReferenceEntry
from enas.networks.registry import BACKBONES
from enas.networks.supernet import Supernet
from enas.plugins import NoSettings, check_call, entry_of
from enas.procedures.ranks import Ranks
from enas.procedures.search import Search
from enas.ranges import THREADS, check_name
from enas.runs.before import upgraded
from enas.runs.files import blaming
from enas.runs.folder import RunFolder
from enas.runs.presets import registry as presets
from enas.runs.process import device_named, machine, prepare, unusable, versions
from enas.runs.records import Config as Recorded
from enas.runs.settings import Names, Settings, as_recorded, to_dict
from enas.runs.values import VERSION
from enas.spaces.architecture import Architecture, Reference
from enas.spaces.costs import Costs, CostTerm, Limits
from enas.spaces.registry import SPACES, make_space, settings_of
from enas.spaces.space import SearchSpace
from enas.state import Record, Values, seeded
from enas.strategies.registry import STRATEGIES
from enas.strategies.strategy import Strategy
from enas.tasks.metrics import METRICS, Metric
from enas.tasks.registry import TASKS
from enas.tasks.task import Task

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from enas.tasks.own import OwnData

    Data = ImageData | TextData | OwnData


@dataclass(frozen=True)
class Plan:
    """A `Plan` holds everything that config.json records of a run: the names of its parts, and
    their settings."""

    preset: str
    """Name of the preset that names and settings came from. It is for people only."""
    recipe: str
    names: Names
    settings: Settings
    seed: int = 0
    data: str | None = None
    device: str = "cpu"
    threads: int = 1
    source: dict[str, str] | None = None
    """These names identified embedded data when the run was made (`data.source_of`). A new run has
    None."""
    limits: Limits = dataclasses.field(default_factory=Limits)
    """The most that architectures may cost, be they asked, derived or compared with."""
    latencies: Record | None = None
    """The whole table of latencies (`enas.procedures.latency`), or None where none is known."""

    def __post_init__(self) -> None:
        if not THREADS.contains(self.threads):
            raise ValueError(f"--threads is {THREADS.rule}; got {self.threads}")

    @classmethod
    def of(cls, config: Values, file: Path = Path("config.json")) -> Plan:
        """Returns the plan that a config.json holds. `file` is the file that errors blame. Raises a
        ValueError where a part or a setting of it is unknown."""
        with blaming(file):
            Recorded.from_json(config)
            config = upgraded(config)
            names = Names(**config["names"])
            fields = {f.name: config[f.name] for f in dataclasses.fields(cls) if f.name in config}
            limits = Limits(**config.get("limits", {}))
        settings = names.settings()  # a missing module of the user's does not count as damage
        with blaming(file):
            settings = as_recorded(settings, config["settings"])
            return cls(**{**fields, "names": names, "settings": settings, "limits": limits})

    @classmethod
    def recorded(cls, folder: RunFolder) -> Plan:
        """Returns the plan of a run folder for this machine. Where the run's device is not here,
        the plan is on the CPU, and a warning says so."""
        plan = cls.of(folder.config, folder.path / Recorded.FILE)
        if plan.device == "cpu" or (why := unusable(plan.device)) is None:
            return plan
        warnings.warn(
            f"'{folder.path}' is a run on '{plan.device}', which cannot be used here ({why}): the CPU is used, and figures"
            " may differ in their last digits",
            stacklevel=2,
        )
        return dataclasses.replace(plan, device="cpu")

    def to_dict(self, command: str, **more: object) -> Record:
        """Returns the content of config.json, with the entries `more`."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "settings"}
        # the code of a problem is that of now, also in a training of an older search
        source = problem_source(self.problem) if self.problem else self.source or source_of(self.settings.data.dataset)
        fields |= {"names": to_dict(self.names), "source": source, "limits": to_dict(self.limits)}
        settings = to_dict(self.settings)
        ran = {"versions": versions(), "machine": machine(self.device)}
        return {"version": VERSION, "command": command, **fields, **more, **ran, "settings": settings}

    # ------------------------------------------------------------------------ a plan like this one
    def with_settings(self, **changes: Any) -> Plan:
        """Returns the plan with other groups of settings, such as `retrain=...`."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

    def with_strategy(self, name: str) -> Plan:
        """Returns the plan with a strategy by its name. The strategy has its default settings where
        those of the plan are of another kind."""
        kind, plan = entry_of("a strategy", name, STRATEGIES).settings, self
        if not isinstance(self.settings.strategy, kind):
            plan = self.with_settings(strategy=kind())
        return dataclasses.replace(plan, names=dataclasses.replace(self.names, strategy=name))

    def with_task(self, name: str) -> Plan:
        """Returns the plan with a task by its name. The task has its default settings where those
        of the plan are of another kind."""
        entry, plan = entry_of("a task", name, TASKS), self
        if self.problem and not isinstance(self.settings.data, entry.data):
            raise ValueError(f"'{self.problem}' brings its own data, loss and reward; leave out --task {name}")
        if not isinstance(self.settings.task, entry.settings):
            retrain = dataclasses.replace(self.settings.retrain, task=entry.settings())
            plan = plan.with_settings(task=entry.settings(), retrain=retrain)
        if not isinstance(self.settings.data, entry.data):
            plan = plan.with_settings(data=entry.data())
        return dataclasses.replace(plan, names=dataclasses.replace(plan.names, task=name))

    def with_space_named(self, name: str) -> Plan:
        """Returns the plan with a space by its name, and with the network that the space goes into.
        Each has its default settings where those of the plan are of another kind."""
        kind, plan = entry_of("a space", name, SPACES).settings, self
        if self.problem and not isinstance(self.settings.space, kind):
            raise ValueError(f"'{self.problem}' brings its own space, the choices in its network; leave out --space {name}")
        if not isinstance(self.settings.space, kind):
            plan = plan.with_settings(space=kind())
        backbone = make_space(name, plan.settings.space).backbone
        network = entry_of("a network", backbone, BACKBONES).settings
        if not isinstance(self.settings.network, network):
            retrain = dataclasses.replace(plan.settings.retrain, network=network())
            plan = plan.with_settings(network=network(), retrain=retrain)
        return dataclasses.replace(plan, names=dataclasses.replace(plan.names, space=name, network=backbone))

    def with_space(self, spec: Values) -> Plan:
        """Returns the plan for an architecture's own space, such as one with more layers. Raises a
        ValueError where the plan's space is of another kind."""
        if spec["name"] != self.names.space:
            raise ValueError(
                f"preset '{self.preset}' trains architectures of space '{self.names.space}'; got one of '{spec['name']}'"
            )
        return self.with_settings(space=settings_of(spec))

    def on(self, data: str | Path | None = None, device: str | None = None, threads: int | None = None) -> Plan:
        """Returns the plan for this machine, with another folder of the data, device or number of
        threads. None keeps the plan's own. Raises a ValueError where one of them cannot be used."""
        if threads is not None and not THREADS.contains(threads):
            raise ValueError(f"--threads is {THREADS.rule}; got {threads}")
        device = self.device if device is None else device_named(device)
        if (why := unusable(device)) is not None:
            raise ValueError(f"device '{device}' cannot be used here: {why}")
        plan = self
        if self.problem and data is not None:
            raise ValueError(f"'{self.problem}' brings its own data; leave out --data")
        if not self.problem:
            plan = self if data is None or self.source is not None else self._reading(data)
            check_folder(plan.settings.data.dataset, data or self.data)
        folder = self.data if data is None else str(Path(data).resolve())
        return dataclasses.replace(plan, data=folder, device=device, threads=threads or self.threads)

    def _reading(self, folder: str | Path) -> Plan:
        """Returns the plan with the data set that reads a folder, where the preset's own cannot
        read it and nobody named another.

        Numbers of images that are the preset's, for its own data, are reset to those of the folder.
        Raises a ValueError where nothing reads it.
        """
        data, own = self.settings.data, presets.config_of(self.preset, self.recipe).data
        if data.dataset != own.dataset:
            return self
        found = recognised(folder, DATASETS[own.dataset].kind).dataset
        if found == own.dataset:
            return self
        numbers = {name: None for name in ("train", "validation") if getattr(data, name, 0) == getattr(own, name, 1)}
        return self.with_settings(data=dataclasses.replace(data, dataset=found, **numbers))

    # ----------------------------------------------------------------------------------- the parts
    @property
    def space(self) -> SearchSpace:
        """Returns the search space."""
        return make_space(self.names.space, self.settings.space)

    @cached_property
    def limited_space(self) -> SearchSpace:
        """Returns the search space with the limits on costs. Raises a ValueError where no
        architecture is within them."""
        if not self.limits.kinds:
            return self.space
        return limited(self.space, self.limits, self.bill)

    @cached_property
    def bill(self) -> cost.Bill | cost.OwnBill:
        """Returns the bill that prices architectures. It is of the network that is trained from
        scratch, with memory at its batch size."""
        settings = self.settings.retrain
        if self.problem:
            task: Any = self.task(self.load_data(), settings.task)
            network: Any = self.network(settings.network, task)
            inputs = task.first_inputs(2)
            own = cost.OwnBill(network, lambda model: model(*inputs), settings.task.batch_size, examples=2)
            if self.latencies is not None:
                own.priced(latencies_of(self.latencies, self))
            return own
        fixed = DATASETS[self.settings.data.dataset].dimensions
        dimensions = fixed or self.task(self.load_data(), self.settings.task).dimensions
        entry = entry_of("a network", self.names.network, BACKBONES)
        with torch.device("meta"):
            on_meta = entry.make(self.space, cost.countable(settings.network), **dimensions, statistics="running")
        bill = cost.Bill(on_meta, cost.example_of(dimensions), settings.task.batch_size)
        if self.latencies is not None:
            bill.priced(latencies_of(self.latencies, self))
        return bill

    def cost(self, arch: Architecture) -> Costs:
        """Returns what an architecture costs in the network that is trained from scratch. Raises a
        ValueError where it is of another space."""
        return self.bill.of(self.space.check(arch))

    @property
    def problem(self) -> str:
        """Returns the `module:function` of a problem of the user's own, or "" where there is
        none."""
        return str(getattr(self.settings.space, "problem", ""))

    @property
    def data_name(self) -> str:
        """Returns the name of the data set, or that of the problem that brings it."""
        return self.problem or str(self.settings.data.dataset)

    def load_data(self) -> Data:
        """Returns the data. Raises a ValueError where it is missing or damaged, or is not the data
        that the run was made with."""
        d = self.settings.data
        if self.problem:
            self.warn_of_changes()
            return own_data(self.problem, d)
        if self.source and self.source["sha256"] != (here := source_of(d.dataset))["sha256"]:
            was, now = (", ".join(f"{key} {value[:16]}" for key, value in some.items()) for some in (self.source, here))
            raise ValueError(
                f"a run goes on with the data it began with; data set '{d.dataset}' was {was} and is {now} here"
            )
        data = load_data(d.dataset, self.data, **settings_for(d))
        if isinstance(data, ImageData) and (data.memory, data.workers) != (d.memory, d.workers):
            data = dataclasses.replace(data, memory=d.memory, workers=d.workers)
        return data

    def warn_of_changes(self) -> None:
        """Warns where the file of a problem has changed since the run was made."""
        if self.problem and self.source and self.source != problem_source(self.problem):
            warnings.warn(f"the file of '{self.problem}' has changed since this run was made", stacklevel=3)

    def task(self, data: Data, settings: DataclassInstance, train_on: str = "train") -> Task:
        """Returns the task on this data."""
        make: Any = entry_of("a task", self.names.task, TASKS).make
        named: Any = {"seed": self.seed, "device": self.device, "train_on": train_on}
        rule = f"a task is made of data, settings, seed, device and train_on; '{self.names.task}' takes other arguments"
        check_call(rule, make, data, settings, **named)
        made: Task = make(data, settings, **named)
        return made

    @property
    def metric(self) -> Metric:
        """Returns the figure that the task is judged by."""
        if self.problem:
            return METRICS[self.settings.task.metric]
        metric: Metric = entry_of("a task", self.names.task, TASKS).make.metric
        return metric

    @property
    def averages(self) -> bool:
        """Returns whether an ensemble can average what the task's networks answer."""
        return bool(entry_of("a task", self.names.task, TASKS).make.averages)

    @property
    def learns(self) -> bool:
        """Returns whether the strategy learns from rewards. Random search does not."""
        return bool(self._strategy_class.learns)

    @property
    def _strategy_class(self) -> Any:
        """Returns the class of the strategy. Raises a ValueError where one of a user's own lacks a
        part of the contract."""
        name = self.names.strategy
        made = entry_of("a strategy", name, STRATEGIES).make
        if missing := [part for part in ("learns", "ask", "tell", "state", "load") if not hasattr(made, part)]:
            raise ValueError(f"a strategy has learns, ask, tell, state and load; '{name}' lacks {missing[0]}")
        return made

    def network(
        self, settings: DataclassInstance, task: Task, only: Architecture | None = None, seed: int | None = None
    ) -> Supernet:
        """Returns a supernet, or with `only` a child with running statistics. The seed draws its
        weights. Raises a ValueError where the network does not fit the task."""
        entry = entry_of("a network", self.names.network, BACKBONES)
        statistics = "batch" if only is None else "running"
        known = inspect.signature(entry.make).parameters
        if strange := [name for name in task.dimensions if name not in known]:
            raise ValueError(
                f"network '{self.names.network}' does not fit task '{self.names.task}', whose data have"
                f" {', '.join(strange)}"
            )
        named: Any = {**task.dimensions, "only": only, "statistics": statistics}
        rule = f"a network is made of space, settings, {', '.join(named)}; '{self.names.network}' takes other arguments"
        check_call(rule, entry.make, space := self.space, settings, **named)
        with seeded(self.seed if seed is None else seed, "weights"):
            network: Supernet = entry.make(space, settings, **named)
        return network.to(self.device)

    def model(self, settings: DataclassInstance, task: Task, what: Architecture | Reference, seed: int) -> nn.Module:
        """Returns the model that is trained from scratch: the child model of an architecture, or a
        reference by the same settings. Raises a ValueError for a reference that does not exist, or
        is for another task."""
        if isinstance(what, Architecture):
            return self.network(settings, task, what, seed)
        entry = reference_entry(what.name, self.names.task)
        with seeded(seed, "weights"):
            return entry.make(task.dimensions, settings, what.parameters).to(self.device)

    def strategy(self, space: SearchSpace | None = None) -> Strategy:
        """Returns the strategy at its beginning, by default for the limited space. Raises a
        ValueError where a class of a user's own is none."""
        settings, made = self.settings.strategy, self._strategy_class
        arguments = [space or self.limited_space, *([] if isinstance(settings, NoSettings) else [settings])]
        rule = f"a strategy is made of a space, its settings where it has some, and seed=...; '{self.names.strategy}'"
        check_call(f"{rule} takes other arguments", made, *arguments, seed=self.seed)
        strategy: Strategy = made(*arguments, seed=self.seed)
        return strategy

    def shared(self, ranks: Ranks) -> Plan:
        """Returns the plan with the first rank's number of threads, on which sums depend. Raises a
        RankError where ranks have other settings."""
        ranks.check("settings", {"seed": self.seed, "names": to_dict(self.names), "settings": to_dict(self.settings)})
        return dataclasses.replace(self, threads=ranks.told(lambda: self.threads))

    def search(self, ranks: Ranks | None = None) -> Search:
        """Returns the search at its beginning, with its data loaded."""
        prepare(self.device, self.threads, self.settings.search.compute.precision)
        task = self.task(self.load_data(), self.settings.task)
        supernet = self.network(self.settings.network, task)
        space = self.limited_space
        costs = self.cost if self.settings.search.cost_terms else None
        # A term that cannot be computed raises an error now, before minutes are spent.
        for term in self.settings.search.cost_terms:
            CostTerm.parse(term).applied(1.0, self.cost(space.sample(random.Random(0))))
        return Search(self.settings.search, task, supernet, self.strategy(space), self.seed, space, costs, ranks)


def reference_entry(name: str, task: str) -> ReferenceEntry:
    """Returns a registered reference model. Raises a ValueError where it does not exist, or is for
    another task."""
    fitting = [key for key, entry in REFERENCES.items() if entry.task == task]
    if not fitting:
        raise ValueError(f"hand-designed models are of images and of texts, none of task '{task}': leave out '{name}'")
    check_name(f"a reference model for {task.replace('_', ' ')}", name, fitting)
    return REFERENCES[name]


def latencies_of(table: Values, plan: Plan) -> dict[str, float]:
    """Returns the seconds of each part by its key. Raises a ValueError where the table is of
    another network."""
    network = to_dict(plan.settings.retrain.network)
    for name, here in (("space", plan.problem or plan.names.space), ("network", network)):
        if table[name] != here:
            raise ValueError(
                f"the table of latencies is of another {name} than this plan's: measure it anew, `enas latency`"
            )
    return {entry["key"]: entry["seconds"] for entry in table["entries"]}


# ----------------------------------------------------------------------- a problem of one's own
def problem_source(path: str) -> dict[str, str]:
    """Returns the path of a problem and the hash of the file that makes it."""
    from enas.tasks.problem import problem_of  # this imports the user's module

    return problem_of(path).source


def check_source(folder: Path, plan: Plan, away: str = "") -> None:
    """Raises a ValueError where what a folder holds was made by another version of a problem's file
    than there is now, because figures of two versions cannot be compared. `away` says what to move
    away for new figures, where it is not the folder."""
    away = away or f"'{folder}'"
    if plan.problem and Recorded.read(folder).source not in (None, problem_source(plan.problem)):
        raise ValueError(
            f"'{folder}' was made by another version of the file of '{plan.problem}' than there is now, so that figures do"
            f" not go together: put that version back, or move {away} away, and the same command begins anew"
        )


def own_data(path: str, settings: DataclassInstance) -> OwnData:
    """Returns the data of a problem of the user's own."""
    from enas.tasks.own import OwnData
    from enas.tasks.problem import problem_of

    return OwnData(problem_of(path), settings)  # type: ignore[arg-type]
