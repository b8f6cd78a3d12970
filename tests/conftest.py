"""Shape annotations are executed in the tests; production does not pay for them."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the machine's cores are few; thread pools fight over them

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests import ONNX Runtime themselves

# A shell's background job ignores Ctrl-C, and so would all that the tests start and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

if find_spec("jaxtyping") and find_spec("beartype"):
    from jaxtyping import install_import_hook

    checked = [
        "handmesh.hand.rotations",
        "handmesh.hand.model",
        "handmesh.models.mesh_net",
        "handmesh.models.detector_net",
    ]
    install_import_hook(checked, "beartype.beartype")
