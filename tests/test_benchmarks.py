"""The benchmarks measure what they say: sizes are the recipes', scripts run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu, limits, steps, supernet  # noqa: E402

from enas.cli.main import main  # noqa: E402
from enas.runs.presets import registry as presets  # noqa: E402
from enas.spaces.nasbench201 import nasbench201  # noqa: E402

CELL = [decision.name for decision in nasbench201().decisions]


@pytest.mark.parametrize(
    ("job", "preset"), [("recurrent", "ptb-rnn"), ("macro", "cifar10-macro"), ("micro", "cifar10-micro")]
)
def test_the_gpu_table_has_the_papers_sizes(job: str, preset: str) -> None:
    recipe = presets.config_of(preset, "paper")
    planned = gpu.JOBS[job]
    assert planned.network == recipe.network
    assert planned.batch == recipe.task.batch_size
    assert (planned.epochs, planned.controller_steps) == (recipe.search.epochs, recipe.search.controller_steps)
    assert recipe.search.architectures == recipe.search.children == 1
    if job != "recurrent":
        assert planned.train_steps == -(-45_000 // planned.batch)
    else:
        assert planned.steps == recipe.task.bptt
        assert planned.train_steps == (929_589 - 1) // planned.batch // planned.steps + 1


def test_the_supernet_is_of_the_published_size() -> None:
    recipe, search = presets.config_of("nasbench201", "paper"), supernet._search(supernet._noise(), "cpu", False)
    assert search.settings.optimizer == recipe.search.optimizer
    assert search.task.settings == recipe.task
    assert search.supernet.settings == dataclasses.replace(recipe.network, computation="static")


def test_traffic_counts_what_is_read_and_written() -> None:
    x = torch.ones(10, 10)
    with gpu.Traffic() as traffic:
        (x.t() + 1).sum()
    assert traffic.bytes == 400 + 400 + 400 + 4


@pytest.mark.slow
def test_the_losses_of_steps_are_those_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["retrain", "enas_micro", "--preset", "digits-micro", "--retrain.epochs", "1"]
    # 20 steps an epoch
    command += ["--retrain.network.filters", "2", "--retrain.task.batch-size", "20"]
    monkeypatch.setattr(sys, "argv", ["steps.py", "20", *command])
    steps.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    (epoch,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert found["loss_last_20_mean"] == pytest.approx(epoch["train_loss"], rel=1e-6)
    assert found["loss_first"] <= found["loss_largest"]
    assert found["rolled_back"] == 0
    with pytest.raises(SystemExit, match="after 20 of 21 losses"):
        steps.first_losses(21, command)


@pytest.mark.slow
def test_the_gpu_script_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row, at tiny sizes on a CPU; a second call has nothing left to measure."""
    # it changes both
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    usual = torch.get_float32_matmul_precision()
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--out", str(out)])
    try:
        gpu.main()
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["row"] for row in rows] == list(gpu.rows())
        assert not [row for row in rows if "error" in row]
        by_name = {row["row"]: row for row in rows}
        for what in ("micro", "macro", "from scratch"):
            assert by_name[f"agreement {what}"]["worst_difference"] < 1e-9
            assert by_name[f"agreement {what}"].get("worst_reward_difference", 0.0) < 1e-9
        assert by_name["NAS-Bench-201's supernet"]["random_cells"] == 6
        capsys.readouterr()
        gpu.main()
        assert len(out.read_text().splitlines()) == len(rows)
        assert "micro training step, ms" in capsys.readouterr().out
    finally:
        torch.set_float32_matmul_precision(usual)


@pytest.mark.slow
def test_the_supernet_of_nasbench201_goes_on(tmp_path: Path) -> None:
    """Stopped in the middle of a pass and called again, as in one go; what judges by the truth
    agrees with it."""
    whole = supernet.ranked("cpu", True, lambda: 1.0, tmp_path / "one.pt")
    assert whole["passes"] == whole["of"]
    assert "unfinished" not in whole
    assert whole["random_tau_parameters"].startswith("1.00")
    assert whole["random_pick_parameters"] > whole["random_truth"]
    times = iter([1.0] * 4)
    first = supernet.ranked("cpu", True, lambda: next(times, -1.0), tmp_path / "two.pt")
    assert (first["passes"], first["steps"], first["unfinished"]) == (0, 3, True)
    assert supernet.ranked("cpu", True, lambda: 1.0, tmp_path / "two.pt") == whole
    assert supernet.ranked("cpu", True, lambda: 0.0, tmp_path / "two.pt") == {"skipped": "too little time"}


def test_the_supernet_needs_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supernet, "ROOT", tmp_path / "alone")
    monkeypatch.setenv("ENAS_DATA", str(tmp_path))
    row = supernet.ranked("cpu", False, lambda: 600.0, tmp_path / "no.pt")
    assert "ENAS_DATA" in row["skipped"]
    assert row.keys() & gpu.AGAIN


def test_the_table_of_nasbench201_is_read(data_dir: Path) -> None:
    truth = supernet._table(data_dir)
    cells = [nasbench201().architecture(dict.fromkeys(CELL, op)) for op in ("none", "nor_conv_3x3")]
    assert [truth(cell) for cell in cells] == pytest.approx([10.0, 93.76], abs=1.0)


@pytest.mark.slow
def test_the_share_script_runs() -> None:
    """In a process of its own: it measures inside of classes and leaves them so."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    small = "--epochs 1 --data.train 60 --data.validation 40 --space.num-nodes 2 --network.filters 4"
    command = [sys.executable, "-m", "benchmarks.share", "digits-micro", *small.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_ranks_script_runs() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    small = "--filters 2 --train 60 --rounds 1 --controller-steps 2"
    command = [sys.executable, "-m", "benchmarks.ranks", *small.split()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fixed, drawn = map(json.loads, done.stdout.splitlines())
    assert 0 < fixed["sent_share"] < 1
    assert drawn["ratio_processor"] > 0


@pytest.mark.slow
def test_the_model_of_cost_runs() -> None:
    """At toy sizes: a line per size, and a prediction for what was not fitted."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.model", "--toy", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held out: macro") == 1
    for said in ("counted over real: 1.00 to 1.00", "all-reduce of 2 processes", "decoding:"):
        assert said in done.stdout


@pytest.mark.slow
def test_the_gpu_script_needs_torch_and_numpy_only() -> None:
    """As on a machine where nothing else was installed."""
    code = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tyro", "rich", "safetensors", "matplotlib", "tensorboard", "pooch", "sklearn", "scipy",
                                  "fast_sugiyama", "docstring_parser"):
            raise ImportError(name)
sys.meta_path.insert(0, Only())
import benchmarks.gpu
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("space", limits.PRESETS)
def test_a_trained_policy_obeys_the_limit_of_every_space(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the 20th percentile of cost; frequencies are those of its scores. It is taught at a higher
    rate than where it is measured, in fewer steps, and layers are few."""
    monkeypatch.setitem(limits.PRESETS, "conv_macro", "digits-macro")
    monkeypatch.setattr(limits, "LEARNING", dataclasses.replace(limits.LEARNING, learning_rate=0.05))
    for name, few in (("ASKED", 4), ("SAMPLES", 100), ("FREE", 50)):
        monkeypatch.setattr(limits, name, few)
    found = limits.measured(space, 600)
    assert found["obey"] == found["asked"] == 600
    assert found["p_value"] > 1e-3
    assert found["categories"] > 1
