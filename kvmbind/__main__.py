"""`python -m kvmbind`: the command line."""

import sys

from kvmbind.cli import run_process

sys.exit(run_process())
