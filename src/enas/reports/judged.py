"""This module makes the section of a report about short trainings: their rewards, and which judge
was right."""

from __future__ import annotations

from markupsafe import Markup

from enas.reports.html import fill, table
from enas.runs.results import Best, Judgement

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


def by_trainings(best: Best, judged: Judgement) -> Markup:
    """Returns the ranking by short trainings, and how well each judge ranked them."""
    keys = [key for key in ("final_reward", "short_reward") if any(key in e.shared_weights for e in best.ranked)]
    rows = []
    for entry in best.ranked:
        scores = (f"{entry.shared_weights[key]:.4f}" if key in entry.shared_weights else "–" for key in keys)
        rows.append((f"{entry.rank}", fill("<code>{id}</code>", id=entry.id), *scores, f"{entry.parameters:,}"))
    names = {"final_reward": "reward after the final training", "short_reward": "reward after a short training"}
    ranking = table(("rank", "architecture", *(names[key] for key in keys), "parameters"), rows)
    order = sorted(judged.taus, key=lambda name: -judged.taus[name].value)
    taus = [(JUDGES.get(name, name), str(judged.taus[name]), _says(judged, name)) for name in order]
    trained = fill(
        """<h2>Ranked by trainings from scratch</h2>
<p>{trainings} short trainings taught what is good; they took {minutes:.1f} minutes of processor time.
These figures rank, they are not results.</p>\n{ranking}""",
        trainings=judged.trainings,
        minutes=judged.seconds / 60,
        ranking=ranking,
    )
    if not taus:  # too few trainings to rank, or no judge that tells them apart
        return trained
    return trained + fill(
        """<h2>Which judge was right</h2>
<p>How well each ranked the trainings (Kendall's tau, 95 % interval): 1 is the same order, 0 is chance.</p>
{judges}""",
        judges=table(("judge", "tau", "on this run"), taus),
    )


def _says(judged: Judgement, name: str) -> str:
    """Returns in words how far a reader may trust a judge."""
    tau = judged.taus[name]
    if tau.low > 0:
        return "ranks better than chance" if tau.value >= TRUSTED else "tells a little"
    if tau.high < 0:
        return "ranks the wrong way round: do not trust it here"
    return "deserves no trust: not told apart from chance"
