"""This module makes the sections of a run's report about the experiments of paper 3.3, beside the
verdict."""

from __future__ import annotations

from itertools import chain

from markupsafe import Markup

from enas.reports.charts import study_plot
from enas.reports.html import each, fill
from enas.runs.compared import Compared, StudyResult
from enas.tasks.metrics import Metric


def disabled(compared: Compared) -> Markup:
    """Returns the section about the disabled controller, or nothing where it was not run."""
    if (found := compared.disabled) is None:
        return Markup("")
    return fill(
        """<h2>With the controller disabled</h2>
<p>As long a search whose controller never learns. Its shared weights are taken as they are, with {n} of its architectures,
on the test part (paper 3.3: 8.92 % error, the ensemble 5.49 %).</p>
<div class="tiles"><p><b>{found.mean:.2f}{unit}</b>one architecture, mean; standard deviation {found.spread:.2f}</p>
<p><b>{found.ensemble:.2f}{unit}</b>all {n}, their probabilities averaged</p></div>\n""",
        n=found.configurations,
        found=found,
        unit=compared.metric.unit.replace(" ", "\u00a0"),
    )


def local(compared: Compared) -> Markup:
    """Returns the section about the local-optimum studies, or nothing where none was run."""
    studies = [study for study in compared.studies if study.changed or study.diverged]
    if not studies:
        return Markup("")
    tests = {study.name.replace("_", " "): [entry.test for entry in study.changed] for study in studies}
    plotted = {name: list(chain.from_iterable(test)) for name, test in tests.items() if test}
    return fill(
        """<h2>Is it a local optimum?</h2>
<p>Networks that differ a little from the derived one, trained from scratch by the same recipe. Positive: worse than it.</p>
<div class="one">{plot}</div>
<div class="wide"><table><tr>{head}</tr>\n{rows}</table></div>
<details><summary>Each of them</summary><ul>{changes}</ul></details>\n""",
        plot=study_plot(studies[0].base, plotted, compared.metric) if plotted else "",
        head=each('<th scope="col">{}</th>', ("changed", "networks", "worse by", "the worst by", "paper")),
        rows=each("<tr>{}</tr>\n", (each("<td>{}</td>", _row(study, compared.metric)) for study in studies)),
        changes=each("<li>{}</li>", chain.from_iterable(map(_changes, studies))),
    )


def _row(study: StudyResult, metric: Metric) -> list[str]:
    gap, among = study.difference, f" of {study.there_are}" if study.there_are else ""
    mean = f"{metric.figure(gap.mean, '+')} ± {metric.figure(gap.half_width)} {metric.points}" if gap else "–"
    count = f"{len(study.changed)}{among}{f', {study.diverged} diverged' if study.diverged else ''}"
    worst = "–" if study.largest is None else metric.figure(study.largest, "+")
    return [study.about, count, mean, worst, study.paper]


def _changes(study: StudyResult) -> list[str]:
    return [f"{entry.change}: {', '.join(f'{x:.2f}' for x in entry.test)}" for entry in study.changed]
