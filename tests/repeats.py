"""How often a test repeats that draws at random: a few times in the suite, many in `make soak`."""

from __future__ import annotations

import os


def repeats(few: int, many: int) -> int:
    """Returns `many` where $ENAS_SOAK is 1, as in `make soak`, else `few`. A test that asks is
    marked `soak`."""
    return many if os.environ.get("ENAS_SOAK") == "1" else few
