"""Examples in any form give the same batches, whoever reads them, and say what is wrong in one
line."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from enas.blame import Blamed, blamed
from enas.data import image_stream
from enas.data.examples import Arrays, as_labels, examples_of, reading, split
from enas.data.stream import InOrder, Reader, Shuffled, Stream

N = 10
X, Y = torch.arange(float(N)), torch.arange(N) % 2


class Drawing(Dataset[tuple[Tensor, int]]):
    """Examples that draw from three sources of random numbers."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = [torch.rand(()).item(), np.random.rand(), random.random(), float(torch.get_num_threads())]
        return torch.tensor([float(index), *noise]), index % 2


class Ordered(IterableDataset[tuple[Tensor, int]]):
    """The same, to be read in order; the first number drawn is of the whole pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        shift = random.random()
        for index in range(N):
            yield torch.tensor([index + shift, np.random.rand(), torch.rand(()).item()]), index % 2


class Broken(Drawing):
    def __init__(self, dies: bool = False):
        self.dies = dies

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 7:
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyError("seven\nis missing")
        return super().__getitem__(index)


def stream(given: Any, workers: int = 0, seed: int = 0, size: int = 4) -> Stream:
    examples = examples_of("train", given)
    order = Shuffled("train", len(examples), size, 3, seed, examples.ordered)
    return Stream(Reader([(examples, range(len(examples)))], seed), order, workers)


def in_order(given: Any, workers: int) -> Stream:
    examples = examples_of("train", given)
    return Stream(Reader([(examples, range(N))], 0), order := InOrder("train", N, 2), workers, len(order.bounds))


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    pairs = [(a[key], b[key]) for key in a] if isinstance(a, dict) else list(zip(a, b, strict=True))
    return all(equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("given", [Drawing(), Ordered()], ids=["by number", "in order"])
def test_batches_do_not_depend_on_who_reads_them_nor_on_where_one_begins(given: Any) -> None:
    state, places = (random.getstate(), torch.get_rng_state()), range(7)  # over two ends of a pass
    reference = stream(given)
    batches = [reference[number] for number in places]
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    assert not equal(batches[0], batches[3]), "another pass draws other numbers"
    assert not equal(batches[0], stream(given, seed=1)[0])
    for number in (5, 2):
        assert equal(reference[number], batches[number])
    for workers in (1, 2):
        read_ahead = stream(given, workers)
        assert all(equal(read_ahead[number], batches[number]) for number in places)
        assert equal(read_ahead[4], batches[4]), "as after a kill within a pass"
        assert torch.equal(torch.get_rng_state(), state[1])


def test_every_form_gives_the_same_examples() -> None:
    pairs = [(X[i], Y[i]) for i in range(N)]
    forms = [
        (X, Y),
        (X.numpy(), Y.numpy()),
        TensorDataset(X, Y),
        pairs,
        DataLoader(TensorDataset(X, Y), batch_size=5),
        DataLoader(pairs, batch_size=5, collate_fn=default_collate),  # type: ignore[arg-type]
        Subset(TensorDataset(X, Y), range(N)),
    ]
    for given in forms:
        assert equal(stream(given)[1], stream(forms[0])[1]), type(given)
        labels = examples_of("train", given).labels
        assert labels is not None
        assert labels.tolist() == Y.tolist()
    mappings = [{"x": X[i], "y": Y[i]} for i in range(N)]
    for rows in ({"x": X, "y": Y.numpy()}, mappings):
        x, y = stream(forms[0])[1]
        assert equal(stream(rows)[1], {"x": x, "y": y})
    assert stream(lambda_passes(pairs))[0][0].tolist() == [0, 1, 2, 3]
    assert examples_of("train", lambda_passes(pairs)).labels.tolist() == Y.tolist()  # type: ignore[union-attr]


def lambda_passes(rows: list[Any]) -> Any:
    class Again:
        def __iter__(self) -> Iterator[Any]:
            return iter(rows)

    return Again()


class Columns:
    """What is needed of a Hugging Face data set."""

    column_names = ("x", "label")

    def __len__(self) -> int:
        return N

    def __getitem__(self, key: Any) -> Any:
        return Y.tolist() if key == "label" else {"x": X[key].item(), "label": Y[key].item()}


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_hugging_face_data_set_is_read_by_its_columns(real: bool) -> None:
    rows: Any = Columns()
    if real:
        datasets = pytest.importorskip("datasets")
        rows = datasets.Dataset.from_dict({"x": X.tolist(), "label": Y.tolist()})
    examples = examples_of("train", rows, target="label")
    assert examples.about == ("columns x, label",)
    assert examples.labels is not None
    assert examples.labels.tolist() == Y.tolist()
    inputs, target = Stream(Reader([(examples, range(N))], 0), InOrder("train", N, 4))[1]
    assert inputs["x"].tolist() == [4, 5, 6, 7]
    assert inputs.keys() == {"x"}
    assert target.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="target names a key of the examples, which are x, label; got 'y'"):
        Stream(Reader([(examples_of("train", rows, target="y"), range(N))], 0), InOrder("train", N, 4))[0]


def test_a_loader_says_how_but_not_in_which_order() -> None:
    def doubled(items: list[Any]) -> tuple[Tensor, ...]:
        return tuple(2 * part for part in default_collate(items))

    sampler = WeightedRandomSampler([1.0] * N, N)
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, collate_fn=doubled, num_workers=2, sampler=sampler)
    examples = examples_of("train", loader)
    assert (examples.batch_size, examples.workers, len(examples)) == (5, 2, N)
    assert examples.about == ("shuffled passes instead of train's WeightedRandomSampler",)
    assert stream(loader)[0][0].tolist() == (2 * stream((X, Y))[0][0]).tolist()
    with pytest.raises(ValueError, match="train is a DataLoader of batches: give it a batch_size"):
        examples_of("train", DataLoader(TensorDataset(X, Y), batch_size=None))


class Listed:
    """A sampler that says which examples it takes only while it is read."""

    def __init__(self, items: list[Any]):
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def test_examples_that_a_sampler_leaves_out_are_not_read() -> None:
    """Else those for validation and test would be trained on."""
    pairs, some = TensorDataset(X, Y), [7, 2, 3]
    samplers = [SubsetRandomSampler(some), SubsetRandomSampler(torch.tensor(some))]
    samplers += [WeightedRandomSampler([float(i in some) for i in range(N)], N)]
    loaders = [DataLoader(pairs, batch_size=2, sampler=sampler) for sampler in samplers]
    loaders += [DataLoader(pairs, batch_sampler=BatchSampler(samplers[0], 2, False))]
    for loader in loaders:
        examples = examples_of("train", loader)
        read = [examples[i][0].item() for i in range(len(examples))]
        assert sorted(read) == sorted(some)
        assert examples.labels is not None
        assert examples.labels.tolist() == [Y[int(i)] for i in read]
        assert examples.batch_size == 2
    assert len(examples_of("train", DataLoader(pairs, 2, sampler=SequentialSampler(range(4))))) == 4
    whole = ([*range(N)], [[*range(4)], [*range(4, N)]])
    assert len(examples_of("train", DataLoader(pairs, sampler=Listed(whole[0])))) == N
    assert len(examples_of("train", DataLoader(pairs, batch_sampler=Listed(whole[1])))) == N
    assert len(examples_of("train", DataLoader(pairs, 4, sampler=RandomSampler(pairs, num_samples=4), drop_last=True))) == N
    says = r"^train's Listed takes 4 of 10 examples in a pass: say which there are with torch.utils.data.Subset"
    for loader in (
        DataLoader(pairs, sampler=Listed([0, 1, 5, 6])),
        DataLoader(pairs, batch_sampler=Listed([[0, 1], [5, 6]])),
    ):
        with pytest.raises(ValueError, match=says):
            examples_of("train", loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_example_that_raises_is_named(workers: int) -> None:
    says = r"^example 7 of train raised KeyError: 'seven\\nis missing' at .*test_stream.py:\d+"
    with pytest.raises(Blamed, match=says) as error:
        list(in_order(Broken(), workers))
    assert "is missing" in str(error.value.__cause__)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_process_that_dies_is_told_with_its_example() -> None:
    with pytest.raises(ValueError, match="a process that was reading example 7 of train ended: it was killed"):
        list(in_order(Broken(dies=True), 2))


@pytest.mark.parametrize(
    "error", [RuntimeError("DataLoader worker (pid 12) is killed"), EOFError(), ConnectionResetError()]
)
def test_images_whose_reader_died_are_one_line(error: Exception) -> None:
    def batches() -> Iterator[Tensor]:
        raise error
        yield

    with pytest.raises(ValueError, match=r"^a process that was reading images ended: it was killed"):
        list(image_stream._plainly(batches()))
    with pytest.raises(RuntimeError, match="another"):
        list(image_stream._plainly(map(raising, [RuntimeError("another")])))


def raising(error: Exception) -> Tensor:
    raise error


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError(), FileNotFoundError(2, "gone")])
def test_a_process_that_dies_with_a_batch_in_its_hands_is_told_alike(error: Exception) -> None:
    class Batches:
        _workers = (SimpleNamespace(pid=11, is_alive=lambda: True), SimpleNamespace(pid=12, is_alive=lambda: False))

        def __next__(self) -> None:
            raise error

    batches = in_order(Broken(), 2)
    batches._batches = Batches()  # type: ignore[assignment]
    batches.reader.at = torch.tensor([[11, 0, 3], [12, 0, 5]])
    with pytest.raises(Blamed, match="a process that was reading example 5 of train ended: it was killed"):
        batches[0]


class Short(Ordered):
    def __len__(self) -> int:
        return N + 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "train is a tuple or mapping of tensors .* again and again; got int"),
        ({"a": 1}, "the parts of train, a dict, are tensors or arrays .*; got int"),
        ((X.tolist(), Y.tolist()), r"parts of train, a tuple, are tensors or arrays .* such as torch.tensor\(.*; got list"),
        ((X, Y.tolist()), "got Tensor, list"),
        ("train.csv", "got str"),
        ((torch.zeros(3), torch.zeros(4)), r"train has tensors of one length; got \[3, 4\]"),
        ([(1, 2)], "train holds at least 2 examples; got 1"),
        ((i for i in range(3)), "this generator is used up after one: give an object whose __iter__ begins anew"),
        ([1, 2, 3, 4, 5, 6], r"an example of train is \(input, ..., target\) or a mapping; got Tensor"),
        ([(torch.zeros(i + 1), 0) for i in range(4)], r"^putting together examples .* of train raised RuntimeError: stack"),
        (Short(), "train has ended after 10 examples; it said that it has 11"),
    ],
)
def test_what_cannot_be_read_is_said(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        list(map(stream(given).__getitem__, range(3)))
    assert "\n" not in str(error.value)


def test_every_class_is_in_every_part() -> None:
    labels = torch.tensor([0] * 80 + [1] * 10 + [2] * 3 + [3] * 2 + [4])
    parts = split(96, [0.15, 0.2], 0, labels)
    assert sorted(index for part in parts for index in part) == list(range(96))
    counts = [torch.bincount(labels[part], minlength=5).tolist() for part in parts]
    assert [count[:3] for count in counts] == [[52, 6, 1], [12, 2, 1], [16, 2, 1]]
    assert split(96, [0.15, 0.2], 0, labels) == parts != split(96, [0.15, 0.2], 1, labels)
    assert split(96, [0, 0.2], 0, labels)[1] == []
    assert [len(part) for part in split(40, [0.15, 0.2], 0, torch.arange(40))] == [26, 6, 8], "no class has enough"
    assert split(5, [0.4, 0.4], 0, torch.zeros(5, dtype=torch.int64)) != [[], [], []]


def test_what_counts_as_classes() -> None:
    for values in (None, ["a", "b"], [0.5, 1.0], [-1, 0], torch.zeros(3, 2, dtype=torch.int64), [None, 1], []):
        assert as_labels(values) is None
    assert as_labels(np.array([1, 0], dtype=np.uint8)).dtype == torch.int64  # type: ignore[union-attr]


def test_files_of_arrays_stay_files(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X.numpy())
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    examples = examples_of("train", (x, Y.numpy()))
    assert isinstance(examples, Arrays)
    assert equal(stream((x, Y.numpy()))[0], stream((X, Y))[0])


def misshapen() -> Tensor:
    return torch.nn.Linear(3, 2)(torch.zeros(4, 5))


def test_blame_names_the_users_own_line() -> None:
    line = misshapen.__code__.co_firstlineno + 1
    says = rf"^the model raised RuntimeError: .* at .*test_stream.py:{line}; ENAS_TRACEBACK=1"
    with pytest.raises(ValueError, match=says), blamed("the model"):
        misshapen()
    for error in (torch.OutOfMemoryError("no memory"), MemoryError(), Blamed("said already"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, blamed("the model"):
            raise error
        assert caught.value is error
    # this package's own words
    with pytest.raises(ValueError, match=r"^train is"), blamed("the model"):
        examples_of("train", 3)
    with pytest.raises(Blamed, match=r"the loss raised ValueError: x{200}\.\.\. at"), blamed("the loss"):
        raise ValueError("x" * 300)


def drawn() -> tuple[float, ...]:
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_random_numbers_are_put_back() -> None:
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = drawn()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with reading("a"):
        first = drawn()
    assert drawn() == expected
    with reading("a"):
        assert drawn() == first != expected
