"""The oracle: curves and intervals against exact answers, rank correlations with a known answer, the command itself."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from enas import api, drive
from enas.architecture import Architecture
from enas.assemble import setup
from enas.cli import main
from enas.grade import grade
from enas.oracle import play, read_table
from enas.ranking import coefficient, difference, interval, kendall, rank, spearman
from enas.spaces.nasbench201 import NasBench201Settings, from_string, nasbench201, to_string
from enas.strategies.random_search import RandomSearch

SPACE = nasbench201()
KNOWN = {"mean": 87.06, "median": 90.75, "99th percentile": 93.77, "best": 94.37}  # of cifar10_test_ep200


@pytest.fixture
def table_file(data_dir: Path) -> Path:
    return data_dir / "nasbench" / "nasbench201.csv.gz"


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
    """Against the definition, counted pair by pair, ties included; and where the answer is known."""
    rng = random.Random(0)
    a, b = ([rng.randrange(6) for _ in range(12)] for _ in range(2))
    pairs = [(i, j) for i in range(12) for j in range(i)]
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    n0 = [sum(s[k] != 0 for s in signs) for k in (0, 1)]
    by_hand = sum(x * y for x, y in signs) / math.sqrt(n0[0] * n0[1])
    assert kendall(np.array(a), np.array(b)) == pytest.approx(by_hand)
    assert spearman(np.array(a), np.array(b)) == pytest.approx(stats.spearmanr(a, b).statistic)
    up = np.arange(10.0)
    assert kendall(up, up**3) == spearman(up, up**3) == pytest.approx(1)
    assert kendall(up, -up) == spearman(up, -up) == pytest.approx(-1)
    assert kendall(up, np.ones(10)) == spearman(up, np.ones(10)) == 0


@pytest.mark.slow
def test_intervals_of_rank_correlations() -> None:
    """Of independent scores they hold zero about as often as they say; of equal ones they are one."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(40):
        found = coefficient(kendall, rng.normal(size=30), rng.normal(size=30), resamples=200)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) > 0.85
    x = rng.normal(size=20)
    assert coefficient(spearman, x, x, resamples=50).low == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 3 pairs; got 2 and 2"):
        coefficient(kendall, x[:2], x[:2])


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


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "takes nasbench201 or the folder of a run; got 'nowhere'"),
        (["nasbench201", "--seeds", "1"], "--seeds is at least 2; got 1"),
        (["nasbench201"], "there is none at"),
    ],
)
def test_bad_input_is_one_line(args: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oracle", *args, "--table", str(tmp_path / "none.csv")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_search_is_graded(tmp_path: Path) -> None:
    """On digits, in a space of 125 cells, with a truth made up: where the derived cell stands, and all rankers."""
    plan = setup("nasbench201", threads=1, device="cpu", data=None, settings=None)
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
    run = drive.search(dataclasses.replace(plan, settings=settings), out=tmp_path / "run")
    space = nasbench201(settings.space)
    truth = {arch: float(i) for i, arch in enumerate(space.enumerate())}
    assert grade(run, truth, 8)["derived"] is None, "nothing is derived yet"
    api.derive(run)
    found = grade(run, truth, 8, batches=2)
    derived = found["derived"]
    assert derived["score"] == 125 - derived["rank"]
    assert derived["better_than"] == pytest.approx(derived["score"] / 125)
    rankers = [row["ranker"] for row in found["rankings"]]
    assert rankers[:5] == [
        "shared weights, accuracy",
        "shared weights, loss",
        "number of parameters",
        "multiply-adds",
        "depth",
    ]
    assert all(name.startswith("number of ") for name in rankers[5:])
    assert all(row["n"] == 8 and 0 <= row["pick"] < 125 for row in found["rankings"])
    with pytest.raises(ValueError, match="the table is of another space than"):
        grade(run, {SPACE.sample(random.Random(0)): 1.0}, 8)
