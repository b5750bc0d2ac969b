"""A tracker around whatever detector a checkpoint holds: the checkpoint says which.

A config of tracking with `detector_of_checkpoint = True` leaves its model's `detector` open. The
detector, the normalisation and the resizing are those that the checkpoint was trained and tested
with; the tracker is the config's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.run.config import overridden, read_config, resolved
from pe_dense.run.request import RunRequest
from pe_dense.run.saved_run import open_saved
from pe_dense.run.task import task_of
from pe_dense.run.trained_run import TrainedRun

NORMALISATION = ("mean", "std", "bgr_to_rgb", "rgb_to_bgr", "pad_size_divisor", "pad_value")
NO_DATA = dict(name="", sha256=None)
NOT_RESIZING = ("LoadImage", "LoadAnnotations", "LoadPolygons", "PackDetInputs")


def takes_any_detector(config: str) -> bool:
    """Whether a config, '' for none, leaves its detector to the checkpoint."""
    return bool(config) and bool(read_config(config).get("detector_of_checkpoint"))


def open_tracker(request: RunRequest, file: Path, with_data: bool = True) -> TrainedRun:
    """The tracker of a config around the detector of a checkpoint.

    Args:
        request: Config of the tracker, and overrides of its values.
        file: Checkpoint of a detector.
        with_data: Whether the config's data are looked at; else its facts of data are none.

    Raises:
        ValueError: If the checkpoint is of another task, or does not know its config, or a class
            that is to be tracked is none of the detector's.
    """
    detector = open_saved(file)
    if (task := task_of(detector.cfg)) != "detection":
        raise ValueError(
            f"checkpoint {detector.file} is of {task}, and boxes are tracked "
            "with a detector; name a checkpoint of configs/detection/"
        )
    if request.encoder not in (None, detector.facts.encoder):
        raise ValueError(
            f"checkpoint {detector.file} holds {detector.facts.encoder}, not {request.encoder}; "
            "leave --encoder out"
        )
    encoder = detector.facts.encoder
    template = overridden(
        read_config(request.config), request.config, encoder, "random", request.options
    )
    if request.accept:
        template.accept = sorted({*template.get("accept", ()), *request.accept})
    template = with_detector(template, detector.cfg)
    cfg = resolved(template, request.config, None if with_data else NO_DATA)
    cfg.model.keep_labels = labels_of(cfg.get("tracked"), detector.cfg.get("classes"), file)
    return TrainedRun(file, detector.content, detector.facts, cfg, template, request.config)


def with_detector(template: Config, trained: Config) -> Config:
    """A tracker's config with the detector of another, its normalisation and its resizing."""
    settings = template.to_dict()
    model = copy.deepcopy(trained.model.to_dict())
    model["backbone"]["weights"] = "random"  # the checkpoint has them
    normalisation = model.get("data_preprocessor") or {}
    settings["model"]["detector"] = model
    settings["model"]["data_preprocessor"] = {"type": "TrackDataPreprocessor"} | {
        name: normalisation[name] for name in NORMALISATION if name in normalisation
    }
    steps = trained.test_dataloader.dataset.pipeline
    for step in settings["test_dataloader"]["dataset"]["pipeline"]:
        if step["type"] == "TransformBroadcaster":
            step["transforms"] = [dict(type="LoadImage"), *_resizing(steps)]
    return Config(settings, filename=template.filename)


def _resizing(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [copy.deepcopy(dict(step)) for step in steps if step["type"] not in NOT_RESIZING]


def labels_of(
    tracked: str | Sequence[str] | None, classes: Sequence[str] | None, file: Path
) -> list[int] | None:
    """Labels of the classes that are tracked; None for all.

    Args:
        tracked: Names, also as one text with commas.
        classes: Of the detector, in order.
        file: How errors call its checkpoint.

    Raises:
        ValueError: If one is none of the detector's.

    Example:
        >>> labels_of("[car, person]", ["person", "dog", "car"], Path("a.pth"))
        [2, 0]
    """
    if tracked is None:
        return None
    if isinstance(tracked, str):
        tracked = [name.strip() for name in tracked.strip("[]").split(",") if name.strip()]
    known = [str(name) for name in classes or ()]
    for name in tracked:
        if name not in known:
            listed = ", ".join(known[:8]) or "unknown"
            raise ValueError(
                f"tracked names {name!r}, and the classes of {file} are {listed}; correct it"
            )
    return [known.index(name) for name in tracked]
