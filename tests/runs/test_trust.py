"""Code that a file names is not imported unless the user made the file, typed the name, or says
so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from enas import plugins
from enas.cli.main import main
from enas.runs.marks import marked, trust_own
from enas.spaces.published import named

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
EVIL = "import pathlib\npathlib.Path('ran').touch()\ndef thing(*args, **named): raise ValueError('it was called')\n"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module, which leaves a file when it is imported, and a run that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil_module.py").write_text(EVIL)
    run = Path(shutil.copytree(BEFORE, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    config["settings"]["strategy"] = {}
    del config["settings"]["reinforce"]
    names = {"space": "conv_micro", "network": "micro", "task": "image_classification", "strategy": "evil_module:thing"}
    (run / "config.json").write_text(json.dumps({**config, "names": names}))
    with plugins.asking(lambda path: False):
        yield tmp_path
    import sys

    sys.modules.pop("evil_module", None)


@pytest.mark.parametrize("command", ["resume", "derive", "retrain", "compare"])
def test_a_run_cannot_run_code(evil: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "run"]) == 2
    err = capsys.readouterr().err
    assert "'evil_module:thing'" in err
    assert "--trust" in err
    assert not (evil / "ran").exists()


def test_it_runs_where_the_user_says_so(evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["derive", "run", "--trust"])
    assert (evil / "ran").exists()


def test_an_architecture_cannot_run_code(evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (evil / "a.json").write_text(
        json.dumps({**json.loads(named("enas_micro").to_json()), "space": {"name": "evil_module:thing"}})
    )
    assert main(["show", "a.json"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert not (evil / "ran").exists()


def test_the_mark_of_ones_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    config = {"names": {"strategy": "my_module:Mine"}, "seed": 0}
    assert marked({"names": {"strategy": "random"}}) == {"names": {"strategy": "random"}}, "nothing to mark"
    mine = marked(config)
    key = tmp_path / "mine" / "enas" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert marked(mine) == mine

    def trusted(record: dict[str, object]) -> bool:
        with plugins.asking(lambda path: False):
            plugins.named_by_file(record)
            trust_own(record)
            try:
                plugins._check_trusted("my_module:Mine")
            except ValueError:
                return False
            return True

    assert trusted(mine)
    assert not trusted({**mine, "mark": "0" * 64})
    assert not trusted({**mine, "mark": "ü"})
    assert not trusted({"mark": mine["mark"], "names": {"strategy": "my_module:Mine", "space": "os:system"}})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "others"))
    assert not trusted(mine)
    (tmp_path / "others").write_text("no folder: there is no place for a key")
    assert "mark" not in marked(config)
