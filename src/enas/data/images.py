"""This module holds labelled images in memory and normalises them (paper 3.2).

    data = load("cifar10", "data")                 # ImageData: uint8, as read
    images = data.normalised("train", "cpu")       # all of a part, float32, on the device
    x = augment(images[index], generator, pad=4)   # a batch, no Python work per image

A part lies on the device as float32 in channels_last, so a batch is one gather. That takes four
bytes per value (553 MB for 45,000 CIFAR-10 images). With uint8, making a batch took nearly twice as
long. Where float32 does not fit, batches are made from bytes or from files (image_stream.py).

In shapes, N is the number of images of a part, B that of a batch, C of channels, H the height and W
the width (images are square: H = W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from enas.data.image_stream import ImageFiles, Streamed, Together, limit, normalise
from enas.data.parts import PARTS, Part

SHARE = 0.15  # share of the images that a missing validation or test part takes
CHUNK = 5000  # images converted at a time, so that the copies in between stay small


@dataclass(frozen=True, eq=False)
class ImagePart:
    """An `ImagePart` holds labelled images as they were read."""

    images: Tensor | ImageFiles
    """Images (N, C, H, W) uint8. Files are decoded when they are indexed."""
    labels: Tensor
    """Labels (N,) int64, from 0."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> ImagePart:
        """Returns some of the labelled images, such as `part[:100]`."""
        images = self.images.some(index) if isinstance(self.images, ImageFiles) else self.images[index]
        return ImagePart(images, self.labels[index])

    def to(self, device: torch.device | str) -> ImagePart:
        """Returns the part with its tensors on a device. Files stay where they are."""
        images = self.images if isinstance(self.images, ImageFiles) else self.images.to(device)
        return ImagePart(images, self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ImageData:
    """An `ImageData` is a data set in its three parts. Whatever fills one in can be searched on.

    Raises a ValueError where parts do not fit together: for wrong types or shapes, for labels
    without a class, and for a channel that has a single value in training, which no standard
    deviation can divide.
    """

    name: str
    train: ImagePart
    validation: ImagePart
    test: ImagePart
    class_names: tuple[str, ...]
    about: str = ""
    """One line that says what was found and how it was read, for data that varies."""
    memory: float | None = None
    """Gigabytes that the images may take on the device; None: half of the free memory."""
    workers: int = 0
    """Number of processes that make batches where the images take more than that."""

    def __post_init__(self) -> None:
        shape = self.train.images.shape[1:]
        for name in PARTS:
            part: ImagePart = getattr(self, name)
            images, labels = part.images, part.labels
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3] or not images.numel():
                raise ValueError(
                    f"images are uint8 of shape (N, C, H, W), square and at least one; the {name} part of '{self.name}' has"
                    f" {images.dtype} of shape {tuple(images.shape)}"
                )
            if images.shape[1:] != shape:
                raise ValueError(
                    f"all parts have images of one shape; in '{self.name}' train has {tuple(shape)} and {name}"
                    f" {tuple(images.shape[1:])}"
                )
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"labels are int64, one per image; the {name} part of '{self.name}' has {len(images)} images and labels"
                    f" of {labels.dtype} and shape {tuple(labels.shape)}"
                )
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"labels are 0 to {self.num_classes - 1}, as there are {self.num_classes} class names; the {name} part"
                    f" of '{self.name}' has {low} to {high}"
                )
        for channel, std in enumerate(self.std):
            if std == 0:
                raise ValueError(
                    f"every channel of the training images varies; channel {channel} of '{self.name}' has a single value:"
                    " leave it out"
                )

    @property
    def num_classes(self) -> int:
        """Returns the number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Returns the number of channels of an image."""
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Returns the height and width of an image in pixels."""
        return self.train.images.shape[2]

    @property
    def mean(self) -> tuple[float, ...]:
        """Returns the mean of each channel over the training part, between 0 and 1."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Returns the standard deviation of each channel over the training part, on the scale of
        `mean`."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and standard deviation. They are computed from counts of values in whole
        numbers, so they are equal on every device."""
        images = self.train.images
        count = images.numel() // self.channels
        mean, std = [], []
        for total, squares in _sums(images):
            mean.append(total / count / 255)
            std.append((count * squares - total**2) ** 0.5 / count / 255)
        return tuple(mean), tuple(std)

    def to(self, device: torch.device | str) -> ImageData:
        """Returns the same data with all parts on `device`."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)

    def streams(self, device: torch.device | str = "cpu") -> bool:
        """Returns whether the normalised images take more of the device's memory than they may."""
        images = [getattr(self, part).images for part in PARTS]
        on_disk = any(isinstance(some, ImageFiles) for some in images)
        return on_disk or 4 * sum(some.numel() for some in images) > limit(self.memory, device)

    def streamed(self, *parts: Part, device: torch.device | str = "cpu") -> Streamed:
        """Returns the same images as `normalised`, of one or several parts, made batch by batch."""
        images = [getattr(self, part).images for part in parts]
        whole = images[0] if len(images) == 1 else Together(images)
        return Streamed(whole, self.mean, self.std, device, self.workers)

    def normalised(self, part: Part, device: torch.device | str = "cpu") -> Tensor:
        """Returns all images of a part as (x / 255 - mean) / std, with the mean and standard
        deviation of the training part (paper 3.2). The result is (N, C, H, W) float32 on `device`,
        in channels_last, and so is each batch that is indexed from it."""
        images: Tensor = getattr(self, part).images[:]
        N, C, H, W = images.shape
        mean, std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (self.mean, self.std))
        out = torch.empty(N, H, W, C, device=device)
        for source, target in zip(images.split(CHUNK), out.split(CHUNK), strict=True):
            normalise(source, target, mean, std)
        return out.permute(0, 3, 1, 2)


def _sums(images: Tensor | ImageFiles) -> list[tuple[int, int]]:
    """Returns the sum and the sum of squares of each channel of images (N, C, H, W)."""
    if isinstance(images, ImageFiles):
        return [(int(total), int(squares)) for total, squares in images.sums.sum(0)]
    values = torch.arange(256)
    times = [torch.bincount(channel.flatten(), minlength=256).cpu() for channel in images.unbind(1)]
    return [(int((n * values).sum()), int((n * values**2).sum())) for n in times]


# ---------------------------------------------------------------------------------------- splitting
def parted(
    name: str,
    pools: Mapping[Part, ImagePart],
    class_names: tuple[str, ...],
    about: str,
    train: int | None = None,
    validation: int | None = None,
    memory: float | None = None,
    workers: int = 0,
) -> ImageData:
    """Returns images in three parts.

    A part that is not among `pools` is taken from the training images, and is the same every time:
    15 % of them, or `validation` images, stratified. `train` is the number of the remaining images
    to use, balanced over the classes. Raises a ValueError where numbers do not fit, or a class is
    left without an image to train on.
    """
    pool = pools["train"]
    total = len(pool)
    if validation is not None and "validation" in pools:
        raise ValueError(f"'{name}' has validation images of its own; leave out data.validation; got {validation:,}")
    # The test part comes first, so that it is the same whatever the validation part is.
    wanted: dict[Part, int] = {"test": round(SHARE * total)}
    wanted |= {"validation": round(SHARE * total) if validation is None else validation}
    sizes = {part: n for part, n in wanted.items() if part not in pools}
    if min(sizes.values(), default=1) < 1 or sum(sizes.values()) >= total:
        numbers = " and ".join(f"{n:,} for {part}" for part, n in sizes.items())
        raise ValueError(
            f"at least 1 of the {total:,} images of '{name}' is kept for a part, and at least 1 trains; got {numbers}"
        )
    order = stratified_order(pool.labels, seed=0)
    kept, parts = 0, dict(pools)
    for part, n in sizes.items():
        parts[part] = pool[order[kept : kept + n].sort().values]
        kept += n
    rest = pool[order[kept:].sort().values] if kept else pool
    missing = [n for n, count in zip(class_names, _counts(rest.labels, class_names), strict=True) if not count]
    if missing:
        raise ValueError(
            f"every class has an image to train on; '{missing[0]}' of '{name}' has"
            f" {_counts(pool.labels, class_names)[class_names.index(missing[0])]} for all parts, and none is left"
        )
    if train is not None:
        if not 1 <= train <= len(rest):
            raise ValueError(f"1 to {len(rest):,} images of '{name}' can be trained on; got {train:,}")
        rest = rest[balanced_order(rest.labels, seed=0)[:train].sort().values]
    if sizes:
        numbers = " and ".join(f"{n:,} for {part}" for part, n in sizes.items())
        about += f"; {numbers} taken from the training images, stratified by a fixed seed"
    return ImageData(name, rest, parts["validation"], parts["test"], class_names, about, memory, workers)


def _counts(labels: Tensor, class_names: tuple[str, ...]) -> list[int]:
    return torch.bincount(labels, minlength=len(class_names)).tolist()


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """Returns a random order (N,) int64 of the labels (N,). In every beginning of it, and so in
    every stretch, each class has its share of the whole, to within an image or two. One seed gives
    the same order under every version, as in `balanced_order`."""
    order = np.random.RandomState(seed).permutation(len(labels))
    turn, of = _turns(labels.cpu().numpy()[order])
    return torch.from_numpy(order[np.argsort((2 * turn + 1) / (2 * of), kind="stable")])


def _turns(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each image its number within its class, and the number of images of that
    class."""
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes)
    turn = np.empty(len(classes), dtype=np.int64)
    turn[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return turn, sizes[classes]


def balanced_order(labels: Tensor, seed: int) -> Tensor:
    """Returns a random order (N,) int64 of the labels (N,) in which every beginning is balanced:
    the classes take turns until one has no image left. One seed gives the same order under every
    version, because RandomState's numbers are frozen (NumPy's NEP 19). Those of newer generators
    and of torch are not."""
    order = np.random.RandomState(seed).permutation(len(labels))
    shuffled = labels.cpu().numpy()[order]
    turn, _ = _turns(shuffled)
    return torch.from_numpy(order[np.lexsort((shuffled, turn))])
