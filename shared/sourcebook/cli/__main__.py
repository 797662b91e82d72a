"""`python -m sourcebook.cli`, which is how the supervisor starts its processes."""

import sys

from sourcebook.cli import main

sys.exit(main())
