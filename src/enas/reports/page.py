"""This module writes the report of a run: RUN/report.html, one page that can be read in thirty
seconds or in ten minutes.

The page holds everything itself (no script, no network) and is written at whatever stage the run
is. Where something is missing, the page names it, with the command that makes it. The most
important things come first: the verdict, and the accuracy of the architecture trained from scratch.
Every figure of shared weights says that it is one. Equal run folders give equal pages.

Two things are left out: single children (architectures.jsonl), and how often skips are taken, since
skips are no ops.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from enas.grading.ledger import seconds_at_work
from enas.grading.studies import SINGLE
from enas.networks.references.registry import REFERENCES
from enas.procedures.statistics import Coefficient
from enas.reports.charts import (
    charting,
    marked,
    pareto_chart,
    strip_plot,
)
from enas.reports.curves import search, trainings
from enas.reports.drawing import render
from enas.reports.experiments import disabled, local
from enas.reports.html import document, fill, table
from enas.reports.judged import by_trainings, trained_shortly
from enas.reports.run import REWARDS, UNKNOWN, Run, read_run
from enas.reports.sure import section
from enas.runs.compared import SHARING, Compared
from enas.runs.files import blaming, flat, write_atomically
from enas.runs.records import Config, ticks
from enas.runs.results import Pareto, ParetoPoint
from enas.spaces.costs import COST_UNITS
from enas.spaces.registry import space_of
from enas.state import Values
from enas.tasks.metrics import METRICS, figure, metric_in


# --------------------------------------------------------------------------------------- sections
def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _code(text: str) -> Markup:
    return fill("<code>{text}</code>", text=text)


def _flag(name: str, value: object) -> str:
    """Returns a setting as a flag: `--a.b 3`, and for a switch `--a.b` or `--a.no-b`."""
    group, _, last = name.rpartition(".")
    return f" --{group}.{'' if value else 'no-'}{last}" if isinstance(value, bool) else f" --{name} {_plain(value)}"


def _score(row: Values, key: str) -> str:
    metric = METRICS.get(key.rpartition("_")[2])
    return "–" if key not in row else metric.text(row[key]) if metric else figure(row[key], 4)


def _clock(path: Path) -> str:
    """Returns when the search began, and how long it ran."""
    began, s = next(ticks(path), None), round(seconds_at_work(path))
    span = f"{s // 3600}:{s % 3600 // 60:02} h" if s >= 3600 else f"{s // 60}:{s % 60:02} min" if s >= 60 else f"{s} s"
    with blaming(path / "timing.jsonl"):
        return f", begun {began.at:%Y-%m-%d %H:%M}, {span} of searching" if began else ""


def head(run: Run) -> Markup:
    """Returns the section with the title and the state of the run."""
    c, done, planned = run.config, len(run.metrics), run.number("search.epochs")
    threads = f"{c.threads} thread{'s' * (c.threads != 1)}"
    parts = (f"{value} {name}" if name == "cores" else value for name, value in flat(c.machine).items())
    return fill(
        "<h1>{run.title}</h1>\n<p><b>{preset}</b>, recipe <b>{recipe}</b>, seed {seed}: {done} of {planned} epochs{clock};"
        " {machine}</p>\n{note}",
        run=run,
        preset=_plain(c.preset),
        recipe=_plain(c.recipe),
        seed=_plain(c.seed),
        done=done,
        planned=planned,
        clock=_clock(run.path),
        machine=", ".join(map(_plain, (c.device, threads, *parts))),
        note=run.note("The search is not at its end yet", "resume") if done < planned else "",
    )


def verdict(run: Run) -> Markup:
    """Returns the section about the verdict."""
    html, compared = Markup("<h2>Verdict</h2>\n"), run.compared
    if compared is None:
        return html + run.note("No verdict yet. What tells whether the search beats drawing at random", "compare")
    for what, verb in run.notes_on_verdict():
        html += run.note(what, verb)
    verdict = compared.verdict
    kind = {True: "better", False: "worse", None: "open"}[verdict.better]
    sentence, figures = (text.replace("+-", "±").replace(" %", "\u00a0%") for text in (verdict.sentence, verdict.figures))
    return html + fill(
        """<div class="verdict {kind}"><div><p class="says">{sentence}</p>\n<p>{figures}</p>
<p class="soft">± is the 95 % interval of the difference (Welch): seeds of the derived one against random architectures.</p>
</div>{strips}</div>\n""",
        kind=kind,
        sentence=sentence,
        figures=figures,
        strips=strip_plot(compared.derived, list(compared.uniform.values()), compared.references, compared.metric),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def ranking(run: Run) -> Markup:
    """Returns the section about how shared weights rank, and about the other comparisons."""
    if run.compared is None:
        return Markup("")
    compared, rows = run.compared, run.compared.rankings
    paid = disabled(compared) + local(compared)
    if compared.left_out:
        why = "; ".join(f"{name} ({reason})" for name, reason in compared.left_out.items())
        paid += run.note(f"Left out of the comparison: {why}", "compare")
    if compared.ledger:
        paid += fill("<h2>What it cost</h2>\n<p>{cost}.</p>\n", cost=_sentence(str(compared.ledger)))
    if not rows:
        return paid

    def shown(found: Coefficient) -> Markup:
        return fill("{x.value:.2f} <span class='soft'>({x.low:.2f} to {x.high:.2f})</span>", x=found)

    cells = [
        (
            _plain(r.ranker),
            shown(r.kendall),
            shown(r.spearman),
            shown(r.kendall_better_half),
            compared.metric.figure(r.pick),
        )
        for r in rows
    ]
    head = ("ranked by", "Kendall's tau", "Spearman", "tau in the better half", "its pick, from scratch")
    return fill(
        """<h2>Do the shared weights rank?</h2>
<p>{n} random architectures, ranked by their validation scores with shared weights and by what costs nothing,
against their test figures trained from scratch. 1: the same order; 0: chance; in brackets the 95 % bootstrap interval.</p>
{ranked}{paid}""",
        n=rows[0].n,
        ranked=table(head, cells),
        paid=paid,
    )


def retrained(run: Run) -> Markup:
    """Returns the section about the architecture trained from scratch."""
    html, record = Markup("<h2>Trained from scratch</h2>\n"), run.retrained
    if record is None:
        return html + run.note("The derived architecture is not trained from scratch yet", "retrain")
    result, rows = record.best.result, record.trainings
    figures = result.figures
    if run.best and record.chosen not in [entry.id for entry in run.best.ranked]:
        html += run.note("This architecture is not in best.json any more", "retrain")
    name = (metric_in(figures) or UNKNOWN).name
    among = f", chosen by validation {name} among the {len(rows)} that ranked best" if len(rows) > 1 else ""
    made_on = "the search and its choices were made on it" if f"validation_{name}" in figures else "trained on as well"
    return html + fill(
        """<p>Architecture {chosen}, {parameters:,} parameters{among}.</p>
<div class="tiles"><p><b>{test}</b>test {name}<br>
<span class="soft">the test set, read once, at the end of the training</span></p>
<p><b>{validation}</b>validation {name}<br>
<span class="soft">the validation part: {made_on}</span></p></div>\n""",
        chosen=_code(record.chosen),
        parameters=result.parameters,
        among=among,
        test=_score(figures, f"test_{name}"),
        validation=_score(figures, f"validation_{name}"),
        name=name,
        made_on=made_on,
    )


def derived(run: Run) -> Markup:
    """Returns the section about the derived architecture."""
    html, best = Markup("<h2>The derived architecture</h2>\n"), run.best
    if best is None:
        return html + run.note("No architecture is derived yet", "derive")
    if best.searched_epochs < len(run.metrics):
        html += run.note("The search has gone on since this was derived", "derive")
    first, arch = best.ranked[0], best.architecture
    space = space_of(arch.space)
    parts = [replace(space, cells=(cell,)) for cell in space.cells] or [space]
    drawings = (render.svg(part, arch, best.marks) for part in parts)
    cells = Markup("").join(
        fill('<div style="--w:{w}">{svg}</div>\n', w=re.findall("width=.([0-9.]+)pt", svg)[0], svg=Markup(svg))
        for svg in drawings
    )
    name = (metric_in(first.shared_weights) or UNKNOWN).name
    keys = ["validation_reward", f"validation_{name}", "validation_loss", "minibatch_reward"]
    keys = [key for key in keys if key in first.shared_weights]
    rows = [
        (
            _plain(e.rank),
            _code(e.id),
            *(_score(e.shared_weights, key) for key in keys),
            f"{e.parameters:,}",
        )
        for e in best.ranked
    ]
    names = ("rank", "architecture", *(marked(key.replace("_", " ")) for key in keys), "parameters")
    warning = fill(
        """<h2>Ranked by shared weights</h2><p class="warning"><b>Scores with shared weights: they rank, they are not
results.</b> From scratch, each reaches another {name}.</p>\n""",
        name=name,
    )
    return html + fill(
        """<figure><figcaption>{id}: <b>{parameters:,} parameters</b> when
trained from scratch</figcaption>\n<div class="drawing">{cells}</div></figure>
<details><summary>As text</summary><pre>{text}</pre></details>
{ranked}{pareto}""",
        id=_code(first.id),
        parameters=first.parameters,
        cells=cells,
        text=render.to_text(space, arch),
        ranked=by_trainings(best) if trained_shortly(best) else warning + table(names, rows),
        pareto=_pareto(run, best.pareto) if best.pareto else "",
    )


def sure(run: Run) -> Markup:
    """Returns the section about what was chosen and how sure that is."""
    if run.best is None:
        return Markup("")
    learns = run.setting("strategy") != "random"
    missing = run.note("What the strategy prefers is not on record", "derive") if learns else Markup("")
    return section(run.best, run.compared, missing)


def _pareto(run: Run, pareto: Pareto) -> Markup:
    """Returns the front of reward against a cost, with the architectures behind its points."""
    reward = REWARDS.get(str(run.setting("task.reward")), "reward")
    factor, unit = COST_UNITS[pareto.kind]
    rows = [
        (
            fill("<details><summary>{id}</summary><pre>{drawn}</pre></details>", id=_code(point.id), drawn=_drawn(point)),
            f"{point.cost * factor:,.4g}",
            figure(point.reward, 4),
        )
        for point in pareto.points
    ]
    return fill(
        """<h2>Reward against cost</h2>
<p>Of {scored} architectures that were scored on one minibatch, {front} have a larger reward than
all that cost as much or less.</p>
<div class="one">{chart}</div>\n{points}""",
        scored=len(pareto.scored),
        front=len(pareto.points),
        chart=pareto_chart(pareto, reward),
        points=table(("architecture", unit, marked("reward")), rows),
    )


def _drawn(point: ParetoPoint) -> str:
    return render.to_text(space_of(point.space), point.architecture)


def _parts(compared: Compared) -> str:
    """Returns flags for the parts that a comparison has beside the verdict."""
    names = [*compared.references, *compared.verdict.diverged_references]
    models = [name for name in names if name in REFERENCES]
    found = [name for name in names if name not in REFERENCES]
    numbers = {study.name: len(study.changed) + study.diverged for study in compared.studies}
    single = numbers.pop(SINGLE, 0)
    flags = {"disabled": compared.disabled.configurations if compared.disabled else 0}
    flags |= {"local": max(numbers.values(), default=0), "single": single}
    return (
        (f" --references {' '.join(models)}" if models else "")
        + " --sharing" * (SHARING in found)
        + " --rivals" * any(name != SHARING for name in found)
        + "".join(f" --{name} {number}" for name, number in flags.items() if number)
    )


def repeat(run: Run) -> Markup:
    """Returns the section with everything that is needed to run this again."""
    again = shlex.quote(f"{run.path}-again")

    def changed(settings: Values) -> str:
        """Returns flags for the settings that differ from the run's own recipe."""
        recipe = {name: value for name, value in settings.items() if name.startswith("retrain.")}
        return "".join(_flag(n.replace("_", "-"), value) for n, value in recipe.items() if value != run.setting(n))

    def derived(settings: Values) -> str:
        """Returns flags for the settings of `derive` that differ from the run's own recipe."""
        known = {n: value for n, value in settings.items() if f"derive.{n}" in run.config.settings}
        other = {n: value for n, value in known.items() if value != run.setting(f"derive.{n}")}
        return "".join(_flag(n.replace("_", "-"), value) for n, value in other.items() if n != "recalibration_steps")

    commands = [f"enas search --config {shlex.quote(str(run.path / Config.FILE))} --out {again}"]
    commands += [f"enas derive {again}{derived(run.best.settings)}"] if run.best else []
    if record := run.retrained:
        folder = run.path / record.trainings[0].folder
        config = Config.find(folder) or run.config
        flags = f"--top {len(record.trainings)} --seed {config.train_seed}{changed(config.settings)}"
        commands += [f"enas retrain {again} {flags}"]
    if compared := run.compared:
        cells = len(compared.uniform) + compared.verdict.diverged
        numbers = f"--cells {cells} --seeds {len(compared.derived)} --cell-seeds {compared.cell_seeds}"
        recipe = changed(flat(compared.recipe, "retrain."))
        commands += [f"enas compare {again} {numbers}{_parts(compared)}{recipe}"]
    rows = [(name, _plain(value)) for name, value in run.config.settings.items()]
    return fill(
        """<h2>To run this again</h2>\n<pre>{commands}</pre>\n<p>With {versions}.</p>
<details><summary>All {number} settings</summary>{settings}</details>\n""",
        commands="\n".join(commands),
        versions=", ".join(f"{name} {_plain(value)}" for name, value in run.config.versions.items()),
        number=len(rows),
        settings=table(("setting", "value"), rows),
    )


# ------------------------------------------------------------------------------------------- page
SECTIONS = (
    (head, "config.json"), (verdict, "compare.json"), (ranking, "compare.json"), (retrained, "retrained.json"),
    (derived, "best.json"), (sure, "best.json"), (search, "metrics.jsonl"), (trainings, "retrain"), (repeat, "config.json"),
)  # fmt: skip


def page(run: Run) -> str:
    """Returns the whole page. Raises `Damaged` where a file of the run does not hold what it
    should."""
    html = Markup("")
    for part, file in SECTIONS:
        with blaming(run.path / file), charting():
            html += fill("<section>\n{part}</section>\n", part=part(run))
    return document(f"{run.title}: enas report", html)


def write_report(run: str | Path) -> Path:
    """Writes `run`/report.html, whole or not at all, and returns its path."""
    path = Path(run) / "report.html"
    write_atomically(path, page(read_run(Path(run))))
    return path
