"""The backbone benchmark: costs against hand counts, forms against each other, turns, resuming and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

for name in ("torch", "timm", "matplotlib"):
    pytest.importorskip(name, reason="the benchmark of backbones is part of the train extra")

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from handmesh.benchmark import backbone_runs, backbones  # noqa: E402
from handmesh.benchmark.backbone_runs import (  # noqa: E402
    MAX_PASSES,
    OnnxRunner,
    cost_of,
    create,
    export,
    fold_batch_norms,
    forms_of,
    metaformer,
    timed_passes,
)
from handmesh.benchmark.backbones import (  # noqa: E402
    FAMILIES,
    FORMS,
    MIXERS,
    Options,
    Results,
    Setting,
    draw,
    read_results,
    report_of,
    select,
    tables,
    write_files,
)
from handmesh.cli import main  # noqa: E402

MODELS = ("repvit_m0_9", "convnext_atto")


def options_for(folder: Path, **changes: object) -> Options:
    given = {"models": MODELS, "sizes": (64,), "rounds": 2, "seconds_per_cell": 0.02, "output": folder}
    return Options(**(given | changes))


def benchmark(options: Options) -> Results:
    results = backbone_runs.open_results(options)
    backbone_runs.measure(options, results)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark of two models."""
    folder = tmp_path_factory.mktemp("backbones")
    benchmark(options_for(folder))
    return folder


# what a pass costs


class Attending(nn.Module):
    """One head of self-attention over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(3, 3 * 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(image.flatten(2).transpose(1, 2)).unflatten(-1, (3, 1, 8)).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(q, k, v)


def test_macs_are_those_counted_by_hand():
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 16x16 outputs, 3 * 9 products each
        nn.BatchNorm2d(8),
        nn.GELU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # depthwise: 9 products each
        nn.Flatten(),
        nn.Linear(8 * 16 * 16, 10),
    ).eval()
    cost = cost_of(layers, size=32, batch=2)
    assert cost.macs == 2 * (16 * 16 * 8 * 27 + 16 * 16 * 8 * 9 + 8 * 16 * 16 * 10)
    assert cost.parameters == (27 * 8 + 8) + 16 + 72 + (8 * 16 * 16 * 10 + 10)


def test_macs_of_attention_grow_with_the_square_of_the_pixels():
    pixels = 16 * 16
    projection, attention = pixels * 3 * 24, 2 * pixels * pixels * 8
    assert cost_of(Attending(), size=16, batch=1).macs == projection + attention


def test_attention_maps_count_as_memory_where_the_runtime_holds_them():
    pixels = 16 * 16
    alive = (3 + 24 + 8 + 1) * pixels * 4  # image, projections, output, and each row's normaliser
    assert cost_of(Attending(), 16, 1, attention_maps=True).activation_bytes == alive + 2 * pixels**2 * 4
    assert cost_of(Attending(), 16, 1).activation_bytes < 2 * alive


def test_activations_are_those_that_live_at_once():
    layers = nn.Sequential(*(nn.Conv2d(c, 8, 1) for c in (3, 8, 8, 8)))
    one = 8 * 32 * 32 * 4
    image = 3 * 32 * 32 * 4
    assert cost_of(layers, 32, 1).activation_bytes == image + 2 * one  # a layer's input and its output


@pytest.mark.parametrize(
    ("name", "parameters", "macs"), [("repvit_m0_9", 5.1e6, 0.83e9), ("convnext_atto", 3.7e6, 0.55e9)]
)
def test_costs_are_those_published(name: str, parameters: float, macs: float):
    """RepViT (Wang et al., 2024), table 2, and timm's model card."""
    model = timm.create_model(name).eval()
    cost = cost_of(list(dict(forms_of(model)).values())[-1], 224, 1)
    assert cost.parameters == pytest.approx(parameters, rel=0.02)
    assert cost.macs == pytest.approx(macs, rel=0.02)


# forms


def enlivened(model: nn.Module) -> nn.Module:
    """Layer scales of 1e-5 would hide what the blocks behind them do."""
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter, 0.5, 0.1)
    return model


@pytest.mark.parametrize("name", ["fastvit_t8", "fastvit_sa12", "repvit_m0_9", "mobileone_s0", "efficientnet_b0"])
def test_all_forms_give_the_same(name: str):
    torch.manual_seed(0)
    forms = dict(forms_of(enlivened(create(name))))
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        outputs = {form: model(image) for form, model in forms.items()}
    assert len(outputs) > 1
    for output in outputs.values():
        difference = (output - outputs["unfused"]).abs().max()
        assert difference < 1e-4 * max(1.0, float(outputs["unfused"].abs().max()))


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_forms_are_those_that_change_something():
    assert list(dict(forms_of(create("convnext_atto")))) == ["unfused"]
    assert list(dict(forms_of(create("repvit_m0_9")))) == ["unfused", "fused"]
    efficient = dict(forms_of(create("efficientnet_b0")))
    assert list(efficient) == ["unfused", "folded"]
    assert (batch_norms(efficient["unfused"]), batch_norms(efficient["folded"])) == (49, 0)


class Forked(nn.Module):
    """The convolution's output goes to the norm, and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.conv(image)
        return features + self.norm(features)


def test_a_norm_is_not_folded_where_the_convolution_is_also_used_otherwise():
    assert fold_batch_norms(Forked().eval())[1] == 0


def test_chosen_forms_stand_for_the_ones_before_them_where_they_change_nothing():
    assert Options(forms=("folded",)).forms_among(["unfused", "fused"]) == ["fused"]
    assert Options(forms=("fused", "folded")).forms_among(["unfused"]) == ["unfused"]
    assert Options().forms_among(list(FORMS)) == list(FORMS)
    assert Options(runtime="onnxruntime").forms_among(list(FORMS)) == ["unfused", "fused"]


# the networks


def test_only_the_token_mixer_differs():
    named = {mixer: dict(metaformer(mixer).named_parameters()) for mixer in ("pooling", "attention")}
    others = {
        mixer: {name: p.shape for name, p in parameters.items() if ".token_mixer." not in name}
        for mixer, parameters in named.items()
    }
    assert others["pooling"] == others["attention"]
    assert not any(".token_mixer." in name for name in named["pooling"])
    s12 = {name: p.shape for name, p in timm.create_model("fastvit_s12").named_parameters()}
    assert {name: p.shape for name, p in metaformer("repmixer").named_parameters()} == s12


def test_names_and_families_are_chosen_in_any_case():
    assert select(["CONVNEXT", "repvit_m2_3"]) == ["repvit_m2_3", *FAMILIES["ConvNeXt"]]
    assert len(select([])) == sum(map(len, FAMILIES.values()))
    known = set(timm.list_models())
    assert [name for family, names in FAMILIES.items() if family != MIXERS for name in names if name not in known] == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": ("resnet50",)}, "unknown model 'resnet50'; choose from fastvit"),
        ({"sizes": (224, 230)}, r"multiples of 32, got \[230\]"),
        ({"rounds": 0}, "rounds must be positive"),
        ({"runtime": "onnxruntime", "precision": "bf16"}, "not bf16 on cpu"),
        ({"clock": "processor", "threads": 2}, "take --clock wall"),
    ],
)
def test_mistaken_options_are_refused(wrong: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        backbone_runs.open_results(Options(**wrong))


# measuring


class Ticking:
    """A runner whose passes are numbered."""

    def __init__(self) -> None:
        self.passes = 0

    def milliseconds(self) -> float:
        self.passes += 1
        return float(self.passes)


def test_passes_to_warm_up_are_not_counted():
    runner = Ticking()
    times = timed_passes(runner, seconds=1.0)
    assert runner.passes - len(times) == 5
    assert times == [6.0 + k for k in range(MAX_PASSES)]


def test_each_model_gets_its_turns(folder: Path):
    results = read_results(folder / backbones.RESULTS)
    assert list(results.cells) == [("repvit_m0_9", "unfused", 64), ("repvit_m0_9", "fused", 64),
                                   ("convnext_atto", "unfused", 64)]  # fmt: skip
    for cell in results.cells.values():
        assert [len(one) > 0 for one in cell.rounds_ms] == [True, True]
        assert 0 < cell.median_ms <= cell.p90_ms
    assert results.deployed("repvit_m0_9") == "fused"
    assert results.models["repvit_m0_9"].macs[64] == pytest.approx(0.817e9 * (64 / 224) ** 2, rel=0.02)


def test_what_is_measured_is_not_measured_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was built again")

    before = (folder / backbones.RESULTS).read_text()
    monkeypatch.setattr(backbone_runs, "create", refuse)
    benchmark(options_for(folder))
    assert (folder / backbones.RESULTS).read_text() == before


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is killed in the middle of the second round; the rerun keeps what was measured and does the rest."""
    rotations = iter(range(100))

    def stop_at_the_fourth(runner: object, seconds: float) -> list[float]:
        if next(rotations) == 4:
            raise KeyboardInterrupt
        return [1.0]

    monkeypatch.setattr(backbone_runs, "timed_passes", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        benchmark(options_for(tmp_path))
    rounds = [len(cell.rounds_ms) for cell in read_results(tmp_path / backbones.RESULTS).cells.values()]
    assert rounds == [2, 1, 1]
    monkeypatch.setattr(backbone_runs, "timed_passes", lambda runner, seconds: [2.0])
    results = benchmark(options_for(tmp_path))
    assert [cell.rounds_ms for cell in results.cells.values()] == [[[1.0], [1.0]], [[1.0], [2.0]], [[1.0], [2.0]]]
    assert len(results.starts) == 2


def test_another_setting_does_not_mix(folder: Path):
    with pytest.raises(ValueError, match="measured with batch 1, not batch 2: choose another --output"):
        backbone_runs.open_results(options_for(folder, batch=2))


def test_a_file_that_is_no_result_is_refused(tmp_path: Path):
    (tmp_path / backbones.RESULTS).write_text('{"format": 1}')
    with pytest.raises(ValueError, match="holds no results of this benchmark"):
        backbone_runs.open_results(options_for(tmp_path))


def test_what_would_take_too_long_or_too_much_memory_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone_runs, "timed_passes", lambda runner, seconds: [500.0])
    limits = {"models": ("convnext_atto",), "sizes": (64, 128, 160), "max_seconds_per_pass": 2.5}
    results = benchmark(options_for(tmp_path, **limits))
    notes = {size: cell.skipped for (_, _, size), cell in results.cells.items()}
    assert notes == {64: "", 128: "", 160: ""}  # 160 px costs 1.6 times what 128 px do
    results = benchmark(options_for(tmp_path, **limits | {"sizes": (64, 384)}))
    assert results.cells["convnext_atto", "unfused", 384].skipped == "a pass would take about 2.9 s"
    results = benchmark(options_for(tmp_path, **limits | {"sizes": (96,), "max_memory_gb": 0.01}))
    assert "GB of memory" in results.cells["convnext_atto", "unfused", 96].skipped
    assert "a pass would take about 2.9 s" in report_of(results).markdown()
    results = benchmark(options_for(tmp_path, **limits | {"sizes": (96,)}))
    assert results.cells["convnext_atto", "unfused", 96].skipped == ""  # tried again under other limits


def test_onnxruntime_gives_what_torch_gives(tmp_path: Path):
    options = options_for(tmp_path, runtime="onnxruntime")
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(1)).eval()
    export(model, tmp_path / "model.onnx", options)
    runner = OnnxRunner(tmp_path / "model.onnx", 96, options)  # exported at another size
    assert runner.milliseconds() > 0
    image = np.random.default_rng(0).random((1, 3, 96, 96), np.float32)
    (given,) = runner.binding.copy_outputs_to_cpu()
    with torch.no_grad():
        np.testing.assert_allclose(given, model(torch.from_numpy(image)).numpy(), atol=1e-6)


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"layout": "contiguous", "batch": 2}])
def test_other_settings_run(tmp_path: Path, changes: dict[str, object]):
    results = benchmark(options_for(tmp_path, models=("repvit_m0_9",), rounds=1, forms=("fused",), **changes))
    (cell,) = results.cells.values()
    assert cell.median_ms > 0
    assert results.setting.precision == changes.get("precision", "fp32")


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no CUDA device; take --device cpu"):
        backbone_runs.open_results(options_for(tmp_path, device="cuda"))


# reports


def made_up() -> Iterator[tuple[str, str, int, float]]:
    """Times that make ratios easy to see."""
    for size, scale in ((224, 1.0), (448, 4.0)):
        yield from (("fastvit_t8", form, size, ms * scale) for form, ms in zip(FORMS, (8, 4, 2), strict=True))
        yield from (("mixer_repmixer", "folded", size, 5 * scale), ("mixer_pooling", "folded", size, 6 * scale))


def results_made_up(folder: Path) -> Results:
    setting = Setting("a machine", "cpu", "torch, eager", "2", "1", "fp32", "channels_last", 2, 1, "wall")
    results = Results(folder / backbones.RESULTS, setting)
    for name, form, size, ms in made_up():
        known = results.models.setdefault(name, backbones.Model("FastViT", {}, {}, {}))
        known.parameters[form] = 4_000_000
        known.macs[size], known.activation_bytes[size] = 2 * 500_000_000, 1
        results.cell(name, form, size).rounds_ms = [[ms, ms], [ms, 3 * ms]]
    return results


def test_tables_say_medians_and_ratios(tmp_path: Path):
    latencies, gains, mixers = tables(results_made_up(tmp_path))
    assert latencies.rows[0] == ("fastvit_t8", "4.0", "0.50", "2 (4.8)", "8 (19.2)")
    assert "2.40 in most cells, 2.40 at worst" in latencies.note
    assert gains.rows == [
        ("fastvit_t8", "unfused / fused", "2.00", "2.00"),
        ("fastvit_t8", "fused / folded", "2.00", "2.00"),
    ]
    assert mixers.rows == [("pooling", "1.20", "1.20")]


def test_all_files_are_written(tmp_path: Path):
    results = results_made_up(tmp_path)
    results.save()
    paths = write_files(results, report_of(results))
    assert sorted(path.suffix for path in paths) == [".csv", ".html", ".json", ".md", ".png"]
    rows = list(csv.DictReader((tmp_path / "backbones.csv").open()))
    assert len(rows) == 10
    assert (rows[0]["model"], rows[0]["form"], rows[0]["median_ms"], rows[0]["passes"]) == (
        "fastvit_t8", "unfused", "8.0000", "4",
    )  # fmt: skip
    assert "a machine; cpu" in (tmp_path / "backbones.md").read_text()
    assert read_results(results.path) == results


def test_the_command_names_the_remedy(capsys: pytest.CaptureFixture, folder: Path):
    arguments = [
        "benchmark",
        "backbones",
        "--models",
        *MODELS,
        "--sizes",
        "64",
        "--rounds",
        "2",
        "--output",
        str(folder),
    ]
    assert main(arguments) == 0
    assert "What fusing saves" in capsys.readouterr().out
    assert main([*arguments, "--batch", "2"]) == 1
    assert "choose another --output" in " ".join(capsys.readouterr().err.split())
    assert json.loads((folder / backbones.RESULTS).read_text())["setting"]["batch"] == 1


def test_mixers_are_drawn_without_backbones(tmp_path: Path):
    results = results_made_up(tmp_path)
    only = {key: cell for key, cell in results.cells.items() if key[0] in FAMILIES[MIXERS]}
    *families, mixers, gains = draw(replace(results, cells=only)).axes
    assert [len(axes.lines) for axes in families] == [0] * 6
    assert [line.get_label() for line in mixers.lines] == ["repmixer", "pooling, 1.20 times at 448 px"]
    assert list(mixers.lines[1].get_ydata()) == [6, 24]
    assert len(gains.patches) == 0
