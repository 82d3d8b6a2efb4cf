"""`enas check`: what is whole passes, and each thing that can break is found and said in words."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from documented import ROOT, python_blocks
from enas.cli.main import main
from enas.grading.case import EXAMPLES, LAWS, Asked
from enas.grading.check import check, kind_of
from enas.grading.laws import covering
from enas.reports.drawing.text import to_text
from enas.tasks.problem import problem_of
from laws import FULL, SMALL, one_line

# Problems that break one law each. `problem` fills in what is not said.
BROKEN = """
from random import SystemRandom
import numpy, torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset
import enas
from enas import OneOf, Repeat, SomeOf

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
SEEN = []

def lin(to=4):
    return nn.Linear(4, to)

class Fn(nn.Module):
    def __init__(self, f, **modules):
        super().__init__()
        self.f = f
        for name, module in modules.items():
            self.add_module(name, module)
    def forward(self, *x):
        return self.f(self, *x)

def problem(*parts, **more):
    more = {"train": (X, Y), "reward": enas.rewards.accuracy, "batch_size": 12, **more}
    return enas.Problem(lambda: nn.Sequential(lin(), *[p() for p in parts], lin(3)), **more)

def act():
    return OneOf("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})

def of(**options):
    return lambda: OneOf("c", {name: make() for name, make in options.items()})

def good():
    return problem(act, of(a=lin, b=nn.Identity))

def unused():
    return problem(act, lambda: Fn(lambda self, x: x, extra=lin()))

def shape():
    return problem(of(four=lin, five=lambda: lin(5), skip=nn.Identity))

def depth():
    return problem(lambda: Repeat("depth", [lin(), lin(5)]))

def random():
    return problem(of(a=nn.ReLU, b=lambda: Fn(lambda self, x: F.dropout(x, 0.5))))

def infinite():
    return problem(of(a=nn.ReLU, b=lambda: Fn(lambda self, x: x.abs().neg().log())))

def vector():
    return problem(act, loss=lambda out, y: F.cross_entropy(out, y, reduction="none"))

def explodes():
    return problem(act, optimizer={"kind": "sgd", "learning_rate": 1e30, "grad_clip": 1e30})

def constant():
    return problem(act, reward=lambda model, batches: 0.5)

def unread():
    right = lambda out, y: float((out[:, :1].argmax(1) == y).float().mean())
    return problem(act, reward=enas.rewards.of(right))

def few_rewarded():  # two examples: accuracies are equal by chance, and always by weights of zero
    def zero():
        last = lin(3)
        nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
        return last
    parts = (X[4:], Y[4:]), (X[:2], Y[:2]), (X[2:4], Y[2:4])
    return enas.Problem(lambda: nn.Sequential(lin(), act(), zero()), *parts)

def nan_reward():
    return problem(act, reward=lambda model, batches: float("nan"))

def untargeted():
    return problem(act, reward=lambda model, batches: float(sum(model(x).mean() for x, y in batches)))

def fails():
    return problem(act, of(a=nn.ReLU, b=lambda: Fn(lambda self, x: x[:, 9])))

def remembers(self, x):
    if self.training:
        SEEN.append(0)
        return x * len(SEEN)
    return x

def outside():
    return problem(of(a=nn.ReLU, b=lambda: Fn(remembers)))

def leak():
    def c():
        a = lin()
        return OneOf("c", {"a": a, "b": Fn(lambda self, x, others=[a]: others[0](x).tanh())})
    return problem(c)

def in_place():
    return problem(act, lambda: SomeOf("c", {"relu": nn.ReLU(inplace=True), "same": nn.Identity()}, k=2), act2)

def act2():
    return OneOf("act2", {"relu": nn.ReLU(inplace=True), "tanh": nn.Tanh()})

def in_place_alone():
    return problem(act2)

def in_place_gradient():
    def c():
        return Fn(lambda self, x: self.c(x.tanh()), c=OneOf("c", {"relu": nn.ReLU(inplace=True), "same": nn.Identity()}))
    return problem(c)

def one():
    return problem(of(a=lin))

def same_test():
    x = torch.randn(30, 4)
    return problem(act, valid=(x[:20], Y[:20]), test=(x[15:], Y[:15]))

def same_object():
    examples = list(zip(X, Y))
    return problem(act, train=examples, valid=examples)

def subsets():
    examples = list(zip(X, Y))
    return problem(act, train=Subset(examples, range(30)), valid=Subset(examples, range(29, 50)))

def apart():
    examples = list(zip(X, Y))
    return problem(act, train=Subset(examples, range(30)), valid=Subset(examples, range(30, 50)), test=(X[50:], Y[50:]))

def with_nan(*parts, **more):
    x = X.clone()
    x[40, 2] = float("nan")
    return problem(act, *parts, valid=(X + 1, Y), test=(x, Y), **more)

def nan_example():
    return with_nan()

def nan_cared_for():
    return with_nan(lambda: Fn(lambda self, x: x.nan_to_num()))

def wrong_label():
    y = Y.clone()
    y[50] = 7
    return problem(act, valid=(X + 1, y), test=(X + 2, Y))

def trained_nan():
    return enas.Problem(lambda: nn.Sequential(act(), lin(3)), train=with_nan().test, valid=(X, Y), test=(X + 2, Y))

def numpy_weights():
    def c():
        layer = lin()
        layer.weight.data = torch.tensor(numpy.random.randn(4, 4), dtype=torch.float32)
        return layer
    return problem(act, c)

class Noisy(Dataset):
    def __len__(self):
        return 30
    def __getitem__(self, i):
        return X[i] + SystemRandom().random(), Y[i]

def system_data():
    return problem(act, train=Noisy())

def moves():
    def count(self, x):
        self.seen.add_(1)
        return x
    def c():
        part = Fn(count)
        part.register_buffer("seen", torch.zeros(()))
        return part
    return problem(of(a=nn.ReLU, b=c))

def no_gradient():
    return problem(of(a=nn.ReLU, b=lambda: Fn(lambda self, x: x.detach())), lambda: Fn(lambda self, x: x.detach()))
"""

CASES = {
    "unused": ("every parameter is used", "'2.extra.weight' and 1 more gets a gradient from no architecture"),
    "shape": (
        "parts of a choice fit each other",
        "OneOf 'c': for an input of shape 12x4, 'four' gives 12x4 and 'five' gives 12x5; parts of one choice",
    ),
    "depth": (
        "parts of a choice fit each other",
        "Repeat 'depth': for an input of shape 12x4, '0' gives 12x4 and '1' gives",
    ),
    "random": ("evaluation is deterministic", "architecture c=b gives other numbers when it is evaluated again"),
    "infinite": ("the loss is finite", "the loss of architecture c=b is nan"),
    "vector": ("each architecture builds and runs", "the loss is a tensor of one number; got a tensor of shape (12,)"),
    "explodes": ("the loss stays finite in training", "after "),
    "constant": ("the reward tells one from another", "the reward is 0.5 for every architecture"),
    "unread": ("the reward tells one from another", "for every architecture, with other weights and with random outputs"),
    "nan_reward": ("the reward tells one from another", "a reward is a finite number; got nan"),
    "untargeted": ("the reward tells one from another", "the same with random targets"),
    "fails": ("each architecture builds and runs", "IndexError: index 9 is out of bounds"),
    "outside": (
        "a child computes what the supernet computes",
        "the child of architecture c=b computes, in training, other",
    ),
    "leak": ("gradients stay within an architecture", "training architecture c=b sends a gradient to '1.a."),
    "in_place": ("inputs are not changed in place", "part 'relu' of SomeOf 'c' changes its input in place"),
    "in_place_gradient": ("inputs are not changed in place", "part 'relu' of OneOf 'c' changes its input in place"),
    "one": ("there is something to choose", "there is one architecture only"),
    "same_test": ("the parts of the data are apart", "the validation and the test part share 5 examples"),
    "same_object": ("the parts of the data are apart", "the train and the validation part share "),
    "subsets": ("the parts of the data are apart", " part share 1 examples"),
    "nan_example": ("each example has a finite loss", "example 40 of test, which holds nan: the loss is nan"),
    "wrong_label": ("each example has a finite loss", "example 50 of valid: architecture "),
    "trained_nan": ("each example has a finite loss", "example 40 of train, which holds nan: the loss is nan"),
    "numpy_weights": ("one seed gives one result", "weight '2.weight' begins otherwise when the network is made again"),
    "system_data": ("one seed gives one result", "a training batch holds other examples"),
    "moves": ("evaluation is deterministic", "evaluating architecture c=b changes '1.b.seen'"),
    "no_gradient": ("every parameter is used", "'0.weight' and 1 more gets a gradient from no architecture"),
}
# findings that come with it
MORE = dict.fromkeys(("shape", "depth", "in_place", "in_place_gradient", "trained_nan"), 1)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The module of broken problems, found as a user's is."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken_problems.py").write_text(BROKEN)
    sys.path.insert(0, str(folder))
    yield "broken_problems"
    sys.path.remove(str(folder))
    del sys.modules["broken_problems"]


def findings(what: str, architectures: int = 6, seed: int = 0, data: Path | None = None) -> dict[str, str]:
    """What does not hold, by law."""
    results = check(what, Asked(architectures, seed), data, to_text)
    return {result.law: result.finding for result in results if result.finding is not None}


def test_what_was_not_asked_is_not_called_held(broken: str) -> None:
    tried = {result.law: result.tried for result in check(f"{broken}:fails", Asked(6), None, to_text)}
    assert not tried["every parameter is used"]  # one architecture does not run
    assert tried["each architecture builds and runs"]
    assert all(result.tried for result in check(f"{broken}:constant", Asked(6), None, to_text))


@pytest.mark.parametrize("name", CASES)
def test_what_breaks_is_found_and_said(name: str, broken: str) -> None:
    found = findings(f"{broken}:{name}")
    law, says = CASES[name]
    assert law in found, found
    assert says in found[law]
    assert len(found) <= 1 + MORE.get(name, 0), found


@pytest.mark.parametrize("name", ["good", "in_place_alone", "apart", "few_rewarded", "nan_cared_for"])
def test_what_is_whole_passes(name: str, broken: str) -> None:
    for seed in (0, 1):
        assert findings(f"{broken}:{name}", seed=seed) == {}


def test_a_finding_says_which_choice_it_comes_from(broken: str) -> None:
    found = findings(f"{broken}:fails", architectures=8)["each architecture builds and runs"]
    assert found.endswith("(all with c=b)"), found


@pytest.mark.slow
def test_the_examples_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in python_blocks(ROOT / "README.md") if "# my_project.py" in block]
    (tmp_path / "checked_project.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    for what in ("checked_project:problem", "tabular:problem"):
        assert findings(what) == {}
    problem_of.cache_clear()


def test_the_command_says_what_it_found(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{broken}:good", "--architectures", "2"]) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said
    assert said.endswith(f"all laws hold for {broken}:good\n")
    assert main(["check", f"{broken}:constant", "--architectures", "2"]) == 1
    said = capsys.readouterr().out
    assert "FAILED  the reward tells one from another (2 architectures)\n        the reward is 0.5 for every" in said
    assert said.endswith(f"1 law does not hold for {broken}:constant\n")
    for wrong, says in (
        ([f"{broken}:lin"], "makes a network; a function that returns enas.Problem"),
        ([f"{broken}:X"], "is Tensor: a problem, space"),
        ([f"{broken}:Noisy"], "is a class that is no strategy"),
        (["nothing"], "is not registered"),
        ([f"{broken}:good", "--architectures", "0"], "--architectures is at least 1"),
        ([f"{broken}:good", "--max-time", "soon"], "a time is a number"),
        ([f"{broken}:good", "--data", "."], "brings its own data"),
    ):
        assert main(["check", *wrong]) == 2, wrong
        assert says in capsys.readouterr().err


def test_time_bounds_what_is_looked_at(broken: str) -> None:
    results = list(check(f"{broken}:good", Asked(16, seconds=0.0), None, to_text))
    assert {result.about for result in results if result.law in LAWS} == {"2 architectures"}
    for seconds, read in ((0.0, "9 of 60 examples"), (30.0, "60 examples")):
        results = list(check(f"{broken}:good", Asked(2, seconds=seconds), None, to_text))
        assert [result.about for result in results if result.law == EXAMPLES] == [read]


@pytest.mark.parametrize("space", [*SMALL.values(), *FULL.values()], ids=[*SMALL, *(f"{name}-full" for name in FULL)])
def test_every_option_is_among_the_architectures(space: object) -> None:
    import random

    archs = covering(space, random.Random(0))  # type: ignore[arg-type]
    assert len(set(archs)) == len(archs)
    for decision in space.decisions:  # type: ignore[attr-defined]
        asked = [arch.choices[decision.name] for arch in archs if decision.name in arch.choices]
        for option in decision.options:
            if any(decision.contains(answer, option) for answer in decision.answers()):
                taken = any(decision.contains(answer, option) for answer in asked)
                assert taken or space.limit is not None, (decision.name, option)  # type: ignore[attr-defined]


# ------------------------------------------------------------------- spaces, ops, strategies, data
PARTS = """
from dataclasses import dataclass
import torch
from torch import nn
from enas.data.digits import load_digits
from enas.networks.ops import SeparableConv
from enas.spaces.conv_micro import ConvMicroSettings, conv_micro
from enas.spaces.cells import Cell, Edge, Node
from enas.spaces.decisions import OpChoice
from enas.spaces.space import SearchSpace
from enas.state import State
from enas.strategies.random_search import RandomSearch
from enas.strategies.reinforce import Reinforce
from enas.strategies.settings import ReinforceSettings
from enas.tasks.image_classification import ImageClassification

def address(edge, position):
    return f"cells.{position}.{edge.node}.{edge.slot}.{edge.input}.{edge.op}"

def space_of(ops, address=address, recorded={}):
    node = Node("n2", (Edge("prev", OpChoice(ops)), Edge("prev_prev", OpChoice(ops))))
    cells = (Cell(name, ("prev_prev", "prev"), (node,)) for name in ("normal", "reduce"))
    return SearchSpace.of_cells("mine", tuple(cells), settings=recorded, backbone="micro", address=address)

@dataclass(frozen=True)
class Ops:
    ops: tuple[str, ...] = ("max_pool_3x3", "avg_pool_3x3")

def good_space(settings: Ops):
    return space_of(settings.ops, recorded={"ops": settings.ops})

def unknown_op():
    return space_of(("sep_conv_3x3", "warp"))

def good_op(channels, stride, norm):
    return SeparableConv(channels, stride, norm, 3, times=1)

def no_stride(channels, stride, norm):
    return nn.Conv2d(channels, channels, 3, 1, 1)

def in_place_op(channels, stride, norm):
    return nn.Sequential(nn.ReLU(inplace=True), nn.AvgPool2d(stride))

def no_module(channels, stride, norm):
    return torch.relu

def softsign(x):
    return x / (1 + x.abs())

def halved(x):
    return x[:, ::2]

class Good(RandomSearch):
    pass

class Learner(Reinforce):
    def __init__(self, space, settings: ReinforceSettings, seed=0):
        super().__init__(space, settings, seed)

class Lazy(RandomSearch):
    learns = True

class Unseeded(RandomSearch):
    def ask(self, n):
        import random
        return [self.space.sample(random) for _ in range(n)]

class Few(RandomSearch):
    def ask(self, n):
        return super().ask(max(1, n - 1))

class Stateless(RandomSearch):
    def state(self):
        return State()
    def load(self, state):
        pass

class NoState:
    learns = False
    def ask(self, n): ...
    def tell(self, archs, rewards): ...

def good_data(train=None):
    return load_digits(100, 100, 200)

def with_folder(folder):
    return load_digits(100, 100, 200)

def leaky_data():
    import dataclasses
    data = load_digits(100, 100, 200)
    return dataclasses.replace(data, test=data.validation)

class GoodTask(ImageClassification):
    pass
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "own_parts.py").write_text(PARTS)
    sys.path.insert(0, str(folder))
    yield "own_parts"
    sys.path.remove(str(folder))
    del sys.modules["own_parts"]


SLOW = ("reinforce", "conv_micro", "conv_macro", "nasbench201", "rnn_cell", "conv_5x5", "digits", "topics")
GOOD = {
    "good_space": "space",
    "good_op": "op",
    "softsign": "op",
    "Good": "strategy",
    "Learner": "strategy",
    "good_data": "data set",
    "GoodTask": "task",
}


def test_what_a_path_leads_to(parts: str) -> None:
    for name, kind in GOOD.items():
        assert kind_of(f"{parts}:{name}")[0] == kind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softsign", "Learner"])  # tests/test_plugins.py has more of them
def test_a_good_part_passes(name: str, parts: str) -> None:
    assert findings(f"{parts}:{name}", architectures=2) == {}


BAD = {
    "no_stride": ("it keeps channels and input, and halves at stride 2", "at stride 2 (2, 6, 8, 8) becomes (2, 6, 8, 8)"),
    "in_place_op": ("it keeps channels and input, and halves at stride 2", "the op changes its input in place"),
    "halved": ("it keeps the shape", "(3, 4) becomes (3, 2)"),
    "Lazy": ("it learns where it says so", "tell changes nothing"),
    "Unseeded": ("one seed gives one result", "draw from generators seeded by `seed`"),
    "Few": ("it asks for architectures of its space", "ask(3) returns 3 architectures; got 2"),
    "Stateless": ("it goes on after it was saved and loaded", "state() holds all that ask and tell read"),
    "NoState": ("it has learns, ask, tell, state and load", "lacks state, load"),
    "leaky_data": ("the parts of the data are apart", "the validation and the test part share 100 examples"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_part_is_found(name: str, parts: str) -> None:
    results = check(f"{parts}:{name}", Asked(2), None, to_text)
    law, says = BAD[name]
    for result in results:
        if result.law == law:
            assert says in str(result.finding)
            return
    pytest.fail(f"'{law}' is not asked")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unknown_op", "an op is one of"),
        ("no_module", "made builtin_function_or_method"),
        ("with_folder", "read from a folder"),
    ],
)
def test_what_cannot_be_built_is_one_line(name: str, says: str, parts: str) -> None:
    with one_line(ValueError, says):
        for result in check(f"{parts}:{name}", Asked(2), None, to_text):
            if result.finding is not None and says in result.finding:
                raise ValueError(result.finding)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["evolution", "sigmoid", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_registered_names_are_checked_alike(name: str) -> None:
    assert findings(name, architectures=2) == {}


def test_a_time_of_asking_is_a_value() -> None:
    assert dataclasses.asdict(Asked()) == {"architectures": 16, "seed": 0, "seconds": 30.0}
