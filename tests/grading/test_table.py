"""Tables of one's own: variance components with a known answer, a table that survives its file and
a kill, and what `enas oracle` makes of it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from enas.cli.main import main
from enas.grading import table as tables
from enas.grading.asked import TableWanted
from enas.grading.oracle import trained_alike
from enas.grading.table import COMMITTED, Built, Row, answered, answers_of, build, components, drawn, located, summary
from enas.runs.plan import Plan
from enas.runs.planning import make_plan
from enas.runs.results import Result
from enas.runs.retrain import Job
from enas.runs.settings import to_dict
from enas.spaces.architecture import Architecture
from enas.spaces.registry import SPACES

SMALL_SPACES = [(name, settings) for name, entry in SPACES.items() for settings in entry.small]


def small_plan(*ops: str) -> Plan:
    """Cells of one node: 4 x 4 ways to choose inputs, and with two ops as many to choose these."""
    plan = make_plan("digits-micro", device="cpu", threads=1)
    one_node = dataclasses.replace(plan.settings.space, num_nodes=1, ops=ops or ("max_pool_3x3", "identity"))
    return plan.with_settings(space=one_node)


def made_up(arch: Architecture, seed: int) -> float:
    """An accuracy: half of it for each pool, and a little for the seed."""
    return 0.5 + 0.05 * list(arch.choices.values()).count("max_pool_3x3") + 0.001 * ((7 * seed) % 5)


class Trainer:
    """In the place of `retrain_many`: results at once, `diverged` by (place, seed), and a stop
    after `most` trainings."""

    def __init__(self, most: int = 10**6, diverged: Sequence[str] = ()):
        self.most, self.diverged, self.jobs = most, diverged, list[Job]()

    def __call__(
        self, plan: Plan, trainings: Sequence[Job], *, finished: Callable[[Job, Result], None], **others: object
    ) -> tuple[list[Result | None], str | None]:
        for job in trainings:
            if len(self.jobs) == self.most:
                return [], "interrupted"
            assert isinstance(job.model, Architecture)
            job.folder.mkdir(parents=True)
            accuracy = made_up(job.model, job.seed)
            figures = {"test_accuracy": accuracy, "validation_accuracy": accuracy - 0.1}
            lost = job.model.id in self.diverged
            finished(job, Result({}, diverged="the loss is nan") if lost else Result(figures, parameters=len(self.jobs)))
            self.jobs.append(job)
        return [], None


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    def install(*args: Any, **kwargs: Any) -> Trainer:
        made = Trainer(*args, **kwargs)
        monkeypatch.setattr(tables, "retrain_many", made)
        return made

    return install


@pytest.mark.parametrize(("name", "settings"), SMALL_SPACES)
def test_a_row_says_its_architecture(name: str, settings: Any) -> None:
    space = SPACES[name].make(settings)
    for _, arch in zip(range(300), space.enumerate(), strict=False):
        answers = json.loads(json.dumps(answers_of(space, arch)))
        assert answered(space, answers) == arch
    with pytest.raises(ValueError, match="has an answer for each decision"):
        answered(space, answers[:-1])
    with pytest.raises(ValueError, match="left over are"):
        answered(space, [*answers, "more"])


def test_components_are_those_that_figures_were_made_with() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(80, 3, size=4000)
    one = [tuple(row) for row in truth[:, None] + rng.normal(0, 2, size=(4000, 2))]
    found = components(one, one)
    assert (found.signal, found.noise) == pytest.approx((3, 2), rel=0.05)
    assert found.ratio == pytest.approx(1.5, rel=0.1)
    # a seed each, and noise from some with two
    single = components([row[:1] for row in one], one[:500])
    assert (single.signal, single.noise) == pytest.approx((3, 2), rel=0.1)
    assert math.isnan(components([row[:1] for row in one], [row[:1] for row in one]).noise)
    equal = components([(1.0, 3.0), (3.0, 1.0)], [(1.0, 3.0), (3.0, None)])
    assert (equal.signal, equal.noise) == (0, pytest.approx(2**0.5)), "a training that diverged is left out"


def test_all_of_a_small_space_and_a_growing_sample_of_a_large_one() -> None:
    plan = small_plan()
    assert plan.space.size() == 256
    kind, archs = drawn(plan.space, TableWanted(cells=256))
    assert (kind, len(set(archs))) == ("all", 256)
    kind, some = drawn(plan.space, TableWanted(cells=200, seed=1))
    assert (kind, len(set(some))) == ("random", 200)
    assert some[:50] == drawn(plan.space, TableWanted(cells=50, seed=1))[1], "a larger table begins with a smaller one"
    assert some[:50] != drawn(plan.space, TableWanted(cells=50, seed=2))[1]


def test_a_table_is_built_goes_on_after_a_stop_and_survives_its_file(
    tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    plan, wanted = small_plan(), TableWanted(cells=12, best=3, repeats=2, more_seeds=3)
    out, work = tmp_path / "t.json.gz", tmp_path / "t.json.gz.work"
    first = trainer(most=5)
    assert build(plan, wanted, out) is None
    assert not out.exists()
    assert [path.name for path in work.iterdir() if path.is_dir()] == [], "what is done is a line"
    with open(work / "trainings.jsonl", "ab") as file:
        file.write(b'{"id": "torn')  # as a crash leaves it
    second = trainer()
    built = build(plan, wanted, out)
    assert built is not None
    done = [(job.model, job.seed) for job in (*first.jobs, *second.jobs)]
    assert len(set(done)) == len(done), "nothing is done twice"
    archs = drawn(plan.space, wanted)[1]
    assert built.architectures() == tuple(archs)
    best = set(sorted(archs, key=lambda arch: -made_up(arch, 0))[:3])
    assert [row.seeds for row in built.rows] == [3 if i < 2 or arch in best else 1 for i, arch in enumerate(archs)]
    assert built.rows[0].test == tuple(round(100 * made_up(archs[0], seed), 4) for seed in range(3))
    read = Built.read(out)
    assert read == Built.from_json(json.loads(json.dumps(built.to_json())))  # with lists for tuples
    assert read.write(tmp_path / "again.json.gz").read_bytes() == out.read_bytes()
    assert gzip.decompress(out.read_bytes()).count(b"\n") == 12 + 2, "a line per architecture"
    third = trainer()
    grown = build(plan, dataclasses.replace(wanted, cells=14), out)
    assert grown is not None
    assert {job.model for job in third.jobs if job.seed == 0} == set(drawn(plan.space, TableWanted(cells=14))[1][12:])
    with pytest.raises(ValueError, match="holds the trainings of a table with other settings"):
        build(plan.with_settings(retrain=dataclasses.replace(plan.settings.retrain, epochs=1)), wanted, out)


def test_a_line_that_a_crash_cut_short_does_not_spoil_the_next(tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    plan, wanted, out = small_plan(), TableWanted(cells=8, repeats=0), tmp_path / "t.json"
    trainer(most=3)
    build(plan, wanted, out)
    lines = tmp_path / "t.json.work" / "trainings.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    trainer()
    build(plan, wanted, out)
    assert trainer().jobs == []
    again = trainer()
    build(plan, wanted, out)
    assert again.jobs == [], "every line can be read"


def test_diverged_trainings_are_the_worst(tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    plan, wanted = small_plan(), TableWanted(cells=8, repeats=2, more_seeds=2)
    archs = drawn(plan.space, wanted)[1]
    trainer(diverged=[archs[0].id])
    built = build(plan, wanted, tmp_path / "t.json")
    assert built is not None
    assert built.rows[0].test == (None, None)
    assert built.figures()[0] == min(built.figures()[1:])
    assert summary(built).diverged == 2


def a_table(plan: Plan, rows: Sequence[Row], wanted: TableWanted, metric: str = "accuracy") -> Built:
    return Built(
        "digits-micro", "quick", to_dict(plan.names), plan.space.spec, plan.space.size(), "random", to_dict(wanted), metric,
        json.loads(json.dumps(to_dict(plan.settings))), {"enas": "0"}, {"cpu": "a"}, "2026-11-28", tuple(rows),
    )  # fmt: skip


def of_figures(plan: Plan, figures: Sequence[Sequence[float]], wanted: TableWanted, metric: str = "accuracy") -> Built:
    archs = drawn(plan.space, TableWanted(cells=len(figures)))[1]
    rows = [
        Row(answers_of(plan.space, arch), 10 * i, tuple(test), tuple(test))
        for i, (arch, test) in enumerate(zip(archs, figures, strict=True))
    ]
    return a_table(plan, rows, wanted, metric)


def test_a_summary_says_what_is_known() -> None:
    plan = small_plan()
    built = of_figures(plan, [(float(i),) for i in range(1, 10)] + [(9.5, 8.5)], TableWanted(cells=10, repeats=10))
    found = summary(built)
    assert (found.best, found.best_seeds, found.worst) == (9.0, 2, 1.0)
    assert found.parameters.value == pytest.approx(44 / 44.5, abs=0.02)  # one tie
    assert found.every.noise == pytest.approx(0.5**0.5)
    means = [*map(float, range(1, 10)), 9.0]
    expected = np.mean([max(means[i], means[j]) for i in range(10) for j in range(i)])
    assert tables.best_of(sorted(means, reverse=True), 2) == pytest.approx(expected)
    assert found.best_of[8] > found.best_of[1] == pytest.approx(np.mean(means))
    text = of_figures(plan, [(100.0 - i,) for i in range(10)], TableWanted(cells=10, repeats=0), "perplexity")
    assert (summary(text).best, summary(text).worst, summary(text).parameters.value) == (91.0, 100.0, pytest.approx(1))
    with pytest.raises(ValueError, match="from 6 architectures on; this one has 5"):
        summary(dataclasses.replace(built, rows=built.rows[:5]))


def test_noise_is_not_measured_by_the_figure_that_chose() -> None:
    """The best of many equal architectures: their first figures lie high, which is luck."""
    rng = np.random.default_rng(0)
    figures = np.sort(rng.normal(0, 1, size=(400, 1)), axis=0)[::-1]
    rows = [
        (float(f[0]), *map(float, rng.normal(0, 1, size=2))) if i < 150 else (float(f[0]),) for i, f in enumerate(figures)
    ]
    plan = make_plan("digits-micro", device="cpu")
    found = summary(of_figures(plan, rows, TableWanted(cells=400, best=150, repeats=0)))
    assert found.every.noise == pytest.approx(1, abs=0.15)


# ------------------------------------------------------------------------------------ by the oracle
def test_strategies_are_played_on_a_whole_space_and_refused_on_a_sample(
    tmp_path: Path, trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer()
    plan, whole, sample = small_plan("identity"), tmp_path / "whole.json", tmp_path / "sample.json"
    build(plan, TableWanted(cells=16, repeats=0), whole)
    build(plan, TableWanted(cells=10, repeats=0), sample)
    options = ["--queries", "5", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["oracle", "digits-micro", "--table", str(whole), *options]) == 0
    assert "test_accuracy of the best by validation_accuracy so far" in capsys.readouterr().out
    for args, says in (
        (["digits-micro", "--table", str(sample)], "has 10 of 16 architectures: hold a run against it"),
        (["nasbench201", "--table", str(whole)], "is a table of preset digits-micro"),
        (["digits-micro", "--table", str(whole), "--score", "loss"], "is one of test_accuracy, validation_accuracy, par"),
    ):
        assert main(["oracle", *args, *options]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert says in error


def test_a_column_without_figures_is_named_before_it_is_played(
    tmp_path: Path, trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Trainings on validation data too have no validation figures."""
    trainer()
    whole = tmp_path / "whole.json"
    built = build(small_plan("identity"), TableWanted(cells=16, repeats=0), whole)
    assert built is not None
    dataclasses.replace(built, rows=[dataclasses.replace(row, validation=(None,)) for row in built.rows]).write(whole)
    options = ["--table", str(whole), "--queries", "5", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["oracle", "digits-micro", *options]) == 2
    assert "has no figures of 'validation_accuracy': name another column" in capsys.readouterr().err
    assert main(["oracle", "digits-micro", *options, "--reward", "test_accuracy"]) == 0


def test_show_and_bad_input(tmp_path: Path, trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]) -> None:
    trainer()
    file = tmp_path / "t.json.gz"
    build(small_plan(), TableWanted(cells=20, best=4, repeats=6), file)
    assert main(["table", "show", str(file)]) == 0
    said = capsys.readouterr().out
    for part in ("20 of 256 architectures of conv_micro, drawn at random by seed 0", "signal (between architectures)",
                 "10 with 1 seed, 10 with 3 seeds", "Kendall's tau of the number of parameters", "made 2"):  # fmt: skip
        assert part in said or part.startswith("10 with"), said
    (tmp_path / "other.json").write_text("{}")
    damaged = tmp_path / "damaged.json"
    damaged.write_text(tables.MARK + "}")
    for args, says in (
        (["show", str(tmp_path / "other.json")], "is a file that `enas table build` wrote"),
        (["show", str(damaged)], "is damaged, or enas did not write it"),
        (["build", "digits-micro"], "name it with --out"),
        (["build", "digits", "--out", str(file)], "a preset is one of"),
        (["build", "digits-micro", "--cells", "0", "--out", str(file)], "cells is at least 1; got 0"),
    ):
        assert main(["table", *args]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1


def test_a_small_table_is_built_without_an_error(
    tmp_path: Path, trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Four architectures, such as all of a small space, are too few to be summed up."""
    trainer()
    file = tmp_path / "t.json"
    assert main(["table", "build", "digits-micro", "--cells", "4", "--repeats", "0", "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert "digits-micro, recipe quick: 4 of" in said
    assert "fewer than 6 architectures are not summed up" in said
    assert f"wrote {file}" in said
    assert (len(Built.read(file).rows), Built.read(file).size) == (4, make_plan("digits-micro").space.size())


# ------------------------------------------------------------------------ those that come with enas
def test_committed_tables_are_small_of_presets_and_have_more_signal_than_noise() -> None:
    files = sorted(COMMITTED.iterdir())
    assert sum(file.stat().st_size for file in files) < 2_000_000
    for file in files:
        built = Built.read(file)
        assert file.name == f"{built.preset}.json.gz"
        assert built.architectures()[0].space == make_plan(built.preset).space.spec
        assert len(set(built.architectures())) == len(built.rows) >= 300
        best = sorted(built.rows, key=lambda row: built.figure.cost(np.mean(row.test)))[:10]  # type: ignore[arg-type]
        assert min(row.seeds for row in best) >= 3, "the best of single trainings is in part luck"
        assert summary(built).every.ratio >= 2


def test_a_committed_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["table", "show", "scattered-micro"]) == 0
    assert "600 of 84,934,656 architectures" in capsys.readouterr().out
    assert located(Path("nowhere")) == Path("nowhere")
    Path("scattered-micro").write_text("a file of the user's own")
    assert located(Path("scattered-micro")) == Path("scattered-micro")


def test_trainings_of_before_a_setting_existed_are_by_the_same_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan("digits-micro")
    settings = json.loads(json.dumps(to_dict(plan.settings)))
    arch = SimpleNamespace(id="best")
    monkeypatch.setattr("enas.grading.oracle.Best.find", lambda folder: SimpleNamespace(architecture=arch))
    run = SimpleNamespace(path=Path(), plan=plan)

    def alike(recipe: Any, table: Any) -> bool:
        compared = SimpleNamespace(derived_id="best", derived=(97.0,), recipe=recipe)
        monkeypatch.setattr("enas.grading.oracle.Compared.find", lambda folder: compared)
        return bool(trained_alike(run, SimpleNamespace(settings=table)))  # type: ignore[arg-type]

    before = json.loads(json.dumps(settings))
    del before["retrain"]["compute"], before["retrain"]["network"]["computation"], before["data"]["workers"]
    assert alike(settings["retrain"], settings)
    assert alike(settings["retrain"], before)
    assert alike(before["retrain"], settings)
    assert not alike({**settings["retrain"], "epochs": 99}, before)
    assert not alike(settings["retrain"], {**before, "data": {**before["data"], "train": 10}})
    assert not alike({**settings["retrain"], "unknown": 1}, before)
