"""Bad input of every kind ends in exit status 2 and one line that says what is wrong: no traceback,
no waiting, and nothing that was there is lost. No training: all in this process."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enas.cli.main import main
from enas.reading import from_json, read_whole
from enas.reports.page import page
from enas.reports.run import read_run
from enas.runs.files import read_json, write_sealed
from enas.spaces.published import named

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
MICRO = json.loads(named("enas_micro").to_json())
INF, NAN = "inf", "nan"


def one_line(capsys: pytest.CaptureFixture[str], args: tuple[object, ...], *fragments: str) -> None:
    capsys.readouterr()
    status = main([str(arg) for arg in args])
    err = capsys.readouterr().err
    assert status == 2, (args, err)
    assert err.startswith("enas: "), err
    assert err.count("\n") == 1, err
    assert len(err) < 1500, len(err)
    for fragment in fragments:
        assert fragment in err, err


# ------------------------------------------------------------------------------------------ flags
FLAGS = {
    "search.epochs": ("0", "-1", "1.5", "many", ""),
    "search.warmup-epochs": ("-1",),
    "search.children": ("0", "x"),
    "search.architectures": ("0",),
    "search.probes": ("1", "2", "-3"),
    "search.max-skipped": ("2", "-0.1", NAN),
    "search.cost-terms": ("macs", "macs:1:none:1", "weight:1:power:-1"),
    "search.optimizer.learning-rate": (INF, NAN, "-1", "0"),
    "search.optimizer.grad-clip": (NAN, "-1", INF),
    "search.optimizer.momentum": ("1", NAN),
    "search.optimizer.schedule": ("foo",),
    "search.optimizer.kind": ("adam",),
    "search.optimizer.weight-decay": ("-1", INF),
    "search.optimizer.decay": ("0", "1.1"),
    "strategy.learning-rate": (NAN, INF),
    "strategy.baseline-decay": ("2",),
    "strategy.controller.hidden": ("0",),
    "strategy.controller.temperature": ("0", NAN),
    "space.num-nodes": ("0", "1000000", "-2", "x"),
    "space.ops": ("conv_9x9", ""),
    "network.filters": ("0", "x"),
    "network.dropout": ("1", "-1", NAN),
    "network.drop-path": ("1.5", NAN),
    "network.aux-weight": (NAN, "-1"),
    "data.train": ("0",),
    "data.validation": ("0", "x"),
    "task.batch-size": ("0", "-5"),
    "task.label-smoothing": (NAN, "1.5"),
    "task.cutout": ("-1",),
    "derive.samples": ("0",),
    "derive.keep": ("0",),
    "derive.score-on": ("test",),
    "retrain.epochs": ("0",),
    "retrain.rollback-factor": ("0", "1", NAN),
    "retrain.optimizer.learning-rate": (NAN,),
    "threads": ("0", "100000", "-1", "x"),
    "device": ("tpu", "cuda:99"),
    "seed": ("x", "1.5"),
    "max-time": ("soon", "-1", INF, NAN),
    "max-params": ("many", "-3", NAN),
    "max-macs": ("0", "x"),
    "max-latency": ("8", "-1ms"),
    "recipe": ("fast",),
    "strategy": ("annealing", "nowhere:thing", "os:nothing_here"),
    "task": ("nowhere:Task",),
    "space": ("nowhere:space", "conv_mega"),
    "latency-table": ("nowhere.json",),
    "config": ("nowhere.json",),
    "no-such-flag": ("1",),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for value in FLAGS[flag]:
        one_line(capsys, ("search", "digits-micro", f"--{flag}", value))
    assert not list(tmp_path.iterdir()), "nothing is begun"


# ---------------------------------------------------------------------------------- architectures
def changed(**parts: object) -> str:
    return json.dumps({**MICRO, **parts})


def without(name: str) -> str:
    return json.dumps({key: value for key, value in MICRO.items() if key != name})


SPACE, CHOICES = MICRO["space"], MICRO["choices"]
FIRST = next(iter(CHOICES))
ARCHITECTURES = {
    "empty": "",
    "no JSON": "a cell",
    "cut": json.dumps(MICRO)[:200],
    "deep": "[" * 100_000 + "]" * 100_000,
    "rather deep": '{"space":' * 80 + "1" + "}" * 80,
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "no space": without("space"),
    "no choices": without("choices"),
    "space null": changed(space=None),
    "space without name": changed(space={}),
    "an unknown space": changed(space={"name": "conv_mega"}),
    "a space that is code": changed(space={"name": "os:system"}),
    "a huge space": changed(space={**SPACE, "num_nodes": 1_000_000}),
    "a space of no nodes": changed(space={**SPACE, "num_nodes": 0}),
    "nodes as text": changed(space={**SPACE, "num_nodes": "5"}),
    "nodes true": changed(space={**SPACE, "num_nodes": True}),
    "nodes of 400 digits": json.dumps(MICRO).replace('"num_nodes": 5', '"num_nodes": ' + "9" * 400),
    "nodes 1e999": json.dumps(MICRO).replace('"num_nodes": 5', '"num_nodes": 1e999'),
    "nodes NaN": json.dumps(MICRO).replace('"num_nodes": 5', '"num_nodes": NaN'),
    "an unknown setting": changed(space={**SPACE, "colour": 1}),
    "a key twice": json.dumps(MICRO)[:-1] + ', "choices": {}}',
    "choices empty": changed(choices={}),
    "choices a list": changed(choices=[]),
    "a choice missing": changed(choices={k: v for k, v in CHOICES.items() if k != FIRST}),
    "a choice too many": changed(choices={**CHOICES, "normal.n9.op0": "identity"}),
    "a choice null": changed(choices={**CHOICES, FIRST: None}),
    "a choice a number": changed(choices={**CHOICES, FIRST: 1}),
    "a choice deep": changed(choices={**CHOICES, FIRST: [["prev"]]}),
    "a choice unknown": changed(choices={**CHOICES, FIRST: "sep_conv_9x9"}),
    "a later version": changed(version=99),
    "a version of text": changed(version="1"),
    "provenance a list": changed(provenance=[1]),
    "an unknown key": changed(colour="blue"),
    "bytes": "\ud800",
    "a form of others, cut": "|nor_conv_3x3~0|+|nor_conv_3x3~0",
    "a genotype, cut": "Genotype(normal=[('sep_conv_3x3', 1)",
    "a call": "__import__('os').system('true')",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(ARCHITECTURES[name].encode("utf-8", "surrogatepass"))
    one_line(capsys, ("show", file))


# ------------------------------------------------------------------------------------ run folders
@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = Path(shutil.copytree(BEFORE, tmp_path / "run"))
    for file in (*run.glob("*.json"), *run.glob("retrain/*/*.json")):
        write_sealed(file, read_json(file))
    return run


def edited(file: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A hand that edits a file, and leaves out its checksum."""

    def edit(run: Path) -> None:
        data = read_json(run / file)
        made = change(data)
        (run / file).write_text(json.dumps(data if made is None else made))

    return edit


def setting(name: str, value: object) -> Callable[[Path], None]:
    def change(data: Any) -> None:
        *groups, last = name.split(".")
        inside = data["settings"]
        for group in groups:
            inside = inside[group]
        inside[last] = value

    return edited("config.json", change)


def gone(name: str) -> Callable[[Any], None]:
    return lambda data: data.pop(name) and None


def put(**values: object) -> Callable[[Any], None]:
    return lambda data: data.update(values)


def written(file: str, data: str | bytes) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        (run / file).write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def link(name: str) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        outside = run.parent / "outside"
        outside.write_text("precious")
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside)

    return make


def pipe(run: Path) -> None:
    (run / "timing.jsonl").unlink()
    os.mkfifo(run / "timing.jsonl")


RUNS: dict[str, tuple[str, Callable[[Path], None]]] = {
    **{
        f"config without {name}": ("report", edited("config.json", gone(name)))
        for name in ("preset", "command", "settings")
    },
    "config without recipe": ("show", edited("config.json", gone("recipe"))),
    "config an empty mapping": ("resume", edited("config.json", lambda data: {})),
    "config a list": ("resume", edited("config.json", lambda data: [])),
    "config unknown key": ("resume", edited("config.json", put(colour=1))),
    "config of a later version": ("resume", edited("config.json", put(version=99))),
    "config unknown command": ("resume", edited("config.json", put(command="format"))),
    "config threads 100000": ("resume", edited("config.json", put(threads=100_000))),
    "config threads true": ("resume", edited("config.json", put(threads=True))),
    "config seed text": ("derive", edited("config.json", put(seed="0"))),
    "config preset a number": ("report", edited("config.json", put(preset=3))),
    "config names a list": ("derive", edited("config.json", put(names=[]))),
    "config names code": (
        "derive",
        edited("config.json", put(names={"space": "os:system", "network": "micro", "task": "image_classification"})),
    ),
    "config settings a list": ("derive", edited("config.json", put(settings=[]))),
    "setting null": ("derive", setting("search.epochs", None)),
    "setting true": ("derive", setting("search.epochs", True)),
    "setting text": ("derive", setting("search.epochs", "3")),
    "setting a mapping": ("derive", setting("search.epochs", {})),
    "setting unknown": ("derive", setting("search.colour", 3)),
    "setting schedule foo": ("derive", setting("search.optimizer.schedule", "foo")),
    "setting schedule null": ("derive", setting("search.optimizer.schedule", None)),
    "setting learning rate negative": ("derive", setting("search.optimizer.learning_rate", -1.0)),
    "setting ops a number": ("derive", setting("space.ops", [1, 2])),
    "setting nodes huge": ("derive", setting("space.num_nodes", 1_000_000)),
    "setting of a group null": ("derive", setting("search", None)),
    "filters other than the checkpoint's": ("derive", setting("network.filters", 5)),
    "best empty": ("show", edited("best.json", lambda data: {})),
    "best without ranked": ("report", edited("best.json", gone("ranked"))),
    "best ranked empty": ("retrain", edited("best.json", put(ranked=[]))),
    "best unknown key": ("show", edited("best.json", put(colour=1))),
    "best parameters text": ("show", edited("best.json", lambda data: data["ranked"][0].update(parameters="9"))),
    "best rank true": ("show", edited("best.json", lambda data: data["ranked"][0].update(rank=True))),
    "best space code": ("show", edited("best.json", lambda data: data["ranked"][0].update(space={"name": "os:system"}))),
    "best other choices": ("show", edited("best.json", lambda data: data["ranked"][0].update(choices={"a": "b"}))),
    "best of a later version": ("show", edited("best.json", put(version=99))),
    "best version text": ("show", edited("best.json", put(version="1"))),
    "retrained without chosen": ("report", edited("retrained.json", gone("chosen"))),
    "retrained of another": ("report", edited("retrained.json", put(chosen="nobody"))),
    "retrained figure text": ("report", edited("retrained.json", lambda d: d["trainings"][0].update(test_accuracy="1"))),
    "compare without verdict": ("report", edited("compare.json", gone("half_width"))),
    "compare metric unknown": ("report", edited("compare.json", put(metric="beauty"))),
    "compare difference text": ("report", edited("compare.json", put(difference="<b>"))),
    "compare references a list": ("report", edited("compare.json", put(references=[]))),
    "compare unknown key": ("report", edited("compare.json", put(colour=1))),
    "checkpoint of text": ("derive", written("checkpoint.safetensors", "no tensors")),
    "checkpoint with a huge header": (
        "derive",
        written("checkpoint.safetensors", b"\xff" * 64),
    ),
    "checkpoint without state": (
        "derive",
        written("checkpoint.safetensors", (2).to_bytes(8, "little") + b"{}"),
    ),
    "metrics cut in its middle": (
        "report",
        written("metrics.jsonl", '{"epoch":1\n{"epoch":2}\n'),
    ),
    "metrics of numbers": ("report", written("metrics.jsonl", "1\n2\n")),
    "metrics an epoch of text": ("report", written("metrics.jsonl", '{"epoch":"1"}\n')),
    "timing a blank line": ("report", written("timing.jsonl", "\n\n")),
    "timing no time": ("report", written("timing.jsonl", '{"event":"begin"}\n')),
    "lock a link": ("resume", link(".lock")),
    "log a link": ("report", link("metrics.jsonl")),
    "config a link": ("show", link("config.json")),
    "something else a link": ("derive", link("notes.txt")),
    "report a link": ("report", link("report.html")),
    "timing a pipe": ("report", pipe),
    "retrain a link to a folder": (
        "retrain",
        lambda run: shutil.move(run / "retrain", run.parent / "r") and (run / "retrain").symlink_to(run.parent / "r"),
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_folders(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, edit = RUNS[name]
    edit(run)
    before = {file: file.read_bytes() for file in run.parent.rglob("*") if file.is_file()}
    one_line(capsys, (command, run))
    assert {file: file.read_bytes() for file in before} == before, "nothing that was there is lost"


@pytest.mark.slow
def test_what_a_foreign_run_says_is_escaped_or_refused(run: Path) -> None:
    """Whatever stands in the place of a value in any file of a run: what is not refused when it is
    read is on the page, all of it at once, and where that is refused each half, down to one."""
    attack = '"><form action="https://e.org"><b onclick=x>'
    for name in ("best.json", "compare.json", "retrained.json", "config.json"):
        whole = read_json(run / name)

        def with_attack(*numbers: int, whole: Any = whole, name: str = name) -> None:
            data = json.loads(json.dumps(whole))
            places = list(leaves(data))
            for number in numbers:
                holder, key = places[number]
                holder[key] = attack
            (run / name).write_text(json.dumps(data))

        accepted = []
        for number in range(len(list(leaves(whole)))):
            with_attack(number)
            with contextlib.suppress(ValueError):
                read_run(run)
                accepted.append(number)
        shown, waiting = 0, [accepted]
        while waiting:
            numbers = waiting.pop()
            with_attack(*numbers)
            try:
                html = page(read_run(run))
            except ValueError:
                half = len(numbers) // 2
                waiting += [numbers[:half], numbers[half:]] if half else []
                continue
            shown += 1
            assert "<form" not in html, (name, numbers)
            assert "<b onclick" not in html, (name, numbers)
        assert shown, f"{name}: nothing was shown, so nothing is known"
        write_sealed(run / name, whole)


def leaves(data: Any) -> Iterator[tuple[Any, Any]]:
    """The places of values in JSON: one per key of a mapping, and the first of a list."""
    for key in list(data) if isinstance(data, dict) else range(min(1, len(data))):
        if isinstance(data[key], dict | list):
            yield from leaves(data[key])
        else:
            yield data, key


# ----------------------------------------------------------------------------------------- tables
ROW = "arch,cifar10_valid_ep12,cifar10_test_ep200\n"
TABLES: dict[str, bytes] = {
    "t.csv": b"",
    "columns.csv": b"a,b\n1,2\n",
    "few.csv": (ROW + "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,50,60\n").encode(),
    "bad.csv": (ROW + "nonsense,50,60\n").encode(),
    "bytes.csv": b"\xff\xfe\x00\x01" * 9,
    "t.json": b"[]",
    "t.csv.gz": b"no gzip",
    "cut.csv.gz": gzip.compress(ROW.encode() * 99)[:40],
    "deep.json": b"[" * 100_000,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    one_line(capsys, ("oracle", "nasbench201", "--table", tmp_path / name))
    one_line(capsys, ("table", "show", tmp_path / name))


# -------------------------------------------------------------------------------------- arguments
@pytest.mark.parametrize("command", ["resume", "derive", "retrain", "compare", "report", "show", "export"])
@pytest.mark.parametrize("what", ["", "nowhere", "x" * 300, "a\nb", "/dev/null", "/dev/zero", "ünïcode-\U0001f600"])
def test_what_is_no_run(command: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    one_line(capsys, (command, what))


def test_a_run_in_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    one_line(capsys, ("search", "digits-micro", "--out", tmp_path / "file"), "is a file", "--out")
    one_line(capsys, ("search", "digits-micro", "--out", tmp_path / "file" / "run"), "is a file", "--out")
    assert (tmp_path / "file").read_text() == "mine"


# --------------------------------------------------------------------------------------- readers
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=25, deadline=None)
@given(JSON)
def test_what_is_json_is_read_as_it_is(value: object) -> None:
    assert from_json(json.dumps(value)) == value


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_what_is_none_is_a_value_error(data: bytes) -> None:
    try:
        from_json(data)
    except ValueError:
        return
    json.loads(data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=9), max_size=4), st.data())
def test_a_flipped_bit_of_a_sealed_file_is_found(tmp_path: Path, value: dict[str, object], data: Any) -> None:
    value.pop("sha256", None)
    file = tmp_path / "a.json"
    write_sealed(file, value)
    whole = file.read_bytes()
    assert read_json(file) == value
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place // 8] ^= 1 << place % 8
    file.write_bytes(flipped)
    try:
        read = read_json(file)
    except ValueError:
        return
    assert set(read) - set(value), "a key that no file has, which its class refuses"


def test_a_file_that_unpacks_without_end(tmp_path: Path) -> None:
    file = tmp_path / "bomb.gz"
    file.write_bytes(gzip.compress(b"0" * 3_000_000))
    with pytest.raises(ValueError, match="at most 1,000,000 bytes"):
        read_whole(file, most=1_000_000)
    assert len(read_whole(file)) == 3_000_000
