"""This module makes the sections of a report that show what went on epoch by epoch: the search, and
trainings from scratch."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from enas.reports.charts import BLUE, BROWN, FAINT, GREY, Line, line_chart, marked, op_chart, series
from enas.reports.html import each, fill
from enas.reports.run import REWARDS, UNKNOWN, Run
from enas.runs.files import blaming
from enas.runs.records import Config, epochs
from enas.runs.results import Result
from enas.state import Values
from enas.tasks.metrics import metric_in


def search(run: Run) -> Markup:
    """Returns the section about the search."""
    metrics, warm_up = run.metrics, run.number("search.warmup_epochs")
    html = Markup("<h2>The search, epoch by epoch</h2>\n")
    if not metrics:
        return html + run.note("No epoch is finished yet", "resume")
    lines: list[Line] = [(series(metrics, "shared_loss"), BLUE, "mean")]
    about = "of sampled children on training batches."
    charts = line_chart("loss", marked("Training loss"), about, run.loss, lines, warm_up)
    charts += _gradients(metrics, warm_up)
    if any("reward" in record for record in metrics):
        looks = (("reward_best", BROWN, "best of a step"), ("baseline", GREY, "baseline, with entropy bonus"))
        lines = [(series(metrics, key), colour, label) for key, colour, label in (*looks, ("reward", BLUE, "mean"))]
        about, scale = "of sampled architectures on validation batches.", run.setting("task.reward_scale")
        unit = REWARDS.get(str(run.setting("task.reward")), "reward") if scale is None else f"{scale:g} / perplexity"
        charts += line_chart("reward", marked("Reward"), about, unit, lines, warm_up)
        about, lines = "tells how undecided the controller is.", [(series(metrics, "entropy"), BLUE, "mean")]
        charts += line_chart("entropy", "Policy entropy", about, "nats", lines, warm_up)
        charts += _learning(metrics, warm_up)
    elif run.setting("strategy") == "random":
        html += Markup("<p>Architectures were drawn at random: there is no policy that learns from rewards.</p>\n")
    else:
        html += Markup("<p>All of these epochs are warm-up: children are drawn at random, the controller rests.</p>\n")
    names = (name.partition(".") for record in metrics for name in record["ops"])
    cells = dict.fromkeys(cell for cell, _, op in names if op != "skip")
    charts += Markup("").join(op_chart(f"ops{i}", metrics, name, warm_up) for i, name in enumerate(cells))
    if wrong := metrics[-1].get("alarms"):
        html += each('<p class="warning"><b>Alarm:</b> {}.</p>\n', wrong)
    return html + fill('<div class="grid">{charts}</div>\n', charts=charts)


def _gradients(metrics: Sequence[Values], warm_up: int) -> Markup:
    """Returns a chart of the norms of the shared weights' gradients, which also says how many steps
    were skipped. Returns nothing where there are none."""
    looks = (("largest", FAINT, "largest"), ("p99", BROWN, "99 %"), ("median", BLUE, "median"))
    lines: list[Line] = [(series(metrics, f"gradient_norm_{key}"), colour, label) for key, colour, label in looks]
    if not any(points for points, *_ in lines):
        return Markup("")
    clipped = [record["clipped_share"] for record in metrics if "clipped_share" in record]
    skipped = sum(int(record.get("skipped_steps", 0)) for record in metrics)
    about = "of shared weights, before clipping"
    about += f"; {sum(clipped) / len(clipped):.0%} of the steps were clipped" if clipped else ""
    about += f"; {skipped} steps were skipped." if skipped else "; no step was skipped."
    return line_chart("gradients", marked("Gradient norm"), about, "norm", lines, warm_up, logarithmic=True)


def _learning(metrics: Sequence[Values], warm_up: int) -> Markup:
    """Returns a chart of the policy's samples against random ones, or nothing where there was no
    probe."""
    gap, half = "policy_minus_uniform", "policy_minus_uniform_half_width"
    probed = [{**m, "low": m[gap] - m[half], "high": m[gap] + m[half]} for m in metrics if gap in m]
    if not probed:
        return Markup("")
    lines: list[Line] = [(series(probed, "low"), FAINT, ""), (series(probed, "high"), FAINT, "95 % interval")]
    lines.append((series(probed, gap), BLUE, "policy minus random"))
    about = (
        "of the policy's samples minus that of random ones, on the same batches: above 0 the policy has learned something."
    )
    return line_chart("learning", marked("Reward"), about, "difference", lines, warm_up)


def trainings(run: Run) -> Markup:
    """Returns the section about trainings from scratch, or nothing where there are none."""
    first = run.best.ranked[0].id if run.best else "none"
    names = ("config.json", "metrics.jsonl")
    folders = sorted({file.parent for name in names for file in run.path.glob(f"retrain/*/{name}")})
    for folder in folders:
        Config.read(folder)  # raises an error where config.json is missing
    losses: list[Line] = []
    figures: list[Line] = []
    metric = UNKNOWN
    # the lines of the derived architecture are on top
    for folder in sorted(folders, key=lambda folder: folder.name.startswith(first)):
        records, colour = epochs(folder), BLUE if folder.name.startswith(first) else FAINT
        with blaming(folder / "metrics.jsonl"):
            metric = (metric_in(records[-1]) if records else None) or metric
            losses.append((series(records, "train_loss"), colour, ""))
            figures.append((series(records, f"validation_{metric.name}", metric.scale), colour, ""))
    if not folders:
        return Markup("")
    about = "of architectures trained from scratch: the derived one blue, others grey."
    charts = line_chart("alone", "Training loss", about, run.loss, losses)
    if any(points for points, *_ in figures):
        unit = metric.unit.strip() or metric.name
        charts += line_chart("metric", f"Validation {metric.name}", about, unit, figures)
    done = sum((folder / Result.FILE).exists() for folder in folders)
    return fill(
        """<h2>Trainings from scratch, epoch by epoch</h2>\n<p>{done} of {all} trainings are finished.</p>
<div class="grid">{charts}</div>\n""",
        done=done,
        all=len(folders),
        charts=charts,
    )
