"""`enas judges`: every judge against a table of the truth."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from enas.cli.main import main
from enas.data.registry import load
from enas.grading.asked import JudgesWanted
from enas.grading.judges import Court, JudgeFigures, Judges, Sample, Weights, judge
from enas.grading.table import Built, Row, answers_of
from enas.runs.planning import make_plan
from enas.runs.settings import to_dict

PRESET = "scattered-micro"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose truth is the number of parameters: a judge that has to be right."""
    plan = make_plan(PRESET)
    archs = plan.space.samples(random.Random(0), 30)[0]
    rows = [
        Row(answers_of(plan.space, a), plan.cost(a).parameters, (plan.cost(a).parameters / 1000,), (0.0,)) for a in archs
    ]
    built = Built(
        PRESET, "quick", to_dict(plan.names), plan.space.spec, plan.space.size(), "random",
        {"cells": 30, "seeds": 1, "best": 0, "repeats": 0, "more_seeds": 1, "seed": 0}, "accuracy",
        to_dict(plan.settings), {"enas": "0"}, {}, "2026-11-28", tuple(rows),
    )  # fmt: skip
    return built.write(tmp_path_factory.mktemp("table") / "table.json.gz")


def few_images(name: str, folder: Path | None = None, **settings: Any) -> Any:
    return load(name, folder, **{**settings, "train": 200, "validation": 100})


@pytest.fixture(scope="module")
def heard(table: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What was heard while all judges were asked; the last is what came out."""
    wanted = JudgesWanted(cells=14, passes=(1,), batches=1, steps=(1,), teachers=(8, 64))
    heard: list[object] = []
    out = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("enas.runs.plan.load_data", few_images)
        found = judge(PRESET, table, wanted, out, heard.append)
    assert len(json.loads((out / "judges.json").read_text())["judged"]) == 11
    return [*heard, found]


@pytest.mark.slow
def test_every_judge_is_held_against_the_table(heard: list[object]) -> None:
    found = heard[-1]
    assert isinstance(found, Judges)
    names = [one.judge for one in found.judged]
    assert names == [
        *("parameters", "macs", "zico", "expressivity", "progressivity"),
        *("shared, 1 passes, accuracy", "shared, 1 passes, loss"),
        *("shared, 1 passes, accuracy, recalibrated", "shared, 1 passes, loss, recalibrated"),
        *("short training, 1 steps", "correction by 8 of these"),  # 64 are more than there are
    ]
    first = found.judged[0]
    assert [first.ranking.kendall.value, first.regret] == [pytest.approx(1.0), pytest.approx(0.0)]
    assert first.ranking.pick == pytest.approx(found.best)
    assert all(one.regret >= 0 and one.each >= 0 for one in found.judged)
    assert found.judged[5].before > found.judged[0].before == 0
    assert found.led == 8
    assert all(one.led is not None for one in found.judged)
    assert [one for one in heard if isinstance(one, JudgeFigures)] == list(found.judged)
    *asked, short, correction = found.judged
    assert correction.each == pytest.approx(sum(one.each for one in asked)), "it asks them all"
    shared = max(one.before for one in asked)
    assert correction.before == pytest.approx(shared + 8 * (correction.each + short.each))


@pytest.fixture
def court(table: Path) -> Court:
    """A court of few images, whose shared weights are not trained."""
    sample, plan = Sample.of(PRESET, table, JudgesWanted(cells=14, led=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("enas.runs.plan.load_data", few_images)
        court = Court(sample, plan, JudgesWanted(cells=14, led=8, batches=1), lambda _: None)
        court.weights.append(Weights(1, plan.search().supernet, 0.0))
    return court


def test_shared_weights_lead_to_those_that_they_prefer(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the reward were the number of parameters, which is the truth of this table."""
    sample = court.sample
    assert len({*sample.archs, *sample.others}) == 14 + 16, "none is asked for twice"
    monkeypatch.setattr(court, "_shared_reward", lambda _, __, arch, ___: court.plan.cost(arch).parameters)
    court._lead()
    assert list(court.led.values()) == sorted(sample.others.values(), reverse=True)[:8]
    free = next(iter(court._free()))
    assert free.led is not None
    assert (free.judge, free.led.value) == ("parameters", pytest.approx(1.0))


def test_fewer_than_six_are_no_ranking(court: Court) -> None:
    court.wanted = dataclasses.replace(court.wanted, led=5)
    court._lead()
    assert not court.led


def test_recalibrated_rewards_leave_the_shared_weights(court: Court) -> None:
    supernet, arch, task = court.weights[0].supernet, court.sample.archs[0], court.task
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    rewards = {court._recalibrated_reward(supernet, task, arch), court._shared_reward(supernet, task, arch)}
    assert len(rewards) == 2
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


@pytest.mark.slow
def test_the_command_shows_a_table(
    heard: list[object], table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("enas.grading.judges.judge", lambda *_: heard[-1])
    assert main(f"judges {PRESET} --table {table}".split()) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("parameters", "recalibrated", "correction", "14 architectures", "tau of 8 more"))
    assert "…" not in out  # every figure is whole, however short lines are


def test_figures_that_are_better_where_they_are_lower_are_shown_as_they_are() -> None:
    """As in a table of perplexities: a ranker that is right picks the lowest."""
    sample = Sample("t", (), tuple(-60.0 - i for i in range(12)), sign=-1.0)
    court = Court.__new__(Court)
    court.sample, court.wanted, court.led = sample, JudgesWanted(cells=12), {}
    found = court._held("right", sample.truth, 0.0, 0.0)
    assert (found.ranking.pick, found.ranking.top_five, found.regret) == (60.0, 62.0, 0.0)
    assert found.ranking.kendall.value == pytest.approx(1.0)
    wrong = court._held("wrong", [-true for true in sample.truth], 0.0, 0.0)
    assert (wrong.ranking.pick, wrong.regret) == (71.0, 11.0)
    assert (sample.best, sample.mean) == (60.0, 65.5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("judges digits-micro --table {}", "another space"),
        ("judges scattered-micro --table {} --cells 3", "at least 12"),
        ("judges scattered-micro --table {} --steps 0", "at least 1"),
        ("judges scattered-micro --table nothing.csv", "published table"),
    ],
)
def test_a_wrong_line_is_said(line: str, words: str, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.format(table).split()) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_defaults_are_within_their_ranges() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        dataclasses.replace(JudgesWanted(), passes=(0,))
