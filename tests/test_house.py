"""The laws of the house: a room imports only rooms above it, a room has no import cycle, and what
is made of values needs no torch."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import enas

SOURCE = Path(enas.__file__).parent
ROOMS = [
    "blame",
    "reading",
    "ranges",
    "plugins",
    "state",
    "spaces",
    "data",
    "networks",
    "strategies",
    "tasks",
    "procedures",
    "runs",
    "grading",
    "reports",
    "cli",
]
FACE = {"enas.__init__", "enas.__main__"}  # may name everything
FILES = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}
MODULES = sorted(set(FILES) - FACE)
TORCH_FREE = (
    *(
        "blame",
        "reading",
        "ranges",
        "plugins",
        "spaces",
        "reports",
        "data.download",
        "data.unpickle",
        "data.folder",
        "data.pictures",
        "networks.width",
        "tasks.metrics",
    ),
    *(
        "procedures.statistics",
        "procedures.alarms",
        "runs.files",
        "runs.before",
        "runs.records",
        "runs.results",
        "runs.compared",
        "runs.architectures",
        "cli.main",
        "cli.commands",
    ),
    *("grading.asked", "grading.ledger", "grading.studies", "grading.paper", "grading.findings", "grading.reproduce"),
)


def imported(module: str) -> set[str]:
    """Returns the files of the package that a file imports, wherever in it: in functions and for
    types too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            both = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in FILES or node.module == "enas" else str(node.module) for name in both}
    return {name for name in names if name.startswith("enas.")}


def room(module: str) -> int:
    return ROOMS.index(module.split(".")[1])


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_rooms_above_it(module: str) -> None:
    for other in sorted(imported(module)):
        assert room(other) <= room(module), f"{module} imports {other}, which stands below it"


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_has_no_import_cycle(name: str) -> None:
    inside = {module for module in MODULES if ROOMS[room(module)] == name}
    graph = {module: imported(module) & inside for module in inside}
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the cycle


def test_what_is_made_of_values_needs_no_torch() -> None:
    by_name = {name: [m for m in MODULES if f"{m}.".startswith(f"enas.{name}.")] for name in TORCH_FREE}
    assert all(by_name.values()), by_name
    free = [module for modules in by_name.values() for module in modules]
    code = "import importlib, sys; sys.modules['torch'] = None; [importlib.import_module(m) for m in sys.argv[1:]]"
    done = subprocess.run([sys.executable, "-c", code, "enas", *free], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_packages_say_nothing_themselves() -> None:
    assert [module for module, path in FILES.items() if path.name == "__init__.py" and path.read_text()] == [
        "enas.__init__"
    ]


WRITTEN = Path(__file__).parents[1]
CODE = [path for room in ("src", "tests", "examples", "benchmarks") for path in (WRITTEN / room).rglob("*.py")]
TOOLS = re.compile("# (fmt|type|noqa)")


def test_comments_fit_100_columns() -> None:
    """Also behind code, where the linter allows the width of code."""
    long = []
    for path in CODE:
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.COMMENT and token.end[1] > 100 and not TOOLS.match(token.string):
                    long.append(f"{path}:{token.start[0]}")
    assert not long


def test_prose_fits_100_columns() -> None:
    """In code blocks and tables lines may be longer."""
    long = []
    rooms = (WRITTEN / room for room in ("docs", "examples", "benchmarks"))
    for path in (*WRITTEN.glob("*.md"), *(path for room in rooms for path in room.rglob("*.md"))):
        in_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            in_code ^= line.startswith("```")
            if len(line) > 100 and not in_code and " " in line and line[0] not in "|[!":
                long.append(f"{path}:{number}")
    assert not long
