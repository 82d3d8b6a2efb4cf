"""`enas compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from enas.cli.commands import command, parse, seconds, with_settings


@dataclass(frozen=True)
class CompareFlags:
    run: Positional[Path]
    """Run folder of a search, derived."""
    settings: Annotated[Any, arg(name="retrain")]
    cells: int = 16
    """Uniformly drawn architectures to train; at least 16 for rankings that say something."""
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
    disabled: int = 0
    """Also search as long with a controller that never learns, and test an ensemble of so many of its architectures (paper
    3.3: 250)."""
    local: int = 0
    """Also train so many changed networks for each of the paper's local-optimum studies (3.1, 3.2)."""
    single: int = 0
    """Also train so many of the networks that differ in a single answer (beyond the paper)."""
    all: bool = False
    """All of this: --sharing --disabled 250 --local 8 --single 16, where no other number is given."""
    workers: int | None = None
    """Trainings at a time, each with the run's number of threads (default: as many as the cores allow; on a GPU
    one, more where its memory allows)."""
    max_time: str | None = None
    """Stop in good order after this time; the same command goes on."""


@command("compare", "train the derived architecture and uniform ones alike: the verdict")
def compare(args: list[str]) -> int:
    """What was the search worth? Is its architecture better than uniform ones, trained alike? Ends with a verdict.

    enas compare runs/mine --cells 8 --seeds 4
    enas compare runs/mine --references resnet --sharing
    enas compare runs/mine --all --max-time 8h     (every experiment of paper 3.3, one after the other)
    enas compare runs/mine --epochs 20             (all of them by another recipe than the run's own: --retrain flags)
    """
    from enas.cli.display import Display
    from enas.grading.compare import compare as compare_run
    from enas.grading.ledger import Ledger
    from enas.grading.studies import STUDIES
    from enas.runs.files import read_json
    from enas.runs.folder import RunFolder
    from enas.runs.plan import Plan, preset_plan
    from enas.runs.presets import registry as presets
    from enas.runs.settings import retrain_types_of

    asks_help = any(word in ("-h", "--help") for word in args)
    run = Path(args[0]) if args and not args[0].startswith("-") else None
    if run is None and not asks_help:
        raise ValueError("name the run to compare: enas compare RUN; see `enas compare --help`")
    plan = preset_plan(next(iter(presets.PRESETS))) if run is None else Plan.of(RunFolder.open(run).config)
    Flags = with_settings(CompareFlags, compare.__doc__, retrain_types_of(plan.settings), "retrain")
    flags = parse(Flags, args, "compare", Flags(run=run or Path(), settings=plan.settings.retrain))
    recipe = flags.settings if flags.epochs is None else dataclasses.replace(flags.settings, epochs=flags.epochs)
    limit = seconds(flags.max_time) if flags.max_time else None
    with Display() as display:
        answer = compare_run(
            flags.run,
            cells=flags.cells,
            seeds=flags.seeds,
            cell_seeds=flags.cell_seeds,
            references=flags.references,
            sharing=flags.sharing or (flags.all and plan.learns),
            disabled=flags.disabled or 250 * flags.all,
            local=flags.local or 8 * (flags.all and plan.space.name in STUDIES),
            single=flags.single or 16 * flags.all,
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
        if compared["learning"]:
            last = compared["learning"][-1]
            shown = "is above" if last["mean"] > last["half_width"] else "is not shown to be above"
            print(
                f"the policy {shown} uniform sampling on the same shared weights: reward {last['mean']:+.4f} +-"
                f" {last['half_width']:.4f} after epoch {last['epoch']}"
            )
        if compared["ledger"]:
            print(f"cost: {Ledger(**compared['ledger'])}")
        for line in experiments(compared):
            print(line)
        for name, why in compared["left_out"].items():
            print(f"left out: {name}: {why}")
        if back := compared.get("rolled_back"):
            print(
                f"{len(back)} trainings diverged, and went on at a lower rate from the start of an epoch: {', '.join(back)}"
            )
        print(f"verdict: {answer}")
    return display.status


def experiments(compared: dict[str, Any]) -> Iterator[str]:
    """Lines about the disabled controller and the local-optimum studies."""
    from enas.tasks.metrics import METRICS

    if d := compared.get("disabled"):
        unit = METRICS[d["metric"]].unit
        yield (
            f"disabled controller: shared weights of untrained sampling have {d['mean']:.2f}{unit} on the test part (spread"
            f" {d['spread']:.2f} over {d['configurations']} configurations), their ensemble {d['ensemble']:.2f}{unit}"
        )
    local = compared.get("local") or {}
    for s in local.get("studies", ()):
        n = len(s["changed"])
        among = f" of {s['there_are']}" if s["there_are"] else ""
        lost = f", {s['diverged']} more diverged" if s.get("diverged") else ""
        yield f"local optimum, {s['about']}: " + (
            f"{n}{among} networks{lost}, {worse(s, METRICS[local['metric']].points)} (paper: {s['paper']})"
            if n
            else f"no network trained to its end{lost}"
            if lost
            else "there is nothing to change in this architecture"
        )


def worse(study: dict[str, Any], points: str) -> str:
    """A study in a few words."""
    gap, most = study["difference"], study["largest"]
    return (
        f"worse by {gap['mean']:+.2f} +- {gap['half_width']:.2f} {points}, " if gap else ""
    ) + f"the worst by {most:+.2f}"
