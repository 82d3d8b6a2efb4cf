"""Where the time of a search goes: children's forward and backward, and everything else. A whole
search is run as the command line runs it, with a stopwatch around the parts.

    python -m benchmarks.share digits-micro
    python -m benchmarks.share cifar10-micro --data DIR --epochs 2
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from enas.cli.main import main as main_run
from enas.networks import kernels
from enas.procedures.compute import Compute
from enas.procedures.search import Search
from enas.runs import search as runs_search
from enas.runs.folder import RunFolder
from enas.strategies.random_search import RandomSearch
from enas.strategies.reinforce import Reinforce
from enas.tasks.image_classification import ImageClassification
from enas.tasks.language_model import LanguageModel

CHILDREN = "children's forward and backward"


class Stopwatch:
    """Seconds by part; time inside a part that is another part's counts there only."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.inner: list[float] = []

    def around(self, owner: Any, name: str, part: str) -> None:
        """From now on calls of `owner.name` count as `part`."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args: Any, **more: Any) -> Any:
            start = time.perf_counter()
            self.inner.append(0.0)
            try:
                return original(*args, **more)
            finally:
                taken = time.perf_counter() - start
                self.seconds[part] += taken - self.inner.pop()
                if self.inner:
                    self.inner[-1] += taken

        setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="`enas presets list`")
    known, rest = parser.parse_known_args()
    watch = Stopwatch()
    for task in (ImageClassification, LanguageModel):
        for name in ("loss", "reward", "evaluate"):
            watch.around(task, name, CHILDREN)
        for name in ("train_batch", "reward_batch"):
            watch.around(task, name, "data")
    watch.around(torch.Tensor, "backward", CHILDREN)
    for strategy in (Reinforce, RandomSearch):  # its own backward included
        for name in ("ask", "tell"):
            watch.around(strategy, name, "strategy")
    watch.around(Compute, "update", "optimiser")
    watch.around(RunFolder, "packed", "checkpoints and logs")
    for name in ("append", "append_architecture", "clock", "keep"):
        watch.around(RunFolder, name, "checkpoints and logs")
    watch.around(Search, "preview", "preview of the cost")
    whole: list[float] = []
    original = runs_search.run_search

    def searched(*args: Any) -> None:
        watch.seconds.clear()  # data and weights are there: the search begins
        start = time.perf_counter()
        original(*args)
        whole.append(time.perf_counter() - start)

    runs_search.run_search = searched
    kernels.keep_memory()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        status = main_run(["search", known.preset, "--out", str(Path(folder) / "run"), *rest])
    if status:
        raise SystemExit(status)
    parts = {part: round(seconds, 2) for part, seconds in watch.seconds.most_common()}
    parts["Python, display and the rest"] = round(whole[0] - sum(watch.seconds.values()), 2)
    share = round(watch.seconds[CHILDREN] / whole[0], 4)
    sizes = {"preset": known.preset, "options": rest, "threads": torch.get_num_threads()}
    print(json.dumps({"what": "share of a search inside children", "sizes": sizes, "seconds": round(whole[0], 2),
                      "share": share, "parts": parts}))  # fmt: skip


if __name__ == "__main__":
    main()
