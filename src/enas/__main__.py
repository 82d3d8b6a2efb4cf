"""This module starts the command line: `python -m enas`, or the command `enas`."""

import os
import sys


def main() -> int:
    # Threads that wait should sleep. By default they spin, and while another program runs as well,
    # a step of a small network then takes up to ten times as long (docs/log). torch reads this
    # variable when it is loaded, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from enas.cli.main import main as run

        return run()
    except KeyboardInterrupt:  # while it was being imported
        print("enas: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
