"""Commands that look at what was found: show, compare, report, reproduce."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from enas.commands import command, parse, seconds, with_recipe


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
    from enas import draw
    from enas.api import architecture_of, marks_of, sizes
    from enas.run import write_atomically
    from enas.spaces import space_of

    arch = architecture_of(flags.what)
    space = space_of(arch.space)
    if flags.out is None:
        print(draw.to_text(space, arch))
        print("parameters of the network trained alone, by recipe")
        for name, number in sizes(arch).items():
            print(f"  {name:46} {number:>12,}")
    elif flags.out.suffix == ".json":
        write_atomically(flags.out, arch.to_json() + "\n")
        print(f"wrote {flags.out}")
    else:
        draw.save(space, arch, flags.out, marks_of(flags.what, arch))
        print(f"wrote {flags.out}")
    return 0


@dataclass(frozen=True)
class CompareFlags:
    run: Positional[Path]
    """Run folder of a search, derived."""
    settings: Annotated[Any, arg(name="retrain")]
    cells: int = 8
    """Uniformly drawn architectures to train."""
    seeds: int = 4
    """Trainings of the derived architecture."""
    cell_seeds: int = 1
    """Trainings of each uniform architecture."""
    epochs: int | None = None
    """Short for --retrain.epochs."""
    references: tuple[str, ...] = ()
    """Hand-designed models of as many parameters to train likewise: lstm, rhn; resnet, densenet_bc."""
    sharing: bool = False
    """Also search again with uniform children, as long and derived alike, and train what that finds: random search with
    weight sharing."""
    workers: int | None = None
    """Trainings at a time, each with the run's number of threads (default: as many as the cores allow)."""
    max_time: str | None = None
    """Stop in good order after this time; the same command goes on."""


@command("compare", "train the derived architecture and uniform ones alike: the verdict")
def compare(args: list[str]) -> int:
    """Is the derived architecture better than uniformly drawn ones, trained by the same recipe? Ends with a verdict.

    enas compare runs/mine --cells 8 --seeds 4
    enas compare runs/mine --references resnet --sharing
    enas compare runs/mine --epochs 20             (all of them by another recipe than the run's own: --retrain flags)
    """
    from enas import api, presets
    from enas.display import Display
    from enas.ledger import Ledger
    from enas.run import RunFolder, read_json

    asks_help = any(word in ("-h", "--help") for word in args)
    run = Path(args[0]) if args and not args[0].startswith("-") else None
    if run is None and not asks_help:
        raise ValueError("name the run to compare: enas compare RUN; see `enas compare --help`")
    plan = api.setup(next(iter(presets.PRESETS))) if run is None else api.Setup.of(RunFolder.open(run).config)
    Flags = with_recipe(CompareFlags, compare.__doc__, plan.preset)
    flags = parse(Flags, args, "compare", Flags(run=run or Path(), settings=plan.settings.retrain))
    recipe = flags.settings if flags.epochs is None else dataclasses.replace(flags.settings, epochs=flags.epochs)
    limit = seconds(flags.max_time) if flags.max_time else None
    with Display() as display:
        answer = api.compare(
            flags.run,
            cells=flags.cells,
            seeds=flags.seeds,
            cell_seeds=flags.cell_seeds,
            references=flags.references,
            sharing=flags.sharing,
            settings=recipe,
            workers=flags.workers,
            max_seconds=limit,
            listen=display,
        )
    if answer is not None:
        compared = read_json(flags.run / "compare.json")
        for row in compared["rankings"]:
            tau, half = row["kendall"], row["kendall_better_half"]
            interval = f"{tau['value']:.2f} ({tau['low']:.2f} to {tau['high']:.2f})"
            print(
                f"ranking {row['n']} uniform architectures by {row['ranker']}: Kendall's tau {interval}, in the better half"
                f" {half['value']:.2f}; its pick {row['pick']:.2f}"
            )
        if compared["ledger"]:
            print(f"cost: {Ledger(**compared['ledger'])}")
        print(f"verdict: {answer}")
    return display.status


@dataclass(frozen=True)
class ReportFlags:
    """One self-contained page about a run: curves, ops over time, the cells drawn, the ranked list, the verdict.

    enas report runs/mine
    """

    run: Positional[Path]
    """Run folder of a search, at any stage."""


@command("report", "one page about a run: curves, drawings, ranking, verdict")
def report(args: list[str]) -> int:
    flags = parse(ReportFlags, args, "report")
    from enas.report import write_report
    from enas.run import read_json

    print(f"wrote {write_report(flags.run)}")
    if (flags.run / "compare.json").exists():
        print(f"verdict: {read_json(flags.run / 'compare.json')['verdict']}")
    return 0


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

    from enas.reproduce import survey
    from enas.reproduce_forms import FORMS, terminal

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
        from enas.run import write_atomically

        write_atomically(flags.out, FORMS[flags.out.suffix](found))
        print(f"wrote {flags.out}")
    return 0


def paper_settings() -> dict[str, dict[str, Any]]:
    """The recipe `paper` of every preset that has one: settings by dotted names, as a config.json holds them."""
    import json

    from enas import presets
    from enas.config import to_dict
    from enas.report import flat

    names = [name for name, entry in presets.PRESETS.items() if "paper" in entry.recipes]
    return {name: flat(json.loads(json.dumps(to_dict(presets.config_of(name, "paper"))))) for name in names}
