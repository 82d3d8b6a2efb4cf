"""This module holds the command `enas list`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class ListFlags:
    """List everything that is registered, here or by installed packages: presets, spaces, networks,
    ops, strategies, tasks, data sets, named architectures."""

    json: bool = False
    """Print the list as JSON."""


@command("list", "everything that is registered, and the named architectures")
def list_command(args: list[str]) -> int:
    flags = parse(ListFlags, args, "list")
    from enas.data.registry import DATASETS
    from enas.networks.references.registry import REFERENCES
    from enas.networks.registry import BACKBONES
    from enas.runs.presets.registry import PRESETS
    from enas.spaces.published import NAMED
    from enas.spaces.registry import SPACES, op_names
    from enas.strategies.registry import STRATEGIES
    from enas.tasks.registry import TASKS

    registries: dict[str, Iterable[str]] = {
        "presets": PRESETS,
        "spaces": SPACES,
        "networks": BACKBONES,
        "ops": op_names(),
        "strategies": STRATEGIES,
        "tasks": TASKS,
        "data sets": DATASETS,
        "architectures": NAMED,
        "references": REFERENCES,
    }
    names = {kind: list(entries) for kind, entries in registries.items()}
    if flags.json:
        print(json.dumps(names, indent=1))
    else:
        for kind, entries in names.items():
            print(f"{kind:14} {', '.join(entries)}")
    return 0
