"""All benchmarks that a CPU takes, in ten minutes: python -m benchmarks"""

import subprocess
import sys

PARTS = (
    "cells --rounds 3 --drawn 8",
    "micro --rounds 2",
    "macro --rounds 2",
    "recurrent --rounds 2 --hidden 200",
    "own --rounds 30",
    "cores --rounds 2",
    "share digits-micro",
)
# each in a process of its own: none finds the allocator or the threads as another left them
for part in PARTS:
    name, *options = part.split()
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
