"""This module makes batches of images that do not lie on the device as float32. It makes them from
bytes in memory or from files, in worker processes if asked.

The content of a batch is a function of the indices that are asked for. So it does not depend on the
number of workers, and it equals, bit for bit, the batch that is indexed from images in memory.

In shapes, N is the number of images, B that of a batch, C of channels, and S the side of an image.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from enas.blame import says_dead
from enas.data.pictures import Frame, Unreadable, decoded, quiet

GIGABYTE = 10**9
Indices = Callable[[int, int], Tensor]  # returns the indices of the batch of an epoch and a step


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """An `ImageFiles` object stands in the place of a tensor (N, C, S, S) for images on disk. They
    are decoded when they are indexed."""

    files: Sequence[str]
    frame: Frame
    sums: Tensor
    """The sum and the sum of squares of each image's channels, (N, C, 2) int64."""

    dtype = torch.uint8
    ndim = 4

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.files), self.frame.channels, self.frame.size, self.frame.size))

    def __len__(self) -> int:
        return len(self.files)

    def numel(self) -> int:
        return self.shape.numel()

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Returns images (B, C, S, S) uint8. Raises a ValueError where a file has gone or
        changed."""
        files = self.files[index] if isinstance(index, slice) else [self.files[i] for i in index.tolist()]
        out = torch.empty(len(files), *self.shape[1:], dtype=torch.uint8)
        with quiet():
            for file, image in zip(files, out, strict=True):
                try:
                    image.copy_(torch.from_numpy(decoded(file, self.frame)))
                except Unreadable as error:
                    raise ValueError(f"'{file}' can no longer be read: {error}") from None
        return out

    def some(self, index: Tensor | slice) -> ImageFiles:
        """Returns some of the images as an `ImageFiles` object, without reading them."""
        rows = torch.arange(len(self))[index]
        return ImageFiles([self.files[i] for i in rows.tolist()], self.frame, self.sums[rows])


@dataclass(frozen=True, eq=False)
class Together:
    """A `Together` object joins images of several places, one place after the other."""

    places: Sequence[Tensor | ImageFiles]

    def __len__(self) -> int:
        return sum(map(len, self.places))

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        rows = torch.arange(len(self))[index]
        out = torch.empty(len(rows), *self.places[0].shape[1:], dtype=torch.uint8)
        ends = torch.tensor([0, *map(len, self.places)]).cumsum(0).tolist()
        for place, (start, end) in zip(self.places, pairwise(ends), strict=True):
            here = (rows >= start) & (rows < end)
            if bool(here.any()):
                out[here] = place[rows[here] - start]
        return out


def normalise(images: Tensor, out: Tensor, mean: Tensor, std: Tensor) -> None:
    """Fills `out` (B, S, S, C), float32 on the device of mean and std (C,), with
    (x / 255 - mean) / std of images (B, C, S, S) uint8."""
    out.copy_(images.to(out.device).permute(0, 2, 3, 1))
    out.div_(255).sub_(mean).div_(std)


class Streamed:
    """A `Streamed` object stands in the place of a tensor (N, C, S, S) float32 of normalised
    images, and makes it batch by batch."""

    def __init__(
        self,
        images: Tensor | ImageFiles | Together,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
        workers: int = 0,
    ):
        self.images, self.workers = images, workers
        self.mean, self.std = (torch.tensor(values, dtype=torch.float32, device=device) for values in (mean, std))
        self._next: tuple[int, int] | None = None
        self._last: tuple[tuple[int, int] | None, Tensor] = (None, torch.empty(0))
        self._running: Iterator[Tensor] = iter(())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Returns normalised images (B, C, S, S) float32 in channels_last."""
        return self._normalised(self.images[index.cpu() if isinstance(index, Tensor) else index])

    def each(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yields one batch for each index tensor (B,), in order. Workers read ahead."""
        for images in self._loader(indices):
            yield self._normalised(images)

    def ahead(self, epoch: int, step: int, steps: int, indices: Indices) -> Tensor:
        """Returns the batch of `indices(epoch, step)`. Workers go on reading from there. They begin
        again where the next call asks for another batch than the one that follows."""
        if self._last[0] != (epoch, step):
            if self._next != (epoch, step):
                self._running = self._loader(_Onwards(epoch, step, steps, indices))
            self._last = ((epoch, step), next(self._running))
            self._next = (epoch, step + 1) if step + 1 < steps else (epoch + 1, 0)
        return self._normalised(self._last[1])

    def _loader(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        # A DataLoader draws a seed. It gets a generator of its own, so that it does not change the
        # random numbers of the run.
        loader: Any = DataLoader(
            self.images,  # type: ignore[arg-type]  # it is indexed by whole batches
            batch_size=None,
            sampler=indices,
            num_workers=self.workers,
            generator=torch.Generator(),
            # Where several processes train together, Python would start each worker as a new
            # interpreter, which takes seconds.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
        )
        # Python warns of a fork beside other threads. It is how torch starts workers.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            return _plainly(iter(loader))

    def _normalised(self, images: Tensor) -> Tensor:
        B, C, H, W = images.shape
        out = torch.empty(B, H, W, C, device=self.mean.device)
        normalise(images, out, self.mean, self.std)
        return out.permute(0, 3, 1, 2)


def _plainly(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yields batches. An error of a worker is raised without the worker's traceback."""
    try:
        yield from batches
    except ValueError as error:
        raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from None
    except (RuntimeError, OSError, EOFError) as error:
        if not says_dead(error):
            raise
        raise ValueError(
            "a process that was reading images ended: it was killed, or ran out of memory; with --data.workers 0 an"
            " error shows itself"
        ) from error


@dataclass(frozen=True)
class _Onwards:
    """An `_Onwards` object yields the indices of all batches from one on, without end."""

    epoch: int
    step: int
    steps: int
    indices: Indices

    def __iter__(self) -> Iterator[Tensor]:
        epoch, step = self.epoch, self.step
        while True:
            yield self.indices(epoch, step).cpu()
            epoch, step = (epoch, step + 1) if step + 1 < self.steps else (epoch + 1, 0)


def limit(memory: float | None, device: torch.device | str = "cpu") -> float:
    """Returns how many bytes images may take on a device: `memory` gigabytes, or where it is None,
    half of the free memory."""
    return memory * GIGABYTE if memory is not None else free_memory(torch.device(device)) / 2


def free_memory(device: torch.device) -> int:
    """Returns how many bytes are free on a GPU, or in this machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: all memory of the machine
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
