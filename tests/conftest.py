"""Shape annotations are executed in the tests; production does not pay for them."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the machine's cores are few; thread pools fight over them
