"""Masks of a first frame, passed on through a video: indexed PNGs and a picture of each frame.

The config is one of label propagation, such as configs/tracking/vos_custom.py; nothing is trained.
Results equal those of `tools/test.py` with the same settings on the same frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import pe_dense.tracking  # noqa: F401 (registers)
from pe_dense.data.video_file import VideoFrame
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.pictures.masks import draw_identities
from pe_dense.predict.video_prediction import frame_name
from pe_dense.predict.video_source import VideoSource
from pe_dense.run.config import load_template, resolved
from pe_dense.run.start_table import tell_weights
from pe_dense.tracking.frames import write_label_map
from pe_dense.tracking.mask_stream import stream_masks
from pe_dense.tracking.own_masks import read_own_mask
from pe_dense.tracking.video_propagator import VideoPropagator


class MaskPredictor:
    """A `VideoPredictor` that follows the objects of a first mask.

    Files: '<folder>/<frame>.png', indexed with DAVIS's palette, at the size of the frames.

    Args:
        model: With one layer and setting.
        mask: File of the mask of the first frame, in a form of `own_masks`.
        bits: Of 16-bit frames in a folder.

    Raises:
        ValueError: If the mask cannot be read or has no object.
    """

    as_stored = True  # masks are of stored pixels

    def __init__(self, model: VideoPropagator, mask: Path, bits: int | None = None) -> None:
        self.model, self.mask, self.bits = model, mask, bits
        self.first_HW = read_own_mask(mask)
        objects = np.setdiff1d(np.unique(self.first_HW), (0, 255))
        if not len(objects):
            raise ValueError(
                f"mask {mask} has no object to pass on; annotate it with ids from 1 (255 is void)"
            )
        self.objects = tuple(objects.tolist())

    def predict(
        self, source: VideoSource, frames: Iterator[VideoFrame], folder: Path
    ) -> Iterator[tuple[VideoFrame, np.ndarray]]:
        """See `VideoPredictor`."""
        waiting: deque[VideoFrame] = deque()

        def images() -> Iterator[np.ndarray]:
            for frame in frames:
                if frame.image_HW3.shape[:2] != self.first_HW.shape:
                    raise ValueError(
                        f"mask {self.mask} has {self.first_HW.shape[0]} x "
                        f"{self.first_HW.shape[1]} px, the frames of {source.where} "
                        f"{frame.image_HW3.shape[0]} x {frame.image_HW3.shape[1]}; save the mask "
                        "at the size of the frames"
                    )
                waiting.append(frame)
                yield frame.image_HW3

        stream = stream_masks(self.model, images(), self.first_HW, 1 if source.is_live else None)
        first_HW = next(stream)
        for labels_HW in stream:
            if first_HW is not None:
                yield self._written(waiting.popleft(), first_HW, folder)
                first_HW = None
            yield self._written(waiting.popleft(), labels_HW, folder)
        if first_HW is not None and waiting:  # a video of one frame
            yield self._written(waiting.popleft(), first_HW, folder)

    def _written(
        self, frame: VideoFrame, labels_HW: np.ndarray, folder: Path
    ) -> tuple[VideoFrame, np.ndarray]:
        write_label_map(folder / f"{frame_name(frame)}.png", labels_HW)
        return frame, draw_identities(frame.image_HW3, labels_HW, 1.0)


def open_mask_predictor(
    config: str,
    mask: Path,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> MaskPredictor:
    """What `tools/predict.py CONFIG VIDEO --mask FIRST.png` asks for.

    Args:
        config: Of label propagation; what it finds in data (`$data.layers`) is not needed: the
            middle block then serves.
        mask: Of the first frame.
        encoder: Replaces that of the config.
        weights: Likewise.
        options: `--cfg-options`.

    Raises:
        ValueError: If the config is of another kind or asks for several layers or settings, or
            the mask is wrong.
    """
    cfg = propagation_config(config, encoder, weights, options)
    init_default_scope("mmengine")
    torch.manual_seed(cfg.randomness.seed)  # random weights are those that a test scores
    predictor_bits = cfg.get("image_bits")
    read_own_mask(mask)  # before weights are downloaded
    model = MODELS.build({**cfg.model, "journal_dir": None, "results_dir": None})
    tell_weights(str(cfg.encoder), model.backbone.weights_info)
    if len(model.layers) * len(model.settings) > 1:
        raise ValueError(
            f"config {config} compares {len(model.layers)} layers x {len(model.settings)} "
            "settings, and a video is predicted with one: use configs/tracking/vos_custom.py, or "
            "--cfg-options 'layers=[N]' where N is what the test chose"
        )
    return MaskPredictor(model.to(device_of_machine()).eval(), mask, predictor_bits)


def propagation_config(
    config: str,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The resolved config of a `VideoPropagator`, without any data.

    Raises:
        ValueError: If it is of another kind.
    """
    template = load_template(config, encoder, weights, options)
    if template.get("model", {}).get("type") != "VideoPropagator":
        raise ValueError(
            f"config {config} does not pass on masks; use one such as "
            "configs/tracking/vos_custom.py"
        )
    kept = {
        key: value
        for key, value in template.to_dict().items()
        if key in ("model", "randomness")
        or not (isinstance(value, dict | list | tuple) or key in ("data_facts", "data_check"))
        or key in ("settings", "layers")
    }
    kept = {
        key: value
        for key, value in kept.items()
        if not (type(value) is str and value.startswith("$data."))
    }
    kept.setdefault("layers", "middle")
    return resolved(Config(kept, filename=template.filename), config)
