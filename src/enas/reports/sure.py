"""This module makes the section "what was chosen, how sure" of a report: for each decision, the
answer of the derived architecture and the evidence for it in the records of the run.

The evidence is how often the policy gives this answer at the end of the search, with random draws
beside it, and how many of the other ranked architectures give it. Where random architectures were
trained from scratch, it is also the difference that the answer makes among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from enas.procedures.statistics import Interval, difference
from enas.reports.drawing.text import chosen
from enas.reports.html import fill, table
from enas.runs.compared import Compared
from enas.runs.results import Best
from enas.spaces.architecture import Answer, Architecture
from enas.spaces.decisions import Decision
from enas.spaces.registry import space_of

MOST_ROWS = 24  # with more decisions, their kinds are shown first
Shares = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Row:
    """A `Row` holds the evidence for one answer. None stands for what is not known."""

    name: str
    answer: str
    policy: float | None
    chance: float | None
    agree: int
    others: int  # number of other ranked architectures that are asked this
    effect: Interval | None

    @property
    def kind(self) -> str:
        """Returns the name of the decision with `*` in place of its numbers."""
        return re.sub(r"\d+", "*", self.name)


def rows_of(best: Best, compared: Compared | None) -> list[Row]:
    """Returns a row per decision of the derived architecture, in order."""
    arch = best.architecture
    space = space_of(arch.space)
    others = [entry.architecture for entry in best.ranked[1:]]
    trained: list[tuple[Architecture, float]] = []
    if compared is not None:
        trained = [
            (random, fmean(compared.uniform[random.id]))
            for random in map(Architecture.from_dict, compared.uniform_architectures)
            if random.id in compared.uniform
        ]
    rows = []
    for name, text in chosen(space, arch):
        decision, answer = space.decision(name), arch.choices[name]
        asked = [other for other in others if name in other.choices]
        shares = (best.policy.shares, best.policy.random) if best.policy else ({}, {})
        policy, chance = (_share(decision, answer, some) for some in shares)
        agree = sum(other.choices[name] == answer for other in asked)
        rows.append(Row(name, text, policy, chance, agree, len(asked), _effect(name, answer, trained)))
    return rows


def _share(decision: Decision, answer: Answer, shares: Shares) -> float | None:
    """Returns the share of draws that give this answer. For a subset, it is the mean over its
    options of the share of draws that take, or leave out, the option as the answer does."""
    if decision.name not in shares:
        return None
    of = shares[decision.name]
    if isinstance(answer, str):
        return of[answer]
    return fmean(of[o] if decision.contains(answer, o) else 1 - of[o] for o in decision.options)


def _effect(name: str, answer: Answer, trained: Sequence[tuple[Architecture, float]]) -> Interval | None:
    """Returns the mean test figure of the architectures that give this answer, minus that of the
    others that are asked. Returns None for fewer than two of either."""
    given, not_given = (
        [figure for arch, figure in trained if name in arch.choices and (arch.choices[name] == answer) == same]
        for same in (True, False)
    )
    return difference(given, not_given) if min(len(given), len(not_given)) >= 2 else None


# ------------------------------------------------------------------------------------------- HTML
def section(best: Best, compared: Compared | None, missing: Markup) -> Markup:
    """Returns the section. `missing` is what it says where the policy is not on record."""
    rows = rows_of(best, compared)
    html = Markup("<h2>What was chosen, how sure</h2>\n")
    if best.policy is None:
        html += missing
    else:
        pairs = [(row.policy, row.chance or 0.0) for row in rows if row.policy is not None]
        policy, chance = (fmean(values) for values in zip(*pairs, strict=True))
        html += fill(
            "<p>The strategy gives the answers of the derived architecture in <b>{policy:.0%}</b> of its draws at the"
            " end of the search, on average over {number} decisions; random draws give them in {chance:.0%}.</p>\n",
            policy=policy,
            number=len(pairs),
            chance=chance,
        )
    effects = [row.effect for row in rows if row.effect is not None]
    unit = compared.metric.points if compared is not None else ""
    names = ["decision", "chosen", *(["share of the strategy's draws", "of random draws"] if best.policy else [])]
    names += ["of the other ranked ones, agree", *([f"effect from scratch, {unit}"] if effects else [])]
    whole = table(names, [_cells(row, best.policy is not None, compared if effects else None) for row in rows])
    if len(rows) > MOST_ROWS:
        html += _kinds(rows, best.policy is not None)
        whole = fill("<details><summary>All {number} decisions</summary>{whole}</details>\n", number=len(rows), whole=whole)
    html += whole
    if effects and compared is not None:
        clear = sum(effect.excludes_zero for effect in effects)
        html += fill(
            """<p class="soft">Effect: the mean test figure of those of the {random} random
architectures that give this answer minus that of those which do not, with its 95 % interval (Welch){sign}; bold where
it excludes zero. It does for {clear} of {effects}; by chance alone, one in twenty would.</p>\n""",
            random=len(compared.uniform),
            sign="" if compared.metric.larger_is_better else ", where less than zero is better",
            clear=clear,
            effects=len(effects),
        )
    return html


def _cells(row: Row, policy: bool, compared: Compared | None) -> list[str]:
    cells = [row.name, _bold(row.answer)]
    cells += [_bar(row.policy), _percent(row.chance)] if policy else []
    cells += [f"{row.agree} of {row.others}" if row.others else "–"]
    if compared is not None:
        shown, effect = compared.metric.figure, row.effect
        text = "–" if effect is None else f"{shown(effect.mean, '+')} ± {shown(effect.half_width)}"
        cells += [_bold(text) if row.effect is not None and row.effect.excludes_zero else text]
    return cells


def _bold(text: str) -> Markup:
    return fill("<b>{text}</b>", text=text)


def _kinds(rows: Sequence[Row], policy: bool) -> Markup:
    """Returns a table of means over decisions whose names differ only in numbers."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    cells = []
    for kind, some in kinds.items():
        policies = [row.policy for row in some if row.policy is not None]
        chances = [row.chance for row in some if row.chance is not None]
        agree = [row.agree / row.others for row in some if row.others]
        shown = [_bar(_mean(policies)), _percent(_mean(chances))] if policy else []
        cells.append([kind, str(len(some)), *shown, _percent(_mean(agree))])
    names = ["kind of decision", "number", *(["share of the strategy's draws", "of random draws"] if policy else [])]
    return table([*names, "of the other ranked ones, agree"], cells)


def _mean(shares: Sequence[float]) -> float | None:
    return fmean(shares) if shares else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _bar(share: float | None) -> str:
    """Returns a share as a bar and in words."""
    if share is None:
        return "–"
    return fill('<span class="bar" style="--share:{share:.0%}"></span> {share:.0%}', share=share)
