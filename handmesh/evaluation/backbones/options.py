"""What to measure, and how: the command line of `scripts/benchmark.py backbones`. It needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Form = Literal["unfused", "fused", "folded"]
Runtime = Literal["torch", "onnxruntime"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]
Layout = Literal["channels_last", "contiguous"]
Clock = Literal["wall", "processor"]

FORMS: dict[Form, str] = {
    "unfused": "as trained",
    "fused": "parallel branches merged by timm's reparameterize_model",
    "folded": "fused, and each batch norm that is left folded into the convolution before it",
}

MIXER = "mixer_"
MIXERS = "mixers"

FAMILIES: dict[str, tuple[str, ...]] = {
    "FastViT": tuple(f"fastvit_{size}" for size in ("t8", "t12", "s12", "sa12", "sa24", "sa36", "ma36")),
    "RepViT": tuple(f"repvit_{size}" for size in ("m0_9", "m1_0", "m1_1", "m1_5", "m2_3")),
    "ConvNeXt": tuple(f"convnext_{size}" for size in ("atto", "nano", "tiny", "small", "base")),
    "EfficientNet": tuple(f"efficientnet_{size}" for size in ("b0", "b2", "b4")),
    "MobileOne": tuple(f"mobileone_{size}" for size in ("s0", "s1", "s4")),
    "MobileNet": ("mobilenetv3_large_100", *(f"mobilenetv4_conv_{size}" for size in ("small", "medium", "large"))),
    MIXERS: tuple(MIXER + mixer for mixer in ("repmixer", "pooling", "attention_last", "attention")),
}
"""Backbones by family, under timm's names; the last family is one skeleton with four token mixers, see `zoo`."""

STRIDE = 32


@dataclass(frozen=True)
class Options:
    """What to measure, and how."""

    output: Path = Path("outputs/backbones")
    """Folder of the results. What is measured there is kept: the same command goes on where it was stopped, and
    further models or sizes join the table."""
    models: tuple[str, ...] = ()
    """Backbones or families; all if not given."""
    sizes: tuple[int, ...] = (224, 256, 384, 512, 768, 1024)
    """Sides of the square pictures in pixels, multiples of 32."""
    forms: tuple[Form, ...] = ()
    """As trained, with branches merged, and with the other batch norms folded as well; all if not given, but for the
    last with ONNX Runtime, which folds by itself. A form that changes nothing in a model is not measured again."""
    runtime: Runtime = "torch"
    """Eager PyTorch, or ONNX Runtime (each form is exported first, which takes seconds a model)."""
    device: Device = "cpu"
    precision: Precision = "fp32"
    """Of weights and pictures. ONNX Runtime takes fp32, and fp16 on CUDA."""
    layout: Layout = "channels_last"
    """Order of the numbers in memory; for torch alone."""
    batch: int = 1
    """Pictures a pass."""
    threads: int = 1
    """Cores that a pass may use. One by default: with another job on the machine, torch on several collapses."""
    clock: Clock = "wall"
    """Time on the wall, or of the processor, which other jobs on the machine lengthen less; the latter for one thread
    on the CPU."""
    rounds: int = 3
    """How often each model gets its turn, so that slow spells of the machine hit all alike."""
    seconds_per_cell: float = 3.0
    """Time to measure a model in one form at one size, over all rounds."""
    max_seconds_per_pass: float = 5.0
    """Skip what is expected to take longer a pass, judging by the next smaller size."""
    max_memory_gb: float | None = None
    """Skip what is expected to need more memory; four fifths of what is free if not given."""

    def check(self) -> None:
        """Raise ValueError where something does not fit."""
        select(self.models)
        wrong = [size for size in self.sizes if size < STRIDE or size % STRIDE]
        if wrong or not self.sizes:
            raise ValueError(f"sizes must be multiples of {STRIDE}, got {wrong or 'none'}")
        for name in ("batch", "threads", "rounds", "seconds_per_cell", "max_seconds_per_pass"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.runtime == "onnxruntime" and not _onnxruntime_takes(self.precision, self.device):
            raise ValueError(f"ONNX Runtime takes fp32, and fp16 on CUDA, not {self.precision} on {self.device}")
        if self.clock == "processor" and (self.device, self.threads) != ("cpu", 1):
            raise ValueError("the processor's clock says the latency of one thread on the CPU only; take --clock wall")

    def forms_among(self, existing: Collection[Form]) -> list[Form]:
        """The chosen forms of a model that has the `existing` ones; for one that changes nothing, the one before it."""
        every = list(FORMS)
        chosen = self.forms or (every if self.runtime == "torch" else every[:-1])
        known = [[form for form in every[: every.index(one) + 1] if form in existing] for one in chosen]
        return [form for form in every if form in {forms[-1] for forms in known}]

    @property
    def names(self) -> list[str]:
        """The chosen backbones, in the order of `FAMILIES`."""
        return select(self.models)


def _onnxruntime_takes(precision: Precision, device: Device) -> bool:
    return precision == "fp32" or (precision, device) == ("fp16", "cuda")


def family_of(name: str) -> str:
    """The family that a backbone of `FAMILIES` belongs to."""
    return next(family for family, names in FAMILIES.items() if name in names)


def select(chosen: Sequence[str]) -> list[str]:
    """The backbones meant by names of backbones and families (in any case); all of them by none.

    Raises ValueError for a name that is neither.
    """
    families = {family.lower(): names for family, names in FAMILIES.items()}
    every = [name for names in FAMILIES.values() for name in names]
    unknown = [word for word in chosen if word.lower() not in families and word not in every]
    if unknown:
        raise ValueError(f"unknown model '{unknown[0]}'; choose from {', '.join([*families, *every])}")
    wanted = {name for word in chosen for name in families.get(word.lower(), (word,))}
    return [name for name in every if not chosen or name in wanted]
