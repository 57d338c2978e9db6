"""`python -m kvmbind`: the command line."""

import sys

from kvmbind.cli import main

sys.exit(main())
