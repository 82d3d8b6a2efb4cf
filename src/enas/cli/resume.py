"""This module holds the command `enas resume`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from enas.cli.commands import Maybe, command, parse, seconds


@dataclass(frozen=True)
class ResumeFlags:
    """Continue a stopped search or training exactly from its last checkpoint.

    enas resume runs/mine --max-time 1h
    """

    run: Positional[Path]
    """Run folder to continue."""
    max_time: Maybe[str] = None
    """Stop in good order after this time, such as 20m."""


@command("resume", "continue a stopped run, as if it had never stopped")
def resume(args: list[str]) -> int:
    flags = parse(ResumeFlags, args, "resume")
    from enas.cli.display import Display
    from enas.runs.resume import resume as resume_run

    with Display() as display:
        resume_run(flags.run, max_seconds=seconds(flags.max_time), listen=display)
    return display.status
