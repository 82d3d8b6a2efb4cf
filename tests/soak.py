"""`make soak`: every documented command at full size; both demos to their ends, with two seeds.

Other commands that train are given MINUTES each (`make soak MINUTES=60`; 5 if nothing is said) by
their own --max-time: they stop in good order then, and what comes after goes on from there. With 5
it takes about an hour on two cores.

Commands on CIFAR-10 and the Penn Treebank run where ENAS_DATA names a folder that has
`cifar-10-batches-py/`, `ptb/` and `nasbench/nasbench201.csv.gz`, or `unpack.py`, which writes them;
elsewhere they are named as left out. Work is done in `runs/soak`. Ends with a line per command, its
seconds and its exit status; the exit status is 1 where any failed.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

from conftest import research_data
from documented import DEMOS, ROOT, excluded, makefile, readme

WORK = ROOT / "runs" / "soak"
TRAINS = ("search", "resume", "retrain", "compare")


def prepare() -> bool:
    """An empty working folder with the data; whether real data is there."""
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "data").mkdir(parents=True)
    source = research_data()
    if source is None:
        return False
    subprocess.run([sys.executable, source / "unpack.py", WORK / "data"], check=True)
    for part in ("train", "valid", "test"):
        shutil.copy(source / "ptb" / f"{part}.txt", WORK / "data")
    for name, table in (("FILE", "nasbench201.csv.gz"), ("JSON", "nasbench_macro_cifar10.json.gz")):
        (WORK / name).write_bytes(gzip.decompress((source / "nasbench" / table).read_bytes()))
    return True


def main() -> int:
    real, minutes = prepare(), sys.argv[1] if len(sys.argv) > 1 else "5"
    demos = [line for demo in DEMOS for seed in (0, 1) for line in makefile(demo, SEED=seed)]
    last, lines = "runs/demo-text", list(demos)
    for section in readme().values():
        lines += [line for line in section if not excluded(line)]
    results, left_out = [], []
    for line in lines:
        text = line
        if line not in demos and re.match(rf"enas ({'|'.join(TRAINS)}) (?!.*--help)", line):
            text = re.sub(r" --max-time \S+", "", text) + f" --max-time {minutes}m"
        text = text.replace("RUN", last)
        words = shlex.split(text)
        if words[0] == "enas" and not real and re.search(r"--data data|FILE|JSON|runs/(cifar|ptb|nb|again)", text):
            left_out.append(line)
            continue
        if words[:2] == ["enas", "search"] and "--config" not in words:
            last = words[words.index("--out") + 1] if "--out" in words else f"runs/{words[2]}-quick/seed0"
        needs_derived = words[0] == "enas" and words[1] in ("retrain", "compare", "oracle") and last in words
        if needs_derived and not (WORK / last / "best.json").exists():
            subprocess.run([sys.executable, "-m", "enas", "derive", last], cwd=WORK, check=False)
        print(f"\n$ {text}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", *words] if words[0] == "enas" else words
        status = subprocess.run(command, cwd=WORK, env={**os.environ, "PYTHONUNBUFFERED": "1"}, check=False).returncode
        results.append((time.monotonic() - began, status, text))
    print("\nseconds  status  command")
    for seconds, status, text in results:
        print(f"{seconds:7.0f}  {status:6}  {text}")
    for line in left_out:
        print(f"left out, as it needs real data (ENAS_DATA): {line}")
    return int(any(status for _, status, _ in results))


if __name__ == "__main__":
    sys.exit(main())
