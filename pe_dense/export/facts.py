"""What an exported file says of itself, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.zoo import LICENCES, find_encoder
from pe_dense.export.program import INPUT_RANGE, Sizes
from pe_dense.files import file_sha256
from pe_dense.predict.predictor import steps_per_metre
from pe_dense.results.provenance import code_state, library_versions
from pe_dense.run.trained_run import TrainedRun

FORMAT_VERSION = 2


def encoder_facts(name: str, weights: WeightsInfo, sizes: Sizes, precision: str) -> dict[str, Any]:
    """Of an encoder alone."""
    return {**_common(name, weights, sizes, precision), "classes": [], "checkpoint_sha256": None}


def run_facts(run: TrainedRun, sizes: Sizes, precision: str) -> dict[str, Any]:
    """Of a trained model."""
    assert run.file is not None
    info = run.cfg.get("protocol")
    protocol = None
    if info is not None:
        names = ("id", "version", "task", "dataset", "metric")
        protocol = {key: info[key] for key in names if key in info}
        protocol["sha256"] = run.facts.protocol_sha256
    return {
        **_common(run.facts.encoder, run.facts.scored_weights, sizes, precision),
        "classes": [str(name) for name in run.cfg.get("classes") or ()],
        "checkpoint_sha256": file_sha256(run.file),
        "protocol": protocol,
    }


def file_facts(cfg: Config, task: str) -> dict[str, Any]:
    """How `tools/predict.py` writes what a model finds.

    Returns:
        `ids`, the number of each class in label maps and COCO files; `palette`, RGB of each class
        in label maps; `steps_per_metre` of 16-bit depth.
    """
    classes = tuple(map(str, cfg.get("classes") or ()))
    if task == "detection":
        return dict(ids=list(range(1, len(classes) + 1)))
    if task == "depth":
        return dict(steps_per_metre=steps_per_metre(cfg))
    from pe_dense.segmentation.label_ids import label_ids  # heavy: mmseg
    from pe_dense.segmentation.pictures import palette_of

    dataset = cfg.test_dataloader.dataset
    palette = palette_of(dataset, classes).tolist()
    return dict(ids=list(label_ids(dataset, classes)), palette=palette)


def _common(name: str, weights: WeightsInfo, sizes: Sizes, precision: str) -> dict[str, Any]:
    commit, dirty = code_state()
    return dict(
        format=FORMAT_VERSION,
        encoder=name,
        weights=dict(source=weights.source, sha256=weights.sha256),
        licence=licence_of(name, weights),
        precision=precision,
        input=dict(
            name="image", order="RGB", layout="NCHW", dtype="float32", range=[0, INPUT_RANGE],
            height=sizes.height, width=sizes.width, open_size=sizes.open_size,
            multiple=sizes.multiple, batch=None if sizes.open_batch else sizes.batch,
        ),
        pe_dense=library_versions(["pe_dense"])["pe_dense"],
        commit=f"{commit}{' (changed)' if dirty else ''}",
    )  # fmt: skip


def licence_of(name: str, weights: WeightsInfo) -> Mapping[str, str | bool]:
    """Under which licence the encoder's weights are that a model was made from.

    Weights from a random generator have none; those of a file of one's own are not known here.
    """
    spec = find_encoder(name)
    if weights.source == "random":
        return dict(name="none: trained from random weights", url="", is_non_commercial=False)
    return dict(
        name=spec.licence,
        url=LICENCES.get(spec.licence, ""),
        is_non_commercial=spec.is_non_commercial,
    )
