"""A run folder on shared storage has one writer: leases, dead owners, clocks that jump, two
takers."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from enas.reading import check_folder
from enas.runs import lease
from enas.runs.folder import RunFolder
from enas.runs.lease import Held, Taken, held
from enas.state import State

CONFIG = {"command": "search", "preset": "p", "recipe": "r", "settings": {}, "names": {"strategy": "random"}}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LEASE", 0.4), ("RENEWED", 0.05), ("POLL", 0.02)):
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Storage that does not carry flock to other machines; the function goes to another machine."""
    monkeypatch.setattr(lease.fcntl, "flock", lambda *arguments: None)
    return lambda name: monkeypatch.setattr(lease, "here", lambda: name)


def elsewhere(path: Path, **changes: object) -> None:
    """Leaves the lease of a dead process of another machine."""
    record = {"machine": "far", "host": "far.example", "pid": 7, "token": "t", "renewals": 3, **changes}
    (path / ".lease").write_text(json.dumps(record))


def test_a_folder_that_is_let_go_is_free_on_every_machine(tmp_path: Path, machines: Callable[[str], None]) -> None:
    for name in ("a", "b", "a"):
        machines(name)
        held(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_an_owner_that_is_alive_keeps_other_machines_out(tmp_path: Path, machines: Callable[[str], None]) -> None:
    machines("a")
    owner = held(tmp_path)
    try:
        for name in ("b", "c"):
            machines(name)
            began = time.monotonic()
            with pytest.warns(UserWarning, match="waiting up to"), pytest.raises(Taken, match=f"process {os.getpid()} on "):
                held(tmp_path)
            assert time.monotonic() - began < lease.LEASE, "a renewal tells"
        owner.check()
    finally:
        owner.close()


def test_a_lease_that_runs_out_is_taken_over(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    began = time.monotonic()
    with pytest.warns(UserWarning, match="is of process 7 on far"):
        owner = held(tmp_path)
    assert time.monotonic() - began >= lease.LEASE
    owner.check()
    owner.close()
    assert not (tmp_path / ".lease").exists()


@pytest.mark.parametrize("time_", [0.0, 4e9])
@pytest.mark.parametrize("written", [0.0, 4e9])
def test_clocks_that_jump_change_nothing(
    time_: float, written: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do those of a server of files: what counts is whether the lease is renewed."""
    monkeypatch.setattr(time, "time", lambda: time_)
    elsewhere(tmp_path, since="2099-01-01T00:00:00+0000")
    os.utime(tmp_path / ".lease", (written, written))
    began = time.monotonic()
    with pytest.warns(UserWarning, match="waiting"):
        held(tmp_path).close()
    assert lease.LEASE <= time.monotonic() - began < 3 * lease.LEASE


@pytest.mark.parametrize("round_", range(3))
def test_of_many_takers_one_succeeds(round_: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on a machine of its own, all at once, of a dead owner."""
    elsewhere(tmp_path)
    monkeypatch.setattr(lease.fcntl, "flock", lambda *arguments: None)
    numbers = itertools.count()
    monkeypatch.setattr(lease, "here", lambda: f"machine {next(numbers)}")
    owners, refused, begin = list[Held](), list[str](), threading.Barrier(6)

    def take() -> None:
        begin.wait()
        try:
            owners.append(held(tmp_path))
        except Taken as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    try:
        assert (len(owners), len(refused)) == (1, 5)
        owners[0].check()
    finally:
        for owner in owners:
            owner.close()


def test_a_live_lease_that_was_removed_by_mistake_is_put_back(tmp_path: Path) -> None:
    """A taker was slow: another one has taken the dead owner's folder over in between."""
    owner = held(tmp_path)
    try:
        lease._removed(tmp_path / ".lease", {"token": "of the dead"})
        owner.check()
    finally:
        owner.close()


DIES = """
import os, signal, sys
from pathlib import Path
from enas.runs.lease import held
owner = held(Path(sys.argv[1]))
print("held", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dead_owner_on_this_machine_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", 60.0)
    done = subprocess.run([sys.executable, "-c", DIES, tmp_path], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("held\n", -signal.SIGKILL)
    assert (tmp_path / ".lease").exists()
    began = time.monotonic()
    held(tmp_path).close()
    assert time.monotonic() - began < 2


def test_an_owner_that_slept_does_not_write(tmp_path: Path, machines: Callable[[str], None]) -> None:
    with RunFolder.create(tmp_path / "run", CONFIG) as folder:
        machines("a")
        folder.lock()
        (sleeper,) = folder._locks
        folder.append("metrics", {"epoch": 1})
        packed = folder.packed(State({}, {"epoch": 1, "step": 0}))
        sleeper.ended.set()  # no renewals
        sleeper.thread.join()
        machines("b")
        with pytest.warns(UserWarning, match="waiting"):
            taker = held(tmp_path / "run")
        with pytest.raises(ValueError, match="was taken over by process"):
            folder.packed(State({}, {"epoch": 2, "step": 0}))
        with pytest.raises(ValueError, match="was taken over by process"):
            folder.keep(packed)
        with pytest.raises(ValueError, match="was taken over by process"):
            folder.append("metrics", {"epoch": 2})
        assert not folder.has_checkpoint()
        taker.check()
    taker.check()  # closing the folder of the one that slept takes nothing from it
    taker.close()


def test_a_lease_that_was_cut_short_runs_out_too(tmp_path: Path) -> None:
    (tmp_path / ".lease").write_text('{"machine": "fa')
    with pytest.warns(UserWarning, match="process \\? on \\?"):
        held(tmp_path).close()


@pytest.mark.slow
def test_a_lock_that_a_dead_machine_keeps_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of files gives a dead client's locks back after a while; later than that, an
    error."""
    elsewhere(tmp_path)
    free_at = time.monotonic() + 1.5 * lease.LEASE
    monkeypatch.setattr(lease, "_locked", lambda lock: time.monotonic() > free_at)
    with pytest.warns(UserWarning, match="waiting"):
        held(tmp_path).close()
    assert time.monotonic() > free_at
    elsewhere(tmp_path)
    monkeypatch.setattr(lease, "_locked", lambda lock: False)
    with pytest.warns(UserWarning, match="waiting"), pytest.raises(Taken, match="process 7 on far"):
        held(tmp_path)


def test_a_folder_is_opened_while_leases_come_and_go(tmp_path: Path) -> None:
    end = threading.Event()

    def busy() -> None:
        while not end.is_set():
            held(tmp_path).close()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(300):
            check_folder(tmp_path)
    finally:
        end.set()
        thread.join()
