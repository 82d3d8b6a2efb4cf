"""A search of any length needs as much memory, as many file descriptors and threads as a short one;
a report reads a log of any length in constant memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from documented import ROOT
from enas.runs.records import MOST_EPOCHS, epochs
from kills import SPACES


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_a_long_search_needs_no_more_than_a_short_one(space: str) -> None:
    command = [sys.executable, str(ROOT / "tests" / "memory.py"), "--space", space]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    early, late = found["200"], found["2000"]
    assert late["bytes"] <= 1.02 * early["bytes"], found
    assert (late["files"], late["threads"]) == (early["files"], early["threads"])


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
