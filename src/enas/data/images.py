"""Labelled images in memory, their normalisation, and augmentation of whole batches (paper 3.2).

    data = load("cifar10", "data")                       # ImageData: uint8, as read
    images = data.normalised("train", "cpu")             # all of a part, float32, on the device
    x = augment(images[index], generator, pad=4)         # a batch, no Python work per image

A part lies on the device as float32 in channels_last, so a batch is one gather and needs no other preparation. That is four
bytes a value (553 MB for 45,000 CIFAR-10 images); with uint8 normalised batch by batch, a batch took nearly twice as long.

Shapes: N images of a part, B of a batch, C channels, H height, W width (images are square: H = W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
        """Some of them: `part[:100]`."""
        return ImagePart(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> ImagePart:
        return ImagePart(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in its three parts. Anything that fills one in can be searched on, from `ImagePart`s of one's own too.

    ValueError where parts do not fit together: types, shapes, labels without a class, or a training channel of one single
    value, which no standard deviation can divide.
    """

    name: str
    train: ImagePart
    validation: ImagePart
    test: ImagePart
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.train.images.shape[1:]
        for name in ("train", "validation", "test"):
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
                    f"labels are int64, one an image; the {name} part of '{self.name}' has {len(images)} images and labels"
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
        """Height and width, pixels."""
        return self.train.images.shape[2]

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel over the training part alone, between 0 and 1."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over all pixels of the training part alone, on the scale of `mean`."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """From how often each value occurs: whole numbers until the last division, so equal on every device."""
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
        """The same with all parts on `device`."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return ImageData(self.name, train, validation, test, self.class_names)

    def normalised(self, part: Literal["train", "validation", "test"], device: torch.device | str = "cpu") -> Tensor:
        """All images of a part as (x / 255 - mean) / std, with the training part's mean and standard deviation (paper 3.2).

        Returns (N, C, H, W) float32 on `device` in channels_last; what is indexed from it, `images[index]` and
        `images[start:stop]`, is channels_last as well.
        """
        images: Tensor = getattr(self, part).images
        N, C, H, W = images.shape
        mean, std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (self.mean, self.std))
        out = torch.empty(N, H, W, C, device=device)
        for source, target in zip(images.split(CHUNK), out.split(CHUNK), strict=True):
            target.copy_(source.to(device).permute(0, 2, 3, 1))
            target.div_(255).sub_(mean).div_(std)
        return out.permute(0, 3, 1, 2)


def augment(x: Tensor, generator: torch.Generator, pad: int = 4, flip: bool = True, cutout: int = 0) -> Tensor:
    """Random crops, flips and CutOut of a normalised batch (paper 3.2), each image its own.

    The image is padded by `pad` zeros on each side (the mean colour, as padding follows normalisation) and cropped back at
    a uniform place; flipped left to right with probability 1/2; and a square of `cutout` x `cutout` pixels is set to zero,
    its centre uniform in the image, clipped at the border (DeVries & Taylor 2017; with an even side, the centre is the
    pixel below and right of the middle). ENAS's released code draws the square's top left corner uniformly in the image
    instead, which spares the top and the left.

    x: (B, C, H, W), not changed. Returns the same shape, in channels_last; `x` itself where nothing is asked for.
    `generator` lives on x's device. Its draws, each (B,) and only those asked for: crop's top, crop's left, flip, centre's
    row, centre's column. ValueError where pad or cutout is negative.
    """
    if pad < 0 or cutout < 0:
        raise ValueError(f"pad and cutout are at least 0 pixels; got {pad} and {cutout}")
    B, C, H, W = x.shape
    device = x.device

    def draw(options: int) -> Tensor:  # (B, 1), uniform in 0..options - 1
        return torch.randint(options, (B, 1), generator=generator, device=device)

    if not (pad or flip or cutout):
        return x
    # One gather of pixels does it all: in the batch with zeros around it, flattened, every pixel of the result has an
    # address, and one that is cut has the address of the first zero.
    border = max(pad, 1 if cutout else 0)
    rows, cols = torch.arange(H, device=device), torch.arange(W, device=device)
    top, left = (draw(2 * pad + 1) - pad, draw(2 * pad + 1) - pad) if pad else (0, 0)
    row = rows + (border + top)  # (B, H), or (H,) where all images agree
    col = (torch.where(draw(2) == 1, cols.flip(0), cols) if flip else cols) + (border + left)  # (B, W), or (W,)
    image = torch.arange(B, device=device).view(B, 1, 1) * (H + 2 * border)
    address = (image + row.unsqueeze(-1)) * (W + 2 * border) + col.unsqueeze(-2)  # (B, H, W)
    if cutout:
        first_row, first_col = draw(H) - cutout // 2, draw(W) - cutout // 2
        cut_rows = (rows >= first_row) & (rows < first_row + cutout)  # (B, H)
        cut_cols = (cols >= first_col) & (cols < first_col + cutout)  # (B, W)
        address = torch.where(cut_rows.unsqueeze(-1) & cut_cols.unsqueeze(-2), 0, address)
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, border, border, border, border)).reshape(-1, C)
    return pixels.index_select(0, address.flatten()).view(B, H, W, C).permute(0, 3, 1, 2)


def balanced_order(labels: Tensor, seed: int) -> Tensor:
    """A random order whose every beginning is balanced: the classes take turns, until one has no image left.

    labels: (N,). Returns (N,) int64 indices. The same for one seed under every version: RandomState's numbers are frozen
    (NumPy's NEP 19), which those of the newer generators and of torch are not.
    """
    order = np.random.RandomState(seed).permutation(len(labels))
    shuffled = labels.cpu().numpy()[order]
    by_class = np.argsort(shuffled, kind="stable")
    sizes = np.bincount(shuffled)
    turn = np.empty(len(order), dtype=np.int64)  # the how-manieth of its class
    turn[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return torch.from_numpy(order[np.lexsort((shuffled, turn))])
