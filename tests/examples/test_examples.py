"""The examples go all the way to a verdict, at a tiny size."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from enas.data.registry import load
from enas.networks.own import OwnNetwork
from enas.runs.compared import Compared
from laws import samples

FOLDER = Path(__file__).parents[2] / "examples"
NAMES = sorted(file.stem for file in FOLDER.glob("*.py"))
TINY = {"search.epochs": 2, "search.warmup_epochs": 1, "search.controller_steps": 1, "search.probes": 0}
TINY |= {"derive.samples": 4, "derive.finalists": 2, "derive.finalist_steps": 2, "retrain.epochs": 1}
SMALL = {"ENAS_IMAGES": "100", "ENAS_TOKENS": "4000", "ENAS_ROWS": "300"}


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module(name)


@functools.cache
def load_few(*args: Any, **settings: Any) -> Any:
    """The data set, read once, with few images to test on."""
    data = load(*args, **settings)
    return dataclasses.replace(data, test=data.test[:100])


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_its_network_is_a_space(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < 80
    net = OwnNetwork(example(name, monkeypatch).Net())
    assert net.space.size() >= 100
    for arch in samples(net.space, 3):
        assert net.child(arch).state_dict().keys() == net.slice(arch).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_to_a_verdict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, in_this_process: None
) -> None:
    data = {"resnet": "cifar10_dir", "transformer": "data_dir"}.get(name)
    if data is not None:
        monkeypatch.setenv("ENAS_DATA", str(request.getfixturevalue(data)))
    for key, value in SMALL.items():
        monkeypatch.setenv(key, value)
    module, run = example(name, monkeypatch), tmp_path / "run"
    if name == "resnet":  # all of its images are read again for every architecture that is trained
        monkeypatch.setattr(module, "load", load_few)
    module.main(str(run), 0, TINY, seeds=2)
    assert Compared.read(run).verdict.cells == 8
    page = (run / "report.html").read_text()
    assert "What was chosen, how sure" in page
    assert "Net, as chosen" in page
