"""What is not registered here: things at a dotted path, and those of installed packages. They go
where registered ones go."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from documented import ROOT, markdown, python_blocks
from enas.cli.commands import COMMANDS
from enas.cli.main import main
from enas.data.registry import DATASETS
from enas.networks.registry import BACKBONES
from enas.plugins import Registry, entry_of
from enas.runs.architectures import architecture_of, best_of
from enas.runs.files import read_json
from enas.runs.plan import Plan
from enas.runs.presets.registry import PRESETS, config_of
from enas.spaces.registry import OPS, SPACES, make_space, op_names
from enas.strategies.registry import STRATEGIES
from enas.tasks.registry import TASKS
from laws import one_line

PAGE = ROOT / "docs" / "plugins.md"
FEW = "--search.epochs 1 --search.warmup-epochs 0 --search.controller-steps 1 --search.architectures 2 --data.train 40"
FEW += " --task.batch-size 20 --task.reward-batch 20 --network.filters 4 --threads 1 --device cpu"
FEW += " --derive.samples 2 --derive.keep 2 --derive.finalists 0 --derive.trainings 0 --derive.uniform 0"
FEW += " --retrain.epochs 1 --retrain.network.filters 4"
REGISTRIES: tuple[Registry[object], ...] = (SPACES, BACKBONES, STRATEGIES, OPS, DATASETS, PRESETS, TASKS)  # type: ignore[assignment]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the modules of the page, in which one works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []
    for block in python_blocks(PAGE):
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(block)
        names.append(name.removesuffix(".py"))
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def installed(page: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, where a package registers them; returns its entry_points.txt, to be changed."""
    info = page / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    groups = {
        "ops": "blur = my_ops:blur",
        "spaces": "pair = my_spaces:pair",
        "strategies": "sorted = my_strategies:Sorted",
        "datasets": "halves = my_data:load",
        "tasks": "confident = my_data:Confident",
        "presets": "mine = my_data:mine",
        "networks": "large = enas.networks.micro:MicroNetwork",
    }
    points = info / "entry_points.txt"
    points.write_text("\n".join(f"[enas.{group}]\n{line}\n" for group, line in groups.items()))
    kept = {registry.group: dict(registry._entries) for registry in REGISTRIES}
    forget()
    yield points
    for registry in REGISTRIES:
        registry._entries = kept[registry.group]
    monkeypatch.undo()
    forget()


def forget() -> None:
    """The packages that were found are looked for again."""
    for registry in REGISTRIES:
        registry.__dict__.pop("_points", None)


def enas(line: str) -> int:
    return main(shlex.split(line))


def lines(command: str) -> list[str]:
    found = [line.removeprefix("enas ") for block in markdown(PAGE).values() for line in block]
    return [line for line in found if line.startswith(command) and " " in line]


def test_the_page_is_short_and_says_what_is_run() -> None:
    assert len(PAGE.read_text().splitlines()) <= 120
    assert len(lines("search")) == 5
    assert len(lines("check")) == 5


@pytest.mark.slow
def test_what_the_page_says_is_checked(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in lines("check"):
        assert enas(f"{line} --architectures 2") == 0, capsys.readouterr().out


@pytest.mark.slow
def test_what_the_page_says_is_searched(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in lines("search"):
        small = "" if "--space " in line else " --space.num-nodes 2"
        assert enas(f"{line} {FEW}{small}") == 0, capsys.readouterr().err
    names = read_json(page / "runs" / "pair" / "config.json")["names"]
    assert (names["space"], names["network"]) == ("my_spaces:pair", "micro")
    config = read_json(page / "runs" / "mine" / "config.json")
    assert config["preset"] == "my_data:mine"
    assert (config["names"]["task"], config["settings"]["data"]["dataset"]) == ("my_data:Confident", "my_data:load")
    assert Plan.of(config).task(Plan.of(config).load_data(), Plan.of(config).settings.task).about.startswith("digits: 40")


@pytest.mark.slow
def test_an_op_by_its_path_goes_the_whole_way(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a package within a package, so that its path has dots."""
    (page / "deep").mkdir()
    (page / "deep" / "ops.py").write_text((page / "my_ops.py").read_text())
    assert enas(f"search digits-micro --space.num-nodes 1 --space.ops deep.ops:blur --out run {FEW}") == 0
    assert enas("derive run") == 0
    best = best_of("run")[0]
    assert best.choices["normal.n2.op0"] == "deep.ops:blur"
    assert architecture_of(best.to_json()) == best
    assert enas("show run --out best.svg") == enas("show run --out best.txt") == 0
    assert "deep.ops:blur" in (page / "best.svg").read_text()
    assert "deep.ops:blur(prev)" in (page / "best.txt").read_text()
    plan = Plan.of(read_json(Path("run/config.json")))
    net = plan.network(plan.settings.network, plan.task(plan.load_data(), plan.settings.task))
    used = [name for name in net.used(best) if "blur" in name]
    assert used
    assert all(name.rpartition(".")[2] == "deep/ops:blur" for name in used)
    assert set(net.child(best).state_dict()) == set(net.slice(best))
    sys.modules.pop("deep.ops"), sys.modules.pop("deep")


@pytest.mark.slow
def test_an_activation_by_its_path(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (page / "acts.py").write_text("def softsign(x):\n    return x / (1 + x.abs())\n")
    few = "--search.epochs 1 --search.warmup-epochs 0 --search.controller-steps 1"
    few += " --data.train 600 --network.hidden 6 --space.num-nodes 2 --space.ops tanh acts:softsign"
    assert enas(f"search text-rnn --threads 1 --out run {few}") == 0
    assert enas(f"search text-rnn --network.computation static --out other {few}") == 2
    assert "network.computation 'static' has no activations but tanh, relu, sigmoid, identity" in capsys.readouterr().err
    sys.modules.pop("acts")


@pytest.mark.slow
def test_names_of_packages_are_registered_names(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"pair", "conv_micro"} <= set(SPACES)
    assert "blur" in op_names()
    assert len(BACKBONES) == len(list(BACKBONES))
    assert "large" in BACKBONES
    assert enas("list") == 0
    said = capsys.readouterr().out
    for name in ("pair", "sorted", "blur", "halves", "confident", "mine", "large"):
        assert name in said
    assert not {"my_ops", "my_spaces", "my_strategies", "my_data"} & sys.modules.keys()
    space = make_space("pair", SPACES["pair"].settings())
    assert space.spec == {"name": "pair"}
    line = "search digits-micro --space pair --strategy sorted --task confident --data.dataset halves --out run"
    assert enas(f"{line} {FEW}") == 0
    assert enas(f"search mine --space.num-nodes 1 --space.ops blur --out other {FEW}") == 0
    assert read_json(Path("other/config.json"))["settings"]["space"]["ops"] == ["blur"]
    assert enas("check sorted") == 0


@pytest.mark.slow
def test_listing_packages_needs_no_torch(installed: Path) -> None:
    code = "import sys; from enas.cli.main import main; main(['list']); sys.exit('torch' in sys.modules)"
    path = f"{ROOT / 'src'}:{installed.parents[1]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert "pair" in done.stdout


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (
            "[enas.spaces]\nconv_micro = my_spaces:pair",
            "package 'my-package' registers a space 'conv_micro', a name that is already registered",
        ),
        ("[enas.ops]\nconv_3x3 = my_ops:blur", "package 'my-package' registers an op 'conv_3x3'"),
        (
            "[enas.tasks]\nconfident = my_data",
            "registers a task as `name = package.module:thing`; got 'confident = my_data'",
        ),
    ],
)
def test_what_a_package_may_not_register(
    points: str, says: str, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.write_text(points)
    assert enas("list") == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("points", "registry", "says"),
    [
        ("[enas.tasks]\nx = my_ops:blur", TASKS, "'x', which cannot be used: a task is a class that inherits"),
        (
            "[enas.spaces]\nx = my_ops:blur",
            SPACES,
            "a space is a function of its `settings`, or of nothing; 'my_ops:blur' takes",
        ),
        ("[enas.presets]\nx = my_ops:blur", PRESETS, "a preset is a value"),
        (
            "[enas.strategies]\nx = my_data:mine",
            STRATEGIES,
            "a strategy is a class or a function; 'my_data:mine' is Preset",
        ),
        ("[enas.datasets]\nx = nowhere:load", DATASETS, "'nowhere:load' names a module that is not found"),
        ("[enas.ops]\nx = my_ops:warp", OPS, "names 'warp', which module 'my_ops' does not have"),
    ],
)
def test_what_cannot_be_used_names_its_package(points: str, registry: Registry[object], says: str, installed: Path) -> None:
    installed.write_text(points)
    with one_line(ValueError, "package 'my-package' registers", says):
        entry_of("it", "x", registry)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("search digits-micro --space my_ops:blur", "a space is a function of its `settings`"),
        (
            "search digits-micro --space rnn_cell",
            "network 'recurrent' does not fit task 'image_classification', whose data have",
        ),
        ("search digits-micro --space nothing", "a space is one of conv_micro"),
        ("search digits-micro --task my_ops:blur", "a task is a class that inherits from a registered one"),
        ("search digits-micro --space.ops my_ops:warp", "names 'warp'"),
        ("search digits-micro --space.ops warp", "an op is one of"),
        ("search digits-micro --space.ops my_strategies:Sorted", "an op is"),
        ("search digits-micro --data.dataset my_ops:blur", "a data set is"),
        ("search digits-micro --data.dataset nothing:load", "names a module that is not found"),
        ("search my_data:wrong", "names 'wrong'"),
    ],
)
def test_wrong_paths_are_one_line(line: str, says: str, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enas(f"{line} --out run --device cpu") == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (page / "run").exists()


def test_a_preset_whose_settings_are_of_another_space(page: Path) -> None:
    (page / "wrong.py").write_text(
        "from enas.runs.settings import Names, Preset\nfrom enas.runs.presets.micro import digits_micro_quick\n"
        "it = Preset('', Names('my_spaces:pair', 'micro', 'image_classification'), {'quick': digits_micro_quick})\n"
    )
    with one_line(ValueError, "recipe 'quick' of preset 'wrong:it' has settings ConvMicroSettings", "takes NoSettings"):
        config_of("wrong:it")
    sys.modules.pop("wrong")


BROKEN = """
from torch import nn
from enas.strategies.random_search import RandomSearch


def fails():
    raise RuntimeError("no data")


def op(channels, stride, norm):
    raise KeyError("x")


class Fails(RandomSearch):
    learns = True

    def tell(self, archs, rewards):
        raise ZeroDivisionError("tell")


class Bare:
    def __init__(self, space, seed):
        pass


class NoSeed(RandomSearch):
    def __init__(self, space):
        pass


def needs(data):
    return 3
"""
BROKEN_LINES = [
    ("search unreadable:it", "importing 'unreadable' raised SyntaxError: .* at .*unreadable.py:2"),
    ("search lacking:it", "importing 'lacking' raised ModuleNotFoundError: No module named 'not_there' at .*lacking.py:1"),
    ("cost failing:it", "importing 'failing' raised OSError: no file at .*failing.py:1"),
    ("check unreadable:it", "importing 'unreadable' raised SyntaxError"),
    ("search ./broken:fails", "named as package.module:thing, with no folder before it; got './broken:fails': go to"),
    ("search broken.py:fails", "a module is named without .py: broken:fails; got 'broken.py:fails'"),
    ("search :fails", "named as package.module:thing, .* got ':fails'"),
    ("check broken:fails", "'broken:fails' raised RuntimeError: no data at .*broken.py:7"),
    ("check broken:needs", "'broken:needs' takes data and returns int: an activation returns a tensor for a tensor"),
    ("search digits-micro --space broken:fails", "your code raised RuntimeError: no data at .*broken.py:7"),
    ("search digits-micro --data.dataset broken:fails", "your code raised RuntimeError: no data at .*broken.py:7"),
    ("search digits-micro --space.ops broken:op identity", "your code raised KeyError: 'x' at .*broken.py:11"),
    ("search digits-micro --strategy broken:Fails", "your code raised ZeroDivisionError: tell at .*broken.py:18"),
    ("search digits-micro --strategy broken:Bare", "'broken:Bare' lacks learns"),
    ("search digits-micro --strategy broken:op", "'broken:op' lacks learns"),
    ("search digits-micro --strategy broken:NoSeed", "'broken:NoSeed' takes other arguments: got an unexpected"),
]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = {"broken": BROKEN, "unreadable": "import torch\ndef it(:\n", "lacking": "import not_there\n"}
    for name, text in {**texts, "failing": "raise OSError('no file')\n"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    sys.modules.pop("broken", None)


@pytest.mark.parametrize(("line", "says"), BROKEN_LINES)
def test_errors_in_code_of_ones_own_are_one_line(
    line: str, says: str, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = f"--out run {FEW}" if line.startswith("search digits") else ""
    assert enas(f"{line} {more}") == 2
    said = capsys.readouterr().err
    assert re.search(says, said), said
    assert said.count("\n") == 1
    assert not (broken / "run").exists()


def test_errors_of_this_package_stay_as_they_are(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's was on their way."""
    monkeypatch.setitem(COMMANDS, "list", ("", partial(entry_of, "it")))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        enas("list")
