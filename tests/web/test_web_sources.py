"""What of the web pages can be told without a browser: constants, colours, packages, networks."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys

import pytest
from web_workspace import WEB

from handmesh.assets import ASSETS, bundled_models
from handmesh.render.overlay import SIDE_COLOURS


def test_constants_are_pythons():
    writer = runpy.run_path(str(WEB / "write_constants.py"))
    written = writer["FILE"].read_text()
    assert written == writer["constants"](), "write them anew: python demo/web/write_constants.py"


def test_the_styles_have_the_colours_of_the_sides():
    style = (WEB / "src" / "common" / "page.css").read_text()
    for side, colour in SIDE_COLOURS.items():
        assert f"--{side}: #{bytes(round(255 * part) for part in colour).hex()};" in style


def test_packages_are_pinned():
    package = json.loads((WEB / "package.json").read_text())
    versions = [*package["dependencies"].values(), *package["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+(-dev[.\d]+)?", version) for version in versions)
    assert '"resolved"' not in (WEB / "package-lock.json").read_text()


def test_networks_are_those_for_browsers_and_need_no_torch(tmp_path):
    """That they say the same is what test_export_targets.py and test_web_browser.py look at."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'handmesh[web]'")
    code = f"import sys, runpy; sys.modules['torch'] = None; sys.argv = ['', {str(tmp_path)!r}]"
    run = f"{code}; runpy.run_path({str(WEB / 'write_networks.py')!r}, run_name='__main__')"
    subprocess.run([sys.executable, "-c", run], check=True)
    meshes = bundled_models()
    written = {path.stem: onnx.load(path).graph for path in tmp_path.iterdir()}
    assert written.keys() == {"detector", *meshes, *(f"{name}_webgpu" for name in meshes)}
    for name, graph in written.items():
        assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in graph.initializer)
        assert any(node.op_type == "QuantizeLinear" for node in graph.node) == (name in meshes)
        size = (ASSETS / f"{name.removesuffix('_webgpu')}.onnx").stat().st_size
        assert (tmp_path / f"{name}.onnx").stat().st_size <= size
