"""`python -m sweeps` is the command `safesweep`."""

import sys

from sweeps.cli import main

sys.exit(main())
