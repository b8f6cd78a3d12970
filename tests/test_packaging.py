"""What goes out: the locked core install, and a description that needs no clone beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements-core.txt").read_text()
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.M)


def test_the_lock_agrees_with_the_constraints():
    """`make lock` renews it."""
    constraints = dict(PIN.findall((ROOT / "constraints.txt").read_text()))
    locked = dict(PIN.findall(LOCK))
    assert locked and {name: constraints.get(name) for name in locked} == locked


def test_the_lock_has_every_package_of_the_core():
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"[\w.-]+", each)[0].lower() for each in core} <= dict(PIN.findall(LOCK)).keys()


def test_the_lock_is_hashes_and_names_no_host():
    for requirement in re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", LOCK, flags=re.M).strip()):
        pin, *hashes = requirement.split(" \\\n    ")
        assert PIN.fullmatch(pin) and hashes, pin
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each.strip()) for each in hashes), pin
    assert "://" not in LOCK


@pytest.fixture(scope="module")
def description(tmp_path_factory) -> str:
    """The long description that a wheel made here has."""
    setuptools = pytest.importorskip("setuptools", reason="what builds wheels")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("pyproject.toml asks for setuptools 77")
    folder = tmp_path_factory.mktemp("metadata")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "THIRD_PARTY.md"):
        shutil.copy(ROOT / name, folder)
    make = "import sys; from setuptools.build_meta import prepare_metadata_for_build_wheel as make; make(sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, "."], cwd=folder, check=True, capture_output=True)
    (metadata,) = folder.glob("*.dist-info/METADATA")
    return message_from_string(metadata.read_text(encoding="utf-8")).get_payload()


def test_the_description_needs_no_clone(description):
    """No picture, and no link to a file: an index's page has only the text."""
    assert "# handmesh" in description and "docs/model_card.md" in description
    assert re.findall(r"\]\((?!https?:|#)", description) == []


def test_the_description_is_rendered_by_an_index(description):
    markdown = pytest.importorskip("readme_renderer.markdown", reason="pip install 'readme_renderer[md]'")
    page = markdown.render(description)
    assert page and "<table>" in page and "<img" not in page
