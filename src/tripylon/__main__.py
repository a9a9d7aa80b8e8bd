"""`python -m tripylon`: the command line, for where the script is not on the path."""

import sys

from tripylon.cli import main

if __name__ == "__main__":
    sys.exit(main())
