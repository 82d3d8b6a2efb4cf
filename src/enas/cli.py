"""The command line: `enas COMMAND ...`. Each command is a dataclass (its flags) and a function; settings flags come from
the settings' own dataclasses.

A ValueError or OSError of any command is shown as one line, exit status 2.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from enas import cli_lists, cli_oracle, cli_results
from enas.commands import COMMANDS, command, parse, seconds, with_recipe

__all__ = ["cli_lists", "cli_oracle", "cli_results", "main"]


# --------------------------------------------------------------------------------------------------------- search
@dataclass(frozen=True)
class SearchFlags:
    preset: Positional[str]
    """What to search (`enas presets list`): digits-micro needs no data, cifar10-micro a folder."""
    settings: Annotated[Any, arg(name="")]
    recipe: str | None = None
    """Which settings: paper, released, modern or quick (the default); `enas presets show PRESET` prints them."""
    config: Path | None = None
    """Repeat the run whose config.json this is; flags given beside it change it."""
    data: Path | None = None
    """Folder of the data set."""
    out: Path | None = None
    """Run folder to make (default: runs/PRESET-RECIPE/seedN)."""
    seed: int | None = None
    """Everything random follows from it: equal seeds, equal runs (default: 0)."""
    epochs: int | None = None
    """Short for --search.epochs."""
    max_time: str | None = None
    """Stop in good order after this time, such as 20m; `enas resume` goes on."""
    device: str | None = None
    """cpu, cuda, cuda:1 (default: a GPU where there is one)."""
    threads: int | None = None
    """CPU threads (default: as the preset says; one beside a GPU, else all cores); recorded, because sums depend on it."""


@command("search", "search a space: shared weights and controller in turn")
def search(args: list[str]) -> int:
    """Search a space for an architecture.

    enas search digits-micro
    enas search cifar10-micro --data ~/data --recipe paper --max-time 8h
    enas search cifar10-micro --data ~/data --network.filters 16 --search.children 2
    enas search --config runs/mine/config.json --seed 1 --out runs/again
    """
    from enas import assemble, drive, presets
    from enas.config import from_dict
    from enas.display import Display

    given = _peek(args, ("--config", "--recipe"))
    like: dict[str, Any] = {}
    if given["--config"]:
        from enas.run import read_json

        like = read_json(Path(given["--config"]))
        if not isinstance(like, dict) or like.get("command") != "search":
            raise ValueError(f"--config takes the config.json of a search; got '{given['--config']}'")
    names = [word for word in args[:1] if not word.startswith("-")]
    asks_help = any(word in ("-h", "--help") for word in args)
    preset = names[0] if names else like.get("preset")
    if preset is None:
        if not asks_help:
            raise ValueError(f"name what to search: {', '.join(presets.PRESETS)}; see `enas search --help`")
        preset = next(iter(presets.PRESETS))
    recipe = given["--recipe"] or like.get("recipe") or presets.preset(preset).default
    settings = presets.config_of(preset, recipe)
    if like and preset == like["preset"] and recipe == like["recipe"]:
        settings = from_dict(settings, like["settings"])
    Flags = dataclasses.make_dataclass(
        "SearchFlags",
        [("settings", Annotated[presets.preset(preset).config, arg(name="")], dataclasses.field())],
        bases=(SearchFlags,),
        frozen=True,
    )
    Flags.__doc__ = search.__doc__
    flags = parse(Flags, args, "search", Flags(preset=preset, settings=settings, recipe=recipe))
    plan = assemble.setup(
        preset,
        recipe,
        flags.settings,
        flags.seed if flags.seed is not None else like.get("seed", 0),
        flags.data or like.get("data"),
        flags.device or like.get("device"),
        flags.threads if flags.threads is not None else like.get("threads"),
    )
    if not given["--recipe"] and not like:
        print(f"recipe: {recipe} (others: {', '.join(r for r in presets.preset(preset).recipes if r != recipe) or 'none'})")
    limit = seconds(flags.max_time) if flags.max_time else None
    with Display() as display:
        drive.search(plan, out=flags.out, epochs=flags.epochs, max_seconds=limit, listen=display)
    return display.status


def _peek(args: list[str], names: tuple[str, ...]) -> dict[str, str | None]:
    """Values of a few flags that decide what the other flags are."""
    found: dict[str, str | None] = dict.fromkeys(names)
    for i, word in enumerate(args):
        name, _, value = word.partition("=")
        if name in found:
            found[name] = value or (args[i + 1] if i + 1 < len(args) else None)
    return found


@dataclass(frozen=True)
class ResumeFlags:
    """Continue a stopped search or training exactly where its last checkpoint is.

    enas resume runs/mine --max-time 1h
    """

    run: Positional[Path]
    """Run folder."""
    max_time: str | None = None
    """Stop in good order after this time, such as 20m."""


@command("resume", "continue a stopped run, as if it had never stopped")
def resume(args: list[str]) -> int:
    flags = parse(ResumeFlags, args, "resume")
    from enas import drive
    from enas.display import Display

    with Display() as display:
        drive.resume(flags.run, max_seconds=seconds(flags.max_time) if flags.max_time else None, listen=display)
    return display.status


# --------------------------------------------------------------------------------------------------------- derive
@dataclass(frozen=True)
class DeriveFlags:
    """Pick architectures of a finished search: sample the policy, score with the shared weights, rank in best.json.

    enas derive runs/mine
    enas derive runs/mine --score-on minibatch     (the paper's way)
    enas derive runs/mine --finalists 16           (the last word is a short training alone)
    """

    run: Positional[Path]
    """Run folder of a search."""
    samples: int | None = None
    """Architectures to sample (default: as the run's recipe says)."""
    keep: int | None = None
    """Architectures to score on the full validation set and to rank."""
    uniform: int | None = None
    """Uniform architectures to score beside them: does the policy know more than chance?"""
    score_on: Literal["validation", "minibatch"] | None = None
    """Final score: the full validation set, or one minibatch (paper 2.2)."""
    statistics: Literal["batch", "recalibrated"] | None = None
    """Batch-norm statistics when scoring: of the batch, or measured anew for each child."""
    draw: Literal["policy", "uniform", "both"] | None = None
    """Who draws the samples: the policy, all alike, or half of them each, and of the finalists too."""
    shortlist: int | None = None
    """Score only so many of the samples, those with most parameters; 0: all."""
    finalists: int | None = None
    """Train the best so many alone for a short time, again and again half of them; 0: none."""
    finalist_steps: int | None = None
    """Training steps of each finalist in a round."""


@command("derive", "pick the best architectures of a search, by its shared weights")
def derive(args: list[str]) -> int:
    flags = parse(DeriveFlags, args, "derive")
    from enas import api
    from enas.display import Display, ranking
    from enas.run import RunFolder

    plan = api.Setup.of(RunFolder.open(flags.run).config)
    changes = {k: v for k, v in dataclasses.asdict(flags).items() if k != "run" and v is not None}
    settings = dataclasses.replace(plan.settings.derive, **changes)
    with Display() as display:
        api.derive(flags.run, settings=settings, listen=display)
    ranking(flags.run)
    print(f"next: enas retrain {flags.run}")
    return 0


# -------------------------------------------------------------------------------------------------------- retrain
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
    from enas import api, drive, presets
    from enas.display import Display, trainings
    from enas.run import RunFolder

    asks_help = any(word in ("-h", "--help") for word in args)
    what = args[0] if args and not args[0].startswith("-") else None
    given = _peek(args, ("--preset", "--recipe", "--arch"))
    if what is None and not asks_help and given["--arch"] is None:
        raise ValueError("name what to train: a run folder, an architecture file or a name; see `enas retrain --help`")
    is_run = what is not None and Path(what).is_dir()
    if is_run:
        plan = api.Setup.of(RunFolder.open(Path(str(what))).config)
        if given["--preset"] or given["--recipe"]:
            raise ValueError(f"'{what}' is a run and trains by its own preset and recipe; --retrain flags change settings")
    elif given["--arch"]:
        if what is not None:
            raise ValueError(f"--arch names a hand-designed model, beside a run or nothing; got '{what}'")
        plan = api.setup(given["--preset"] or presets.preset_for_reference(given["--arch"]), given["--recipe"])
    else:
        space = None if asks_help else api.architecture_of(str(what)).space
        plan = api.setup(given["--preset"] or presets.preset_for(space["name"] if space else None), given["--recipe"])
        if space is not None:
            plan = api.with_space(plan, space)
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
            rows = api.retrain_best(
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
            plan = api.setup(
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
                arch = api.reference_for(plan, flags.arch, flags.what if is_run else None, flags.parameters)
                name = arch.id
                if is_run and flags.out is None:
                    flags = dataclasses.replace(flags, out=drive.retrain_folder(Path(flags.what), arch, flags.seed, plan))
            else:
                arch = api.architecture_of(flags.what)
                name = Path(flags.what).stem
            out = flags.out or Path("runs") / f"{name}-{plan.preset}-{plan.recipe}" / f"seed{flags.seed}"
            metrics = api.retrain(plan, arch, out, seed=flags.seed, stop=drive.after(limit), listen=display)
            rows = None if metrics is None else [{"rank": 1, "id": arch.id, "folder": str(out), **metrics}]
    if rows:
        trainings(rows, settings.train_on)
        if is_run and flags.arch is None:
            print(f"next: enas compare {flags.what}")
    return display.status


# ----------------------------------------------------------------------------------------------------------- main
ORDER = ("search", "resume", "derive", "retrain", "compare", "report", "show")  # as one comes to need them; then the others


def usage() -> str:
    names = [*ORDER, *(name for name in COMMANDS if name not in ORDER)]
    rows = "\n".join(f"  {name:9} {COMMANDS[name][0]}" for name in names)
    return (
        "usage: enas COMMAND ...   (enas COMMAND --help says more)\n\n"
        "Neural architecture search with shared weights (ENAS) that grades its own search.\n\n"
        f"{rows}\n\n"
        "A first run, on embedded data, a few minutes on a CPU:\n"
        "  enas search digits-micro --out runs/first && enas derive runs/first && enas retrain runs/first\n"
        "  enas compare runs/first && enas report runs/first"
    )


TRAINING = ("search", "resume", "derive", "retrain", "compare")  # commands that hold on to memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, or 2 after an error of one line, 130 after a Ctrl-C that could not wait."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    if args[0] in ("-V", "--version"):
        import enas

        print(f"enas {enas.__version__}")
        return 0
    try:
        if args[0] not in COMMANDS:
            raise ValueError(f"a command is one of {', '.join(COMMANDS)}; got '{args[0]}'")
        if args[0] in TRAINING and not {"-h", "--help"} & set(args):
            from enas.fast import keep_memory

            keep_memory()
        return COMMANDS[args[0]][1](args[1:])
    except ValueError as error:
        return _fail(str(error))
    except RuntimeError as error:
        from enas.search import Diverged

        if not isinstance(error, Diverged):
            raise
        return _fail(str(error))
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        what = f"'{error.filename}': " if error.filename else ""
        return _fail(f"{what}{error.strerror or error}; what was saved before is whole, `enas resume RUN` goes on from it")
    except KeyboardInterrupt:
        return _fail("interrupted; `enas resume RUN` goes on from the last checkpoint", 130)


def _fail(text: str, status: int = 2) -> int:
    sys.stdout.flush()
    print(f"enas: {' '.join(text.split())}", file=sys.stderr)
    return status
