"""This module holds the command `enas show`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from enas.cli.commands import Maybe, command, parse


@dataclass(frozen=True)
class ShowFlags:
    """Draw an architecture in the terminal, or to a file.

    enas show enas_micro
    enas show enas_micro --sizes                    (and how many parameters the network has)
    enas show enas_micro --as fixed_arc             (as others write it: genotype, nasbench201, ...)
    enas show runs/mine --out best.svg              (.svg .png .pdf .dot .txt .json)
    """

    what: Positional[str]
    """A run folder (for its best), an architecture file, a name from `enas list`,
    or text in a published form, such as '|nor_conv_3x3~0|+...'."""
    sizes: bool = False
    """Also print the number of parameters of the network, by recipe."""
    form: Annotated[Maybe[str], arg(name="as")] = None
    """Print it in another form: nasbench201, nasbench_macro, fixed_arc, genotype; or json."""
    out: Maybe[Path] = None
    """File to write; the ending names the form."""


@command("show", "draw an architecture, in the terminal or as a file")
def show(args: list[str]) -> int:
    flags = parse(ShowFlags, args, "show")
    from enas.reports.drawing.text import to_text
    from enas.runs.architectures import architecture_of
    from enas.runs.files import write_atomically
    from enas.spaces.registry import space_of

    arch = architecture_of(flags.what)
    space = space_of(arch.space)
    if flags.form is not None:
        from enas.spaces.forms import written

        print(written(arch, flags.form))
    elif flags.out is None:
        print(to_text(space, arch))
    elif flags.out.suffix == ".json":
        write_atomically(flags.out, arch.to_json() + "\n")
        print(f"wrote {flags.out}")
    else:
        from enas.reports.drawing.render import save
        from enas.runs.models import marks_of

        print(f"wrote {save(space, arch, flags.out, marks_of(flags.what, arch))}")
    if flags.sizes:
        from enas.runs.models import sizes

        found = sizes(arch)
        print("parameters of the network trained from scratch, by recipe")
        for name, number in found.items():
            print(f"  {name:46} {number:>12,}")
    return 0
