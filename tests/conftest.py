"""Real data for tests, where a checkout of the research data is at hand. It may not be shipped, so
it is looked for."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from enas import plugins

# Tests are small and run side by side: threads would only wait for each other. Read when torch is
# loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the command sets it: threads that wait sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# the key of runs that name code
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="enas-tests-")


# of processor time; the longest take three on a quiet machine, and some import what is large
MOST_SECONDS = 20.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that is not marked slow fails where it takes long, so that `make check` stays
    short."""
    before = time.process_time()
    result = yield
    taken = time.process_time() - before
    if item.get_closest_marker("slow") is None and taken > MOST_SECONDS:
        pytest.fail(f"took {taken:.1f} s of processor time: make it smaller, or mark it slow", pytrace=False)
    return result


def research_data() -> Path | None:
    """The folder that has `unpack.py` and the data beside it: $ENAS_DATA, or shared/data next to
    the repository."""
    if chosen := os.environ.get("ENAS_DATA"):
        return Path(chosen)
    folder = Path(__file__).parents[2] / "shared" / "data"
    return folder if (folder / "unpack.py").is_file() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The research data; a test that asks for it is skipped where there is none, and fails where
    $ENAS_DATA is wrong."""
    folder = research_data()
    if folder is None:
        pytest.skip("real data is not here: set ENAS_DATA to a folder that has unpack.py, cifar10/ and ptb/")
    if not (folder / "unpack.py").is_file():
        pytest.fail(f"ENAS_DATA is a folder that has unpack.py; '{folder}' has none")
    return folder


@pytest.fixture(scope="session")
def cifar10_dir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the official `cifar-10-batches-py/`, written once a session. To be read
    only."""
    pytest.importorskip("PIL", reason="unpacking the real CIFAR-10 needs pillow")
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    root = tmp_path_factory.getbasetemp()
    root = root if alone else root.parent  # which all workers of a session see
    folder = root / "cifar10"
    with open(root / "cifar10.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            subprocess.run([sys.executable, data_dir / "unpack.py", folder], check=True, capture_output=True)
            (folder / "whole").touch()
    yield folder
    if alone:
        shutil.rmtree(folder)  # pytest would keep its 177 MiB for three sessions


class InThisProcess(concurrent.futures.Executor):
    """In the place of a pool of processes, each of which would take seconds to load torch."""

    def __init__(self, workers: int, context: Any, initializer: Any, initargs: tuple[Any, ...]):
        from enas.runs import jobs

        jobs._halted = initargs[0]

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The tensors are tiny: threads only wait for each other. The test before may have asked for
    more."""
    if "torch" in sys.modules:  # tests of the value layer run without it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def no_code_is_known() -> None:
    """What files named, and what was trusted, is of the test before."""
    plugins._unasked.set(frozenset())
    plugins._trusted.set(frozenset())


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many trainings run one after the other here, not in processes of their own."""
    monkeypatch.setattr("enas.runs.jobs.ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr("enas.runs.derive.side_by_side", lambda plan: 1)


@pytest.fixture
def taught_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What short trainings teach is asked of few architectures, and rivals have two seconds."""
    for name, few in (("POOL", 40), ("POLICY_STEPS", 5), ("SHORTLISTED", 1)):
        monkeypatch.setattr(f"enas.procedures.taught.{name}", few)
    monkeypatch.setattr("enas.grading.rivals.COUNTED", 40)
    monkeypatch.setattr("enas.grading.rivals.equal_seconds", lambda trainings: 2.0)


@pytest.fixture(autouse=True, scope="session")
def previews_are_short() -> None:
    """Before a search begins it measures for three seconds what it will cost; in tests, on two
    children."""
    if "torch" in sys.modules:  # tests of the value layer run without it
        from enas.procedures.search import Search

        Search.preview.__defaults__ = (1, 1, 0.0, 2)


@pytest.fixture(autouse=True, scope="session")
def plans_have_one_thread() -> Iterator[None]:
    """Where a preset does not say how many, a plan takes all cores, which other workers use."""
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:
            patch.setattr("enas.runs.planning.cores", lambda: 1)
        yield


# Of the validation and the test part, images or tokens: the first so many.
SCORED = {"images": 200, "tokens": 2000}


@pytest.fixture
def few_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation and the test part are large, however little is trained on: their beginnings
    are scored. What several commands read is read once."""
    from enas.data.registry import load

    @functools.cache
    def load_few(*args: Any, **settings: Any) -> Any:
        data = load(*args, **settings)
        few = SCORED["tokens" if hasattr(data, "vocabulary") else "images"]
        return dataclasses.replace(data, validation=data.validation[:few], test=data.test[:few])

    monkeypatch.setattr("enas.runs.plan.load_data", load_few)
