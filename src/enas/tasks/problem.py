"""This module holds a problem of a user's own: a network with choices, data, a loss and a reward,
in one value.

    def problem():                                   # in my_project.py
        return enas.Problem(model=Net, train=train_set, reward=enas.rewards.accuracy)

A run records `my_project:problem`, and makes the problem anew from it wherever it goes on. That is
why a function of a module has to return the problem. Everything that is not given has a default.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enas.blame import blamed
from enas.data.examples import Examples, examples_of
from enas.data.parts import Part
from enas.networks.own import Child, OwnNetwork
from enas.plugins import NoSettings, load
from enas.spaces.architecture import Architecture
from enas.spaces.own import OwnSpaceSettings
from enas.spaces.space import SearchSpace
from enas.tasks.metrics import METRICS, Metric
from enas.tasks.rewards import accuracy

BATCH_SIZE = 64  # used where neither a problem nor its DataLoader has one
NO_FUNCTION = (
    "a problem is made by a function of a module, so that other processes can make it too: put it at the top of a file"
    " such as my_project.py (not in a notebook, a lambda or another function), and search 'my_project:problem'"
)


@dataclass(frozen=True, eq=False)
class Problem:
    """A `Problem` holds everything that is needed to search a network of a user's own. Raises a
    ValueError for parts that do not fit each other."""

    model: Callable[[], nn.Module]
    """A class or function that makes the network, which holds `OneOf`, `SomeOf` or `Repeat`."""
    train: Any
    """Examples to train on, each `(input, ..., target)` or a mapping: a tuple or mapping of tensors
    or arrays of one length; a torch `Dataset` or `DataLoader` (whose `collate_fn`, `batch_size` and
    `num_workers` count, and whose sampler does not); a Hugging Face `Dataset`; a list; or anything
    that can be iterated over again and again, which is read in its order."""
    valid: Any = None
    """Examples for rewards and choices, in the same forms; without them, a share of `train`."""
    test: Any = None
    """Examples that a trained network reads once; without them, a share of `train`."""
    loss: Callable[..., Tensor] = nn.functional.cross_entropy
    """The loss to minimise, `loss(output, target)`.
    It is called as `loss(output, batch)` for examples that are mappings,
    and where it has a parameter named `batch`."""
    reward: Callable[..., float] = accuracy
    """The reward, `reward(model, batches)`; larger is better. It need not be differentiable."""
    batch_size: int | None = None
    """Number of examples per training step. Without it, that of the `DataLoader`, or 64."""
    optimizer: Mapping[str, object] = field(default_factory=dict)
    """Settings of `OptimizerSettings` that differ from AdamW, 1e-3, one cosine."""
    target: str | None = None
    """The key of the target in examples that are mappings. Batches are `(mapping, target)` then."""
    path: str = ""
    """The `module:function` that makes the problem. It is found automatically."""

    def __post_init__(self) -> None:
        if not callable(self.model) or isinstance(self.model, nn.Module):
            raise ValueError("model is a class or a function that makes the network, so that weights can be fresh")
        for name in ("loss", "reward"):
            if not callable(getattr(self, name)):
                raise ValueError(f"{name} is a function; got {type(getattr(self, name)).__name__}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is at least 1; got {self.batch_size}")
        self.examples  # noqa: B018 (an error in them is raised at once)
        if not self.path:
            object.__setattr__(self, "path", _caller())

    @cached_property
    def examples(self) -> dict[Part, Examples]:
        """Returns the examples that are given, by the part that they are for."""
        given: dict[Part, Any] = {"train": self.train, "validation": self.valid, "test": self.test}
        return {
            part: examples_of("valid" if part == "validation" else part, value, self.target)
            for part, value in given.items()
            if value is not None or part == "train"
        }

    @property
    def metric(self) -> Metric:
        """Returns the figure that the reward stands for: that of `reward.metric`, or else
        "score"."""
        return METRICS[getattr(self.reward, "metric", "score")]

    @property
    def source(self) -> dict[str, str]:
        """Returns the path of the problem and the hash of the file that makes it. Runs record
        them."""
        file = inspect.getsourcefile(load(self.path))
        return {"problem": self.path, "sha256": hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()}


def _caller() -> str:
    """Returns the `module:function` that makes the problem, or "" where no function does."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, "dataclasses", "enas"):
        frame = frame.f_back
    name, module = frame.f_code.co_name, str(frame.f_globals.get("__name__", ""))
    # Other processes find the problem by the name of its file. A notebook's cell is in no file.
    if module == "__main__":
        file = Path(str(frame.f_globals.get("__file__", "")))
        module = file.stem if file.resolve() == Path(frame.f_code.co_filename).resolve() else ""
    return "" if name.startswith("<") or not module or "." in frame.f_code.co_qualname else f"{module}:{name}"


@lru_cache(maxsize=8)
def problem_of(path: str) -> Problem:
    """Returns the problem that `module:function` makes. Raises a ValueError for anything else."""
    made = load(path)
    if callable(made):
        with blamed(f"'{path}'"):
            made = made()
    if not isinstance(made, Problem):
        raise ValueError(f"'{path}' makes an enas.Problem; it made {type(made).__name__}")
    if not made.path:  # a value of the module, which no function made
        object.__setattr__(made, "path", path)
    return made


# ------------------------------------------------------------------------- as parts of a plan
def space_from_problem(settings: OwnSpaceSettings) -> SearchSpace:
    """Returns the space of a problem's network, which architectures name by the problem."""
    with torch.random.fork_rng(devices=[]), blamed("making the network"):
        supernet = OwnNetwork(problem_of(settings.problem).model())
    space = supernet.space
    return replace(space, settings=(("problem", settings.problem),), backbone="own")


def own_network(
    space: SearchSpace, settings: NoSettings, only: Architecture | None = None, statistics: str = "batch"
) -> OwnNetwork | Child:
    """Returns the problem's network as a supernet, or the child of one architecture."""
    problem = problem_of(str(space.spec["problem"]))
    with blamed("making the network"):
        supernet = OwnNetwork(problem.model(), factory=problem.model)
    supernet.space = space
    if only is None:
        return supernet
    child = Child(supernet.child(only))
    child.architecture = only  # type: ignore[assignment]  # for errors, which name it
    return child
