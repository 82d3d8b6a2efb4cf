"""`enas derive`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from enas.cli.commands import command, parse


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
    from enas.cli.display import Display, ranking
    from enas.reports.derive import derive as derive_run
    from enas.runs.folder import RunFolder
    from enas.runs.plan import Setup

    plan = Setup.of(RunFolder.open(flags.run).config)
    changes = {k: v for k, v in dataclasses.asdict(flags).items() if k != "run" and v is not None}
    settings = dataclasses.replace(plan.settings.derive, **changes)
    with Display() as display:
        derive_run(flags.run, settings=settings, listen=display)
    ranking(flags.run)
    print(f"next: enas retrain {flags.run}")
    return 0
