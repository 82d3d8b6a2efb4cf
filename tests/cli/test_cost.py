"""`enas latency` and `enas cost`: of the networks that come with enas, and of one's own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from enas.cli.main import main
from enas.networks.cost import EVERYTHING_ELSE
from enas.runs.cost import with_latencies
from enas.runs.plan import Plan
from enas.runs.planning import problem_plan
from enas.runs.results import Best
from laws import one_line

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
OWN = """
import torch
from torch import nn

import enas


def model():
    two = nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 3))
    return nn.Sequential(enas.OneOf("layer", {"one": nn.Linear(4, 3), "two": two}))


def problem():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(model, (x, x[:, :3].argmax(1)), batch_size=20)
"""
FEW = ["--children", "5", "--held-out", "5", "--rounds", "1", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"priced_problem_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:problem"


@pytest.mark.slow
def test_a_run_is_timed_and_priced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = shutil.copytree(BEFORE, tmp_path / "run"), tmp_path / "latency.json"
    assert main(["latency", str(run), "--out", str(file), "--batch", "3", *FEW]) == 0
    assert re.search(r"a forward pass of 3 on cpu, 1 thread: sums are off by [\d.]+% \(median\)", capsys.readouterr().out)
    table = json.loads(file.read_text())
    assert (table["batch"], table["threads"]) == (3, 1)
    assert all(entry["seconds"] >= 0 for entry in table["entries"])
    assert main(["cost", str(run), "--latency-table", str(file), "--measure", "1", "--samples", "0"]) == 0
    head, *rows, about = capsys.readouterr().out.splitlines()[1:]
    assert head.split() == ["parameters", "MACs", "activations", "latency", "measured"]
    plan = with_latencies(Plan.of(json.loads((run / "config.json").read_text())), file)
    for row, entry in zip(rows, Best.read(run).ranked, strict=True):
        costs = plan.cost(entry.architecture)
        assert costs.parameters == entry.parameters
        assert costs.latency is not None
        assert f"{costs.parameters:,}" in row
        assert f"{costs.latency * 1000:.3f} ms" in row
        assert re.search(r"[\d.]+ ms +[\d.]+ ms$", row)
    assert about.startswith("latencies: a forward pass of 3, 1 thread;")


@pytest.mark.slow
def test_a_network_of_ones_own_is_timed_and_limited(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its options; and a limit on parameters needs no table."""
    file = tmp_path / "latency.json"
    assert main(["latency", own, "--out", str(file), *FEW]) == 0
    table = json.loads(file.read_text())
    assert {entry["key"] for entry in table["entries"]} == {EVERYTHING_ELSE, "layer=one", "layer=two"}
    for entry in table["entries"]:
        entry["seconds"] = {"layer=one": 1e-3, "layer=two": 3e-3}.get(entry["key"], 5e-3)
    file.write_text(json.dumps(table))
    capsys.readouterr()
    assert main(["cost", own, "--latency-table", str(file), "--samples", "40"]) == 0
    said = capsys.readouterr().out
    assert "8.000 ms" in said
    assert "6.000 ms" in said
    for limit in (["--max-latency", "7ms", "--latency-table", str(file)], ["--max-params", "15"]):
        run = tmp_path / limit[0]
        few = ["--search.controller-steps", "1", "--search.architectures", "2", "--device", "cpu"]
        assert main(["search", own, "--out", str(run), "--epochs", "2", *few, *limit]) == 0
        asked = [json.loads(line) for line in (run / "architectures.jsonl").read_text().splitlines()]
        assert {line["choices"]["layer"] for line in asked if "choices" in line} == {"one"}
    capsys.readouterr()
    assert main(["latency", own, "--out", str(file), "--batch", "100", *FEW]) == 2
    assert capsys.readouterr().err == "enas: a batch has 42 training examples at most here; got 100\n"


def test_a_table_is_of_one_network(own: str, tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    assert main(["latency", own, "--out", str(file), *FEW]) == 0
    plan = Plan.of(json.loads((BEFORE / "config.json").read_text()))
    with one_line(
        ValueError, "the table of latencies is of another space than this plan's: measure it anew, `enas latency`"
    ):
        with_latencies(plan, file)
    assert with_latencies(problem_plan(own, device="cpu"), file).latencies is not None
    (tmp_path / "none.json").write_text("[]")
    with one_line(ValueError, "a table of latencies is a file that `enas latency` wrote"):
        with_latencies(plan, tmp_path / "none.json")
