"""Runs label propagation or a tracker on a few videos, for pictures of them.

Shape legend: L layers, S settings, K objects, N boxes of a frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn

from pe_dense.data.image_files import spread
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.pictures.boxes import Boxes
from pe_dense.tracking.frames import read_label_map
from pe_dense.tracking.layer_choice import best_of, mean_j_and_f
from pe_dense.tracking.mot_files import read_ground_truth, read_sequence_info
from pe_dense.tracking.pictures import FrameView, VideoView


@contextmanager
def propagated_videos(cfg: Mapping[str, Any], number: int | None) -> Iterator[list[VideoView]]:
    """Some of the videos that a config of label propagation reports, with their results.

    One layer and setting is drawn: the one that the config's own selection chooses, else the best
    on the drawn videos (report='best'), else the first. Label maps lie in a temporary folder as
    long as the context is open.

    Args:
        cfg: Resolved config.
        number: Of videos, evenly spread; None takes all.

    Raises:
        ValueError: If data are missing or wrong.
    """
    dataset = DATASETS.build(cfg["test_dataloader"]["dataset"])
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    reported = [video for video in videos if video["purpose"] != "select"]  # or written alone
    drawn = [reported[i] for i in spread(len(reported), number or len(reported))]
    model_cfg = {**cfg["model"], "journal_dir": None, "results_dir": None}
    with tempfile.TemporaryDirectory() as folder:
        model = _built(model_cfg, cfg["randomness"]["seed"])
        is_one = len(model.layers) * len(model.settings) == 1
        if len(reported) == len(videos) and not is_one:
            at = (0, 0)
            if cfg["report"] == "best":
                every = [model.propagate(video)["statistics"] for video in drawn]
                at = best_of(mean_j_and_f(every))
            model.layers, model.settings = (model.layers[at[0]],), (model.settings[at[1]],)
            model_cfg["layers"], model_cfg["listed_depth"] = list(model.layers), None
            model_cfg["settings"] = [cfg["model"]["settings"][at[1]]]
        model_cfg["results_dir"] = str(Path(folder) / "maps")
        model = _built(model_cfg, cfg["randomness"]["seed"])
        for video in videos:
            if video["purpose"] == "select":
                model.propagate(video)
        yield [_propagated(video, model.propagate(video), Path(folder) / "maps") for video in drawn]


def tracked_videos(
    cfg: Mapping[str, Any], model: nn.Module, number: int | None
) -> Iterator[VideoView]:
    """Some of the sequences that a config of multi-object tracking tests on, with their tracks.

    Args:
        cfg: Resolved config.
        model: The tracker with its weights.
        number: Of sequences, evenly spread; None takes all.

    Raises:
        ValueError: If data are missing or wrong.
    """
    dataset: BaseDataset = DATASETS.build(cfg["test_dataloader"]["dataset"])
    for v in spread(len(dataset), number or len(dataset)):
        with tempfile.TemporaryDirectory() as folder:
            scores = METRICS.build({**cfg["test_evaluator"], "out_dir": folder})
            found = []
            for t in range(len(dataset.get_data_info(v)["images"])):
                with torch.no_grad():
                    [sample] = model.test_step(pseudo_collate([dataset[v, t]]))
                scores.process(None, [sample.to_dict()])
                found += list(sample)
            scores.evaluate(len(found))
            metrics = scores.evidence().metrics()
        place = Path(found[0].metainfo["sequence_dir"])
        info = read_sequence_info(place)
        rows = read_ground_truth(place / "gt" / "gt.txt", info.num_frames)
        views = []
        for frame in found:
            counts_Q = rows.is_active & (rows.frames_Q == int(frame.metainfo["frame_number"]))
            boxes_N4 = rows.boxes_xywh_Q4[counts_Q].copy()
            boxes_N4[:, :2] -= 1  # the first pixel is 1 in the file
            boxes_N4[:, 2:] += boxes_N4[:, :2]
            tracks = frame.pred_track_instances
            own = Boxes(tracks.bboxes.cpu().numpy(), tracks.instances_id.cpu().numpy())
            truth = Boxes(boxes_N4, rows.ids_Q[counts_Q])
            views.append(
                FrameView(Path(frame.metainfo["img_path"]), truth, own, cfg.get("image_bits"))
            )
        words = f"HOTA {metrics['HOTA']:.3f}  IDF1 {metrics['IDF1']:.3f}"
        yield VideoView(info.name, f"{words}  IDSW {metrics['IDSW']:.0f}", views)


def _built(model_cfg: Mapping[str, Any], seed: int) -> nn.Module:
    """The model on its device; random weights are those that the protocol scores."""
    torch.manual_seed(seed)
    return MODELS.build(model_cfg).to(device_of_machine()).eval()


def _propagated(video: Mapping[str, Any], found: Mapping[str, Any], maps: Path) -> VideoView:
    """Files of a video that was run; results are read when they are drawn."""
    words = "not scored"
    if found["statistics"] is not None:
        j, f = found["statistics"][0, 0][:, [0, 3]].mean(axis=0)
        words = f"J&F {(j + f) / 2:.3f}  J {j:.3f}  F {f:.3f}"
    views = []
    for frame, mask in zip(video["frame_paths"], video["mask_paths"], strict=True):
        truth = None if mask is None else read_label_map(Path(mask))
        own = read_label_map(maps / video["video"] / f"{Path(frame).stem}.png")
        views.append(FrameView(Path(frame), truth, own, video["bits"]))
    words += f"  layer {found['layers'][0]}"
    return VideoView(video["video"], words, views)
