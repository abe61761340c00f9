"""`python -m mullama` is the command `mullama`."""

import sys

from mullama._cli import main

if __name__ == "__main__":
    sys.exit(main())
