"""The report of a run: RUN/report.html, one page for thirty seconds or for ten minutes (design 8).

It holds everything itself (no script, no network) and is written at whatever stage the run is: what is not there yet is
named, with the command that gets it. What counts comes first, the verdict and the accuracy of the architecture trained
alone; every figure of shared weights says that it is one. Equal run folders give equal pages.

Left out: single children (`architectures.jsonl`), and how often skips are taken, which are no alternative to ops.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from enas.grading.ledger import Ledger, seconds_at_work
from enas.reports.charts import BLUE, BROWN, FAINT, GREY, SHARED, Line, charting, line_chart, op_chart, series, strip_plot
from enas.reports.drawing import render
from enas.reports.experiments import disabled, local
from enas.runs.before import flat_settings
from enas.runs.files import Record, blaming, flat, read_records
from enas.spaces.architecture import Architecture
from enas.spaces.registry import space_of
from enas.tasks.metrics import METRICS, Metric, metric_in

REWARDS = {"accuracy": "accuracy", "loss": "exp(−cross-entropy)"}  # by setting task.reward
UNKNOWN = METRICS["accuracy"]  # where a record names no metric


@dataclass(frozen=True)
class Run:
    """What several sections look at; the rest each reads for itself."""

    path: Path
    config: Record
    settings: dict[str, Any]  # by dotted names
    metrics: list[Record]  # a record an epoch
    ranked: Sequence[Record]  # of best.json, the derived architecture first; empty before there is one
    derived_at: int  # epochs that were done then

    def read(self, name: str) -> Record | None:
        return next(iter(read_records(self.path / name)), None)

    def note(self, what: str, verb: str) -> str:
        """What is missing, and the commands that lead to it."""
        verbs = [verb] if self.ranked or verb in ("resume", "derive") else ["derive", verb]
        commands = (f"<code>enas {verb} {escape(shlex.quote(str(self.path)))}</code>" for verb in verbs)
        return f'<p class="note">{what}: {", then ".join(commands)}</p>\n'

    def marks(self) -> Record:
        """Notes for the drawing, by layer."""
        return (self.read("best.json") or {}).get("marks", {})

    @property
    def title(self) -> str:
        """`mine` of runs/mine, `digits-micro-quick/seed0` of the folder that a search makes unasked."""
        *_, parent, name = ("", "", *self.path.resolve().parts)
        return escape(f"{parent}/{name}" if re.fullmatch(r"seed\d+", name) else name)


def read_run(path: Path) -> Run:
    """ValueError where `path` is no search, or a file is damaged."""
    if not (path / "config.json").exists():
        raise ValueError(f"a run is a folder with a config.json; '{path}' has none (`enas search` makes one)")
    [config] = read_records(path / "config.json")
    with blaming(path / "config.json"):
        command, settings = config["command"], flat_settings(config)
    if command != "search":
        raise ValueError(f"a report is of a search; '{path}' is a {command}")
    with blaming(path / "best.json"):
        [best] = read_records(path / "best.json") or [{"ranked": [], "searched_epochs": 0}]
        ranked, derived_at = [{**entry, "id": str(entry["id"])} for entry in best["ranked"]], int(best["searched_epochs"])
    return Run(path, config, settings, read_records(path / "metrics.jsonl"), ranked, derived_at)


# ---------------------------------------------------------------------------------------------------------- sections
def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML; the first of a row names it."""
    html = "".join(f'<th scope="col">{name}</th>' for name in names)
    for first, *rest in rows:
        html += f'</tr>\n<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<div class="wide"><table><tr>{html}</tr></table></div>\n'


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(value: Any) -> str:
    return escape(_plain(value))


def _flag(name: str, value: Any) -> str:
    """A setting on the command line: `--a.b 3`, and for a switch `--a.b` or `--a.no-b`."""
    group, _, last = name.rpartition(".")
    return f" --{group}.{'' if value else 'no-'}{last}" if isinstance(value, bool) else f" --{name} {_plain(value)}"


def _score(row: Record, key: str) -> str:
    metric = METRICS.get(key.rpartition("_")[2])
    return "–" if key not in row else metric.text(row[key]) if metric else f"{row[key]:.4f}"


def _clock(path: Path) -> str:
    """When the search began, and how long it was at work: from each begin or resume to what came last after it."""
    records = read_records(path)
    with blaming(path):
        times = [datetime.fromisoformat(record["time"]) for record in records]
        s = round(seconds_at_work(path.parent))
    span = f"{s // 3600}:{s % 3600 // 60:02} h" if s >= 3600 else f"{s // 60}:{s % 60:02} min" if s >= 60 else f"{s} s"
    return f", begun {times[0]:%Y-%m-%d %H:%M}, {span} of searching" if times else ""


def head(run: Run) -> str:
    c, done, planned = run.config, len(run.metrics), run.settings["search.epochs"]
    what = f"<b>{_text(c['preset'])}</b>, recipe <b>{_text(c['recipe'])}</b>, seed {_text(c['seed'])}"
    machine = ", ".join(
        map(_text, (c["device"], f"{c['threads']} thread{'s' * (c['threads'] != 1)}", *flat(c.get("machine", {})).values()))
    )
    note = run.note("The search is not at its end yet", "resume") if done < planned else ""
    clock = _clock(run.path / "timing.jsonl")
    return f"<h1>{run.title}</h1>\n<p>{what}: {done} of {planned} epochs{clock}; {machine}</p>\n{note}"


def _compared(compared: Record) -> tuple[Metric, list[float], list[list[float]], dict[str, list[float]]]:
    """Which figure, those of the derived architecture over its seeds, those of the uniform ones, each over its seeds, and
    those of hand-designed models."""
    metric, names = metric_in(compared) or UNKNOWN, compared.get("references", {})
    figures = compared[f"test_{metric.name}"]
    uniform = [scores for name, scores in figures.items() if name != "derived" and name not in names]
    return metric, figures["derived"], uniform, {name: figures[name] for name in names}


def verdict(run: Run) -> str:
    html, c = "<h2>Verdict</h2>\n", run.read("compare.json")
    if c is None:
        return html + run.note("No verdict yet. What tells whether the search beats drawing at random", "compare")
    if run.ranked and c["derived_id"] != run.ranked[0]["id"]:
        html += run.note("This verdict is of an architecture that does not rank first any more", "compare")
    says, _, numbers = (escape(part) for part in c["verdict"].replace("+-", "±").replace(" %", "\u00a0%").partition(" ("))
    metric, seeds, cells, references = _compared(c)
    larger = c["difference"] > 0
    kind = "better" if larger == metric.larger_is_better else "worse"
    kind = "open" if abs(c["difference"]) <= c["half_width"] else kind
    return f"""{html}<div class="verdict {kind}"><div><p class="says">{says}</p>\n<p>{numbers.replace(")", "", 1)}</p>
<p class="soft">± is the 95 % interval of the difference (Welch): seeds of the derived one against uniform ones.</p></div>
{strip_plot(seeds, cells, references, metric)}</div>\n"""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def ranking(run: Run) -> str:
    """Whether shared weights rank as trainings alone do, beside what costs nothing."""
    compared = run.read("compare.json") or {}
    rows, cost = compared.get("rankings") or [], compared.get("ledger")
    paid = disabled(compared) + local(compared)
    if left_out := compared.get("left_out"):
        why = "; ".join(f"{name} ({reason})" for name, reason in left_out.items())
        paid += run.note(f"Left out of the comparison: {escape(why)}", "compare")
    paid += f"<h2>What it cost</h2>\n<p>{escape(_sentence(str(Ledger(**cost))))}.</p>\n" if cost else ""
    if not rows:
        return paid

    def shown(found: Record) -> str:
        return f"{found['value']:.2f} <span class='soft'>({found['low']:.2f} to {found['high']:.2f})</span>"

    cells = [
        (_text(r["ranker"]), shown(r["kendall"]), shown(r["spearman"]), shown(r["kendall_better_half"]), f"{r['pick']:.2f}")
        for r in rows
    ]
    head = ("ranked by", "Kendall's tau", "Spearman", "tau in the better half", "its pick, trained alone")
    return f"""<h2>Do the shared weights rank?</h2>
<p>{rows[0]["n"]} uniform architectures, ranked by their validation scores with shared weights and by what costs nothing,
against their test figures trained alone. 1: the same order; 0: chance; in brackets the 95 % bootstrap interval.</p>
{_table(head, cells)}{paid}"""


def retrained(run: Run) -> str:
    html, found = "<h2>Trained alone, from scratch</h2>\n", run.read("retrained.json")
    if found is None:
        return html + run.note("The derived architecture is not trained alone yet", "retrain")
    rows, chosen = found["trainings"], found["chosen"]
    [best] = [row for row in rows if row["id"] == chosen]
    if run.ranked and chosen not in [entry["id"] for entry in run.ranked]:
        html += run.note("This architecture is not in best.json any more", "retrain")
    name = (metric_in(best) or UNKNOWN).name
    among = f", chosen by validation {name} among the {len(rows)} that ranked best" if len(rows) > 1 else ""
    made_on = "the search and its choices were made on it" if f"validation_{name}" in best else "trained on as well"
    return f"""{html}<p>Architecture <code>{_text(chosen)}</code>, {best["parameters"]:,} parameters{among}.</p>
<div class="tiles"><p><b>{_score(best, f"test_{name}")}</b>test {name}<br>
<span class="soft">the test set, read once, at the end of the training</span></p>
<p><b>{_score(best, f"validation_{name}")}</b>validation {name}<br>
<span class="soft">the validation part: {made_on}</span></p></div>\n"""


def derived(run: Run) -> str:
    html = "<h2>The derived architecture</h2>\n"
    if not run.ranked:
        return html + run.note("No architecture is derived yet", "derive")
    if run.derived_at < len(run.metrics):
        html += run.note("The search has gone on since this was derived", "derive")
    first = run.ranked[0]
    arch = Architecture.from_dict(first)
    space = space_of(arch.space)
    drawings = (render.svg(replace(space, cells=(cell,)), arch, run.marks()) for cell in space.cells)
    cells = "".join(f'<div style="--w:{re.findall("width=.([0-9.]+)pt", svg)[0]}">{svg}</div>\n' for svg in drawings)
    name = (metric_in(first["shared_weights"]) or UNKNOWN).name
    keys = [k for k in (f"validation_{name}", "validation_loss", "minibatch_reward") if k in first["shared_weights"]]
    rows = [
        (_text(e["rank"]), f"<code>{_text(e['id'])}</code>", *(_score(e["shared_weights"], key) for key in keys),
         f"{e['parameters']:,}") for e in run.ranked
    ]  # fmt: skip
    names = ("rank", "architecture", *(f"{key.replace('_', ' ')} {SHARED}" for key in keys), "parameters")
    return f"""{html}<figure><figcaption><code>{_text(first["id"])}</code>: <b>{first["parameters"]:,} parameters</b> when
trained alone</figcaption>\n<div class="drawing">{cells}</div></figure>
<details><summary>As text</summary><pre>{escape(render.to_text(space, arch))}</pre></details>
<h2>Ranked by shared weights</h2>
<p class="warning"><b>Scores with shared weights: they rank, they are not results.</b> Trained alone, each reaches another
{name}.</p>\n{_table(names, rows)}"""


def search(run: Run) -> str:
    html, metrics, warm_up = "<h2>The search, epoch by epoch</h2>\n", run.metrics, run.settings["search.warmup_epochs"]
    if not metrics:
        return html + run.note("No epoch is finished yet", "resume")
    lines: list[Line] = [(series(metrics, "shared_loss"), BLUE, "mean")]
    about = "of sampled children on training batches."
    charts = line_chart("loss", f"Training loss {SHARED}", about, "cross-entropy", lines, warm_up)
    charts += _gradients(metrics, warm_up)
    if any("reward" in record for record in metrics):
        looks = (("reward_best", BROWN, "best of a step"), ("baseline", GREY, "baseline, with entropy bonus"))
        lines = [(series(metrics, key), colour, label) for key, colour, label in (*looks, ("reward", BLUE, "mean"))]
        about, unit = (
            "of sampled architectures on validation batches.",
            REWARDS.get(run.settings.get("task.reward", ""), "reward"),
        )
        unit = f"{run.settings['task.reward_scale']:g} / perplexity" if "task.reward_scale" in run.settings else unit
        charts += line_chart("reward", f"Reward {SHARED}", about, unit, lines, warm_up)
        about, lines = "tells how undecided the controller is.", [(series(metrics, "entropy"), BLUE, "mean")]
        charts += line_chart("entropy", "Policy entropy", about, "nats", lines, warm_up)
        charts += _learning(metrics, warm_up)
    elif run.settings.get("strategy") == "random":
        html += "<p>Cells were drawn at random: there is no policy that learns from rewards.</p>\n"
    else:
        html += "<p>All of these epochs are warm-up: children are drawn uniformly, the controller rests.</p>\n"
    names = (name.partition(".") for record in metrics for name in record["ops"])
    cells = dict.fromkeys(cell for cell, _, op in names if op != "skip")
    charts += "".join(op_chart(f"ops{i}", metrics, name, warm_up) for i, name in enumerate(cells))
    if wrong := metrics[-1].get("alarms"):
        html += "".join(f'<p class="warning"><b>Alarm:</b> {escape(text)}.</p>\n' for text in wrong)
    return f'{html}<div class="grid">{charts}</div>\n'


def _gradients(metrics: Sequence[Record], warm_up: int) -> str:
    """The norms of the shared weights' gradients, epoch by epoch, and how many steps were skipped."""
    looks = (("largest", FAINT, "largest"), ("p99", BROWN, "99 %"), ("median", BLUE, "median"))
    lines: list[Line] = [(series(metrics, f"gradient_norm_{key}"), colour, label) for key, colour, label in looks]
    if not any(points for points, *_ in lines):
        return ""
    clipped = [record["clipped_share"] for record in metrics if "clipped_share" in record]
    skipped = sum(int(record.get("skipped_steps", 0)) for record in metrics)
    about = "of shared weights, before clipping"
    about += f"; {sum(clipped) / len(clipped):.0%} of the steps were clipped" if clipped else ""
    about += f"; {skipped} steps were skipped." if skipped else "; no step was skipped."
    return line_chart("gradients", f"Gradient norm {SHARED}", about, "norm", lines, warm_up, logarithmic=True)


def _learning(metrics: Sequence[Record], warm_up: int) -> str:
    """The policy's samples against uniform ones, epoch by epoch; nothing where they were not scored side by side."""
    gap, half = "policy_minus_uniform", "policy_minus_uniform_half_width"
    probed = [{**m, "low": m[gap] - m[half], "high": m[gap] + m[half]} for m in metrics if gap in m]
    if not probed:
        return ""
    lines: list[Line] = [(series(probed, "low"), FAINT, ""), (series(probed, "high"), FAINT, "95 % interval")]
    lines.append((series(probed, gap), BLUE, "policy less uniform"))
    about = (
        "of the policy's samples less that of uniform ones, on the same batches: above 0 the policy has learned something."
    )
    return line_chart("learning", f"Reward {SHARED}", about, "difference", lines, warm_up)


def trainings(run: Run) -> str:
    first = run.ranked[0]["id"] if run.ranked else "none"
    folders = sorted(file.parent for file in run.path.glob("retrain/*/config.json"))
    losses: list[Line] = []
    figures: list[Line] = []
    metric = UNKNOWN
    for folder in sorted(folders, key=lambda folder: folder.name.startswith(first)):  # the derived architecture's on top
        records, colour = read_records(folder / "metrics.jsonl"), BLUE if folder.name.startswith(first) else FAINT
        with blaming(folder / "metrics.jsonl"):
            metric = (metric_in(records[-1]) if records else None) or metric
            losses.append((series(records, "train_loss"), colour, ""))
            figures.append((series(records, f"validation_{metric.name}", metric.scale), colour, ""))
    if not folders:
        return ""
    about = "of architectures trained alone: the derived one blue, others grey."
    charts = line_chart("alone", "Training loss", about, "cross-entropy", losses)
    if any(points for points, *_ in figures):
        unit = metric.unit.strip() or metric.name
        charts += line_chart("metric", f"Validation {metric.name}", about, unit, figures)
    done = sum((folder / "result.json").exists() for folder in folders)
    return f"""<h2>Trainings alone, epoch by epoch</h2>\n<p>{done} of {len(folders)} trainings are finished.</p>
<div class="grid">{charts}</div>\n"""


def repeat(run: Run) -> str:
    """Everything needed to run this again."""
    again = shlex.quote(f"{run.path}-again")

    def changed(retrain: Record) -> str:
        """Flags for what differs from the run's own recipe."""
        given = flat(retrain, "retrain.").items()
        return "".join(_flag(name.replace("_", "-"), value) for name, value in given if value != run.settings.get(name))

    commands = [f"enas search --config {shlex.quote(str(run.path / 'config.json'))} --out {again}"]
    commands += [f"enas derive {again}"] if run.ranked else []
    if found := run.read("retrained.json"):
        config = run.read(f"{found['trainings'][0]['folder']}/config.json") or run.config
        flags = changed(config["settings"]["retrain"])
        commands += [f"enas retrain {again} --top {len(found['trainings'])} --seed {config.get('train_seed', 0)}{flags}"]
    if found := run.read("compare.json"):
        _, seeds, cells, names = _compared(found)
        drawn, beside = len(cells) + found.get("diverged", 0), f" --references {' '.join(names)}" if names else ""
        commands += [f"enas compare {again} --cells {drawn} --seeds {len(seeds)} --cell-seeds {len(cells[0])}{beside}"]
        commands[-1] += changed(found.get("recipe", {}))
    settings = _table(("setting", "value"), [(_text(name), _text(value)) for name, value in run.settings.items()])
    versions = ", ".join(f"{_text(name)} {_text(value)}" for name, value in run.config["versions"].items())
    return f"""<h2>To run this again</h2>\n<pre>{escape(chr(10).join(commands))}</pre>\n<p>With {versions}.</p>
<details><summary>All {len(run.settings)} settings</summary>{settings}</details>\n"""


# -------------------------------------------------------------------------------------------------------------- page
SECTIONS = (
    (head, "config.json"), (verdict, "compare.json"), (ranking, "compare.json"), (retrained, "retrained.json"),
    (derived, "best.json"), (search, "metrics.jsonl"), (trainings, "retrain"), (repeat, "config.json"),
)  # fmt: skip
STYLE = """
:root{color-scheme:light dark;--ink:#1c2127;--soft:#5b6470;--ground:#fff;--card:#f4f5f7;--line:#dfe3e8;--blue:#0067a3;
--warn:#fff0cf;--good:#00815f;--bad:#b3401f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#a4adb8;--ground:#14181d;--card:#1e242b;--line:#343c46;
--blue:#6db9ea;--warn:#43330f;--good:#3dbb95;--bad:#ef8a68}}
*{box-sizing:border-box}p{margin:.6rem 0}.soft{color:var(--soft);font-size:.875rem}
body{margin:0;background:var(--ground);color:var(--ink);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:64rem;margin:auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.8rem 0 .8rem;padding-top:.8rem;border-top:1px solid var(--line)}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.875em;background:var(--card)}
code{padding:.1em .35em;border-radius:4px;overflow-wrap:anywhere}td code{white-space:nowrap;background:none;padding:0}
pre{padding:.8rem 1rem;border-radius:8px;overflow-x:auto;line-height:1.45}
.note,.warning{background:var(--card);border-left:4px solid var(--blue);padding:.6rem .9rem;border-radius:0 8px 8px 0}
.warning{background:var(--warn);border-color:#b87700}.note code{background:var(--ground)}
.verdict,.tiles,.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
.verdict{border-left:6px solid var(--soft);background:var(--card);border-radius:0 10px 10px 0;padding:.6rem 1rem 1rem}
.verdict.better{border-color:var(--good)}.verdict.worse{border-color:var(--bad)}
.says{font-size:1.5rem;font-weight:650;line-height:1.3;text-wrap:balance}.says::first-letter{text-transform:uppercase}
.one{max-width:34rem}
.tiles p{margin:0;background:var(--card);border-radius:10px;padding:.8rem 1rem}.tiles b{display:block;font-size:2rem}
figure{margin:0;background:#fff;color:#1c2127;border:1px solid var(--line);border-radius:10px;padding:.8rem;min-width:0}
figcaption{font-size:.9rem;margin-bottom:.4rem}figcaption code{background:none;padding:0}
figure>svg{width:100%;height:auto;stroke-linejoin:round}figure>svg text{font-family:system-ui,sans-serif!important}
.drawing{display:flex;flex-wrap:wrap;justify-content:space-around}.drawing svg{min-width:calc(var(--w)*.6pt)}
.drawing div{flex:var(--w) 1 calc(var(--w)*.75pt);max-width:calc(var(--w)*1pt);min-width:0;overflow-x:auto}
.shared{background:#fff0cf;color:#6b4500;border-radius:4px;padding:.1em .4em;font-size:.75rem;white-space:nowrap}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.925rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:bottom}
th[scope=row]{font-weight:400}details{margin:.8rem 0}summary{cursor:pointer;color:var(--blue)}
"""


def page(run: Run) -> str:
    """The whole page. ValueError where a file of the run does not hold what it should."""
    html = ""
    for section, file in SECTIONS:
        with blaming(run.path / file), charting():
            html += f"<section>\n{section(run)}</section>\n"
    return f"""<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{run.title}: enas report</title>\n<style>{STYLE}</style>\n</head>\n<body><main>\n{html}</main></body>\n</html>\n"""


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
