"""The report of a run: RUN/report.html, one page for thirty seconds or for ten minutes (design 8).

It holds everything itself (no script, no network) and is written at whatever stage the run is: what is not there yet is
named, with the command that gets it. What counts comes first, the verdict and the accuracy of the architecture trained
alone; every figure of shared weights says that it is one. Equal run folders give equal pages.

Left out: single children (`architectures.jsonl`), and how often skips are taken, which are no alternative to ops.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from enas import draw
from enas.architecture import Architecture
from enas.spaces import space_of

Record = Mapping[str, Any]
BLUE, BROWN, GREY, FAINT = draw.COLOURS["conv"][1], draw.COLOURS["pool"][1], "#737c87", "#b9c0c8"
SHARED = '<span class="shared">shared weights</span>'
REWARDS = {"accuracy": "accuracy", "loss": "exp(−cross-entropy)"}  # by setting task.reward


# ----------------------------------------------------------------------------------------------------------- reading
@dataclass(frozen=True)
class Training:
    """RUN/retrain/<id>-seed<k>."""

    config: Record
    metrics: list[Record]  # a record an epoch
    finished: bool


@dataclass(frozen=True)
class Run:
    """The files of a run; None or empty where one is not there yet. The sections look inside them."""

    path: Path
    config: Record
    settings: dict[str, Any]  # by dotted names
    metrics: list[Record]  # a record an epoch
    clock: str
    best: Record | None
    retrained: Record | None
    compared: Record | None
    trainings: dict[str, Training]  # by the name of the folder

    @property
    def first(self) -> str:
        """Id of the derived cell; before one is derived, nothing."""
        return str(self.best["ranked"][0]["id"]) if self.best else ""

    def note(self, what: str, verb: str) -> str:
        """What is missing, and the commands that lead to it."""
        verbs = [verb] if self.best or verb == "resume" else list(dict.fromkeys(("derive", verb)))
        commands = (f"<code>enas {verb} {escape(shlex.quote(str(self.path)))}</code>" for verb in verbs)
        return f'<p class="note">{what}: {", then ".join(commands)}</p>\n'


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """What goes wrong inside is the fault of the file: an error of one line that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"'{path}' is damaged, or enas did not write it: {what}") from error


def read(path: Path) -> list[Record]:
    """The mappings in a .json (one) or .jsonl file, none where it is missing; a last line that a crash cut is left out."""
    if not path.exists():
        return []
    with blaming(path):
        text = path.read_text()
        records = [json.loads(part) for part in (text.split("\n")[:-1] if path.suffix == ".jsonl" else [text])]
        for record in records:
            if not isinstance(record, dict):
                raise ValueError(f"a mapping should stand there; got {str(record)[:40]!r}")
            for name, value in flat(record | {"epoch": record["epoch"]}).items() if path.name == "metrics.jsonl" else ():
                if not isinstance(value, int | float):
                    raise ValueError(f"'{name}' should be a number; got {str(value)[:40]!r}")
    return records


def flat(settings: Record, prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def read_clock(path: Path) -> str:
    """When the search began, and how long it was at work: from each begin or resume to what came last after it."""
    records = read(path)
    with blaming(path):
        times = [datetime.fromisoformat(record["time"]) for record in records]
        pauses = [record["event"] in ("begin", "resume") for record in records[1:]]
        s = round(sum((b - a).total_seconds() for a, b, pause in zip(times, times[1:], pauses, strict=False) if not pause))
    span = f"{s // 3600}:{s % 3600 // 60:02} h" if s >= 3600 else f"{s // 60}:{s % 60:02} min" if s >= 60 else f"{s} s"
    return f", begun {times[0]:%Y-%m-%d %H:%M}, {span} of searching" if times else ""


def read_run(path: Path) -> Run:
    """ValueError where `path` is no search, or a file is damaged."""
    if not (path / "config.json").exists():
        raise ValueError(f"a run is a folder with a config.json; '{path}' has none (`enas search` makes one)")
    [config] = read(path / "config.json")
    with blaming(path / "config.json"):
        if config["command"] != "search":
            raise ValueError(f"a report is of a search, and this is a {config['command']}")
        settings = flat(config["settings"])
    best, retrained, compared = (next(iter(read(path / f"{name}.json")), None) for name in ("best", "retrained", "compare"))
    trainings = {
        file.parent.name: Training(read(file)[0], read(file.parent / "metrics.jsonl"), (file.parent / "result.json").exists())
        for file in sorted(path.glob("retrain/*/config.json"))
    }
    metrics, clock = read(path / "metrics.jsonl"), read_clock(path / "timing.jsonl")
    run = Run(path, config, settings, metrics, clock, best, retrained, compared, trainings)
    with blaming(path / "best.json"):
        _ = run.first
    return run


# ------------------------------------------------------------------------------------------------------------ charts
@contextmanager
def charting() -> Iterator[None]:
    """Within, a user's matplotlib settings do not count, text stays text, and equal figures are equal SVG."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "enas", "text.parse_math": False})
        matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY})
        matplotlib.rcParams.update({"axes.grid": True, "grid.color": "#e9ecef", "axes.axisbelow": True, "font.size": 9.5})
        yield


def _axes(ylabel: str = "", height: float = 2.7, xlabel: str = "epoch") -> tuple[Figure, Axes]:
    """As narrow as a phone, 4.4 inches, so that labels stay readable there."""
    fig = Figure(figsize=(4.4, height), layout="constrained")
    axes = fig.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=xlabel == "epoch"))
    axes.tick_params(color=GREY, labelcolor=draw.INK)
    return fig, axes


def _figure(name: str, fig: Figure, title: str, about: str, alt: str) -> str:
    """HTML of a figure. `title` and `about` are HTML, `alt` is text; `name` keeps the ids of several figures apart."""
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = re.sub(r"<style.*?</style>", "", file.getvalue().partition("<svg")[2], flags=re.DOTALL)
    attributes, _, body = body.partition(">")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    body = re.sub(r' d="[^"]*"', lambda m: re.sub(r"(\.\d)\d+", r"\1", m[0]), body)  # a tenth of a point is enough
    [box] = re.findall(r'viewBox="[^"]*"', attributes)
    svg = f'<svg role="img" aria-label="{escape(alt)}" {box}>{body}'
    return f"<figure>\n<figcaption><b>{title}</b> {about}</figcaption>\n{svg}</figure>\n"


def _warm_up(axes: Axes, metrics: Sequence[Record], epochs: int) -> None:
    """The extent of the epochs, and a shade over those of the warm-up."""
    last = max((record["epoch"] for record in metrics), default=1)
    axes.set_xlim(0.5, last + 0.5)
    if width := min(epochs, last):
        axes.axvspan(0.5, width + 0.5, color=draw.INK, alpha=0.07, linewidth=0)
        axes.text(0.5 + width / 2, 1.01, "warm-up", transform=axes.get_xaxis_transform(), ha="center", color=GREY, size=8.5)


Line = tuple[Sequence[Record], str, str, str]  # records, which of their numbers, colour, label


def line_chart(name: str, title: str, about: str, ylabel: str, lines: Sequence[Line], warm_up: int = 0) -> str:
    """Numbers over the epochs that have them, the last line on top; accuracies in percent."""
    fig, axes = _axes(ylabel)
    says = [f"{re.sub('<.*?>', '', title)} over the epochs, {ylabel}"]
    for records, key, colour, label in lines:
        scale = 100 if key.endswith("accuracy") else 1
        xs, ys = zip(*[(r["epoch"], scale * r[key]) for r in records if key in r] or [(0, 0.0)], strict=True)
        axes.plot(xs, ys, color=colour, label=label, linewidth=1.6, marker="o" if len(xs) == 1 else None)
        says += [f"{label} from {ys[0]:.3f} to {ys[-1]:.3f}"] if label else []
    if len(says) > 2:
        axes.legend(fontsize=8.5, frameon=False)
    _warm_up(axes, [record for records, *_ in lines for record in records], warm_up)
    return _figure(name, fig, title, about, "; ".join(says))


def op_chart(name: str, metrics: Sequence[Record], cell: str, warm_up: int) -> str:
    """Stacked shares of a cell's ops over the epochs, in the colours of the drawings, lighter for a second op of a kind."""
    found = {op for record in metrics for where, _, op in (key.partition(".") for key in record["ops"]) if where == cell}
    kind = {op: draw._op_kind(op) for op in found - {"skip"}}
    ops, shares = sorted(kind, key=lambda op: (kind[op], op)), []
    for record in metrics:
        counts = [record["ops"].get(f"{cell}.{op}", 0.0) for op in ops]
        shares.append([count / (sum(counts) or 1.0) for count in counts])
    colours = []
    for i, op in enumerate(ops):
        strength = 0.55 ** sum(kind[other] == kind[op] for other in ops[:i])
        colours.append([1 - strength * (1 - c) for c in to_rgb(draw.COLOURS[kind[op]][1])])
    fig, axes = _axes("share of sampled ops", 3.0)
    edges = [metrics[0]["epoch"] - 0.5, *(r["epoch"] for r in metrics), metrics[-1]["epoch"] + 0.5]  # one epoch shows too
    heights = list(zip(shares[0], *shares, shares[-1], strict=True))
    areas = axes.stackplot(edges, heights, colors=colours, edgecolor="white", linewidth=0.8)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _warm_up(axes, metrics, warm_up)
    labels = [draw.op_title(op) for op in ops]
    fig.legend(areas, labels, loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    last = ", ".join(f"{label} {share:.0%}" for label, share in zip(labels, shares[-1], strict=True))
    title = f"Ops of the {draw.cell_title(cell)}"
    about = "as sampled while the shared weights were trained."
    return _figure(name, fig, f"{escape(title)} {SHARED}", about, f"{title}, shares in the last epoch: {last}")


def strip_plot(derived: Sequence[float], cells: Sequence[Sequence[float]]) -> str:
    """Test accuracies: a dot a seed of the derived cell, a dot a uniform cell (its mean over seeds); bars are means."""
    fig, axes = _axes(height=1.75, xlabel="test accuracy, %")
    means = [mean(cell) for cell in cells]
    near = 0.025 * (max(*derived, *means) - min(*derived, *means)) or 1.0
    for y, values, colour in ((1, derived, BLUE), (0, means, GREY)):
        lanes: list[float] = []  # last x in each: a dot that would touch goes to the next one, up and down in turn
        for x in sorted(values):
            lane = next((i for i, before in enumerate(lanes) if x - before >= near), len(lanes))
            lanes[lane : lane + 1] = [x]
            axes.plot(x, y + 0.13 * ((lane + 1) // 2) * (-1) ** lane, "o", color=colour, ms=6, mew=0.8, mec="white")
        axes.plot([mean(values)] * 2, [y - 0.36, y + 0.36], color=colour, linewidth=2.2, zorder=1)
    axes.set_yticks([1, 0], [f"derived,\n{len(derived)} seeds", f"uniform,\n{len(cells)} cells"])
    axes.set_ylim(-0.6, 1.6)
    axes.grid(visible=False, axis="y")
    axes.ticklabel_format(axis="x", useOffset=False)
    says = [", ".join(f"{x:.2f}" for x in values) for values in (derived, means)]
    about = "A dot is a seed of the derived cell, or a uniform cell; all trained alone, alike. Bars are means."
    return _figure("verdict", fig, "Test accuracy.", about, f"Test accuracy in percent. Derived: {says[0]}. Uniform: {says[1]}.")


# ---------------------------------------------------------------------------------------------------------- sections
def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML; the first of a row names it."""
    html = "".join(f'<th scope="col">{name}</th>' for name in names)
    for first, *rest in rows:
        html += f'</tr>\n<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<div class="wide"><table><tr>{html}</tr></table></div>\n'


def _text(value: Any) -> str:
    return escape(" ".join(map(str, value)) if isinstance(value, list) else str(value))


def _score(row: Record, key: str) -> str:
    return "–" if key not in row else f"{100 * row[key]:.2f} %" if key.endswith("accuracy") else f"{row[key]:.4f}"


def head(run: Run) -> str:
    c, done, planned = run.config, len(run.metrics), run.settings["search.epochs"]
    what = f"<b>{_text(c['preset'])}</b>, recipe <b>{_text(c['recipe'])}</b>, seed {_text(c['seed'])}"
    machine = ", ".join(map(_text, (c["device"], f"{c['threads']} threads", *flat(c.get("machine", {})).values())))
    note = run.note("The search is not at its end yet", "resume") if done < planned else ""
    return f"<h1>{title_of(run)}</h1>\n<p>{what}: {done} of {planned} epochs{run.clock}; {machine}</p>\n{note}"


def title_of(run: Run) -> str:
    """`mine` of runs/mine, `digits-micro-quick/seed0` of the folder that a search makes unasked."""
    *_, parent, name = ("", "", *run.path.resolve().parts)
    return escape(f"{parent}/{name}" if re.fullmatch(r"seed\d+", name) else name)


def verdict(run: Run) -> str:
    html, c = "<h2>Verdict</h2>\n", run.compared
    if c is None:
        return html + run.note("No verdict yet: did the search find a better cell than uniform drawing does", "compare")
    if run.first not in ("", c["derived_id"]):
        html += run.note("This verdict is of a cell that does not rank first any more", "compare")
    says, _, numbers = c["verdict"].replace("+-", "±").partition(" (")
    kind = "open" if abs(c["difference"]) <= c["half_width"] else "better" if c["difference"] > 0 else "worse"
    cells = [scores for name, scores in c["test_accuracy"].items() if name != "derived"]
    return f"""{html}<div class="verdict {kind}"><div><p class="says">{escape(says)}</p>\n<p>{escape(numbers.replace(")", "", 1))}</p>
<p class="soft">± is the 95 % interval of the difference (Welch): seeds of the derived cell against uniform cells.</p></div>
{strip_plot(c["test_accuracy"]["derived"], cells)}</div>\n"""


def retrained(run: Run) -> str:
    html = "<h2>Trained alone, from scratch</h2>\n"
    if run.retrained is None:
        return html + run.note("The derived cell is not trained alone yet", "retrain")
    rows, chosen = run.retrained["trainings"], run.retrained["chosen"]
    [best] = [row for row in rows if row["id"] == chosen]
    if run.best and chosen not in [entry["id"] for entry in run.best["ranked"]]:
        html += run.note("This cell is not in best.json any more", "retrain")
    html += f"""<div class="tiles"><p><b>{_score(best, "test_accuracy")}</b>test accuracy<br>
<span class="soft">test images, read once, at the end of the training</span></p>
<p><b>{_score(best, "validation_accuracy")}</b>validation accuracy<br>
<span class="soft">images that the search and its choices were made on</span></p></div>\n"""
    if len(rows) == 1:
        return html
    keys = ("validation_accuracy", "test_accuracy")
    cells = [(f"<code>{_text(r['id'])}</code>", *(_score(r, key) for key in keys), f"{r['parameters']:,}") for r in rows]
    names = ("cell", "validation accuracy", "test accuracy", "parameters")
    return f"{html}<p>The first of these, chosen by validation accuracy:</p>\n{_table(names, cells)}"


def derived(run: Run) -> str:
    html = "<h2>The derived cell</h2>\n"
    if run.best is None:
        return html + run.note("No cell is derived yet", "derive")
    if run.best["searched_epochs"] < len(run.metrics):
        html += run.note("The search has gone on since this was derived", "derive")
    first, *_ = ranked = run.best["ranked"]
    arch = Architecture.from_dict(first)
    space = space_of(arch.space)
    keys = [key for key in first["shared_weights"] if key != "validation_reward"]
    rows = [
        (f"{e['rank']}", f"<code>{_text(e['id'])}</code>", *(_score(e["shared_weights"], key) for key in keys),
         f"{e['parameters']:,}") for e in ranked
    ]  # fmt: skip
    names = ("rank", "cell", *(f"{escape(key.replace('_', ' '))} {SHARED}" for key in keys), "parameters")
    return f"""{html}<figure><figcaption><code>{_text(first["id"])}</code>, <b>{first["parameters"]:,} parameters</b> when trained
alone</figcaption>\n<div class="drawing" tabindex="0" role="region" aria-label="Drawing of the derived cell">
{draw.svg(space, arch)}</div></figure>\n<details><summary>As text</summary><pre>{escape(draw.to_text(space, arch))}</pre></details>
<h2>Ranked by shared weights</h2>\n<p class="warning"><b>Scores with shared weights: they rank, they are not results.</b>
Trained alone, a cell reaches another accuracy.</p>\n{_table(names, rows)}"""


def search(run: Run) -> str:
    html, metrics, warm_up = "<h2>The search, epoch by epoch</h2>\n", run.metrics, run.settings["search.warmup_epochs"]
    if not metrics:
        return html + run.note("No epoch is finished yet", "resume")
    about = "of sampled children on training batches."
    lines: list[Line] = [(metrics, "shared_loss", BLUE, "mean")]
    charts = line_chart("loss", f"Training loss {SHARED}", about, "cross-entropy", lines, warm_up)
    if any("reward" in record for record in metrics):
        about, unit = "of sampled cells on validation batches.", REWARDS.get(run.settings.get("task.reward", ""), "reward")
        lines = [(metrics, "reward_best", BROWN, "best of a step"), (metrics, "baseline", GREY, "baseline, with entropy bonus")]
        lines += [(metrics, "reward", BLUE, "mean")]
        charts += line_chart("reward", f"Reward {SHARED}", about, unit, lines, warm_up)
        about, lines = "tells how undecided the controller is.", [(metrics, "entropy", BLUE, "mean")]
        charts += line_chart("entropy", "Policy entropy", about, "nats", lines, warm_up)
    elif run.settings.get("strategy") == "random":
        html += "<p>Cells were drawn at random: there is no policy that learns from rewards.</p>\n"
    else:
        html += "<p>All of these epochs are warm-up: cells are drawn uniformly, the controller rests.</p>\n"
    cells = dict.fromkeys(name.partition(".")[0] for record in metrics for name in record["ops"])
    charts += "".join(op_chart(f"ops{i}", metrics, name, warm_up) for i, name in enumerate(cells))
    return f'{html}<div class="grid">{charts}</div>\n'


def trainings(run: Run) -> str:
    ordered = sorted(run.trainings.items(), key=lambda item: item[0].startswith(run.first))
    charts, about = "", "of cells trained alone: the derived one blue, others grey."
    for key, ylabel in (("train_loss", "training loss"), ("validation_accuracy", "validation accuracy, %")):
        lines = [(t.metrics, key, BLUE if name.startswith(run.first) else FAINT, "") for name, t in ordered]
        charts += line_chart(key, key.replace("_", " ").capitalize(), about, ylabel, lines)
    text = f"{sum(t.finished for _, t in ordered)} of {len(ordered)} begun trainings are finished."
    return f'<h2>Trainings alone, epoch by epoch</h2>\n<p>{text}</p>\n<div class="grid">{charts}</div>\n' if ordered else ""


def repeat(run: Run) -> str:
    """Everything needed to run this again."""

    def flags(now: Record, before: Record) -> str:
        changed = {name: value for name, value in now.items() if before.get(name) != value}
        return "".join(f" --{name.replace('_', '-')} {' '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in changed.items())

    here, again = shlex.quote(str(run.path / "config.json")), shlex.quote(f"{run.path}-again")
    commands = [f"enas search --config {here} --out {again}"]
    if run.best:
        default = {name[7:]: value for name, value in run.settings.items() if name.startswith("derive.")}
        commands += [f"enas derive {again}{flags(run.best.get('settings', {}), default)}"]
    if run.retrained:
        rows = run.retrained["trainings"]
        training = run.trainings[Path(rows[0]["folder"]).name].config
        changed = flags(flat(training["settings"]["retrain"], "retrain."), run.settings)
        commands += [f"enas retrain {again} --top {len(rows)} --seed {training['train_seed']}{changed}"]
    if run.compared:
        scores = run.compared["test_accuracy"]
        cells = [len(cell) for name, cell in scores.items() if name != "derived"]
        commands += [f"enas compare {again} --cells {len(cells)} --seeds {len(scores['derived'])} --cell-seeds {cells[0]}"]
    settings = _table(("setting", "value"), [(_text(name), _text(value)) for name, value in run.settings.items()])
    versions = ", ".join(f"{_text(name)} {_text(value)}" for name, value in run.config["versions"].items())
    whole = escape(json.dumps(run.config, indent=1))
    return f"""<h2>To run this again</h2>\n<pre>{escape(chr(10).join(commands))}</pre>\n<p>With {versions}.</p>
<details><summary>All {len(run.settings)} settings</summary>{settings}</details>
<details><summary>config.json, for who has no more than this page</summary><pre>{whole}</pre></details>\n"""


# -------------------------------------------------------------------------------------------------------------- page
STYLE = """
:root{color-scheme:light dark;--ink:#1c2127;--soft:#5b6470;--ground:#fff;--card:#f4f5f7;--line:#dfe3e8;--blue:#0067a3;--warn:#fff0cf;
--good:#00815f;--bad:#b3401f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#a4adb8;--ground:#14181d;--card:#1e242b;--line:#343c46;--blue:#6db9ea;
--warn:#43330f;--good:#3dbb95;--bad:#ef8a68}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:62rem;margin:auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.8rem 0 .8rem;padding-top:.8rem;border-top:1px solid var(--line)}
p{margin:.6rem 0}.soft{color:var(--soft);font-size:.875rem}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.875em}
code{background:var(--card);padding:.1em .35em;border-radius:4px;overflow-wrap:anywhere}
pre{background:var(--card);padding:.8rem 1rem;border-radius:8px;overflow-x:auto;line-height:1.45}
.note{background:var(--card);border-left:4px solid var(--blue);padding:.6rem .9rem;border-radius:0 8px 8px 0}
.warning{background:var(--warn);border-left:4px solid #b87700;padding:.6rem .9rem;border-radius:0 8px 8px 0}
.verdict{border-left:6px solid var(--soft);background:var(--card);border-radius:0 10px 10px 0;padding:.6rem 1rem 1rem;display:grid;
grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:0 1.5rem;align-items:center}
.verdict.better{border-color:var(--good)}.verdict.worse{border-color:var(--bad)}
.says{font-size:1.5rem;font-weight:650;line-height:1.3;text-wrap:balance}.says::first-letter{text-transform:uppercase}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr));gap:1rem}
.tiles p{margin:0;background:var(--card);border-radius:10px;padding:.8rem 1rem}.tiles b{display:block;font-size:2rem;line-height:1.3}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}
figure{margin:.8rem 0 0;background:#fff;color:#1c2127;border:1px solid var(--line);border-radius:10px;padding:.8rem;min-width:0}
.grid figure{margin:0}figcaption{font-size:.9rem;margin-bottom:.4rem}figcaption code{background:#f4f5f7}
figure>svg{display:block;width:100%;height:auto;stroke-linejoin:round}figure>svg text{font-family:system-ui,sans-serif!important}
.drawing{overflow-x:auto;text-align:center}.drawing svg{min-width:30rem}
.shared{display:inline-block;background:#fff0cf;color:#6b4500;border-radius:4px;padding:0 .4em;font-size:.75rem;font-weight:600}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.925rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:bottom}
th[scope=row]{font-weight:400}details{margin:.8rem 0}summary{cursor:pointer;color:var(--blue)}
"""
SECTIONS = (
    (head, "config.json"),
    (verdict, "compare.json"),
    (retrained, "retrained.json"),
    (derived, "best.json"),
    (search, "metrics.jsonl"),
    (trainings, "retrain"),
    (repeat, "config.json"),
)


def page(run: Run) -> str:
    """The whole page. ValueError where a file of the run does not hold what it should."""
    html = ""
    for section, file in SECTIONS:
        with blaming(run.path / file), charting():
            html += f"<section>\n{section(run)}</section>\n"
    return f"""<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title_of(run)} · enas report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{html}</main>\n</body>\n</html>\n"""


def write_report(run: Path) -> Path:
    """Write `run`/report.html, all of it or nothing; its path."""
    path = Path(run) / "report.html"
    text = page(read_run(Path(run)))
    part = path.with_name(f".report.html.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
