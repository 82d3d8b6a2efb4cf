"""All benchmarks that a CPU takes: python -m benchmarks"""

import subprocess
import sys

# Each in a process of its own: none finds the allocator or the threads as another left them.
for module in (
    "cells",
    "micro --rounds 5",
    "macro --rounds 5",
    "recurrent --rounds 3",
    "cores --rounds 3",
    "share digits-micro",
):
    name, *options = module.split()
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
