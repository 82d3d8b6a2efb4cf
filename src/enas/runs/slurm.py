"""This module writes a command as a job array of SLURM, for clusters without Ray: one line for
`sbatch`.

Each task of the array does one job in its own folder, and in the end the command itself gathers
them. A task that is lost, or that its time limit ended, goes on from its checkpoint when SLURM or
the same line starts it again. The options are those of SLURM's manual of sbatch:

    --array      a task per index, which it finds in SLURM_ARRAY_TASK_ID
    --requeue    after the failure of a node, a task is started again
    --signal     SIGUSR1 two minutes before the time limit, to the batch shell (`B:`); `exec` puts
                 the command in the place of that shell. A run saves and ends at it
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

INDEX = "$SLURM_ARRAY_TASK_ID"
WARNED = 120  # seconds before the time limit


def without(args: Sequence[str], flags: Mapping[str, int]) -> list[str]:
    """Returns the words of a command line without some flags, and without the words that follow
    each."""
    left: list[str] = []
    skip = 0
    for word in args:
        name, equals, _ = word.partition("=")
        name = name.replace("_", "-")
        if skip:
            skip -= 1
        elif name in flags:
            skip = 0 if equals else flags[name]
        else:
            left.append(word)
    return left


def array(words: Sequence[str], flag: str, indexes: str, threads: int, gpu: bool) -> str:
    """Returns the line that submits `enas` with these words once per index. The flag gets the
    index."""
    task = f"exec enas {shlex.join(words)} {flag} {INDEX}"
    options = [f"--job-name=enas-{words[0]}", f"--array={indexes}", f"--cpus-per-task={threads}"]
    options += ["--gres=gpu:1"] if gpu else []
    options += ["--requeue", f"--signal=B:USR1@{WARNED}", f"--wrap={shlex.quote(task)}"]
    return " ".join(["sbatch", *options])


def said(line: str, gather: Sequence[str]) -> str:
    """Returns what a command prints: both lines, and what to do with them."""
    return (
        "# on the cluster, with --partition, --time and the like as it wants them; the same line again goes on\n"
        f"{line}\n# when all tasks are done, or to see what is missing\n{shlex.join(['enas', *gather])}"
    )
