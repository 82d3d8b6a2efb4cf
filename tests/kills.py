"""Kills runs at random moments and says whether each came to the same bits as one never killed.

    python tests/kills.py --kills 50 --seed 1        (so many in each case)

A run is a search, a derivation and a training from scratch of a tiny network in each space; or a
comparison, whose trainings run in a worker of its own. It is in a child process that is killed by
`kill -9`: half of the times at a random moment, half of the times at a random
moment of a write of a file (before it, in its middle, before and after its new name; `ENAS_FAULT`
of `enas.runs.files`). Then it goes on, and is killed again. `tests/runs/test_kills.py` runs some of
these, `make soak` more.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from enas.cli.main import main
from enas.runs import loop
from enas.runs.checkpoint import CHECKPOINT, read_header
from enas.runs.files import FAULT, read_json

SHORT = (
    *("--search.epochs", "2", "--search.warmup-epochs", "1", "--search.controller-steps", "2", "--search.probes", "3"),
    *(
        "--search.architectures",
        "2",
        "--derive.samples",
        "3",
        "--derive.keep",
        "2",
        "--derive.finalists",
        "0",
        "--derive.trainings",
        "0",
    ),
    *("--derive.uniform", "3", "--retrain.epochs", "2", "--threads", "1", "--device", "cpu"),
)
IMAGES = (
    *("--data.dataset", "digits", "--data.train", "60", "--data.validation", "40", "--task.batch-size", "20"),
    *("--task.reward-batch", "20", "--retrain.task.batch-size", "20", "--network.filters", "2"),
    *("--retrain.network.filters", "2"),
)
TEXT = (
    *("--data.train", "800", "--task.batch-size", "8", "--retrain.task.batch-size", "8", "--network.hidden", "8"),
    *("--retrain.network.hidden", "8", "--space.num-nodes", "3"),
)
SPACES = {
    "digits-micro": (*IMAGES, "--space.num-nodes", "2"),
    "digits-macro": (*IMAGES, "--space.num-layers", "3"),
    "nasbench201": (*IMAGES, "--space.num-nodes", "3"),
    "nasbench_macro": (
        *IMAGES,
        "--space.num-layers",
        "4",
        *(f"--{net}.stem-stride=1" for net in ("network", "retrain.network")),
    ),
    "text-rnn": TEXT,
}
COMPARE = "compare"
CASES = (*SPACES, COMPARE)
MOMENTS = 60  # of writes: the Nth is drawn up to here


@functools.cache
def all_is_imported() -> None:
    """Searches, derives and trains once in this process: its children find all imports made, which
    would take each of them seconds, and are killed at their work."""
    with tempfile.TemporaryDirectory(prefix="enas-kills-") as folder, contextlib.redirect_stdout(io.StringIO()):
        for args in commands("digits-micro", Path(folder) / "run"):
            assert main(args) == 0, args


def child(args: list[str], fault: int | None = None, seconds: float | None = None) -> tuple[bool, str]:
    """Runs a command in a process of its own; whether it was killed, and what it said otherwise."""
    all_is_imported()
    said, write = os.pipe()
    with warnings.catch_warnings():
        # that this process has threads, which hold nothing of ours
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        sys.stdout = sys.stderr = os.fdopen(write, "w", buffering=1)
        if fault is not None:
            os.environ[FAULT] = str(fault)
        loop.CHECKPOINT_SECONDS = 0.02
        # workers are forked too, and so find the imports made and the checkpoints as frequent
        forks = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda method=None: forks  # type: ignore[assignment, return-value]
        status = 1
        try:
            status = main(args)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    os.close(write)
    if seconds is not None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.001)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with os.fdopen(said, "rb") as file:
        text = file.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if "a process that trained was ended from outside" in text:
        return True, text  # the write that was hit was one of a worker
    if not killed and os.waitstatus_to_exitcode(status) != 0:
        raise AssertionError(f"{' '.join(args)} failed: {text[-2000:]}")
    return killed, text


def commands(case: str, run: Path) -> list[list[str]]:
    if case == COMPARE:
        return [["compare", str(run), "--cells", "2", "--seeds", "2", "--jobs", "1"]]
    search = ["search", case, "--out", str(run), *SPACES[case], *SHORT]
    return [search, ["derive", str(run)], ["retrain", str(run)]]


def begun(case: str, run: Path, folder: Path) -> None:
    """Makes what the commands of a case begin with: for a comparison, a run that is derived."""
    if case == COMPARE:
        searched = folder / "searched"
        if not searched.exists():
            for args in commands("digits-micro", searched)[:2]:
                child(args)
        shutil.copytree(searched, run)


def content(run: Path) -> dict[str, object]:
    """All of a run that is the same in equal runs."""
    found: dict[str, object] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.name in ("metrics.jsonl", "architectures.jsonl"):
            found[name] = file.read_bytes()
        elif file.name in ("best.json", "retrained.json", "result.json", "compare.json"):
            # times are of the machine
            whole = read_json(file, finite=False)
            found[name] = {key: value for key, value in whole.items() if key not in ("judged", "ledger", "seconds")}
        elif file.name == CHECKPOINT:
            data, header = file.read_bytes(), read_header(file)
            length = int.from_bytes(data[:8], "little")
            tensors = {key: part for key, part in json.loads(data[8 : 8 + length]).items() if key != "__metadata__"}
            values = json.dumps(header.values)
            lengths = [header.lengths.get(log) for log in ("metrics", "architectures")]
            found[name] = tensors, values, data[8 + length :], lengths
        elif file.name.endswith(".part"):
            file.unlink()
    return found


def disturbed(case: str, kills: int, rng: random.Random, run: Path, seconds: list[float]) -> int:
    """Makes a run and kills it up to `kills` times; returns how often it was."""
    done = 0
    for args, span in zip(commands(case, run), seconds, strict=True):
        while True:
            if args[0] == "search" and (run / "config.json").exists():
                args = ["resume", str(run)]
            if done >= kills:
                child(args)
                break
            if rng.random() < 0.5:
                killed, _ = child(args, fault=rng.randint(1, MOMENTS))
            else:
                killed, _ = child(args, seconds=rng.uniform(0, span))
            done += killed
            if not killed:
                break
    return done


def one_case(case: str, kills: int, seed: int) -> int:
    """Kills runs of one case until that was done `kills` times; AssertionError where one is not as
    it should be."""
    rng, done, runs = random.Random(f"{case}-{seed}"), 0, 0
    with tempfile.TemporaryDirectory(prefix="enas-kills-") as folder:
        whole, seconds = Path(folder) / "whole" / "run", []
        begun(case, whole, Path(folder))
        for args in commands(case, whole):
            began = time.monotonic()
            child(args)
            seconds.append(time.monotonic() - began)
        expected = content(whole)
        made = "compare.json" if case == COMPARE else "retrained.json"
        assert {"metrics.jsonl", CHECKPOINT, "best.json", made} <= expected.keys(), expected.keys()
        while done < kills:
            run = Path(folder) / f"killed{runs}" / "run"
            begun(case, run, Path(folder))
            done += disturbed(case, min(6, kills - done), rng, run, seconds)
            runs += 1
            found = content(run)
            different = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
            assert not different, f"{case}, seed {seed}, run {runs}: {different} differ from a run never killed"
            shutil.rmtree(run.parent)
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=6, help="in each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", choices=CASES, action="append")
    asked = parser.parse_args()
    for name in asked.case or CASES:
        start = time.monotonic()
        killed = one_case(name, asked.kills, asked.seed)
        print(f"{name}: killed {killed} times, the same bits each time, {time.monotonic() - start:.0f} s", flush=True)
