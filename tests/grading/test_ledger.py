"""What a search and its trainings cost: clocks, pauses, and the ratio, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enas.grading.ledger import ledger, processes, seconds_at_work
from enas.grading.rivals import equal_seconds
from enas.runs.compared import Ledger


def clock(folder: Path, *events: tuple[str, int]) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps({"time": f"2026-01-01T00:{s // 60:02}:{s % 60:02}+0000", "event": event}) for event, s in events]
    # cut by a crash
    (folder / "timing.jsonl").write_text("\n".join(lines) + "\n" + '{"time": "2026-0')
    return folder


def test_pauses_do_not_count(tmp_path: Path) -> None:
    run = clock(tmp_path / "run", ("begin", 0), ("epoch", 10), ("resume", 500), ("epoch", 530), ("end", 531))
    assert seconds_at_work(run) == 10 + 31
    assert seconds_at_work(tmp_path) == 0


def test_the_ratio_by_hand(tmp_path: Path) -> None:
    run = clock(tmp_path / "run", ("begin", 0), ("end", 40))
    seen = [{"id": name} for name in ("a", "b", "a", "c")]
    (run / "architectures.jsonl").write_text("".join(json.dumps(record) + "\n" for record in seen))
    first, second = (clock(run / "retrain" / str(i), ("begin", 0), ("end", 20 + 40 * i)) for i in (0, 1))
    found = ledger(run, [first, second, first])
    assert found is not None
    assert (found.search_seconds, found.trainings, found.training_seconds, found.children) == (40, 2, 80, 3)
    assert found.times_cheaper == pytest.approx(3 * 40 / 40)
    assert "saw 3 children" in str(found)
    assert "3 times as much" in str(found)
    assert "derivation" not in str(found)
    taught = ledger(run, [first, second], 5.0, 7.0, derivation_seconds=20.0)
    assert taught is not None
    assert taught.times_cheaper == pytest.approx(3 * 40 / (40 + 20))
    assert "saw 3 children; the derivation took 20 s; training" in str(taught)
    assert "2 times as much (2 times by multiply-accumulates, those of the derivation not counted);" in str(taught)


def test_each_process_of_a_search_counts(tmp_path: Path) -> None:
    """Forty seconds on two ranks and ten on one, after it was resumed, are ninety of one."""
    run = tmp_path / "run"
    run.mkdir()
    put = [("begin", 0, 2), ("end", 40, None), ("resume", 45, 1), ("end", 55, None)]
    lines = [
        {"time": f"2026-01-01T00:00:{s:02}+0000", "event": event, **({"ranks": ranks} if ranks else {})}
        for event, s, ranks in put
    ]
    (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "architectures.jsonl").write_text(json.dumps({"id": "a"}) + "\n")
    assert (seconds_at_work(run), processes(run)) == (50, pytest.approx(90 / 50))
    found = ledger(run, [clock(run / "retrain" / "a", ("begin", 0), ("end", 45))])
    assert found is not None
    assert (found.search_seconds, found.times_cheaper) == (50, pytest.approx(45 / 90))
    assert "the search took 50 s in 1.8 processes and saw" in str(found)
    assert Ledger.from_json(found.to_json()) == found
    opened: Any = SimpleNamespace(path=run, plan=SimpleNamespace(threads=3))
    assert equal_seconds(SimpleNamespace(run=opened, best=SimpleNamespace(cost=7.0))) == pytest.approx(90 * 3 + 7)  # type: ignore[arg-type]


def test_without_clocks_there_is_none(tmp_path: Path) -> None:
    assert ledger(tmp_path, [tmp_path]) is None
    assert ledger(clock(tmp_path / "run", ("begin", 0), ("end", 9)), []) is None


def test_a_search_within_a_second_counts_as_one(tmp_path: Path) -> None:
    run = clock(tmp_path / "run", ("begin", 0), ("end", 0))
    found = ledger(run, [clock(run / "retrain" / "a", ("begin", 0), ("end", 0))])
    assert found is not None
    assert (found.search_seconds, found.training_seconds) == (1.0, 1.0)
