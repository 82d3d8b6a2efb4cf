"""Runs of a problem of one's own, where something of them is unusual: few architectures, a policy
that has no time to learn, a file that has changed since."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import enas
from enas.cli.main import main
from enas.procedures.taught import Outcome
from enas.runs.files import read_json, stamped_lines
from enas.runs.folder import RunFolder
from enas.runs.plan import Plan, problem_source
from enas.runs.planning import problem_plan
from enas.runs.search import with_epochs
from enas.runs.settings import Settings
from enas.runs.short import ShortTrainings
from enas.tasks.problem import problem_of

NAME = "small_own_problem"
MODULE = """
import enas, torch
from torch import nn


def net():
    act = enas.OneOf("act", {"relu": nn.ReLU(), "tanh": nn.Tanh(), "none": nn.Identity()})
    return nn.Sequential(nn.Linear(4, 4), act, enas.Repeat("depth", [nn.Linear(4, 4) for _ in range(2)]), nn.Linear(4, 2))


def problem():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(net, (x, (x[:, 0] > 0).long()), reward=enas.rewards.accuracy, batch_size=20)
"""
WHAT = f"{NAME}:problem"
FEW = "--search.controller-steps 1 --search.architectures 2 --search.probes 0 --derive.samples 4 --derive.finalists 0"
FEW += " --derive.keep 2 --retrain.epochs 1"


def run(line: str, status: int = 0) -> None:
    assert main(shlex.split(line)) == status, line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file of a problem, and a search in it that is derived and trained."""
    folder = tmp_path_factory.mktemp("own")
    (folder / f"{NAME}.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        run(f"search {WHAT} --out runs/own --epochs 2 {FEW}")
        run("derive runs/own")
        run("retrain runs/own")
    return folder


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder, which is the current one."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop(NAME, None)
    problem_of.cache_clear()
    yield tmp_path
    sys.modules.pop(NAME, None)
    problem_of.cache_clear()


def test_the_documented_line_gives_the_trained_network(there: Path) -> None:
    child = enas.Run("runs/own").child()
    assert enas.Run("runs/own") == enas.Run(Path("runs/own"))
    assert not any(type(part).__module__.startswith("enas") for part in child.modules())


# ------------------------------------------------------------------------- a policy without a step
def lengths(settings: Settings) -> tuple[int, int]:
    return settings.search.epochs, settings.search.warmup_epochs


def recorded(folder: str) -> tuple[int, int]:
    return lengths(Plan.recorded(RunFolder.open(Path(folder))).settings)


def test_fewer_epochs_warm_up_for_fewer(there: Path) -> None:
    """Unless somebody says how many, on the command line or in Python."""
    assert lengths(problem_plan(WHAT, device="cpu").settings) == (100, 50)
    assert recorded("runs/own") == (2, 1)
    run(f"search {WHAT} --out runs/given --epochs 3 --search.warmup-epochs 2 {FEW}")
    assert recorded("runs/given") == (3, 2)
    settings = {"search.controller_steps": 1, "search.probes": 0}
    enas.search(WHAT, out="runs/python", epochs=1, settings=settings)
    assert recorded("runs/python") == (1, 0)
    enas.search(WHAT, out="runs/told", epochs=4, settings={**settings, "search.warmup_epochs": 3})
    assert recorded("runs/told") == (4, 3)


def test_an_epoch_is_left_to_the_strategy_where_it_had_one(there: Path) -> None:
    plan = problem_plan(WHAT, device="cpu")
    for before, epochs, after in ((50, 1, 0), (99, 1, 0), (99, 2, 1), (100, 3, 3), (0, 3, 0), (50, 200, 100)):
        other = plan.with_settings(search=dataclasses.replace(plan.settings.search, warmup_epochs=before))
        assert lengths(with_epochs(other, epochs).settings) == (epochs, after)
        assert lengths(with_epochs(other, epochs, keeps_warmup=True).settings) == (epochs, before)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--epochs 2 --search.warmup-epochs 2", "every epoch warms up, as search.warmup_epochs is 2"),
        ("--epochs 1 --search.controller-steps 0", "search.controller_steps is 0; give at least 1"),
    ],
)
def test_a_policy_that_never_learns_is_remarked_on_and_swept(
    flags: str, why: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep has no reward to tell then; it says the other figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the command line shows them
        run(f"sweep {WHAT} --seeds 0 --out runs/sweep --until derive {FEW} {flags}")
    said = capsys.readouterr()
    assert said.err.startswith(f"enas: the strategy learns nothing in this search: {why}")
    assert said.err.count("\n") == 1
    run(f"sweep {WHAT} --seeds 0 --out runs/sweep --until search {FEW} {flags}")
    shown = said.out + capsys.readouterr().out
    assert "derived: reward of the best" in shown
    assert "reward: mean of" not in shown
    assert shown.count("run folders: runs/sweep/seed0") == 2


def test_a_search_with_random_children_is_not_remarked_on(there: Path) -> None:
    run(f"sweep {WHAT} --seeds 0 --out runs/sweep --strategy random --epochs 1 --until search {FEW}")
    assert "reward" not in read_json(Path("runs/sweep/seed0/metrics.jsonl"))


# -------------------------------------------------------------------------- a file that has changed
def test_figures_of_two_versions_of_a_file_do_not_mix(
    there: Path, capsys: pytest.CaptureFixture[str], in_this_process: None
) -> None:
    """What was trained before stays as it is, and the same command begins anew once it is moved
    away."""
    compare = "compare runs/own --cells 2 --seeds 2"
    before, (trained,) = recipe_of("runs/own"), Path("runs/own/retrain").iterdir()
    with open(f"{NAME}.py", "a") as file:
        file.write("# changed\n")
    assert recipe_of("runs/own") != before, "short trainings are made anew"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file has changed since the search
        for line in (compare, "retrain runs/own"):
            run(line, status=2)
            said = capsys.readouterr().err
            assert f"'{trained}' was made by another version of the file of '{WHAT}' than there is now" in said
            assert "put that version back, or move 'runs/own/retrain' and compare.json away" in said
            assert said.count("\n") == 1
        Path("runs/own/retrain").rename("before")
        run(compare)
        run("retrain runs/own")
    now = problem_source(WHAT)
    configs = [read_json(file) for file in Path("runs/own/retrain").glob("*/config.json")]
    assert [config["source"] for config in configs] == [now] * 4
    assert read_json(Path("runs/own/config.json"))["source"] != now


def recipe_of(folder: str) -> str:
    plan = Plan.recorded(RunFolder.open(Path(folder)))
    task: Any = None
    return ShortTrainings(plan, Path(folder), task).recipe


def test_seeds_of_two_versions_of_a_file_do_not_mix(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = f"sweep {WHAT} --out runs/sweep --until search --epochs 1 {FEW}"
    run(f"{sweep} --seeds 0")
    with open(f"{NAME}.py", "a") as file:
        file.write("# changed\n")
    run(f"{sweep} --seeds 0-1", status=2)
    assert "'runs/sweep/seed0' was made by another version of the file" in capsys.readouterr().err


def test_weights_of_another_network_are_refused_in_one_line(there: Path) -> None:
    (trained,) = Path("runs/own/retrain").iterdir()
    Path(f"{NAME}.py").write_text(MODULE.replace("nn.Linear(4, 2)", "nn.Linear(4, 3)"))
    with (
        pytest.warns(UserWarning, match=f"the file of '{WHAT}' has changed since this run was made"),
        pytest.raises(ValueError, match=f"the network of '{WHAT}' has changed since '{trained}' was made"),
    ):
        enas.Run("runs/own").child()
    shutil.rmtree("runs/own/retrain")
    Path("runs/own/retrained.json").unlink()
    with pytest.raises(ValueError, match=r"has no retrained\.json yet: run `enas retrain runs/own` first"):
        enas.Run("runs/own").child()


# ------------------------------------------------------------------------------ commands of presets
def test_a_table_and_judges_take_a_problem(
    there: Path, capsys: pytest.CaptureFixture[str], in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_plan(*arguments: Any, **named: Any) -> Plan:
        plan = problem_plan(*arguments, **named)
        return plan.with_settings(retrain=dataclasses.replace(plan.settings.retrain, epochs=1))

    monkeypatch.setattr("enas.runs.planning.problem_plan", short_plan)
    build = f"table build {WHAT} --out t.json --cells 6 --repeats 0 --device cpu --jobs 1"
    run(build)
    assert f"{WHAT}, recipe own: 6 of 6 architectures of own" in capsys.readouterr().out
    run(f"{build} --recipe quick", status=2)
    assert "is a problem of your own and has no recipes; leave out 'quick'" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant judge ranks nothing
        run(f"judges {WHAT} --table t.json --cells 12 --passes 1 --steps 1 --led 0 --teachers 1")
    assert (there / "runs" / f"judges-{NAME}-problem" / "judges.json").is_file()
    with open(f"{NAME}.py", "a") as file:
        file.write("# changed\n")
    run(f"{build} --best 1", status=2)
    assert "'t.json.work' was made by another version of the file" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- messages
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("retrain runs/own --arch resnet", "hand-designed models are of images and of texts, none of task 'own'"),
        (f"search {WHAT} --space conv_micro --out no", f"'{WHAT}' brings its own space, .*; leave out --space conv_micro"),
        (f"search {WHAT} --task language_model --out no", "its own data, loss and reward; leave out --task language_model"),
        (f"search {WHAT} --budget 0.0001s --out no", r"one epoch takes some 0\.0*[1-9]\d* s of processor time"),
        ("report runs/own", "'runs/own/compare.json' is damaged, .*: there is no 'derived' in it"),
    ],
)
def test_what_a_problem_cannot_have_is_said(line: str, says: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/own/compare.json").write_text("{}")
    run(line, status=2)
    said = capsys.readouterr().err
    assert re.search(says, said), said
    assert said.count("\n") == 1


def test_latencies_of_a_small_space_have_few_others(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"latency {WHAT} --out latency.json --rounds 1 --children 30 --held-out 5")
    assert "at most on 5 random networks, 0 of them not timed before" in capsys.readouterr().out


# --------------------------------------------------------------------------- ended and interrupted
def test_what_is_finished_is_not_resumed(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its start-up would count as time of the search."""
    before = {file.name: file.read_bytes() for file in Path("runs/own").glob("*.*")}
    run("resume runs/own")
    assert "the search in runs/own was finished before: there is nothing to resume" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in Path("runs/own").glob("*.*")} == before


def test_a_derivation_that_is_interrupted_says_what_is_kept(
    there: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = itertools.count()

    def outcome(*arguments: Any) -> Outcome:
        if next(made) == 2:
            raise KeyboardInterrupt
        return Outcome(0.5, 0.0)

    monkeypatch.setattr("enas.runs.short.outcome", outcome)
    run("derive runs/own --trainings 6 --rounds 1 --finalist-steps 1 --judges parameters --jobs 1", status=130)
    said = capsys.readouterr().err
    assert said == "enas: interrupted; the short trainings that are done are kept: the same command goes on\n"
    assert len(list(stamped_lines(Path("runs/own/short.jsonl")))) == 2
