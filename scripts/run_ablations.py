"""Train every variant of configs/ablation over several seeds, and print the table of docs/experiments.md.

All variants of one seed come before the next seed's, so that whatever is done when time runs out can be compared. A
killed run is taken up where it was; what is finished is left alone. Each run writes `result.json` into its folder.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from timm.models.repvit import RepVggDw
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from handmesh.console import parse  # noqa: E402
from handmesh.data.loader import Stage, TrainingBatches  # noqa: E402
from handmesh.data.mixture import ShardSource  # noqa: E402
from handmesh.data.samples import Batch, HandSample, Taught, collate, make_crop_sample  # noqa: E402
from handmesh.data.shards import read_shards  # noqa: E402
from handmesh.data.teacher import Bank, open_landmark_teacher, teach  # noqa: E402
from handmesh.files import make_folder, write_json  # noqa: E402
from handmesh.models.checkpoint import load_trained, save_weights  # noqa: E402
from handmesh.models.mesh_net import HEADS as HEAD_KINDS  # noqa: E402
from handmesh.models.mesh_net import HandNet, HandNetOutput  # noqa: E402
from handmesh.training.config import MeshConfig, read_config  # noqa: E402
from handmesh.training.engine import StepLosses, train  # noqa: E402
from handmesh.training.losses import network_input, pose_hand, weighted_losses  # noqa: E402
from handmesh.training.mesh import MeshTask, quick_metrics  # noqa: E402

PRESETS, RESULT = ROOT / "configs" / "ablation", "result.json"
VARIANTS = ("keypoint", "pooled", "single_branch", "three_steps", "pooled_three_steps", "fastvit", "small_kernels")
HEADS = ("keypoint", "pooled", "three_steps", "pooled_three_steps")
COLUMNS = {
    "error_2d": ("2D error, mean", 4),
    "mpjpe_mm": ("MPJPE, mm", 2),
    "pa_mpjpe_mm": ("PA-MPJPE, mm", 2),
    "pa_mpvpe_mm": ("PA-MPVPE, mm", 2),
    "step_ms": ("processor time a step, ms", 0),
}


@dataclass(frozen=True)
class Options:
    """Repeat the ablations of docs/experiments.md."""

    out: Path = Path("runs/ablation")
    """Folder of the runs, one a variant and seed."""
    seeds: int = 3
    frozen: Path | None = None
    """Weights (.safetensors) of a RepViT-M0.9 whose backbone is not trained: its maps of `crops` crops are computed
    once, and the heads alone are trained on them. Default: whole networks are trained, from random weights."""
    teacher: Path | None = None
    """The landmark network (.onnx) whose features `data/taught/train` holds: the heads are trained on these instead,
    and it is asked for those of the held-out crops."""
    begin: Path | None = None
    """Weights (.safetensors) of a RepViT-M0.9 whose backbone, with its activation and without what it lacks, whole
    networks begin with. Where the preset has no branches, they are merged into one 3x3 convolution that does the same.
    Default: random weights."""
    variants: tuple[str, ...] = ()
    """Presets of configs/ablation. Default: all that can be trained so."""
    crops: int = 4800
    steps: int | None = None
    """Default: 240 of 64 crops for heads alone; whole networks as their presets say."""

    @property
    def heads_alone(self) -> bool:
        return bool(self.frozen or self.teacher)


def main() -> None:
    options = parse(Options, sys.argv[1:], "run_ablations.py")
    for seed in range(1, options.seeds + 1):
        for variant in options.variants or (HEADS if options.heads_alone else VARIANTS):
            run(variant, seed, options)
        print("\n".join(table(options.out)), flush=True)


def run(variant: str, seed: int, options: Options) -> None:
    """One training and the measurement of its averaged weights, unless that is done."""
    out = options.out / f"{variant}_{seed}"
    if (out / RESULT).exists():
        return
    words = ["--run.seed", str(seed), "--run.out", str(out)]
    if options.heads_alone:
        words += ["--run.schedule", str(options.steps or 240), "64", "64", "--optimiser.learning-rate", "0.003"]
    elif options.steps:
        words += ["--run.schedule", str(options.steps), "64", "32"]
    config = read_config(MeshConfig, PRESETS / f"{variant}.yaml", words)
    if options.begin:
        begin = options.out / ("begin.safetensors" if config.network.branches else "begin_merged.safetensors")
        write_backbone(options.begin, begin, config.network.branches)
        theirs = load_trained(options.begin).network.config
        network = replace(config.network, activation=theirs.activation, pruned=theirs.pruned)
        config = replace(config, network=network, run=replace(config.run, init=begin))
    task = Heads(config, options) if options.heads_alone else Networks(config)
    fresh, begun = not (out / "last.pt").exists(), time.process_time()
    train(task, config.run, config.optimiser)
    taken_s = time.process_time() - begun - task.validated_s
    step_ms = 1000 * taken_s / sum(stage.steps for stage in config.run.stages) if fresh else None
    result = {name.removeprefix("synthetic/"): value for name, value in task.metrics.items()}
    write_json(out / RESULT, result | {"step_ms": step_ms})


def write_backbone(source: Path, output: Path, branches: bool) -> None:
    """The backbone of a RepViT's weights alone, its depthwise branches merged where the training has none."""
    backbone = load_trained(source).network.backbone
    tensors = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    for name, block in backbone.named_modules():
        if isinstance(block, RepVggDw) and not branches:
            tensors = {key: value for key, value in tensors.items() if not key.startswith(f"backbone.{name}.")}
            tensors |= {f"backbone.{name}.{key}": value for key, value in merged(block).items()}
    make_folder(output.parent)
    save_weights(output, tensors, {"config": {}})


@torch.no_grad()
def merged(block: RepVggDw) -> dict[str, Tensor]:
    """One 3x3 convolution and its normalisation that do what a trained block does.

    The normalisation after the sum of the branches stays: only the sum becomes one convolution, without a bias.
    """
    branch, after = block.conv.fuse(), block.bn
    kernel = branch.weight + functional.pad(block.conv1.weight, [1, 1, 1, 1])
    kernel[:, :, 1, 1] += 1
    mean = after.running_mean - branch.bias - block.conv1.bias
    norm = after.state_dict() | {"running_mean": mean}
    return {"c.weight": kernel} | {f"bn.{name}": value for name, value in norm.items()}


class Networks(MeshTask):
    """The mesh network's task, which remembers what its last validation found, and how long that took."""

    def validate(self, model: nn.Module) -> tuple[dict[str, float], None]:
        begun = time.process_time()
        self.metrics = self.measured(model)
        self.validated_s = time.process_time() - begun
        return self.metrics, None

    def measured(self, model: nn.Module) -> dict[str, float]:
        return super().validate(model)[0]


Crops = tuple[list[Tensor], Batch]
"""Maps of a frozen backbone, the finest first, and the labels of the same crops."""


class Heads(Networks):
    """Heads alone, on features of a network that is not trained. The crops are the same for all variants and seeds."""

    def __init__(self, config: MeshConfig, options: Options) -> None:
        super().__init__(replace(config, data=replace(config.data, taught=())))
        path = options.out / "maps.pt"
        if not path.exists():
            make_folder(options.out)
            drawn = self._taught(options.teacher, config.data.taught[0]) if options.teacher else self._drawn(options)
            torch.save([_joined(crops) for crops in drawn], path)
        self.stored, self.held_out = ((maps, Batch(**labels)) for maps, labels in torch.load(path, weights_only=True))
        if options.teacher:
            channels = [each.shape[1] for each in self.stored[0]]
            self.model.head = HEAD_KINDS[config.network.head](channels, config.network)
            self.model.logits = nn.Linear(channels[-1], 2)
        self.model.backbone = nn.Identity()
        self.model = OfMaps(self.model)

    def _drawn(self, options: Options) -> Iterator[Iterable[Crops]]:
        """The training's crops, and the held-out ones."""
        size, network = self.config.run.stages[-1].crop_size, load_trained(options.frozen).network
        sources = [(mixed.fraction, mixed.source) for mixed in self.sources]
        stage = Stage(options.crops // 64, size, 64)
        batches = TrainingBatches(sources, [stage], self.config.data.augment, self.config.box_scale, 0)
        yield (_maps(network, batches[step]) for step in range(stage.steps))
        yield [_maps(network, self.validation["synthetic"])]

    def _taught(self, path: Path, folder: Path) -> Iterator[Iterable[Crops]]:
        """The plain views of a bank, mirrored the right way, and the held-out crops, as the teacher sees them."""
        bank, teacher, held_out = Bank(folder), open_landmark_teacher(path), self.config.validation_shards
        source, views = self.sources[0].source, (bank[row] for row in range(len(bank)))
        plain = (view for view in views if not view.wrong_side and view.stretch is None)
        yield (self._seen(source[view.item]._replace(view=view.box), view.taught) for view in plain)
        source = ShardSource(read_shards(held_out, limit=self.config.validation_size), self.hand_model)
        for_each = (teach(item, [item.box], [False], self.config.box_scale, teacher) for item in source)
        told = (Taught(*(bank.standards[n].of(v[0]) for n, v in seen._asdict().items())) for seen in for_each)
        yield (self._seen(item, taught) for item, taught in zip(source, told, strict=True))

    def _seen(self, item: HandSample, taught: Taught) -> Crops:
        """The map and the mean feature, as a map of one cell, of a hand."""
        size, rng = self.config.run.stages[-1].crop_size, np.random.default_rng(0)
        batch = collate([make_crop_sample(item, size, self.config.box_scale, None, rng)])
        maps = [torch.from_numpy(each)[None].half() for each in (taught.map, taught.mean[:, None, None])]
        return maps, batch._replace(image=batch.image[:, :0, 0, 0])

    def batches(self, start: int, rank: int, world: int) -> Iterable[Crops]:
        stage, (maps, labels) = self.config.run.stages[0], self.stored
        for step in range(start, stage.steps):
            rng = np.random.default_rng([self.config.run.seed, step])
            rows = torch.from_numpy(rng.choice(len(labels.presence), stage.batch, replace=False))
            yield [each[rows].float() for each in maps], Batch(*(each[rows] for each in labels))

    def losses(self, model: nn.Module, batch: Crops) -> StepLosses:
        maps, labels = batch
        prediction = pose_hand(model(maps), self.hand_model)
        return StepLosses(weighted_losses(prediction, labels, self.hand_model, self.config.losses))

    def deployed(self, model: nn.Module) -> nn.Module:
        return model.network

    def measured(self, model: nn.Module) -> dict[str, float]:
        maps, labels = self.held_out
        prediction = pose_hand(model.of_maps([each.float() for each in maps]), self.hand_model)
        return quick_metrics(prediction, labels, self.hand_model)


class OfMaps(nn.Module):
    """A network that is shown maps in place of crops."""

    def __init__(self, network: HandNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, maps: list[Tensor]) -> HandNetOutput:
        return self.network.of_maps(maps)


@torch.inference_mode()
def _maps(network: HandNet, batch: Batch) -> Crops:
    image = network_input(batch.image, True)
    maps = network.backbone((image - network.pixel_mean) / network.pixel_std)
    return [each.half() for each in maps], batch._replace(image=batch.image[:, :0, 0, 0])


def _joined(crops: Iterable[Crops]) -> tuple[list[Tensor], dict[str, Tensor]]:
    maps, labels = zip(*crops, strict=True)
    columns = zip(Batch._fields, zip(*labels, strict=True), strict=True)
    return [torch.cat(each) for each in zip(*maps, strict=True)], {name: torch.cat(each) for name, each in columns}


def table(out: Path) -> list[str]:
    """Mean and standard deviation over the seeds that are done, as Markdown."""
    lines = [f"| variant | seeds | {' | '.join(title for title, _ in COLUMNS.values())} |", "|---" * 7 + "|"]
    for variant in VARIANTS:
        done = [json.loads(path.read_text()) for path in sorted(out.glob(f"{variant}_[0-9]*/{RESULT}"))]
        cells = (_spread([one[name] for one in done], places) for name, (_, places) in COLUMNS.items())
        lines += [f"| `{variant}` | {len(done)} | {' | '.join(cells)} |"] if done else []
    return lines


def _spread(values: list[float | None], places: int) -> str:
    """Mean ± standard deviation of a sample of two or more."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.{places}f}" if known[1:] else ""
    return f"{statistics.fmean(known):.{places}f}{spread}"


if __name__ == "__main__":
    main()
