"""Segmentation's own parts against mmseg's, on a CPU.

    python benchmarks/speed/segmentation_cpu.py --repeats 3

'loss': upsampled cross-entropy of 2 images, 150 classes, 512 px, forward and backward (targets: a
quarter of the memory, not slower). 'slide': sliding inference of one 1200x1600 image with 150
classes on PE Spatial T/16 (target: twice as fast, same labels). 'metric': mean IoU of label maps
of 512x683 px with 150 classes, per image (target: three times as fast, same counts).
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import torch
from measure import (
    FOLDER,
    command_line,
    hardware,
    interleaved_ms,
    peak_bytes_above_now,
    peak_mib_of_variants,
    versions,
    write_rows,
)
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import pe_dense.segmentation  # noqa: F401 (registers its parts)
from pe_dense.pixelwise.mean_iou import image_counts
from pe_dense.pixelwise.upsampled_loss import reference_cross_entropy, upsampled_cross_entropy

VARIANTS = ("pe_dense", "mmseg")
CLASSES = 150


def loss_runs() -> dict[str, Callable[[], object]]:
    """Loss and gradient of token logits."""
    logits = torch.randn(2, CLASSES, 32, 32, requires_grad=True)
    labels = torch.randint(0, CLASSES, (2, 512, 512))

    def ours() -> float:
        loss = upsampled_cross_entropy(logits, labels)
        loss.backward()
        logits.grad = None
        return float(loss)

    def plain() -> float:
        loss = reference_cross_entropy(logits, labels)
        loss.backward()
        logits.grad = None
        return float(loss)

    return {"pe_dense": ours, "mmseg": plain}


def slide_runs() -> dict[str, Callable[[], object]]:
    """Labels of one large image."""
    init_default_scope("mmseg")
    models = {}
    for kind, variant in (("DenseSegmentor", "pe_dense"), ("EncoderDecoder", "mmseg")):
        models[variant] = MODELS.build(
            ConfigDict(
                type=kind,
                data_preprocessor=dict(type="SegDataPreProcessor"),
                backbone=dict(type="DenseBackbone", encoder="pe_spatial_t16_512"),
                decode_head=dict(type="LinearSegHead", in_channels=192, num_classes=CLASSES),
                test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
            )
        ).eval()
    models["mmseg"].load_state_dict(models["pe_dense"].state_dict(), strict=True)
    image = torch.randn(1, 3, 1200, 1600)
    size = (1200, 1600)

    def run(model: torch.nn.Module) -> torch.Tensor:
        sample = SegDataSample(
            metainfo=dict(ori_shape=size, img_shape=size, pad_shape=size, img_path="image")
        )
        with torch.no_grad():
            return model.predict(image, [sample])[0].pred_sem_seg.data

    return {variant: (lambda model=model: run(model)) for variant, model in models.items()}


def metric_runs() -> dict[str, Callable[[], object]]:
    """Counts of one image."""
    labels = torch.randint(0, CLASSES, (512, 683), dtype=torch.uint8)
    labels[torch.rand(labels.shape) < 0.1] = 255
    prediction = torch.randint(0, CLASSES, (512, 683))
    return {
        "pe_dense": lambda: torch.from_numpy(
            image_counts(prediction.numpy(), labels.numpy(), CLASSES)[0]
        ),
        "mmseg": lambda: IoUMetric.intersect_and_union(prediction, labels, CLASSES, 255)[0].long(),
    }


RUNS = {"loss": loss_runs, "slide": slide_runs, "metric": metric_runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=tuple(RUNS), choices=RUNS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    rows = []
    for part in args.parts:
        runs = RUNS[part]()
        if args.memory_of:
            print(peak_bytes_above_now(runs[args.memory_of]))
            return
        check_equal(*(run() for run in runs.values()))
        medians = interleaved_ms(runs, args.repeats)
        peaks = peak_mib_of_variants(["--parts", part], VARIANTS)
        row = {
            "part": part,
            "pe_dense_ms": round(medians["pe_dense"], 2),
            "mmseg_ms": round(medians["mmseg"], 2),
            "ratio": round(medians["pe_dense"] / medians["mmseg"], 3),
            "pe_dense_peak_mib": peaks["pe_dense"],
            "mmseg_peak_mib": peaks["mmseg"],
            "repeats": args.repeats,
            "hardware": hardware(),
            "versions": versions("onedl-mmsegmentation"),
            "command": command_line(),
        }
        print(*(f"{key}={value}" for key, value in list(row.items())[:6]), flush=True)
        rows.append(row)
    write_rows(FOLDER / "segmentation_cpu.csv", rows, ("part",))


def check_equal(ours: object, theirs: object) -> None:
    """Both variants found the same, but for pixels where two classes tie within rounding."""
    if isinstance(ours, float):
        assert abs(ours - theirs) < 1e-5 * abs(theirs), (ours, theirs)
        return
    assert (ours == theirs).float().mean() > 0.9999


if __name__ == "__main__":
    main()
