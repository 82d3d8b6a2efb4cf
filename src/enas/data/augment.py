"""This module augments whole batches of images (paper 3.2).

The random numbers are drawn first, and the new images are a function of them. So a GPU can record
the second part.

In shapes, B is the number of images of a batch, C their channels, H their height and W their width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(x: Tensor, generator: torch.Generator, pad: int = 4, flip: bool = True, cutout: int = 0) -> Tensor:
    """Returns random crops, flips and CutOut of a normalised batch (paper 3.2). Each image gets its
    own.

    An image is padded by `pad` zeros on each side (zero is the mean colour) and cropped back at a
    uniformly random place. It is flipped left to right with probability 1/2. A square of `cutout` x
    `cutout` pixels is set to zero; its centre is uniform in the image, and it is clipped at the
    border (DeVries & Taylor 2017; with an even side, the centre is the pixel below and right of the
    middle). ENAS's released code draws the square's top left corner instead, which spares the top
    and the left.

    `x` (B, C, H, W) is not changed. The result has the same shape, in channels_last; it is `x`
    itself where nothing is asked for. `generator` lives on x's device. Raises a ValueError where
    `pad` or `cutout` is negative.
    """
    return augmented(x, drawn(x, generator, pad, flip, cutout), pad, flip, cutout)


def drawn(x: Tensor, generator: torch.Generator, pad: int, flip: bool, cutout: int) -> Tensor:
    """Returns the random numbers that `augmented` needs, (B, 0 to 5) int64 on x's device. Its
    columns are the crop's top, the crop's left, the flip, the centre's row and the centre's column,
    but only those that are asked for. Raises the errors of `augment`."""
    if pad < 0 or cutout < 0:
        raise ValueError(f"pad and cutout are at least 0 pixels; got {pad} and {cutout}")
    B, _, H, W = x.shape
    options = [2 * pad + 1] * 2 * (pad > 0) + [2] * flip + [H, W] * (cutout > 0)
    columns = [torch.randint(n, (B, 1), generator=generator, device=x.device) for n in options]
    return torch.cat(columns, 1) if columns else torch.empty(B, 0, dtype=torch.int64, device=x.device)


def augmented(x: Tensor, draws: Tensor, pad: int, flip: bool, cutout: int) -> Tensor:
    """Returns what `augment` returns, for random numbers that `drawn` returned."""
    if not (pad or flip or cutout):
        return x
    B, C, H, W = x.shape
    device, draw = x.device, iter(draws.split(1, 1))  # (B, 1) each
    # One gather of pixels does it all. It reads from the batch with zeros around each image,
    # flattened. Every pixel of the result has an address there, and a pixel that is cut out has
    # the address of the first zero.
    border = max(pad, 1 if cutout else 0)
    rows, cols = torch.arange(H, device=device), torch.arange(W, device=device)
    top, left = (next(draw) - pad, next(draw) - pad) if pad else (0, 0)
    row = rows + (border + top)  # (B, H), or (H,) where all images agree
    # (B, W) or (W,)
    col = (torch.where(next(draw) == 1, cols.flip(0), cols) if flip else cols) + (border + left)
    image = torch.arange(B, device=device).view(B, 1, 1) * (H + 2 * border)
    address = (image + row.unsqueeze(-1)) * (W + 2 * border) + col.unsqueeze(-2)  # (B, H, W)
    if cutout:
        first_row, first_col = next(draw) - cutout // 2, next(draw) - cutout // 2
        cut_rows = (rows >= first_row) & (rows < first_row + cutout)  # (B, H)
        cut_cols = (cols >= first_col) & (cols < first_col + cutout)  # (B, W)
        address = torch.where(cut_rows.unsqueeze(-1) & cut_cols.unsqueeze(-2), 0, address)
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, border, border, border, border)).reshape(-1, C)
    return pixels.index_select(0, address.flatten()).view(B, H, W, C).permute(0, 3, 1, 2)
