"""This module names the parts of a data set: one to train on, one to choose on, and one to read
only once, at the end."""

from __future__ import annotations

from typing import Literal

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
