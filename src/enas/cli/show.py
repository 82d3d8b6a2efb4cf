"""`enas show`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class ShowFlags:
    """Look at an architecture: a drawing in the terminal, or a file.

    enas show enas_micro
    enas show runs/mine --out best.svg              (.svg .png .pdf .dot .txt .json)
    """

    what: Positional[str]
    """A run folder (its best), an architecture file, or a name from `enas list`."""
    out: Path | None = None
    """File to write; the ending says which form."""


@command("show", "draw an architecture, in the terminal or as a file")
def show(args: list[str]) -> int:
    flags = parse(ShowFlags, args, "show")
    from enas.reports.drawing import render
    from enas.runs.files import write_atomically
    from enas.runs.models import architecture_of, marks_of, sizes
    from enas.spaces.registry import space_of

    arch = architecture_of(flags.what)
    space = space_of(arch.space)
    if flags.out is None:
        print(render.to_text(space, arch))
        print("parameters of the network trained alone, by recipe")
        for name, number in sizes(arch).items():
            print(f"  {name:46} {number:>12,}")
    elif flags.out.suffix == ".json":
        write_atomically(flags.out, arch.to_json() + "\n")
        print(f"wrote {flags.out}")
    else:
        render.save(space, arch, flags.out, marks_of(flags.what, arch))
        print(f"wrote {flags.out}")
    return 0
