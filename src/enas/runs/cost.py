"""This module computes what architectures of a run or of a preset cost, and measures tables of
latencies."""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enas.networks.cost import Bill, OwnBill, answered, example_of
from enas.procedures.latency import LatencySettings, clock_of, measure, timed
from enas.runs.files import read_json, write_json
from enas.runs.folder import RunFolder
from enas.runs.plan import Plan, latencies_of
from enas.runs.planning import preset_plan, problem_plan
from enas.runs.presets.registry import preset_for
from enas.runs.process import machine, prepare, versions
from enas.runs.results import Best
from enas.runs.settings import to_dict
from enas.spaces.architecture import Architecture
from enas.spaces.costs import KINDS, Costs
from enas.state import Record
from enas.tasks.problem import own_network

SHARES = (1, 10, 20, 50, 80, 99)  # the percentiles of random architectures to show


def plan_for(
    what: str | Path, recipe: str | None = None, latencies: str | Path | None = None, data: str | Path | None = None
) -> Plan:
    """Returns the plan of a run folder, of a preset, or of a problem by its `module:function`.
    `latencies` is a file that `enas latency` wrote."""
    if Path(what).is_dir():
        plan = Plan.recorded(RunFolder.open(Path(what)))
    elif ":" in str(what):
        plan = problem_plan(str(what))
    else:
        plan = preset_plan(str(what), recipe, device="cpu")
    plan = plan.on(data) if data is not None else plan
    return plan if latencies is None else with_latencies(plan, latencies)


def with_latencies(plan: Plan, file: str | Path) -> Plan:
    """Returns the plan with a table of latencies. Raises a ValueError where the file is no such
    table, or is one of another network."""
    table = read_json(Path(file))
    if not isinstance(table, dict) or "entries" not in table:
        raise ValueError(f"a table of latencies is a file that `enas latency` wrote; got '{file}'")
    latencies_of(table, plan)
    here = machine(plan.device)
    if table["machine"] != here:
        warnings.warn(f"the table of latencies is of another machine: {table['machine']}", stacklevel=2)
    return dataclasses.replace(plan, latencies=table)


def cost(what: str | Path, arch: Architecture, recipe: str | None = None) -> Costs:
    """Returns what an architecture costs in the network that a run, or a preset's recipe, trains
    from scratch: parameters, multiply-accumulates, bytes of activations, and seconds where a table
    of latencies is known."""
    return plan_for(what, recipe).with_space(dict(arch.space)).cost(arch)


@dataclass(frozen=True)
class Priced:
    """A `Priced` value holds the costs of named architectures, and percentiles of random ones."""

    costs: dict[str, Costs]
    shares: dict[int, tuple[float, ...]]
    """Percentiles of the costs of random architectures, by percent, for each kind by itself."""
    measured: dict[str, float]
    """Seconds of a forward pass, where they were measured."""


def priced(plan: Plan, archs: Mapping[str, Architecture], samples: int = 200, rounds: int = 0) -> Priced:
    """Returns what architectures cost, beside random ones of the whole space. With `rounds`,
    latencies are measured in that many forward passes, with the batch and threads of the plan's
    table."""
    measured = {}
    if rounds:
        table = plan.latencies or {"batch": 1, "threads": plan.threads}
        prepare(plan.device, int(table["threads"]))
        made, clock = forward_passes(plan, int(table["batch"])), clock_of(plan.device, int(table["threads"]))
        seconds = timed([made(arch) for arch in archs.values()], rounds, clock)
        measured = dict(zip(archs, seconds, strict=True))
    drawn = plan.space.samples(random.Random(0), samples)[0] if samples else []
    values = np.array([plan.cost(arch).values() for arch in drawn]).reshape(-1, len(KINDS))
    shares = {share: tuple(np.percentile(values, share, axis=0).tolist()) for share in SHARES if samples}
    return Priced({name: plan.cost(arch) for name, arch in archs.items()}, shares, measured)


def architectures_of(what: str) -> tuple[str | None, dict[str, Architecture]]:
    """Returns the run or preset that `what` belongs to, and architectures by name: those that a run
    ranks, or the one that a file or a published name gives."""
    if Path(what).is_dir():
        best = Best.find(Path(what))
        return what, {f"{entry.rank}. {entry.id}": entry.architecture for entry in best.ranked} if best else {}
    if ":" in what:
        return what, {}
    from enas.runs.architectures import architecture_of
    from enas.runs.presets.registry import PRESETS

    if what in PRESETS:
        return what, {}
    arch = architecture_of(what)
    own = arch.space.get("problem")
    return (str(own) if own else preset_for(arch.space["name"])), {arch.id: arch}


def latency_table(plan: Plan, settings: LatencySettings, out: Path) -> Record:
    """Measures the latencies of a plan's network on this machine, with the plan's number of
    threads. Writes the table and returns it."""
    prepare(plan.device, plan.threads)
    clock = clock_of(plan.device, plan.threads)
    found = measure(settings, plan.bill, forward_passes(plan, settings.batch), clock, plan.seed)
    table: Record = {
        "version": 1,
        "batch": settings.batch,
        "threads": plan.threads,
        "device": plan.device,
        "machine": machine(plan.device),
        "versions": versions(),
        "space": plan.problem or plan.names.space,
        "network": _as_json(to_dict(plan.settings.retrain.network)),
        "children": settings.children,
        "held_out": settings.held_out,
        "kendall": found.kendall,
        "relative_error": found.relative_error,
        "largest_error": found.largest_error,
        "others": found.others,
        "entries": [
            {"key": name, "part": found.examples[name], "seconds": seconds} for name, seconds in found.seconds.items()
        ],
    }
    write_json(out, table)
    return table


def forward_passes(plan: Plan, batch: int) -> Callable[[Architecture], Callable[[], object]]:
    """Returns a function that makes the child of an architecture as it is trained from scratch.
    That function returns a forward pass of the child on `batch` examples, on the plan's device."""
    bill, network = plan.bill, plan.settings.retrain.network
    if isinstance(bill, OwnBill):
        task: Any = plan.task(plan.load_data(), plan.settings.retrain.task)
        inputs = task.first_inputs(batch)

        def of_own(arch: Architecture) -> Callable[[], object]:
            child = own_network(plan.space, network, arch).to(plan.device).eval()
            return lambda: child(*inputs)

        return of_own
    make: Any = type(bill.network)
    dimensions = _dimensions(bill)
    example = tuple(torch.zeros(x.shape, dtype=x.dtype, device=plan.device) for x in example_of(dimensions, "meta", batch))

    def of_a_backbone(arch: Architecture) -> Callable[[], object]:
        child = make(plan.space, network, **dimensions, only=arch, statistics="running").to(plan.device).eval()
        return lambda: answered(child(*example, None))

    return of_a_backbone


def _as_json(settings: Record) -> Record:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _dimensions(bill: Bill) -> dict[str, int]:
    network = bill.network
    names = ("vocabulary",) if hasattr(network, "vocabulary") else ("channels", "image_size", "classes")
    return {name: int(getattr(network, name)) for name in names}
