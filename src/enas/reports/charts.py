"""This module draws the charts of a run's report: SVG that holds everything itself, and is as wide
as a phone."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from enas.reports.drawing import boxes
from enas.reports.drawing.text import cell_title, op_title
from enas.reports.html import fill
from enas.runs.results import Pareto
from enas.spaces.costs import COST_UNITS
from enas.state import Values
from enas.tasks.metrics import Metric, figure

BLUE, BROWN, GREY, FAINT = boxes.COLOURS["conv"][1], boxes.COLOURS["pool"][1], "#737c87", "#b9c0c8"
SHARED = Markup('<span class="shared">shared weights</span>')  # a mark beside such figures


def marked(title: str) -> Markup:
    """Returns a title with the mark for figures of shared weights."""
    return fill("{title} {mark}", title=title, mark=SHARED)


@contextmanager
def charting() -> Iterator[None]:
    """Makes charts independent of a user's settings inside the `with` block. Text stays text, and
    equal figures give equal SVG."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "enas", "text.parse_math": False})
        matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY})
        matplotlib.rcParams.update({"axes.grid": True, "grid.color": "#e9ecef", "axes.axisbelow": True, "font.size": 9.5})
        matplotlib.rcParams.update({"legend.frameon": False, "legend.fontsize": 8.5})
        yield


def _axes(ylabel: str, epochs: float = 0, warm_up: int = 0, size: tuple[float, float] = (4.4, 2.7)) -> tuple[Figure, Axes]:
    """Returns axes over epochs, with the warm-up shaded. They are narrow, so that a phone shows the
    labels."""
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.add_subplot(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=epochs > 0))
    axes.tick_params(color=GREY, labelcolor=boxes.INK)
    if epochs:
        axes.set_xlim(0.5, epochs + 0.5)
    if end := min(epochs, warm_up):
        axes.axvspan(0.5, end + 0.5, color="#f0f1f3", linewidth=0, zorder=0)
        axes.axvline(end + 0.5, color=boxes.INK, linewidth=0.8, linestyle=":")
        axes.text(end / 2 + 0.5, 1.01, "warm-up", transform=axes.get_xaxis_transform(), ha="center", color=GREY, size=8.5)
    return fig, axes


def _figure(name: str, fig: Figure, title: str, about: str, alt: str) -> Markup:
    """Returns the HTML of a figure. `name` makes the ids of several figures different."""
    file = io.StringIO()
    fig.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    attributes, _, body = file.getvalue().partition("<svg")[2].partition(">")
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    # a precision of a tenth of a point is enough
    body = re.sub(r' d="[^"]*"', lambda m: re.sub(r"(\.\d)\d+", r"\1", m[0]), body)
    [box] = re.findall(r'viewBox="[^"]*"', attributes)
    return fill(
        "<figure>\n<figcaption><b>{title}</b> {about}</figcaption>\n"
        '<svg role="img" aria-label="{alt}" {box}>{body}</figure>\n',
        title=title,
        about=about,
        alt=alt,
        box=Markup(box),
        body=Markup(body),  # matplotlib has escaped what it holds
    )


Line = tuple[Sequence[tuple[float, float]], str, str]  # points, colour, label


def series(records: Sequence[Values], key: str, scale: float = 1.0) -> list[tuple[float, float]]:
    """Returns (epoch, value) for each record that has the value."""
    return [(float(record["epoch"]), scale * float(record[key])) for record in records if key in record]


def line_chart(
    name: str, title: str, about: str, ylabel: str, lines: Sequence[Line], warm_up: int = 0, logarithmic: bool = False
) -> Markup:
    """Returns a chart of numbers over epochs, with the last line on top."""
    fig, axes = _axes(ylabel, max((x for points, *_ in lines for x, _ in points), default=1), warm_up)
    says = [f"{title.striptags() if isinstance(title, Markup) else title} over the epochs, {ylabel}"]
    for points, colour, label in lines:
        xs, ys = np.reshape(points, (-1, 2)).T
        axes.plot(xs, ys, color=colour, label=label, linewidth=1.6, marker="o" if len(xs) == 1 else None)
        says += [f"{label} from {figure(points[0][1], 3)} to {figure(points[-1][1], 3)}"] if points and label else []
    if len(says) > 2:
        axes.legend()
    if logarithmic:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")  # the default writes TeX
        axes.yaxis.set_minor_formatter(NullFormatter())
    return _figure(name, fig, title, about, "; ".join(says))


def op_chart(name: str, metrics: Sequence[Values], cell: str, warm_up: int) -> Markup:
    """Returns a chart of the shares of a cell's ops, in the colours of drawings. A second op of a
    kind is lighter."""
    found = {op for record in metrics for where, _, op in (key.partition(".") for key in record["ops"]) if where == cell}
    kind = {op: boxes.op_kind(op) for op in found - {"skip"}}
    ops, colours = sorted(kind, key=lambda op: (kind[op], op)), []
    for i, op in enumerate(ops):
        strength = 0.55 ** sum(kind[other] == kind[op] for other in ops[:i])
        red, green, blue = (1 - strength * (1 - part) for part in to_rgb(boxes.COLOURS[kind[op]][1]))
        colours.append((red, green, blue))
    counts = np.array([[float(record["ops"].get(f"{cell}.{op}", 0)) for record in metrics] for op in ops])
    shares = counts / np.maximum(counts.sum(axis=0), 1e-12)
    epochs = [float(record["epoch"]) for record in metrics]
    edges = [epochs[0] - 0.5, *epochs, epochs[-1] + 0.5]  # so that a single epoch shows too
    fig, axes = _axes("share of sampled ops", epochs[-1], warm_up, (4.4, 3.0))
    areas = axes.stackplot(edges, np.pad(shares, ((0, 0), (1, 1)), "edge"), colors=colours, edgecolor="white", lw=0.8)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    labels = [op_title(op) for op in ops]
    fig.legend(areas, labels, loc="outside lower center", ncols=3)
    last = ", ".join(f"{label} {share:.0%}" for label, share in zip(labels, shares[:, -1], strict=True))
    title, about = f"Ops of the {cell_title(cell)}", "as sampled while the shared weights were trained."
    return _figure(name, fig, marked(title), about, f"{title}, shares in the last epoch: {last}")


def strip_plot(
    derived: Sequence[float], cells: Sequence[Sequence[float]], references: Mapping[str, Sequence[float]], metric: Metric
) -> Markup:
    """Returns a chart of test figures. There is a dot for each seed of the derived architecture or
    of a reference, and a dot for each random architecture, at its mean over seeds."""
    rows = [
        (f"derived,\n{len(derived)} seeds", derived, BLUE),
        (f"random,\n{len(cells)} drawn", list(map(mean, cells)), GREY),
    ]
    rows += [(f"{name},\n{len(scores)} seeds", scores, BROWN) for name, scores in references.items()]
    about = "A dot is a seed of the derived architecture, or a random one; all trained from scratch, alike. Bars are means."
    title, measure = f"Test {metric.name}", f" in {metric.unit.strip()}" if metric.unit else ""
    fig, says = _strips(rows, metric, (3.7, 1.6 + 0.5 * len(references)))
    return _figure("strip", fig, f"{title}.", about, f"{title}{measure}; {says}")


def study_plot(base: Sequence[float], studies: Mapping[str, Sequence[float]], metric: Metric) -> Markup:
    """Returns a chart of the test figures of the derived architecture, one per seed, and of changed
    ones."""
    rows = [("unchanged", base, BLUE), *((textwrap.fill(name, 22), values, GREY) for name, values in studies.items())]
    about = (
        "A dot is a seed of the derived architecture, or a changed one; all trained from scratch, alike. Bars are means."
    )
    fig, says = _strips(rows, metric, (4.4, 1.2 + 0.62 * len(studies)))
    fig.axes[0].axvline(mean(base), color=BLUE, linewidth=0.8, linestyle=":", zorder=0)
    return _figure("studies", fig, f"Changed a little, test {metric.name}.", about, says)


def _strips(
    rows: Sequence[tuple[str, Sequence[float], str]], metric: Metric, size: tuple[float, float]
) -> tuple[Figure, str]:
    """Returns rows of dots (label, figures, colour) with bars at their means, and the figures in
    words."""
    fig, axes = _axes("", size=size)
    for y, (_, values, colour) in enumerate(rows):
        # neighbours stand at different heights, since they may be equal
        for i, x in enumerate(sorted(values)):
            axes.plot(x, y + (0, 0.17, -0.17)[i % 3], "o", color=colour, markersize=5.5, markeredgecolor="white")
        axes.plot([mean(values)] * 2, [y - 0.36, y + 0.36], color=colour, linewidth=2.2, zorder=1)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    unit = metric.unit.strip() or (metric.points if metric.larger_is_better else "lower is better")
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"test {metric.name}, {unit}")
    axes.grid(visible=False, axis="y")
    axes.ticklabel_format(axis="x", useOffset=False)
    named = ((" ".join(label.partition(",")[0].split()), values) for label, values, _ in rows)
    return fig, "; ".join(f"{name}: {', '.join(map(figure, values))}" for name, values in named)


def pareto_chart(pareto: Pareto, reward: str) -> Markup:
    """Returns a chart of reward against cost: a dot for each architecture that was scored, and the
    front."""
    factor, unit = COST_UNITS[pareto.kind]
    fig, axes = _axes(reward)
    axes.set_xlabel(unit)
    rewards, costs = np.array(pareto.scored).reshape(-1, 2).T
    axes.plot(costs * factor, rewards, "o", color=FAINT, markersize=3.5, label="scored")
    xs, ys = [point.cost * factor for point in pareto.points], [point.reward for point in pareto.points]
    axes.plot(xs, ys, "o", color=BLUE, markersize=5, label="none is better and as cheap")
    right = [*xs, max(costs) * factor]  # beyond the last point, nothing better costs more
    axes.plot(right, [*ys, ys[-1]], color=BLUE, drawstyle="steps-post", linewidth=1.2, zorder=1)
    fig.legend(loc="outside upper left", ncols=2)
    says = "; ".join(
        f"{point.id}: {unit} {x:.4g}, reward {figure(y, 4)}" for point, x, y in zip(pareto.points, xs, ys, strict=True)
    )
    about = "on one minibatch: a dot per architecture."
    title, alt = marked(f"Reward against {unit}"), f"Pareto front of reward against {unit}; {says}"
    return _figure("pareto", fig, title, about, alt)


def regret_chart(regrets: Mapping[str, np.ndarray], out: Path) -> Path:
    """Writes a chart of the regret of strategies, (S, Q), and returns its path. It shows the mean
    over seeds with its 95 % interval (Student's t)."""
    from scipy.stats import t  # slow to import, and rarely needed

    colours = dict(zip(regrets, (BLUE, BROWN, GREY), strict=False))
    with charting():
        fig = Figure(figsize=(6.2, 3.8), layout="constrained")
        axes = fig.subplots()
        for name, values in regrets.items():
            queries = np.arange(1, values.shape[1] + 1)
            middle, error = values.mean(0), t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
            axes.plot(queries, middle, color=colours.get(name, FAINT), label=name)
            low, high = np.maximum(middle - error, 1e-3), middle + error
            axes.fill_between(queries, low, high, color=colours.get(name, FAINT), alpha=0.18, linewidth=0)
        axes.set(xscale="log", yscale="log", xlabel="queries", ylabel="regret, points (best of all minus best so far)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend()
        fig.savefig(out, metadata={"Date": None})
    return out
