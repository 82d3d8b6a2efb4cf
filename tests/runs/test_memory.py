"""A report reads a log of any length in constant memory. That a long search needs as much memory as
a short one is in tests/memory.py."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from enas.grading.ledger import seconds_at_work
from enas.runs.records import MOST_EPOCHS, epochs


def test_a_long_log_is_read_in_constant_memory(tmp_path: Path) -> None:
    with open(tmp_path / "metrics.jsonl", "w") as file:
        for epoch in range(1, 50_001):
            file.write(f'{{"epoch":{epoch},"shared_loss":1.5}}\n')
    tracemalloc.start()
    read = epochs(tmp_path, most=500)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000
    assert len(read) == 500
    assert (read[0]["epoch"], read[-1]["epoch"]) == (100, 50_000)
    assert MOST_EPOCHS >= 1000, "no run of the paper is shortened"


def test_a_long_clock_is_read_in_constant_memory(tmp_path: Path) -> None:
    with open(tmp_path / "timing.jsonl", "w") as file:
        for second in range(6_000):
            event = "begin" if second == 0 else "epoch"
            time = f"2024-05-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}+0000"
            file.write(f'{{"time":"{time}","event":"{event}"}}\n')
    seconds_at_work(tmp_path)  # what is read first stays: codecs, classes
    tracemalloc.start()
    assert seconds_at_work(tmp_path) == 5_999
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 500_000
