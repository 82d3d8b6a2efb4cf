"""`enas retrain`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from enas.cli.commands import command, parse, peek, seconds, with_recipe


@dataclass(frozen=True)
class RetrainFlags:
    what: Positional[str]
    """A run folder (its best architectures), an architecture file, or a name from `enas list`."""
    settings: Annotated[Any, arg(name="retrain")]
    arch: str | None = None
    """A hand-designed model instead, by the same recipe: lstm, rhn; resnet, densenet_bc. With a run, of as many parameters
    as its best architecture."""
    parameters: int | None = None
    """Most parameters of that model (default: as the run's best, or as published)."""
    top: int = 1
    """Train the k best of a run and choose among them by validation accuracy."""
    seed: int = 0
    """Of this training; another seed is another training."""
    epochs: int | None = None
    """Short for --retrain.epochs."""
    cutout: int | None = None
    """Short for --retrain.task.cutout: side of the square that CutOut blanks, pixels; 16 is usual."""
    highest_filters: int | None = None
    """Scale all widths so that the highest layer has so many filters: 512 in the paper's wider networks."""
    preset: str | None = None
    """For an architecture file or name: whose data and recipe to train by (default: CIFAR-10's, for its space)."""
    recipe: str | None = None
    """Which recipe of the preset."""
    data: Path | None = None
    """Folder of the data set (a run knows its own, if it has not moved)."""
    out: Path | None = None
    """Folder of the training (default: inside the run, or runs/NAME)."""
    device: str | None = None
    """cpu, cuda, cuda:1."""
    threads: int | None = None
    """CPU threads."""
    max_time: str | None = None
    """Stop in good order after this time, such as 20m; the same command goes on."""


@command("retrain", "train an architecture alone, from scratch, to the figure that counts")
def retrain(args: list[str]) -> int:
    """Train an architecture alone, from scratch.

    enas retrain runs/mine
    enas retrain runs/mine --top 3                 (the best of three, chosen on validation images)
    enas retrain enas_micro --preset cifar10-micro --recipe released --data ~/data --cutout 16
    enas retrain runs/mine --arch resnet           (to compare with: of as many parameters, by the same recipe)
    enas retrain --arch lstm --preset ptb-rnn --data ~/data
    """
    from enas.cli.display import Display, trainings
    from enas.runs.architectures import architecture_of
    from enas.runs.folder import RunFolder
    from enas.runs.loop import after
    from enas.runs.models import reference_for
    from enas.runs.plan import Setup, setup, with_space
    from enas.runs.presets import registry as presets
    from enas.runs.retrain import retrain as retrain_run
    from enas.runs.retrain import retrain_best, retrain_folder

    asks_help = any(word in ("-h", "--help") for word in args)
    what = args[0] if args and not args[0].startswith("-") else None
    given = peek(args, ("--preset", "--recipe", "--arch"))
    if what is None and not asks_help and given["--arch"] is None:
        raise ValueError("name what to train: a run folder, an architecture file or a name; see `enas retrain --help`")
    is_run = what is not None and Path(what).is_dir()
    if is_run:
        plan = Setup.of(RunFolder.open(Path(str(what))).config)
        if given["--preset"] or given["--recipe"]:
            raise ValueError(f"'{what}' is a run and trains by its own preset and recipe; --retrain flags change settings")
    elif given["--arch"]:
        if what is not None:
            raise ValueError(f"--arch names a hand-designed model, beside a run or nothing; got '{what}'")
        plan = setup(given["--preset"] or presets.preset_for_reference(given["--arch"]), given["--recipe"])
    else:
        space = None if asks_help else architecture_of(str(what)).space
        plan = setup(given["--preset"] or presets.preset_for(space["name"] if space else None), given["--recipe"])
        if space is not None:
            plan = with_space(plan, space)
    Flags = with_recipe(RetrainFlags, retrain.__doc__, plan.preset)
    args = args if what is not None or asks_help else ["", *args]
    flags = parse(Flags, args, "retrain", Flags(what=what or "", settings=plan.settings.retrain))
    settings = flags.settings
    if flags.epochs is not None:
        settings = dataclasses.replace(settings, epochs=flags.epochs)
    if flags.cutout is not None:
        if not hasattr(settings.task, "cutout"):
            raise ValueError(f"--cutout blanks squares of images; preset '{plan.preset}' has none")
        settings = dataclasses.replace(settings, task=dataclasses.replace(settings.task, cutout=flags.cutout))
    if flags.highest_filters is not None:
        if not hasattr(settings.network, "widened"):
            raise ValueError(f"--highest-filters widens convolutional networks; preset '{plan.preset}' has none")
        settings = dataclasses.replace(settings, network=settings.network.widened(flags.highest_filters))
    if flags.parameters is not None and flags.arch is None:
        raise ValueError("--parameters is of a hand-designed model: name it with --arch")
    limit = seconds(flags.max_time) if flags.max_time else None
    with Display() as display:
        if is_run and flags.out is None and flags.arch is None:
            rows = retrain_best(
                flags.what,
                top=flags.top,
                seed=flags.seed,
                settings=settings,
                data=flags.data,
                device=flags.device,
                threads=flags.threads,
                max_seconds=limit,
                listen=display,
            )
        else:
            source = plan.source
            plan = setup(
                plan.preset,
                plan.recipe,
                dataclasses.replace(plan.settings, retrain=settings),
                plan.seed,
                flags.data or plan.data,
                flags.device or plan.device,
                flags.threads if flags.threads is not None else plan.threads,
            )
            plan = dataclasses.replace(plan, source=source)
            arch: Any
            if flags.arch is not None:
                arch = reference_for(plan, flags.arch, flags.what if is_run else None, flags.parameters)
                name = arch.id
                if is_run and flags.out is None:
                    flags = dataclasses.replace(flags, out=retrain_folder(Path(flags.what), arch, flags.seed, plan))
            else:
                arch = architecture_of(flags.what)
                name = Path(flags.what).stem
            out = flags.out or Path("runs") / f"{name}-{plan.preset}-{plan.recipe}" / f"seed{flags.seed}"
            metrics = retrain_run(plan, arch, out, seed=flags.seed, stop=after(limit), listen=display)
            rows = None if metrics is None else [{"rank": 1, "id": arch.id, "folder": str(out), **metrics}]
    if rows:
        trainings(rows, settings.train_on)
        if is_run and flags.arch is None:
            print(f"next: enas compare {flags.what}")
    return display.status
