"""`enas search`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from enas.cli.commands import command, parse, peek, seconds


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
    from enas.cli.display import Display
    from enas.runs.plan import setup
    from enas.runs.presets import registry as presets
    from enas.runs.search import search_plan
    from enas.runs.settings import from_dict

    given = peek(args, ("--config", "--recipe"))
    like: dict[str, Any] = {}
    if given["--config"]:
        from enas.runs.files import read_json

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
    plan = setup(
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
        search_plan(plan, out=flags.out, epochs=flags.epochs, max_seconds=limit, listen=display)
    return display.status
