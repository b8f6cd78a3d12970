"""Shape annotations are executed in the tests; production does not pay for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

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


OF_EXTRAS = {"torch", "timm", "matplotlib", "jinja2", "onnx", "safetensors", "yaml", "lightning_fabric", "websockets"}


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """A file of tests that needs a package of an extra is skipped where the extra is not installed."""
    report = yield
    error = report.call.excinfo.value.__cause__ if report.failed else None
    if isinstance(error, ModuleNotFoundError) and error.name in OF_EXTRAS:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {error.name}: pip install -e '.[train,stream]'")
    return report
