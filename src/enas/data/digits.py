"""This module loads scikit-learn's handwritten digits: 1,797 scans of 8x8 pixels in 17 shades
(Alpaydin & Kaynak 1998, the test part of UCI's "Optical Recognition of Handwritten Digits"). There
is nothing to download."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from enas.data.images import ImageData, ImagePart, balanced_order


def load_digits(train: int | None = 400, validation: int = 400, test: int = 997) -> ImageData:
    """Returns the digits 0 to 9 as images (1, 8, 8), in a fixed random split that is balanced over
    the classes.

    All images stand in one fixed order. The last `test` of them are the test part, the `validation`
    before these are the validation part, and the first `train` are trained on (None: all that are
    left). So another number of training images changes nothing in the other parts. Raises a
    ValueError where the numbers do not fit.
    """
    images, labels, class_names = _scans()
    total = len(labels)
    most = total - validation - test
    if validation < 1 or test < 1 or most < 1 or (train is not None and not 1 <= train <= most):
        raise ValueError(
            f"train, validation and test are at least 1 each and together at most the {total:,} images of the digits; got"
            f" {train}, {validation} and {test}"
        )
    order = balanced_order(labels, seed=0)
    whole = ImagePart(images, labels)
    parts = (order[: most if train is None else train], order[most : total - test], order[total - test :])
    train_part, validation_part, test_part = (whole[part.sort().values] for part in parts)
    return ImageData("digits", train_part, validation_part, test_part, class_names)


@functools.cache
def _scans() -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Returns all images, their labels and the names of the classes. They are parsed once in a
    process, since commands make many tasks."""
    scans, labels = read_scans()
    # Shades 0 to 16 are spread over the range of a byte.
    images = torch.from_numpy(scans).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    return images, torch.from_numpy(labels), tuple(map(str, range(10)))


def read_scans() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's digits: shades 0 to 16, (1797, 8, 8), and labels, (1797,).

    They are read from the file that comes with scikit-learn, but without importing scikit-learn,
    because its import takes longer than the rest of a short command.
    """
    spec = importlib.util.find_spec("sklearn")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz" if spec and spec.origin else None
    if file is None or not file.is_file():  # another version of scikit-learn keeps it elsewhere
        from sklearn import datasets

        bunch = datasets.load_digits()
        return bunch.images, bunch.target.astype(np.int64)
    rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
