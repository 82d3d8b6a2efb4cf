"""This module holds the command `enas latency`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse


@dataclass(frozen=True)
class LatencyFlags:
    """Measure on this machine how long each part of a network takes, so that the latency of every
    architecture is known as a sum. Say how far off such sums are.

    enas latency digits-micro --out latency.json
    enas search digits-micro --latency-table latency.json --max-latency 3ms --out runs/fast
    """

    what: Positional[str]
    """A preset, a run folder, or `module:function` of a problem."""
    out: Path
    """File to write."""
    batch: int = 1
    """Number of examples, or of tokens side by side, in a forward pass."""
    recipe: Maybe[str] = None
    """Recipe of the preset; without it, its default."""
    data: Maybe[Path] = None
    """Folder of the data set, where sizes have to be read off the data."""
    children: int = 40
    """Number of random networks from which the times are computed."""
    held_out: int = 20
    """Number of further networks that say how far off the sums are."""
    rounds: int = 15
    """Number of forward passes of each network; the fastest counts."""
    device: Maybe[str] = None
    """Device, cpu or cuda; without it, as the plan says."""
    threads: Maybe[int] = None
    """Number of CPU threads; without it, as the plan says."""


@command("latency", "measure a table of latencies on this machine")
def latency(args: list[str]) -> int:
    flags = parse(LatencyFlags, args, "latency")
    from enas.procedures.latency import LatencySettings
    from enas.runs.cost import latency_table, plan_for

    settings = LatencySettings(flags.batch, flags.children, flags.held_out, flags.rounds)
    plan = plan_for(flags.what, flags.recipe, data=flags.data).on(None, flags.device, flags.threads)
    table = latency_table(dataclasses.replace(plan, latencies=None), settings, flags.out)
    on, others = f"{flags.held_out} other networks", table["others"]
    if others < flags.held_out:
        on = f"{flags.held_out} random networks, {others} of them not timed before"
    print(
        f"a forward pass of {flags.batch} on {plan.device}, {plan.threads} thread{'s' * (plan.threads != 1)}:"
        f" sums are off by {table['relative_error']:.1%} (median) and {table['largest_error']:.1%} at most on {on},"
        f" Kendall's tau {table['kendall']:.2f}"
    )
    print(f"wrote {flags.out}")
    return 0
