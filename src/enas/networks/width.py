"""This module searches for the largest width that a number of parameters allows."""

from __future__ import annotations

from collections.abc import Callable


def widest(size: Callable[[int], int], parameters: int, what: str) -> int:
    """Returns the largest width with `size(width) <= parameters`, for a size that grows with the
    width. Raises a ValueError, in which `what` names the model, where even a width of 1 is too
    large."""
    if size(1) > parameters:
        raise ValueError(f"{what} has at least {size(1):,} parameters; got {parameters:,}")
    low, high = 1, 2
    while size(high) <= parameters:
        low, high = high, 2 * high
    while high - low > 1:  # low fits, high does not
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= parameters else (low, middle)
    return low
