"""This module holds the command `enas data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class DataFlags:
    """List data sets, download one, or say what a folder of your own holds.

    enas data list
    enas data get cifar10 --data ~/data
    enas data look ~/flowers
    """

    action: Positional[Literal["list", "get", "look"]] = "list"
    """list: all data sets; get: download one, and check it;
    look: say what a folder holds, and how --data reads it."""
    what: Positional[str | None] = None
    """Name of the data set; for look, the folder or file."""
    data: Path = Path("data")
    """Folder to put the data set in."""


@command("data", "list data sets, download one, look what a folder holds")
def data_command(args: list[str]) -> int:
    flags = parse(DataFlags, args, "data")
    from enas.data import registry as data

    if flags.action == "list":
        for name, entry in data.DATASETS.items():
            print(f"{name:12} {entry.about}")
            if entry.how_to_get:
                print(f"{'':12} {entry.how_to_get}")
        return 0
    if flags.what is None:
        takes = f"a data set: {', '.join(data.DATASETS)}" if flags.action == "get" else "a folder or a file"
        raise ValueError(f"`enas data {flags.action}` takes {takes}")
    if flags.action == "look":
        from enas.data.folder import look

        print(look(flags.what))
        return 0
    print(f"{flags.what} is in {data.get(flags.what, flags.data)}")
    return 0
