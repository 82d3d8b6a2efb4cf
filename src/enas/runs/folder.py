"""The run folder: the files of a run, which survive a crash at any instant.

    config.json             every setting, versions, seed
    metrics.jsonl           a line per epoch, no clock time: equal runs leave equal files
    architectures.jsonl     a line per sampled child: its id, loss or reward; choices the first time
    timing.jsonl            the clock
    checkpoint.safetensors  all tensors, and the rest of the state as JSON in its header: one file,
                            so that there is never half of it
    tensorboard/            the same curves as metrics.jsonl

Whole files are written to a temporary name, synced and renamed. Logs are appended to, and a
checkpoint records their lengths. `restore` cuts off what a dead process wrote after it, so that the
same lines are written again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from enas.runs.files import read_json, read_lines, write_atomically, write_json
from enas.spaces.architecture import Architecture
from enas.state import Record, State, Values

LOGS = ("metrics", "architectures")
CHECKPOINT = "checkpoint.safetensors"
_held: weakref.WeakSet[BinaryIO] = weakref.WeakSet()  # files of locks


def _let_go() -> None:
    """Closes a child process's copies of locks: workers that outlive their run must not keep it."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_let_go)


class RunFolder:
    """The folder of one search or one training. Make one with `create` or `open`; close it, or use
    it as a context."""

    def __init__(self, path: Path, config: Record):
        self.path, self.config = path, config
        self._logs: dict[str, BinaryIO] = {}
        self._seen: set[str] = set()
        self._lock: BinaryIO | None = None

    @classmethod
    def create(cls, path: Path, config: Values) -> RunFolder:
        """Returns a new folder; ValueError where it holds a run already."""
        if (path / "config.json").exists():
            raise ValueError(
                f"a new run needs a folder without one; '{path}' holds a run: continue it with `enas resume {path}`, or"
                " choose another --out"
            )
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", config)
        return cls(path, dict(config))

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Returns the folder of an existing run; ValueError where there is none."""
        if not (path / "config.json").is_file():
            raise ValueError(f"a run is a folder with a config.json; '{path}' has none (`enas search` makes one)")
        config = read_json(path / "config.json")
        if not isinstance(config, dict) or "command" not in config:
            raise ValueError(f"'{path / 'config.json'}' was not written by enas: it has no \"command\"")
        return cls(path, config)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for log in self._logs.values():
            with contextlib.suppress(OSError):  # a full disk was reported when it was met
                log.close()
        self._logs.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def lock(self) -> None:
        """Keeps other processes from writing to the run until this one ends or closes it;
        ValueError while another one does."""
        self._lock = open(self.path / ".lock", "wb")  # noqa: SIM115 (held until close)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise ValueError(f"one process at a time writes to a run; another is writing to '{self.path}'") from None
        _held.add(self._lock)

    # ------------------------------------------------------------------------------------- logging
    def append(self, log: str, record: Values) -> None:
        """Appends a line to metrics.jsonl, architectures.jsonl or timing.jsonl. It is safe on disk
        from the next checkpoint on."""
        if log not in self._logs:
            self._logs[log] = open(self.path / f"{log}.jsonl", "ab")  # noqa: SIM115 (held until close)
        self._logs[log].write(json.dumps(record, separators=(",", ":")).encode() + b"\n")

    def append_architecture(self, arch: Architecture, record: Values) -> None:
        record = {**record, "id": arch.id}
        if arch.id not in self._seen:
            self._seen.add(arch.id)
            record["choices"] = dict(arch.choices)
        self.append("architectures", record)

    def clock(self, event: str, **values: object) -> None:
        self.append("timing", {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **values})

    # ---------------------------------------------------------------------------------- checkpoint
    def checkpoint(self, state: State) -> None:
        """Writes the logs to disk, then the state with their lengths, whole or not at all."""
        self.keep(self.packed(state))

    def packed(self, state: State) -> bytes:
        """Writes the logs to disk, and returns the bytes of a checkpoint of now, for `keep`."""
        lengths = {}
        for name, log in self._logs.items():
            log.flush()
            os.fsync(log.fileno())
            lengths[name] = log.tell()
        for name in LOGS:
            path = self.path / f"{name}.jsonl"
            lengths.setdefault(name, path.stat().st_size if path.exists() else 0)
        # Dense copies in a plain layout: the file format knows no strides.
        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.tensors.items()}
        header = {"state": json.dumps(dict(state.values)), "logs": json.dumps(lengths)}
        return save(tensors, header)

    def keep(self, packed: bytes) -> None:
        """Makes these bytes the checkpoint, whole or not at all."""
        write_atomically(self.path / CHECKPOINT, packed)

    def has_checkpoint(self) -> bool:
        return (self.path / CHECKPOINT).exists()

    def read_checkpoint(self) -> State:
        """Returns the last state, and leaves the logs as they are; ValueError where it is missing
        or damaged."""
        return self._read()[0]

    def restore(self) -> State | None:
        """Returns the last state and cuts the logs to their lengths of then. Before the first
        checkpoint: None, and empty logs."""
        assert not self._logs
        state, lengths = self._read() if self.has_checkpoint() else (None, dict.fromkeys(LOGS, 0))
        for name in LOGS:
            path = self.path / f"{name}.jsonl"
            if path.exists():
                os.truncate(path, min(lengths[name], path.stat().st_size))
        self._seen = {record["id"] for record in read_lines(self.path / "architectures.jsonl")}
        return state

    def roll_back(self) -> None:
        """Cuts the logs back to the last checkpoint, or to the beginning."""
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self.restore()

    def _read(self) -> tuple[State, dict[str, int]]:
        path = self.path / CHECKPOINT
        if not path.exists():
            raise ValueError(f"'{self.path}' has no checkpoint yet: run `enas resume {self.path}` first")
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            return State(tensors, json.loads(header["state"])), json.loads(header["logs"])
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"'{path}' is damaged or not a checkpoint of enas: {error}") from None


@contextlib.contextmanager
def tensorboard(folder: Path, epoch: int) -> Iterator[Any]:
    """Gives a SummaryWriter on `folder/tensorboard`; it hides what a dead process wrote from
    `epoch` on."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epoch + 1)
    try:
        yield writer
    finally:
        writer.close()
