"""`python -m sgdscope.cli`."""

import sys

from sgdscope.cli import main

sys.exit(main())
