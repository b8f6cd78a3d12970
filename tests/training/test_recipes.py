"""Every FreiHAND recipe builds and merges its branches; one of each family also trains and exports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="recipes need the training extra")
pytest.importorskip("lightning_fabric", reason="recipes need the training extra")

from freihand_files import write_freihand  # noqa: E402

from handmesh.export.onnx import export_mesh  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.models.checkpoint import load_network  # noqa: E402
from handmesh.models.mesh_net import HandNet, backbone_names  # noqa: E402
from handmesh.training.config import MeshConfig, read_config  # noqa: E402
from handmesh.training.engine import train  # noqa: E402
from handmesh.training.mesh import MeshTask  # noqa: E402

RECIPES = {path.stem: path for path in sorted(Path("configs/freihand").glob("*.yaml")) if path.stem != "base"}
SMALL = ["--run.schedule", "1", "64", "2", "--run.precision", "32-true", "--run.accelerator", "cpu"]
OFFLINE = ["--network.no-pretrained", "--hand-model", "None", "--teacher", "None", "--data.workers", "0"]
SIZE_PX = 64
TRIED = {
    "fastvit_sa12": [],  # convolutions and attention
    "repvit_m0_9": [],
    "fastvit_ma36_pooled": ["--network.backbone", "fastvit_t8"],
}


@pytest.fixture(scope="module")
def freihand(tmp_path_factory) -> Path:
    return write_freihand(tmp_path_factory.mktemp("freihand"), rows=4, evaluation=2)


def test_every_fastvit_and_repvit_of_the_table_has_a_recipe():
    table = [f"fastvit_{name}" for name in ("t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36")]
    table += [f"repvit_m{name}" for name in ("0_9", "1_0", "1_1", "1_5", "2_3")]
    assert set(table) <= RECIPES.keys() and set(table) <= set(backbone_names())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_and_merges(name):
    """On torch's device without memory: shapes alone, which is what differs between networks of one family."""
    config = read_config(MeshConfig, RECIPES[name], OFFLINE)
    with torch.device("meta"), torch.no_grad():
        network, image = HandNet(config.network).eval(), torch.empty(2, 3, SIZE_PX, SIZE_PX)
        merged = network.reparameterised()
        pairs = list(zip(network(image), merged(image), strict=True))
    assert [ours.shape for ours, _ in pairs if ours is not None] == [
        theirs.shape for _, theirs in pairs if theirs is not None
    ]
    assert size(merged) < size(network)
    told = re.search(rf"`freihand/{name}.yaml` \|[^|]*\| ([\d.]+) \|", Path("docs/researchers.md").read_text())
    assert told[1] == f"{size(merged) / 1e6:.1f}"


@pytest.mark.parametrize("name", TRIED)
def test_a_recipe_trains_merges_and_exports(name, freihand, tmp_path):
    """One of each family and head; the pooled head on a small backbone."""
    data = ["--data.freihand", str(freihand), "--validation-size", "2", *TRIED[name]]
    config = read_config(MeshConfig, RECIPES[name], [*SMALL, *OFFLINE, *data, "--run.out", str(tmp_path)])
    network = load_network(train(MeshTask(config), config.run, config.optimiser))
    image = torch.rand(2, 3, SIZE_PX, SIZE_PX)
    with torch.no_grad():
        pairs = list(zip(network(image), network.reparameterised()(image), strict=True))
    said = [pair for pair in pairs if pair[0] is not None]
    assert all((ours - merged).abs().max() <= 1e-4 * ours.abs().max() for ours, merged in said)
    export_mesh(network, HandModel.load(), tmp_path / "mesh.onnx", SIZE_PX, config.box_scale, name)  # compares
    assert (tmp_path / "mesh.onnx").stat().st_size > 1e6


def size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_validation_goes_where_the_network_is(freihand):
    """A GPU's stand-in: the batches are made on the CPU, the network lies elsewhere."""

    class Elsewhere(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(1, device="meta"))

        def forward(self, image):
            raise InterruptedError(image.device.type)

    data = ["--data.freihand", str(freihand), "--validation-size", "2"]
    task = MeshTask(read_config(MeshConfig, RECIPES["repvit_m0_9"], [*SMALL, *OFFLINE, *data]))
    with pytest.raises(InterruptedError, match="meta"):
        task.validate(Elsewhere())
