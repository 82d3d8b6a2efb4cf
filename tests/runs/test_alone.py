"""Two processes on one run, a parent that dies, a worker that fails, signals, memory that is
short."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from enas.cli import commands
from enas.cli.main import main
from enas.runs import jobs
from enas.runs.folder import RunFolder
from enas.runs.process import signals
from enas.runs.retrain import Job, retrain_many
from enas.spaces.published import named

CONFIG = {"command": "search", "preset": "p", "recipe": "r", "settings": {}, "names": {"strategy": "random"}}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", CONFIG) as folder:
        folder.lock()
        folder.lock("derive")
        other = RunFolder.open(tmp_path / "run")
        with pytest.raises(ValueError, match="another is writing to"):
            other.lock()
        with pytest.raises(ValueError, match="another is doing `enas derive` of"):
            other.lock("derive")
        other.lock("retrain")
        other.close()
    with RunFolder.open(tmp_path / "run") as again:
        again.lock()
        again.lock("derive")


def test_a_lock_that_is_a_link_empties_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    with RunFolder.create(tmp_path / "run", CONFIG) as folder:
        (tmp_path / "run" / ".lock").symlink_to(outside)
        with pytest.raises(OSError, match="symbolic links"):
            folder.lock()
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_first_signal_waits_and_a_second_does_not(number: signal.Signals) -> None:
    with signals() as caught:
        os.kill(os.getpid(), number)
        assert caught.why == ("interrupted" if number == signal.SIGINT else "terminated")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


class Pool:
    """Trains nothing: the first job fails, the others end when they are told to stop."""

    def __init__(self, *args: Any, initargs: tuple[Any, ...] = (), **named: Any):
        (self.halted,) = initargs
        self.threads: list[threading.Thread] = []

    def submit(self, function: Any, train: Any, config: Any, job: Job) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            if job.seed == 0:
                future.set_exception(OSError("no space left"))
                return
            self.halted.poll(60)
            future.set_result(None)

        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()
        return future

    def shutdown(self, **named: Any) -> None:
        for thread in self.threads:
            thread.join()


def test_an_error_in_one_worker_stops_the_others_in_good_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from enas.runs.planning import make_plan

    monkeypatch.setattr(jobs, "ProcessPoolExecutor", Pool)
    asked = [Job(named("enas_micro"), tmp_path / str(seed), seed) for seed in range(3)]
    began = time.monotonic()
    with pytest.raises(OSError, match="no space left"):
        retrain_many(make_plan("digits-micro", device="cpu", threads=1), asked, jobs=3)
    assert time.monotonic() - began < 30


PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from enas.runs.process import begin_worker

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=begin_worker) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


@pytest.mark.slow
def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "parent.py").write_text(PARENT)
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.kill()
    end = time.monotonic() + 30
    while time.monotonic() < end and _alive(worker):
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), RuntimeError("can't allocate memory")],
)
def test_memory_that_is_short_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(args: list[str]) -> int:
        raise error

    monkeypatch.setitem(commands.COMMANDS, "list", ("", fails))
    assert main(["list"]) == 2
    err = capsys.readouterr().err
    assert "a smaller batch" in err
    assert err.count("\n") == 1


def test_output_never_ends_a_run(tmp_path: Path) -> None:
    """In an encoding that lacks the characters of a name."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "enas", "show", "nowhere-ü-\U0001f600"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"enas: 'nowhere-\\xfc-\\U0001f600' is not a run")


def test_no_worker_of_a_test_stays() -> None:
    assert not multiprocessing.active_children()


def test_warnings_of_a_worker_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("begin_worker", "keep_memory"):
        monkeypatch.setattr(jobs, name, lambda: None)
    monkeypatch.setattr(jobs, "_halted", None)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        jobs._worker(None)
        for _ in range(2):
            warnings.warn("of two\nlines", stacklevel=1)
        warnings.warn("for developers", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err == "enas: of two lines\n"
