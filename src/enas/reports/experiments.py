"""Sections of a run's report: the experiments of paper 3.3 beside the verdict. HTML from `compare.json`."""

from __future__ import annotations

from html import escape
from itertools import chain

from enas.reports.charts import study_plot
from enas.runs.files import Record
from enas.tasks.metrics import METRICS, Metric


def disabled(compared: Record) -> str:
    """The disabled controller; nothing where it was not run."""
    found = compared.get("disabled")
    if not found:
        return ""
    unit = escape(METRICS[found["metric"]].unit.replace(" ", "\u00a0"))
    n = found["configurations"]
    return f"""<h2>With the controller disabled</h2>
<p>As long a search whose controller never learns. Its shared weights are taken as they are, with {n} of its architectures,
on the test part (paper 3.3: 8.92 % error, the ensemble 5.49 %).</p>
<div class="tiles"><p><b>{found["mean"]:.2f}{unit}</b>one architecture, mean; spread {found["spread"]:.2f}</p>
<p><b>{found["ensemble"]:.2f}{unit}</b>all {n}, their probabilities averaged</p></div>\n"""


def local(compared: Record) -> str:
    """The local-optimum studies; nothing where none was run."""
    found = compared.get("local")
    rows = [study for study in (found or {}).get("studies", ()) if study["changed"] or study["diverged"]]
    if not found or not rows:
        return ""
    metric = METRICS[found["metric"]]
    plotted = {
        s["name"].replace("_", " "): list(chain.from_iterable(c["test"] for c in s["changed"]))
        for s in rows
        if s["changed"]
    }
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _row(study, metric))}</tr>\n" for study in rows)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("changed", "networks", "worse by", "the worst by", "paper"))
    return f"""<h2>Is it a local optimum?</h2>
<p>Networks that differ a little from the derived one, trained alone by the same recipe. Positive: worse than it.</p>
<div class="one">{study_plot(rows[0]["base"], plotted, metric) if plotted else ""}</div>
<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>
<details><summary>Each of them</summary><ul>{"".join(map(_each, rows))}</ul></details>\n"""


def _row(study: Record, metric: Metric) -> list[str]:
    gap, among = study["difference"], f" of {study['there_are']}" if study["there_are"] else ""
    mean = f"{gap['mean']:+.2f} ± {gap['half_width']:.2f} {metric.points}" if gap else "–"
    lost = f", {study['diverged']} diverged" if study.get("diverged") else ""
    count = f"{len(study['changed'])}{among}{lost}"
    worst = f"{study['largest']:+.2f}" if study["changed"] else "–"
    return [escape(study["about"]), count, mean, worst, escape(study["paper"])]


def _each(study: Record) -> str:
    return "".join(
        f"<li>{escape(entry['change'])}: {', '.join(f'{x:.2f}' for x in entry['test'])}</li>" for entry in study["changed"]
    )
