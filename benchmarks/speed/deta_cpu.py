"""DETA's own parts against the same model with plain loops, on a CPU.

    python benchmarks/speed/deta_cpu.py --repeats 5

'loss' is a forward pass with all losses and 'predict' one with soft-NMS, at a canvas of 1024 px,
batch 1, with a small encoder; in the plain variant, assignment and soft-NMS are written as one
would first write them: a full IoU matrix, loops over objects and boxes in Python, torch operators
on a few numbers. Both give the same result (the script checks it). 'assign' is the assignment of
300 objects to 70,000 anchors alone (targets: 150 ms, 1 GB), 'soft-nms' that of 2,000 boxes (target:
50 ms), in 80 classes and in one.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from unittest import mock

import torch
from measure import (
    FOLDER,
    ROOT,
    command_line,
    hardware,
    interleaved_ms,
    peak_bytes_above_now,
    peak_mib_of_variants,
    versions,
    write_rows,
)
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor

from pe_dense.detection import pair_assignment, suppression
from pe_dense.detection.pair_assignment import match_pairs, plain_pairs
from pe_dense.detection.suppression import soft_nms_quad
from pe_dense.run.config import encoder_facts, substitute

ENCODER, CANVAS, CLASSES = "pe_spatial_s16_512", 1024, 80
SOFT = dict(type="soft_nms_quad", iou_threshold=0.7, quad_scale=0.5, min_score=1e-3)
VARIANTS = ("pe_dense", "plain")


def plain_soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float = 0.7,
    quad_scale: float = 0.5,
    min_score: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS with torch operators, one box after the other."""
    left, live = torch.arange(len(scores)), scores.clone()
    kept, taken = [], []
    while len(left):
        place = int(live[left].argmax())
        best = left[place]
        kept.append(int(best))
        taken.append(float(live[best]))
        left = torch.cat([left[:place], left[place + 1 :]])
        low = torch.max(boxes[best, :2], boxes[left, :2])
        high = torch.min(boxes[best, 2:], boxes[left, 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        area = (boxes[left, 2:] - boxes[left, :2]).prod(-1)
        iou = shared / ((boxes[best, 2:] - boxes[best, :2]).prod() + area - shared)
        hit = (iou > iou_threshold) & (labels[left] == labels[best])
        live[left[hit]] *= (1 - iou[hit]) ** quad_scale
        left = left[live[left] > min_score]
    return torch.tensor(kept), torch.tensor(taken)


def build_model() -> torch.nn.Module:
    """A full-size DETA on a small encoder, random weights."""
    init_default_scope("mmdet")
    names = {f"encoder.{key}": value for key, value in encoder_facts(ENCODER).items()}
    names |= dict(
        encoder=ENCODER, weights="random", canvas=CANVAS, num_queries=900, num_classes=CLASSES,
        amp_dtype=None, grad_checkpointing=False, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3,
    )  # fmt: skip
    settings = substitute(Config.fromfile(ROOT / "configs/_base_/deta.py").model.to_dict(), names)
    settings["test_cfg"] = dict(nms_pre=2000, nms=SOFT, max_per_img=-1)
    torch.manual_seed(0)
    model = MODELS.build(settings)
    MMLogger.get_current_instance().setLevel("ERROR")  # init_weights logs every parameter
    model.init_weights()
    return model


def crowd(count: int, side: float = CANVAS) -> Tensor:
    """(count, 4) corners of boxes of 30 to 230 px."""
    corner = torch.rand(count, 2) * (side - 240)
    return torch.cat([corner, corner + torch.rand(count, 2) * 200 + 30], dim=1)


def model_runs() -> dict[str, dict[str, Callable[[], object]]]:
    """Loss and prediction of one image, by variant."""
    model = build_model()
    image = torch.randn(1, 3, CANVAS, CANVAS)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(960, 992), batch_input_shape=(CANVAS, CANVAS), ori_shape=(960, 992)
        )
    )
    sample.gt_instances = InstanceData(bboxes=crowd(60), labels=torch.randint(0, CLASSES, (60,)))

    def loss() -> float:
        model.train()
        torch.manual_seed(0)  # too many positives are thinned at random
        with torch.no_grad():
            return float(sum(model.loss(image, [sample]).values()))

    def predict() -> float:
        model.eval()
        with torch.no_grad():
            return float(model.predict(image, [sample])[0].pred_instances.scores.sum())

    def plainly(run: Callable[[], float]) -> Callable[[], float]:
        def with_loops() -> float:
            with (
                mock.patch.object(pair_assignment, "match_pairs", plain_pairs),
                mock.patch.object(suppression, "soft_nms_quad", plain_soft_nms),
            ):
                return run()

        return with_loops

    return {
        name: {"pe_dense": run, "plain": plainly(run)}
        for name, run in {"loss": loss, "predict": predict}.items()
    }


def part_runs() -> dict[str, dict[str, Callable[[], object]]]:
    """Assignment and soft-NMS alone, by variant."""
    objects = torch.rand(300, 4) * torch.tensor([1, 1, 0.3, 0.3]) + 1e-3
    anchors = torch.rand(70000, 4) * torch.tensor([1, 1, 0.3, 0.3])
    boxes, scores = crowd(2000), torch.rand(2000)
    several, one = torch.randint(0, 80, (2000,)), torch.zeros(2000, dtype=torch.int64)
    pairs, soft = {}, {}
    for variant, assign, suppress in (
        ("pe_dense", match_pairs, soft_nms_quad),
        ("plain", plain_pairs, plain_soft_nms),
    ):
        pairs[variant] = lambda assign=assign: assign(objects, anchors, 0.7, 10**6)
        soft[variant] = lambda suppress=suppress: suppress(boxes, scores, several)
        soft[variant + " "] = lambda suppress=suppress: suppress(boxes, scores, one)
    crowds = {variant: soft[variant + " "] for variant in VARIANTS}
    return {
        "assign": pairs,
        "soft-nms, 80 classes": {variant: soft[variant] for variant in VARIANTS},
        "soft-nms, 1 class": crowds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts-only", action="store_true", help="leave the model out")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    if args.memory_of:
        print(peak_bytes_above_now(part_runs()["assign"][args.memory_of]))
        return
    runs = part_runs()
    if not args.parts_only:
        runs |= model_runs()
    rows = []
    for part, variants in runs.items():
        check_equal(*(run() for run in variants.values()))
        medians = interleaved_ms(variants, args.repeats)
        peaks = dict.fromkeys(VARIANTS, "")
        if part == "assign":
            peaks = peak_mib_of_variants([], VARIANTS)
        row = {
            "part": part,
            "pe_dense_ms": round(medians["pe_dense"], 2),
            "plain_ms": round(medians["plain"], 2),
            "ratio": round(medians["pe_dense"] / medians["plain"], 3),
            "pe_dense_peak_mib": peaks["pe_dense"],
            "plain_peak_mib": peaks["plain"],
            "repeats": args.repeats,
            "hardware": hardware(),
            "versions": versions("onedl-mmdetection", "onedl-mmcv"),
            "command": command_line(),
        }
        print(*(f"{key}={value}" for key, value in list(row.items())[:6]), flush=True)
        rows.append(row)
    write_rows(FOLDER / "deta_cpu.csv", rows, ("part",))


def check_equal(ours: object, plain: object) -> None:
    """Both variants found the same."""
    if isinstance(ours, float):
        assert abs(ours - plain) < 1e-4 * abs(plain), (ours, plain)
        return
    assert ours[0].tolist() == plain[0].tolist()
    assert torch.allclose(ours[1].double(), plain[1].double(), atol=1e-4)


if __name__ == "__main__":
    main()
