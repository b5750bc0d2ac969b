"""The score of an exported file beside its checkpoint's: the same pictures, labels and metric.

Both are scored in one run of the protocol's own evaluation. The checkpoint runs as tools/test.py
runs it; for the file, the model's step is replaced by who runs such files, so that its own way of
resizing, padding and drawing is scored too.

Shape legend: H W pixels of a picture, Q detections.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

from pe_dense.data.picture import read_picture
from pe_dense.export.picture_rule import picture_rule
from pe_dense.files import file_sha256
from pe_dense.openmmlab.finite_outputs import RequireFiniteOutputs
from pe_dense.predict.predictor import split_pipeline
from pe_dense.results import provenance
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.record_intervals import confidence_intervals, interval_info
from pe_dense.results.statistics import paired_difference
from pe_dense.run.checkpoint import install, load_strictly
from pe_dense.run.checkpoint_choice import training_info
from pe_dense.run.config import check_data
from pe_dense.run.evaluation import build_runner, plain_scores
from pe_dense.run.opened_run import open_run
from pe_dense.run.protocol import followed_protocol
from pe_dense.run.request import RunRequest
from pe_dense.run.scored_data import content_of
from pe_dense.run.task import task_of
from pe_dense.run.trained_run import TrainedRun, bare_model

FORMAT_VERSION = 1
VERSIONS = ("python", "pe_dense", "torch", "onnx", "onnxruntime", "numpy")
# (H, W, 3) RGB uint8 -> what docs/run_onnx.py says that it gives.
PictureRun = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def score_path(file: Path) -> Path:
    """Where the scores of an exported file lie.

    Example:
        >>> str(score_path(Path("model.onnx")))
        'model.onnx.score.json'
    """
    return file.with_name(file.name + ".score.json")


def scored_run(request: RunRequest, checkpoint: Path) -> TrainedRun:
    """What is scored, with its data; opened before a file is made, as this may be refused.

    Raises:
        ValueError: If it has no protocol, its pictures are prepared in a way that a file is not
            told of, or its data are not there.
    """
    install()
    run = open_run(request, checkpoint)
    assert run.file is not None
    if not run.cfg.get("protocol"):
        raise ValueError(
            f"{request.config or run.file} has no protocol, so that --score has no metric; name a "
            "config that has: --score CONFIG"
        )
    if "tta_model" in run.cfg:
        raise ValueError(
            f"{request.config or run.file} scores several views of a picture (tiles, "
            "augmentation), of which an exported file knows nothing; leave --score out, or name "
            "the config without them: --score CONFIG"
        )
    not_done = picture_rule(run.cfg.test_dataloader.dataset.pipeline)["not_done"]
    if not_done:
        raise ValueError(
            f"--score runs the file on whole pictures, and {', '.join(not_done)} of the test's "
            "pipeline is not told to a file; leave --score out"
        )
    return run


def score_file(
    run: TrainedRun, request: RunRequest, file: Path, run_picture: PictureRun
) -> dict[str, Any]:
    """Score the checkpoint, then the file, and write `score_path(file)`.

    Args:
        run: Of `scored_run`.
        request: How it was asked for.
        file: Exported from the checkpoint of `run`.
        run_picture: Runs the file on a picture.

    Returns:
        What was written.

    Raises:
        ValueError: If the data break a rule, or what the file says of a picture cannot be scored.
    """
    assert run.file is not None and run.content is not None
    training = training_info(run.cfg, run.facts, run.file, run.content.get("meta", {}))
    protocol = followed_protocol(
        run.config, run.template, run.cfg, run.facts, run.file, training, run.own_sha256,
        run.trained is not None,
    )  # fmt: skip
    accepted = check_data(run.cfg, ("test",))
    task = task_of(run.cfg)
    reads, _ = split_pipeline(run.cfg.test_dataloader.dataset.pipeline)
    runner = build_runner(run, request)
    runner.register_hook(RequireFiniteOutputs(f"checkpoint {run.file} or {file}"))
    model = bare_model(runner)
    load_strictly(model, run.content, str(run.file))
    content = content_of(runner.test_dataloader.dataset)
    sides: dict[str, tuple[dict[str, float], ItemEvidence | None]] = {}
    for side in ("checkpoint", "file"):
        if side == "file":
            runner.model.test_step = _step(task, reads, run_picture)
        scores = plain_scores(runner.test())
        sides[side] = scores, _evidence(runner.test_evaluator.metrics)
    found = dict(
        format=FORMAT_VERSION,
        file=dict(name=file.name, **hashes_of_file(file)),
        checkpoint_sha256=file_sha256(run.file),
        protocol=dataclasses.asdict(protocol),
        data=dict(
            name=run.cfg.protocol.dataset,
            split=run.cfg.protocol.split,
            num_items=len(runner.test_dataloader.dataset),
            sha256=None if content is None else content.sha256,
            accepted=list(accepted),
        ),
        **_both(sides, protocol.metric),
        created=provenance.utc_now(),
        command=provenance.command_line(request.argv),
        code=dict(zip(("commit", "is_changed"), provenance.code_state(), strict=True)),
        versions=provenance.library_versions(VERSIONS),
        hardware=dataclasses.asdict(provenance.hardware()),
    )
    score_path(file).write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
    return found


def hashes_of_file(file: Path) -> dict[str, str]:
    """Of an exported file, and of the weights that lie beside it."""
    beside = file.with_name(file.name + ".data")
    found = {"sha256": file_sha256(file)}
    return {**found, "data_sha256": file_sha256(beside)} if beside.exists() else found


def told_scores(found: Mapping[str, Any], file: Path) -> list[str]:
    """What a person reads of `score_file`."""
    protocol, name = found["protocol"], found["protocol"]["metric"]
    ours, theirs = (found["scores"][side][name] for side in ("file", "checkpoint"))
    words = f"  {name} of the file {ours:.4f}, of the checkpoint {theirs:.4f}"
    difference = found["difference"]
    if difference["low"] is not None:
        words += (
            f"; difference {difference['value']:+.4f}, 95 % interval {difference['low']:+.4f} to "
            f"{difference['high']:+.4f} by {difference['unit']}"
        )
    where = f"{found['data']['num_items']} of {found['data']['name']} {found['data']['split']}"
    return [
        f"{words} ({protocol['id']}-v{protocol['version']}, {where})",
        f"  scores: {score_path(file)}",
    ]


def _both(sides: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Scores, intervals, and the difference on the same resamples."""
    scores = {side: found for side, (found, _) in sides.items()}
    evidence = [sides[side][1] for side in ("file", "checkpoint")]
    difference: dict[str, Any] = dict(
        metric=metric, value=scores["file"][metric] - scores["checkpoint"][metric],
        low=None, high=None, unit=None,
    )  # fmt: skip
    ci95: dict[str, Any] = {}
    for side, (found, items) in sides.items():
        known = None if items is None else confidence_intervals(items, found)
        if known is not None and metric in known:
            ci95[side] = dataclasses.asdict(known[metric][0])
    if len(ci95) == 2:
        paired = interval_info(paired_difference(evidence[0], evidence[1], metric), metric)
        difference |= dict(low=paired.low, high=paired.high, unit=paired.unit)
    return dict(scores=scores, ci95=ci95 or None, difference=difference)


def _evidence(metrics: Sequence[Any]) -> ItemEvidence | None:
    metric = next((m for m in metrics if hasattr(m, "evidence")), None)
    return None if metric is None else metric.evidence()


def _step(
    task: str, reads: Mapping[str, Any], run_picture: PictureRun
) -> Callable[[Mapping[str, Any]], list[Any]]:
    """What stands for a model's `test_step`: the pictures of a batch are read again, and run."""

    def step(batch: Mapping[str, Any]) -> list[Any]:
        samples = list(batch["data_samples"])
        for sample in samples:
            picture = read_picture(sample.img_path, as_stored=task != "detection", **reads)
            if picture.shape[:2] != tuple(sample.ori_shape[:2]):
                raise ValueError(
                    f"{sample.img_path} has {picture.shape[1]}x{picture.shape[0]} pixels and is "
                    "scored in parts of other sizes, which an exported file does not know"
                )
            _fill(task, sample, run_picture(picture))
        return samples

    return step


def _fill(task: str, sample: Any, found: Mapping[str, np.ndarray]) -> None:
    """Put a result where the model would."""
    if task == "segmentation":
        labels_1HW = torch.from_numpy(found["labels"].astype(np.int64))[None]
        sample.set_data({"pred_sem_seg": PixelData(data=labels_1HW)})
    elif task == "depth":
        depth_1HW = torch.from_numpy(found["depth"].astype(np.float32))[None]
        sample.set_data({"pred_depth_map": PixelData(data=depth_1HW)})
    else:
        known = dict(
            bboxes=torch.from_numpy(found["boxes"].astype(np.float32)),
            scores=torch.from_numpy(found["scores"].astype(np.float32)),
            labels=torch.from_numpy(found["labels"].astype(np.int64)),
        )
        if "masks" in found:
            known["masks"] = torch.from_numpy(found["masks"])
        sample.pred_instances = InstanceData(**known)
