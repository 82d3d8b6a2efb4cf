"""Commands on two ranks, with their folder: the same files as of one process, and every way to end
leaves a checkpoint that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import enas.cli.search
import enas.procedures.search
import enas.reports.derive
import enas.runs.search  # (forks find all of these imported)
from enas.cli.main import main
from enas.runs import loop
from enas.runs.files import read_json, read_lines
from enas.runs.resume import resume
from kills import SHORT, SPACES
from together import commanded, ended, start

LONG = ("--search.epochs", "400", "--search.warmup-epochs", "0")  # minutes: ended before


def command(preset: str, run: Path, *more: str) -> list[str]:
    return ["search", preset, "--out", str(run), *SPACES[preset], *SHORT, "--search.children", "2", *more]


def on_two(args: list[str], folder: Path) -> tuple[list[Any], str]:
    """The exit status of each rank, and what both said."""
    folder.mkdir(exist_ok=True)
    answers = ended(start(2, commanded(args, folder)))
    return [answer and answer[1] for answer in answers], "".join((folder / f"said.{rank}").read_text() for rank in range(2))


def logs(run: Path) -> dict[str, bytes]:
    return {name: (run / f"{name}.jsonl").read_bytes() for name in ("metrics", "architectures")}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["digits-micro", "digits-macro", "text-rnn"])
def test_a_search_on_two_ranks_writes_what_one_process_writes(
    preset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(preset, one)) == 0
    statuses, said = on_two(command(preset, two), tmp_path / "said")
    assert statuses == [0, 0], said
    assert logs(one) == logs(two)
    assert said.count("searching into") == 1
    assert "2 ranks share out the children of a step (2) and the rewards of a controller step (2)" in said
    assert read_json(two / "config.json")["machine"]["ranks"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["resume", str(two)]) == 0
    assert "ranks 2 there, 1 here" in capsys.readouterr().err
    assert logs(one) == logs(two)


def saved(run: Path, beyond: int) -> None:
    """Waits until a run has written more than `beyond` checkpoints."""
    end = time.monotonic() + 60
    seen: set[float] = set()
    while len(seen) <= beyond and time.monotonic() < end:
        path = run / "checkpoint.safetensors"
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.01)
    assert len(seen) > beyond, f"{run} made no checkpoint"


@pytest.fixture
def saves_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("saves_always")
@pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 1), pytest.param(signal.SIGINT, 0, marks=pytest.mark.slow)])
def test_a_signal_to_one_rank_stops_both_at_one_step(number: signal.Signals, rank: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    started = start(2, commanded(command("digits-macro", run, *LONG), tmp_path))
    saved(run, 2)
    os.kill(started[rank][0], number)
    answers = ended(started, 30)
    expected = {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert [answer and answer[1] for answer in answers] == [expected, expected]
    said = (tmp_path / "said.0").read_text()
    assert "everything is saved; go on with: enas resume" in said
    assert (tmp_path / "said.1").read_text() == ""
    assert read_lines(run / "timing.jsonl")[-1]["why"] == {143: "terminated", 130: "interrupted"}[expected]


@pytest.mark.slow
@pytest.mark.usefixtures("saves_always")
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_that_is_killed_ends_the_other_which_says_so(rank: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    started = start(2, commanded(command("digits-macro", run, *LONG), tmp_path))
    saved(run, 2)
    os.kill(started[rank][0], signal.SIGKILL)
    began = time.monotonic()
    answers = ended(started, 30)
    assert time.monotonic() - began < 20
    assert answers[rank] is None
    assert answers[1 - rank] == ("value", 2)
    (said,) = [line for line in (tmp_path / f"said.{1 - rank}").read_text().splitlines() if line.startswith("enas")]
    assert "another rank of this run ended or cannot be reached" in said
    assert "what was saved before is whole" in said
    # the last checkpoint is whole: one process goes on, and says in one line that it is one
    done = read_lines(run / "metrics.jsonl")
    with pytest.warns(UserWarning, match="ranks 2 there, 1 here"):
        resume(run, max_seconds=0.0)
    assert len(read_lines(run / "metrics.jsonl")) >= len(done) - 1


@pytest.mark.slow
def test_time_that_is_up_on_one_rank_is_up_on_both(tmp_path: Path) -> None:
    run = tmp_path / "run"
    statuses, said = on_two(command("digits-macro", run, *LONG, "--max-time", "1s"), tmp_path)
    assert statuses == [0, 0]
    assert "stopped, time is up" in said


@pytest.mark.slow
def test_an_error_is_said_by_who_met_it(tmp_path: Path) -> None:
    statuses, said = on_two(["compare", str(tmp_path / "run")], tmp_path)
    assert statuses == [2, 2]
    assert "enas: torchrun is for search, resume, retrain; `enas compare` is for one process" in said
    statuses, said = on_two(command("digits-macro", tmp_path / "run", "--device", "nothing"), tmp_path)
    assert statuses == [2, 2]
    assert "enas, rank 1: device 'nothing' cannot be used here" in said
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    statuses, said = on_two(command("digits-macro", tmp_path / "run"), tmp_path)
    assert statuses == [2, 2]
    assert "holds a run: continue it" in said


@pytest.mark.slow
def test_torchrun_searches_and_its_best_is_trained_on_two_ranks(tmp_path: Path) -> None:
    """As a user types it; the training is stopped on two ranks and goes on."""
    environment = {**os.environ, "PYTHONPATH": str(Path(enas.procedures.search.__file__).parents[2])}
    run = tmp_path / "run"
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "enas"]
    done = subprocess.run([*words, *command("digits-micro", run)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "searched in" in done.stdout
    assert main(["derive", str(run)]) == 0
    statuses, said = on_two(["retrain", str(run), "--max-time", "0s"], tmp_path)
    assert statuses == [0, 0], said
    assert "2 ranks share out the 20 examples of a batch, 10 at most each" in said
    assert "stopped, time is up" in said
    statuses, said = on_two(["retrain", str(run)], tmp_path)
    assert statuses == [0, 0], said
    assert "trained from scratch" in said
    (folder,) = (run / "retrain").iterdir()
    assert len(read_lines(folder / "metrics.jsonl")) == 2
    best = json.loads((run / "retrained.json").read_text())
    assert 0 < best["trainings"][0]["test_accuracy"] <= 1
