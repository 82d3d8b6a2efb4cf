"""Commands that look at what is there answer at once: they import no torch, and take little
time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from enas.__main__ import main

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
WITHOUT_TORCH = """
import shlex, sys, time

class Forbidden:
    def find_spec(self, name, *_):  # not None in sys.modules: tyro looks for the key alone
        assert name != "torch", "torch is imported"

sys.meta_path.insert(0, Forbidden())
from enas.cli.main import main
began = time.process_time()
for line in sys.argv[1:]:
    before = time.process_time()
    assert main(shlex.split(line)) == 0, line
    print(f"took {began + time.process_time() - before} {line}", file=sys.stderr)
"""
LOOKING = ["--help", "show enas_micro", "list", "list --json", "presets", "presets show ptb-rnn paper", "reproduce"]
WITH_RUNS = ["show RUN", "show enas_rnn --out cell.json", "report RUN", "reproduce RUN --out table.md"]
MOST = 1.5  # seconds of processor time; on a quiet machine the longest takes one


def answers(commands: list[str], folder: Path) -> list[float]:
    """Runs commands one after the other in one process that may not import torch: seconds of
    processor time of each, and of the process before the first."""
    # compiled, as installed
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    words = [sys.executable, "-c", WITHOUT_TORCH, *(command.replace("RUN", "run") for command in commands)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    took = [line.split() for line in done.stderr.splitlines() if line.startswith("took ")]
    assert len(took) == len(commands)
    return [float(words[1]) for words in took]


def test_what_only_looks_needs_no_torch_and_answers_at_once(tmp_path: Path) -> None:
    """Half a second of processor time is what is wanted; a machine may be half as fast, and busy.
    What a command imports is counted where the first of them needs it."""
    tries = []
    while not tries or (max(map(min, zip(*tries, strict=True))) >= MOST and len(tries) < 3):
        tries.append(answers(LOOKING, tmp_path))
    slow = {command: min(took) for command, *took in zip(LOOKING, *tries, strict=True) if min(took) >= MOST}
    assert not slow


def test_what_looks_at_runs_needs_no_torch(tmp_path: Path) -> None:
    shutil.copytree(BEFORE, tmp_path / "run")
    answers(WITH_RUNS, tmp_path)


class Interrupted(ModuleType):
    """A module while whose import Ctrl-C was pressed."""

    def __getattr__(self, name: str) -> None:
        raise KeyboardInterrupt


def test_a_signal_while_imports_are_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "enas.cli.main", Interrupted("enas.cli.main"))
    assert main() == 130
    assert capsys.readouterr().err == "enas: interrupted\n"
