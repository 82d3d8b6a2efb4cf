"""Commands that look at what is there answer at once: they import no torch, and take little
time."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
WITHOUT_TORCH = """
import sys

class Forbidden:
    def find_spec(self, name, *_):  # not None in sys.modules: tyro looks for the key alone
        assert name != "torch", "torch is imported"

sys.meta_path.insert(0, Forbidden())
from enas.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
LOOKING = ["--help", "show enas_micro", "list", "list --json", "presets", "presets show ptb-rnn paper", "reproduce"]
WITH_RUNS = ["show RUN", "show enas_rnn --out cell.json", "report RUN", "reproduce RUN --out table.md"]
MOST = 1.5  # seconds of processor time; on a quiet machine the longest takes one


def answer(command: str, folder: Path, *python: str) -> tuple[int, str, float]:
    """Runs a command in a process of its own: its exit status, what it said, and its seconds of
    processor time."""
    shutil.copytree(BEFORE, folder / "run", dirs_exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, *python, *command.replace("RUN", "run").split()]
    # compiled, as installed
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, done.stdout + done.stderr, sum(after[:2]) - sum(before[:2])


@pytest.mark.parametrize("command", [*LOOKING, *WITH_RUNS])
def test_what_only_looks_needs_no_torch_and_answers_at_once(command: str, tmp_path: Path) -> None:
    """Half a second of processor time is what is wanted; a machine may be half as fast, and
    busy."""
    tries = []
    while not tries or (command in LOOKING and min(tries) >= MOST and len(tries) < 3):
        status, said, seconds = answer(command, tmp_path, "-c", WITHOUT_TORCH)
        assert status == 0, said
        tries.append(seconds)
    assert command in WITH_RUNS or min(tries) < MOST
