"""This module keeps the run folder: the files of a run, which survive a crash at any instant.

    config.json             every setting, versions, seed
    metrics.jsonl           a line per epoch, no clock time: equal runs leave equal files
    architectures.jsonl     a line per sampled child: its id, loss or reward; choices the first time
    timing.jsonl            the clock
    checkpoint.safetensors  all tensors, and the rest of the state as JSON in its header: one file,
                            so that there is never half of it (enas.runs.checkpoint)
    checkpoint.previous.safetensors  the one before it, which takes its place where it is damaged
    tensorboard/            the same curves as metrics.jsonl

Whole files are written to a temporary name, synced and renamed. Logs are appended to, and a
checkpoint records their lengths and checksums. `restore` cuts off the lines that a dead process
wrote after the checkpoint, so that the same lines are written again. Nothing in a run folder may be
a link, a pipe or a device.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from enas.reading import SEAL, check_folder
from enas.runs.checkpoint import CHECKPOINT, NO_SUM, PREVIOUS, Header, check_log, say_used, sealed, whole_ones
from enas.runs.files import (
    Damaged,
    blaming,
    each_line,
    mended,
    open_to_append,
    read_sealed,
    stamped,
    write_atomically,
    write_sealed,
)
from enas.runs.lease import Held, held
from enas.runs.marks import marked
from enas.runs.records import Config
from enas.spaces.architecture import Architecture
from enas.state import Record, State, Values

LOGS = ("metrics", "architectures")  # these logs are cut back with a checkpoint
CLOCK = "timing"


class Loads(Protocol):
    """A `Loads` object can take a state: a search, or a training."""

    def load(self, state: State) -> None: ...


class Log:
    """A `Log` is an open file of lines, with its length and checksum."""

    def __init__(self, path: Path):
        self.file: BinaryIO = open_to_append(path)
        self.length, self._sum = 0, hashlib.sha256()
        with open(path, "rb") as written:
            while part := written.read(1 << 20):
                self._count(part)

    def _count(self, data: bytes) -> None:
        self.length += len(data)
        self._sum.update(data)

    def write(self, line: bytes) -> None:
        self.file.write(line)
        self._count(line)

    def flushed(self) -> tuple[int, str]:
        """Writes the file to disk, and returns its length and checksum."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.length, self._sum.hexdigest()


class RunFolder:
    """A `RunFolder` is the folder of one search or one training. It is made with `create` or
    `open`, and is closed, or used as a context."""

    def __init__(self, path: Path, config: Record, is_sealed: bool = True):
        self.path, self.config, self.is_sealed = path, config, is_sealed
        self._logs: dict[str, Log] = {}
        self._seen: set[str] = set()
        self._locks: list[Held] = []

    @classmethod
    def create(cls, path: Path, config: Values) -> RunFolder:
        """Returns a new folder. Raises a ValueError where it holds a run already, or what is left
        of one."""
        check_new(path)
        path.mkdir(parents=True, exist_ok=True)
        check_folder(path)
        config = marked(config)
        write_sealed(path / "config.json", config)
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Returns the folder of an existing run. Raises a ValueError where there is none, where
        something in it is a link, a pipe or a device, or where its config.json is not as enas wrote
        it."""
        file = path / Config.FILE
        if not os.path.isfile(file):
            raise ValueError(Config.MISSING.format(folder=path))
        check_folder(path)
        config, is_sealed = read_sealed(file)
        with blaming(file):
            Config.from_json(config)
        return cls(path, config, is_sealed)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for log in self._logs.values():
            with contextlib.suppress(OSError):  # a full disk was reported before
                log.file.close()
        self._logs.clear()
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def lock(self, what: str = "") -> None:
        """Keeps other processes from writing to the run until this one ends or closes it. With
        `what`, it only keeps them from doing what has this name, such as "derive". Raises a
        ValueError where another process writes already, on this machine or on another that shares
        the storage (`enas.runs.lease`)."""
        self._locks.append(held(self.path, what))

    # ------------------------------------------------------------------------------------- logging
    def append(self, log: str, record: Values) -> None:
        """Appends a line to metrics.jsonl, architectures.jsonl or timing.jsonl. It is safe on disk
        from the next checkpoint on."""
        self._check_held(if_late=True)
        if log not in self._logs:
            self._logs[log] = Log(self.path / f"{log}.jsonl")
        line = json.dumps(record, separators=(",", ":"))
        self._logs[log].write((stamped(line) if log == CLOCK else line).encode() + b"\n")

    def append_architecture(self, arch: Architecture, record: Values) -> None:
        """Appends a line to architectures.jsonl. It holds the choices of the architecture the first
        time."""
        record = {**record, "id": arch.id}
        if arch.id not in self._seen:
            self._seen.add(arch.id)
            record["choices"] = dict(arch.choices)
        self.append("architectures", record)

    def clock(self, event: str, **values: object) -> None:
        """Appends an event with the time to timing.jsonl."""
        self.append("timing", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **values})

    @contextlib.contextmanager
    def tensorboard(self, epoch: int) -> Iterator[Any]:
        """Yields a SummaryWriter on the folder `tensorboard`. It hides what a dead process wrote
        from `epoch` on."""
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=epoch + 1)
        try:
            yield writer
        finally:
            writer.close()

    # ---------------------------------------------------------------------------------- checkpoint
    def checkpoint(self, state: State) -> None:
        """Writes the logs to disk, then the state with their lengths, whole or not at all."""
        self.keep(self.packed(state))

    def packed(self, state: State) -> bytes:
        """Writes the logs to disk, and returns the bytes of a checkpoint of this moment, for
        `keep`."""
        self._check_held()
        marks = {}
        for name in (*LOGS, CLOCK):
            if name not in self._logs and (self.path / f"{name}.jsonl").exists():
                self._logs[name] = Log(self.path / f"{name}.jsonl")
            marks[name] = self._logs[name].flushed() if name in self._logs else (0, hashlib.sha256().hexdigest())
        # The file format knows no strides, so tensors are copied to a plain layout.
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.tensors.items()}
        lengths, digests = ({name: mark[i] for name, mark in marks.items()} for i in range(2))
        header = {"state": json.dumps(dict(state.values)), "logs": json.dumps(lengths), "digests": json.dumps(digests)}
        return sealed(save(tensors, {**header, SEAL: NO_SUM}))

    def keep(self, packed: bytes) -> None:
        """Makes these bytes the checkpoint, whole or not at all. The one before stays beside it."""
        self._check_held()
        write_atomically(self.path / CHECKPOINT, packed, keep=self.path / PREVIOUS)

    def _check_held(self, if_late: bool = False) -> None:
        """Raises a ValueError where another process has taken over the folder, so that this one
        must not write."""
        for lock in self._locks:
            lock.check(if_late)

    def has_checkpoint(self) -> bool:
        """Returns whether there is a checkpoint, whole or not."""
        return (self.path / CHECKPOINT).exists() or (self.path / PREVIOUS).exists()

    def read_checkpoint(self) -> State:
        """Returns the last state, and leaves the logs as they are. Raises a ValueError where it is
        missing or damaged, or is from before the first step."""
        for path, header in whole_ones(self.path):
            if header.values.get("epoch") == header.values.get("step") == 0 and header.values.get("phase") != "controller":
                break
            return self._state(path, header)
        raise ValueError(f"'{self.path}' has no checkpoint yet: run `enas resume {shlex.quote(str(self.path))}` first")

    def restore(self) -> State | None:
        """Returns the last state, and cuts the logs to their lengths of that time. Before the first
        checkpoint, returns None and empties the logs. Raises `Damaged` where a log is not as the
        checkpoint says."""
        assert not self._logs
        if mended(self.path / f"{CLOCK}.jsonl"):
            warnings.warn(f"the last line of '{self.path / CLOCK}.jsonl' was cut short, and is left out", stacklevel=2)
        state, header, damage = None, Header({}, {}), None
        for path, header in whole_ones(self.path):
            try:
                for name in LOGS:
                    check_log(self.path / f"{name}.jsonl", header)
            except Damaged as error:
                damage = damage or error
                continue
            if damage is not None:
                say_used(path, damage)
            try:
                check_log(self.path / f"{CLOCK}.jsonl", header)
            except Damaged as error:
                warnings.warn(f"{error}; the times that a report shows are wrong from here on", stacklevel=2)
            state = self._state(path, header)
            if path.name == PREVIOUS:  # else the damaged one would become the previous one
                os.replace(path, self.path / CHECKPOINT)
            break
        if damage is not None and state is None:
            raise damage
        if state is None:
            self._began_without_checkpoint()
        for name in LOGS:
            path = self.path / f"{name}.jsonl"
            if path.exists():
                os.truncate(path, min(header.lengths.get(name, 0), path.stat().st_size))
        self._seen = {record["id"] for record in each_line(self.path / "architectures.jsonl")}
        return state

    def _began_without_checkpoint(self) -> None:
        """Raises `Damaged` where a run has logs but no checkpoint, because the first checkpoint is
        written before the first line. Earlier versions wrote it after half a minute, so their runs
        only get a warning."""
        if not any((path := self.path / f"{name}.jsonl").exists() and path.stat().st_size for name in LOGS):
            return
        if self.is_sealed:
            raise Damaged(
                f"'{self.path / CHECKPOINT}' is missing, while the logs beside it are there: put it back, or begin a new"
                f" run with `enas search --config {shlex.quote(str(self.path / Config.FILE))}`"
            )
        warnings.warn(f"'{self.path}' has no checkpoint: it begins anew", stacklevel=3)

    def roll_back(self) -> None:
        """Cuts the logs back to the last checkpoint, or to the beginning."""
        for log in self._logs.values():
            log.file.close()
        self._logs.clear()
        self.restore()

    def put(self, state: State, into: Loads) -> None:
        """Loads a state that was read from this folder. Raises `Damaged` where it does not fit
        config.json."""
        with blaming(self.path / CHECKPOINT):
            for name in ("epoch", "step"):
                if type(value := state.values[name]) is not int or value < 0:
                    raise ValueError(f"'{name}' is a whole number from 0 on; got {value!r}")
            with fitting():
                into.load(state)

    def _state(self, path: Path, header: Header) -> State:
        with blaming(path):
            try:
                with safe_open(path, framework="pt") as file:
                    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            except SafetensorError as error:
                raise ValueError(str(error)) from None
            return State(tensors, header.values)


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Raises a ValueError where tensors that are loaded inside the `with` block are of another
    network."""
    try:
        yield
    except RuntimeError as error:  # torch raises this for tensors of other sizes
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"it is of another network than config.json says ({why})") from None


class Follower(RunFolder):
    """A `Follower` is the folder of a run for all ranks but the first. Nothing is written to it."""

    def lock(self, what: str = "") -> None:
        """Does nothing, since the first rank has the lock."""

    def append(self, log: str, record: Values) -> None:
        """Does nothing, as all methods below."""

    def append_architecture(self, arch: Architecture, record: Values) -> None: ...

    def packed(self, state: State) -> bytes:
        return b""

    def keep(self, packed: bytes) -> None: ...

    def roll_back(self) -> None: ...

    @contextlib.contextmanager
    def tensorboard(self, epoch: int) -> Iterator[Any]:
        yield _Silent()


class _Silent:
    """A `_Silent` object takes the place of a SummaryWriter, and writes nothing."""

    def add_scalar(self, *values: object) -> None: ...


def check_new(path: Path) -> None:
    """Raises a ValueError where no new run can be made at `path`, because it holds a run, or what
    is left of one, or cannot be a folder."""
    if (path / "config.json").exists():
        raise ValueError(
            f"a new run needs a folder without one; '{path}' holds a run: continue it with `enas resume"
            f" {shlex.quote(str(path))}`, or choose another --out"
        )
    if rest := [name for name in (CHECKPOINT, PREVIOUS, "metrics.jsonl", "result.json") if (path / name).exists()]:
        raise ValueError(
            f"a new run needs a folder without one; '{path}' has {' and '.join(rest)}, and its config.json is missing:"
            " put that back, or choose another --out"
        )
    there = path.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise ValueError(f"a run needs a folder; '{there}' is a file: choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"a run needs a folder that can be written to; '{there}' cannot: choose another --out")
