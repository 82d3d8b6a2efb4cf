"""`enas data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class DataFlags:
    """Data sets: which there are, and how to get one.

    enas data list
    enas data get cifar10 --data ~/data
    """

    action: Positional[Literal["list", "get"]] = "list"
    """list: all data sets; get: download one, checked."""
    dataset: Positional[str | None] = None
    """Name of the data set."""
    data: Path = Path("data")
    """Folder to put it in."""


@command("data", "list data sets, or download one")
def data_command(args: list[str]) -> int:
    flags = parse(DataFlags, args, "data")
    from enas.data import registry as data

    if flags.action == "list":
        for name, entry in data.DATASETS.items():
            print(f"{name:12} {entry.about}")
            if entry.how_to_get:
                print(f"{'':12} {entry.how_to_get}")
        return 0
    if flags.dataset is None:
        raise ValueError(f"`enas data get` takes a data set: {', '.join(data.DATASETS)}")
    print(f"{flags.dataset} is in {data.get(flags.dataset, flags.data)}")
    return 0
