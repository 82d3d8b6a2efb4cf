"""A run killed at any instant goes on to the same bits as one never killed (tests/kills.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from enas.runs.files import FAULT, write_atomically
from kills import CASES, COMPARE, one_case


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_and_killed_again(case: str) -> None:
    kills = 2 if case == COMPARE else 4  # each of a comparison starts a worker anew
    assert one_case(case, kills, seed=0) >= kills


def test_a_write_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """At each moment of a write with a name that the old file keeps; in one child for each."""
    file, kept = tmp_path / "a", tmp_path / "kept"
    old, new = "old" * 99, "new" * 99
    seen = []
    for moment in range(1, 8):
        write_atomically(file, old)
        kept.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            os.environ[FAULT] = str(moment)
            write_atomically(file, new, keep=kept)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        seen.append((os.WIFSIGNALED(status), file.read_text() == new, kept.exists()))
        assert file.read_text() in (old, new)
        assert not kept.exists() or kept.read_text() == old
    assert seen == [
        (True, False, False), (True, False, False), (True, False, False), (True, False, True),
        (True, True, True), (False, True, True), (False, True, True),
    ]  # fmt: skip
