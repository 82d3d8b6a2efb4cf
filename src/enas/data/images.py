"""Labelled images in memory and their normalisation (paper 3.2).

    data = load("cifar10", "data")                 # ImageData: uint8, as read
    images = data.normalised("train", "cpu")       # all of a part, float32, on the device
    x = augment(images[index], generator, pad=4)   # a batch, no Python work per image

A part lies on the device as float32 in channels_last, so a batch is one gather. That is four bytes
per value (553 MB for 45,000 CIFAR-10 images); with uint8, a batch took nearly twice as long.

Shapes: N images of a part, B of a batch, C channels, H height, W width (square: H = W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from enas.data.parts import PARTS, Part

CHUNK = 5000  # images converted at a time, so that the copies in between stay small


@dataclass(frozen=True, eq=False)
class ImagePart:
    """Some labelled images, as they were read."""

    images: Tensor
    """(N, C, H, W) uint8."""
    labels: Tensor
    """(N,) int64, from 0."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> ImagePart:
        """Returns some of them: `part[:100]`."""
        return ImagePart(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> ImagePart:
        return ImagePart(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in its three parts; anything that fills one in can be searched on.

    ValueError where parts do not fit together: types, shapes, labels without a class, or a training
    channel of a single value, which no standard deviation can divide.
    """

    name: str
    train: ImagePart
    validation: ImagePart
    test: ImagePart
    class_names: tuple[str, ...]

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
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.train.images.shape[2]

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training part, between 0 and 1."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training part, on the scale of `mean`."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std by counts of values: whole numbers to the end, equal on every device."""
        values = torch.arange(256)
        count = self.train.images.numel() // self.channels
        mean, std = [], []
        for channel in self.train.images.unbind(1):
            times = torch.bincount(channel.flatten(), minlength=256).cpu()
            total, squares = int((times * values).sum()), int((times * values**2).sum())
            mean.append(total / count / 255)
            std.append((count * squares - total**2) ** 0.5 / count / 255)
        return tuple(mean), tuple(std)

    def to(self, device: torch.device | str) -> ImageData:
        """Returns the same data with all parts on `device`."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return ImageData(self.name, train, validation, test, self.class_names)

    def normalised(self, part: Part, device: torch.device | str = "cpu") -> Tensor:
        """Returns all images of a part as (x / 255 - mean) / std by the training part's mean and
        standard deviation (paper 3.2): (N, C, H, W) float32 on `device` in channels_last, and so is
        what is indexed from it."""
        images: Tensor = getattr(self, part).images
        N, C, H, W = images.shape
        mean, std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (self.mean, self.std))
        out = torch.empty(N, H, W, C, device=device)
        for source, target in zip(images.split(CHUNK), out.split(CHUNK), strict=True):
            target.copy_(source.to(device).permute(0, 2, 3, 1))
            target.div_(255).sub_(mean).div_(std)
        return out.permute(0, 3, 1, 2)


def balanced_order(labels: Tensor, seed: int) -> Tensor:
    """Returns a random order (N,) int64 of labels (N,) whose every beginning is balanced: the
    classes take turns, until one has no image left. It is the same for one seed under every
    version: RandomState's numbers are frozen (NumPy's NEP 19), which those of newer generators and
    of torch are not."""
    order = np.random.RandomState(seed).permutation(len(labels))
    shuffled = labels.cpu().numpy()[order]
    by_class = np.argsort(shuffled, kind="stable")
    sizes = np.bincount(shuffled)
    turn = np.empty(len(order), dtype=np.int64)  # its number within its class
    turn[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return torch.from_numpy(order[np.lexsort((shuffled, turn))])
