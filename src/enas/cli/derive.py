"""This module holds the command `enas derive`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from enas.cli.commands import JobsFlags, Maybe, command, jobs_of, parse, seconds
from enas.procedures.settings import Judge


@dataclass(frozen=True)
class DeriveFlags(JobsFlags):
    """Pick architectures of a finished search: sample the policy, score with the shared weights,
    and rank in best.json. Without a flag, the run's recipe says how.

    enas derive runs/mine
    enas derive runs/mine --score-on minibatch     (the paper's way)
    enas derive runs/mine --pareto macs            (and what is best at each cost)
    enas derive runs/mine --finalists 16           (short trainings from scratch decide)
    enas derive runs/mine --budget 10m             (ten core-minutes of them teach what is good)
    """

    run: Positional[Path]
    """Run folder of a search."""
    samples: Maybe[int] = None
    """Number of architectures to sample."""
    keep: Maybe[int] = None
    """Number of architectures to score on the full validation set, and to rank."""
    uniform: Maybe[int] = None
    """Number of random architectures to score beside them: is the policy better than chance?"""
    score_on: Maybe[Literal["validation", "minibatch"]] = None
    """Data of the final score: the full validation set, or one minibatch (paper 2.2)."""
    statistics: Maybe[Literal["batch", "recalibrated"]] = None
    """Batch-norm statistics of a score: those of the batch, or measured anew for each child."""
    draw: Maybe[Literal["policy", "uniform", "both"]] = None
    """Who draws the samples: the policy, random search, or half of them each;
    and of the finalists too, unless trainings teach."""
    shortlist: Maybe[int] = None
    """Number of samples to score, those that judges pick; 0: all."""
    shortlist_by: Maybe[tuple[Judge, ...]] = None
    """Judges that pick them one after the other, such as parameters progressivity."""
    finalists: Maybe[int] = None
    """Number of the best to train from scratch for a short time; 0: none.
    The better half goes on, again and again."""
    pareto: Maybe[Literal["none", "parameters", "macs", "memory", "latency"]] = None
    """Also keep the architectures that no other one beats in reward and in this cost at once;
    the report shows them."""
    finalist_steps: Maybe[int] = None
    """Number of training steps of each finalist in a round, and of each short training."""
    trainings: Maybe[int] = None
    """Number of short trainings from scratch, in rounds, that teach which architectures are good;
    0: none."""
    budget: Maybe[str] = None
    """Processor time that short trainings may fill, such as 10m or 2h."""
    rounds: Maybe[int] = None
    """Number of rounds that these trainings are divided among."""
    judges: Maybe[tuple[Judge, ...]] = None
    """Judges that the short trainings correct:
    the number of parameters or of multiply-accumulates,
    scores without training, and shared weights."""


@command("derive", "pick the best architectures of a search, by its shared weights")
def derive(args: list[str]) -> int:
    flags = parse(DeriveFlags, args, "derive")
    from enas.cli.display import Display, ranking
    from enas.reports.derive import derive as derive_run

    changes = {name: value for name, value in vars(flags).items() if value is not None}
    changes |= {"budget": seconds(flags.budget)} if flags.budget else {}
    changes.pop("gpus_per_job", None)
    changes["jobs"] = jobs_of(flags)
    with Display() as display:
        derive_run(changes.pop("run"), listen=display, **changes)
    ranking(flags.run)
    print(f"next: enas retrain {shlex.quote(str(flags.run))}")
    return 0
