"""A search of any length needs as much memory, as many file descriptors and threads as a short one;
a report reads a log of any length in constant memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

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
