"""The commands as a user meets them: the whole way, bad input in one line, a run that nothing
destroys."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from enas.cli.main import main
from enas.grading.reproduce import paper_settings, survey
from enas.runs.files import read_lines
from enas.runs.folder import CHECKPOINT
from enas.spaces.published import named

SMALL = [
    *("--space.num-nodes", "2", "--network.filters", "4", "--data.train", "60", "--data.validation", "40"),
    *("--task.batch-size", "20", "--task.reward-batch", "20", "--search.epochs", "3", "--search.warmup-epochs", "1"),
    *("--search.children", "1", "--search.controller-steps", "2", "--search.architectures", "2"),
    *("--search.probes", "3", "--derive.samples", "4"),
    *("--derive.draw", "policy", "--derive.finalists", "0", "--derive.trainings", "0", "--derive.uniform", "30"),
    *("--derive.keep", "3", "--retrain.epochs", "2", "--retrain.network.filters", "4", "--retrain.task.batch-size", "20"),
]
LONG = [*SMALL, "--search.epochs", "7"]
PATIENCE = 300  # seconds that a process may take on a busy machine
COMMANDS = (
    "search",
    "resume",
    "derive",
    "retrain",
    "show",
    "export",
    "compare",
    "report",
    "reproduce",
    "presets",
    "data",
    "list",
    "oracle",
    "table",
)


def enas(*args: object) -> int:
    return main([str(arg) for arg in args])


def small_search(out: Path, *more: object) -> Path:
    assert enas("search", "digits-micro", "--out", out, *SMALL, *more) == 0
    return out


def log(run: Path) -> tuple[bytes, bytes]:
    return (run / "metrics.jsonl").read_bytes(), (run / "architectures.jsonl").read_bytes()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_search(tmp_path_factory.mktemp("cli") / "run")


@pytest.fixture(scope="module")
def derived(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(searched, tmp_path_factory.mktemp("derived") / "run"))
    assert enas("derive", run) == 0
    return run


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A searched run of one's own."""
    return Path(shutil.copytree(searched, tmp_path / "run"))


@pytest.fixture
def derived_copy(derived: Path, tmp_path: Path) -> Path:
    """A derived run of one's own."""
    return Path(shutil.copytree(derived, tmp_path / "derived"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What those that are stopped in the middle come to in the end."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert enas("search", "digits-micro", "--out", run, *LONG) == 0
    return run


def one_line(capsys: pytest.CaptureFixture[str], status: int, *fragments: str) -> str:
    """The last command failed as it should: status 2, one line that says what is needed, no
    traceback."""
    err = capsys.readouterr().err
    assert status == 2, err
    assert err.startswith("enas: ")
    assert err.count("\n") == 1, err
    for fragment in fragments:
        assert fragment in err, err
    return err


# ---------------------------------------------------------------------------------- the whole way
@pytest.mark.slow
def test_graded_by_sharing_ranking_and_cost(
    derived_copy: Path, capsys: pytest.CaptureFixture[str], in_this_process: None
) -> None:
    """Beside uniform cells: what random search with weight sharing finds, how the scores rank, what
    it cost. Done once."""
    run = derived_copy
    command = ("compare", run, "--cells", 6, "--seeds", 2, "--sharing")
    assert enas(*command) == 0
    said = capsys.readouterr().out
    found = json.loads((run / "compare.json").read_text())
    assert "uniform sharing" in said
    assert set(found["references"]) == {"uniform sharing"}
    assert len(found["test_accuracy"]["uniform sharing"]) == 2
    rankers = [row["ranker"] for row in found["rankings"]]
    assert rankers[:5] == [
        "shared weights, accuracy",
        "shared weights, loss",
        "number of parameters",
        "multiply-adds",
        "depth",
    ]
    assert all(name.startswith("number of ") for name in rankers[5:])
    assert all(-1 <= row["kendall"]["low"] <= row["kendall"]["high"] <= 1 for row in found["rankings"])
    assert found["ledger"]["trainings"] == 2 + 6 + 2
    other = json.loads((run / "uniform-sharing" / "config.json").read_text())
    assert other["names"]["strategy"] == "random"
    assert other["settings"]["search"] == json.loads((run / "config.json").read_text())["settings"]["search"]
    searched, times = (
        run / "uniform-sharing" / "metrics.jsonl",
        [p.stat().st_mtime_ns for p in sorted(run.rglob("*.json*"))],
    )
    before = searched.read_bytes()
    assert enas(*command) == 0
    assert searched.read_bytes() == before
    again = [p.stat().st_mtime_ns for p in sorted(run.rglob("*.json*")) if p.name != "compare.json"]
    assert set(again) <= set(times), "nothing is done twice"
    assert enas("report", run) == 0
    page = (run / "report.html").read_text()
    assert "Do the shared weights rank?" in page
    assert "What it cost" in page


@pytest.mark.slow
def test_the_whole_way(derived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enas("retrain", derived, "--top", 2, "--jobs", 1) == 0
    rows = json.loads((derived / "retrained.json").read_text())["trainings"]
    assert len(rows) == 2
    assert rows[0]["validation_accuracy"] >= rows[1]["validation_accuracy"], "the choice is on validation images"
    assert enas("compare", derived, "--cells", 2, "--seeds", 2, "--jobs", 2) == 0
    out = capsys.readouterr().out
    verdict = next(line for line in out.splitlines() if line.startswith("verdict: "))
    assert json.loads((derived / "compare.json").read_text())["verdict"] in verdict
    assert enas("report", derived) == 0
    says = verdict.removeprefix("verdict: ").split(" (")[0].replace("+-", "±")
    assert says in (derived / "report.html").read_text()
    for name in (
        "config.json",
        "metrics.jsonl",
        "architectures.jsonl",
        "timing.jsonl",
        "best.json",
        "best.svg",
        "best.png",
    ):
        assert (derived / name).stat().st_size > 0, name
    assert enas("show", derived) == 0
    assert "n3" in capsys.readouterr().out
    as_a_run_on_cifar10_is_read(shutil.copytree(derived, derived.parent / "labelled"))


@pytest.mark.slow
def test_a_budget_goes_the_whole_way(
    tmp_path: Path, in_this_process: None, taught_shortly: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_search(tmp_path / "run", "--budget", "8s", "--derive.finalist-steps", "2")
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["search"]["epochs"] <= 3
    assert 6 <= settings["derive"]["budget"] < 8
    best = json.loads((run / "best.json").read_text())
    assert best["judged"]["trainings"] >= 6
    out = capsys.readouterr().out
    assert f"next: enas retrain {run}" in out
    assert "next: enas derive" not in out
    assert enas("search", "digits-micro", "--budget", "40s", "--epochs", "3") == 2
    assert "leave out --epochs" in capsys.readouterr().err


def as_a_run_on_cifar10_is_read(run: Path) -> None:
    """In the table of the paper's experiments, once its labels say that it is one."""
    assert not any(row.ours for row in survey([run], paper_settings()).rows), "digits are no data of the paper"
    for file in run.rglob("config.json"):
        config = json.loads(file.read_text())
        del config["sha256"]  # as somebody who edits by hand does
        text = json.dumps(config).replace('"digits-micro"', '"cifar10-micro"')
        file.write_text(text.replace('"dataset": "digits"', '"dataset": "cifar10"'))
    found = json.loads((run / "compare.json").read_text())
    rows = {row.experiment.name: row.ours for row in survey([run], paper_settings()).rows if row.ours}
    assert list(rows) == ["ENAS + micro search space", "guided random search, micro"]
    by_seed = next(ours for ours in rows["ENAS + micro search space"] if "2 seeds" in ours.over)
    assert (100 - by_seed.value, by_seed.spread) == pytest.approx((found["derived"], found["derived_spread"]))
    [uniform] = rows["guided random search, micro"]
    assert 100 - uniform.value == pytest.approx(found["derived"] - found["difference"])
    assert not by_seed.full and not uniform.full  # noqa: PT018


@pytest.mark.slow
def test_search_says_its_cost_first_and_the_next_command_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_search(tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    text = " ".join(lines)
    assert "recipe: quick" in lines[0]
    assert text.index("about") < text.index("epoch 1") < text.index("enas derive")
    begun = next(r for r in read_lines(run / "timing.jsonl") if r["event"] == "begin")
    assert begun["estimated_seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best.svg", "best.png", "best.pdf", "best.dot", "best.txt", "best.json"])
def test_show_writes(name: str, tmp_path: Path) -> None:
    assert enas("show", "enas_micro", "--out", tmp_path / name) == 0
    assert (tmp_path / name).stat().st_size > 100


def test_show_counts_parameters_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert enas("show", "enas_rnn_corrected") == 0
    drawn = capsys.readouterr().out
    assert drawn.startswith("cell\n")
    assert "parameters" not in drawn
    assert enas("show", "enas_rnn_corrected", "--sizes") == 0
    counted = capsys.readouterr().out
    assert counted.startswith(drawn)
    assert "ptb-rnn paper" in counted
    assert "hidden units of 24 M parameters (paper 3.1)" in counted


def test_a_shown_architecture_file_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enas("show", "enas_micro", "--out", tmp_path / "a.json") == 0
    capsys.readouterr()
    assert enas("show", tmp_path / "a.json") == 0
    again = capsys.readouterr().out
    assert enas("show", "enas_micro") == 0
    assert capsys.readouterr().out == again


@pytest.mark.slow
def test_retrain_a_named_architecture(tmp_path: Path) -> None:
    small = ("--retrain.network.filters", 4, "--epochs", 1, "--out", tmp_path / "t")
    assert enas("retrain", "enas_micro", "--preset", "digits-micro", *small) == 0
    result = json.loads((tmp_path / "t" / "result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1
    assert result["parameters"] > 0


@pytest.mark.slow
def test_other_settings_train_in_a_folder_of_their_own(derived: Path) -> None:
    assert enas("retrain", derived) == 0
    first = json.loads((derived / "retrained.json").read_text())["trainings"][0]
    assert enas("retrain", derived, "--epochs", 1) == 0
    other = json.loads((derived / "retrained.json").read_text())["trainings"][0]
    assert first["folder"] != other["folder"]
    assert enas("retrain", derived) == 0
    assert json.loads((derived / "retrained.json").read_text())["trainings"][0] == first


@pytest.mark.slow
def test_config_repeats_a_run(searched: Path, tmp_path: Path) -> None:
    assert enas("search", "--config", searched / "config.json", "--out", tmp_path / "again") == 0
    assert log(tmp_path / "again") == log(searched)
    assert enas("search", "--config", searched / "config.json", "--out", tmp_path / "other", "--seed", 1) == 0
    assert log(tmp_path / "other") != log(searched)


def test_presets_data_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (("presets",), ("presets", "show", "cifar10-micro", "paper"), ("data",), ("list",), ("list", "--json")):
        assert enas(*args) == 0
        assert capsys.readouterr().out.strip()
    assert enas("presets", "diff", "cifar10-micro", "paper", "released") == 0
    out = capsys.readouterr().out
    assert any(line.split() == ["search.epochs", "310", "150"] for line in out.splitlines())


def test_a_reader_may_stop_reading() -> None:
    command = f"{sys.executable} -m enas presets show cifar10-micro paper | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.slow
def test_every_setting_of_every_recipe_says_what_it_is() -> None:
    from enas.runs.presets import registry as presets
    from enas.runs.settings import described

    for name, entry in presets.PRESETS.items():
        for recipe in entry.recipes:
            for setting, _, about in described(presets.config_of(name, recipe)):
                assert about, (name, recipe, setting)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        enas(name, "--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    if name != "list":
        assert f"enas {name} " in out.split("usage:")[-1].split("\n", 1)[1], "help shows an example"


# -------------------------------------------------------------------------------------- bad input
@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        (("serach",), ("a command is one of", "serach")),
        (("search",), ("name what to search",)),
        (("search", "digits-mikro"), ("a preset is one of", "digits-mikro")),
        (("search", "digits-micro", "--recipe", "fast"), ("a recipe of", "fast")),
        (("search", "digits-micro", "--search.epochs", "0"), ("search.epochs is at least 1", "0")),
        (("search", "digits-micro", "--search.epochs", "many"), ("epochs",)),
        (("search", "digits-micro", "--search.epoch", "3"), ("--search.epoch",)),
        (("search", "digits-micro", "--network.dropout", "1.5"), ("network.dropout is at least 0 and below 1", "1.5")),
        (("search", "digits-micro", "--space.ops", "conv_9x9"), ("an op is one of", "conv_9x9")),
        (("search", "digits-micro", "--space.num-nodes", "0"), ("between 1 and 256",)),
        (("search", "digits-micro", "--max-time", "soon"), ("20m", "soon")),
        (("search", "digits-micro", "--threads", "0"), ("threads is between 1 and 1024",)),
        (("search", "digits-micro", "--device", "tpu"), ("device 'tpu'",)),
        (("search", "digits-micro", "--config", "nowhere.json"), ("no file 'nowhere.json'",)),
        (("search", "cifar10-micro"), ("--data",)),
        (("search", "cifar10-micro", "--data", "nowhere"), ("nowhere",)),
        (("resume", "nowhere"), ("'nowhere' has none",)),
        (("derive", "nowhere"), ("'nowhere' has none",)),
        (("retrain", "nowhere"), ("is not a run, an architecture file", "nowhere")),
        (("retrain",), ("name what to train",)),
        (("show", "nowhere"), ("is not a run, an architecture file", "nowhere")),
        (("show", "enas_micro", "--out", "cell.jpg"), (".svg", ".jpg")),
        (("compare", "nowhere"), ("'nowhere' has none",)),
        (("report", "nowhere"), ("nowhere",)),
        (("reproduce", "nowhere"), ("'nowhere' has none",)),
        (("reproduce", "."), ("'.' has none, nor a run in it",)),
        (("reproduce", "--out", "found.pdf"), (".md, .json, .html", "found.pdf")),
        (("presets", "show"), ("takes a preset",)),
        (("presets", "diff", "cifar10-micro", "paper"), ("takes two recipes",)),
        (("data", "get", "imagenet"), ("imagenet",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line(
    args: tuple[str, ...],
    fragments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(capsys, enas(*args), *fragments)
    assert not list(tmp_path.rglob("config.json")), "nothing is begun"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bad_flags_are_one_line_whatever_the_terminal_can_show(
    encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    for flag, value, fragment in (
        ("--task.batch-size", "0", "task.batch_size is at least 2; got 0; see `enas search --help`"),
        ("--task.batch-siz", "3", "Unrecognized options: --task.batch-siz, 3; perhaps you meant --task.batch-size; see"),
        ("--task.batch-size", "x", "--task.batch-size: invalid literal for int() with base 10: 'x'; see"),
    ):
        one_line(capsys, enas("search", "digits-micro", flag, value), fragment)


@pytest.mark.slow
def test_truncated_data_is_one_line(tmp_path: Path, cifar10_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in (cifar10_dir / "cifar-10-batches-py").iterdir():
        (folder / file.name).symlink_to(file)
    cut = folder / "data_batch_3"
    whole = cut.read_bytes()
    cut.unlink()
    cut.write_bytes(whole[:1_000_000])
    one_line(capsys, enas("search", "cifar10-micro", "--data", tmp_path, "--out", tmp_path / "run"), "data_batch_3")
    assert not (tmp_path / "run").exists()


def test_an_architecture_of_another_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = json.loads(named("enas_micro").to_json())
    (tmp_path / "space.json").write_text(json.dumps({**arch, "space": {"name": "conv_mega"}}))
    one_line(capsys, enas("show", tmp_path / "space.json"), "conv_mega")
    (tmp_path / "op.json").write_text(json.dumps(arch).replace("sep_conv_3x3", "sep_conv_9x9"))
    one_line(capsys, enas("show", tmp_path / "op.json"), "sep_conv_9x9")
    arch["space"]["num_nodes"] = 3
    (tmp_path / "nodes.json").write_text(json.dumps(arch))
    one_line(capsys, enas("retrain", tmp_path / "nodes.json", "--preset", "digits-micro"), "n5")
    (tmp_path / "text.json").write_text("a cell")
    one_line(capsys, enas("show", tmp_path / "text.json"))


def test_a_training_of_another_space_than_the_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t"
    one_line(capsys, enas("retrain", "enas_macro", "--preset", "digits-micro", "--out", out), "conv_micro", "conv_macro")
    assert not out.exists()


@pytest.mark.slow
def test_an_architecture_file_trains_in_its_own_space(tmp_path: Path) -> None:
    """Not every architecture has as many nodes, or layers, as the preset searches."""
    arch = json.loads(named("enas_micro").to_json())
    choices = {k: v for k, v in arch["choices"].items() if k.split(".")[1] in ("n2", "n3")}
    (tmp_path / "a.json").write_text(json.dumps({"space": {"name": "conv_micro", "num_nodes": 2}, "choices": choices}))
    small = ("--preset", "digits-micro", "--epochs", 1, "--retrain.network.filters", 4)
    assert enas("retrain", tmp_path / "a.json", *small, "--out", tmp_path / "t") == 0
    assert json.loads((tmp_path / "t" / "config.json").read_text())["settings"]["space"]["num_nodes"] == 2
    deep = ("--preset", "digits-macro", "--epochs", 1, "--retrain.network.filters", 2)
    assert enas("retrain", "enas_macro", *deep, "--out", tmp_path / "m") == 0


def test_retraining_a_run_takes_where_and_how_to_run(derived: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_line(capsys, enas("retrain", derived, "--threads", 0), "threads is between 1 and 1024")
    one_line(capsys, enas("retrain", derived, "--data", "elsewhere"), "takes no folder")
    one_line(capsys, enas("retrain", derived, "--recipe", "paper"), "its own preset and recipe")


def test_a_run_is_not_overwritten(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = log(searched)
    one_line(capsys, enas("search", "digits-micro", "--out", searched), "enas resume", "--out")
    assert log(searched) == before


def test_steps_out_of_order_name_the_missing_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_line(capsys, enas("retrain", run), f"enas derive {run}")
    one_line(capsys, enas("compare", run), f"enas derive {run}")
    one_line(capsys, enas("show", run), f"enas derive {run}")


def test_a_damaged_checkpoint_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    (run / "checkpoint.previous.safetensors").unlink()
    one_line(capsys, enas("derive", run), "damaged")
    one_line(capsys, enas("resume", run), "damaged")


# -------------------------------------------------------------------------- stopped, and going on
@pytest.mark.slow
def test_max_time_stops_in_good_order(tmp_path: Path, searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_search(tmp_path / "run", "--max-time", "0.01s")
    assert f"enas resume {run}" in capsys.readouterr().out.replace("\n", " ")
    assert len(read_lines(run / "metrics.jsonl")) < 3
    assert enas("resume", run) == 0
    assert log(run) == log(searched)
    assert enas("resume", run) == 0, "resuming a finished run changes nothing"
    assert log(run) == log(searched)


class Forked:
    """A command in a child of this process, which finds its imports made. What it says is short.
    `limit`: the largest file it may write, in bytes."""

    def __init__(self, *args: object, limit: int | None = None):
        pipes = [os.pipe(), os.pipe()]
        self.said = [read for read, _ in pipes]
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            sys.stdout, sys.stderr = (os.fdopen(write, "w", buffering=1) for _, write in pipes)
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            status = 1
            try:
                status = enas(*args)
            except BaseException:
                traceback.print_exc()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)
        for _, write in pipes:
            os.close(write)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 0) -> tuple[str, str]:
        end = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
        texts = []
        for said in self.said:
            with os.fdopen(said) as file:
                texts.append(file.read())
        return texts[0], texts[1]


def start(run: Path, *more: object) -> subprocess.Popen[str]:
    """A search in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "enas", "search", "digits-micro", "--out", str(run), *map(str, more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(run: Path, epochs: int, process: subprocess.Popen[str] | Forked) -> None:
    """Until the run has logged some steps (in a file, at the latest at a checkpoint, or in the
    folder at all)."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if (run / "timing.jsonl").exists() and epochs == 0:
            return
        if (run / CHECKPOINT).exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"the run did not begin: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_goes_on(tmp_path: Path, whole: Path, number: int, status: int) -> None:
    run = tmp_path / "run"
    process = start(run, *LONG) if number == signal.SIGINT else Forked("search", "digits-micro", "--out", run, *LONG)
    wait_for(run, 0, process)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, (out, err)
    assert "enas resume" in out
    assert "Traceback" not in err
    assert 0 < len(read_lines(run / "architectures.jsonl")) < len(read_lines(whole / "architectures.jsonl"))
    assert enas("resume", run) == 0
    assert log(run) == log(whole)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    process = Forked("search", "digits-micro", "--out", run, *LONG)
    wait_for(run, 0, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert enas("resume", run) == 0
    assert log(run) == log(whole)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, searched: Path) -> None:
    """The system refuses files beyond a size, as a full disk or a quota does."""
    run = tmp_path / "run"
    checkpoint = (searched / CHECKPOINT).stat().st_size
    assert enas("search", "digits-micro", "--out", run, *SMALL, "--max-time", "0.01s") == 0
    kept = (run / CHECKPOINT).read_bytes()
    process = Forked("resume", run, limit=checkpoint // 2)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, (out, err)
    assert err.count("\n") == 1, err
    assert "enas resume" in err
    assert (run / CHECKPOINT).read_bytes() == kept
    assert not list(run.glob(".*.tmp"))
    assert enas("resume", run) == 0
    assert log(run) == log(searched)


def test_one_process_writes_to_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from enas.runs.folder import RunFolder

    with RunFolder.open(run) as folder:
        folder.lock()
        one_line(capsys, enas("resume", run), "another is writing")
