"""`python -m mullama` is the command `mullama`."""

import sys

from _mullama_command import main

if __name__ == "__main__":
    sys.exit(main())
