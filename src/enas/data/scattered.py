"""This module makes the scattered digits: one of scikit-learn's handwritten digits at a random
place of a canvas, beside pieces cut out of other digits. To name the digit, a network has to find
it, and cells differ in how well they do that. On the digits by themselves they hardly differ
(docs/log, 2026-11-28).

The images are generated in memory from a fixed seed, in whole numbers, so they are the same bytes
on every machine. The three parts use different digits, both for the digit and for the pieces.
"""

from __future__ import annotations

import numpy as np
import torch

from enas.data.digits import read_scans
from enas.data.images import ImageData, ImagePart, balanced_order

SIDE = 8  # pixels of a digit
SOURCES = {"train": 900, "validation": 300, "test": 597}  # number of digits that a part uses
MOST = 20_000  # most canvases of a part; digits repeat at other places and beside other pieces


def load_scattered(
    train: int | None = 2000,
    validation: int = 500,
    test: int = 4000,
    canvas: int = 14,
    distractors: int = 6,
    piece: int = 5,
) -> ImageData:
    """Returns canvases, (1, canvas, canvas), balanced over the ten classes of their digit.

    `train`, `validation` and `test` are numbers of canvases; None stands for the most, 20,000. A
    smaller number gives the first canvases of a larger one. `canvas` and `piece` are the side of a
    canvas and of a piece, in pixels. `distractors` is the number of pieces per canvas. Where pieces
    overlap, the brighter pixel shows. The digit, with its 8x8 pixels, lies on top. Raises a
    ValueError where a number does not fit.
    """
    sizes = {"train": MOST if train is None else train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if not 1 <= size <= MOST:
            raise ValueError(f"{name} of the scattered digits is between 1 and {MOST:,} canvases; got {size:,}")
    if canvas < SIDE or not 1 <= piece <= SIDE or distractors < 0:
        raise ValueError(
            f"a canvas is at least {SIDE} pixels wide, a piece 1 to {SIDE}, and distractors are at least 0; got"
            f" {canvas}, {piece} and {distractors}"
        )
    scans, digits = read_scans()
    # Shades 0 to 16 are spread over the range of a byte.
    shades = (scans.astype(np.int64) * 255 // 16).astype(np.uint8)
    order = balanced_order(torch.from_numpy(digits), seed=0).numpy()
    ends = np.cumsum(list(SOURCES.values()))
    sources = dict(zip(SOURCES, np.split(order, ends[:-1]), strict=True))
    parts = []
    for seed, (name, size) in enumerate(sizes.items()):
        images, labels = shades[sources[name]], digits[sources[name]]
        chosen = np.arange(size) % len(images)
        canvases = _scattered(images, labels, chosen, canvas, distractors, piece, np.random.RandomState(seed))
        parts.append(ImagePart(torch.from_numpy(canvases)[:, None], torch.from_numpy(labels[chosen]).to(torch.int64)))
    train_part, validation_part, test_part = parts
    names = tuple(map(str, range(10)))
    return ImageData("scattered", train_part, validation_part, test_part, names)


def _scattered(
    images: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
    canvas: int,
    distractors: int,
    piece: int,
    random: np.random.RandomState,
) -> np.ndarray:
    """Returns a canvas (canvas, canvas) for each of the `chosen` of `images` (N, 8, 8)."""
    free, within = canvas - SIDE + 1, SIDE - piece + 1
    of_piece = (len(images), within, within, canvas - piece + 1, canvas - piece + 1)
    draws = random.randint(0, (free, free, *of_piece * distractors), (len(chosen), 2 + 5 * distractors), np.int64)
    out = np.zeros((len(chosen), canvas, canvas), np.uint8)
    for picture, index, (y, x, *rest) in zip(out, chosen, draws.tolist(), strict=True):
        for k in range(distractors):
            other, row, column, top, left = rest[5 * k : 5 * k + 5]
            cut = images[other, row : row + piece, column : column + piece]
            seen = picture[top : top + piece, left : left + piece]
            np.maximum(seen, cut, out=seen)
        picture[y : y + SIDE, x : x + SIDE] = images[index]
    return out
