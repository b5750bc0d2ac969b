"""`python -m pe_dense NAME ...` is `pe-dense NAME ...`."""

import sys

from pe_dense.run.console import main

if __name__ == "__main__":
    sys.exit(main())
