"""`enas reproduce`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class ReproduceFlags:
    """The paper's experiments beside ours: a row for each of Tables 1 and 2 and of section 3.3, what came out here with its
    size and recipe, and the command that runs it at full size. Nothing is trained: run folders are read.

    enas reproduce                                 (what is below runs/)
    enas reproduce runs/cifar results              (these too: run folders, or folders of them)
    enas reproduce --out reproduced.html           (.md .json .html)
    """

    runs: Positional[tuple[Path, ...]] = ()
    """Run folders, or folders of them, to read beside runs/."""
    out: Path | None = None
    """File to write too; the ending says which form."""


@command("reproduce", "the paper's tables beside what run folders hold")
def reproduce(args: list[str]) -> int:
    flags = parse(ReproduceFlags, args, "reproduce")
    import os

    from rich.console import Console

    from enas.grading.reproduce import survey
    from enas.reports.paper_table import FORMS, terminal

    if flags.out is not None and flags.out.suffix not in FORMS:
        raise ValueError(f"--out ends in {', '.join(FORMS)}; got '{flags.out}'")
    found = survey(flags.runs, paper_settings(), Path("runs"))
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=100)
    tables, below = terminal(found)
    with console.capture() as shown:  # printed by print: who reads only a part of it ends the command as any other
        for one in tables:
            console.print(one, "")
    print(shown.get(), *below, sep="\n")
    if flags.out is not None:
        from enas.runs.files import write_atomically

        write_atomically(flags.out, FORMS[flags.out.suffix](found))
        print(f"wrote {flags.out}")
    return 0


def paper_settings() -> dict[str, dict[str, Any]]:
    """The recipe `paper` of every preset that has one: settings by dotted names, as a config.json holds them."""
    import json

    from enas.runs.files import flat
    from enas.runs.presets import registry as presets
    from enas.runs.settings import to_dict

    names = [name for name, entry in presets.PRESETS.items() if "paper" in entry.recipes]
    return {
        name: flat(json.loads(json.dumps(to_dict(presets.config_of(name, "paper")))))
        | {"strategy": presets.PRESETS[name].names.strategy}
        for name in names
    }
