"""`python -m enas` and the `enas` command."""

import os
import sys


def main() -> int:
    # Threads that wait should sleep: by default they spin, and where another program runs as well,
    # a step of a small network then takes up to ten times as long (docs/log). Read when torch is
    # loaded, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from enas.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
