"""A whole search by static programs, through files: it is stopped, goes on, and ends as one that
ran through; and its winner is that of a search by plain steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from enas.cli.main import main

FEW = (
    *("--data.train", "40", "--data.validation", "40", "--space.num-nodes", "2", "--network.filters", "2"),
    *("--search.epochs", "2", "--search.warmup-epochs", "1", "--search.controller-steps", "2"),
    *("--network.dropout", "0", "--device", "cpu"),
)


@pytest.mark.slow
def test_a_search_by_programs_resumes_and_equals_a_plain_one(tmp_path: Path) -> None:
    found = {}
    for name, way in (("plain", "plain"), ("static", "static"), ("stopped", "static")):
        command = ["search", "digits-micro", "--out", str(tmp_path / name), *FEW, "--network.computation", way]
        assert main([*command, *(["--max-time", "0.01s"] if name == "stopped" else [])]) == 0
    assert main(["resume", str(tmp_path / "stopped")]) == 0
    for name in ("plain", "static", "stopped"):
        found[name] = load_file(tmp_path / name / "checkpoint.safetensors")
    assert found["plain"].keys() == found["static"].keys() == found["stopped"].keys()
    assert all(value.equal(found["stopped"][key]) for key, value in found["static"].items())
    losses = [
        [json.loads(line)["shared_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("plain", "static")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
