"""Image side, batch, steps and learning rate that suit a person's own data, unless they say.

A config for own data names what it leaves open at its top and takes the rest from here:

    planned_for = "$data.planned_for"  # 'gpu' or 'cpu'; --cfg-options planned_for=gpu
    image_side, batch_size = "$data.image_side", "$data.batch_size"
    max_iters, val_interval = "$data.max_iters", "$data.val_interval"
    warmup_iters, lr = "$data.warmup_iters", "$data.lr"

Each can be set; the others follow what was set (steps and learning rate know a batch_size that was
given). The rules, and why:

Device. One bit of the machine counts, whether it has a GPU, so that all GPUs of whatever memory
follow one plan and all others another. The plan stands beside the hashes of the annotations, as
`protocol.own_annotations.plan`, and is part of the id that results are filed under: two plans are
two protocols, and a checkpoint of one is not scored by the other.

Image side. 448 pixels on a GPU are 32 x 32 tokens of 14 pixels and 28 x 28 of 16; a CPU takes a
quarter of the pixels. Boxes want half as much again, since small objects are found or lost by the
side. Pictures are not enlarged: smaller ones (their median longer side) get the nearest multiple of
112, which patches of 14 and of 16 both divide.

Batch. 16 images of maps and 8 of boxes on a GPU (both fit into 24 GB with a B/16), 4 and 2 on a
CPU, where more would only make the steps longer; never more than half the images, so that an epoch
has at least two steps.

Steps. A head on a frozen encoder has seen enough after some 40 epochs of a small set; a detector,
whose decoder starts from nothing, after 50. Below a floor of images seen a set of 20 pictures would
get a handful of steps, above a ceiling nobody would wait: both are counts of images, smaller on a
CPU (a picture of 224 px takes a ViT-S/14 about a tenth of a second on two cores: 12,000 are twenty
minutes). Ten validations on the way, five on a CPU.

Learning rate. The base rate of a kind is for 16 images; AdamW's rate goes with the square root of
the batch (arXiv:2205.10287), which keeps the noise of its normalised steps. Maps: 1e-3, as DINOv2's
linear heads (arXiv:2304.07193) begin; boxes: 4e-4 at 2 images, as this project's small detectors.

Source of the numbers without one: small runs of this project on BCCD (205 images, 29 epochs reach
what 60 do) and the mini world; they are a start, not an optimum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Device = Literal["cpu", "gpu"]
Kind = Literal["maps", "boxes"]
SIDE_STEP = 112  # 8 patches of 14 pixels, 7 of 16
BASE_BATCH = 16
WARMUP_SHARE = 0.05
LEAST_ITERS = 3  # MMEngine's linear warm-up takes two steps to rise


@dataclass(frozen=True)
class _Rule:
    """What suits a kind of task on a device; `seen` are the fewest and the most images seen."""

    side: int
    batch: int
    epochs: int
    seen: tuple[int, int]
    validations: int
    base_lr: float  # at BASE_BATCH images


_RULES: dict[tuple[Kind, Device], _Rule] = {
    ("maps", "gpu"): _Rule(448, 16, 40, (16_000, 320_000), 10, 1e-3),
    ("maps", "cpu"): _Rule(224, 4, 20, (2_000, 12_000), 5, 1e-3),
    ("boxes", "gpu"): _Rule(672, 8, 50, (24_000, 400_000), 10, 4e-4 * math.sqrt(8)),
    ("boxes", "cpu"): _Rule(336, 2, 30, (6_000, 12_000), 5, 4e-4 * math.sqrt(8)),
}


@dataclass(frozen=True)
class Schedule:
    """A plan for training; field for field what `schedule_facts` gives a config.

    Attributes:
        planned_for: 'gpu' or 'cpu'.
        image_side: Pixels.
        batch_size: Images of a step.
        max_iters: Steps; a multiple of `val_interval` unless a person said how many.
        val_interval: Steps between two validations.
        warmup_iters: Steps in which the learning rate rises.
        lr: Learning rate of what begins at random.
        max_epochs: The same as `max_iters`, for loops that count epochs without the last images
            that are no whole batch.
    """

    planned_for: Device
    image_side: int
    batch_size: int
    max_iters: int
    val_interval: int
    warmup_iters: int
    lr: float
    max_epochs: int


def suggested(
    num_images: int,
    on_gpu: bool,
    kind: Kind = "maps",
    longer_side: int | None = None,
    batch_size: int | None = None,
    max_iters: int | None = None,
    lr_factor: float = 1.0,
) -> Schedule:
    """The plan for a training set; see the module for the rules.

    Args:
        num_images: Images that are trained on.
        on_gpu: Whether the machine has one.
        kind: 'maps': segmentation and depth; 'boxes': detection and tracking.
        longer_side: Median of the longer sides of the images in pixels; None: not known.
        batch_size: Images of a step, where a person says; steps and rate follow.
        max_iters: Steps, where a person says; validations and warm-up follow.
        lr_factor: What the recipe multiplies the rate with.

    Raises:
        ValueError: If there is no image, the batch is not 1 or more, or steps are not 3 or more.

    Example:
        >>> suggested(100, on_gpu=False)  # doctest: +NORMALIZE_WHITESPACE
        Schedule(planned_for='cpu', image_side=224, batch_size=4, max_iters=500, val_interval=100,
                 warmup_iters=25, lr=0.0005, max_epochs=20)
        >>> suggested(20_000, on_gpu=True).max_iters
        20000
    """
    if num_images < 1:
        raise ValueError(f"{num_images} images are too few to plan a training; give at least one")
    for name, value, what in (
        ("batch_size", batch_size, "images"), ("max_iters", max_iters, "steps")
    ):  # fmt: skip
        least = 1 if name == "batch_size" else LEAST_ITERS
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name}={value!r} is no number of {what}; give {least} or more")
    rule = _RULES[kind, "gpu" if on_gpu else "cpu"]
    batch = batch_size or max(1, min(rule.batch, num_images // 2))
    fewest, most = rule.seen
    seen = min(max(rule.epochs * num_images, fewest), most)
    if max_iters is None:
        val_interval = max(1, math.ceil(seen / batch / rule.validations))
        max_iters = val_interval * rule.validations
    else:
        val_interval = max(1, math.ceil(max_iters / rule.validations))
    return Schedule(
        planned_for="gpu" if on_gpu else "cpu",
        image_side=_side(rule.side, longer_side),
        batch_size=batch,
        max_iters=max_iters,
        val_interval=val_interval,
        warmup_iters=max(2, math.ceil(WARMUP_SHARE * max_iters)),
        lr=_two_digits(lr_factor * rule.base_lr * math.sqrt(batch / BASE_BATCH)),
        max_epochs=max(1, round(max_iters / max(1, num_images // batch))),
    )


def _side(usual: int, longer_side: int | None) -> int:
    if longer_side is None:
        return usual
    nearest = SIDE_STEP * max(1, math.floor(longer_side / SIDE_STEP + 0.5))
    return min(usual, nearest)


def _two_digits(value: float) -> float:
    """Rounded so that what is printed is what was used."""
    return float(f"{value:.2g}")


def schedule_facts(
    names: Mapping[str, Any],
    num_images: int,
    kind: Kind = "maps",
    longer_side: int | None = None,
) -> dict[str, Any]:
    """The plan as facts of the data: what the function of a config's `data_facts` adds to its own.

    Args:
        names: What that function was given; read are `planned_for`, `batch_size`, `max_iters` and
            `lr_factor`, which may be absent or None.
        num_images: See `suggested`.
        kind: See `suggested`.
        longer_side: See `suggested`.

    Returns:
        The fields of `Schedule`.

    Raises:
        ValueError: If `planned_for` is neither 'cpu' nor 'gpu', or as `suggested`.
    """
    device = names.get("planned_for")
    if device is None:
        import torch

        device = "gpu" if torch.cuda.is_available() else "cpu"
    if device not in get_args(Device):
        raise ValueError(f"planned_for={device!r} is not known; use one of {get_args(Device)}")
    factor = names.get("lr_factor")
    return asdict(
        suggested(
            num_images,
            device == "gpu",
            kind,
            longer_side,
            names.get("batch_size"),
            names.get("max_iters"),
            1.0 if factor is None else factor,
        )
    )


def plan_in_words(cfg: Mapping[str, Any]) -> str:
    """What a resolved config trains by, suggested or set, for the start of a run.

    Example:
        >>> plan_in_words(dict(planned_for="cpu", image_side=224, batch_size=4, max_iters=500,
        ...                    val_interval=100, lr=0.0005))
        'plan (cpu): image_side=224 batch_size=4 max_iters=500 val_interval=100 lr=0.0005'
    """
    names = ("image_side", "batch_size", "max_iters", "max_epochs", "val_interval", "lr")
    values = " ".join(f"{name}={cfg[name]}" for name in names if cfg.get(name) is not None)
    return f"plan ({cfg['planned_for']}): {values}"
