"""What only some systems have, for the tests that need it."""

import os
import sys

import pytest

UNIX = pytest.mark.skipif(os.name == "nt", reason="links, pipes and signals are as Unix has them")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc and limits are as Linux has them")
NOT_ROOT = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0,
    reason="root may write everywhere, as may who is on Windows",
)
