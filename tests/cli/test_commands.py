"""Every command line of the README, the docs and the Makefile runs to its end, at a reduced size.
`make soak` runs them at full size, the demos with two seeds."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import soak
from documented import DEMOS, ROOT, excluded, makefile, markdown, python_blocks, readme
from enas.cli.commands import COMMANDS
from enas.cli.main import main, usage
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.presets import micro
from enas.runs.presets.registry import PRESETS

SEEDS = (0, 1)
FEW = "--search.epochs 2 --search.warmup-epochs 1 --search.controller-steps 2 --search.architectures 2 --derive.samples 4"
# tests run side by side: threads would wait
FEW += " --derive.keep 2 --derive.uniform 3 --retrain.epochs 1 --search.probes 3 --threads 1"
IMAGES = "--data.train 60 --data.validation 40 --task.batch-size 20 --task.reward-batch 20 --retrain.task.batch-size 20"
IMAGES += " --network.filters 4 --retrain.network.filters 4"
ONE_CELL = "--network.cells 1 --retrain.network.cells 1"
WORDS = "--data.train 2000 --network.hidden 8 --retrain.network.hidden 8 --retrain.task.test-batch 64 --space.num-nodes 2"
TAUGHT = "--derive.trainings 6 --derive.rounds 2 --derive.finalists 2 --derive.finalist-steps 2"
FINALS = "--derive.finalists 2 --derive.finalist-steps 3"

# What makes a line small: a pattern, and the flags that are added where it matches.
REDUCED = (
    (r"enas (search|sweep) (digits|scattered|cifar10)-micro", f"{FEW} {IMAGES} {ONE_CELL} --space.num-nodes 2"),
    (r"enas (search|sweep) (scattered-micro|text-rnn)", TAUGHT),
    (r"enas search (?!scattered|text)\w+-(micro|macro|rnn)|enas search nasbench", FINALS),
    (r"enas search (digits|cifar10)-macro", f"{FEW} {IMAGES} --space.num-layers 3"),
    (r"enas search nasbench201", f"{FEW} {IMAGES}"),
    (r"enas search (text|ptb)-rnn", f"{FEW} {WORDS}"),
    (r"enas cost", "--samples 3"),
    (r"enas latency", "--children 24 --held-out 5 --rounds 1 --threads 1"),
    (r"enas compare .*--all", "--disabled 2 --local 2 --single 2"),
    (r"enas compare (?!.*--cells)", "--cells 2"),
    (r"enas compare (?!.*--seeds)", "--seeds 2"),
    (r"enas oracle nasbench", "--seeds 2 --queries 10"),
    (r"enas oracle runs", "--cells 6"),
    (r"enas judges", "--cells 12 --passes 1 --steps 2 --teachers 6 --batches 1"),
)
# What stands for something else in the text, or is too large.
REPLACED = (
    (r"--cells \d+", "--cells 2"),
    (r"--seeds \d+(?![-\d])", "--seeds 2"),
    (r"--highest-filters 512", "--highest-filters 16"),
    (r"--budget \S+", "--budget 4s"),
)
TABLES = {"FILE": "nasbench201.csv.gz", "JSON": "nasbench_macro_cifar10.json.gz"}
NEEDS_DERIVED = ("retrain", "compare", "oracle")

LISTED = {f"README, {heading}": lines for heading, lines in readme().items()}
LISTED |= {f"benchmarks, {heading}": lines for heading, lines in markdown(ROOT / "benchmarks" / "README.md").items()}
LISTED |= {f"scale, {heading}": lines for heading, lines in markdown(ROOT / "docs" / "scale.md").items()}
LISTED |= {"help": [line.strip() for text in usage().splitlines() if "  enas " in text for line in text.split("&&")]}
SCENARIOS = {name: [line for line in lines if not excluded(line)] for name, lines in LISTED.items()}
SCENARIOS = {name: lines for name, lines in SCENARIOS.items() if lines}
SCENARIOS = {  # but those that a longer one begins with, which would run twice
    name: lines
    for name, lines in SCENARIOS.items()
    if not any(len(other) > len(lines) and other[: len(lines)] == lines for other in SCENARIOS.values())
}


def enas(line: str) -> None:
    began = time.monotonic()
    try:
        status = main(shlex.split(line)[1:])
    except SystemExit as end:  # of --help
        status = end.code or 0  # type: ignore[assignment]
    assert status == 0, line
    print(f"{time.monotonic() - began:.1f} s: {line}")


def small_plan(*args: Any, **how: Any) -> Plan:
    """A preset's plan with few filters, cells and images, for a command that has no flags for
    them."""
    plan = make_plan(*args, **how)
    s = plan.settings
    few = dataclasses.replace(s.network, filters=4, cells=1)
    return plan.with_settings(
        network=few,
        retrain=dataclasses.replace(s.retrain, network=few),
        data=dataclasses.replace(s.data, train=60, validation=40),
        task=dataclasses.replace(s.task, batch_size=20, reward_batch=20),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_this_process: None, taught_shortly: None) -> Path:
    """An empty working folder, for commands without processes, each of which would load torch and
    all of the data again."""
    monkeypatch.setattr("enas.grading.judges.make_plan", small_plan)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_data(folder: Path, request: pytest.FixtureRequest) -> None:
    """The folder `data` that the README downloads into, and the tables of the benchmarks, FILE and
    JSON."""
    request.getfixturevalue("few_are_scored")
    data_dir: Path = request.getfixturevalue("data_dir")
    cifar10: Path = request.getfixturevalue("cifar10_dir")
    (folder / "data").mkdir()
    os.symlink(cifar10 / "cifar-10-batches-py", folder / "data" / "cifar-10-batches-py")
    for part in ("train", "valid", "test"):
        shutil.copy(data_dir / "ptb" / f"{part}.txt", folder / "data")
    for name, table in TABLES.items():
        (folder / name).write_bytes(gzip.decompress((data_dir / "nasbench" / table).read_bytes()))


def small(line: str, seed: int) -> str:
    for pattern, other in REPLACED:
        line = re.sub(pattern, other, line)
    line += "".join(f" {flags}" for pattern, flags in REDUCED if re.match(pattern, line))
    if line.startswith("enas search") and "--config" not in line and "--seed" not in line:
        line += f" --seed {seed}"
    return line


def run(lines: list[str], seed: int) -> None:
    """All lines in order; RUN is the last search's folder, and what needs a derived run gets
    one."""
    last: Path | None = None
    for text in lines:
        line = small(text.replace("RUN", str(last)), seed)
        words = shlex.split(line)
        if words[0] == "rm":
            shutil.rmtree(words[-1], ignore_errors=True)
            continue
        of_run = last is not None and str(last) in words
        if words[1] in NEEDS_DERIVED and of_run and last is not None and not (last / "best.json").exists():
            enas(f"enas derive {last}")
        enas(line)
        if words[1] == "search" and "--help" not in words:
            named = Path(words[words.index("--out") + 1]) if "--out" in words else Path(f"runs/{words[2]}-quick/seed{seed}")
            assert (named / "checkpoint.safetensors").exists(), line
            last = named if "--config" not in words else last
        if words[1] == "sweep" and "--slurm" not in words:
            last = min(Path(words[words.index("--out") + 1]).glob("seed*"))


@pytest.mark.slow
@pytest.mark.parametrize(("demo", "seed"), [("demo", 1), ("demo-text", 0)])
def test_a_demo_ends_with_a_picture_and_a_verdict(
    demo: str, seed: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(makefile(demo, SEED=seed), seed)
    out = capsys.readouterr().out
    assert re.search(r"^verdict: .*\d", out, re.MULTILINE)
    assert (folder / "runs" / demo / "best.svg").stat().st_size > 1000
    assert (folder / "runs" / demo / "report.html").stat().st_size > 10_000
    assert json.loads((folder / "runs" / demo / "config.json").read_text())["seed"] == seed


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_documented_commands_run_to_their_end(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    lines = SCENARIOS[name]
    if any("--data data" in line or "FILE" in line for line in lines):
        with_data(folder, request)
    run(lines, 0)


@pytest.mark.slow
def test_python_of_the_readme_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def few_finalists() -> Any:
        settings = micro.digits_micro_quick()
        space = dataclasses.replace(settings.space, num_nodes=2)
        data = dataclasses.replace(settings.data, train=100, validation=60)
        network = dataclasses.replace(settings.network, filters=4)
        retrain = dataclasses.replace(settings.retrain, network=network, epochs=2)
        derive = dataclasses.replace(settings.derive, finalists=2, finalist_steps=3, samples=4, uniform=3)
        return dataclasses.replace(settings, space=space, data=data, network=network, retrain=retrain, derive=derive)

    preset = dataclasses.replace(PRESETS["digits-micro"], recipes={"quick": few_finalists})
    monkeypatch.setitem(PRESETS, "digits-micro", preset)
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    for block in blocks:
        few = (
            (r"epochs=\d+", "epochs=1"),
            (r"cells=\d+", "cells=2"),
            (r"seeds=\d+", "seeds=2, workers=1"),
            (r"4000", "300"),
        )
        for pattern, other in few:
            block = re.sub(pattern, other, block)
        # a module: other processes find it by its name
        if file := re.match(r"# (\w+\.py)\n", block):
            Path(file[1]).write_text(block)
            subprocess.run([sys.executable, file[1]], check=True)
        else:
            exec(compile(block, "README.md", "exec"), {})
    assert "the mean" in capsys.readouterr().out


def test_every_line_is_run_or_excluded_for_a_reason() -> None:
    for name, lines in LISTED.items():
        for line in lines:
            assert excluded(line) or line.startswith("enas "), f"{name}: '{line}' is neither run nor excluded"
    for target in DEMOS:
        assert all(line.startswith(("enas ", "rm -rf runs/")) for line in makefile(target))
    assert sum(map(len, SCENARIOS.values())) > 20
    # What begins at nothing is made small; what is done with a run is as small as the run.
    begins = re.compile(r"enas (search (?!--config)|(retrain|compare|oracle) (?!RUN|runs/))")
    for line in [line for lines in SCENARIOS.values() for line in lines if begins.match(line)]:
        assert any(re.match(pattern, line) for pattern, _ in REDUCED), f"'{line}' is not made small"


@pytest.mark.parametrize("real", [True, False])
def test_soak_runs_every_line_or_names_it(
    real: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All subprocesses of `make soak` stood in for: what would run, and what it says in the end."""
    ran: list[list[str]] = []

    def stand_in(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[3:] if command[1] == "-m" else command)
        return subprocess.CompletedProcess(command, 1 if command[3:4] == ["report"] else 0)

    monkeypatch.setattr(soak, "prepare", lambda: real)
    monkeypatch.setattr(soak.subprocess, "run", stand_in)
    monkeypatch.setattr(sys, "argv", ["soak.py", "7"])
    assert soak.main() == 1, "a report ended with status 1"
    said = capsys.readouterr().out.split("seconds  status  command\n")[1].splitlines()
    lines = [line for section in readme().values() for line in section if not excluded(line)]
    demos = [line for demo in DEMOS for seed in SEEDS for line in makefile(demo, SEED=seed)]
    left_out = [line for line in said if line.startswith("left out")]
    assert len(said) == len(demos) + len(lines)
    assert bool(left_out) != real
    assert all(re.search(r"--data data|FILE|JSON|runs/|RUN", line) for line in left_out)
    assert all("--max-time" not in line for line in said[: len(demos)]), "demos run to their ends"
    limited = [line for line in said[len(demos) :] if re.search(r"\d  enas (search|retrain) (?!.*--help)", line)]
    assert len(limited) > (3 if real else -1)
    assert all(line.endswith("--max-time 7m") for line in limited)
    assert all(command[:1] == ["rm"] or command[0] in COMMANDS for command in ran)


@pytest.mark.parametrize("name", [*sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")), "README.md"])
def test_commands_named_in_the_docs_exist(name: str) -> None:
    for lines in markdown(ROOT / name).values():
        for line in lines:
            words = line.split()
            if words[0] == "enas" and len(words) > 1 and not words[1].startswith("-"):
                assert words[1] in COMMANDS or words[1] == "COMMAND", line
