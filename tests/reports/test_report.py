"""The report page: what it says at each stage of a run, that it is whole, safe and the same
again."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from enas.cli.main import main
from enas.reports import html
from enas.reports.charts import charting, strip_plot
from enas.reports.page import write_report
from enas.runs.files import read_json
from enas.spaces.conv_micro import OPS, ConvMicroSettings, conv_micro
from enas.tasks.metrics import METRICS

SPACE = conv_micro(ConvMicroSettings(num_nodes=3))
RNG = random.Random(0)
ARCHS = [SPACE.sample(RNG) for _ in range(8)]
VERDICT = {  # what an earlier version wrote beside the figures is not read
    "verdict": "the derived cell beats all", "derived": 97.75, "derived_spread": 0.26, "seeds": 4, "uniform": 96.12,
    "uniform_spread": 0.83, "uniform_best": 97.0, "cells": 4, "rank": 1, "difference": 1.63, "half_width": 0.71,
}  # fmt: skip
POLICY = {
    d.name: {o: 0.7 if o == ARCHS[0].choices[d.name] else 0.3 / (len(d.options) - 1) for o in d.options}
    for d in SPACE.decisions
}
STAGES = ("begun", "half", "searched", "derived", "retrained", "compared")
WARM_UP, EPOCHS = 5, 12


def put(path: Path, *records: Any) -> None:
    """A .json or a .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    path.write_text("".join(f"{json.dumps(record, indent=None if lines else 1)}\n" for record in records))


def epoch(number: int, learns: bool, epochs: int = EPOCHS) -> dict[str, Any]:
    """A line of metrics.jsonl, with curves that look like some."""
    rng, t = random.Random(number), number / epochs
    record: dict[str, Any] = {"epoch": number, "shared_loss": 2.3 * (1 - t) ** 2 + 0.2 + 0.05 * rng.random()}
    record |= {
        "gradient_norm_median": 1.0 + t,
        "gradient_norm_p99": 9.0,
        "gradient_norm_largest": 1e6,
        "clipped_share": 0.25,
    }
    if number == 2:
        record |= {"skipped_steps": 3, "skipped_for": {"loss": 3}, "skipped_ops": {"normal.identity": 1.0}}
    if learns:
        reward = 0.3 + 0.5 * t + 0.02 * rng.random()
        record |= {
            "reward": reward,
            "reward_best": reward + 0.1,
            "entropy": 40 - 18 * t,
            "baseline": reward + 0.03,
            "advantage": 0.0,
        }
    weights = {
        f"{cell}.{op}": 1 + (4 * t * i if learns else 0.1 * rng.random())
        for cell in ("normal", "reduce")
        for i, op in enumerate(OPS)
    }
    record["ops"] = {name: weight / sum(weights.values()) for name, weight in sorted(weights.items())}
    return record


def config_of(
    command: str = "search", strategy: str = "reinforce", epochs: int = EPOCHS, warm_up: int = WARM_UP, **more: Any
) -> dict[str, Any]:
    optimizer = {"schedule": "cosine", "learning_rate": 0.1, "grad_clip": 5.0}
    return {
        "command": command, "preset": "digits-micro", "recipe": "quick", "seed": 0, "data": None, "device": "cpu",
        "threads": 2, **more,
        "versions": {"enas": "0.1", "python": "3.12.1", "torch": "2.9.0"},
        "settings": {
            "space": {"num_nodes": 3, "ops": list(OPS)},
            "task": {"batch_size": 50, "reward": "loss"},
            "search": {"epochs": epochs, "warmup_epochs": warm_up, "optimizer": optimizer},
            "derive": {"samples": 50, "score_on": "validation"},
            "retrain": {"epochs": 4, "train_on": "train", "optimizer": optimizer},
            "strategy": strategy,
        },
    }  # fmt: skip


def a_run(path: Path, stage: str, strategy: str = "reinforce", epochs: int = EPOCHS, warm_up: int = WARM_UP) -> Path:
    """A run folder as the commands leave it after `stage`."""
    level = STAGES.index(stage)
    put(path / "config.json", config_of(strategy=strategy, epochs=epochs, warm_up=warm_up))
    done = (0, epochs // 2)[level] if level < 2 else epochs
    learns = [strategy == "reinforce" and e > warm_up for e in range(1, done + 1)]
    put(path / "metrics.jsonl", *(epoch(e, x, epochs) for e, x in enumerate(learns, 1)))
    clock = [{"time": "2024-05-01T10:00:00+0000", "event": "begin", "threads": 2}]
    clock += [
        {"time": f"2024-05-01T10:{e // 2:02}:{e % 2 * 30:02}+0000", "event": "epoch", "epoch": e}
        for e in range(1, done + 1)
    ]
    put(path / "timing.jsonl", *clock)
    if level >= 3:
        ranked = [
            {
                "rank": rank, "id": arch.id,
                "shared_weights": {"minibatch_reward": 0.8 - rank / 50, "validation_accuracy": 0.9 - rank / 90,
                                   "validation_loss": 0.4 + rank / 90, "validation_reward": 0.7 - rank / 90},
                "parameters": 12345 + 678 * rank, **arch.to_dict(),
            } for rank, arch in enumerate(ARCHS[:4], 1)
        ]  # fmt: skip
        shares = {d.name: {o: 1 / len(d.options) for o in d.options} for d in SPACE.decisions}
        best = {"searched_epochs": done, "samples": 50, "score_on": "validation", "ranked": ranked}
        policy = {"policy": {"draws": 300, "shares": POLICY, "random": shares}} if strategy == "reinforce" else {}
        put(path / "best.json", {**best, **policy})
    trainings = [(ARCHS[0], 0)] if level >= 4 else []
    if level >= 5:
        trainings += [(ARCHS[0], 1), (ARCHS[0], 2), (ARCHS[0], 3), *((arch, 0) for arch in ARCHS[4:])]
    for i, (arch, seed) in enumerate(trainings):
        folder = path / "retrain" / f"{arch.id}-seed{seed}"
        put(folder / "config.json", config_of("retrain", train_seed=seed, architecture=arch.to_dict()))
        rows = [
            {"epoch": e, "train_loss": 2 / e + i / 30, "validation_accuracy": 0.98 - 0.5 / e**2 - i / 300}
            for e in range(1, 5)
        ]
        put(folder / "metrics.jsonl", *rows)
        put(folder / "result.json", {"test_accuracy": 0.977, "parameters": 12345})
    if level >= 4:
        row = {"rank": 1, "id": ARCHS[0].id, "folder": f"retrain/{ARCHS[0].id}-seed0", "parameters": 12345}
        row |= {"test_accuracy": 0.9774, "test_loss": 0.1, "validation_accuracy": 0.9825}
        put(path / "retrained.json", {"train_on": "train", "chosen": ARCHS[0].id, "trainings": [row]})
    if level >= 5:
        scores = {arch.id: [score] for arch, score in zip(ARCHS[4:], (95.1, 97.0, 96.0, 96.4), strict=True)}
        put(path / "compare.json", {
            **VERDICT, "derived_id": ARCHS[0].id,
            "test_accuracy": {"derived": [97.4, 97.8, 97.8, 98.0], **scores},
            "uniform_architectures": [arch.to_dict() for arch in ARCHS[4:]],
        })  # fmt: skip
    return path


# --------------------------------------------------------------------------- what a browser reads
VOID = ("meta", "br", "link", "img", "input", "hr")


class Reader(HTMLParser):
    """Holds tags to be closed in order; collects text, attributes, and the text of figures."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, str] = {}  # by tag: all that stands in such a one
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag] = self.texts.get(tag, "") + " " + data

    @property
    def text(self) -> str:
        return " ".join(self.texts["main"].split())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of a run at each stage, written as `enas report STAGE` does."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("runs"))
    chance = {"strategy": "random", "warm_up": 0}
    special: dict[str, Any] = {"searched": chance, "derived": {"epochs": 1, "warm_up": 0}, "retrained": chance}
    try:
        return {s: write_report(a_run(Path(s), s, **special.get(s, {}))).read_text(encoding="utf-8") for s in STAGES}
    finally:
        os.chdir(before)


# ------------------------------------------------------------------------------------------- laws
def test_every_page_is_whole_and_holds_everything_itself(pages: dict[str, str]) -> None:
    for page in pages.values():
        reader = Reader(page)
        assert not reader.tags & {"script", "link", "img", "iframe", "object", "image"}
        links = [value for name, value in reader.attributes if name in ("src", "href", "xlink:href", "action")]
        assert all(link.startswith("#") for link in links)
        assert not re.search(r"url\((?!#)|@import", page)
        ids = [value for name, value in reader.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        assert {link[1:] for link in links} | set(re.findall(r"url\(#([^)]+)\)", page)) == set(ids)
        assert len(page) < 300_000


def test_every_picture_and_table_says_what_it_shows(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert page.count("<svg ") == page.count('<svg role="img" aria-label="')
        assert page.count("<th ") == page.count('<th scope="')
        assert "mathdefault" not in page


def test_shares_of_ops_are_of_their_cell(pages: dict[str, str]) -> None:
    labels = [label for label in re.findall('aria-label="([^"]*)"', pages["compared"]) if label.startswith("Ops of")]
    assert len(labels) == 2
    for label in labels:
        shares = [int(share) for share in re.findall(r"(\d+)%", label)]
        assert len(shares) == len(OPS)
        assert sum(shares) == pytest.approx(100, abs=2)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_missing_is_named_with_its_command(pages: dict[str, str], stage: str) -> None:
    level = STAGES.index(stage)
    commands = {"resume": 2, "derive": 3, "retrain": 4, "compare": 5}
    assert set(re.findall(r"<code>(enas .*?)</code>", pages[stage])) == {
        f"enas {verb} {stage}" for verb, there in commands.items() if level < there
    }
    again = [f"enas search --config {stage}/config.json --out {stage}-again"]
    again += [f"enas derive {stage}-again"] if level >= 3 else []
    again += [f"enas retrain {stage}-again --top 1 --seed 0"] if level >= 4 else []
    again += [f"enas compare {stage}-again --cells 4 --seeds 4 --cell-seeds 1"] if level >= 5 else []
    assert re.findall(r"^(?:<pre>)?(enas [^<]*?)(?:</pre>)?$", pages[stage], re.MULTILINE) == again


def test_the_verdict_and_the_results_come_first(pages: dict[str, str]) -> None:
    text = Reader(pages["compared"]).text
    parts = (
        ["60 of 60"] if EPOCHS == 60 else [f"{EPOCHS} of {EPOCHS} epochs, begun 2024-05-01 10:00, 6:00 min of searching"]
    )
    parts += [
        "beats the mean random architecture by 1.63 ± 0.71 points derived 97.75 %, standard deviation 0.26 over 4 seeds",
        "best 97.00 %; rank 1 of 5",
        "97.74 % test accuracy",
        "98.25 % validation",
    ]
    parts += [
        "13,023 parameters",
        "n2 =",
        "they rank, they are not results",
        "What was chosen, how sure The strategy gives the answers of the derived architecture in 70% of its draws",
        "Training loss",
        "8 of 8 trainings",
        "All 17 settings",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert '<div class="verdict better">' in pages["compared"]
    assert "derived: 97.40, 97.80, 97.80, 98.00; random: 95.10, 97.00, 96.00, 96.40" in pages["compared"]


def test_figures_of_shared_weights_say_so(pages: dict[str, str]) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", pages["compared"], re.DOTALL)
    shared = [
        caption.startswith(("<b>Training loss <span", "<b>Gradient", "<b>Reward", "<b>Ops of")) for caption in captions
    ]
    assert [">shared weights<" in caption for caption in captions] == shared
    assert sum(shared) == 5
    heads = re.findall(r'<th scope="col">(.*?)</th>', pages["compared"])
    assert [">shared weights<" in name for name in heads] == [
        *[False, False, True, True, True, True, False],  # ranked by shared weights
        *[False] * (len(heads) - 7),
    ]


def test_what_was_chosen_is_held_against_draws_the_ranked_and_the_trained(pages: dict[str, str]) -> None:
    """The figures of every row, found again from the records."""
    rows = {
        name: re.findall(r"<td>(.*?)</td>", cells)
        for name, cells in re.findall(r'<th scope="row">(.*?)</th>(.*?)(?=</tr>|</table>)', pages["compared"], re.DOTALL)
    }
    test = dict(zip(ARCHS[4:], (95.1, 97.0, 96.0, 96.4), strict=True))
    effects = 0
    for decision in SPACE.decisions:
        answer = ARCHS[0].choices[decision.name]
        chosen, share, chance, agree, effect = rows[decision.name]
        assert chosen == f"<b>{answer}</b>"
        assert share.endswith("</span> 70%")
        assert chance == f"{1 / len(decision.options):.0%}"
        assert agree == f"{sum(arch.choices[decision.name] == answer for arch in ARCHS[1:4])} of 3"
        same = [figure for arch, figure in test.items() if arch.choices[decision.name] == answer]
        others = [figure for arch, figure in test.items() if arch.choices[decision.name] != answer]
        if min(len(same), len(others)) < 2:
            assert effect == "–"
        else:
            effects += 1
            assert f"{sum(same) / len(same) - sum(others) / len(others):+.2f} ± " in effect
    assert effects


@pytest.mark.slow
def test_with_many_decisions_their_kinds_come_first_and_old_records_have_no_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enas.reports.sure.MOST_ROWS", 3)
    run = a_run(tmp_path / "run", "derived")
    text = write_report(run).read_text()
    assert '<th scope="row">normal.n*.op*</th><td>6</td>' in text
    best = read_json(run / "best.json")
    put(run / "best.json", {name: value for name, value in best.items() if name != "policy"})
    text = write_report(run).read_text()
    assert "What the strategy prefers is not on record" in text
    assert "draws" not in text.partition("how sure</h2>")[2].partition("</section>")[0]


def test_page_and_terminal_say_of_which_architecture_the_verdict_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one that ranks first no more, or of another than that which validation chose."""
    run = a_run(tmp_path / "run", "compared", epochs=3, warm_up=1)

    def said() -> tuple[str, str]:
        assert main(["report", str(run)]) == 0
        page = Reader((run / "report.html").read_text()).text
        return " ".join(page.split()), capsys.readouterr().out.partition("note: ")[2]

    assert "verdict is of" not in "".join(said())
    retrained = read_json(run / "retrained.json")
    retrained["trainings"][0]["id"] = retrained["chosen"] = ARCHS[1].id
    put(run / "retrained.json", retrained)
    note = f"The verdict is of {ARCHS[0].id}, which ranks first; retrain chose {ARCHS[1].id}"
    page, line = said()
    assert f"{note}." in page
    assert line == f"{note}\n"
    put(run / "compare.json", {**read_json(run / "compare.json"), "derived_id": ARCHS[1].id})
    note = "This verdict is of an architecture that does not rank first any more: enas compare"
    page, line = said()
    assert note in page
    assert line == f"{note} {run}\n"


def test_a_strategy_that_learns_nothing_has_no_rewards(pages: dict[str, str]) -> None:
    assert "drawn at random" in pages["searched"]
    assert "Policy entropy" not in pages["searched"]
    assert "Policy entropy" in pages["derived"]
    assert "the controller rests" not in pages["searched"] + pages["derived"]


# ---------------------------------------------------------------------------- what could go wrong
HOSTILE = "<img src=http://x.test/a onerror=alert(1)>\"' & $x_{y}$ --> </svg></pre><script>"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "\\")
    run = a_run(tmp_path / name, "compared", epochs=3, warm_up=1)
    config = config_of(epochs=3, warm_up=1) | {"preset": HOSTILE, "recipe": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    config["settings"][HOSTILE] = [HOSTILE]
    put(run / "config.json", config)
    put(
        run / "metrics.jsonl",
        *({**epoch(e, True, 3), "ops": {f"{HOSTILE}.{HOSTILE}": 0.5, f"normal.{HOSTILE}": 0.5}} for e in (1, 2, 3)),
    )
    verdict = json.loads((run / "compare.json").read_text())
    put(run / "compare.json", verdict | {"left_out": {HOSTILE: HOSTILE}, "derived_id": HOSTILE})
    retrained = json.loads((run / "retrained.json").read_text())
    retrained["trainings"][0]["id"] = retrained["chosen"] = HOSTILE
    put(run / "retrained.json", retrained)
    reader = Reader(write_report(run).read_text(encoding="utf-8"))
    assert not reader.tags & {"script", "img"}
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert reader.texts["h1"].strip() == name
    assert reader.text.count(HOSTILE) >= 8
    assert "does not rank first any more" in reader.text
    assert "not in best.json any more" in reader.text


MADE_BY_LIBRARIES = {"box", "body", "svg", "POLICY", "STYLE + style"}  # SVG that is escaped; CSS


@pytest.mark.parametrize("path", sorted(Path(html.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_a_value_enters_html_through_fill_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.name}, line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.JoinedStr):
            texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            assert not any(re.search("<[a-z/!]", str(text)) for text in texts), f"{where}: HTML in an f-string"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Markup", "fill", "each"):
            template = node.args[0]
            both = [template.body, template.orelse] if isinstance(template, ast.IfExp) else [template]
            if path == Path(html.__file__) and ast.unparse(template) == "template":
                continue  # the place itself
            literal = all(isinstance(part, ast.Constant) for part in both)
            assert literal or ast.unparse(template) in MADE_BY_LIBRARIES, f"{where}: a template is a literal"


def test_text_is_escaped_and_markup_is_not() -> None:
    assert html.fill("<b>{a}</b>{b:>5}{c}", a="<&>", b="<", c=html.fill("<i>{x}</i>", x="'")) == (
        "<b>&lt;&amp;&gt;</b>    &lt;<i>&#39;</i>"
    )
    assert html.table(("<a>",), [("<b>", html.fill("<i>"))]).count("&lt;") == 2


@pytest.mark.slow
def test_equal_folders_give_equal_pages(tmp_path: Path, pages: dict[str, str]) -> None:
    """In another process, with another hash seed and a user's own matplotlib settings; and torch is
    not needed."""
    a_run(tmp_path / "compared", "compared")
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: black\nlines.linewidth: 9\nsvg.fonttype: path\n")
    code = "import sys; from enas.reports.page import write_report as w; w(sys.argv[1]); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    subprocess.run([sys.executable, "-c", code, "compared"], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "compared" / "report.html").read_text(encoding="utf-8") == pages["compared"]


DAMAGE = {
    "config.json": ["{", "[]", '{"command": "search"}', '{"command": "search", "settings": 3}'],
    "metrics.jsonl": ['{"epoch": 1\n', "3\n", '{"shared_loss": 1.0}\n', '{"epoch": 1, "shared_loss": "x", "ops": {}}\n'],
    "timing.jsonl": ['{"time": "yesterday", "event": "begin"}\n', "{}\n"],
    "best.json": ["", "{}", '{"ranked": [{"id": 1}], "searched_epochs": 3}', '{"ranked": 4, "searched_epochs": 3}'],
    "retrained.json": ["{}", '{"trainings": [], "chosen": "a"}'],
    "compare.json": ["[1]", '{"verdict": 3}', '{"verdict": "a", "difference": 1, "half_width": 2, "test_accuracy": {}}'],
    f"retrain/{ARCHS[0].id}-seed0/metrics.jsonl": ["[]\n", '{"train_loss": 1.0}\n'],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in DAMAGE.items() for text in texts])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    run = a_run(tmp_path / "run", "retrained", epochs=1, warm_up=0)
    (run / name).write_text(text)
    if not name.startswith("metrics"):
        (run / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=re.escape(f"'{run / name}' is damaged")) as error:
        write_report(run)
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in run.iterdir() if "report" in p.name) == []


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "begun")
    for log in ("metrics.jsonl", "timing.jsonl"):
        with (run / log).open("a") as file:
            file.write('{"epoch": 1, "sha')
    assert f"0 of {EPOCHS} epochs" in Reader(write_report(run).read_text(encoding="utf-8")).text


def test_pauses_do_not_count_as_searching(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "begun")
    times = (
        ("10:00:00", "begin"),
        ("10:00:40", "epoch"),
        ("12:00:00", "resume"),
        ("12:00:30", "end"),
        ("14:00:00", "resume"),
    )
    put(run / "timing.jsonl", *({"time": f"2024-05-01T{time}+0000", "event": event} for time, event in times))
    assert "1:10 min of searching" in Reader(write_report(run).read_text(encoding="utf-8")).text


def test_settings_changed_for_the_retraining_are_in_its_command(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "retrained", epochs=1)
    file = run / "retrain" / f"{ARCHS[0].id}-seed0" / "config.json"
    config = json.loads(file.read_text())
    config["settings"]["retrain"] |= {
        "epochs": 9,
        "optimizer": {"learning_rate": 0.2},
        "task": {"flip": False, "cutout": 16},
    }
    put(file, config)
    (run / "metrics.jsonl").unlink()
    flags = "--retrain.epochs 9 --retrain.optimizer.learning-rate 0.2 --retrain.task.no-flip --retrain.task.cutout 16"
    assert f"run-again --top 1 --seed 0 {flags}\n" in write_report(run).read_text(encoding="utf-8").replace("</pre>", "\n")


def test_an_axis_says_where_lower_is_better() -> None:
    """And of rewards of one's own, what a point of them is."""
    for name, said in (("score", "of the reward"), ("perplexity", "lower is better"), ("accuracy", "%")):
        with charting():
            chart = strip_plot([1.0, 2.0], [[1.0], [2.0]], {}, METRICS[name])
        assert f">test {name}, {said}<" in chart


def test_every_part_of_a_comparison_and_derivation_is_in_its_command(tmp_path: Path) -> None:
    """What a comparison found for itself is no model that one can name."""
    run = a_run(tmp_path / "run", "compared", epochs=1)
    (run / "metrics.jsonl").unlink()
    compared, best = (json.loads((run / name).read_text()) for name in ("compare.json", "best.json"))
    put(run / "best.json", {**best, "settings": {"samples": 9, "score_on": "validation", "budget": 600.0}})
    names = ("resnet", "uniform sharing", "best of k random", "most parameters")
    compared["references"] = {name: [90.0, 1.0] for name in names}
    compared["test_accuracy"] |= {name: [89.0, 91.0] for name in names}
    compared["diverged_references"] = ["densenet_bc", "without sharing"]
    compared["disabled"] = {"metric": "accuracy", "mean": 8.0, "spread": 1.0, "ensemble": 9.0, "configurations": 250}
    changed = [{"id": "c", "change": "x to y", "test": [1.0]}] * 7
    studies = [
        {"name": "connections", "base": [1.0], "changed": changed, "diverged": 1},
        {"name": "single_changes", "changed": changed[:3]},
    ]
    compared["local"] = {"metric": "accuracy", "studies": studies}
    put(run / "compare.json", compared)
    page = write_report(run).read_text(encoding="utf-8")
    parts = "--references resnet densenet_bc --sharing --rivals --disabled 250 --local 8 --single 3"
    assert f"run-again --cells 4 --seeds 4 --cell-seeds 1 {parts}<" in page
    assert "run-again --samples 9\n" in page  # what the run's recipe lacks did not exist then


def test_without_validation_images_none_are_claimed(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "retrained", epochs=1)
    for file in (run / "retrained.json", run / "retrain" / f"{ARCHS[0].id}-seed0" / "metrics.jsonl"):
        file.write_text(re.sub(r'"validation_accuracy"', '"unknown"', file.read_text()))
    (run / "metrics.jsonl").unlink()
    text = Reader(write_report(run).read_text(encoding="utf-8")).text
    assert "– validation accuracy the validation part: trained on as well" in text
    assert "Validation accuracy of cells" not in text


def test_an_old_page_stays_where_a_new_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path / "run", "begun")
    before = write_report(run).read_text(encoding="utf-8")
    put(run / "config.json", config_of() | {"preset": "other"})

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_report(run)
    assert [p.name for p in run.iterdir() if "report" in p.name] == ["report.html"]
    assert (run / "report.html").read_text(encoding="utf-8") == before


def test_only_a_search_has_a_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a run is a folder with a config"):
        write_report(tmp_path)
    put(tmp_path / "config.json", config_of("retrain"))
    with pytest.raises(ValueError, match=r"a report is of a search; .* is a retrain"):
        write_report(tmp_path)


@pytest.mark.slow
def test_a_run_judged_by_perplexity_says_so_and_lower_is_better(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "compared")
    for file in run.rglob("*.json*"):
        file.write_text(file.read_text().replace("_accuracy", "_perplexity"))
    config = config_of()
    config["settings"]["task"] = {"batch_size": 64, "reward_scale": 80.0}
    put(run / "config.json", config)
    put(run / "compare.json", read_json(run / "compare.json") | {"difference": -1.63, "metric": "perplexity"})
    page = write_report(run).read_text(encoding="utf-8")
    text = Reader(page).text
    assert '<div class="verdict better">' in page
    assert "0.98 test perplexity" in text
    assert "test perplexity, lower is better" in text
    assert "Validation perplexity" in text
    assert "80 / perplexity" in text
    assert "accuracy" not in text


@pytest.mark.slow
def test_a_problem_of_ones_own_has_its_own_loss_and_more_reward_is_better(tmp_path: Path) -> None:
    """Its loss need not be a cross-entropy, and its score is the reward."""
    run = a_run(tmp_path / "run", "compared")
    for file in run.rglob("*.json*"):
        file.write_text(file.read_text().replace("_accuracy", "_score"))
    config = config_of(names={"space": "own", "network": "own", "task": "own", "strategy": "reinforce"})
    config["settings"]["task"] = {"batch_size": 64}
    put(run / "config.json", config)
    put(run / "compare.json", read_json(run / "compare.json") | {"metric": "score"})
    text = Reader(write_report(run).read_text(encoding="utf-8")).text
    assert "test score, of the reward" in text
    assert "lower is better" not in text
    assert "cross-entropy" not in text


@pytest.mark.slow
def test_the_page_shows_the_norms_of_gradients_and_what_was_skipped(tmp_path: Path) -> None:
    page = write_report(a_run(tmp_path / "run", "searched")).read_text()
    (about,) = re.findall(r"<b>Gradient norm .*?</figcaption>", page)
    assert "25% of the steps were clipped; 3 steps were skipped." in about
    assert re.search(r'aria-label="Gradient norm[^"]*median from 1.083 to 2.000', page)
    old = a_run(tmp_path / "old", "searched")
    lines = [json.loads(line) for line in (old / "metrics.jsonl").read_text().splitlines()]
    put(old / "metrics.jsonl", *({k: v for k, v in line.items() if "norm" not in k and "skip" not in k} for line in lines))
    assert "Gradient norm" not in write_report(old).read_text()
