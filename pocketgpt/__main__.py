"""`python -m pocketgpt` is the `pocketgpt` command; torchrun starts it by this name."""

import sys

from pocketgpt.cli import main

if __name__ == "__main__":
    sys.exit(main())
