"""A sweep over seeds: what it does once, what it says; and the same as a job array, whose tasks are
run here one after the other."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from enas.cli.main import main
from enas.runs import slurm, sweep
from enas.runs.sweep import Swept, seeds_of, summed_up

TINY = (
    "--epochs 1 --search.warmup-epochs 0 --search.controller-steps 1 --search.architectures 2 --search.probes 0 --threads 1"
    " --data.train 40 --data.validation 40 --task.batch-size 20 --task.reward-batch 20 --network.filters 2"
    " --space.num-layers 2 --retrain.epochs 1 --retrain.task.batch-size 20 --retrain.network.filters 16 --derive.samples 3"
    " --derive.keep 2 --derive.uniform 2 --derive.finalists 0 --device cpu"
)


def enas(line: str) -> None:
    assert main(shlex.split(line)) == 0, line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over two seeds, the second one in a process of its own command."""
    folder = tmp_path_factory.mktemp("sweep")
    for seed in range(2):
        enas(f"sweep digits-macro --seeds {seed} --out {folder} {TINY}")
    return folder


@pytest.fixture
def nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would search, derive or train fails."""

    def fails(*arguments: Any, **named: Any) -> None:
        pytest.fail("it is done already")

    for place in (
        "sweep.search_plan",
        "sweep.resume",
        "sweep.derive",
        "sweep.retrain_best",
        "sweep.run_all",
        "retrain.drive",
    ):
        monkeypatch.setattr(f"enas.runs.{place}", fails)


def logs(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("metrics.jsonl")}


@pytest.mark.slow
def test_a_sweep_ends_with_a_table_over_seeds(
    folder: Path, nothing_is_done: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of what is done already, which is only read."""
    enas(f"sweep digits-macro --seeds 0-1 --out {folder} {TINY}")
    said = " ".join(capsys.readouterr().out.split())
    figures = [sweep.figures_of(folder / f"seed{seed}", "retrain") for seed in (0, 1)]
    assert list(figures[0]) == ["reward", "derived", "validation accuracy", "test accuracy"]
    tests = [row["test accuracy"] for row in figures]
    assert f"{sum(tests) / 2:.4g}" in said
    assert all(word in said for word in ("mean", "standard deviation", "least", "largest"))
    assert f"run folders: {folder}/seed0, {folder}/seed1" in said


@pytest.mark.slow
def test_a_seed_of_a_sweep_is_what_the_commands_give(folder: Path, tmp_path: Path) -> None:
    enas(f"search digits-macro --seed 1 --out {tmp_path} {TINY}")
    enas(f"derive {tmp_path}")
    enas(f"retrain {tmp_path}")
    assert logs(tmp_path) == logs(folder / "seed1")


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on(
    folder: Path, tmp_path: Path, in_this_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a step of the search, in the middle of the derivation, and before the training."""
    sweep_ = f"sweep digits-macro --out {tmp_path} {TINY} --seeds"
    for line in ("1 --max-time 0s", "1 --until search", "1 --max-time 0s", "1 --until derive", "0-1 --jobs 2"):
        assert not (tmp_path / "seed1" / "retrained.json").exists()
        enas(f"{sweep_} {line}")
        assert (tmp_path / "seed1" / "best.json").exists() == ("derive" in line or "jobs" in line)
    assert logs(tmp_path) == logs(folder)
    assert "go on with" not in capsys.readouterr().out.rpartition("2 seeds")[2]


def test_another_sweep_into_the_same_folder_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(f"sweep digits-macro --seeds 0-1 --out {folder} {TINY} --strategy random")) == 2
    assert "seed0' holds a search with other settings" in capsys.readouterr().err
    assert main(shlex.split(f"sweep digits-macro --seeds 0-1 --seed 3 --out {folder}")) == 2
    assert "a sweep has many seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", (7,)), ("0-3", (0, 1, 2, 3)), ("0,3,10-12", (0, 3, 10, 11, 12)), ("2,1-3", (2, 1, 3))]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "0-1000000", "0 1", "1e3"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seeds"):
        seeds_of(text)


def test_a_table_has_the_statistics_of_a_sample() -> None:
    swept = [Swept(seed, Path(str(seed)), {"reward": value}) for seed, value in enumerate((1.0, 2.0, 6.0))]
    assert summed_up(swept) == {
        "reward": {"mean": 3.0, "standard deviation": pytest.approx(7**0.5), "least": 1.0, "largest": 6.0}
    }
    assert "standard deviation" not in summed_up(swept[:1])["reward"]


# ------------------------------------------------------------------------------------- job arrays
def tasks_of(printed: str, stub: Path) -> tuple[list[list[str]], str]:
    """The words of `enas` in every task of the array that was printed, as a shell of SLURM gives
    them, and the command that gathers."""
    comment, submit, _, gather = printed.strip().splitlines()[-4:]
    assert comment.startswith("#")
    words = shlex.split(submit)
    assert words[0] == "sbatch"
    options = dict(word.removeprefix("--").partition("=")[::2] for word in words[1:])
    assert options["signal"] == "B:USR1@120"
    assert options["cpus-per-task"] == "1"
    assert "requeue" in options
    assert "gres" not in options
    stub.mkdir()
    (stub / "enas").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    (stub / "enas").chmod(0o755)
    tasks = []
    for index in seeds_of(options["array"]):
        environment = {**os.environ, "PATH": f"{stub}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(index)}
        done = subprocess.run(["sh", "-c", options["wrap"]], env=environment, capture_output=True, text=True, check=True)
        tasks.append(done.stdout.splitlines())
    return tasks, gather


@pytest.mark.slow
def test_a_sweep_as_a_job_array(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tasks find the folders of the sweep, spaces in a name and all."""
    shutil.copytree(folder, out := tmp_path / "my sweep")
    enas(f"sweep digits-macro --seeds 0-1 --slurm --out '{out}' {TINY} --jobs 2")
    tasks, gather = tasks_of(capsys.readouterr().out, tmp_path / "bin")
    assert len(tasks) == 2
    for seed, task in enumerate(tasks):
        assert task[-2:] == ["--seeds", str(seed)]
        shutil.rmtree(out / f"seed{seed}" / "retrain")
        (out / f"seed{seed}" / "retrained.json").unlink()
        assert main(task) == 0
        assert main(task) == 0, "a task that is started again finds all done"
    assert logs(out) == logs(folder)
    monkeypatch.setattr(sweep, "run_all", lambda *arguments, **named: pytest.fail("it is done already"))
    assert main(shlex.split(gather)[1:]) == 0


@pytest.mark.slow
def test_a_comparison_as_a_job_array(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(folder / "seed0", run := tmp_path / "run")
    enas(f"compare {run} --cells 2 --seeds 2 --references resnet --slurm")
    tasks, gather = tasks_of(capsys.readouterr().out, tmp_path / "bin")
    assert len(tasks) == 2 + 2 + 2
    for task in [*tasks, tasks[0]]:
        assert main(task) == 0
    folders = [path.parent.name for path in (run / "retrain").glob("*/result.json")]
    assert len(folders) == 6
    monkeypatch.setattr("enas.grading.opened.retrain_many", lambda *arguments, **named: pytest.fail("it is done already"))
    assert main(shlex.split(gather)[1:]) == 0
    assert re.search(r"^verdict: ", capsys.readouterr().out, re.MULTILINE)
    assert main([*tasks[0][:-1], "6"]) == 2
    assert "--only is the place of a training, from 0 to 5; got 6" in capsys.readouterr().err


def test_an_array_of_gpu_jobs_asks_for_one_each() -> None:
    line = slurm.array(["compare", "runs/a b", "--epochs", "3"], "--only", "0-5", 4, True)
    assert line == (
        "sbatch --job-name=enas-compare --array=0-5 --cpus-per-task=4 --gres=gpu:1 --requeue --signal=B:USR1@120"
        """ --wrap='exec enas compare '"'"'runs/a b'"'"' --epochs 3 --only $SLURM_ARRAY_TASK_ID'"""
    )


def test_flags_are_left_out_with_their_values() -> None:
    words = ["p", "--seeds", "0-3", "--a", "1", "--slurm", "--jobs=ray", "--gpus_per_job", "0.5", "--b", "--slurmy"]
    assert slurm.without(words, {"--seeds": 1, "--slurm": 0, "--jobs": 1, "--gpus-per-job": 1}) == [
        *("p", "--a", "1", "--b", "--slurmy")
    ]
