"""This module makes sure that only one process writes to a run folder, on this machine or on
another that shares the storage.

Two things work together. `flock` holds between the processes of a machine, and is free as soon as
its holder is dead. But network file systems do not always carry it to other machines. So the owner
also keeps a lease: a small file with its machine and process, which it renews all the time.

    no lease              the folder is free: a new file is a lease, and only one process makes it
    a lease of here       its owner is dead where flock is free, and it is taken over at once
    a lease of elsewhere  it is watched: one that is renewed has a live owner, and one that is not
                          renewed for `LEASE` seconds is taken over

Clocks are never compared. A process that watches a lease measures by its own monotonic clock, so
clocks that jump or differ between machines change nothing. The time in the file is for people. A
lease is taken over by a rename, at which only one process succeeds. An owner that was silent,
because its machine slept, finds out before it writes on: `Held.check`. This module does not import
torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
import uuid
import warnings
import weakref
from pathlib import Path
from typing import BinaryIO

from enas.state import Record

LEASE = 60.0  # seconds without a renewal after which an owner counts as dead
RENEWED = 15.0  # seconds between renewals
POLL = 1.0  # seconds between looks at the lease of another machine
_held: weakref.WeakSet[BinaryIO] = weakref.WeakSet()  # open files of locks


def _let_go() -> None:
    """Closes a child process's copies of locks, since workers that outlive their run must not keep
    them."""
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_let_go)


class Taken(ValueError):
    """This error says that another process writes to the folder."""


def here() -> str:
    """Returns a text that tells this machine from all others until it is started again. Containers
    of one machine have the same text, as they share its flock."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()}-{uuid.getnode():x}"


class Held:
    """A `Held` folder is kept from other processes by an open lock and a lease, until it is
    closed."""

    def __init__(self, lock: BinaryIO, path: Path, what: str, mine: Record):
        self.lock, self.path, self.what, self.mine = lock, path, what, mine
        self.renewed = _awake_or_not()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.thread.start()

    def _renew(self) -> None:
        """Renews the lease until it is closed or lost. Where the storage fails, it tries again."""
        while not self.ended.wait(RENEWED):
            with contextlib.suppress(OSError), open(self.path, "rb+") as file:
                if not _same(_parsed(file.read()), self.mine):
                    return
                self.mine["renewals"] += 1
                file.seek(0)
                file.write(_bytes(self.mine))
                self.renewed = _awake_or_not()

    def check(self, if_late: bool = False) -> None:
        """Raises `Taken` where another process took over the folder, because it had not heard of
        this one. `if_late` looks only where that is possible, and otherwise takes no time."""
        if if_late and _awake_or_not() - self.renewed < LEASE:
            return
        if not _same(lease := _read(self.path), self.mine):
            by = f" by {_who(lease)}" if lease else ""
            raise Taken(
                f"{self.what} was taken over{by}: it goes on there, as this process was not heard of for {LEASE:g} s"
            )

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        with contextlib.suppress(OSError):  # the lease runs out by itself
            if _same(_read(self.path), self.mine):
                self.path.unlink()
        self.lock.close()


def held(folder: Path, what: str = "") -> Held:
    """Returns a `Held` that keeps other processes from the folder, or only from doing what has the
    name `what`. A lease of another machine is watched for at most `LEASE` seconds. Raises `Taken`
    while another process holds the folder."""
    name = f"-{what}" if what else ""
    path, lock = folder / f".lease{name}", _opened(folder / f".lock{name}")
    doing = f"doing `enas {what}` of" if what else "writing to"
    others = f"one process at a time writes to a run; another is {doing} '{folder}'"
    mine: Record = {"machine": here(), "host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
    mine |= {"since": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "renewals": 0}
    began, is_locked = time.monotonic(), False
    first: Record | None = None
    try:
        while True:
            is_locked = is_locked or _locked(lock)
            lease = _read(path)
            if is_locked and lease is None and _made(path, mine):
                _held.add(lock)
                return Held(lock, path, f"'{folder}'", mine)
            if lease is None or (lease.get("machine") == mine["machine"] and not is_locked):
                if not is_locked:
                    raise Taken(others)
                continue  # another process was faster
            first = lease if first is None else first
            waited = time.monotonic() - began
            if lease != first:
                raise Taken(f"{others}: {_who(lease)}")
            if is_locked and (lease.get("machine") == mine["machine"] or waited >= LEASE):
                _removed(path, lease)
            elif waited >= 3 * LEASE:  # file servers keep the locks of dead processes for a while
                raise Taken(f"{others}: {_who(lease)}")
            else:
                if waited < POLL:
                    warnings.warn(
                        f"'{folder}' is of {_who(lease)}, as its lease says: waiting up to {LEASE:g} s to see whether that"
                        " is alive",
                        stacklevel=3,
                    )
                time.sleep(POLL)
    except BaseException:
        lock.close()
        raise


def _awake_or_not() -> float:
    """Returns seconds that go on counting while the machine sleeps, where the system has such a
    clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _opened(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags, 0o666), "rb+", buffering=0)


def _locked(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _made(path: Path, lease: Record) -> bool:
    """Makes a lease where there is none, and returns whether it did. Of many processes one
    succeeds."""
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(made, _bytes(lease))
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(made)
    return True


def _removed(path: Path, dead: Record) -> None:
    """Removes a dead owner's lease. Of many processes one does. If a live lease was written in the
    meantime, it is put back, and its owner checks it before it writes."""
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        os.rename(path, own)
    except FileNotFoundError:
        return
    lease = _read(own)
    if lease is not None and lease != dead:
        _made(path, lease)
    own.unlink()


def _bytes(lease: Record) -> bytes:
    """Returns a lease as JSON. Its length is always the same, because it is overwritten in
    place."""
    return json.dumps(lease).encode().ljust(512)


def _parsed(data: bytes) -> Record | None:
    """Returns the content of a lease. It is empty where the file was cut short, as by a full
    disk."""
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _read(path: Path) -> Record | None:
    """Returns the content of a lease, or None where there is none."""
    try:
        with os.fdopen(
            os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb"
        ) as file:
            return _parsed(file.read(4096))
    except FileNotFoundError:
        return None


def _same(lease: Record | None, other: Record) -> bool:
    """Returns whether two leases have the same owner."""
    return lease is not None and lease.get("token") == other.get("token")


def _who(lease: Record) -> str:
    """Returns the owner of a lease in words."""
    return f"process {lease.get('pid', '?')} on {lease.get('host', '?')}"
