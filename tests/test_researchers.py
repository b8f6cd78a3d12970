"""docs/researchers.md: its recipes are those that there are, and the data set, head and loss that it adds train."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the page is about training")
pytest.importorskip("lightning_fabric", reason="the page is about training")

from drawn_hands import draw_hands, random_hand  # noqa: E402

from handmesh.cli import main  # noqa: E402
from handmesh.data.sets import SETS, read_set  # noqa: E402
from handmesh.data.sets.table import OPENGL_TO_CAMERA, SetError, keypoints_to  # noqa: E402
from handmesh.evaluation.published import FREIHAND  # noqa: E402
from handmesh.files import write_image  # noqa: E402
from handmesh.models.checkpoint import load_network, load_trained  # noqa: E402
from handmesh.models.mesh_net import HEADS, HandNet  # noqa: E402
from handmesh.training.config import DEFAULT_LOSSES, MeshConfig, read_config  # noqa: E402
from handmesh.training.losses import LOSSES  # noqa: E402
from handmesh.types import Camera  # noqa: E402

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "researchers.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
RECIPES = {preset: parameters for preset, parameters in re.findall(r"^\| `(.*?)` \|[^|]*\| ([\d.]+) \|", PAGE, re.M)}
OVER_SEEDS = {"keypoint", "three_steps", "pooled", "pooled_three_steps"}


@pytest.fixture
def own() -> Iterator[dict[str, object]]:
    """What the page's file defines. Nothing of it stays registered."""
    registries = (SETS, HEADS, LOSSES, DEFAULT_LOSSES)
    before = [dict(registry) for registry in registries]
    names: dict[str, object] = {"__name__": "mine"}
    exec("\n".join(BLOCKS), names)
    yield names
    for registry, values in zip(registries, before, strict=True):
        registry.clear()
        registry.update(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set as the page has it, and its hands."""
    root, rng, camera = tmp_path_factory.mktemp("mine"), np.random.default_rng(0), Camera.from_fov(160, 120)
    hands = [random_hand(rng, camera, side, (80.0, 60.0)) for side in ("right", "left")]
    rows = []
    for k, hand in enumerate(hands):
        write_image(root / f"{k}.png", draw_hands([hand], camera, rng)[0])
        joints = 1000 * keypoints_to(hand.joints_m, "mano") @ OPENGL_TO_CAMERA
        numbers = [camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height]
        rows.append({"image": f"{k}.png", "left": hand.side == "left", "joints": joints.tolist(), "camera": numbers})
    (root / "train.json").write_text(json.dumps(rows))
    return root, hands


def test_each_addition_takes_thirty_lines_at_most():
    assert len(BLOCKS) == 4 and max(block.count("\n") for block in BLOCKS) <= 30


def test_the_data_set_is_read_as_it_was_drawn(own, folder):
    root, hands = folder
    table = read_set("mine", root)
    assert [table.side(k) for k in range(2)] == ["right", "left"]
    np.testing.assert_allclose(table.joints_m, [hand.joints_m for hand in hands], atol=1e-6)
    np.testing.assert_allclose(table.joints_px, [hand.joints_px for hand in hands], atol=0.1)
    with pytest.raises(SetError, match=r"lacks test.json; My set is to be had at"):
        read_set("mine", root, "test")


def test_the_loss_is_that_of_bones_in_decimetres(own, folder):
    joints_m = torch.tensor(np.stack([hand.joints_m for hand in folder[1]]), dtype=torch.float32)

    def loss(factor: float, labelled: float) -> float:
        class Joints:
            has_joints_m = torch.full((2,), labelled)

        Joints.joints_m = joints_m
        prediction = type("Prediction", (), {"joints_m": factor * joints_m})
        return float(LOSSES["bones"](prediction, Joints, None))

    lengths = own["lengths_dm"](joints_m)
    assert lengths.shape == (2, 20) and 0.1 < lengths.min() < lengths.max() < 1.2
    assert loss(1.0, 1.0) == loss(1.5, 0.0) == 0
    assert loss(1.5, 1.0) == pytest.approx(0.5 * float(lengths.mean()), rel=1e-5)


def test_they_train_together_by_command(own, folder, tmp_path):
    (tmp_path / "own.yaml").write_text("run: {schedule: [[1, 64, 4]], precision: 32-true, accelerator: cpu}\n")
    words = [
        "--network.head",
        "direct",
        "--losses.bones",
        "2",
        "--data.workers",
        "0",
        "--run.out",
        str(tmp_path / "run"),
    ]
    words += ["--data.sets.mine.root", str(folder[0]), "--run.log-every", "1"]
    assert main(["train", str(tmp_path / "own.yaml"), *words]) == 0
    weights = tmp_path / "run" / "weights.safetensors"
    network, config = load_trained(weights)
    assert isinstance(network.head, own["DirectHead"]) and config["losses"]["bones"] == 2
    assert network(torch.rand(2, 3, 64, 64)).joints_crop.shape == (2, 21, 2)
    del HEADS["direct"]
    with pytest.raises(ValueError, match=r"unknown head 'direct'; choose one of keypoint, pooled"):
        load_network(weights)


def test_every_preset_is_in_the_table():
    presets = {path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert presets - RECIPES.keys() == {"freihand/base.yaml"} and RECIPES.keys() <= presets


def test_a_preset_has_the_size_that_the_table_says():
    """Those of FreiHAND are built by test_recipes, which looks here, too."""
    network = read_config(MeshConfig, ROOT / "configs" / "ablation" / "pooled.yaml").network
    with torch.device("meta"):
        merged = HandNet(network).eval().reparameterised()
    said = RECIPES["ablation/pooled.yaml"]
    assert f"{sum(parameter.numel() for parameter in merged.parameters()) / 1e6:.1f}" == said


def test_figures_of_the_ablations_are_those_of_the_experiments():
    section = (ROOT / "docs" / "experiments.md").read_text().split("## Parts of the recipe")[1].split("\n## ")[0]
    spread = r"\d+\.\d\d ± \d\.\d\d"
    there = dict(re.findall(rf"^\| `(\w+)` .*?\| ({spread} \| {spread}) \| \d+ ± \d+ \|$", section, re.M))
    found = rf"^\| `ablation/(\w+).yaml`.*?measured.*?: PA-MPJPE ({spread}), PA-MPVPE ({spread}) mm"
    here = {name: " | ".join(figures) for name, *figures in re.findall(found, PAGE, re.M)}
    assert here == there and here.keys() == OVER_SEEDS


def test_each_ablation_switches_one_part():
    def network(name: str) -> dict[str, object]:
        return vars(read_config(MeshConfig, ROOT / "configs" / "ablation" / f"{name}.yaml").network)

    def switched(name: str, base: str) -> set[str]:
        return {key for key, value in network(name).items() if value != network(base)[key]}

    assert switched("pooled", "keypoint") == switched("pooled_three_steps", "three_steps") == {"head"}
    assert switched("three_steps", "keypoint") == switched("pooled_three_steps", "pooled") == {"refinements"}
    assert switched("single_branch", "keypoint") == {"branches"}
    assert switched("small_kernels", "fastvit") == {"large_kernels"}


def test_published_figures_are_those_of_the_reports():
    there = {(row.joints_mm, row.vertices_mm) for row in FREIHAND if "FastViT-MA36" in row.method}
    here = re.findall(r"published.*?: PA-MPJPE (\S+), PA-MPVPE (\S+) mm \|", PAGE)
    assert {(float(joints), float(vertices)) for joints, vertices in here} == there
