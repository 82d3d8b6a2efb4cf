"""The oracle: curves and intervals against exact answers, rank correlations with a known answer,
the command itself."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from enas import api
from enas.cli.main import main
from enas.cli.oracle import _show_grade
from enas.grading.opened import OpenedRun
from enas.grading.oracle import Table, Truth, play, read_table
from enas.grading.ranking import Grade, Place, _rankings, grade
from enas.procedures.statistics import coefficient, difference, interval, kendall, kendalls, rank, spearmans
from enas.runs.planning import make_plan
from enas.runs.presets import registry as presets
from enas.runs.search import search_plan
from enas.spaces.architecture import Architecture
from enas.spaces.nasbench201 import NasBench201Settings, from_string, nasbench201, to_string
from enas.spaces.nasbench_macro import NasBenchMacroSettings, nasbench_macro
from enas.spaces.nasbench_macro import from_string as macro_arch
from enas.spaces.nasbench_macro import to_string as macro_string
from enas.spaces.registry import SPACES
from enas.strategies.random_search import RandomSearch
from enas.tasks.metrics import METRICS

SPACE = nasbench201()
# of cifar10_test_ep200
KNOWN = {"mean": 87.06, "median": 90.75, "99th percentile": 93.77, "best": 94.37}


@pytest.fixture
def table_file(data_dir: Path) -> Path:
    return data_dir / "nasbench" / "nasbench201.csv.gz"


@pytest.mark.slow
def test_the_known_values_of_the_table(table_file: Path) -> None:
    values = np.array(list(read_table(table_file, SPACE, from_string).column("cifar10_test_ep200").values()))
    found = [values.mean(), np.median(values), np.percentile(values, 99), values.max()]
    assert [float(v) for v in found] == pytest.approx(list(KNOWN.values()), abs=0.006)


@pytest.mark.slow
def test_random_search_that_trains(table_file: Path) -> None:
    """Its published means: 92.6 after 10 cells of 12 epochs, 93.5 after 50, 93.7 after 100."""
    table = read_table(table_file, SPACE, from_string)
    reward, score = table.column("cifar10_valid_ep12"), table.column("cifar10_test_ep200")
    played = play(lambda seed: RandomSearch(SPACE, seed=seed), "random", reward, score, 100, 60, 10)
    scores = np.array([p.scores for p in played])
    for queries, expected in ((10, 92.6), (50, 93.5), (100, 93.7)):
        found = interval(scores[:, queries - 1])
        assert abs(found.mean - expected) < 2 * found.half_width + 0.05


class Listed:
    """A strategy that asks for what it is given, and remembers what it is told."""

    learns = True

    def __init__(self, archs: Sequence[Architecture]):
        self.archs, self.told = list(archs), []  # type: ignore[var-annotated]

    def ask(self, n: int) -> list[Architecture]:
        out, self.archs = self.archs[:n], self.archs[n:]
        return out

    def tell(self, archs: Sequence[Architecture], rewards: Sequence[float]) -> dict[str, float]:
        self.told += zip(archs, rewards, strict=True)
        return {}


def test_the_score_is_that_of_the_best_by_reward_so_far() -> None:
    archs = [SPACE.sample(random.Random(seed)) for seed in range(5)]
    reward = dict(zip(archs, [10.0, 30.0, 20.0, 30.0, 40.0], strict=True))
    score = dict(zip(archs, [1.0, 2.0, 9.0, 8.0, 3.0], strict=True))
    strategy = Listed([*archs, archs[0]])
    (played,) = play(lambda seed: strategy, "listed", reward, score, 6, 1, 4)  # type: ignore[arg-type,return-value]
    assert played.scores == [1.0, 2.0, 2.0, 2.0, 3.0, 3.0], "what is only as good as the best does not replace it"
    assert strategy.told == [(arch, reward[arch] / 100) for arch in (*archs, archs[0])]


def test_intervals_hold_what_they_say() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 2.0, size=(400, 8))
    held = [abs(interval(row).mean - 3.0) <= interval(row).half_width for row in draws]
    assert 0.92 < np.mean(held) < 0.98
    same = [difference(row[:4], row[4:]).excludes_zero for row in draws]
    assert np.mean(same) < 0.08
    apart = [difference(a, b + 4.0) for a, b in zip(draws, rng.normal(3.0, 2.0, size=(400, 8)), strict=True)]
    assert np.mean([gap.excludes_zero for gap in apart]) > 0.8, "two standard deviations, eight a side"
    assert np.mean([gap.mean for gap in apart]) == pytest.approx(-4.0, abs=0.2)
    with pytest.raises(ValueError, match="at least 2 values; got 1"):
        interval([1.0])


def test_rank_correlations_are_right() -> None:
    """Against the definition, counted pair by pair, ties included; and where the answer is
    known."""
    rng = random.Random(0)
    a, b = ([rng.randrange(6) for _ in range(12)] for _ in range(2))
    pairs = [(i, j) for i in range(12) for j in range(i)]
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    n0 = [sum(s[k] != 0 for s in signs) for k in (0, 1)]
    by_hand = sum(x * y for x, y in signs) / math.sqrt(n0[0] * n0[1])
    assert kendall(np.array(a), np.array(b)) == pytest.approx(by_hand)
    up = np.arange(10.0)
    once = np.ones((1, 10))
    for other, value in ((up**3, 1), (-up, -1), (np.ones(10), 0), (np.where(up > 8, np.inf, up), 1)):
        assert kendalls(up, other, once) == spearmans(up, other, once) == pytest.approx(value)


@pytest.mark.parametrize(("ours", "theirs"), [(kendalls, stats.kendalltau), (spearmans, stats.spearmanr)])
def test_samples_that_are_counted_are_samples_that_are_drawn(ours: Any, theirs: Any) -> None:
    """With ties, with more pairs than a block has rows, and in samples that lack some pairs."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(40, size=600).astype(float), rng.normal(size=600)
    b += a / 40
    few = np.array([np.bincount(rng.integers(9, size=9), minlength=9) for _ in range(400)])
    assert all(abs(ours(side * a[:9], a[:9], few)).max() <= 1 for side in (1, -1)), "rounding leaves nothing outside"
    drawn = rng.integers(600, size=(5, 600))
    times = np.array([np.bincount(index, minlength=600) for index in drawn])
    assert ours(a, b, times) == pytest.approx([theirs(a[index], b[index]).statistic for index in drawn], abs=1e-12)
    found = coefficient(ours, a, b, seed=3, resamples=5)
    drawn = np.random.default_rng(3).integers(600, size=(5, 600))
    values = [theirs(a[index], b[index]).statistic for index in drawn]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    assert found.value == pytest.approx(theirs(a, b).statistic)


def test_among_equal_scores_chance_picks() -> None:
    """A ranker that says the same of all picks an average architecture, not the first one."""
    truth = [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 2.0]
    same = rank("same", [7.0] * 8, truth)
    assert (same.pick, same.top_five) == (pytest.approx(4.0), pytest.approx(4.0))
    two = rank("two", [1.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, math.nan], truth)
    assert (two.pick, two.top_five) == (pytest.approx(1.5), pytest.approx((9 + 1 + 2 + 2 * 4.5) / 5))


def test_pairs_of_other_groups_do_not_count() -> None:
    """With more pairs than a block has rows, and samples: by hand, pair by pair."""
    rng = np.random.default_rng(2)
    a, b, groups = rng.normal(size=600), rng.normal(size=600), rng.integers(3, size=600)
    alike = np.arange(600)[:, None] > np.arange(600)
    alike &= groups[:, None] == groups
    signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
    assert kendalls(a, b, np.ones((1, 600)), groups)[0] == pytest.approx(signs[alike].mean())
    assert kendalls(a, b, np.ones((1, 600)), np.arange(600))[0] == 0


@pytest.mark.slow
def test_intervals_of_rank_correlations() -> None:
    """Of independent scores they hold zero about as often as they say; of equal ones they are
    one."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(40):
        found = coefficient(kendalls, rng.normal(size=30), rng.normal(size=30), resamples=200)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) > 0.85
    x = rng.normal(size=20)
    assert coefficient(spearmans, x, x, resamples=50).low == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 3 pairs; got 2 and 2"):
        coefficient(kendalls, x[:2], x[:2])


@pytest.mark.parametrize(
    ("metric", "figures", "pick", "five"),
    [
        ("score", [-60.0, -50.0, -40.0, -30.0, -20.0, -10.0], -10.0, -30.0),
        ("perplexity", [60.0, 50.0, 40.0, 30.0, 20.0, 10.0], 10.0, 30.0),
    ],
)
def test_a_pick_is_a_figure_as_it_is_shown(metric: str, figures: list[float], pick: float, five: float) -> None:
    """Rewards of one's own may be negative, such as the negative of a loss."""
    (row,) = _rankings({"a ranker": range(6)}, figures, METRICS[metric])
    assert (row.pick, row.top_five, row.kendall.value) == (pick, five, 1.0)


def test_a_ranking_tells_its_pick() -> None:
    truth = [90.0, 91.0, 92.0, 93.0, 94.0, 80.0, 81.0, 82.0]
    perfect, wrong = rank("truth", truth, truth), rank("against it", [-t for t in truth], truth)
    assert (perfect.pick, perfect.top_five) == (94.0, 92.0)
    assert [perfect.kendall.value, perfect.kendall_better_half.value] == pytest.approx([1, 1])
    assert (wrong.pick, wrong.kendall.value) == (80.0, pytest.approx(-1))
    only_in_general = rank("general", [5, 5, 5, 5, 5, 1, 1, 1], truth)
    assert only_in_general.kendall.value > 0.5
    assert only_in_general.kendall_better_half.value == 0
    with pytest.raises(ValueError, match="at least 6 architectures; got 5"):
        rank("few", truth[:5], truth[:5])


@pytest.mark.slow
def test_the_command(table_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--queries", "60", "--seeds", "6", "--out", str(tmp_path)]
    assert main(["oracle", "nasbench201", "--table", str(table_file), "--table-only", *options]) == 0
    said = capsys.readouterr().out
    assert "verdict: reinforce is" in said
    assert "the best of all has 94.37 %" in said
    record = json.loads((tmp_path / "oracle.json").read_text())
    assert set(record["strategies"]) == {"reinforce", "evolution", "random"}
    assert record["strategies"]["random"]["above_uniform"] is None
    assert "<svg" in (tmp_path / "oracle.svg").read_text()


SMALL = nasbench201(NasBench201Settings(num_nodes=2))


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    rows = [{"arch": to_string(arch), "accuracy": str(i)} for i, arch in enumerate(SMALL.enumerate())]
    for name in ("t.csv", "t.csv.gz"):
        table = read_table(written(tmp_path / name, rows), SMALL, from_string)
        assert list(table.column("accuracy").values()) == [0.0, 1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match=r"a column of 't\.csv\.gz' is one of accuracy; got 'speed'"):
        table.column("speed")


def test_bad_tables_say_what_is_wrong(tmp_path: Path) -> None:
    rows = [{"arch": to_string(arch), "accuracy": str(i)} for i, arch in enumerate(SMALL.enumerate())]
    missing = tmp_path / "none.csv"
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(b"arch,a")[:-9])
    cases = {
        "there is none at": missing,
        "not a CSV file that can be read": torn,
        "has a column 'arch'": written(tmp_path / "a.csv", [{"a": "1"}]),
        "each of the 5 architectures; '.*' has 4": written(tmp_path / "b.csv", rows[:4]),
        "columns of a table are numbers": written(tmp_path / "c.csv", [*rows[:4], rows[4] | {"accuracy": "good"}]),
    }
    for says, path in cases.items():
        with pytest.raises(ValueError, match=says):
            read_table(path, SMALL, from_string)


def test_a_table_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    rows = [{"arch": to_string(arch), "accuracy": str(i)} for i, arch in enumerate(SMALL.enumerate())]
    path = written(tmp_path / "t.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_table(path, SMALL, from_string).columns["accuracy"][1] == 1.0


@pytest.mark.parametrize("value", ["nan", "inf", "9" * 400, "1e999"])
def test_a_figure_that_is_not_finite_is_refused(value: str, tmp_path: Path) -> None:
    rows = [{"arch": to_string(arch), "accuracy": value} for arch in SMALL.enumerate()]
    with pytest.raises(ValueError, match=r"columns of a table are (finite )?numbers"):
        read_table(written(tmp_path / "t.csv", rows), SMALL, from_string)


def test_shares_are_not_taken_for_percent(tmp_path: Path) -> None:
    archs = tuple(SMALL.enumerate())
    shares = Table("t", archs, {"accuracy": tuple(i / len(archs) for i in range(len(archs)))})
    truth = Truth(shares, SMALL, "p", "r", "accuracy", "accuracy", "", None)
    with pytest.raises(ValueError, match=r"in percent; the largest .accuracy. of .t. is 0\.8: it seems to hold"):
        truth._checked()


MACRO = nasbench_macro(NasBenchMacroSettings(num_layers=2))
CHAINS = {macro_string(arch): {"acc": [10 + i, 20 + i], "mean": 15 + i} for i, arch in enumerate(MACRO.enumerate())}


def test_a_table_in_json(tmp_path: Path) -> None:
    plain, packed = tmp_path / "t.json", tmp_path / "t.json.gz"
    plain.write_text(json.dumps(CHAINS))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        table = read_table(path, MACRO, macro_arch, "json")
        assert list(table.columns) == ["acc_1", "acc_2", "mean"], "a list is a column for each of its values"
        assert table.column("acc_2") == {macro_arch(text): row["acc"][1] for text, row in CHAINS.items()}  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("arch,acc\n00,1\n", r"is not a JSON file that can be read"),
        (json.dumps([1, 2]), "is a JSON object that has an object of numbers for each architecture"),
        (json.dumps({}), "is a JSON object that has"),
        (json.dumps({"00": 1.0}), "is a JSON object that has"),
        (json.dumps(dict(list(CHAINS.items())[:8])), "each of the 9 architectures; '.*' has 8"),
        (json.dumps(CHAINS | {"11": {"mean": 1}}), r"has the same columns; in '.*' one lacks 'acc_1'"),
        (json.dumps(CHAINS | {"11": {"acc": ["a", 1], "mean": 1}}), "columns of a table are numbers"),
        (json.dumps(CHAINS | {"13": {}}), "a digit per layer"),
        (json.dumps(CHAINS | {"111": {}}), "this needs an architecture of space nasbench_macro"),
    ],
)
def test_bad_tables_in_json_say_what_is_wrong(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=says):
        read_table(path, MACRO, macro_arch, "json")


def macro_table(path: Path) -> Path:
    """Of all 6,561 chains, made up: the more of the last op the better."""
    made_up = {
        "".join(digits): {"test_acc": [float(sum(map(int, digits)))] * 3, "mean_acc": 50.0 + digits.count("2")}
        for digits in itertools.product("012", repeat=8)
    }
    path.write_text(json.dumps(made_up))
    return path


@pytest.mark.slow
def test_each_benchmark_is_read_its_own_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its space alone the command knows file, columns, and what to say of them; another
    benchmark's file is one line."""
    table = macro_table(tmp_path / "macro.json")
    options = ["--queries", "4", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["oracle", "nasbench_macro", "--table", str(table), *options]) == 0
    said = capsys.readouterr().out
    assert said.startswith("note: NAS-Bench-Macro publishes test accuracy only")
    assert "mean_acc of the best by test_acc_1 so far" in said
    assert "the best of all has 58.00 %" in said
    record = json.loads((tmp_path / "oracle.json").read_text())
    assert (record["reward"], record["score"]) == ("test_acc_1", "mean_acc")
    assert "test accuracy only" in record["note"]
    other = written(tmp_path / "201.csv", [{"arch": "|none~0|", "cifar10_valid_ep12": "1"}])
    for space, wrong, says in (
        ("nasbench_macro", other, "201.csv' is not a JSON file that can be read"),
        ("nasbench201", table, "a table has a column 'arch'"),
    ):
        assert main(["oracle", space, "--table", str(wrong), *options]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert main(["oracle", "nasbench_macro", "--table", str(table), "--score", "loss", *options]) == 2
    assert "is one of test_acc_1, test_acc_2, test_acc_3, mean_acc; got 'loss'" in capsys.readouterr().err


def test_every_benchmark_has_what_the_command_needs() -> None:
    for name, entry in SPACES.items():
        if entry.benchmark:
            assert entry.make(entry.settings()).size() < 100_000, "a table of all is no more than that"
            assert "quick" in presets.PRESETS[presets.preset_for(name)].recipes


@pytest.mark.slow
def test_a_search_in_another_benchmark_is_graded_by_its_own_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On digits, by the whole command: the run says which space it is, so which table is read."""
    run = tmp_path / "run"
    small = [
        "--network.filters", "4", "--network.head", "16", "--network.stem-stride", "1",
        "--retrain.network.stem-stride", "1", "--data.dataset", "digits", "--data.train", "60",
        "--data.validation", "60", "--task.batch-size", "20", "--task.reward-batch", "20",
        "--search.epochs", "2", "--search.warmup-epochs", "1", "--search.controller-steps", "2",
        "--search.architectures", "3", "--derive.samples", "5", "--derive.keep", "2", "--derive.uniform", "0",
    ]  # fmt: skip
    assert main(["search", "nasbench_macro", "--out", str(run), *small]) == 0
    api.derive(run)
    capsys.readouterr()
    table = macro_table(tmp_path / "macro.json")
    assert main(["oracle", str(run), "--table", str(table), "--cells", "8"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("note: NAS-Bench-Macro publishes test accuracy only")
    assert "the derived architecture has 5" in said
    record = json.loads((run / "oracle.json").read_text())
    # ops
    assert (record["space_size"], record["score"], len(record["rankings"])) == (6_561, "mean_acc", 5 + 3)


def test_a_run_of_a_space_without_a_table_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(api.make_plan("digits-micro", device="cpu").to_dict("search")))
    assert main(["oracle", str(tmp_path), "--table", "any.csv"]) == 2
    error = capsys.readouterr().err
    assert "there are tables of nasbench201 and nasbench_macro" in error
    assert "searches conv_micro" in error


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "takes nasbench201, nasbench_macro or the folder of a run; got 'nowhere'"),
        (["nasbench201", "--seeds", "1"], "seeds is at least 2; got 1"),
        (["nasbench201"], "there is none at"),
        (["nasbench_macro"], "there is none at"),
    ],
)
def test_bad_input_is_one_line(args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oracle", *args, "--table", str(tmp_path / "none.csv")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("seeds", "of"), [(0, 4), (2, 5)])
def test_a_place_is_among_all_and_itself(seeds: int, of: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Below every row of a table, which lacks the architecture, there is one more place."""
    place = Place("a", 1.0, of, 0.0, {}, {}, seeds=seeds)
    rankings = (rank("depth", range(6), range(6)),)
    _show_grade(Grade("run", 1, 4, place, 2.0, rankings, "t", "test_accuracy", best=3.0))
    assert f"better than 0.0% of all, rank {of} of {of}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_is_graded(tmp_path: Path) -> None:
    """On digits, in a space of 125 cells, with a truth made up: where the derived cell stands, and
    all rankers."""
    plan = make_plan("nasbench201", threads=1, device="cpu", data=None, settings=None)
    s = plan.settings
    settings = dataclasses.replace(
        s,
        space=NasBench201Settings(num_nodes=3),
        network=dataclasses.replace(s.network, filters=4, stem_stride=1),
        data=dataclasses.replace(s.data, dataset="digits", train=60, validation=60),
        task=dataclasses.replace(s.task, batch_size=20, reward_batch=20, flip=False),
        search=dataclasses.replace(s.search, epochs=2, warmup_epochs=1, controller_steps=2, architectures=3),
        derive=dataclasses.replace(s.derive, samples=5, keep=2, uniform=0),
        retrain=dataclasses.replace(s.retrain, network=dataclasses.replace(s.network, filters=4, stem_stride=1)),
    )
    run = search_plan(dataclasses.replace(plan, settings=settings), out=tmp_path / "run")
    space = nasbench201(settings.space)
    truth = {arch: float(i) for i, arch in enumerate(space.enumerate())}
    opened = OpenedRun.at(run)
    assert grade(opened, truth, 8).derived is None, "nothing is derived yet"
    api.derive(run)
    found = grade(opened, truth, 8, batches=2)
    derived = found.derived
    assert derived is not None
    assert derived.score == 125 - derived.rank
    assert derived.better_than == pytest.approx(derived.score / 125)
    rankers = [row.ranker for row in found.rankings]
    assert rankers[:5] == [
        "shared weights, accuracy",
        "shared weights, loss",
        "number of parameters",
        "multiply-adds",
        "depth",
    ]
    assert all(name.startswith("number of ") for name in rankers[5:])
    assert all(row.n == 8 and 0 <= row.pick < 125 for row in found.rankings)
    assert {row.n for row in grade(opened, truth, 200, batches=1).rankings} == {125}, "all that there are"
    found.write(tmp_path)
    assert Grade.read(tmp_path) == found
    with pytest.raises(ValueError, match="the table is of another space than"):
        grade(opened, {SPACE.sample(random.Random(0)): 1.0}, 8)
