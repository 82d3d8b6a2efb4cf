"""`python -m enas` and the `enas` command."""

import sys


def main() -> int:
    from enas.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
