"""`python -m taskward` is the command `taskward`."""

import sys

from taskward.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
