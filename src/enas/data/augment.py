"""Augmentation of whole batches of images (paper 3.2).

Shapes: B of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(x: Tensor, generator: torch.Generator, pad: int = 4, flip: bool = True, cutout: int = 0) -> Tensor:
    """Returns random crops, flips and CutOut of a normalised batch (paper 3.2), each image its own.

    An image is padded by `pad` zeros on each side (the mean colour) and cropped back at a uniform
    place; flipped left to right with probability 1/2; and a square of `cutout` x `cutout` pixels is
    set to zero, its centre uniform in the image, clipped at the border (DeVries & Taylor 2017; with
    an even side, the centre is the pixel below and right of the middle). ENAS's released code draws
    the square's top left corner instead, which spares the top and the left.

    x: (B, C, H, W), not changed. Returns the same shape, in channels_last; x itself where nothing
    is asked for. `generator` lives on x's device and draws (B,) each, only what is asked for:
    crop's top, crop's left, flip, centre's row, centre's column. ValueError where pad or cutout is
    negative.
    """
    if pad < 0 or cutout < 0:
        raise ValueError(f"pad and cutout are at least 0 pixels; got {pad} and {cutout}")
    B, C, H, W = x.shape
    device = x.device

    def draw(options: int) -> Tensor:  # (B, 1), uniform in 0..options - 1
        return torch.randint(options, (B, 1), generator=generator, device=device)

    if not (pad or flip or cutout):
        return x
    # One gather of pixels does it all: in the batch with zeros around it, flattened, every pixel of
    # the result has an address, and one that is cut has the address of the first zero.
    border = max(pad, 1 if cutout else 0)
    rows, cols = torch.arange(H, device=device), torch.arange(W, device=device)
    top, left = (draw(2 * pad + 1) - pad, draw(2 * pad + 1) - pad) if pad else (0, 0)
    row = rows + (border + top)  # (B, H), or (H,) where all images agree
    # (B, W) or (W,)
    col = (torch.where(draw(2) == 1, cols.flip(0), cols) if flip else cols) + (border + left)
    image = torch.arange(B, device=device).view(B, 1, 1) * (H + 2 * border)
    address = (image + row.unsqueeze(-1)) * (W + 2 * border) + col.unsqueeze(-2)  # (B, H, W)
    if cutout:
        first_row, first_col = draw(H) - cutout // 2, draw(W) - cutout // 2
        cut_rows = (rows >= first_row) & (rows < first_row + cutout)  # (B, H)
        cut_cols = (cols >= first_col) & (cols < first_col + cutout)  # (B, W)
        address = torch.where(cut_rows.unsqueeze(-1) & cut_cols.unsqueeze(-2), 0, address)
    pixels = F.pad(x.permute(0, 2, 3, 1), (0, 0, border, border, border, border)).reshape(-1, C)
    return pixels.index_select(0, address.flatten()).view(B, H, W, C).permute(0, 3, 1, 2)
