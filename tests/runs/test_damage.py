"""The table of damage: each file of a run, damaged in each way, met by each command. What a command
relies on is refused in one line that names the file, or the checkpoint before it is used, which a
line says; nothing is silently wrong. docs/security.md shows the table, which this test holds."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from documented import ROOT
from enas.cli.main import main
from enas.runs.checkpoint import CHECKPOINT, PREVIOUS
from enas.runs.files import read_json, write_sealed
from enas.runs.folder import RunFolder
from repeats import repeats

BEFORE = Path(__file__).parents[1] / "runs_of_before" / "digits-micro"
TRAINING = "retrain/51f6a8e91b-seed0"  # of the derived architecture
COMMANDS = ("resume", "derive", "retrain", "show", "report", "export", "compare")
FLAGS = {"compare": ("--cells", "2", "--seeds", "2")}
# What is said: "refused", "before" (the checkpoint before it is used), "noted" (a line says what
# follows), or nothing, where the command does not read the file.
TABLE = {
    "config.json": ("refused", "refused", "refused", "refused", "refused", "refused", "refused"),
    "checkpoint.safetensors": ("before", "before", "", "", "before", "", "before"),
    "metrics.jsonl": ("refused", "", "", "", "refused", "", "refused"),
    "architectures.jsonl": ("refused", "", "", "", "", "", "refused"),
    "timing.jsonl": ("noted", "", "", "", "refused", "", "refused"),
    "best.json": ("", "", "refused", "refused", "refused", "", "refused"),
    "retrained.json": ("", "", "", "", "refused", "refused", ""),
    "compare.json": ("", "", "", "", "refused", "", "refused"),
    f"{TRAINING}/config.json": ("", "", "refused", "", "refused", "refused", "refused"),
    f"{TRAINING}/result.json": ("", "", "refused", "", "", "refused", "refused"),
    f"{TRAINING}/metrics.jsonl": ("", "", "", "", "refused", "", ""),
    f"{TRAINING}/checkpoint.safetensors": ("", "", "", "", "before", "before", "before"),
}  # fmt: skip
DAMAGE = ("flipped byte", "cut in half", "empty", "missing")
# A file that is missing has not been made yet, for all that a command can know: it says so, or
# makes it.
NOT_YET = {"best.json", "retrained.json", "compare.json", f"{TRAINING}/result.json"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of an earlier version, as this version writes it."""
    run = Path(shutil.copytree(BEFORE, tmp_path_factory.mktemp("damage") / "run"))
    for file in run.rglob("*.json"):
        write_sealed(file, read_json(file))
    for file in sorted(run.rglob(CHECKPOINT)):
        with RunFolder.open(file.parent) as folder:
            state = folder.read_checkpoint()
            folder.clock("end", why="finished")
            folder.checkpoint(state)
            folder.checkpoint(state)
        assert (file.parent / PREVIOUS).exists()
    return run


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "flipped byte":
        place = len(whole) * 2 // 3
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    else:
        file.write_bytes(whole[: len(whole) // 2] if how == "cut in half" else b"")


def case(run: Path, file: str, how: str, command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage(run / file, how)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        status = main([command, str(run), *FLAGS.get(command, ())])
    err = capsys.readouterr().err
    what = f"{file}, {how}, {command}: {status}, {err!r}"
    named = [line for line in err.splitlines() if Path(file).name in line]
    assert "Traceback" not in err, what
    if how == "missing" and file in NOT_YET:
        assert status == 0 or (status == 2 and err.count("\n") == 1), what
    elif said == "refused":
        assert status == 2, what
        assert named, what
    elif said in ("before", "noted"):
        assert status == 0, what
        assert named, what
        assert len(set(err.splitlines())) == err.count("\n"), f"{what}: it is said once"
    else:
        assert status == 0, what


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("file", TABLE)
@pytest.mark.usefixtures("in_this_process")
def test_nothing_is_silently_wrong(file: str, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, said in zip(COMMANDS, TABLE[file], strict=True):
        # what is not read may be in any state; in `make soak` it is missing too
        for how in DAMAGE if said else ("cut in half", "missing")[: repeats(1, 2)]:
            run = Path(shutil.copytree(sealed, tmp_path / how / command))
            case(run, file, how, command, said, capsys)
            shutil.rmtree(run)


@pytest.mark.parametrize(
    ("file", "command"), [("best.json", "show"), ("config.json", "report"), ("metrics.jsonl", "report")]
)
def test_a_flipped_byte_is_named(
    file: str, command: str, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(sealed, tmp_path / "run"))
    case(run, file, "flipped byte", command, "refused", capsys)


def test_the_table_of_the_docs_is_this_one() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    words = {"refused": "refused", "before": "the one before is used", "noted": "noted", "": "not read"}
    for file, row in TABLE.items():
        cells = " | ".join(words[said] for said in row)
        line = f"| `{file.replace(TRAINING, 'retrain/*')}` | {cells} |"
        assert line in text.splitlines(), line
