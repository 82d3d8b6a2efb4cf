"""The losses of the first steps of any training that `enas` can be told to make: whether a network
of the paper's own size trains at all is seen within minutes, where the whole training takes days.

    python -m benchmarks.steps 200 retrain enas_micro --recipe paper --data DIR
    python -m benchmarks.steps 40 search cifar10-micro --recipe paper --data DIR

Add `--retrain.task.batch-size 16` or `--task.batch-size 16` on a small machine.
The words after the number are those of the command line, which runs as it always does and is
stopped after as many losses as the number says: of training steps, or of the children that train
the shared weights. They include the auxiliary head's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

from enas.cli.display import Display
from enas.cli.main import main as main_run
from enas.procedures.events import Step, TrainStep

MEAN_OF = 20  # losses, at either end


class Enough(BaseException):
    """As many losses as were asked for have been seen. It is no error, which a command would
    report."""


class Losses(Display):
    """Keeps the losses of steps, shows nothing of them, and ends the command when there are
    `wanted`."""

    def __init__(self, wanted: int):
        super().__init__()
        self.wanted = wanted
        self.losses: list[float] = []
        # kinds of other events: a training that went back to an earlier state is among them
        self.others: list[str] = []

    def __call__(self, event: Any) -> None:
        if isinstance(event, TrainStep):
            self.losses.append(event.loss)
        elif isinstance(event, Step) and event.phase == "shared":
            self.losses.extend(event.values)
        elif not isinstance(event, Step):
            self.others.append(type(event).__name__)
        if len(self.losses) >= self.wanted:
            raise Enough


def first_losses(steps: int, command: list[str]) -> dict[str, Any]:
    """Runs `command` in a folder that is deleted afterwards, until it has made `steps` losses."""
    listener, start = Losses(steps), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, patch("enas.cli.display.Display", lambda: listener):
        try:
            status = main_run([*command, "--out", str(Path(folder) / "run")])
        except Enough:
            status = 0
    if status or len(listener.losses) < steps:
        raise SystemExit(f"the command ended with status {status} after {len(listener.losses)} of {steps} losses")
    losses = listener.losses[:steps]
    return {
        "command": " ".join(command),
        "steps": steps,
        "loss_first": losses[0],
        f"loss_first_{MEAN_OF}_mean": fmean(losses[:MEAN_OF]),
        f"loss_last_{MEAN_OF}_mean": fmean(losses[-MEAN_OF:]),
        "loss_largest": max(losses),
        "rolled_back": listener.others.count("RolledBack"),
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, help=f"number of losses, at least {MEAN_OF}")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="`search ...` or `retrain ...`, as `enas` takes it")
    args = parser.parse_args()
    if args.steps < MEAN_OF or not args.command:
        parser.error(f"a number of at least {MEAN_OF}, then the words of an enas command; got {args.steps} {args.command}")
    print(json.dumps(first_losses(args.steps, args.command)))


if __name__ == "__main__":
    main()
