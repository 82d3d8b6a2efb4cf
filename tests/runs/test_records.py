"""What the files of a run hold as values: written and read again they are the same, earlier files
are read, and damage is named."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enas.procedures.statistics import Interval, rank
from enas.reading import check_folder, check_kind, sealed
from enas.runs.compared import Changed, Compared, Disabled, Ledger, Rival, StudyResult, Verdict
from enas.runs.files import Damaged, flat, mended, read_json, read_lines, stamped, stamped_lines, write_atomically
from enas.runs.records import Config, Learned, Sampled, ticks
from enas.runs.results import Best, Policy, PolicyAgainstUniform, Ranked, Result, Retrained, Training
from enas.runs.values import File
from enas.tasks.metrics import METRICS

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
RANKED = Ranked(1, "a1", {"minibatch_reward": 0.5}, 99, {"name": "conv_micro"}, {"n": "x"}, {"run": "mine"})
VERDICT = Verdict(
    90.0,
    1.0,
    2,
    88.0,
    2.0,
    89.5,
    3,
    1,
    2.0,
    1.5,
    diverged=1,
    references={"resnet": (80.0, 0.5)},
    diverged_references=("rhn",),
)
FILES: list[File] = [
    Best(
        policy=Policy(9, {"op": {"conv": 0.75, "pool": 0.25}}, {"op": {"conv": 0.5, "pool": 0.5}}),
        searched_epochs=3,
        search_finished=False,
        samples=4,
        policy_against_uniform=PolicyAgainstUniform(0.1, 0.2, 0.3),
        settings={"samples": 4, "keep": None},
        marks={"l1": "16x16"},
        ranked=(RANKED, dataclasses.replace(RANKED, rank=2, id="b2")),
    ),
    Result({"test_accuracy": 0.5, "test_loss": float("inf")}, 99, rollbacks=2),
    Result({"test_accuracy": 0.5}, 99),
    Retrained("train", "b2", (Training(2, "b2", "retrain/b2", Result({"test_accuracy": 0.5}, 9)),)),
    Compared(
        VERDICT,
        "a1",
        (91.0, 89.0),
        {"u1": (87.0,), "u2": (89.5,)},
        {"resnet": (79.5, 80.5)},
        recipe={"epochs": 3, "network": {"filters": 4}},
        cell_seeds=2,
        learning=(Learned(2, 0.1, 0.2),),
        uniform_architectures=({"space": {"name": "conv_micro"}},),
        ledger=Ledger(1.0, 4, 8.0, 16, 32.0),
        rankings=(rank("depth", range(6), range(6)),),
        disabled=Disabled("accuracy", 8.0, 1.0, 9.0, 4),
        studies=(
            StudyResult("s", "about", "paper", 7, (91.0,), (Changed("c", "x to y", (1.0,)),), Interval(1.0, 2.0), 3.0, 1),
        ),
        left_out={"resnet": "time is up"},
        rolled_back={"u1-seed0": 1},
        parameters={"a1": 99},
    ),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: type(file).__name__)
def test_a_file_is_read_as_it_was_written(file: File, tmp_path: Path) -> None:
    assert type(file).find(tmp_path) is None
    path = file.write(tmp_path)
    assert path == tmp_path / file.FILE
    assert type(file).read(tmp_path) == file


@pytest.mark.parametrize("kind", [Best, Retrained, Compared])
def test_an_earlier_file_is_written_as_it_was(kind: type[File], tmp_path: Path) -> None:
    """Key for key, apart from what is said in words; what is not known any more is passed over."""
    before, words = read_json(BEFORE / kind.FILE), ("version", "note", "verdict", "skip_rate", "rolled_back")
    kind.read(BEFORE).write(tmp_path)
    after = read_json(tmp_path / kind.FILE)
    assert after["version"] == 1
    assert {k: v for k, v in after.items() if k not in words} == {k: v for k, v in before.items() if k not in words}


def test_a_result_is_written_byte_for_byte_as_before_and_sealed(tmp_path: Path) -> None:
    folder = BEFORE / "retrain" / "51f6a8e91b-seed0"
    Result.read(folder).write(tmp_path)
    assert (tmp_path / Result.FILE).read_text() == sealed((folder / Result.FILE).read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: type(file).__name__)
def test_damage_is_named_in_one_line(file: File, tmp_path: Path) -> None:
    """Whatever required key is missing or of another type, and whatever else the file holds."""
    path, whole = file.write(tmp_path), file.to_json()
    required = {"ranked", "searched_epochs", "trainings", "chosen", "derived_id", "derived", "half_width"}
    required |= {"parameters"} if isinstance(file, Result) else set()
    damaged: list[Any] = [{k: v for k, v in whole.items() if k != name} for name in required & {*whole}]
    damaged += [{**whole, name: object_} for name in required & {*whole} for object_ in ([[]], {"a": []}, None)]
    for data in [*damaged, [], 3, {}]:
        path.write_text(json.dumps(data))
        with pytest.raises(Damaged, match=re.escape(f"'{path}' is damaged")) as error:
            type(file).read(tmp_path)
        assert "\n" not in str(error.value)


def test_a_later_version_is_told_so(tmp_path: Path) -> None:
    path = FILES[0].write(tmp_path)
    path.write_text(json.dumps({**read_json(path), "version": 2}))
    with pytest.raises(Damaged, match=r"best\.json' was written by a later version of enas"):
        Best.read(tmp_path)


def test_a_training_that_diverged_is_an_outcome(tmp_path: Path) -> None:
    assert Result.of(tmp_path) is None
    (tmp_path / "timing.jsonl").write_text('{"event":"begin"}\n{"event":"end","why":"diverged"}\n')
    result = Result.of(tmp_path)
    assert result is not None
    assert "it diverged before" in str(result.diverged)
    (tmp_path / "timing.jsonl").write_text('{"event":"end","why":"diverged"}\n{"event":"begin"}\n')
    assert Result.of(tmp_path) is None, "it was begun again"
    Result({}, 9).write(tmp_path)
    with pytest.raises(ValueError, match=r"has none"):
        Result.of(tmp_path)
    shutil.copy(BEFORE / "config.json", tmp_path)
    assert Result.of(tmp_path) == Result({}, 9)


def test_the_verdict_in_words() -> None:
    assert VERDICT.better
    assert str(VERDICT) == (
        "the derived architecture beats the mean random architecture by 2.00 +- 1.50 points (derived 90.00 %, standard"
        " deviation 1.00 over 2 seeds; random 88.00 %, standard deviation 2.00 over 3 architectures, best 89.50 %; rank 1"
        " of 4; 1 more random architecture diverged; resnet 80.00 %, standard deviation 0.50; rhn diverged)"
    )
    worse = dataclasses.replace(VERDICT, metric="perplexity")
    assert (worse.better, "loses to" in worse.sentence, "lower is better" in worse.figures) == (False, True, True)
    assert dataclasses.replace(VERDICT, difference=-1.5).better is None
    assert "is below the mean random" in dataclasses.replace(VERDICT, difference=-1.5).sentence


def test_figures_that_do_not_vary_show_no_difference() -> None:
    """Two equal figures on each side say nothing of how much a third would differ."""
    same = dataclasses.replace(VERDICT, half_width=0.0)
    assert same.better is None
    assert same.sentence == (
        "no difference shown: the derived architecture is above the mean random architecture by 2.00 points (figures"
        " that do not vary have no interval)"
    )


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_a_rival_that_found_the_same_is_neither_ahead_nor_behind(metric: str) -> None:
    equal = dataclasses.replace(VERDICT, metric=metric, rival=Rival("most parameters", 0.0, 1.2))
    assert equal.sentence.endswith("and is equal to its strongest rival, most parameters")


def test_a_verdict_on_small_rewards_has_digits() -> None:
    """Rewards of one's own may be of any size; only a figure that is zero is written as zeros."""
    small = dataclasses.replace(
        VERDICT, metric="score", derived=-0.00075125, derived_spread=0.0, difference=1.6e-5, half_width=2.5e-4
    )
    assert "is above the mean random architecture by 1.6e-05 +- 0.0003 of the reward" in small.sentence
    assert "derived -0.0008, standard deviation 0.0000 over 2 seeds; random 88.0000," in small.figures
    assert METRICS["score"].text(-7.6e-6) == "-7.6e-06"
    assert METRICS["accuracy"].text(0.0001) == "0.01 %"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "before")

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"after")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "before"


def test_a_log_is_read_without_what_a_crash_cut(tmp_path: Path) -> None:
    log = tmp_path / "timing.jsonl"
    assert read_lines(log) == []
    log.write_text('{"event":"begin","time":"2024-05-01T10:00:00+0000"}\n{"event":"e')
    assert [(tick.event, tick.at.hour) for tick in ticks(tmp_path)] == [("begin", 10)]
    for damage in ("3\n", "{}\n", '{"event":1}\n', "{\n"):
        log.write_text(damage)
        with pytest.raises(Damaged, match=r"timing\.jsonl' is damaged"):
            list(ticks(tmp_path))


def test_a_stamped_line_is_the_line_and_a_checksum_of_it(tmp_path: Path) -> None:
    log, line = tmp_path / "timing.jsonl", '{"event":"begin","n":5}'
    whole = stamped(line)
    assert json.loads(whole) == {**json.loads(line), "crc": f"{zlib.crc32(line.encode()):08x}"}
    log.write_text(f"{whole}\n{whole}\n")
    assert list(stamped_lines(log)) == [json.loads(line)] * 2
    for other in ("4", "6"):  # of either side of the order of bytes
        log.write_text(f"{whole}\n{whole.replace('5', other, 1)}\n")
        with pytest.raises(Damaged, match="the checksum of line 2 is another"):
            list(stamped_lines(log))


def test_only_a_last_line_that_is_cut_short_is_mended(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert mended(log) is False
    log.write_text('{"a":1}\n{"a":2}\n' + " " * 300)
    assert mended(log) is True
    assert log.read_text() == '{"a":1}\n{"a":2}\n'
    assert mended(log) is False
    assert log.read_text() == '{"a":1}\n{"a":2}\n'
    log.write_text('{"a":1}\n[]\n')
    with pytest.raises(Damaged, match="line 2: "):
        read_lines(log)


def test_nested_settings_have_dotted_names() -> None:
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}}, "x.") == {"x.a": 1, "x.b.c": 2, "x.b.d.e": 3}


def test_a_line_of_a_log_has_its_values() -> None:
    assert Sampled.from_json({"id": "a1", "phase": "shared", "loss": 0.5}) == Sampled("a1", "shared")


@pytest.mark.parametrize("name", ["settings", "names"])
def test_parts_of_a_config_are_mappings(name: str) -> None:
    whole = read_json(BEFORE / "config.json")
    Config.from_json(whole)
    with pytest.raises(ValueError, match=f"'{name}' is of type .*; got 3"):
        Config.from_json({**whole, name: 3})


def test_a_file_of_a_run_is_no_folder(tmp_path: Path) -> None:
    check_kind(tmp_path / "missing")
    check_folder(tmp_path)
    with pytest.raises(ValueError, match="is a folder: put the file itself there"):
        check_kind(tmp_path)


def test_what_another_process_removes_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stays").touch()
    (tmp_path / "goes").touch()
    listed = os.scandir

    @contextlib.contextmanager
    def late(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        with listed(folder) as entries:
            found = list(entries)
        (tmp_path / "goes").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", late)
    check_folder(tmp_path)
