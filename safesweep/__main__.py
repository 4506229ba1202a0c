"""`python -m safesweep` is the command `safesweep`."""

import sys

from safesweep.sweeps.cli import main

sys.exit(main())
