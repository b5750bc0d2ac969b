"""Tracking by detection: data set, appearance, trackers, and the configs from end to end."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from pe_dense.data.checks.rules import problems
from pe_dense.run.checkpoint import load_strictly
from pe_dense.run.config import load_config
from pe_dense.tracking import byte_tracker, mot, mot_check
from pe_dense.tracking.appearance import box_embeddings, mixed_affinity, updated_embedding
from pe_dense.tracking.mot_dataset import MOTSequences, frame_range

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "tracking"
needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("lap", "trackeval")),
    reason="needs the extra 'mot'",
)
BYTE = dict(
    motion=dict(type="KalmanFilter"),
    obj_score_thrs=dict(high=0.5, low=0.1),
    init_track_thr=0.5,
    weight_iou_with_det_scores=False,
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


# Data set ---------------------------------------------------------------------------------------


def test_halves_meet_without_overlap():
    for n in (3, 4, 5, 600, 837):
        (a, b), (c, d) = frame_range(n, "first"), frame_range(n, "second")
        assert (a, c, d) == (1, b + 1, n) and b - a >= d - c
    with pytest.raises(ValueError, match="half='third'"):
        frame_range(10, "third")
    with pytest.raises(ValueError, match="has no halves"):
        frame_range(2, "first")


def test_frames_and_boxes_of_the_mini_world(mini_root):
    dataset = MOTSequences(str(mini_root / "mot" / "train"), pipeline=[])
    [video] = dataset.load_data_list()
    rows = (Path(video["images"][0]["sequence_dir"]) / "gt" / "gt.txt").read_text().split()
    active = [row.split(",") for row in rows if row.split(",")[6] == "1"]
    assert sum(len(image["instances"]) for image in video["images"]) == len(active)
    first, box = active[0], video["images"][0]["instances"][0]["bbox"]
    x, y, w, h = map(float, first[2:6])
    assert box == [x - 1, y - 1, x - 1 + w, y - 1 + h]  # pixels count from 0 in memory
    assert [image["frame_id"] for image in video["images"]] == [0, 1, 2, 3]


def test_training_without_boxes_is_refused(mini_root):
    with pytest.raises(ValueError, match="no frame of .* box of class 5"):
        MOTSequences(str(mini_root / "mot" / "train"), class_ids=(5,), pipeline=[])


# Appearance -------------------------------------------------------------------------------------


def test_a_box_has_the_feature_below_it():
    map_1Chw = torch.zeros(1, 2, 8, 8)
    map_1Chw[:, 0, :, :4], map_1Chw[:, 1, :, 4:] = 3.0, 5.0
    boxes = torch.tensor([[0.5, 1.0, 3.0, 6.0], [5.0, 1.0, 7.5, 6.0]])
    embeddings = box_embeddings(map_1Chw, boxes, centred=False)
    torch.testing.assert_close(embeddings, torch.eye(2))
    assert box_embeddings(map_1Chw, boxes[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match="one image"):
        box_embeddings(map_1Chw.expand(2, -1, -1, -1), boxes)


def test_what_all_patches_share_is_taken_out():
    map_1Chw = 100 + torch.zeros(1, 2, 8, 8)
    map_1Chw[:, 0, :, :4] += 1
    map_1Chw[:, 0, :, 4:] -= 1
    boxes = torch.tensor([[0.5, 1.0, 3.0, 6.0], [5.0, 1.0, 7.5, 6.0]])
    plain, centred = (box_embeddings(map_1Chw, boxes, c) for c in (False, True))
    assert plain[0] @ plain[1] > 0.99 and centred[0] @ centred[1] < -0.99


def test_affinity_by_hand():
    iou, cosine = torch.tensor([[0.5, 0.05, 0.0]]), torch.tensor([[0.9, 1.0, -1.0]])
    mixed = mixed_affinity(iou, cosine, weight=0.25, min_iou=0.1)
    torch.testing.assert_close(mixed, torch.tensor([[0.6, 0.0375, 0.0]]))
    torch.testing.assert_close(mixed_affinity(iou, cosine, 0.0, 0.1), iou)
    with pytest.raises(ValueError, match="weight=2"):
        mixed_affinity(iou, cosine, 2, 0.1)


def test_the_moving_average_has_length_1():
    old, new = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    mean = updated_embedding(old, new, 0.75)
    torch.testing.assert_close(mean, torch.tensor([3.0, 1.0]) / 10**0.5)
    assert updated_embedding(None, new, 0.75) is new


# Trackers ---------------------------------------------------------------------------------------


def frame(number, boxes, labels=None):
    sample = DetDataSample(metainfo=dict(frame_id=number))
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    sample.pred_instances = InstanceData(
        bboxes=boxes,
        scores=torch.full((len(boxes),), 0.9),
        labels=torch.zeros(len(boxes), dtype=torch.long) if labels is None else labels,
    )
    return sample


def by_order(boxes):
    """The first detection of a frame looks like (1, 0), the second like (0, 1)."""
    return torch.eye(2)[: len(boxes)]


def follow(tracker, frames, embeds):
    return [
        tracker.track(sample, embed=embed).instances_id.tolist()
        if embed is not None
        else tracker.track(sample).instances_id.tolist()
        for sample, embed in zip(frames, embeds)
    ]


@needs_extra
def test_two_objects_that_exchange_places_are_told_apart_by_looks_alone():
    """Boxes that overlap with IoU 0.6: places say they stayed, looks say that they swapped."""
    left, right = [0.0, 0.0, 40.0, 40.0], [10.0, 0.0, 50.0, 40.0]
    frames = [frame(0, [left, right]), frame(1, [right, left])]
    looks = [
        lambda boxes: (boxes[:, :1] < 5) * torch.tensor([[1.0, -1.0]]) + torch.tensor([[0.0, 1.0]])
    ] * 2
    swapped = [looks[0], lambda boxes: looks[0](50 - boxes[:, [2, 1, 0, 3]])]
    plain = MODELS.build(dict(type="ByteTracker", **BYTE))
    assert follow(plain, frames, [None] * 2) == [[0, 1], [1, 0]]
    for weight, expected in ((0.0, [1, 0]), (0.8, [0, 1])):
        tracker = MODELS.build(dict(type="AppearanceByteTracker", appearance_weight=weight, **BYTE))
        assert follow(tracker, frames, swapped) == [[0, 1], expected], weight


@needs_extra
def test_without_weight_the_tracks_are_those_of_bytetrack():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 80, (6, 2))
    speeds = rng.uniform(-3, 3, (6, 2))
    frames = [
        frame(
            t,
            np.concatenate([starts + t * speeds, starts + t * speeds + 20], 1)[
                rng.permutation(6)[:5]
            ],
        )
        for t in range(8)
    ]
    noise = torch.nn.functional.normalize(torch.randn(6, 3), dim=1)
    plain = MODELS.build(dict(type="ByteTracker", **BYTE))
    mixed = MODELS.build(dict(type="AppearanceByteTracker", appearance_weight=0.0, **BYTE))
    expected = follow(plain, frames, [None] * 8)
    assert follow(mixed, frames, [lambda boxes: noise[: len(boxes)]] * 8) == expected
    assert max(map(max, expected)) >= 5  # all six were seen


@needs_extra
def test_frames_without_detections_and_other_classes():
    tracker = MODELS.build(dict(type="AppearanceByteTracker", **BYTE))
    box = [[0.0, 0.0, 40.0, 40.0]]
    frames = [frame(0, []), frame(1, box), frame(2, []), frame(3, box, torch.tensor([1]))]
    ids = follow(tracker, frames, [by_order] * 4)
    assert ids[0] == ids[2] == [] and ids[1] != ids[3]  # a track does not change class


@needs_extra
def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"momentum=1.5"):
        MODELS.build(dict(type="AppearanceByteTracker", momentum=1.5, **BYTE))


# Models and configs -----------------------------------------------------------------------------


def test_a_missing_extra_is_one_sentence(monkeypatch):
    monkeypatch.setattr(mot_check.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"needs the package 'lap'.*pip install 'pe_dense\[mot\]'$"
    ):
        mot_check.require_extra()


def built(name, root, **options):
    cfg, _ = load_config(str(CONFIGS / name), None, "random", {"data_root": str(root), **options})
    return cfg, MODELS.build(cfg.model).eval()


@needs_extra
def test_the_check_counts_frames_and_names_what_is_missing(mini_root, tmp_path):
    root = mini_root / "mot" / "test"
    cfg, _ = load_config(
        str(CONFIGS / "bytetrack_pe_t16_mini.py"), None, "random", {"data_root": str(root)}
    )
    found = mot.check_config(cfg, ("test",))
    assert not problems(found.findings)
    [words, counts] = (line.split() for line in found.table.splitlines())
    assert words[:2] == ["sequences", "frames"] and counts[:3] == ["test", "1", "4"]
    [source] = root.iterdir()
    clip = tmp_path / "clip"
    for file in ("seqinfo.ini", "gt/gt.txt", "img1/000002.jpg"):
        (clip / file).parent.mkdir(parents=True, exist_ok=True)
        (clip / file).write_bytes((source / file).read_bytes())
    cfg.test_dataloader.dataset.data_root = str(tmp_path)
    [missing] = problems(mot.check_config(cfg, ("test",)).findings)
    assert missing.sentence().startswith(f"{clip}/img1: frame 1 is missing (3 of 4 are); fetch")
    with pytest.raises(ValueError, match=r"frame 1 of .*img1 is missing \(3 of 4 are\)"):
        DATASETS.build(cfg.test_dataloader.dataset)


@needs_extra
def test_a_detectors_checkpoint_loads_strictly(mini_root):
    _, model = built("bytetrack_pe_t16_mini.py", mini_root / "mot" / "test")
    state = {k: v + 1 for k, v in model.detector.state_dict().items()}
    load_strictly(model, {"state_dict": state}, "x.pth")
    for key, value in model.detector.state_dict().items():
        torch.testing.assert_close(value, state[key])
    state.pop("bbox_head.atss_cls.bias")
    with pytest.raises(ValueError, match=r"x\.pth"):
        load_strictly(model, {"state_dict": state}, "x.pth")


@needs_extra
def test_a_frozen_encoder_keeps_its_weights_and_sees_its_own_normalisation(mini_root):
    encoder = dict(type="DenseBackbone", encoder="pe_spatial_t16_512", out_indices=[0])
    cfg, _ = load_config(
        str(CONFIGS / "bytetrack_appearance_pe_t16_mini.py"), None, "random",
        {"data_root": str(mini_root / "mot" / "test")},
    )  # fmt: skip
    cfg.model.update(
        appearance_encoder=encoder, appearance_mean=[0.0] * 3, appearance_std=[255.0] * 3
    )
    model = MODELS.build(cfg.model)
    before = {k: v.clone() for k, v in model.appearance_encoder.state_dict().items()}
    load_strictly(model, {"state_dict": model.detector.state_dict()}, "x.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.appearance_encoder.state_dict().items())
    assert not any(p.requires_grad for p in model.appearance_encoder.parameters())
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    pixels = torch.rand(1, 3, 4, 4) * 255
    torch.testing.assert_close(model._renormalised((pixels - mean) / std), pixels / 255)


@needs_extra
@pytest.mark.parametrize(
    ("name", "tracker"),
    [
        ("bytetrack_pe_t16_mini.py", {}),
        ("ocsort_pe_t16_mini.py", {}),
        ("bytetrack_appearance_pe_t16_mini.py", {}),
        ("bytetrack_pe_t16_mini.py", dict(type="PublishedByteTracker", high=-0.1, low=-0.1)),
    ],
)
def test_configs_track_from_a_detectors_checkpoint(name, tracker, mini_root, tmp_path, monkeypatch):
    from runs import evaluate, train

    shown, track = [], byte_tracker.PublishedByteTracker.track

    def seen(*args, **kwargs):
        shown.append(track(*args, **kwargs))
        return shown[-1]

    monkeypatch.setattr(byte_tracker.PublishedByteTracker, "track", seen)
    options = {
        "data_root": str(mini_root / "coco"), "max_epochs": 1, "val_interval": 2,
        "train_scales": [(128, 128)], "image_scale": (128, 128),
        "train_dataloader.num_workers": 0, "val_dataloader.num_workers": 0,
    }  # fmt: skip
    train(
        str(CONFIGS.parent / "detection" / "atss_pe_t16_mini.py"),
        options=options,
        work_dir=tmp_path / "detector",
    )
    scores = evaluate(
        str(CONFIGS / name),
        tmp_path / "detector",
        options={
            "data_root": str(mini_root / "mot" / "test"), "image_scale": (128, 128),
            "out_dir": str(tmp_path / "out"), "test_dataloader.num_workers": 0,
            **({"model.tracker": dict(tracker, _delete_=True)} if tracker else {}),
        },
    )  # fmt: skip
    assert {"HOTA", "MOTA", "IDF1"} <= scores.keys() and 0 <= scores["HOTA"] <= 1
    (file,) = (tmp_path / "out").glob("mot-*/tracks/data/*.txt")
    if tracker:
        assert len(file.read_text().splitlines()) == sum(len(frame) for frame in shown) > 0
    else:
        assert not shown


@needs_extra
@pytest.mark.slow
def test_qdtrack_trains_two_iterations_and_tracks(mini_root, tmp_path):
    from runs import evaluate, train

    name = str(CONFIGS / "qdtrack_pe_t16_mini.py")
    options = {
        "data_root": str(mini_root / "mot" / "test"),
        "train_root": str(mini_root / "mot" / "train"),
        "max_epochs": 1, "canvas": 128, "image_scale": (128, 128),
        "out_dir": str(tmp_path / "out"),
        "train_dataloader.num_workers": 0, "test_dataloader.num_workers": 0,
    }  # fmt: skip
    runner = train(name, options=options, work_dir=tmp_path / "run")
    assert runner.iter == 2
    assert 0 <= evaluate(name, tmp_path / "run", options=options)["HOTA"] <= 1


@needs_extra
def test_the_config_of_mot17_builds_its_detector():
    cfg, _ = load_config(str(CONFIGS / "bytetrack_pe_b16_mot17.py"), None, "random", {})
    assert isinstance(MODELS.build(cfg.model.tracker), byte_tracker.PublishedByteTracker)
    with torch.device("meta"):
        model = MODELS.build(cfg.model.detector)
    trained, _ = load_config(
        str(CONFIGS.parent / "detection" / "vitdet_pe_spatial_b16_coco_36ep.py"), None, "random", {}
    )
    with torch.device("meta"):
        expected = MODELS.build(trained.model)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert shapes == {k: v.shape for k, v in expected.state_dict().items()}
