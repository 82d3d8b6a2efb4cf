"""This package implements efficient neural architecture search with shared weights (ENAS, Pham et
al. 2018), and grades its own search.

Each public name is imported only when it is first asked for, and torch only by the names that need
it. `from enas import api` gives this module.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enas.grading.compare import compare
    from enas.networks.choices import OneOf, Repeat, SomeOf
    from enas.reports.derive import derive
    from enas.reports.page import write_report as report
    from enas.reports.result import Run, search
    from enas.runs.architectures import architecture_of, best_of
    from enas.runs.cost import cost
    from enas.runs.export import export
    from enas.runs.models import marks_of, reference_for, sizes
    from enas.runs.plan import Plan
    from enas.runs.planning import make_plan
    from enas.runs.resume import resume
    from enas.runs.retrain import retrain, retrain_best
    from enas.spaces.architecture import Architecture
    from enas.tasks import rewards
    from enas.tasks.problem import Problem

__version__ = "0.1.0.dev0"
__all__ = [
    "Architecture",
    "OneOf",
    "Plan",
    "Problem",
    "Repeat",
    "Run",
    "SomeOf",
    "architecture_of",
    "best_of",
    "compare",
    "cost",
    "derive",
    "export",
    "make_plan",
    "marks_of",
    "reference_for",
    "report",
    "resume",
    "retrain",
    "retrain_best",
    "rewards",
    "search",
    "sizes",
]

PUBLIC = {
    "OneOf": "enas.networks.choices:OneOf",
    "SomeOf": "enas.networks.choices:SomeOf",
    "Repeat": "enas.networks.choices:Repeat",
    "Problem": "enas.tasks.problem:Problem",
    "rewards": "enas.tasks.rewards:",
    "Run": "enas.reports.result:Run",
    "Architecture": "enas.spaces.architecture:Architecture",
    "search": "enas.reports.result:search",
    "resume": "enas.runs.resume:resume",
    "derive": "enas.reports.derive:derive",
    "retrain": "enas.runs.retrain:retrain",
    "retrain_best": "enas.runs.retrain:retrain_best",
    "compare": "enas.grading.compare:compare",
    "export": "enas.runs.export:export",
    "report": "enas.reports.page:write_report",
    "cost": "enas.runs.cost:cost",
    "architecture_of": "enas.runs.architectures:architecture_of",
    "best_of": "enas.runs.architectures:best_of",
    "marks_of": "enas.runs.models:marks_of",
    "reference_for": "enas.runs.models:reference_for",
    "sizes": "enas.runs.models:sizes",
    "Plan": "enas.runs.plan:Plan",
    "make_plan": "enas.runs.planning:make_plan",
}


def __getattr__(name: str) -> Any:
    if name == "api":
        return sys.modules[__name__]
    if name not in PUBLIC:
        raise AttributeError(f"module 'enas' has no attribute '{name}'")
    module, _, attribute = PUBLIC[name].partition(":")
    thing = import_module(module)
    return getattr(thing, attribute) if attribute else thing


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC, "api"})
