"""Every command line that `enas reproduce` prints runs to its end, as printed but for flags that
make it small: the recipe `paper`, networks of few filters and cells, two training steps. What comes
out fills the row it belongs to."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from enas.cli.main import main
from enas.data.images import ImageData, ImagePart
from enas.data.text import TextData
from enas.grading.paper import EXPERIMENTS, RUNS, Experiment
from enas.grading.reproduce import paper_settings, survey
from enas.runs.files import flat, read_json

ROWS = [experiment for table in EXPERIMENTS.values() for experiment in table if experiment.command]
# steps of a training from scratch; images; words of a window, and in all
STEPS, BATCH, WINDOW, VOCABULARY = 2, 6, 7, 200
OF_TRAINING = "--retrain.epochs 1"
OF_SEARCH = "--search.epochs 1 --search.controller-steps 2 --search.probes 3"
OF_SEARCH += " --derive.samples 2 --derive.uniform 2 --derive.keep 2"
SIZES = {
    "cifar10": (
        f"--task.batch-size {BATCH} --task.reward-batch {BATCH} --network.filters 4",
        f"--retrain.task.batch-size {BATCH} --retrain.network.filters 4",
    ),
    "ptb": (
        f"--task.bptt {WINDOW} --network.hidden 8",
        f"--retrain.task.bptt {WINDOW} --retrain.network.hidden 8",
    ),
}
SHALLOW = {"conv_micro": "--network.cells 1 --retrain.network.cells 1"}
LARGER = 1000  # times the parameters that a reference has here, where the paper's row says its size
SMALLER = {  # figures of a printed line that are large, and what stands there instead
    r"--parameters \d+": "",
    r"--disabled \d+": "--disabled 2",
    r"--local \d+": "--local 1",
    r"--highest-filters \d+": "--highest-filters 20",
}


def little_data(name: str, folder: Path | None = None, **_: Any) -> ImageData | TextData:
    generator = torch.Generator().manual_seed(0)
    if name == "ptb":
        words = [torch.randint(VOCABULARY, (n,), generator=generator) for n in (64 * WINDOW * STEPS, 640, 100)]
        return TextData("ptb", *words, tuple(map(str, range(VOCABULARY))))

    def part(size: int) -> ImagePart:
        images = torch.randint(256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return ImagePart(images, torch.arange(size) % 10)

    return ImageData("cifar10", part(STEPS * BATCH), part(10), part(10), tuple("abcdefghij"))


def small(line: str, experiment: Experiment) -> list[str]:
    """The words of a printed line after `enas`, made small."""
    for pattern, other in SMALLER.items():
        line = re.sub(pattern, other, line)
    program, command, *words = shlex.split(line)
    assert program == "enas"
    searching, training = SIZES[experiment.data]
    if command == "search":
        words += shlex.split(SHALLOW.get(experiment.space, ""))
        words += shlex.split(f"{OF_SEARCH} {searching} {OF_TRAINING} {training}")
    elif experiment.kind == "reference":
        budget = round(1e6 * (experiment.parameters or 0)) // LARGER
        words += shlex.split(f"{OF_TRAINING} --parameters {budget}")
        words += ["--retrain.task.batch-size", str(BATCH)] if experiment.data == "cifar10" else []
    elif command == "compare":
        words += ["--cells", "2", "--seeds", "2"]
    return [command, *words]


@pytest.mark.slow
@pytest.mark.parametrize("what", [*RUNS, "references"])
def test_what_reproduce_prints_runs_to_its_end(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_this_process: None, taught_shortly: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("enas.runs.plan.load_data", little_data)
    # both data sets, by their names
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "data" / "ptb.train.txt").touch()
    rows = [row for row in ROWS if (row.space or "references") == what]
    assert rows
    done: set[str] = set()
    for row in rows:
        for line in row.command.split(" && "):
            if line not in done:
                assert main(small(line, row)) == 0, line
                done.add(line)
    runs = [path.parent for path in sorted(tmp_path.glob("runs/*/seed0/config.json"))]
    assert {flat(read_json(run / "config.json")["settings"])["retrain.epochs"] for run in runs} == {1}
    table = survey(runs, paper_settings())
    for row in rows:
        [found] = [found for found in table.rows if found.experiment == row]
        # a random cell may have nothing that this study changes
        if row.kind == "local" and not found.ours:
            studies = read_json(tmp_path / RUNS[row.space] / "compare.json")["local"]["studies"]
            assert [study["changed"] for study in studies if study["name"] == row.of] == [[]]
        else:
            assert found.ours, row.name
            assert not any(ours.full for ours in found.ours)
