"""This module holds the command `enas cost`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse


@dataclass(frozen=True)
class CostFlags:
    """Say what an architecture costs before it is built: parameters, multiply-accumulates, memory
    of activations and latency, in the network that is trained from scratch.

    enas cost runs/mine                       (all that it ranks)
    enas cost runs/mine --measure 30          (and how long they take on this machine)
    enas cost enas_micro                      (by the paper's recipe of its preset)
    enas cost digits-micro                    (what random architectures cost: to choose a limit by)
    """

    what: Positional[str]
    """A run folder, a preset, an architecture file, or a name from `enas list`."""
    preset: Maybe[str] = None
    """Preset whose network an architecture is put into; without it, that of the paper's data."""
    recipe: Maybe[str] = None
    """Recipe of the preset; without it, its default."""
    data: Maybe[Path] = None
    """Folder of the data set, where sizes have to be read off the data."""
    latency_table: Maybe[Path] = None
    """File that `enas latency` wrote; without it, latencies are those that a run knows."""
    samples: int = 200
    """Number of random architectures to show beside it; 0: none."""
    measure: int = 0
    """Number of forward passes in which to build and time the architectures; 0: none.
    The fastest pass counts."""


@command("cost", "parameters, multiply-accumulates, memory and latency of architectures")
def cost(args: list[str]) -> int:
    flags = parse(CostFlags, args, "cost")
    from enas.runs.cost import architectures_of, plan_for, priced

    where, archs = architectures_of(flags.what)
    plan = plan_for(str(flags.preset or where), flags.recipe, flags.latency_table, flags.data)
    for arch in list(archs.values())[:1]:
        plan = plan.with_space(dict(arch.space))
    found = priced(plan, archs, flags.samples, flags.measure)
    batch = plan.settings.retrain.task.batch_size
    print(f"in the network trained from scratch ({plan.preset}, {plan.recipe}); activations of a training step of {batch}")
    heads = f"{'':20}{'parameters':>14}{'MACs':>16}{'activations':>16}{'latency':>12}"
    print(heads + (f"{'measured':>12}" if found.measured else ""))
    for name, costs in found.costs.items():
        measured = f"{found.measured[name] * 1000:>9.3f} ms" if found.measured else ""
        print(_row(name, costs.values()) + measured)
    for share, values in found.shares.items():
        print(_row(f"random, {share} % below", values))
    if plan.latencies is not None:
        table = plan.latencies
        print(
            f"latencies: a forward pass of {table['batch']}, {table['threads']} thread{'s' * (table['threads'] != 1)};"
            f" sums are off by {table['relative_error']:.1%} (median), Kendall's tau {table['kendall']:.2f}"
        )
    return 0


def _row(name: str, values: tuple[float, ...]) -> str:
    parameters, macs, memory, latency = values
    shown = f"{latency * 1000:.3f} ms" if latency == latency else "not known"
    return f"{name:20}{parameters:>14,.0f}{macs:>16,.0f}{memory / 1e6:>13,.2f} MB{shown:>12}"
