"""The command line: ``portico`` and ``python -m portico``."""

import sys

from portico import _portico


def main() -> int:
    """Runs the command line of this process and returns its exit status."""
    return _portico.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
