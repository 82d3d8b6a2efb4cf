"""The command lines that a stranger reads and types: from the README, the docs and the Makefile, as
they stand there.

`tests/cli/test_commands.py` runs each at a reduced size, `make soak` (tests/soak.py) at full size.
A line that is neither run nor excluded with a reason makes the test fail, so none that is new goes
untested.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMOS = ("demo", "demo-text")

# A line that matches is not run, and why.
EXCLUDED = {
    r"make demo\b|make demo-text\b": "its lines are read from the Makefile and run",
    r"make (test|check|install|bench|soak)\b": "it is what runs these tests, or too long for them",
    r"enas search my_project:problem": "a file of the reader's; tests/tasks/test_own.py gives every command one",
    r"enas check my_project:problem": "tests/grading/test_check.py checks the README's file",
    r"enas table": "tests/grading/test_table.py makes and reads one; trainings are long",
    r"enas oracle runs/first": "tests search a smaller space than the table's; tests/grading/test_table.py reads one",
    r"torchrun": "tests/runs/test_rank_runs.py runs it on two processes",
    r".*--jobs ray": "tests/runs/test_ray_jobs.py runs commands on Ray",
    r"enas sweep PRESET": "a form of the lines beside it",
    r"pip install": "continuous integration installs the package",
    r"enas data get": "tests/data/test_data.py gets both data sets from a server of its own, and checks them",
    r"ENAS_BENCH_": "needs other programs' files",
    r"PYTHONPATH=src python -m benchmarks\.gpu": "needs a GPU; tests/test_benchmarks.py runs it on a CPU with --tiny",
}


SHELL = ("", "sh", "bash", "shell", "console")  # languages of fenced blocks that are typed
NO_COMMANDS = ("Tree",)  # headings whose fenced block is none
PROGRAM = re.compile(r"(enas|torchrun|make|pip|python3?|git|cd|export|curl|wget|docker|bash|sh|[A-Z_]+=)\b")


def excluded(line: str) -> str | None:
    """Why a line is not run; None where it is."""
    return next((why for pattern, why in EXCLUDED.items() if re.match(pattern, line)), None)


def markdown(path: Path) -> dict[str, list[str]]:
    """The command lines below each heading, in order: all lines of fenced blocks of the shell,
    those of indented blocks that begin with a program, and `enas ...` within a text."""
    found: dict[str, list[str]] = {}
    heading, fence = "", None
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            fence = None if fence is not None else line[3:].strip()
        elif fence is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif fence in SHELL or (fence is None and line.startswith("    ")):
            text = line.split("  #")[0].strip().removeprefix("$ ")
            if text and (heading not in NO_COMMANDS if fence is not None else PROGRAM.match(text)):
                found.setdefault(heading, []).append(text)
        elif fence is None:
            found.setdefault(heading, []).extend(re.findall(r"`(enas [^`]*)`", line))
    return {heading: lines for heading, lines in found.items() if lines}


def makefile(target: str, **variables: object) -> list[str]:
    """The lines of a target's recipe, its variables filled in."""
    text = (ROOT / "Makefile").read_text()
    values = dict(re.findall(r"^(\w+)\s*[?:]?=\s*(.*)$", text, re.MULTILINE)) | {k: str(v) for k, v in variables.items()}
    (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    lines = [line.strip() for line in recipe.splitlines()]
    for _ in range(3):  # variables of variables
        lines = [re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], line) for line in lines]
    return [re.sub(r"^\S*/(?=enas )", "", line) for line in lines]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def readme() -> dict[str, list[str]]:
    """Returns the command lines of the README and of the page of commands that it leads to, by
    heading."""
    first, more = markdown(ROOT / "README.md"), markdown(ROOT / "docs" / "commands.md")
    assert not first.keys() & more.keys(), "a heading stands in both pages"
    return first | more
