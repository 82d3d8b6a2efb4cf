"""This module holds GPU kernels for the cases where torch's are slow. Each gives the numbers of its
plain form in `parts`.

All kernels run E edges side by side and branch on what an edge chose, which they read on the
device. An edge that does not use a kernel costs no reading. The module is imported only where a GPU
is used. A CPU runs the kernels by Triton's interpreter (TRITON_INTERPRET=1), which is how they are
tested there.

x is (B, E C, H, W) in channels_last, so that a pixel's channels lie together. Outputs of stride s
have Ho x Wo pixels. Each program of a grid makes a tile of BLOCK_P pixels of all images and BLOCK_C
channels of one edge.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_P = 64  # pixels of a tile
MOST_SPANS = 128  # most spans into which pixels are cut for the statistics of a batch norm


# ------------------------------------------------------------------------ ReLU and depthwise k x k
@triton.jit
def _tile(n, C, H, W, BP: tl.constexpr, BC: tl.constexpr):
    """Returns what this program computes: its pixels with their image, row and column, its channels
    within the edge and among those of all edges, and which of these elements exist."""
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    inside = (p < n)[:, None] & (c < C)[None, :]
    return p, p // (H * W), p // W % H, p % W, c, tl.program_id(1) * C + c, inside


@triton.jit
def _depthwise(x, weight, sizes, out, n, C, H, W, Ho, Wo, stride, E: tl.constexpr, K: tl.constexpr,
               ACC: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    p, b, i, j, c, channel, inside = _tile(n, C, Ho, Wo, BP, BC)
    # number of taps on either side, or -1 where the edge does not convolve
    r = (tl.load(sizes + tl.program_id(1)) + 1) // 2 - 1
    total = tl.zeros((BP, BC), ACC)
    for u in range(-r, r + 1):
        for v in range(-r, r + 1):
            h, w = i * stride + u, j * stride + v
            ok = inside & ((h >= 0) & (h < H) & (w >= 0) & (w < W))[:, None]
            value = tl.load(
                x + ((b * H + h) * W + w).to(tl.int64)[:, None] * (E * C) + channel[None, :], mask=ok, other=0.0
            ).to(ACC)
            tap = tl.load(weight + channel * (K * K) + (u + K // 2) * K + v + K // 2, mask=c < C, other=0.0).to(ACC)
            total += tl.where(value > 0, value, 0.0) * tap[None, :]
    tl.store(out + p.to(tl.int64)[:, None] * (E * C) + channel[None, :], total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _depthwise_dx(x, weight, sizes, grad, dx, n, C, H, W, Ho, Wo, stride, E: tl.constexpr, K: tl.constexpr,
                  ACC: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    p, b, h, w, c, channel, inside = _tile(n, C, H, W, BP, BC)
    place = p.to(tl.int64)[:, None] * (E * C) + channel[None, :]
    r = (tl.load(sizes + tl.program_id(1)) + 1) // 2 - 1
    total = tl.zeros((BP, BC), ACC)
    for u in range(-r, r + 1):
        for v in range(-r, r + 1):
            # the outputs whose tap (u, v) reads this pixel
            i, j = (h - u) // stride, (w - v) // stride
            hit = (h - u >= 0) & (w - v >= 0) & ((h - u) % stride == 0) & ((w - v) % stride == 0) & (i < Ho) & (j < Wo)
            ok = inside & hit[:, None]
            value = tl.load(
                grad + ((b * Ho + i) * Wo + j).to(tl.int64)[:, None] * (E * C) + channel[None, :], mask=ok, other=0.0
            )
            tap = tl.load(weight + channel * (K * K) + (u + K // 2) * K + v + K // 2, mask=c < C, other=0.0).to(ACC)
            total += value.to(ACC) * tap[None, :]
    if r >= 0:
        total = tl.where(tl.load(x + place, mask=inside, other=0.0) > 0, total, 0.0)
    tl.store(dx + place, total.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _depthwise_dw(x, sizes, grad, parts, n, C, H, W, Ho, Wo, stride, E: tl.constexpr, K: tl.constexpr,
                  ACC: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Writes the sums over the pixels of a tile to parts (tiles, E C, K K). These must be zero
    before."""
    p, b, i, j, c, channel, inside = _tile(n, C, Ho, Wo, BP, BC)
    r = (tl.load(sizes + tl.program_id(1)) + 1) // 2 - 1
    for u in range(-r, r + 1):
        for v in range(-r, r + 1):
            h, w = i * stride + u, j * stride + v
            ok = inside & ((h >= 0) & (h < H) & (w >= 0) & (w < W))[:, None]
            value = tl.load(
                x + ((b * H + h) * W + w).to(tl.int64)[:, None] * (E * C) + channel[None, :], mask=ok, other=0.0
            ).to(ACC)
            g = tl.load(grad + p.to(tl.int64)[:, None] * (E * C) + channel[None, :], mask=inside, other=0.0).to(ACC)
            total = tl.sum(tl.where(value > 0, value, 0.0) * g, 0)
            tl.store(
                parts + (tl.program_id(0).to(tl.int64) * (E * C) + channel) * (K * K) + (u + K // 2) * K + v + K // 2,
                total,
                mask=c < C,
            )


# ------------------------------------------------------------------ pools and identity by choice
@triton.jit
def _pool(x, kinds, out, taken, n, C, H, W, Ho, Wo, stride, E: tl.constexpr, ACC: tl.constexpr,
          BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Pools by the choice of each edge. For max pooling, writes to `taken` which of the nine taps
    was the largest."""
    p, b, i, j, _, channel, inside = _tile(n, C, Ho, Wo, BP, BC)
    place = p.to(tl.int64)[:, None] * (E * C) + channel[None, :]
    kind = tl.load(kinds + tl.program_id(1))
    result = tl.zeros((BP, BC), ACC)
    if kind == 3:
        result = tl.load(x + place, mask=inside, other=0.0).to(ACC)
    if (kind == 1) | (kind == 2):
        largest = tl.full((BP, BC), float("-inf"), ACC)
        which = tl.zeros((BP, BC), tl.int8)
        count = tl.zeros((BP,), ACC)
        for tap in range(9):
            h, w = i * stride + tap // 3 - 1, j * stride + tap % 3 - 1
            here = (h >= 0) & (h < H) & (w >= 0) & (w < W)
            value = tl.load(x + ((b * H + h) * W + w).to(tl.int64)[:, None] * (E * C) + channel[None, :],
                            mask=inside & here[:, None], other=0.0).to(ACC)  # fmt: skip
            result += value
            count += here.to(ACC)
            # the first of equals, as torch takes it
            larger = here[:, None] & ((value > largest) | (value != value))
            largest = tl.where(larger, value, largest)
            which = tl.where(larger, tap, which).to(tl.int8)
        result = result / tl.maximum(count, 1.0)[:, None]
        if kind == 2:
            result = largest
            tl.store(taken + place, which, mask=inside)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _pool_dx(kinds, grad, taken, dx, n, C, H, W, Ho, Wo, stride, E: tl.constexpr, ACC: tl.constexpr,
             BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    p, b, h, w, _, channel, inside = _tile(n, C, H, W, BP, BC)
    place = p.to(tl.int64)[:, None] * (E * C) + channel[None, :]
    kind = tl.load(kinds + tl.program_id(1))
    total = tl.zeros((BP, BC), ACC)
    if kind == 3:
        total = tl.load(grad + place, mask=inside, other=0.0).to(ACC)
    if (kind == 1) | (kind == 2):
        for tap in range(9):
            u, v = h - (tap // 3 - 1), w - (tap % 3 - 1)  # the output whose tap reads this pixel
            i, j = u // stride, v // stride
            hit = (u >= 0) & (v >= 0) & (u % stride == 0) & (v % stride == 0) & (i < Ho) & (j < Wo)
            ok = inside & hit[:, None]
            at = ((b * Ho + i) * Wo + j).to(tl.int64)[:, None] * (E * C) + channel[None, :]
            g = tl.load(grad + at, mask=ok, other=0.0).to(ACC)
            if kind == 1:
                top, left = tl.maximum(u - 1, 0), tl.maximum(v - 1, 0)
                count = (tl.minimum(u + 2, H) - top) * (tl.minimum(v + 2, W) - left)
                total += g / tl.maximum(count, 1).to(ACC)[:, None]
            else:
                total += tl.where(tl.load(taken + at, mask=ok, other=-1) == tap, g, 0.0)
    tl.store(dx + place, total.to(dx.dtype.element_ty), mask=inside)


# ------------------------------------------------------------------------------------- batch norm
@triton.jit
def _norm_stats(x, used, stats, n, C, span, E: tl.constexpr, ACC: tl.constexpr,
                BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Writes the mean and the sum of squared deviations of a span of pixels to stats (spans, 2, E
    C). Each tile is merged with those before it (Chan et al. 1979), so no square of a large mean is
    computed."""
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    channel = tl.program_id(1) * C + c
    start = tl.program_id(0) * span
    mean, squares = tl.zeros((BC,), ACC), tl.zeros((BC,), ACC)
    if tl.load(used + tl.program_id(1)) > 0:
        for first in range(start, tl.minimum(start + span, n), BP):
            p = first + tl.arange(0, BP)
            inside = (p < n)[:, None] & (c < C)[None, :]
            value = tl.load(x + p.to(tl.int64)[:, None] * (E * C) + channel[None, :], mask=inside, other=0.0).to(ACC)
            more = tl.minimum(BP, n - first)
            here = tl.sum(value, 0) / more
            apart = tl.where(inside, value - here[None, :], 0.0)
            # merge with the pixels before
            change, share = here - mean, more / (first - start + more).to(ACC)
            squares += tl.sum(apart * apart, 0) + change * change * (first - start) * share
            mean += change * share
    place = stats + tl.program_id(0) * 2 * E * C + channel
    tl.store(place, mean, mask=c < C)
    tl.store(place + E * C, squares, mask=c < C)


@triton.jit
def _norm_joined(stats, joined, n, C, span, spans, eps, E: tl.constexpr, ACC: tl.constexpr,
                 SPANS: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Writes the mean of all spans together, and one over their standard deviation, to joined (2, E
    C)."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    i = tl.arange(0, SPANS)
    inside = (i < spans)[:, None] & (c < E * C)[None, :]
    count = tl.where(i < spans, tl.minimum(span, n - i * span), 0).to(ACC)[:, None]
    place = stats + i[:, None] * 2 * E * C + c[None, :]
    means = tl.load(place, mask=inside, other=0.0)
    mean = tl.sum(means * count, 0) / n
    change = means - mean[None, :]
    squares = tl.sum(tl.load(place + E * C, mask=inside, other=0.0) + tl.where(inside, change * change * count, 0.0), 0)
    tl.store(joined + c, mean, mask=c < E * C)
    tl.store(joined + E * C + c, 1.0 / tl.sqrt(squares / n + eps), mask=c < E * C)


@triton.jit
def _norm(x, used, joined, weight, bias, out, n, C, E: tl.constexpr, ACC: tl.constexpr,
          BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    p, _, _, _, c, channel, inside = _tile(n, C, 1, 1, BP, BC)
    place = p.to(tl.int64)[:, None] * (E * C) + channel[None, :]
    result = tl.zeros((BP, BC), ACC)
    if tl.load(used + tl.program_id(1)) > 0:
        scale = tl.load(joined + E * C + channel, mask=c < C, other=0.0)
        scale = scale * tl.load(weight + channel, mask=c < C, other=0.0).to(ACC)
        shift = tl.load(bias + channel, mask=c < C, other=0.0).to(ACC)
        mean = tl.load(joined + channel, mask=c < C, other=0.0)
        value = tl.load(x + place, mask=inside, other=0.0).to(ACC)
        result = (value - mean[None, :]) * scale[None, :] + shift[None, :]
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_sums(x, used, joined, grad, sums, n, C, span, E: tl.constexpr, ACC: tl.constexpr,
               BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Writes the sum of the gradient times the normalised input, and the sum of the gradient, to
    sums (spans, 2, E C)."""
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    channel = tl.program_id(1) * C + c
    start = tl.program_id(0) * span
    dots, total = tl.zeros((BC,), ACC), tl.zeros((BC,), ACC)
    if tl.load(used + tl.program_id(1)) > 0:
        mean = tl.load(joined + channel, mask=c < C, other=0.0)
        inverse = tl.load(joined + E * C + channel, mask=c < C, other=0.0)
        for first in range(start, tl.minimum(start + span, n), BP):
            p = first + tl.arange(0, BP)
            inside = (p < n)[:, None] & (c < C)[None, :]
            place = p.to(tl.int64)[:, None] * (E * C) + channel[None, :]
            g = tl.load(grad + place, mask=inside, other=0.0).to(ACC)
            value = tl.load(x + place, mask=inside, other=0.0).to(ACC)
            dots += tl.sum(g * (value - mean[None, :]) * inverse[None, :], 0)
            total += tl.sum(g, 0)
    place = sums + tl.program_id(0) * 2 * E * C + channel
    tl.store(place, dots, mask=c < C)
    tl.store(place + E * C, total, mask=c < C)


@triton.jit
def _norm_dx(x, used, joined, weight, grad, sums, dx, n, C, E: tl.constexpr, ACC: tl.constexpr,
             BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Writes the gradient of the input. sums (2, E C) holds those of `_norm_sums`, added over all
    spans."""
    p, _, _, _, c, channel, inside = _tile(n, C, 1, 1, BP, BC)
    place = p.to(tl.int64)[:, None] * (E * C) + channel[None, :]
    result = tl.zeros((BP, BC), ACC)
    if tl.load(used + tl.program_id(1)) > 0:
        mean = tl.load(joined + channel, mask=c < C, other=0.0)
        inverse = tl.load(joined + E * C + channel, mask=c < C, other=0.0)
        dots = tl.load(sums + channel, mask=c < C, other=0.0) / n
        total = tl.load(sums + E * C + channel, mask=c < C, other=0.0) / n
        scale = tl.load(weight + channel, mask=c < C, other=0.0).to(ACC) * inverse
        g = tl.load(grad + place, mask=inside, other=0.0).to(ACC)
        value = (tl.load(x + place, mask=inside, other=0.0).to(ACC) - mean[None, :]) * inverse[None, :]
        result = (g - total[None, :] - value * dots[None, :]) * scale[None, :]
    tl.store(dx + place, result.to(dx.dtype.element_ty), mask=inside)


# ------------------------------------------------------------------------------------ for autograd
def _setting(x: Tensor, edges: int, pixels: int) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """Returns the grid for so many pixels, and the constants that all kernels are compiled for."""
    C = x.shape[1] // edges
    block = min(64, triton.next_power_of_2(C))
    acc = tl.float64 if x.dtype == torch.float64 else tl.float32
    grid = (triton.cdiv(pixels, BLOCK_P), edges, triton.cdiv(C, block))
    return grid, {"E": edges, "ACC": acc, "BP": BLOCK_P, "BC": block}


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sizes: Tensor, stride: int) -> Tensor:
        assert sizes.is_contiguous()
        x, weight = _last(x), weight.contiguous()
        B, channels, H, W = x.shape
        E, C, _, K, _ = weight.shape
        Ho, Wo = -(-H // stride), -(-W // stride)
        grid, how = _setting(x, E, B * Ho * Wo)
        out = _last(x.new_empty(B, channels, Ho, Wo))
        _depthwise[grid](x, weight, sizes, out, B * Ho * Wo, C, H, W, Ho, Wo, stride, K=K, **how)
        ctx.save_for_backward(x, weight, sizes)
        ctx.stride = stride
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, sizes = ctx.saved_tensors
        grad, stride = _last(grad), ctx.stride
        B, channels, H, W = x.shape
        E, C, _, K, _ = weight.shape
        Ho, Wo = grad.shape[2:]
        grid, how = _setting(x, E, B * H * W)
        dx = torch.empty_like(x)
        _depthwise_dx[grid](x, weight, sizes, grad, dx, B * H * W, C, H, W, Ho, Wo, stride, K=K, **how)
        grid, how = _setting(x, E, B * Ho * Wo)
        parts = x.new_zeros(grid[0], channels, K * K, dtype=weight.dtype)
        _depthwise_dw[grid](x, sizes, grad, parts, B * Ho * Wo, C, H, W, Ho, Wo, stride, K=K, **how)
        return dx, parts.sum(0).view_as(weight), None, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pools: Tensor, stride: int) -> Tensor:
        assert pools.is_contiguous()
        x = _last(x)
        B, channels, H, W = x.shape
        Ho, Wo = -(-H // stride), -(-W // stride)
        grid, how = _setting(x, len(pools), B * Ho * Wo)
        out = _last(x.new_empty(B, channels, Ho, Wo))
        taken = torch.empty_like(out, dtype=torch.int8)
        _pool[grid](x, pools, out, taken, B * Ho * Wo, channels // len(pools), H, W, Ho, Wo, stride, **how)
        ctx.save_for_backward(pools, taken)
        ctx.stride, ctx.shape = stride, x.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pools, taken = ctx.saved_tensors
        grad = _last(grad)
        B, channels, H, W = ctx.shape
        grid, how = _setting(grad, len(pools), B * H * W)
        dx = _last(grad.new_empty(ctx.shape))
        size = (B * H * W, channels // len(pools), H, W, *grad.shape[2:], ctx.stride)
        _pool_dx[grid](pools, grad, taken, dx, *size, **how)
        return dx, None, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, used: Tensor, eps: float) -> Tensor:
        assert used.is_contiguous()
        x, weight, bias = _last(x), weight.contiguous(), bias.contiguous()
        E, C = weight.shape
        n = x.numel() // (E * C)
        grid, how = _setting(x, E, n)
        # A span is a number of whole tiles, which one program goes through.
        span = triton.cdiv(grid[0], MOST_SPANS) * BLOCK_P
        spans = triton.cdiv(n, span)
        acc = torch.float64 if x.dtype == torch.float64 else torch.float32
        stats, joined = x.new_empty(spans, 2, E * C, dtype=acc), x.new_empty(2, E * C, dtype=acc)
        _norm_stats[(spans, *grid[1:])](x, used, stats, n, C, span, **how)
        block = min(how["BC"], 16)
        size = triton.next_power_of_2(spans)
        _norm_joined[(triton.cdiv(E * C, block),)](
            stats, joined, n, C, span, spans, eps, E=E, ACC=how["ACC"], SPANS=size, BC=block
        )
        out = torch.empty_like(x)
        _norm[grid](x, used, joined, weight, bias, out, n, C, **how)
        ctx.save_for_backward(x, used, joined, weight)
        ctx.span, ctx.spans, ctx.like = span, spans, (weight.dtype, bias.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, used, joined, weight = ctx.saved_tensors
        grad = _last(grad)
        E, C = weight.shape
        n = x.numel() // (E * C)
        grid, how = _setting(x, E, n)
        parts = joined.new_empty(ctx.spans, 2, E * C)
        _norm_sums[(ctx.spans, *grid[1:])](x, used, joined, grad, parts, n, C, ctx.span, **how)
        sums, dx = parts.sum(0), torch.empty_like(x)
        _norm_dx[grid](x, used, joined, weight, grad, sums, dx, n, C, **how)
        dots, total = (part.view(E, C).to(dtype) for part, dtype in zip(sums, ctx.like, strict=True))
        return dx, dots, total, None, None


def relu_depthwise(x: Tensor, weight: Tensor, sizes: Tensor, stride: int = 1) -> Tensor:
    """Returns what `parts.relu_depthwise` returns."""
    out: Tensor = _Depthwise.apply(x, weight, sizes, stride)
    return out


def pool(x: Tensor, pools: Tensor, stride: int = 1) -> Tensor:
    """Returns what `parts.pool` returns."""
    out: Tensor = _Pool.apply(x, pools, stride)
    return out


def norm(x: Tensor, weight: Tensor, bias: Tensor, used: Tensor, eps: float) -> Tensor:
    """Returns what `parts.norm` returns."""
    out: Tensor = _Norm.apply(x, weight, bias, used, eps)
    return out
