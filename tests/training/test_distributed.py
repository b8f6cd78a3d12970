"""Two processes train as one: equal weights, also where samples lack labels and statistics are of the batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

torch = pytest.importorskip("torch", reason="training needs the training extra")
pytest.importorskip("lightning_fabric", reason="training needs the training extra")

from freihand_files import write_freihand  # noqa: E402

from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.models.checkpoint import load_weights  # noqa: E402
from handmesh.models.mesh_net import HandNet, NetworkConfig  # noqa: E402
from handmesh.training.config import MeshConfig, read_config  # noqa: E402
from handmesh.training.distributed import SyncedBatchNorm2d, SyncedBatchNormAct2d, synchronise_batch_norm  # noqa: E402
from handmesh.training.engine import train  # noqa: E402
from handmesh.training.mesh import MeshTask  # noqa: E402

ROOT = Path(__file__).parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def preset(tmp_path_factory) -> Path:
    """A run that moves the weights well beyond rounding, on exact labels and on images without any."""
    folder = tmp_path_factory.mktemp("parallel")
    write_freihand(folder / "freihand", rows=6, evaluation=2)
    path = folder / "preset.yaml"
    path.write_text(
        "task: mesh\n"
        "run: {schedule: [[3, 64, 4], [2, 96, 2]], precision: 32-true, accelerator: cpu, synchronise_norm: 'on'}\n"
        f"data: {{freihand: '{folder}/freihand', freihand_fraction: 0.7, backgrounds: "
        f"['{folder}/freihand/training/rgb'],"
        " background_fraction: 0.3, workers: 0}\n"
        "optimiser: {learning_rate: 0.001, warmup_steps: 1, epsilon: 0.001}\n"
        "validation_size: 2\n"
    )
    return path


def _farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    return max(float((ours[name].detach().double() - theirs[name].detach().double()).abs().max()) for name in theirs)


@pytest.fixture(scope="module")
def one(preset) -> dict[str, torch.Tensor]:
    """The weights that a single process arrives at."""
    with TemporaryDirectory() as out:  # its checkpoints are large
        config = read_config(MeshConfig, preset, ["--run.out", out])
        return load_weights(train(MeshTask(config), config.run, config.optimiser)).tensors


def test_the_run_moves_the_weights(one):
    torch.manual_seed(0)
    begun = dict(HandNet(NetworkConfig(), HandModel.load().mean_pose).named_parameters())
    assert _farthest(one, begun) > 1e-3  # a hundred times what two processes may differ by


def test_two_processes_give_the_weights_of_one(preset, one, tmp_path):
    command = [sys.executable, "scripts/train.py", str(preset), "--run.out", str(tmp_path), "--run.devices", "2"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    two = load_weights(tmp_path / "weights.safetensors").tensors
    assert _farthest(one, two) < 1e-5


SPOILT = """
import sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/training"]
from test_engine import ToyTask, run_config
from handmesh.training.config import OptimiserConfig
from handmesh.training.engine import NonFiniteLoss, train

class SpoiltInOne(ToyTask):
    def batches(self, start, rank, world):
        self.spoil_at = 2 if rank == 1 else None
        return super().batches(start, rank, world)

try:
    train(SpoiltInOne(), run_config(Path(sys.argv[1]), devices=2), OptimiserConfig())
except NonFiniteLoss as error:
    print("stopped:", error)
"""


def test_a_bad_loss_in_one_process_stops_all(tmp_path):
    """Started by torchrun, as on machines with many GPUs."""
    (tmp_path / "spoilt.py").write_text(SPOILT)
    command = [sys.executable, *TORCHRUN, str(tmp_path / "spoilt.py"), str(tmp_path / "run")]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    assert run.stdout.count("stopped:") == 2 and "in another process" in run.stdout
    assert [path.name for path in (tmp_path / "run").glob("non_finite*")] == ["non_finite_batch_1.pt"]


def test_normalisation_keeps_names_and_the_forward_pass_of_one_process():
    import timm

    network = timm.create_model("fastvit_t8", features_only=True)
    before, names = network(torch.ones(2, 3, 64, 64))[-1], list(network.state_dict())
    kinds = {type(module) for module in synchronise_batch_norm(network, "cpu").modules()}
    assert {SyncedBatchNorm2d, SyncedBatchNormAct2d} <= kinds and torch.nn.BatchNorm2d not in kinds
    torch.testing.assert_close(network(torch.ones(2, 3, 64, 64))[-1], before)
    assert list(network.state_dict()) == names
