"""This module holds a problem of a user's own: a network with choices, data, a loss and a reward,
in one value.

    def problem():                                   # in my_project.py
        return enas.Problem(model=Net, train=train_set, reward=enas.rewards.accuracy)

A run records `my_project:problem`, and makes the problem anew from it wherever it goes on. That is
why a function of a module has to return the problem, and takes no arguments, which a run does not
record. Everything that is not given has a default.
"""

from __future__ import annotations

import copy
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
from enas.tasks.settings import OWN_METRICS

BATCH_SIZE = 64  # used where neither a problem nor its DataLoader has one
NO_FUNCTION = (
    "a problem is made by a function of a module, without arguments, so that other processes can make it too: put it at"
    " the top of a file such as my_project.py (not in a notebook, a lambda or another function), and search"
    " 'my_project:problem'"
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
    `num_workers` count, and whose sampler says which examples there are, but not their order); a
    Hugging Face `Dataset`; a list; or anything that can be iterated over again and again, which is
    read in its order."""
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
    """Settings of `OptimizerSettings` that differ from AdamW, 1e-3, one cosine, such as
    `{"learning_rate": 3e-3, "weight_decay": 0.05}`."""
    target: str | None = None
    """The key of the target in examples that are mappings. Batches are `(mapping, target)` then."""
    path: str = field(default="", init=False)
    """The `module:function` that makes the problem. It is found automatically, and is "" where
    a call of that function would not make the same problem."""

    def __post_init__(self) -> None:
        if not callable(self.model) or isinstance(self.model, nn.Module):
            raise ValueError("model is a class or a function that makes the network, so that weights can be fresh")
        for name in ("loss", "reward"):
            if not callable(getattr(self, name)):
                raise ValueError(f"{name} is a function; got {type(getattr(self, name)).__name__}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is at least 1; got {self.batch_size}")
        self.examples  # noqa: B018 (an error in them is raised at once)
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
        """Returns the figure that the reward stands for: that of `reward.metric` where it names a
        known one, or else "score"."""
        name = getattr(self.reward, "metric", None)  # objects have attributes of this name too
        return METRICS[name if isinstance(name, str) and name in OWN_METRICS else "score"]

    @property
    def source(self) -> dict[str, str]:
        """Returns the path of the problem and the hash of the file that makes it. Runs record
        them."""
        maker = inspect.unwrap(load(self.path))
        module = sys.modules[self.path.partition(":")[0]]  # holds a problem that no function makes
        file = inspect.getsourcefile(maker if inspect.isfunction(maker) else module)
        return {"problem": self.path, "sha256": hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()}


def _caller() -> str:
    """Returns the `module:function` that makes the problem, or "" where no function does. A
    function that takes arguments does not count, since others cannot know what it was given."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, "dataclasses", "enas"):
        frame = frame.f_back
    code = frame.f_code
    name, module = code.co_name, str(frame.f_globals.get("__name__", ""))
    # Other processes find the problem by the name of its file. A notebook's cell is in no file.
    if module == "__main__":
        file = Path(str(frame.f_globals.get("__file__", "")))
        module = file.stem if file.resolve() == Path(code.co_filename).resolve() else ""
    takes = code.co_argcount + code.co_kwonlyargcount + (code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))
    return "" if name.startswith("<") or not module or takes or "." in code.co_qualname else f"{module}:{name}"


_making: set[str] = set()  # paths of the problems that are just being made


@lru_cache(maxsize=8)
def problem_of(path: str) -> Problem:
    """Returns the problem that `module:function` makes, or that a module holds as `module:name`.
    Raises a ValueError for anything else."""
    if path in _making:
        raise ValueError(f"'{path}' makes the problem and searches it too: let it return the problem, and search elsewhere")
    made = load(path)
    if callable(made):
        _making.add(path)
        try:
            with blamed(f"'{path}'"):
                made = made()
        finally:
            _making.remove(path)
    if not isinstance(made, Problem):
        raise ValueError(f"'{path}' makes an enas.Problem; it made {type(made).__name__}")
    made = copy.copy(made)  # a module may hold it, and give it to others
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
