"""`enas oracle`: strategies and searches held against a table of the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from enas.cli.commands import command, parse


@dataclass(frozen=True)
class OracleFlags:
    """Strategies and searches against the truth: a table that has the accuracy of every architecture.

    enas oracle nasbench201 --table FILE           (each strategy alone: what it learns from the table, over many seeds)
    enas oracle nasbench_macro --table FILE        (the same on NAS-Bench-Macro, which publishes test accuracy only)
    enas oracle runs/mine --table FILE             (a search with shared weights: where its best stands, how it ranks)
    """

    what: Positional[str]
    """The space, `nasbench201` or `nasbench_macro`; or the run folder of a search in it, derived."""
    table: Path
    """File of accuracies in percent, .gz or not. nasbench201: CSV with a column `arch`; nasbench_macro: the published
    JSON."""
    table_only: bool = False
    """Only strategies against the table; what naming the space does anyway."""
    queries: int = 300
    """Architectures that a strategy may ask for."""
    seeds: int = 100
    """Seeds of each strategy."""
    reward: str | None = None
    """Column that is told as the reward (nasbench201: cifar10_valid_ep12, a short training, validated; nasbench_macro:
    test_acc_1, the first of its three runs, tested)."""
    score: str | None = None
    """Column that counts (nasbench201: cifar10_test_ep200, the full training, tested; nasbench_macro: mean_acc, the mean of
    its three runs, tested)."""
    cells: int = 200
    """Of a run: uniform architectures whose shared-weight scores are held against the truth."""
    out: Path | None = None
    """Folder for oracle.json and the picture (default: runs/oracle-SPACE, or the run's)."""


@command("oracle", "strategies and searches against a table of the truth (NAS-Bench-201, NAS-Bench-Macro)")
def oracle(args: list[str]) -> int:
    flags = parse(OracleFlags, args, "oracle")
    for name, low in (("queries", 1), ("seeds", 2), ("cells", 6)):
        if getattr(flags, name) < low:
            raise ValueError(f"--{name} is at least {low}; got {getattr(flags, name)}")
    from enas.grading.oracle import read_table
    from enas.spaces.registry import SPACES

    known = [name for name, entry in SPACES.items() if entry.benchmark]
    is_run = Path(flags.what).is_dir()
    if flags.what not in known and not is_run:
        raise ValueError(f"`enas oracle` takes {', '.join(known)} or the folder of a run; got '{flags.what}'")
    name = _searched(Path(flags.what)) if is_run else flags.what
    if name not in known:
        raise ValueError(f"there are tables of {' and '.join(known)}; '{flags.what}' searches {name}")
    if is_run and flags.table_only:
        raise ValueError(f"--table-only plays strategies without a run: `enas oracle {name} --table FILE --table-only`")
    entry = SPACES[name]
    benchmark, space = entry.benchmark, entry.make(entry.settings())
    assert benchmark is not None
    table = read_table(flags.table, space, benchmark.parse, benchmark.form)
    flags = dataclasses.replace(flags, reward=flags.reward or benchmark.reward, score=flags.score or benchmark.score)
    assert flags.reward is not None
    assert flags.score is not None
    table.column(flags.reward), table.column(flags.score)  # a wrong name is said before minutes are spent
    if benchmark.note:
        print(f"note: {benchmark.note}")
    return _graded(flags, table, benchmark) if is_run else _played(flags, table, space, benchmark)


def _searched(run: Path) -> str:
    """The space that a run searches."""
    from enas.runs.before import upgraded
    from enas.runs.folder import RunFolder

    config = RunFolder.open(run).config
    return str(upgraded(config)["names"]["space"])


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    """`advance(text)` after each of `total` parts."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False)
    columns = (TextColumn("{task.fields[text]}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, text="")

        def advance(text: str) -> None:
            progress.update(task, advance=1, text=text)

        yield advance


def _played(flags: OracleFlags, table: Any, space: Any, benchmark: Any) -> int:
    """Each strategy alone."""
    import numpy as np
    import torch

    from enas.grading.oracle import Curves, play
    from enas.procedures.statistics import difference, interval
    from enas.runs.files import write_json
    from enas.runs.presets.registry import config_of, preset_for
    from enas.runs.process import versions
    from enas.strategies.registry import STRATEGIES

    torch.set_num_threads(1)  # a controller's tensors are small
    recipe = config_of(preset_for(space.name), "quick")
    at_a_time = recipe.search.architectures
    reward, score = table.column(flags.reward), table.column(flags.score)
    best = max(score.values())
    curves: dict[str, Any] = {}
    with _bar(len(STRATEGIES) * flags.seeds) as advance:
        for name, entry in STRATEGIES.items():
            settings = recipe.strategy if name == "reinforce" else entry.settings()

            def make(seed: int, entry: Any = entry, settings: Any = settings) -> Any:
                return entry.make(space, settings, seed=seed)

            n = at_a_time if name == "reinforce" else 1
            rows = []
            for played in play(make, name, reward, score, flags.queries, flags.seeds, n):
                rows.append(played.scores)
                advance(f"{name}: seed {played.seed + 1} of {flags.seeds}")
            curves[name] = Curves(name, np.array(rows))
    marks = [q for q in (10, 20, 50, 100, 200, 300, 500, 1000, 2000, 5000) if q < flags.queries] + [flags.queries]
    out = flags.out or Path("runs") / f"oracle-{space.name}"
    out.mkdir(parents=True, exist_ok=True)
    uniform = curves["random"].scores[:, -1]
    record: dict[str, Any] = {
        "table": table.name, "reward": flags.reward, "score": flags.score, "best": best, "seeds": flags.seeds,
        "queries": flags.queries, "versions": versions(), "note": benchmark.note, "strategies": {},
    }  # fmt: skip
    print(
        f"{flags.score} of the best by {flags.reward} so far, mean of {flags.seeds} seeds; the best of all has {best:.2f} %"
    )
    print("queries    " + "".join(f"{q:>8}" for q in marks) + "   regret")
    for name, found in curves.items():
        means = found.scores.mean(0)
        last = interval(found.regret(best)[:, -1])
        print(f"{name:11}" + "".join(f"{means[q - 1]:8.2f}" for q in marks) + f"   {last}")
        gap = difference(found.scores[:, -1], uniform) if name != "random" else None
        record["strategies"][name] = {
            "score": {str(q): dataclasses.asdict(interval(found.scores[:, q - 1])) for q in marks},
            "regret": dataclasses.asdict(last),
            "above_uniform": dataclasses.asdict(gap) if gap else None,
        }
    record["verdict"] = []
    for name, found in curves.items():
        if name != "random":
            gap = difference(found.scores[:, -1], uniform)
            says = (
                f"is {'above' if gap.mean > 0 else 'below'} uniform"
                if gap.excludes_zero
                else "is not told apart from uniform"
            )
            record["verdict"].append(f"{name} {says} after {flags.queries} queries: {gap} points")
    write_json(out / "oracle.json", record)
    from enas.reports.charts import regret_chart

    regret_chart({name: found.regret(best) for name, found in curves.items()}, out / "oracle.svg")
    for line in record["verdict"]:
        print(f"verdict: {line}")
    print(f"wrote {out / 'oracle.svg'} and {out / 'oracle.json'}")
    return 0


def _graded(flags: OracleFlags, table: Any, benchmark: Any) -> int:
    """A run's best, and how its shared weights rank."""
    from enas.grading.ranking import grade
    from enas.runs.files import write_json

    with _bar(flags.cells) as advance:
        record = grade(Path(flags.what), table.column(flags.score), flags.cells, listen=advance)
    out = flags.out or Path(flags.what)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "oracle.json", record | {"table": table.name, "score": flags.score, "note": benchmark.note})
    derived = record["derived"]
    if derived:
        better, place = f"{derived['better_than']:.1%}", f"rank {derived['rank']:,} of {record['space_size']:,}"
        print(
            f"the derived architecture has {derived['score']:.2f} % ({flags.score}): better than {better} of all, {place}"
        )
    else:
        print("nothing is derived yet: `enas derive` says which architecture this search would pick")
    heading = f"ranking {flags.cells} uniform architectures by"
    print(f"{heading:38}Kendall (95 %)         better half            pick   top five")
    for row in record["rankings"]:
        tau, half = (f"{row[k]['value']:.2f} ({row[k]['low']:.2f} to {row[k]['high']:.2f})"
                     for k in ("kendall", "kendall_better_half"))  # fmt: skip
        print(f"  {row['ranker']:36}{tau:23}{half:23}{row['pick']:5.2f}  {row['top_five']:5.2f}")
    print(f"wrote {out / 'oracle.json'}")
    return 0
