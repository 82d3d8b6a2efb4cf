"""A derivation by short trainings: its journal, its processes, its record, its rivals."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import enas
from enas.cli.display import ranking
from enas.cli.main import main
from enas.grading import rivals
from enas.grading.asked import Wanted
from enas.grading.ledger import seconds_at_work
from enas.grading.opened import OpenedRun, Trainings
from enas.grading.verdict import verdict
from enas.procedures import taught
from enas.procedures.events import Scored
from enas.procedures.settings import DeriveSettings
from enas.runs import short
from enas.runs.compared import Compared
from enas.runs.plan import Plan
from enas.runs.results import Best, Result
from enas.spaces.architecture import Architecture

TRAININGS = {"trainings": 6, "rounds": 2, "finalists": 2, "finalist_steps": 2, "samples": 4, "uniform": 0}


SMALL = [
    *("--network.filters", "4", "--data.train", "60", "--data.validation", "40", "--task.batch-size", "20"),
    *("--task.reward-batch", "20", "--search.epochs", "2", "--search.warmup-epochs", "1", "--search.controller-steps", "1"),
    *("--search.architectures", "2", "--search.probes", "0", "--retrain.epochs", "2", "--retrain.network.filters", "4"),
    *("--retrain.task.batch-size", "20"),
]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(["search", "scattered-micro", "--out", str(run), *SMALL]) == 0
    return run


@pytest.fixture(autouse=True, scope="module")
def few_are_asked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taught, "POLICY_STEPS", 1)
        patch.setattr(taught, "POOL", 20)
        yield


@pytest.fixture(scope="module")
def derived(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, derived in one process. To be read only."""
    run = Path(shutil.copytree(searched, tmp_path_factory.mktemp("derived") / "run"))
    enas.derive(run, workers=1, **TRAININGS)
    return run


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(searched, tmp_path / "run"))


@pytest.fixture
def derived_copy(derived: Path, tmp_path: Path) -> Path:
    """A derived run of one's own."""
    return Path(shutil.copytree(derived, tmp_path / "derived"))


def journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / short.FILE).read_text().splitlines()]


@pytest.mark.slow
def test_a_derivation_that_was_killed_trains_nothing_twice(derived_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after five trainings, the last line of the journal cut: what comes out is what an
    undisturbed one gives, and seven of eight trainings are made in all."""
    run = derived_copy
    whole = journal(run)
    assert [(line["steps"], line["seed"]) for line in whole] == [(2, 0)] * 6 + [(6, 1)] * 2
    undisturbed = Best.read(run)
    (run / "best.json").unlink()
    lines = (run / short.FILE).read_text().splitlines(keepends=True)
    (run / short.FILE).write_text("".join(lines[:5]) + lines[5][:20])
    made = list[taught.Short]()
    outcome = short.outcome
    monkeypatch.setattr(short, "outcome", lambda plan, task, one: made.append(one) or outcome(plan, task, one))
    enas.derive(run, workers=1, **TRAININGS)
    assert len(made) == 3
    again = Best.read(run)
    assert [entry.id for entry in again.ranked] == [entry.id for entry in undisturbed.ranked]
    assert [entry.shared_weights for entry in again.ranked] == [entry.shared_weights for entry in undisturbed.ranked]
    timeless = [{name: value for name, value in line.items() if name not in ("seconds", "crc")} for line in whole]
    assert [{name: line[name] for name in timeless[0]} for line in journal(run)] == timeless


@pytest.mark.slow
def test_what_is_derived_is_on_record_and_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in TRAININGS.items()]
    assert main(f"derive {run} --jobs 1 {' '.join(flags)}".split()) == 0
    said = " ".join(capsys.readouterr().out.split())
    best = Best.read(run)
    assert best.judged is not None
    # too few for a prediction
    assert set(best.judged.taus) == {"parameters", "macs", "zico", "expressivity", "shared"}
    assert best.judged.trainings == 6
    assert best.judged.seconds > 0
    assert "final_reward" in best.ranked[0].shared_weights
    assert sum(line["seconds"] for line in journal(run)) < best.judged.seconds, "scores take time too"
    assert "6 short trainings taught what is good; with finals and all scores that took" in said
    assert "expressivity" in said
    assert best.ranked[0].id in said
    assert "ranked by trainings from scratch, short ones and the final, longer ones" in said
    file = run / "best.json"
    record = {name: value for name, value in json.loads(file.read_text()).items() if name != "sha256"}
    for entry in record["ranked"]:  # a budget may end before the longer ones
        entry["shared_weights"].pop("final_reward", None)
    whole = file.read_text()
    file.write_text(json.dumps(record))
    ranking(run)
    assert "ranked by short trainings from scratch and what a regression makes of them (a" in " ".join(
        capsys.readouterr().out.split()
    )
    file.write_text(whole)
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "6 short trainings taught what is good; with finals and all scores that took" in page
    assert "Which judge was right" in page
    assert "zico" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"score_on": "minibatch", "finalists": 0, "trainings": 0, "samples": 6, "keep": 6},
        {"score_on": "validation", "finalists": 0, "trainings": 0, "samples": 6, "keep": 6},
        {"score_on": "minibatch", "finalists": 6, "finalist_steps": 2, "trainings": 0, "samples": 6, "keep": 6},
        TRAININGS,
    ],
    ids=["minibatch", "validation", "finalists", "trainings"],
)
def test_page_and_terminal_show_what_ranked(how: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However it was ranked, there is a figure that falls from rank to rank; of finalists, from
    rank to rank among those that were trained for as many rounds."""
    enas.derive(run, workers=1, **how)
    html = enas.report(run).read_text()
    alone = bool(how["finalists"])
    assert ("<h2>Ranked by trainings from scratch</h2>" in html) == alone
    assert ("<h2>Ranked by shared weights</h2>" in html) != alone
    table = html[html.index("<h2>Ranked by") :].split("</table>")[0]
    names = [re.sub(r"<.*?>", "", name).strip() for name in re.findall(r"<th scope=.col.>(.*?)</th>", table)]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:]]
    assert len(rows) == len(Best.read(run).ranked) > 1
    assert falls(names, rows), (names, rows)
    ranking(run)
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [int(line[0]) for line in lines] == [*range(1, len(rows) + 1)]
    heads = [
        "rank",
        "architecture",
        *("rounds" if how["finalists"] == 6 and i == 3 else "?" for i in range(2, len(lines[0]))),
    ]
    assert falls(heads, lines), lines


def falls(names: list[str], rows: list[list[str]]) -> bool:
    """Whether a column of figures falls from row to row, or does so among rows of as many
    rounds."""
    rounds = next((i for i, name in enumerate(names) if name.startswith("rounds")), None)
    orders = []
    for i in range(2, len(rows[0]) - 1):
        figures = [(float(row[rounds]) if rounds else 0.0, float(row[i].strip(" –-%") or -1e9)) for row in rows]
        orders.append(i != rounds and figures == sorted(figures, reverse=True))
    return any(orders)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_rivals_have_the_time_of_finalists_too(workers: int, run: Path) -> None:
    """A derivation costs what its scores and its short trainings take, in whatever process."""
    spent = time.process_time()
    enas.derive(run, workers=workers, finalists=4, finalist_steps=3, trainings=0, samples=6)
    spent = time.process_time() - spent
    opened, best = OpenedRun.at(run), Best.read(run)
    elsewhere = sum(line["seconds"] for line in journal(run)) if workers > 1 else 0.0
    assert elsewhere < best.cost <= elsewhere + spent
    assert workers > 1 or best.cost > 0.3 * spent
    trainings = Trainings(opened, best, opened.plan, 1, None, print)
    assert rivals.equal_seconds(trainings) == max(1.0, seconds_at_work(run)) + best.cost


@pytest.mark.slow
def test_as_many_processes_as_one_likes_give_the_same(derived: Path, run: Path) -> None:
    enas.derive(run, workers=2, **TRAININGS)
    figures = [[(line["id"], line["reward"]) for line in journal(folder)] for folder in (derived, run)]
    assert figures[0] == figures[1]
    assert Best.read(derived).ranked[0].id == Best.read(run).ranked[0].id
    assert Best.read(run).judged.seconds > 0  # type: ignore[union-attr]


def test_other_settings_of_training_do_not_read_the_journal(run: Path) -> None:
    """What a training reached depends on its recipe: a journal of another one is not believed."""
    plan = OpenedRun.at(run).plan
    task = plan.task(plan.load_data(), plan.settings.task)
    one = taught.Short(plan.space.samples(random.Random(0), 1)[0][0], 1, 0)
    with short.ShortTrainings(plan, run, task) as train:
        list(train([one]))
    changed = dataclasses.replace(plan.settings.retrain.optimizer, learning_rate=0.5)
    other = plan.with_settings(retrain=dataclasses.replace(plan.settings.retrain, optimizer=changed))
    with short.ShortTrainings(other, run, task) as train:
        assert not train.known
    with short.ShortTrainings(plan, run, task) as train:
        assert len(train.known) == 1
        (found,) = train([one])
        assert found.seconds <= train.spent()  # what was made before counts as spent


@pytest.mark.slow
def test_rivals_have_the_time_of_the_search_and_the_verdict_names_the_strongest(
    derived_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = derived_copy
    monkeypatch.setattr(rivals, "COUNTED", 40)
    monkeypatch.setattr(rivals, "seconds_at_work", lambda folder: 0.0)
    asked = dict[str, float]()

    def retrained(plan: Any, trainings: Any, **_: Any) -> Any:
        return [Result({"test_accuracy": 0.5 + 0.1 * (job.seed % 2)}, 7) for job in trainings], None

    def affordable(self: taught.Taught, budget: float) -> int:
        asked["budget"] = budget
        return max(0, 6 - len(self.outcomes))

    monkeypatch.setattr("enas.grading.opened.retrain_many", retrained)
    monkeypatch.setattr(taught.Taught, "affordable", affordable)
    answer = enas.compare(run, cells=2, seeds=2, rivals=True, workers=1)
    assert answer is not None
    best = Best.read(run)
    assert asked["budget"] == pytest.approx(1.0 * 1 + best.cost)
    assert set(Compared.read(run).references) == set(rivals.RIVALS)
    assert answer.rival is not None
    assert answer.rival.name in rivals.RIVALS
    assert f"its strongest rival, {answer.rival.name}" in answer.sentence
    folders = [run / "rivals" / name for name in ("best-of-k-random", "most-parameters", "without-sharing")]
    assert [(folder / short.FILE).exists() for folder in folders] == [True, False, True]
    assert all((folder / rivals.Found.FILE).exists() for folder in folders)
    # none is looked for again
    monkeypatch.setattr(rivals, "RIVALS", dict.fromkeys(rivals.RIVALS, None))
    assert enas.compare(run, cells=2, seeds=2, rivals=True, workers=1) == answer
    monkeypatch.setattr(rivals, "equal_seconds", lambda trainings: 7.0)  # in another time it is
    with pytest.raises(TypeError):
        enas.compare(run, cells=2, seeds=2, rivals=True, workers=1)


@pytest.mark.slow
def test_the_free_count_is_the_largest_of_a_thousand(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enas.derive(run, workers=1, trainings=0, finalists=0, samples=4, uniform=0)
    opened = OpenedRun.at(run)
    trainings = Trainings(opened, Best.read(run), opened.plan, 1, None, lambda event: None)
    arch = rivals.most_parameters(trainings)
    assert arch is not None
    sizes = [opened.plan.cost(a).parameters for a in opened.plan.space.samples(random.Random(1), 100)[0]]
    assert opened.plan.cost(arch).parameters >= max(sizes) * 0.8
    monkeypatch.setattr(type(opened.search().supernet), "num_parameters", lambda *_, **__: 7)
    assert rivals.most_parameters(trainings) is None, "where all are of one size"


@pytest.mark.slow
def test_without_sharing_a_shortlist_is_picked_as_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the largest of the random architectures are trained, as in the derivation."""
    monkeypatch.setattr(rivals, "equal_seconds", lambda trainings: 60.0)
    changes = {"draw": "uniform", "samples": 30, "uniform": 0, "shortlist": 2, "shortlist_by": ("parameters", "shared")}
    enas.derive(run, workers=1, trainings=6, finalists=1, finalist_steps=1, judges=("parameters",), **changes)
    opened = OpenedRun.at(run)
    heard = list[object]()
    trainings = Trainings(opened, Best.read(run), opened.plan, 1, None, heard.append)
    arch = rivals.without_sharing(trainings)
    scored = [event for event in heard if isinstance(event, Scored)]
    picked = {event.arch for event in scored if event.stage == "short"}
    sizes = {event.arch: event.metrics["parameters"] for event in scored if event.stage == "shortlist"}
    assert len(picked) == 2
    assert arch in picked
    assert min(sizes[one] for one in picked) == sorted(sizes.values())[-2]
    assert not any("shared" in event.metrics for event in scored)
    page = enas.report(run).read_text()
    assert "Ranked by trainings from scratch" in page
    assert "Which judge was right" not in page, "two trainings rank nothing"


def test_a_derivation_without_shared_weights_asks_others() -> None:
    settings = DeriveSettings(shortlist=3, shortlist_by=("shared",), judges=("shared", "macs"), trainings=8)
    without = rivals._without_shared(settings, 9.0)
    assert (without.shortlist, without.judges, without.trainings, without.budget) == (0, ("macs",), 0, 9.0)
    settings = dataclasses.replace(settings, shortlist_by=("parameters", "shared"))
    without = rivals._without_shared(settings, 9.0)
    assert (without.shortlist, without.shortlist_by) == (3, ("parameters",))


class Clocked:
    """Short trainings that are looked up: each step takes a second."""

    def __init__(self, plan: Plan):
        self.plan, self.asked, self.seconds = plan, list[taught.Short](), 0.0

    def __enter__(self) -> Clocked:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def spent(self) -> float:
        return self.seconds

    def __call__(self, wanted: Sequence[taught.Short]) -> Iterator[taught.Outcome]:
        for one in wanted:
            self.asked.append(one)
            self.seconds += one.steps
            yield taught.Outcome(len(self.asked) % 7, one.steps)


@pytest.fixture
def clocked(run: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Trainings, Clocked]:
    """A run whose derivation had a budget of five seconds, and its rivals' short trainings."""
    enas.derive(run, workers=1, trainings=0, finalists=0, samples=2, uniform=0)
    best, opened = Best.read(run), OpenedRun.at(run)
    lab = Clocked(opened.plan)
    best = dataclasses.replace(best, settings={**best.settings, "budget": 5.0, "finalists": 4, "finalist_steps": 2})
    monkeypatch.setattr(rivals, "ShortTrainings", lambda *_: lab)
    return Trainings(opened, best, opened.plan, 1, None, lambda event: None), lab


def test_the_best_of_random_trains_finalists_in_its_own_time(
    clocked: tuple[Trainings, Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the search is its budget, and not that of the search's derivation alone."""
    trainings, lab = clocked
    monkeypatch.setattr(rivals, "equal_seconds", lambda trainings: 100.0)
    rivals.best_of_random(trainings)
    finals = [one for one in lab.asked if one.seed == 1]
    assert len(finals) == 4
    assert 80 < lab.seconds <= 100


def test_the_best_of_random_ends_where_there_are_few(
    clocked: tuple[Trainings, Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit leaves eight architectures, for whose trainings there is time a thousand times."""
    trainings, lab = clocked
    plan = trainings.run.plan
    few = [plan.space.samples(random.Random(i), 1)[0][0] for i in range(8)]

    drawn = list[int]()

    class Few:
        def __getattr__(self, name: str) -> Any:
            return getattr(plan.space, name)

        def samples(self, rng: random.Random, n: int) -> tuple[list[Architecture], int]:
            drawn.append(n)
            assert sum(drawn) < 100_000, "it draws what it knows for ever"
            return rng.choices(few, k=n), n

    plan.__dict__["limited_space"] = Few()
    monkeypatch.setattr(rivals, "equal_seconds", lambda trainings: 16_000.0)
    assert rivals.best_of_random(trainings) in few
    assert {one.arch for one in lab.asked} == set(few)


@pytest.mark.parametrize(("trainings", "finalists", "finals"), [(6, 0, 0), (6, 2, 2), (0, 0, 4), (0, 3, 3)])
def test_without_sharing_there_are_as_many_finalists_as_in_the_derivation(
    trainings: int, finalists: int, finals: int, clocked: tuple[Trainings, Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None where its trainings taught without any; a few where it had no trainings that taught."""
    compared, lab = clocked
    monkeypatch.setattr(rivals, "equal_seconds", lambda trainings: 100.0)
    settings = {**compared.best.settings, "budget": 0.0, "trainings": trainings, "finalists": finalists, "judges": []}
    compared.best = dataclasses.replace(compared.best, settings=settings)
    rivals.without_sharing(compared)
    assert sum(one.seed == 1 for one in lab.asked) == finals


def test_a_verdict_says_who_is_ahead() -> None:
    derived, cells = [90.0, 91.0, 92.0], [[80.0], [81.0], [82.0]]
    rivals_figures = {"best of k random": [89.0, 90.0, 91.0], "most parameters": [70.0, 71.0, 72.0], "resnet": [99.0, 98.0]}
    answer = verdict(derived, cells, references=rivals_figures, rivals=("best of k random", "most parameters"))
    assert answer.rival is not None
    assert (answer.rival.name, answer.rival.difference) == ("best of k random", pytest.approx(1.0))
    assert answer.sentence.endswith(
        "is ahead of its strongest rival, best of k random, by 1.00 +- 2.27 points, which shows no difference"
    )
    behind = verdict([70.0, 70.1, 69.9], cells, references=rivals_figures, rivals=("best of k random",))
    assert "loses to" in behind.sentence
    assert "is behind its strongest rival" in behind.sentence
    assert "shows no difference" not in behind.sentence
    assert verdict(derived, cells, references=rivals_figures).rival is None


def test_all_means_rivals_too() -> None:
    assert Wanted(all=True).completed(learns=True, has_studies=False).rivals
    assert not Wanted().rivals


def test_events_of_short_trainings_have_a_name_on_the_screen() -> None:
    from enas.cli.display import STAGES

    stages = {"shortlist", "minibatch", "uniform", "validation", "alone", "short", "final"}
    assert set(STAGES) == stages
    assert all(stage in Scored.__doc__ for stage in stages)  # type: ignore[operator]
