"""`enas list`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class ListFlags:
    """List the names of everything that is registered, from presets to reference models."""

    json: bool = False
    """Print JSON."""


@command("list", "everything that is registered, and the named architectures")
def list_command(args: list[str]) -> int:
    flags = parse(ListFlags, args, "list")
    from enas.data.registry import DATASETS
    from enas.networks.references.registry import REFERENCES
    from enas.runs.presets.registry import PRESETS
    from enas.spaces.decisions import OpChoice
    from enas.spaces.published import NAMED
    from enas.spaces.registry import SPACES
    from enas.strategies.registry import STRATEGIES
    from enas.tasks.registry import TASKS

    spaces = [entry.make(entry.settings()) for entry in SPACES.values()]
    choices = (decision for space in spaces for decision in space.decisions if isinstance(decision, OpChoice))
    registries: dict[str, Iterable[str]] = {
        "presets": PRESETS,
        "spaces": SPACES,
        "ops": dict.fromkeys(op for choice in choices for op in choice.options),
        "strategies": STRATEGIES,
        "tasks": TASKS,
        "data sets": DATASETS,
        "architectures": NAMED,
        "references": REFERENCES,
    }
    if flags.json:
        print(json.dumps({kind: list(entries) for kind, entries in registries.items()}, indent=1))
        return 0
    for kind, entries in registries.items():
        print(f"{kind:14} {', '.join(entries)}")
    return 0
