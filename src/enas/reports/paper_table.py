"""This module writes the table of `enas reproduce` for the terminal and as Markdown, JSON or HTML.
It does not import torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup, escape
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enas.grading.paper import Experiment
from enas.grading.reproduce import Ours, Row, Survey, millions
from enas.reports.html import document, each, fill
from enas.runs.files import write_atomically

COLUMNS = ("experiment", "paper", "ours", "size and recipe of ours", "full size?", "command at full size")
APART = 3  # most settings that are named to tell a line from others
LEGEND = (
    "Perplexities and errors (in percent) on the test part: lower is better. Ours: mean +- standard deviation and over"
    " what. Full size: no setting of size (passes, widths, depth, data) is below the recipe `paper`, and the network has at"
    " least 95 % of the parameters that the paper states; what is not of full size is no reproduction of the paper's"
    " figure. Every figure of ours is read from a run folder."
)


def figure(ours: Ours, experiment: Experiment) -> str:
    """Returns a figure of ours as text, such as `50.04 % +- 0.19 (n = 2 seeds)`."""
    local = experiment.kind == "local"
    unit, sign = " %" if experiment.data == "cifar10" else "", "+" if local else ""
    if ours.value is None:
        return f"diverged ({ours.over})"
    spread = "" if ours.spread is None else f" +- {ours.spread:.2f}"
    text = f"{ours.value:{sign}.2f}{unit}{spread}"
    if experiment.most and ours.extreme is not None:
        return f"up to {ours.extreme:+.2f}{unit}; mean {text} ({ours.over})"
    more = "" if ours.extreme is None else f", {'worst' if local else 'best'} {ours.extreme:{sign}.2f}{unit}"
    return f"{text} ({ours.over}{more})"


def about(ours: Ours) -> str:
    """Returns parameters, preset and recipe, and the settings in which they are below the paper's
    or differ from them."""
    sizes = [", ".join(str(part) for part in ours.smaller if part.of_search == of_search) for of_search in (False, True)]
    others = len(ours.differs) - sum(part.name != "parameters" for part in ours.smaller)
    parts = [f"{millions(ours.parameters)}, {ours.preset} {ours.recipe}".removeprefix(", ")]
    parts += [sizes[0]] if sizes[0] else []
    parts += [f"search: {sizes[1]}"] if sizes[1] else []
    parts += [", ".join((*ours.apart[:APART], *(["..."] if len(ours.apart) > APART else [])))] if ours.apart else []
    parts += [f"{others} other setting{'s' * (others > 1)} not as in paper"] if others else []
    return "; ".join(parts)


def paper(experiment: Experiment) -> str:
    """Returns the paper's figure and number of parameters as text."""
    return experiment.text + (f", {experiment.parameters:g} M" if experiment.parameters else "")


def command(experiment: Experiment) -> str:
    """Returns the command of an experiment as text."""
    after = f"after that of '{experiment.after}': " if experiment.after else ""
    return after + experiment.command


def lines(row: Row) -> Iterator[tuple[str, str, str]]:
    """Yields three texts for each set of equal settings: our figure, its size and recipe, and
    whether it is of full size."""
    for ours in row.ours:
        yield figure(ours, row.experiment), about(ours), "yes" if ours.full else "no"
    if not row.ours:
        yield row.status, "", ""


def remarks(survey: Survey) -> list[str]:
    """Returns in words which folders were looked through, and what is not in the table."""
    read = f"read {survey.runs} run folder{'s' * (survey.runs != 1)}"
    return [read, *(f"skipped {text}" for text in survey.skipped)] + [f"in no row: {text}" for text in survey.unused]


# --------------------------------------------------------------------------------------- terminal
def terminal(survey: Survey) -> str:
    """Returns one table per section with numbered commands, and the lines below them."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=100)
    tables: dict[str, Table] = {}
    commands: dict[str, int] = {}
    for row in survey.rows:
        table = tables.setdefault(row.section, _table(row.section))
        e = row.experiment
        number = str(commands.setdefault(command(e), len(commands) + 1)) if e.command else ""
        for i, cells in enumerate(lines(row)):
            table.add_row(*map(Text, (e.name, paper(e), *cells, number) if i == 0 else ("", "", *cells, "")))
    with console.capture() as shown:
        for table in tables.values():
            console.print(table, "")
    below = [LEGEND, "", "to run them at full size:", *(f"{number:>3}  {text}" for text, number in commands.items()), ""]
    return "\n".join([shown.get(), *below, *remarks(survey)])


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    for name, width in zip((*COLUMNS[:4], "full size?", "run"), (23, 14, 22, 28, 5, 3), strict=True):
        fixed = width if width < 20 else None
        table.add_column(name, overflow="fold", width=fixed, ratio=None if fixed else width)
    return table


# ------------------------------------------------------------------------------------------ files
def markdown(survey: Survey) -> str:
    """Returns the table as Markdown."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    out = ["# The paper's experiments, and ours", "", LEGEND, ""]
    section = ""
    for row in survey.rows:
        if row.section != section:
            section = row.section
            out += ["", f"## {section}", "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        e = row.experiment
        for i, cells in enumerate(lines(row)):
            run = command(e).replace(e.command, f"`{e.command}`") if e.command else ""
            texts = (e.name, paper(e), *cells, run) if i == 0 else ("", "", *cells, "")
            out.append(f"| {' | '.join(map(cell, texts))} |")
    return "\n".join([*out, "", *(f"- {text}" for text in remarks(survey))]) + "\n"


def as_json(survey: Survey) -> str:
    """Returns the table as JSON."""

    def ours_of(ours: Ours) -> dict[str, object]:
        return {
            "mean": ours.value, "spread": ours.spread, "over": ours.over, "extreme": ours.extreme, "full_size": ours.full,
            "parameters": sorted(set(ours.parameters)), "preset": ours.preset, "recipe": ours.recipe,
            "below_paper": [f"{'search ' * part.of_search}{part}" for part in ours.smaller],
            "differs_from_paper": {name: list(both) for name, both in ours.differs.items()},
            "files": [str(file) for file in ours.files],
        }  # fmt: skip

    def row_of(row: Row) -> dict[str, object]:
        e = row.experiment
        kind = "perplexity" if e.data == "ptb" else "error in percent"
        claim = {"source": e.source, "figure": e.figure, "text": e.text, "millions_of_parameters": e.parameters}
        return {
            "experiment": e.name, "figure": f"increase of {kind}" if e.kind == "local" else kind, "paper": claim,
            "status": row.status, "ours": [ours_of(ours) for ours in row.ours], "after": e.after or None,
            "command": e.command or None,
        }  # fmt: skip

    whole = {"rows": [row_of(row) for row in survey.rows], "runs": survey.runs}
    return json.dumps({**whole, "skipped": survey.skipped, "unused": survey.unused}, indent=1) + "\n"


def html(survey: Survey) -> str:
    """Returns one page that needs nothing else: no script and no network."""
    body, section = Markup(""), ""
    for row in survey.rows:
        if row.section != section:
            end = Markup("</table></div>" if section else "")
            body += end + fill("<h2>{section}</h2>\n<div class='wide'><table><tr>", section=row.section)
            body += each('<th scope="col">{}</th>', COLUMNS) + Markup("</tr>\n")
            section = row.section
        e, found = row.experiment, list(lines(row))
        for i, cells in enumerate(found):
            first, last, span = Markup(""), Markup(""), len(found)
            if i == 0:
                first = fill(
                    "<th scope='row' rowspan=\"{span}\">{e.name}<br><span class='soft'>{e.source}</span></th>"
                    '<td rowspan="{span}">{paper}</td>',
                    span=span,
                    e=e,
                    paper=paper(e),
                )
                last = fill('<td rowspan="{span}">{run}</td>', span=span, run=_run(e))
            middle = each("<td>{}</td>", (text.replace("+-", "±") for text in cells))
            body += Markup("<tr>") + first + middle + last + Markup("</tr>\n")
    wide = "main{max-width:90rem}th,td{vertical-align:top}td code{white-space:normal}"
    whole = fill(
        "<h1>The paper's experiments, and ours</h1>\n<p>{legend}</p>\n"
        '{body}</table></div>\n<ul class="soft">{notes}</ul>\n',
        legend=LEGEND.replace("+-", "±"),
        body=body,
        notes=each("<li>{}</li>", remarks(survey)),
    )
    return document("enas reproduce", whole, wide)


def _run(experiment: Experiment) -> Markup:
    """Returns the command of an experiment, formatted as code."""
    if not experiment.command:
        return Markup("")
    return escape(command(experiment)).replace(escape(experiment.command), each("<code>{}</code>", [experiment.command]))


FORMS = {".md": markdown, ".json": as_json, ".html": html}


def write(survey: Survey, path: Path) -> Path:
    """Writes the table in the form that the ending of `path` names, and returns the path."""
    write_atomically(path, FORMS[path.suffix](survey))
    return path
