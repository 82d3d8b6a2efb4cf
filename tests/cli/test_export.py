"""`enas export`: what a training came to, as files that answer in a process without `enas`."""

from __future__ import annotations

import dataclasses
import json
import random
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from documented import ROOT, markdown, python_blocks
from enas.cli.main import main
from enas.data.settings import DataSettings
from enas.networks.registry import BACKBONES
from enas.runs import export as exporting
from enas.runs.export import export
from enas.runs.plan import Plan
from enas.runs.planning import preset_plan, problem_plan
from enas.runs.retrain import retrain
from enas.spaces.architecture import VERSION, Architecture
from enas.spaces.registry import SPACES

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
PRESETS = {
    "conv_micro": "digits-micro",
    "conv_macro": "digits-macro",
    "rnn_cell": "text-rnn",
    "nasbench201": "nasbench201",
    "nasbench_macro": "nasbench_macro",
}
WITHOUT = """
import sys

class Forbidden:
    def find_spec(self, name, *_):
        assert name.partition(".")[0] not in {forbidden}, name + " is imported"

sys.meta_path.insert(0, Forbidden())
"""
OWN = """
import torch
from torch import nn

import enas
from enas import OneOf, SomeOf


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = OneOf("body", {"wide": nn.Linear(4, 16), "deep": nn.Sequential(nn.Linear(4, 16), nn.ReLU())})
        self.act = SomeOf("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()}, combine="sum")
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = x["x"] if isinstance(x, dict) else x
        return self.head(self.act(self.body(x)))


def problem():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return enas.Problem(Net, (x, x[:, :3].argmax(1)), batch_size=20)


class OfMappings(Net):
    def forward(self, batch):
        return super().forward(batch["x"].mean(1)) + batch["shift"][:, None]


def mappings(**more):
    x = torch.randn(60, 5, 4, generator=torch.Generator().manual_seed(0))
    rows = [{"x": one, "shift": one.sum(), "y": int(one[0, 0] > 0), **more} for one in x]
    return enas.Problem(OfMappings, rows, target="y", batch_size=20)


def named():
    return mappings(name="a text")
"""


def quick(plan: Plan, **network: Any) -> Plan:
    """The plan with a training of one short epoch."""
    task = {"batch_size": 20, "test_batch": 64} if plan.names.task == "language_model" else {"batch_size": 20}
    r = plan.settings.retrain
    r = dataclasses.replace(r, epochs=1, train_on="train", task=dataclasses.replace(r.task, **task), **network)
    return plan.with_settings(retrain=r)


def train(space: str, folder: Path) -> Path:
    """A training from scratch of a random architecture of a space, without a download."""
    plan = quick(preset_plan(PRESETS[space], device="cpu"), network=BACKBONES[SPACES[space].make().backbone].small)
    data = DataSettings("digits", train=40, validation=40)
    if space == "rnn_cell":
        data = dataclasses.replace(plan.settings.data, train=1000)
    plan = dataclasses.replace(plan.with_settings(space=SPACES[space].small[0], data=data), threads=1)
    retrain(plan, plan.space.sample(random.Random(3)), folder)
    return folder


class Trainings(dict[str, Path]):
    """A training of each space, made when it is first asked for."""

    def __init__(self, root: Path):
        super().__init__()
        self.root = root

    def __missing__(self, space: str) -> Path:
        self[space] = train(space, self.root / space)
        return self[space]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of an earlier version, derived and retrained."""
    return shutil.copytree(BEFORE, tmp_path / "run")


def python(code: str, *args: object, cwd: Path | None = None, without: tuple[str, ...] = ("enas",)) -> str:
    """What a process says that may not import some packages."""
    words = [sys.executable, "-c", WITHOUT.format(forbidden=without) + code, *map(str, args)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def expected(folder: Path) -> dict[str, torch.Tensor]:
    """Inputs of a trained network and its outputs."""
    source = exporting._named(folder, folder, None, "trained", None, None)
    child, _, _ = exporting._prepared(source.plan.on(None, "cpu"), source, "trained")
    inputs = exporting.inputs_of(child, streams=5, steps=1)
    outputs = exporting.outputs_of(child, inputs)
    return {f"{kind}{i}": t.contiguous() for kind, some in (("x", inputs), ("y", outputs)) for i, t in enumerate(some)}


COMPARE = """
import runpy, sys
from pathlib import Path
import torch
from safetensors.torch import load_file

rest = sys.argv[2:]
cut = rest.index("--") if "--" in rest else len(rest)
questions = rest[cut + 1:]
for name in rest[:cut]:
    path = Path(name)
    values = load_file(path.parent / "values.safetensors")
    x, y = ([values[key] for key in sorted(values) if key[0] == kind] for kind in "xy")
    if sys.argv[1] == "py":
        network = runpy.run_path(str(path))["load"]()
    else:
        network = torch.export.load(name).module()
    with torch.no_grad():
        found = network(*x)
    found = found if isinstance(found, tuple) else (found,)
    for a, b in zip(found, y, strict=True):
        assert a.shape == b.shape
        assert torch.equal(a, b) if sys.argv[1] == "py" else torch.allclose(a, b, rtol=0, atol=1e-5), name
    print("same")
for file, argument in zip(questions[::2], questions[1::2], strict=True):
    sys.argv = [file, argument]
    runpy.run_path(file, run_name="__main__")
"""
COMPARE_ONNX = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime

for name in sys.argv[1:]:
    values = dict(np.load(Path(name).parent / "values.npz"))
    x, y = ([values[key] for key in sorted(values) if key[0] == kind] for kind in "xy")
    session = onnxruntime.InferenceSession(name)
    found = session.run(None, {place.name: value for place, value in zip(session.get_inputs(), x, strict=True)})
    for a, b in zip(found, y, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1, np.abs(b).max()), name
    print("same")
"""


# ---------------------------------------------------------------- files that answer
@pytest.mark.slow
def test_python_files_of_all_spaces_answer_without_enas(trainings: Trainings, tmp_path: Path) -> None:
    """With the outputs of the network; and a classifier names an image, a language model judges a
    text."""
    files = []
    for folder in (trainings[space] for space in PRESETS):
        assert main(["export", str(folder)]) == 0
        save_file(expected(folder), folder / "values.safetensors")
        files.append(folder / "exported.py")
    classifier, words = (str(trainings[space] / "exported.py") for space in ("conv_micro", "rnn_cell"))
    image = digit(tmp_path / "digit.png")
    said = python(COMPARE, "py", *files, "--", classifier, image, words, "the class is").splitlines()
    assert said[: len(files)] == ["same"] * len(files)
    assert said[len(files)] == str(image)
    assert len(said) == len(files) + 6 + 7
    assert "per token, of 3 tokens" in said[len(files) + 6]


@pytest.mark.slow
def test_onnx_and_torch_files_answer_without_enas(trainings: Trainings) -> None:
    """One of images and one of text; tests/networks/test_export.py has those of all spaces."""
    pytest.importorskip("onnxruntime")
    folders = [trainings[space] for space in ("conv_micro", "rnn_cell")]
    for folder in folders:
        assert "opset 18, checked by onnxruntime" in export(folder, "onnx").checked
        export(folder, "torch")
        values = expected(folder)
        save_file(values, folder / "values.safetensors")
        np.savez(folder / "values.npz", **{key: value.numpy() for key, value in values.items()})
    n = len(folders)
    assert python(COMPARE, "pt2", *(folder / "exported.pt2" for folder in folders)).split() == ["same"] * n
    onnx_files = [folder / "exported.onnx" for folder in folders]
    assert python(COMPARE_ONNX, *onnx_files, without=("enas", "torch")).split() == ["same"] * n


def digit(path: Path) -> Path:
    from PIL import Image
    from sklearn import datasets

    Image.fromarray((datasets.load_digits().images[0] * 255 / 16).round().astype("uint8")).save(path)
    return path


def answer(file: Path, argument: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `python FILE ARGUMENT` says."""
    monkeypatch.setattr(sys, "argv", [str(file), str(argument)])
    capsys.readouterr()
    runpy.run_path(str(file), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_a_classifier_reads_images_as_they_were_trained_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the run, what `retrain` chose; pixels are normalised as those of the data set."""
    assert main(["export", str(run)]) == 0
    file, image = run / "exported.py", digit(tmp_path / "digit.png")
    x = runpy.run_path(str(file))["read"](str(image))
    data = exporting._named(run, run, None, "trained", None, None).plan.load_data()
    parts = [data.normalised(part) for part in ("train", "validation", "test")]
    assert x.shape == (1, 1, 8, 8)
    assert any((x == part).flatten(1).all(1).any() for part in parts)
    lines = answer(file, image, monkeypatch, capsys)
    assert lines[0] == str(image)
    assert len(lines) == 6
    assert all(line.split()[0].endswith("%") and line.split()[1] in data.class_names for line in lines[1:])
    not_image = tmp_path / "notes.png"
    not_image.write_text("no image")
    for argument in (not_image, tmp_path / "missing.png", "--help"):
        with pytest.raises(SystemExit, match="usage: python" if argument == "--help" else str(argument)) as end:
            answer(file, argument, monkeypatch, capsys)
        assert "\n" not in str(end.value)
    source = file.read_text()
    for stated in ("run          run", "data         digits", "training seed 0", "test_accuracy 0.0942828", "torch 2."):
        assert stated in source


@pytest.mark.slow
def test_a_language_model_answers(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its perplexity is that of the network on the same tokens, from a zero state."""
    folder = trainings["rnn_cell"]
    export(folder)
    with safe_open(folder / "exported.safetensors", "pt") as file:
        words = json.loads(file.metadata()["vocabulary"])
    said = answer(folder / "exported.py", "The xyzzy is", monkeypatch, capsys)
    source = exporting._named(folder, folder, None, "trained", None, None)
    child, _, _ = exporting._prepared(source.plan.on(None, "cpu"), source, "trained")
    x = torch.tensor([[words.index(word)] for word in ("<eos>", "the", "<unk>", "is")])
    with torch.no_grad():
        logits = child(x)[0].logits_TBV[:, 0]
    perplexity = torch.nn.functional.cross_entropy(logits[:-1], x[1:, 0]).exp().item()
    assert said[0] == f"perplexity {perplexity:,.2f} per token, of 3 tokens"
    assert said[2].split()[1] == words[int(logits[-1].argmax())]
    assert len(said) == 2 + 5


def test_tokens_are_cut_as_the_data_set_cuts_them() -> None:
    import re

    from enas.data.text import _words
    from enas.networks.export.python import TOKENS

    for kind, text, wanted in (
        ("words", "a b.\nc", ["a", "b.", "<eos>", "c"]),
        ("marks", "A b-2, c.", _words("A b-2, c.")),
        ("characters", "a b\n", ["a", " ", "b", "<eos>"]),
    ):
        space: dict[str, Any] = {"re": re}
        exec(TOKENS[kind], space)
        assert space["tokens"](text) == wanted


# ---------------------------------------------------------------- what is named
def test_an_architecture_without_weights(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (file,) = export("darts_rnn", weights="none", preset="text-rnn").files
    assert file == Path(f"rnn_cell_{exporting.architecture_of('darts_rnn').id}.py")
    other = exporting.best_of(run)[-1]
    (tmp_path / "other.json").write_text(other.to_json())
    done = export(run, weights="none", arch="other.json", out="other")
    (file,) = done.files
    assert file == Path("other.py")
    assert "load_file" not in file.read_text()
    assert other.id in file.read_text()


def test_an_average_of_weights_is_what_is_exported(trainings: Trainings, tmp_path: Path) -> None:
    from enas.runs.folder import RunFolder
    from enas.state import State

    folder = RunFolder.open(shutil.copytree(trainings["conv_micro"], tmp_path / "averaged"))
    state = folder.read_checkpoint()
    mean = torch.full((10,), 0.5)
    state = State({**state.tensors, "average/classifier.bias.bias": mean}, {**state.values, "average": {}})
    with folder:
        folder.checkpoint(state)
    export(folder.path)
    with safe_open(folder.path / "exported.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("classifier.bias"), mean)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("enas_micro", "'enas_micro' has no trained weights: name a run or a training, or add --weights none"),
        ("RUN --arch enas_micro", "'enas_micro' has no trained weights in"),
        ("RUN --preset digits-micro", "has its own preset and recipe"),
        ("RUN --out nowhere/x.py", "there is no 'nowhere'"),
        ("RUN --out 2-bad.py", "named as a module can be"),
        ("UNTRAINED", "run `enas retrain"),
        ("UNFINISHED", "is not finished"),
        ("LATER --weights none", f"architectures of version {VERSION} and earlier are read; this one is of version 99"),
        ("nothing --weights none", "is not a run, an architecture file, a published form or a published architecture"),
    ],
)
def test_errors_are_one_line(
    command: str, words: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    untrained = shutil.copytree(BEFORE, tmp_path / "untrained")
    (untrained / "retrained.json").unlink()
    unfinished = next((run / "retrain").iterdir()) if "UNFINISHED" in command else run
    if unfinished != run:
        (unfinished / "result.json").unlink()
    later = {**exporting.best_of(run)[0].to_dict(), "version": 99}
    (tmp_path / "later.json").write_text(json.dumps(later))
    for name, value in (("RUN", run), ("UNTRAINED", untrained), ("UNFINISHED", unfinished), ("LATER", "later.json")):
        command = command.replace(name, str(value))
    assert main(["export", *command.split()]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_missing_packages_are_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^format onnx needs the package onnx: pip install 'enas\[onnx\]'$"):
        export(run, "onnx")


@pytest.mark.parametrize("off", [1e-3, float("nan")])
def test_what_differs_is_not_written(off: float, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs_of = exporting.outputs_of
    monkeypatch.setattr(exporting, "outputs_of", lambda child, x: tuple(y + off for y in outputs_of(child, x)))
    with pytest.raises(ValueError, match="differs by 1e-05 at most; the Python file differs by"):
        export(run)
    assert not list(run.glob("exported*"))


# ---------------------------------------------------------------- networks of one's own
def own_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str = "problem") -> Path:
    name = f"exported_problem_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = quick(problem_plan(f"{name}:{function}", device="cpu"))
    arch = plan.space.architecture({"body": "deep", "act": ["relu", "tanh"]})
    retrain(plan, arch, tmp_path / "own")
    return tmp_path / "own"


def test_a_network_of_ones_own_has_no_python_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = r"classes of your own: --format onnx or --format torch exports it, and in Python enas\.Run\(RUN\)\.child\(\)"
    with pytest.raises(ValueError, match=says):
        export(own_training(tmp_path, monkeypatch))


@pytest.mark.slow
def test_inputs_are_tensors_of_any_number_of_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their shapes are printed, and other numbers are tried before a file is written."""
    folder = own_training(tmp_path, monkeypatch, "mappings")
    assert main(["export", str(folder), "--format", "torch"]) == 0
    said = capsys.readouterr().out
    assert "inputs: x (batch, 5, 4) float32, shift (batch) float32; all but batch is fixed" in said
    kept = (folder / "exported.pt2").read_bytes()

    def for_two(x: dict[str, torch.Tensor]) -> torch.Tensor:
        assert len(x["x"]) == 2, "made for two"
        return x["x"]

    monkeypatch.setattr("enas.networks.export.program.loaded", lambda data: for_two)
    assert main(["export", str(folder), "--format", "torch"]) == 2
    assert "any number of examples; with 3 the program raised AssertionError: made for two" in capsys.readouterr().err
    assert (folder / "exported.pt2").read_bytes() == kept


def test_an_input_that_is_no_tensor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own_training(tmp_path, monkeypatch, "named")
    assert main(["export", str(folder), "--format", "torch"]) == 2
    assert "an exported network takes tensors; input name.0 is str" in capsys.readouterr().err
    assert not list(folder.glob("exported*"))


@pytest.mark.slow
def test_a_network_of_ones_own_is_exported_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    folder = own_training(tmp_path, monkeypatch)
    assert "checked by onnxruntime" in export(folder, "onnx").checked
    assert export(folder, "torch").checked == "its outputs equal the network's"
    source = exporting._named(folder, folder, None, "trained", None, None)
    child, _, _ = exporting._prepared(source.plan, source, "trained")
    x = torch.randn(7, 4)  # at another batch size than it was made with
    with torch.no_grad():
        values = {"x0": x, "y0": child(x)}
    save_file(values, folder / "values.safetensors")
    np.savez(folder / "values.npz", **{key: value.numpy() for key, value in values.items()})
    assert python(COMPARE, "pt2", folder / "exported.pt2", cwd=Path("/")).split() == ["same"]
    assert python(COMPARE_ONNX, folder / "exported.onnx", without=("enas", "torch")).split() == ["same"]


# ---------------------------------------------------------------- architecture files
def test_architecture_files_say_where_they_come_from(run: Path, tmp_path: Path) -> None:
    assert main(["show", str(run), "--out", str(tmp_path / "best.json")]) == 0
    data = json.loads((tmp_path / "best.json").read_text())
    assert data["version"] == VERSION
    assert {"run", "preset", "recipe", "seed", "enas"} <= dict(Architecture.from_dict(data).provenance).keys()
    del data["version"]  # as earlier versions wrote it
    assert Architecture.from_dict(data) == exporting.architecture_of(run)


# ---------------------------------------------------------------- docs
SMALL = "--search.epochs 2 --search.warmup-epochs 1 --search.controller-steps 2 --search.architectures 2 --search.probes 0"
SMALL += " --derive.samples 4 --derive.keep 2 --derive.uniform 0 --derive.draw policy --derive.finalists 0"
SMALL += " --derive.trainings 0 --retrain.epochs 1 --threads 1 --space.num-nodes 2"
IMAGES = "--data.train 60 --data.validation 40 --task.batch-size 20 --task.reward-batch 20 --retrain.task.batch-size 20"
IMAGES += " --network.filters 4 --retrain.network.filters 4"
WORDS = "--data.train 2000 --network.hidden 8 --retrain.network.hidden 8 --retrain.task.test-batch 64"


@pytest.mark.slow
def test_every_line_of_the_page(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    few_are_scored: None,
    in_this_process: None,
) -> None:
    """From a search to the files, as docs/export.md has the commands; then its Python."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    for run, preset, flags in (("mine", "digits-micro", IMAGES), ("words", "text-rnn", WORDS)):
        assert main(["search", preset, "--out", f"runs/{run}", *f"{SMALL} {flags}".split()]) == 0
        assert main(["derive", f"runs/{run}"]) == 0
        assert main(["retrain", f"runs/{run}"]) == 0
    digit(tmp_path / "digit.png")
    page = ROOT / "docs" / "export.md"
    lines = markdown(page)["Export"]
    assert len(lines) >= 7
    for line in lines:
        program, *args = shlex.split(line)
        if program == "enas":
            if args != ["export"]:  # the command's name within a text
                assert main(args) == 0, line
        elif program == "python":
            code = "import runpy; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
            assert "%" in python(code, *args, cwd=tmp_path), line
    for block in python_blocks(page):
        assert '["0", "1",' in python(block, cwd=tmp_path)
