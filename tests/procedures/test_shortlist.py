"""A judge that says the same of all architectures picks none of them."""

from __future__ import annotations

import pytest

from enas.procedures.derive import shortlisted
from enas.procedures.settings import DeriveSettings, Judge
from enas.spaces.architecture import Architecture
from enas.spaces.decisions import OpChoice
from enas.spaces.space import SearchSpace

ARCHS = list(SearchSpace("toy", (OpChoice(("a", "b", "c", "d"), name="first"),)).enumerate())
ORDER = {arch: float(i) for i, arch in enumerate(ARCHS)}


def picked(*by: Judge, **judges: dict[Architecture, float]) -> list[str]:
    settings = DeriveSettings(shortlist=1, shortlist_by=by)
    walk = shortlisted(ARCHS, settings, {name: said.__getitem__ for name, said in judges.items()})
    while True:
        try:
            next(walk)
        except StopIteration as end:
            return [str(arch.choices["first"]) for arch in end.value]


def test_a_judge_that_tells_nothing_is_refused_with_those_that_tell_something() -> None:
    same = dict.fromkeys(ARCHS, -10.0)
    assert picked("macs", "zico", macs=ORDER, zico=ORDER) == ["d"]
    with pytest.raises(ValueError, match=r"judge progressivity says the same of all 4 .*; parameters and macs can tell"):
        picked("progressivity", progressivity=same, parameters=ORDER, macs=ORDER)
    with pytest.raises(ValueError, match=r"judge zico says the same of all 2 .*; macs can tell them apart"):
        picked("macs", "zico", macs=ORDER, zico=same, parameters=same)
    with pytest.raises(ValueError, match="neither parameters nor macs can tell them apart: change --shortlist-by"):
        picked("zico", zico=same, parameters=same, macs=same)
