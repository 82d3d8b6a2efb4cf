"""This module makes convolutional cells fast on a CPU. It computes the same numbers as torch, up to
the order of a sum.

All of it works on tensors in channels_last, where (B, C, H, W) lies in memory as a matrix of B H W
rows and C columns. Other devices, other layouts and small tensors use torch's own kernels. docs/log
has the measurements. Each piece can be turned off to compare: `with kernels.without("batch_norm"):
...`.

    batch_norm     torch's inner loop runs over channels, and is slow where their number is no
                   multiple of the vector's width: rows are joined until it is one; then one
                   multiply-add does the rest
    depthwise      the weight gradient of kernels wider than 3 is slow: 5x5 is done as two of 5x3
    pool           average pooling is a depthwise convolution by ones; max pooling without
                   gradient is two running maxima
    layout         gradients of a concat and of strided picks come back in channels_last, so that
                   later kernels need not copy them
    relu           the ReLU of a value that several edges of a node read is computed once
    triton         on a GPU: the kernels of static programs that branch on what an edge chose
    memory         freed blocks stay with the process (glibc gives large ones back to the system)
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from enas.ranges import check_name

SWITCHES = ("batch_norm", "depthwise", "pool", "layout", "relu", "triton")
LEAST = 1 << 16  # for fewer elements, Python's own time would outweigh the gain
LANES = 8  # floats that a vector of most CPUs holds; a multiple is never worse
_off: ContextVar[frozenset[str]] = ContextVar("pieces that are turned off", default=frozenset())
_again: ContextVar[bool] = ContextVar("a forward is computed a second time", default=False)
_aten = torch.ops.aten
Context = Any  # the context of an autograd function of torch, which takes any attribute


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Turns the named pieces off inside the `with` block, for this thread only. Raises a ValueError
    for an unknown name."""
    for name in names:
        check_name("a piece", name, SWITCHES)
    token = _off.set(_off.get() | set(names))
    try:
        yield
    finally:
        _off.reset(token)


@contextmanager
def _second_time() -> Iterator[None]:
    token = _again.set(True)
    try:
        yield
    finally:
        _again.reset(token)


def again(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns a forward that keeps only its input, and computes the rest again in the backward
    (Chen et al. 2016). Running statistics are updated only the first time."""

    def kept_little(x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return forward(x)
        contexts = lambda: (nullcontext(), _second_time())  # noqa: E731
        out: Tensor = checkpoint(forward, x, use_reentrant=False, context_fn=contexts)
        return out

    return kept_little


def on(name: str) -> bool:
    """Returns whether a piece is turned on."""
    return name not in _off.get()


def _fits(x: Tensor, name: str) -> bool:
    return (
        on(name)
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.numel() >= LEAST
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _matrix(x: Tensor, columns: int) -> Tensor:
    """Returns the memory of x (B, C, H, W) in channels_last as rows of `columns` columns."""
    return x.permute(0, 2, 3, 1).view(-1, columns)


def _as_images(matrix: Tensor) -> Tensor:
    """Returns (rows, columns) as (rows, columns, 1, 1), the form that torch's batch norm takes."""
    return matrix[:, :, None, None]


# ------------------------------------------------------------------------------------- batch norm
def joined(rows: int, channels: int) -> int:
    """Returns how many rows to join so that channels fill whole vectors, or 1 where that is
    impossible."""
    times = 1
    while channels * times % LANES and rows % (2 * times) == 0:
        times *= 2
    return times


class BatchNorm(nn.BatchNorm2d):
    """A `BatchNorm` is an `nn.BatchNorm2d` that is faster on a CPU where it uses the batch's
    statistics."""

    def forward(self, x: Tensor) -> Tensor:
        batch = self.training or self.running_mean is None
        moves = self.training and self.running_mean is not None and not _again.get()
        if batch and _again.get() and not _fits(x, "batch_norm"):
            mean, var = (None if b is None else b.clone() for b in (self.running_mean, self.running_var))
            return F.batch_norm(x, mean, var, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
        if not batch or not _fits(x, "batch_norm") or self.weight is None:
            return super().forward(x)
        y, mean, var = _BatchNorm.apply(x, self.weight, self.bias, self.eps)
        if moves:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                n = x.numel() // x.shape[1]
                self.num_batches_tracked.add_(1)
                momentum = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(var * (n / max(1, n - 1)), momentum)
        return y


class _BatchNorm(torch.autograd.Function):
    """This function also returns the statistics, mean and biased variance (C,), without
    gradient."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        C = x.shape[1]
        rows = x.numel() // C
        times = joined(rows, C)
        columns = _matrix(x, C * times)
        means, variances = _aten.batch_norm_update_stats(_as_images(columns), None, None, 0.0)
        if times > 1:  # the statistics of the whole come from those of its equal parts
            means, variances = means.view(times, C), variances.view(times, C)
            mean = means.mean(0)
            var = variances.mean(0) + (means - mean).square_().mean(0)
        else:
            mean, var = means, variances
        inverse = (var + eps).rsqrt_()
        scale = weight * inverse
        shift = torch.addcmul(bias, mean, scale, value=-1)
        y = torch.empty_like(x)
        torch.addcmul(shift.repeat(times), columns, scale.repeat(times), out=_matrix(y, C * times))
        ctx.save_for_backward(x, weight, mean, var, inverse)
        ctx.times, ctx.eps = times, eps
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Context, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, inverse = ctx.saved_tensors
        C, times = x.shape[1], ctx.times
        rows = x.numel() // C
        grad = grad.contiguous(memory_format=torch.channels_last)
        columns, incoming = _matrix(x, C * times), _matrix(grad, C * times)
        wide = mean.repeat(times), var.repeat(times)
        # Sums over rows of grad x normalised input, and of grad.
        _, dots, sums = _aten.native_batch_norm_backward(
            _as_images(incoming), _as_images(columns), None, *wide, None, None, False, ctx.eps, [False, True, True]
        )
        dots, sums = dots.view(times, C).sum(0), sums.view(times, C).sum(0)
        a = weight * inverse
        b = a * inverse * dots / -rows
        c = -(a * sums / rows + b * mean)
        dx = torch.empty_like(x)
        out = _matrix(dx, C * times)
        torch.addcmul(c.repeat(times), columns, b.repeat(times), out=out)
        out.addcmul_(incoming, a.repeat(times))
        return dx, dots, sums, None


# -------------------------------------------------------------------------- depthwise convolution
class Depthwise(nn.Conv2d):
    """A `Depthwise` convolution is k x k for each channel by itself, without bias, padded so that
    stride 1 keeps the size."""

    def __init__(self, channels: int, kernel: int, stride: int):
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (5, 5) and self.stride == (1, 1) and torch.is_grad_enabled() and _fits(x, "depthwise"):
            out: Tensor = _Depthwise5.apply(x, self.weight)
            return out
        return super().forward(x)


class _Depthwise5(torch.autograd.Function):
    """This is a depthwise 5x5 convolution of stride 1. Its weight gradient is computed in two
    parts, for the taps -2, -1, 0 and for the taps 1, 2 of a row. Both parts use kernels of width 3,
    on rows that are separated by two zeros, so that a shift by one pixel is a shift by one in
    memory."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, 1, 2, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        B, C, H, W = x.shape
        dx = _conv_backward(grad, x, weight, 2, [True, False])[0]

        def parted(value: Tensor, lead: int) -> Tensor:
            """Returns a vector of B H (W + 2) + 2 pixels with C channels each: two zeros after each
            row, and the first row `lead` pixels from the start."""
            flat = value.new_zeros((B * H * (W + 2) + 2) * C)
            inner = flat[lead * C : lead * C + B * H * (W + 2) * C].view(B, H, W + 2, C)
            inner[:, :, :W].copy_(value.permute(0, 2, 3, 1))
            return flat

        def images(flat: Tensor, start: int) -> Tensor:
            return flat[start * C : start * C + B * H * (W + 2) * C].view(B, H, W + 2, C).permute(0, 3, 1, 2)

        wide, incoming = parted(x, 1), images(parted(grad, 0), 0)
        narrow = weight.new_empty(C, 1, 5, 3).contiguous(memory_format=torch.channels_last)
        # Read from 0, pixel w is x[w - 1], which gives the taps -2, -1, 0. Read from 2, it is
        # x[w + 1], which gives the taps 1, 2 and one that is not used.
        left = _conv_backward(incoming, images(wide, 0), narrow, (2, 1), [False, True])[1]
        right = _conv_backward(incoming, images(wide, 2), narrow, (2, 1), [False, True])[1]
        return dx, torch.cat([left, right[..., 1:]], 3)


def _conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, padding: int | tuple[int, int], wanted: list[bool]
) -> tuple[Tensor, Tensor]:
    pads = [padding, padding] if isinstance(padding, int) else list(padding)
    dx, dweight, _ = _aten.convolution_backward(
        grad, x, weight, [0], [1, 1], pads, [1, 1], False, [0, 0], x.shape[1], [*wanted, False]
    )
    return dx, dweight


# ---------------------------------------------------------------------------------------- pooling
class AvgPool(nn.AvgPool2d):
    """An `AvgPool` averages 3x3 pixels. Its padding of 1 does not count as pixels."""

    def __init__(self, stride: int):
        super().__init__(3, stride, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        if not _fits(x, "pool"):
            return super().forward(x)
        stride = int(self.stride) if isinstance(self.stride, int) else self.stride[0]
        C = x.shape[1]
        sums = F.conv2d(x, x.new_ones(1).expand(C, 1, 3, 3).contiguous(), None, stride, 1, 1, C)
        return sums * _shares(C, x.shape[2], x.shape[3], stride, x.dtype)


@lru_cache(maxsize=64)
def _shares(channels: int, height: int, width: int, stride: int, dtype: torch.dtype) -> Tensor:
    """Returns one divided by the number of pixels under the window, (1, C, H', W') in
    channels_last."""
    with torch.no_grad():
        ones = torch.ones(1, 1, height, width, dtype=dtype)
        counts = F.conv2d(ones, torch.ones(1, 1, 3, 3, dtype=dtype), None, stride, 1)
        share = counts.reciprocal().expand(1, channels, -1, -1)
        return share.contiguous(memory_format=torch.channels_last)


def halved(x: Tensor) -> Tensor:
    """Returns the means of 2x2 pixels, (B, C, ceil(H/2), ceil(W/2)). At the border a mean is over
    fewer."""
    return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


class MaxPool(nn.MaxPool2d):
    """A `MaxPool` takes the maximum of 3x3 pixels, with padding 1."""

    def __init__(self, stride: int):
        super().__init__(3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != 1 or (torch.is_grad_enabled() and x.requires_grad) or not _fits(x, "pool"):
            return super().forward(x)
        return _running_max(_running_max(x, 2), 3)


def _running_max(x: Tensor, dim: int) -> Tensor:
    """Returns the maximum of each value and its neighbours along `dim`."""
    out, last = x.clone(memory_format=torch.channels_last), x.shape[dim] - 1
    if last:
        for to, source in ((1, 0), (0, 1)):
            place = out.narrow(dim, to, last)
            torch.maximum(place, x.narrow(dim, source, last), out=place)
    return out


# ----------------------------------------------------------------------------------------- layout
def concatenated(parts: Sequence[Tensor], relu: bool = False) -> Tensor:
    """Returns the parts (B, C, H, W) concatenated along channels, and with `relu` after a ReLU."""
    if len(parts) == 1:
        return F.relu(parts[0]) if relu else parts[0]
    if on("layout"):
        out: Tensor = _Concat.apply(relu, *parts)
        return out
    out = torch.cat(list(parts), 1)
    return F.relu(out) if relu else out


class _Concat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, relu: bool, *parts: Tensor) -> Tensor:
        out = torch.cat(parts, 1)
        ctx.relu, ctx.widths = relu, [part.shape[1] for part in parts]
        if relu:
            out.relu_()
            ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.relu:
            (out,) = ctx.saved_tensors
            grad = _aten.threshold_backward(grad.contiguous(memory_format=torch.channels_last), out, 0)
        pieces = []
        for view in grad.split(ctx.widths, 1):
            piece = torch.empty(view.shape, dtype=view.dtype, device=view.device, memory_format=torch.channels_last)
            pieces.append(piece.copy_(view))
        return (None, *pieces)


def diagonals(x: Tensor, both: bool) -> tuple[Tensor, ...]:
    """Returns the pixels of even row and column, and with `both` also those of odd row and column.
    Each is (B, C, ceil(H/2), ceil(W/2)). At odd sizes, zeros stand for the missing pixels."""
    if on("layout"):
        out: tuple[Tensor, ...] = _Diagonals.apply(x, both)
        return out
    even = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
    if not both:
        return (even,)
    padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return even, padded[:, :, 1::2, 1::2].contiguous(memory_format=torch.channels_last)


class _Diagonals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, both: bool) -> tuple[Tensor, ...]:
        ctx.shape = x.shape
        even = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        if not both:
            return (even,)
        odd = torch.empty_like(even)
        view = x[:, :, 1::2, 1::2]
        if view.shape != odd.shape:
            odd.zero_()
        odd[:, :, : view.shape[2], : view.shape[3]].copy_(view)
        return even, odd

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> tuple[Tensor, None]:
        first = grads[0]
        dx = torch.empty(ctx.shape, dtype=first.dtype, device=first.device, memory_format=torch.channels_last).zero_()
        dx[:, :, ::2, ::2] = first
        if len(grads) == 2:
            view = dx[:, :, 1::2, 1::2]
            view.copy_(grads[1][:, :, : view.shape[2], : view.shape[3]])
        return dx, None


# ----------------------------------------------------------------------------------------- memory
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_memory() -> bool:
    """Lets freed memory stay with this process, and returns whether the C library could be told so.
    Does nothing where the user has set MALLOC_ or GLIBC_TUNABLES."""
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
