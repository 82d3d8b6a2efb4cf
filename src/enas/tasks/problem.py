"""A problem of a user's own: a network with choices, data, a loss and a reward, in one value.

    def problem():                                   # in my_project.py
        return enas.Problem(model=Net, train=train_set, reward=enas.rewards.accuracy)

A run records `my_project:problem`, and makes the problem anew from it wherever it goes on: so a
problem is what a function of a module returns. What is not given has a default.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enas.networks.own import Child, OwnNetwork
from enas.plugins import NoSettings, load
from enas.spaces.architecture import Architecture
from enas.spaces.own import OwnSpaceSettings
from enas.spaces.space import SearchSpace
from enas.state import seed_of
from enas.tasks.metrics import METRICS, Metric
from enas.tasks.rewards import accuracy

Examples = Any  # anything with `len` and items: a torch `Dataset`, a list, or a tuple of tensors


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched for whom. ValueError for parts that do not fit each other."""

    model: Callable[[], nn.Module]
    """A class or function that makes the network, which holds `OneOf`, `SomeOf` or `Repeat`."""
    train: Examples
    """Examples to train on, as a torch `Dataset` has them: `(input, ..., target)` or a mapping.
    Or a tuple of tensors of one length, the last of which is the target."""
    valid: Examples = None
    """Examples for rewards and choices; without them a share of `train`."""
    test: Examples = None
    """Examples that a trained network reads once; without them a share of `train`."""
    loss: Callable[..., Tensor] = nn.functional.cross_entropy
    """What is minimised: `loss(output, target)`; of mappings `loss(output, batch)`."""
    reward: Callable[..., float] = accuracy
    """`reward(model, batches)`, larger is better; it need not be differentiable."""
    batch_size: int = 64
    optimizer: Mapping[str, object] = field(default_factory=dict)
    """Settings of `OptimizerSettings` that differ from AdamW, 1e-3, one cosine."""
    path: str = ""
    """`module:function` that makes the problem; found out by itself."""

    def __post_init__(self) -> None:
        if not callable(self.model) or isinstance(self.model, nn.Module):
            raise ValueError("model is a class or a function that makes the network, so that weights can be fresh")
        for name in ("train", "valid", "test"):
            examples = getattr(self, name)
            if examples is None and name != "train":
                continue
            if isinstance(examples, tuple) and all(isinstance(part, Tensor) for part in examples):
                if len({len(part) for part in examples}) != 1:
                    raise ValueError(f"{name} has tensors of one length; got {[len(part) for part in examples]}")
            elif not (hasattr(examples, "__len__") and hasattr(examples, "__getitem__")):
                raise ValueError(f"{name} has a length and items, as a torch Dataset; got {type(examples).__name__}")
            if size_of(examples) < 2:
                raise ValueError(f"{name} holds at least 2 examples; got {size_of(examples)}")
        if not self.path:
            object.__setattr__(self, "path", _caller())

    @property
    def metric(self) -> Metric:
        """Returns the figure that the reward stands for: `reward.metric`, or else "score"."""
        return METRICS[getattr(self.reward, "metric", "score")]

    @property
    def source(self) -> dict[str, str]:
        """Returns the hash of the file that makes the problem: runs record it."""
        file = inspect.getsourcefile(load(self.path))
        return {"problem": self.path, "sha256": hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()}


def size_of(examples: Examples) -> int:
    return len(examples[0]) if isinstance(examples, tuple) else len(examples)


def _caller() -> str:
    """Returns `module:function` of whoever makes the problem; "" where no function does."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in (__name__, "dataclasses", "enas"):
        frame = frame.f_back
    name, module = frame.f_code.co_name, str(frame.f_globals.get("__name__", ""))
    if module == "__main__":  # other processes find it by the name of its file
        module = Path(str(frame.f_globals.get("__file__", ""))).stem
    return "" if name.startswith("<") or not module or "." in frame.f_code.co_qualname else f"{module}:{name}"


@lru_cache(maxsize=8)
def problem_of(path: str) -> Problem:
    """Returns the problem that `module:function` makes; ValueError for anything else."""
    made = load(path)
    made = made() if callable(made) else made
    if not isinstance(made, Problem):
        raise ValueError(f"'{path}' makes an enas.Problem; it made {type(made).__name__}")
    return made


# ------------------------------------------------------------------------- as parts of a plan
def space_from_problem(settings: OwnSpaceSettings) -> SearchSpace:
    """Returns the space of a problem's network, which architectures name by the problem."""
    with torch.random.fork_rng(devices=[]):
        supernet = OwnNetwork(problem_of(settings.problem).model())
    space = supernet.space
    return replace(space, settings=(("problem", settings.problem),), backbone="own")


def own_network(
    space: SearchSpace, settings: NoSettings, only: Architecture | None = None, statistics: str = "batch"
) -> OwnNetwork | Child:
    """Returns the problem's network as a supernet, or the child of one architecture."""
    problem = problem_of(str(space.spec["problem"]))
    supernet = OwnNetwork(problem.model(), factory=problem.model)
    supernet.space = space
    return supernet if only is None else Child(supernet.child(only))


def split(n: int, shares: Sequence[float], seed: object) -> list[list[int]]:
    """Returns the numbers 0 to n - 1, shuffled, in parts: what is left, and then these shares."""
    generator = torch.Generator().manual_seed(seed_of("split", seed))
    order = torch.randperm(n, generator=generator).tolist()
    sizes = [max(1, round(share * n)) if share else 0 for share in shares]
    parts = [order[: n - sum(sizes)]]
    for size in sizes:
        begin = sum(map(len, parts))
        parts.append(order[begin : begin + size])
    return parts
