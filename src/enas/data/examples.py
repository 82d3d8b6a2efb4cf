"""This module reads examples by their number, in the forms in which people have them, and splits
them into parts.

The forms are a tuple of tensors or arrays, any torch `Dataset` or `DataLoader`, a Hugging Face
`Dataset`, a list, and anything that can be iterated over again and again. `stream` makes batches of
them.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from enas.blame import blamed
from enas.state import seed_of

FORMS = (
    "a tuple or mapping of tensors or arrays of one length, a torch Dataset or DataLoader, a Hugging Face Dataset,"
    " a list of examples, or anything that can be iterated over again and again"
)


class Examples:
    """An `Examples` object gives a user's examples by their number. Where `ordered` is true, they
    can only be read in their order, from the first on. `name` is what errors call them."""

    ordered = False
    name = "train"
    length: int

    def __init__(self, given: Any, target: str | None = None):
        self.given, self.target = given, target
        self.collate: Callable[[list[Any]], Any] = default_collate
        self.batch_size: int | None = None  # this and the next two are those of a DataLoader
        self.workers = 0
        self.context: Any = None  # how the DataLoader starts workers
        self.about: tuple[str, ...] = ()  # lines that a run prints about these examples

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.given[index]

    @property
    def labels(self) -> Tensor | None:
        """Returns the class of each example, (n,) int64, or None where it is not known before the
        examples are read, or is no class."""
        return None


class Arrays(Examples):
    """An `Arrays` object holds tensors of one length in memory: a tuple whose last tensor is the
    target, or a mapping."""

    def __init__(self, name: str, given: tuple[Any, ...] | Mapping[str, Any], target: str | None = None):
        named = dict(given) if isinstance(given, Mapping) else dict(enumerate(given))
        # torch warns of arrays that cannot be written to, such as files
        with warnings.catch_warnings(action="ignore"):
            self.parts: dict[Any, Tensor] = {key: torch.as_tensor(part) for key, part in named.items()}
        lengths = [len(part) for part in self.parts.values()]
        if len(set(lengths)) != 1:
            raise ValueError(f"{name} has tensors of one length; got {lengths}")
        super().__init__(given, target)
        self.length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        """Returns one example, or for a tensor of numbers a batch."""
        if isinstance(self.given, Mapping):
            return {key: part[index] for key, part in self.parts.items()}
        return tuple(part[index] for part in self.parts.values())

    @property
    def labels(self) -> Tensor | None:
        last = self.target if isinstance(self.given, Mapping) else len(self.parts) - 1
        return as_labels(self.parts.get(last))


class Rows(Examples):
    """A `Rows` object holds anything with a length and items: a torch `Dataset`, a Hugging Face
    one, or a list."""

    def __init__(self, given: Any, target: str | None = None):
        super().__init__(given, target)
        self.length = len(given)
        if columns := getattr(given, "column_names", None):
            self.about = (f"columns {', '.join(columns)}",)

    @cached_property
    def labels(self) -> Tensor | None:
        return labels_of(self.given, self.target)


class Passes(Examples):
    """A `Passes` object holds anything that can be iterated over again. Each pass reads it in its
    own order. Where it has no length, the first pass counts the examples."""

    ordered = True

    def __init__(self, name: str, given: Any, target: str | None = None):
        if iter(given) is given:
            raise ValueError(
                f"{name} is read once per pass, and this {type(given).__name__} is used up after one: give an object whose"
                " __iter__ begins anew"
            )
        super().__init__(given, target)

    @cached_property
    def length(self) -> int:  # type: ignore[override]
        return len(self.given) if hasattr(self.given, "__len__") else len(self._targets)

    @property
    def labels(self) -> Tensor | None:
        return None if hasattr(self.given, "__len__") else as_labels(self._targets)

    @cached_property
    def _targets(self) -> list[Any]:
        """Returns the target of each example, or None where it is not one whole number. This reads
        all examples."""
        with blamed("counting the examples"), reading("count"):
            return [_number(example, self.target) for example in self.given]


def examples_of(name: str, given: Any, target: str | None = None) -> Examples:
    """Returns the examples that a user gives as `name`, such as "train". `target` is the key of the
    target where examples are mappings. Raises a ValueError that lists the forms for anything else,
    and one for fewer than two examples."""
    examples = _form(name, given, target)
    examples.name = name
    if not examples.ordered and len(examples) < 2:
        raise ValueError(f"{name} holds at least 2 examples; got {len(examples)}")
    return examples


def _form(name: str, given: Any, target: str | None) -> Examples:
    if isinstance(given, DataLoader):
        return _from_loader(name, given, target)
    if isinstance(given, TensorDataset):
        return Arrays(name, given.tensors, target)
    parts: list[Any] = []
    if isinstance(given, tuple | Mapping):
        parts = list(given.values() if isinstance(given, Mapping) else given)
    if parts and all(isinstance(part, Tensor | np.ndarray) and part.ndim for part in parts):
        return Arrays(name, given, target)
    # A tuple may also hold examples. Each of them is a tuple or a mapping, and no column.
    if parts and not all(isinstance(part, tuple | Mapping) for part in parts):
        kinds = ", ".join(dict.fromkeys(type(part).__name__ for part in parts))
        what = f"the parts of {name}, a {type(given).__name__},"
        raise ValueError(f"{what} are tensors or arrays of one length, such as torch.tensor(values); got {kinds}")
    if not isinstance(given, Mapping | str | bytes):
        numbered = hasattr(given, "__len__") and hasattr(given, "__getitem__")
        # An IterableDataset inherits a __getitem__ that does not work.
        if numbered and not isinstance(given, IterableDataset):
            return Rows(given, target)
        if hasattr(given, "__iter__"):
            return Passes(name, given, target)
    raise ValueError(f"{name} is {FORMS}; got {type(given).__name__}")


def _from_loader(name: str, loader: DataLoader[Any], target: str | None) -> Examples:
    """Returns the loader's examples with its `collate_fn`, batch size and workers. Its sampler says
    which examples there are, but not their order, since a batch has to be a function of the
    seed."""
    batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None)
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(f"{name} is a DataLoader of batches: give it a batch_size, and examples to put together")
    examples = _form(name, loader.dataset, target)
    if not examples.ordered and (taken := _taken(name, loader, len(examples))) is not None:
        examples = Rows(Subset(loader.dataset, taken), target)
    elif loader.collate_fn is not default_collate and isinstance(examples, Arrays):
        examples = Rows(loader.dataset, target)
    examples.collate = loader.collate_fn
    examples.batch_size, examples.workers = batch_size, loader.num_workers
    examples.context = loader.multiprocessing_context
    sampler = _sampler(loader)
    if not examples.ordered and not isinstance(sampler, SequentialSampler | RandomSampler):
        examples.about += (f"shuffled passes instead of {name}'s {type(sampler).__name__}",)
    return examples


def _sampler(loader: DataLoader[Any]) -> Any:
    """Returns what chooses the examples of a loader. It may stand inside the `batch_sampler`, and
    may also be that itself."""
    return getattr(loader.batch_sampler, "sampler", loader.batch_sampler)


def _taken(name: str, loader: DataLoader[Any], n: int) -> list[int] | None:
    """Returns the numbers of those examples, of n, that a loader's sampler takes, or None for all
    of them. Raises a ValueError for a sampler that leaves out some and does not say which."""
    sampler = _sampler(loader)
    if isinstance(sampler, WeightedRandomSampler):
        numbers: Any = sampler.weights.nonzero().flatten().tolist()
    elif hasattr(sampler, "indices"):
        numbers = sampler.indices
    elif isinstance(sampler, SequentialSampler | RandomSampler):
        numbers = range(len(sampler.data_source))  # may be fewer than those of the loader
    else:
        with blamed(f"the sampler of {name}"), reading("sampler"):
            drawn = itertools.islice(sampler, n)
            batched = sampler is loader.batch_sampler
            numbers = [int(number) for some in drawn for number in (some if batched else [some])]
        if len(set(numbers)) < n:
            raise ValueError(
                f"{name}'s {type(sampler).__name__} takes {len(set(numbers))} of {n} examples in a pass: say which there"
                " are with torch.utils.data.Subset(data_set, indices), and leave out the sampler, whose order is not used"
            )
    taken = list(dict.fromkeys(int(number) for number in numbers))
    return None if len(taken) == n else taken


# ------------------------------------------------------------------------------- classes and splits
def as_labels(values: Any) -> Tensor | None:
    """Returns classes (n,) as int64, or None where `values` are no classes: where they are not
    whole numbers, not one per example, or below 0."""
    if values is None:
        return None
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    whole = not (labels.is_floating_point() or labels.is_complex())
    return labels.long() if whole and labels.ndim == 1 and len(labels) and int(labels.min()) >= 0 else None


def labels_of(rows: Any, target: str | None = None) -> Tensor | None:
    """Returns the class of each row where it is known without reading the rows: from `targets` as
    torchvision has it, from a column, or from a list of examples in memory. Returns None
    otherwise."""
    if isinstance(rows, Subset):
        labels = labels_of(rows.dataset, target)
        return None if labels is None else labels[torch.as_tensor(list(rows.indices))]
    if isinstance(rows, TensorDataset):
        return as_labels(rows.tensors[-1])
    values: Any = getattr(rows, "targets", None)
    if target is not None and target in (getattr(rows, "column_names", None) or ()):
        values = list(rows[target])
    elif isinstance(rows, list | tuple):
        values = [_number(row, target) for row in rows]
    labels = as_labels(values)
    return labels if labels is not None and len(labels) == len(rows) else None


def _number(example: Any, target: str | None) -> int | None:
    """Returns the target of an example where it is one whole number, else None."""
    if isinstance(example, tuple | list) and example:
        value = example[-1]
    else:
        value = example.get(target) if isinstance(example, Mapping) else None
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    return value if isinstance(value, int) else None


def split(n: int, shares: Sequence[float], seed: object, labels: Tensor | None = None) -> list[list[int]]:
    """Returns the numbers 0 to n - 1, shuffled, in several parts: the first part is what is left
    over, and the others hold these `shares`.

    With `labels`, (n,), each class is split by these shares (stratified). Every class with at least
    as many examples as there are parts is in all of them. Smaller classes are split together as if
    they were one.
    """
    generator = torch.Generator().manual_seed(seed_of("split", seed))
    order = torch.randperm(n, generator=generator).tolist()
    wanted = [share for share in shares if share]
    classes = torch.zeros(n, dtype=torch.int64) if labels is None else labels
    _, which, counts = classes.unique(return_inverse=True, return_counts=True)
    groups = torch.where(counts[which] > len(wanted), which, -1).tolist()
    members: dict[int, list[int]] = {}
    for index in order:
        members.setdefault(groups[index], []).append(index)
    part_of: dict[int, int] = {}
    for indices in members.values():
        enough = len(indices) > len(wanted)
        sizes = [(max(1, round(share * len(indices))) if enough else round(share * len(indices))) for share in wanted]
        while enough and sum(sizes) >= len(indices):  # the first part keeps at least one
            sizes[sizes.index(max(sizes))] -= 1
        numbers = [part for part, size in enumerate(sizes, 1) for _ in range(size)]
        part_of |= dict(zip(indices, numbers, strict=False))
    parts: list[list[int]] = [[] for _ in range(1 + len(wanted))]
    for index in order:
        parts[part_of.get(index, 0)].append(index)
    given = iter(parts[1:])
    return [parts[0], *(next(given) if share else [] for share in shares)]


# -------------------------------------------------------------------------------- random numbers
@contextmanager
def reading(*key: object) -> Iterator[None]:
    """Makes the random numbers of torch (on the CPU), NumPy and Python depend only on `key` inside
    the `with` block. torch computes in one thread there, as in a worker. Outside of the block
    nothing changes."""
    python, numpy, threads = random.getstate(), np.random.get_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        try:
            seed(*key)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_num_threads(threads)


def seed(*key: object) -> None:
    """Seeds the random numbers of torch (on the CPU), NumPy and Python with `key`."""
    number = seed_of(*key)
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
