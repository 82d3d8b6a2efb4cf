"""This module turns one image file, or one image of an array, into bytes of the size and the
channels that are asked for. It does not import torch.

In shapes, H is the height, W the width, C the number of channels, and S the side of the square that
comes out.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import struct
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Literal, TypeGuard

import numpy as np
from numpy.lib.format import open_memmap

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["resize", "crop"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".npy")
MOST_CHANNELS = 12
LARGEST = 32  # largest side in pixels where no size is asked for; the presets were made for it
CHANNELS = {"1": 1, "L": 1, "I": 1, "F": 1, "LA": 2, "La": 2, "PA": 4, "RGBA": 4, "RGBa": 4, "RGBX": 4}
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa", "P")


@dataclass(frozen=True, eq=False)
class Packed:
    """A `Packed` is an image file that is packed in another file."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


Source = str | Packed  # the path of a file, or the content of one


@dataclass(frozen=True)
class Kind:
    """A `Kind` is what the beginning of an image file says of it. Sizes are in pixels."""

    width: int
    height: int
    channels: int
    alpha: bool = False
    """True where the last channel is opacity."""


@dataclass(frozen=True)
class Frame:
    """A `Frame` says what images are turned into: (channels, size, size) bytes."""

    size: int
    channels: int
    fit: Fit = "resize"


class Unreadable(ValueError):
    """This error says why a file is no whole image."""


def kind_of(source: Source) -> Kind:
    """Returns what the beginning of a file says. Raises `Unreadable` where it is no image."""
    with _errors(source):
        if _is_array(source):
            array = open_memmap(source, mode="r")
            _check_array(array.shape)
            return Kind(array.shape[1], array.shape[0], array.shape[2] if array.ndim == 3 else 1)
        with _opened(source) as image:
            alpha = image.mode in ALPHA[:-1] or "transparency" in image.info
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            grey = image.mode.startswith("I;16")
            if pages > 1:
                if pages > MOST_CHANNELS or not (grey or CHANNELS.get(image.mode) == 1):
                    raise ValueError(f"pages of a .tif are at most {MOST_CHANNELS} grey channels; got {pages}")
                return Kind(*image.size, pages)
            if image.mode == "P":
                return Kind(*image.size, 4 if alpha else 3, alpha)
            return Kind(*image.size, 1 if grey else CHANNELS.get(image.mode, 3), image.mode in ALPHA)


def decoded(source: Source, frame: Frame) -> np.ndarray:
    """Returns an image as (C, S, S) uint8. Raises `Unreadable` where it is damaged."""
    with _errors(source):
        if _is_array(source):
            array = np.array(open_memmap(source, mode="r"))
            _check_array(array.shape)
            return fitted(as_bytes(array), frame)
        with _opened(source) as image:
            return fitted(_pixels(image), frame)


def fitted(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    """Returns pixels (H, W, C) or (H, W), uint8, as (C, S, S): the whole image resized to the
    square, or the largest square in its middle. Raises a ValueError where the channels do not
    fit."""
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    pixels = _with_channels(pixels, frame.channels)
    height, width = pixels.shape[:2]
    size = frame.size
    if (height, width) == (size, size):
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    from PIL import Image

    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if frame.fit == "crop" else (0, 0, width, height)
    # Each band is resized by itself. Otherwise Pillow would weigh colours by the fourth channel,
    # which need not be opacity.
    bands = (Image.fromarray(np.ascontiguousarray(pixels[:, :, c])) for c in range(pixels.shape[2]))
    return np.stack([np.asarray(band.resize((size, size), Image.Resampling.BILINEAR, box)) for band in bands])


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Returns numbers as bytes of the same shape. Bytes stay as they are, numbers of 16 bits are
    divided by 257, and fractions of 1 are multiplied by 255. Raises a ValueError for numbers of
    another range."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif" or not values.size:
        raise ValueError(f"pixels are numbers; got {values.dtype} of shape {values.shape}")
    low, high = values.min(), values.max()
    if low >= 0 and values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if low >= 0 and values.dtype != np.uint16 and high <= 255:
        return np.rint(values).astype(np.uint8)
    if low >= 0 and values.dtype.kind in "ui" and high <= 65535:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    raise ValueError(f"pixels are whole numbers from 0 to 255 or 65,535, or 0 to 1; got {low:.4g} to {high:.4g}")


def frame_of(kinds: Collection[Kind], image_size: int | None, fit: Fit) -> Frame:
    """Returns the frame that images of these kinds are turned into.

    Where no size is given, it is that of the images if all are alike, square and at most 32 pixels.
    Otherwise it is their median side, as a multiple of 8, at most 32. Grey images beside coloured
    ones become coloured. Where only some images have opacity, all lose it. Raises a ValueError
    where the numbers of channels do not go together.
    """
    sides = [side for kind in kinds for side in (kind.width, kind.height)]
    size = image_size or (
        sides[0]
        if len(set(sides)) == 1 and sides[0] <= LARGEST
        else min(LARGEST, max(8, round(statistics.median(sides) / 8) * 8))
    )
    channels = {kind.channels for kind in kinds}
    if len(channels) == 1:
        return Frame(size, channels.pop(), fit)
    without = {kind.channels - kind.alpha for kind in kinds}
    if without <= {1, 3}:
        return Frame(size, max(without), fit)
    raise ValueError(f"images have one number of channels, or are grey and colour; got {sorted(channels)}")


def said(kinds: Collection[Kind], frame: Frame) -> str:
    """Returns the sizes in words, such as `20 to 70 pixels, resized to 32`."""
    sides = sorted({side for kind in kinds for side in (kind.width, kind.height)})
    shapes = {(kind.width, kind.height) for kind in kinds}
    sizes = f"{sides[0]} to {sides[-1]} pixels"
    if len(shapes) == 1:
        sizes = "{}x{} pixels".format(*next(iter(shapes)))
    if shapes == {(frame.size, frame.size)}:
        return sizes
    return f"{sizes}, {'resized' if frame.fit == 'resize' else 'cropped and resized'} to {frame.size}"


# ---------------------------------------------------------------------------------------- reading
def _is_array(source: Source) -> TypeGuard[str]:
    return isinstance(source, str) and source.lower().endswith(".npy")


def _check_array(shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or not all(shape) or (len(shape) == 3 and shape[2] > MOST_CHANNELS):
        raise ValueError(f"an image in a .npy is (height, width, at most {MOST_CHANNELS} channels); got {shape}")


def _opened(source: Source) -> Image.Image:
    from PIL import Image

    return Image.open(source if isinstance(source, str) else io.BytesIO(source.content))


def _pixels(image: Image.Image) -> np.ndarray:
    """Returns (H, W) or (H, W, C) uint8, upright, with the channels that `kind_of` says."""
    from PIL import ImageOps

    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        pages = []
        for page in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(page)
            pages.append(as_bytes(np.array(image)))
        return np.stack(pages, 2)
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode.startswith(("I", "F")):
        values = np.array(image)
        # Some images hold 16 bits in numbers of 32. They count as 16 bits however dark they are.
        if mode.startswith("I") and values.dtype != np.uint16:
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("it has more than 16 bits")
            values = values.astype(np.uint16)
        return as_bytes(values)
    if mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    else:
        wanted = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(mode, mode)
        image = image.convert(wanted if wanted in ("L", "LA", "RGB", "RGBA", "RGBX") else "RGB")
    return np.array(image)


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    own = pixels.shape[2]
    if own == channels:
        return pixels
    if own in (2, 4) and channels in (1, 3):  # the last is opacity
        pixels = pixels[:, :, :-1]
    if pixels.shape[2] == 1 and channels == 3:
        return pixels.repeat(3, 2)
    if pixels.shape[2] != channels:
        raise ValueError(f"it has {own} channels where {channels} are read")
    return pixels


class _errors:
    """An `_errors` block turns whatever a reader raises into an `Unreadable` of one line."""

    def __init__(self, source: Source):
        self.source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, Unreadable):
            return
        expected: tuple[type[BaseException], ...] = (OSError, ValueError, SyntaxError, EOFError, LookupError, struct.error)
        # Damaged beginnings of .npy and .tif files raise these.
        expected += (TypeError, OverflowError, TokenError, MemoryError)
        if isinstance(error, expected) or type(error).__name__ == "DecompressionBombError":
            said = " ".join(str(error).split())
            if isinstance(error, OSError) and "cannot identify" in said:
                said = "it is no image that Pillow reads"
            raise Unreadable(said[:200] or type(error).__name__) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's warnings inside the `with` block. They tell of odd beginnings of images
    that can be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def is_image(path: str | Path) -> bool:
    """Returns whether a file's name is that of an image."""
    return str(path).lower().endswith(SUFFIXES)
