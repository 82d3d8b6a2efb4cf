"""This module makes the section of a report about short trainings: their rewards, and which judge
was right."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from enas.reports.charts import marked
from enas.reports.html import fill, table
from enas.runs.results import Best, Judgement
from enas.tasks.metrics import figure

JUDGES = {
    "parameters": "the number of parameters",
    "macs": "multiply-accumulates",
    "zico": "gradients of the untrained network (ZiCo)",
    "expressivity": "maps of the untrained network (expressivity)",
    "progressivity": "growth of what maps hold, from block to block (progressivity)",
    "shared": "shared weights",
    "prediction": "the regression, before each training was made",
}
TRUSTED = 0.3  # Kendall's tau below which a judge tells only a little
COLUMNS = {  # of the ranking, where it has them
    "final_reward": "reward after the final training",
    "short_reward": "reward after a short training",
    "alone_reward": "reward after a short training",
    "alone_round": "rounds of training",
    "minibatch_reward": marked("minibatch reward"),
}


def trained_shortly(best: Best) -> bool:
    """Returns whether short trainings ranked the architectures, and not shared weights alone."""
    return best.ranked_by in ("short", "alone")


def by_trainings(best: Best) -> Markup:
    """Returns the ranking by short trainings, and how well each judge ranked them."""
    judged = best.judged
    keys = [key for key in COLUMNS if key != "minibatch_reward" or judged is None]
    keys = [key for key in keys if any(key in entry.shared_weights for entry in best.ranked)]
    rows = [
        (
            f"{entry.rank}",
            fill("<code>{id}</code>", id=entry.id),
            *(_figure(entry.shared_weights, key) for key in keys),
            f"{entry.parameters:,}",
        )
        for entry in best.ranked
    ]
    html = fill(
        """<h2>Ranked by trainings from scratch</h2>
<p>{how} These figures rank, they are not results.</p>\n{ranking}""",
        how=_how(judged),
        ranking=table(("rank", "architecture", *(COLUMNS[key] for key in keys), "parameters"), rows),
    )
    if judged is None or not judged.taus:  # no judges were asked, or too few trainings rank
        return html
    order = sorted(judged.taus, key=lambda name: -judged.taus[name].value)
    taus = [(JUDGES.get(name, name), str(judged.taus[name]), _says(judged, name)) for name in order]
    return html + fill(
        """<h2>Which judge was right</h2>
<p>How well each ranked the trainings (Kendall's tau, 95 % interval): 1 is the same order, 0 is chance.</p>
{judges}""",
        judges=table(("judge", "tau", "on this run"), taus),
    )


def _how(judged: Judgement | None) -> str:
    """Returns a sentence that says how the short trainings were chosen."""
    if judged is None:
        return (
            "The better half of the finalists went on to train, again and again, and those that trained longest come first."
        )
    minutes = judged.seconds / 60
    took = f"took {minutes:.1f} minutes of processor time"
    return (
        f"{judged.trainings} short trainings taught what is good; with finals and all scores that {took}. A final training"
        " has the last word. Without one, a place is the mean of two: by the short training, and by the regression that all"
        " of them taught."
    )


def _figure(scores: Mapping[str, float], key: str) -> str:
    """Returns a score of an architecture, or a dash where it has none."""
    if key not in scores:
        return "–"
    return f"{scores[key]:.0f}" if key == "alone_round" else figure(scores[key], 4)


def _says(judged: Judgement, name: str) -> str:
    """Returns in words how far a reader may trust a judge."""
    tau = judged.taus[name]
    if tau.low > 0:
        return "ranks better than chance" if tau.value >= TRUSTED else "tells a little"
    if tau.high < 0:
        return "ranks the wrong way round: do not trust it here"
    return "deserves no trust: not told apart from chance"
