"""Paired timing: alternatives take turns in one run, so that a busy or throttled machine slows all alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any


def paired(alternatives: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 3) -> dict[str, list[float]]:
    """Seconds of each call of each alternative; in every round each runs once, the first of a round changes."""
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(-warm, rounds):
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            alternatives[name]()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Median over rounds of above / below, and the quartiles of it."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {"ratio": round(median(ratios), 4), "ratio_q1": round(low, 4), "ratio_q3": round(high, 4)}


def emit(what: str, sizes: Mapping[str, Any], seconds: list[float], **more: Any) -> dict[str, Any]:
    """Prints one JSON line."""
    record = {"what": what, "sizes": dict(sizes), "seconds_median": float(f"{median(seconds):.4g}"), **more}
    print(json.dumps(record), flush=True)
    return record
