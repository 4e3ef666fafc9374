"""`python -m consistory_svd` is the command line."""

import sys

from consistory_svd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
