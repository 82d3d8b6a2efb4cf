"""Run folders that earlier versions made still resume, report and compare
(tests/runs_of_before)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from enas.cli.main import main
from enas.runs.compared import Compared
from enas.runs.files import read_lines

BEFORE = Path(__file__).parents[1] / "runs_of_before"


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(BEFORE / request.param, tmp_path / request.param))


@pytest.mark.slow
@pytest.mark.parametrize("run", [pytest.param("digits-macro", marks=pytest.mark.slow), "text-rnn"], indirect=True)
@pytest.mark.filterwarnings("always:this run began elsewhere")
def test_a_stopped_search_goes_on_as_it_did_then(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its settings are those of then: an epoch more gives the figures that the earlier version got,
    up to rounding. It says that it began on another processor."""
    config = json.loads((run / "config.json").read_text())
    config["machine"]["cpu"] = "an abacus"
    (run / "config.json").write_text(json.dumps(config))
    assert main(["resume", str(run)]) == 0
    said = capsys.readouterr().err
    assert re.search("this run began elsewhere .*processor an abacus there, .* here.*: bits may differ", said)
    found, expected = read_lines(run / "metrics.jsonl"), read_lines(run / "metrics_at_the_end.jsonl")
    began = len(read_lines(BEFORE / run.name / "metrics.jsonl"))
    assert [record["epoch"] for record in found] == [record["epoch"] for record in expected]
    assert found[:began] == expected[:began]
    assert found[began]["shared_loss"] == pytest.approx(expected[began]["shared_loss"], rel=1e-3)
    assert main(["derive", str(run)]) == 0
    assert main(["report", str(run)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("run", ["digits-micro"], indirect=True)
def test_a_compared_run_is_read_as_it_was(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "compare.json").read_text()
    assert main(["report", str(run)]) == 0
    assert str(Compared.read(run).verdict) in capsys.readouterr().out
    assert "below the mean random architecture by 1.05 ± 23.58 points" in (run / "report.html").read_text()
    assert main(["retrain", str(run)]) == 0  # the training is there: it is read
    assert main(["show", str(run)]) == 0
    assert main(["reproduce", str(run)]) == 0
    assert (run / "compare.json").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize("run", ["digits-micro"], indirect=True)
def test_a_comparison_of_before_goes_on(run: Path, in_this_process: None) -> None:
    trainings = {folder.name for folder in (run / "retrain").iterdir()}
    verdict = Compared.read(run).verdict
    assert main(["compare", str(run), "--cells", "2", "--seeds", "2"]) == 0
    assert Compared.read(run).verdict == verdict
    # nothing is trained again
    assert {folder.name for folder in (run / "retrain").iterdir()} == trainings
