"""The parts of a data set: what is trained on, what choices are made on, and what is read once, at
the end."""

from __future__ import annotations

from typing import Literal

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
