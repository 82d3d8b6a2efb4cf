"""This module holds the command `enas retrain`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from enas.cli.commands import (
    JobsFlags,
    Maybe,
    asks_for_help,
    command,
    computed,
    jobs_of,
    parse,
    peek,
    seconds,
    with_settings,
)
from enas.procedures.settings import Precision


@dataclass(frozen=True)
class RetrainFlags(JobsFlags):
    what: Positional[str]
    """A run folder (for its best architectures), an architecture file,
    a name from `enas list`, or text in a published form, such as '|nor_conv_3x3~0|+...'."""
    settings: Annotated[Any, arg(name="retrain")]
    arch: Maybe[str] = None
    """Train a hand-designed model by the same recipe instead: lstm, rhn; resnet, densenet_bc.
    Beside a run, it gets as many parameters as the run's best architecture."""
    parameters: Maybe[int] = None
    """Largest number of parameters of that model."""
    top: int = 1
    """Number of best architectures of a run to train; validation accuracy chooses among them."""
    jobs: Maybe[str] = field(default=None, kw_only=True)
    """Number of trainings side by side, or ray, or ray://HOST:10001 for a cluster;
    without it, they run one after the other."""
    seed: int = 0
    """Seed of this training: its first weights, the order of its batches, its dropout."""
    epochs: Maybe[int] = None
    """Short for --retrain.epochs."""
    cutout: Maybe[int] = None
    """Short for --retrain.task.cutout: side of the square that CutOut blanks, in pixels.
    16 is usual."""
    highest_filters: Maybe[int] = None
    """Number of filters in the highest layer, to which all widths are scaled (the paper's: 512)."""
    preset: Maybe[str] = None
    """Preset by whose data and recipe an architecture file or name is trained;
    without it, the paper's data."""
    recipe: Maybe[str] = None
    """Recipe of the preset."""
    data: Maybe[Path] = None
    """Folder of the data set. A run knows its own folder, if that has not moved."""
    out: Maybe[Path] = None
    """Folder of the training; without it, one inside the run, or in runs/."""
    precision: Maybe[Precision] = None
    """Short for --retrain.compute.precision."""
    accumulate: Maybe[int] = None
    """Short for --retrain.compute.accumulate."""
    checkpoint_activations: bool = False
    """Short for --retrain.compute.checkpoint-activations."""
    device: Maybe[str] = None
    """Device: cpu, cuda, cuda:1, mps or auto; auto is a GPU where there is one."""
    threads: Maybe[int] = None
    """Number of CPU threads."""
    max_time: Maybe[str] = None
    """Stop in good order after this time, such as 20m. The same command continues."""


@command("retrain", "train an architecture from scratch, to the figure that counts")
def retrain(args: list[str]) -> int:
    """Train an architecture from scratch.

    enas retrain runs/mine
    enas retrain runs/mine --top 3                 (the best of three, chosen on validation images)
    enas retrain enas_micro --preset cifar10-micro --recipe released --data ~/data --cutout 16
    enas retrain runs/mine --arch resnet           (to compare: as many parameters, same recipe)
    enas retrain --arch lstm --preset ptb-rnn --data ~/data
    """
    from enas.cli.display import Display, trainings
    from enas.runs.architectures import is_run
    from enas.runs.retrain import retrain_named, retrain_plan, shortened
    from enas.runs.settings import retrain_types_of

    what = args[0] if args and not args[0].startswith("-") else None
    peeked = peek(args, ("--arch", "--preset", "--recipe"))
    if what is None and asks_for_help(args) and peeked["--arch"] is None:
        what = "enas_micro"  # the help shows the flags of one space
    plan = retrain_plan(what, *peeked.values())
    Flags = with_settings(RetrainFlags, retrain.__doc__, retrain_types_of(plan.settings), "retrain")
    args = args if (args and args[0] == what) or asks_for_help(args) else ["", *args]
    flags = parse(Flags, args, "retrain", Flags(what=what or "", settings=plan.settings.retrain))
    plan = plan.with_settings(retrain=computed(flags.settings, flags)).on(flags.data, flags.device, flags.threads)
    plan = shortened(plan, flags.epochs, flags.cutout, flags.highest_filters)
    with Display() as display:
        rows = retrain_named(
            plan,
            what,
            reference=flags.arch,
            parameters=flags.parameters,
            top=flags.top,
            seed=flags.seed,
            out=flags.out,
            jobs=jobs_of(flags),
            max_seconds=seconds(flags.max_time),
            listen=display,
        )
    if rows:
        trainings(rows, plan.settings.retrain.train_on)
        if is_run(what) and flags.arch is None:
            print(f"next: enas compare {shlex.quote(str(what))}")
    return display.status
