"""This module holds ranks: the processes that do one search or one training together, on one
machine or many (torch.distributed).

Each rank holds all weights and the whole policy, and draws the same architectures. Ranks differ in
what they compute. Of the M children of a step, rank r of N trains r, r + N, ..., all on the same
minibatch, and it scores its share of the architectures in the same way. Two things are sent in a
step: the losses or rewards, which are a few numbers, and the gradients of the weights that some
child of the step used.

One process alone is `Ranks()`, which sends nothing. Two things are left out: weights that are
divided among ranks, and gradients that are sent while the backward is still running (docs/scale.md
says why).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from enas.state import State

T = TypeVar("T")
BUCKET = 25 << 20  # bytes of gradients that are sent at a time, as DistributedDataParallel does
PATIENCE = timedelta(minutes=30)  # wait for a silent rank; a dead one is noticed at once


class RankError(ConnectionError):
    """This error says that another rank ended or cannot be reached, or that ranks differ where they
    must not."""


class Ranks:
    """A `Ranks` object is rank `rank` of `size`. Methods with "all ranks" in their text must be
    called by all ranks, in the same order."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size
        self.sent = 0  # bytes of gradients that this rank has given to be added up

    @property
    def first(self) -> bool:
        """Returns whether this rank is the one that writes files and shows progress."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """Returns this rank's share of `items`, each with its index among all."""
        return list(enumerate(items))[self.rank :: self.size]

    def most(self, n: int) -> int:
        """Returns the number of items, out of `n`, that the busiest rank has."""
        return -(-n // self.size)

    # ------------------------------------------------------------------------ what is communicated
    def gathered(self, values: Sequence[float], total: int) -> list[float]:
        """Returns on all ranks the values of all `total` items, each number exactly. `values` are
        those of this rank's items, as in `mine`."""
        if self.size == 1:
            return list(values)
        everything = torch.zeros(total, dtype=torch.float64)
        everything[self.rank :: self.size] = torch.tensor(values, dtype=torch.float64)
        with _reachable():
            dist.all_reduce(everything)
        return list(map(float, everything))

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Gives all ranks the sum of their gradients of `parameters`. These must be the same ones
        in the same order. A parameter that has no gradient on any rank still has none."""
        if self.size == 1:
            return
        with torch.no_grad(), _reachable():
            # Buckets are sent one after the other. The next one is made while one is on its way.
            on_their_way = [self._send(bucket) for bucket in _buckets(parameters)]
            for bucket, flat, has, works in on_their_way:
                for work in works:
                    work.wait()
                pieces = torch.split(flat, [parameter.numel() for parameter in bucket])
                for parameter, piece, any_has in zip(bucket, pieces, has.tolist(), strict=True):
                    if any_has:
                        gradient = torch.empty_like(parameter) if parameter.grad is None else parameter.grad
                        parameter.grad = gradient.copy_(piece.view_as(parameter))

    def _send(self, bucket: list[nn.Parameter]) -> tuple[list[nn.Parameter], Tensor, Tensor, list[Any]]:
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([part.flatten() for part in parts])
        has = torch.tensor([p.grad is not None for p in bucket], dtype=torch.uint8)
        works = [dist.all_reduce(flat, async_op=True), dist.all_reduce(has, dist.ReduceOp.MAX, async_op=True)]
        self.sent += flat.numel() * flat.element_size() + has.numel()
        return bucket, flat, has, works

    @contextmanager
    def one_of_buffers(self, buffers: Sequence[Tensor]) -> Iterator[None]:
        """Makes buffers the same again on all ranks after the `with` block, where forwards inside
        it changed them.

        A float becomes its old value plus the mean change of the ranks that changed it, and a count
        becomes its old value plus the sum of changes. So running statistics move by the mean of
        what the ranks saw. Supernets of registered spaces have no such buffers.
        """
        buffers = [b for b in buffers if b.dtype != torch.bool] if self.size > 1 else []
        before = [buffer.clone() for buffer in buffers]
        yield
        with torch.no_grad(), _reachable():
            for buffer, was in zip(buffers, before, strict=True):
                change = (buffer - was).double().cpu()
                ranks = torch.ones_like(change) * bool(change.any())
                dist.all_reduce(change)
                dist.all_reduce(ranks)
                if buffer.is_floating_point():
                    change /= ranks.clamp(min=1)
                buffer.copy_(was + change.to(buffer.device, buffer.dtype))

    def agreed(self, why: str | None, due: bool = False) -> tuple[str | None, bool]:
        """Returns on all ranks the reason why all of them stop now, if one of them has a reason,
        and whether all save, which the first rank decides."""
        if self.size == 1:
            return why, due
        votes = torch.tensor([why is not None, due and self.first], dtype=torch.uint8)
        with _reachable():
            dist.all_reduce(votes, dist.ReduceOp.MAX)
        if votes[0]:
            why = next(reason for reason in self._each(why) if reason is not None)
        return why, bool(votes[1])

    def told(self, make: Callable[[], T]) -> T:
        """Returns on all ranks what `make` returns on the first rank, which alone calls it."""
        if self.size == 1:
            return make()
        values: list[Any] = [make() if self.first else None]
        with _reachable():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        value: T = values[0]
        return value

    def whole(self, state: State) -> State:
        """Returns the tensors of all ranks together, on all ranks. Where several ranks have the
        same tensor, the first rank's is taken, and so are all values."""
        if self.size == 1:
            return state
        merged: dict[str, Tensor] = {}
        for tensors in reversed(self._each({key: tensor.cpu() for key, tensor in state.tensors.items()})):
            merged |= tensors
        return State(dict(sorted(merged.items())), state.values)

    def check(self, what: str, state: State | Mapping[str, object]) -> None:
        """Raises a RankError on all ranks where they do not all have the same state. Tensors are
        compared bit by bit. The error names the first part that differs."""
        if self.size == 1:
            return
        state = state if isinstance(state, State) else State({}, state)
        mine = {key: _digest(tensor) for key, tensor in state.tensors.items()}
        mine |= {key: hashlib.sha256(_text(value)).hexdigest() for key, value in state.values.items()}
        together = torch.frombuffer(bytearray(hashlib.sha256(_text(mine)).digest()), dtype=torch.uint8)
        lowest, highest = together.clone(), together.clone()
        with _reachable():
            dist.all_reduce(lowest, dist.ReduceOp.MIN)
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        if torch.equal(lowest, highest):
            return
        each = self._each(mine)
        for key in dict.fromkeys(key for one in each for key in one):
            others = [rank for rank, one in enumerate(each) if one.get(key) != each[0].get(key)]
            if others:
                names = ", ".join(map(str, others))
                raise RankError(
                    f"all ranks have the same {what}; '{key}' of rank {names} is not that of rank 0: start all with one"
                    " command and one version of torch, on processors of one kind"
                )

    def parallel(self, model: nn.Module, find_unused: bool) -> nn.Module:
        """Returns a model whose backward averages gradients over all ranks. `find_unused` also
        allows forwards that leave parameters out."""
        if self.size == 1:
            return model
        with _reachable():
            return _Parallel(model, find_unused_parameters=find_unused)

    @staticmethod
    def holding_back(model: nn.Module) -> AbstractContextManager[None]:
        """Adds up backwards of a model from `parallel` on this rank inside the `with` block,
        without sending anything."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def _each(self, value: T) -> list[T]:
        """Returns the values of all ranks, in their order, on all ranks."""
        values: list[Any] = [None] * self.size
        with _reachable():
            dist.all_gather_object(values, value)
        return values


class _Parallel(DistributedDataParallel):
    """A `_Parallel` model passes on the attributes of the model inside it, which tasks ask for."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yields the parameters in order, in lists that each fill a bucket and have one type."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size >= BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel() * parameter.element_size()
    if bucket:
        yield bucket


def _digest(tensor: Tensor) -> str:
    whole = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(whole.numpy().data).hexdigest()


def _text(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


@contextmanager
def _reachable() -> Iterator[None]:
    """Turns torch's error about a broken connection into one line."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise
        why = str(error).splitlines()[0].rpartition("] ")[2].split(". ")[0] or type(error).__name__
        raise RankError(f"another rank of this run ended or cannot be reached ({why})") from error


# ------------------------------------------------------------------------------------- who is here
def processes() -> int:
    """Returns how many processes torchrun started for this command, or 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Yields this process as one of the ranks that torchrun started, or as the only one.

    Tensors on a GPU go over NCCL, and all else over gloo. A group that already exists is used, and
    left as it is. Raises a RankError where another rank cannot be reached.
    """
    if processes() == 1:
        yield Ranks()
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    with _reachable():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    ranks.agreed(None)  # all are connected now, so that one that ends is noticed at once
    yield ranks
    dist.destroy_process_group()  # not after an error: another rank may be gone
