"""scripts/run_ablations.py: what is merged does the same as before, and the table is of the seeds that are done."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the ablations are trainings")
pytest.importorskip("lightning_fabric", reason="the ablations are trainings")

from timm.models.repvit import ConvNorm, RepVggDw  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "scripts" / "run_ablations.py"
    spec = importlib.util.spec_from_file_location("run_ablations", path)
    module = sys.modules["run_ablations"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["run_ablations"]


def test_a_merged_block_does_what_its_branches_did(script):
    torch.manual_seed(0)
    block, image = RepVggDw(6, 3), torch.randn(2, 6, 7, 7)
    for norm in (module for module in block.modules() if isinstance(module, nn.BatchNorm2d)):
        for values in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(values, 1.0)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    single = ConvNorm(6, 6, 3, 1, 1, groups=6)
    single.load_state_dict(script.merged(block))
    with torch.no_grad():
        torch.testing.assert_close(single.eval()(image), block.eval()(image), atol=1e-4, rtol=1e-4)


def test_the_table_is_of_the_seeds_that_are_done(script, tmp_path):
    found = [dict.fromkeys(script.COLUMNS, value) | {"step_ms": None} for value in (1.0, 2.0, 4.0)]
    for name, values in (("pooled_1", found[0]), ("pooled_2", found[1]), ("pooled_three_steps_1", found[2])):
        (tmp_path / name).mkdir()
        (tmp_path / name / script.RESULT).write_text(json.dumps(values))
    (tmp_path / "pooled_3").mkdir()  # killed before its end
    _, _, *rows = script.table(tmp_path)
    assert [row.split(" | ")[:2] for row in rows] == [["| `pooled`", "2"], ["| `pooled_three_steps`", "1"]]
    assert f"1.50 ± {statistics.stdev([1.0, 2.0]):.2f}" in rows[0] and "4.00 | 4.00 | 4.00 | - |" in rows[1]
