"""This module holds the command `enas export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse


@dataclass(frozen=True)
class ExportFlags:
    """Write a trained network as files that run without enas.

    enas export runs/mine                                   (what retrain chose: Python and weights)
    enas export runs/mine --format onnx
    enas export enas_micro --weights none --preset cifar10-micro --recipe released
    """

    what: Positional[str]
    """A run folder (for what retrain chose), the folder of a training,
    an architecture file, or a name from `enas list`."""
    format: Literal["python", "onnx", "torch"] = "python"
    """python: a readable module and its weights; onnx; torch: a program of torch.export."""
    weights: Literal["trained", "none"] = "trained"
    """Which weights to write; none: the network alone, not trained."""
    arch: Maybe[str] = None
    """Another architecture in the network of a run, without trained weights."""
    out: Maybe[Path] = None
    """File to write; without it, `exported` in the folder."""
    preset: Maybe[str] = None
    """Preset whose network an architecture file or name is built into;
    without it, the paper's."""
    recipe: Maybe[str] = None
    """Recipe of the preset."""
    data: Maybe[Path] = None
    """Folder of the data set, which says how images are normalised and which words there are.
    A run knows its own folder, if that has not moved."""


@command("export", "write a trained network as Python, ONNX or torch.export, to run without enas")
def export(args: list[str]) -> int:
    flags = parse(ExportFlags, args, "export")
    from enas.runs.export import export as export_files

    done = export_files(
        flags.what,
        flags.format,
        weights=flags.weights,
        arch=flags.arch,
        out=flags.out,
        preset=flags.preset,
        recipe=flags.recipe,
        data=flags.data,
    )
    print(f"wrote {' and '.join(map(str, done.files))} ({done.checked})")
    if done.inputs:
        print(f"inputs: {done.inputs}; all but batch is fixed")
    return 0
