"""This module makes batches of examples, which other processes may read ahead.

A batch is a function of what is asked for and of nothing else: `Reader` seeds the random numbers of
torch, NumPy and Python before it reads, in whatever process it does. So the number of workers
changes no figure. A run that stopped within a pass goes on bit for bit, because `Stream` begins
again at the batch that is asked for.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from enas.blame import Blamed, blamed, says_dead
from enas.data.examples import Arrays, Examples, reading, seed
from enas.state import seed_of

Batch = Any  # a tuple of inputs and the target last, or a mapping
Key = tuple[object, ...]  # the random numbers of a batch depend on this key
Request = tuple[Key, Sequence[int]]  # with the positions of the examples within the part
NOTICED = 5.0  # seconds to wait for a process that has closed its connections to end


@dataclass
class Cursor:
    """A `Cursor` says where a pass over ordered examples stands."""

    turn: object
    place: int
    examples: Iterator[Any]


@dataclass(frozen=True)
class Failed:
    """A worker sends a `Failed` value instead of a batch. It holds an error in one line, and its
    traceback."""

    line: str
    trace: str


class Reader:
    """A `Reader` reads the batches of a part, in this process or in a worker.

    `sources` describes the part: examples, and which of them belong to it. Where examples are
    mappings and the key of the target is known, batches are `(mapping, target)`.
    """

    def __init__(self, sources: Sequence[tuple[Examples, Sequence[int]]], seed: int):
        self.sources, self.seed = list(sources), seed
        self.target = self.sources[0][0].target
        self.length = sum(len(indices) for _, indices in self.sources)
        self.ordered = any(examples.ordered for examples, _ in self.sources)
        self.cursors: dict[int, Cursor] = {}
        # One row for each worker with its process, source and example, to say where it died.
        self.at: Tensor | None = None

    def __getitem__(self, request: Request) -> Batch | Failed:
        """Returns a batch. For the workers' `DataLoader` an error is returned as a value too."""
        try:
            return self.read(request)
        except Blamed as error:
            return Failed(str(error), "".join(traceback.format_exception(error)))

    def read(self, request: Request) -> Batch:
        """Returns the batch of a request. Raises `Blamed` where an example cannot be read."""
        key, places = request
        examples, indices = self.sources[0]
        if isinstance(examples, Arrays) and len(self.sources) == 1:
            batch = examples[torch.tensor([indices[place] for place in places])]
        else:
            with reading(self.seed, "examples", *key):
                items = [self._item(place, key[:-1]) for place in places]
                with blamed(f"putting together examples {_few(indices, places)} of {examples.name}"):
                    batch = examples.collate(items)
        return self._parted(batch)

    def _item(self, place: int, turn: object) -> Any:
        number = 0
        while place >= len(self.sources[number][1]):
            place, number = place - len(self.sources[number][1]), number + 1
        examples, indices = self.sources[number]
        index = indices[place]
        if self.at is not None:
            self._note(number, index)
        if not examples.ordered:
            with blamed(f"example {index} of {examples.name}"):
                return examples[index]
        cursor = self.cursors.get(number)
        if cursor is None or cursor.turn != turn or cursor.place > index:
            cursor = self.cursors[number] = Cursor(turn, 0, iter(()))
            seed(self.seed, "pass", turn)
            with blamed(f"the beginning of {examples.name}"):
                cursor.examples = iter(examples.given)
        while cursor.place <= index:
            seed(self.seed, "example", turn, cursor.place)
            with blamed(f"example {cursor.place} of {examples.name}"):
                item = next(cursor.examples, self)
            if item is self:
                raise Blamed(
                    f"{examples.name} has ended after {cursor.place} examples; it said that it has {len(examples)}"
                )
            cursor.place += 1
        return item

    def _parted(self, batch: Any) -> Batch:
        if isinstance(batch, Mapping):
            if self.target is None:
                return batch
            if self.target not in batch:
                raise Blamed(
                    f"target names a key of the examples, which are {', '.join(map(str, batch))}; got '{self.target}'"
                )
            return {key: value for key, value in batch.items() if key != self.target}, batch[self.target]
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            name, kind = self.sources[0][0].name, type(batch).__name__
            raise Blamed(f"an example of {name} is (input, ..., target) or a mapping; got {kind}")
        return tuple(batch)

    def _note(self, source: int, index: int) -> None:
        worker = get_worker_info()
        if self.at is not None and worker is not None:
            self.at[worker.id] = torch.tensor([os.getpid(), source, index])

    def doing(self, processes: Sequence[int]) -> str:
        """Returns what the first of some workers was reading when it last noted it."""
        assert self.at is not None
        for process, source, index in self.at.tolist():
            if process in processes:
                return f"example {index} of {self.sources[source][0].name}"
        return "its examples"


class Stream:
    """A `Stream` gives the batches of `order(0)`, `order(1)`, and so on.

    With `workers`, that many processes read ahead of what is asked for, in order. With 0, each
    batch is read when it is asked for. Examples that can only be read in order are read by at most
    one process. `end` is the number of batches, or None where there is no end.
    """

    def __init__(self, reader: Reader, order: Callable[[int], Request], workers: int = 0, end: int | None = None):
        self.reader, self.order, self.end = Reader(reader.sources, reader.seed), order, end
        self.workers = min(workers, 1) if reader.ordered else workers
        if all(isinstance(examples, Arrays) for examples, _ in reader.sources):
            self.workers = 0  # in memory already
        self._batches: Iterator[Any] | None = None
        self._next = 0

    def __getitem__(self, number: int) -> Batch:
        """Returns the batch of this number. Raises a ValueError of one line for an example that
        cannot be read."""
        if not self.workers:
            return self.reader.read(self.order(number))
        if self._batches is None or number != self._next:
            self._begin(number)
        assert self._batches is not None
        try:
            batch = next(self._batches)
        except (RuntimeError, OSError, EOFError) as error:
            if not says_dead(error):
                raise
            named = isinstance(error, RuntimeError)
            ended = [int(number) for number in re.findall(r"\d+", str(error))] if named else self._ended()
            raise self._died(ended) from error
        if isinstance(batch, Failed):
            self.close()
            raise Blamed(batch.line) from RuntimeError(batch.trace)
        self._next = number + 1
        return batch

    def __iter__(self) -> Iterator[Batch]:
        """Yields all batches, up to the end."""
        assert self.end is not None
        try:
            for number in range(self.end):
                yield self[number]
        finally:
            self.close()

    def close(self) -> None:
        """Ends the workers."""
        self._batches = None

    def _begin(self, number: int) -> None:
        self.close()
        context = self.reader.sources[0][0].context
        self.reader.at = torch.zeros((self.workers, 3), dtype=torch.int64).share_memory_()
        loader: DataLoader[Any] = DataLoader(
            self.reader,  # type: ignore[arg-type]
            batch_size=None,
            sampler=Requests(self.order, number, self.end),
            num_workers=self.workers,
            collate_fn=_same,
            worker_init_fn=_worker,
            multiprocessing_context=context,
            generator=torch.Generator(),  # the run's own random numbers stay as they are
        )
        with blamed("starting the processes that read examples"), _undisturbed():
            self._batches = iter(loader)

    def _ended(self) -> list[int]:
        """Returns the process ids of the workers that have ended, as soon as there are some."""
        workers = getattr(self._batches, "_workers", ())
        until = time.monotonic() + NOTICED
        while all(worker.is_alive() for worker in workers) and time.monotonic() < until:
            time.sleep(0.01)
        return [worker.pid for worker in workers if not worker.is_alive()]

    def _died(self, ended: Sequence[int]) -> Blamed:
        """Returns the error for workers that ended, with the example that one was reading."""
        self.close()
        doing = self.reader.doing(ended)
        return Blamed(
            f"a process that was reading {doing} ended: it was killed, or ran out of memory; with task.workers 0 an error"
            " shows itself"
        )


@dataclass(frozen=True)
class Requests:
    """A `Requests` object yields what the workers are asked for, from `first` on."""

    order: Callable[[int], Request]
    first: int
    end: int | None

    def __iter__(self) -> Iterator[Request]:
        numbers = itertools.count(self.first) if self.end is None else range(self.first, self.end)
        return map(self.order, numbers)


class Shuffled:
    """A `Shuffled` object gives the order of passes over `n` examples in batches of `size`, with
    `steps` batches in a pass. Each pass is shuffled anew, or keeps the order of the examples where
    they are `ordered`. The `number` of a batch counts over all passes."""

    def __init__(self, name: str, n: int, size: int, steps: int, seed: int, ordered: bool = False):
        self.name, self.n, self.size, self.steps, self.seed, self.ordered = name, n, size, steps, seed, ordered
        self._pass: tuple[int, Sequence[int]] = (-1, [])

    def __call__(self, number: int) -> Request:
        turn, step = divmod(number, self.steps)
        if self._pass[0] != turn:
            generator = torch.Generator().manual_seed(seed_of(self.seed, "order", self.name, turn))
            places = range(self.n) if self.ordered else torch.randperm(self.n, generator=generator).tolist()
            self._pass = (turn, places)
        return (self.name, turn, step), self._pass[1][step * self.size : (step + 1) * self.size]


class InOrder:
    """An `InOrder` object gives the order of one pass over a whole part. No batch is a single
    example."""

    def __init__(self, name: str, n: int, size: int):
        ends = list(range(size, n - 1, size))
        self.name, self.bounds = name, list(zip([0, *ends], [*ends, n], strict=True))

    def __call__(self, number: int) -> Request:
        return (self.name, "whole", number), range(*self.bounds[number])


def _few(indices: Sequence[int], places: Sequence[int]) -> str:
    """Returns the numbers of the first examples of a batch, in words."""
    return ", ".join(str(indices[place]) for place in places[:3] if place < len(indices)) + ", ..."


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keeps torch from taking over SIGCHLD inside the `with` block. Otherwise a worker that dies
    would raise an error in the middle of a step. Whoever waits for a batch of that worker notices
    its death anyway."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _same(batch: Any) -> Any:
    return batch


def _worker(number: int) -> None:
    """Prepares a worker so that only the parent decides when it ends, whatever key was pressed or
    signal was caught."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
