"""`python -m handmesh`: the same as the command `handmesh`."""

import sys

from handmesh.cli import main

if __name__ == "__main__":
    sys.exit(main())
