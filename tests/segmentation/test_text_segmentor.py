"""Segmentation by names: windows, candidates, the choice on held-out images, and a run of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from config_files import CONFIGS, own_data
from mmengine.registry import METRICS, init_default_scope
from mmengine.structures import PixelData
from mmengine.utils import import_modules_from_strings
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from runs import evaluate

import pe_dense.alignment.contrastive_backbone
import pe_dense.segmentation  # noqa: F401
from pe_dense.pixelwise.banded_inference import reference_labels
from pe_dense.pixelwise.mean_iou import image_counts
from pe_dense.pixelwise.windows import slide_windows
from pe_dense.results.store import load_records
from pe_dense.run.config import load_config
from pe_dense.segmentation.readout_metric import ReadoutMeanIoU, mean_ious
from pe_dense.segmentation.text_segmentor import candidates_of
from pe_dense.text_dense.readouts import READOUTS

CONFIG = Path(__file__).parents[2] / "configs/segmentation/text_mini.py"
CLASSES = ["sky", "wall", "disc", "star"]
SIZES = dict(patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_hidden=24, image_size=32)


def segmentor(**options):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="TextSegmentor",
            backbone=dict(
                type="ContrastiveBackbone",
                weights="random",
                encoder="pe_core_t16_384",
                encoder_options=dict(SIZES, pool_heads=2, output_dim=16),
                text=dict(embed_dim=16, depth=1, num_heads=2),
            ),
            classes=CLASSES,
            **options,
        )
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def samples(size, count, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, img_path=f"{i}.png"))
        labels = torch.from_numpy(rng.integers(0, len(CLASSES), (1, *size)))
        labels[:, :2] = 255
        sample.gt_sem_seg = PixelData(data=labels)
        found.append(sample)
    return found


@pytest.mark.parametrize("background", [None, "sky"])
def test_windows_and_candidates_are_the_slow_way(background):
    given = {} if background is None else dict(
        background="sky", thresholds=[0.3, 0.6], names={"sky": []}, scale=3.0
    )  # fmt: skip
    test_cfg = dict(mode="slide", crop_size=(32, 32), stride=0.5, window_batch=3)
    model = segmentor(test_cfg=test_cfg, templates=["one {}", "{}"], **given)
    per_pair = 1 if background is None else 2
    assert len(model.candidates) == len(READOUTS) * 2 * per_pair
    images = torch.randn(2, 3, 40, 48)
    found = model(images, samples((40, 48), 2), mode="predict")
    windows = slide_windows((40, 48), (32, 32), (16, 16))
    for b, sample in enumerate(found):
        crops = [images[b : b + 1][(..., *w.slices)] for w in windows]
        logits = [model.patch_logits(crop)[0] for crop in crops]
        truth_HW = sample.gt_sem_seg.data[0].numpy()
        for r in range(len(model.candidates)):
            labels_HW = reference_labels([each[r] for each in logits], windows, (40, 48), (40, 48))
            wanted = image_counts(labels_HW.numpy(), truth_HW, len(CLASSES))
            assert np.abs(sample.readout_counts[r] - wanted).max() <= 2  # ties of a pixel or two


def test_one_candidate_gives_a_map_as_other_segmentors():
    model = segmentor(readouts=["sclip"], layers=[-1])
    (sample,) = model(torch.randn(1, 3, 32, 32), samples((32, 32), 1), mode="predict")
    labels_1HW = sample.pred_sem_seg.data
    assert labels_1HW.shape == (1, 32, 32)
    truth_HW = sample.gt_sem_seg.data[0].numpy()
    counts = image_counts(labels_1HW[0].numpy(), truth_HW, len(CLASSES))
    assert np.array_equal(sample.readout_counts[0], counts)


@pytest.mark.parametrize("what", ["names", "patches"])
def test_vectors_that_are_not_finite_give_no_score(what):
    model = segmentor(readouts=["layer", "clearclip"], layers=[-1])
    broken = model.backbone.text.positions if what == "names" else model.backbone.encoder.proj
    with torch.no_grad():
        broken.fill_(torch.nan)
    with pytest.raises(ValueError, match=f"vectors of {what} are not finite"):
        model(torch.randn(1, 3, 32, 32), samples((32, 32), 1), mode="predict")


def test_the_precision_of_the_backbone_is_that_of_patches():
    model, images = segmentor(), torch.randn(1, 3, 32, 32)
    exact = model.patch_logits(images)
    model.backbone.precision = lambda device: torch.autocast(device.type, torch.bfloat16)
    rounded = model.patch_logits(images)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1)
    with pytest.raises(ValueError, match="run in float32; leave --amp out"):
        MODELS.build(
            dict(
                type="ContrastiveBackbone", weights="random", encoder="pe_core_t16_384",
                amp_dtype="bfloat16",
            )
        )  # fmt: skip


def row(counts, held):
    split = {"probe_split": "holdout"} if held else {}
    return dict(
        img_path=f"{held}.png", readout_counts=counts, num_cut=0,
        candidates=[("layer", 0, None), ("sclip", 0, None)], **split,
    )  # fmt: skip


def test_held_out_images_choose_and_the_others_are_reported(tmp_path):
    """The first is better on held-out images, the second on reported ones: the first counts."""
    good, bad = [[6, 2], [7, 3], [7, 3]], [[1, 0], [8, 2], [3, 7]]
    metric = ReadoutMeanIoU(out_dir=str(tmp_path))
    metric.dataset_meta = {"classes": ("a", "b")}
    metric.process(None, [row(np.array([good, bad]), True), row(np.array([bad, good]), False)])
    scores = metric.evaluate(2)
    assert metric.selection().chosen == {"layer": "0", "readout": "layer"}
    assert scores["seg/mIoU"] == pytest.approx((1 / 10 + 0) / 2)
    assert metric.by_layer()["mIoU"] == {"0": pytest.approx(0.05)}
    lines = (tmp_path / "readouts.tsv").read_text().splitlines()
    assert lines[1].split("\t")[3:] == ["0.0500", f"{(6 / 8 + 2 / 4) / 2:.4f}", "x"]
    assert lines[2].split("\t")[3] == f"{(6 / 8 + 2 / 4) / 2:.4f}"
    assert (tmp_path / "readouts.png").read_bytes()[:4] == b"\x89PNG"


def test_a_class_that_nobody_has_is_left_out():
    counts = np.array([[[[2, 0], [3, 0], [4, 0]], [[0, 0], [0, 0], [0, 0]]]])
    found = mean_ious(counts)
    assert found[0] == pytest.approx(2 / 5) and np.isnan(found[1])


def test_what_cannot_be_scored_is_one_sentence():
    metric = ReadoutMeanIoU()
    metric.dataset_meta = {"classes": ("a", "b")}
    counts = np.ones((2, 3, 2), np.int64)
    metric.process(None, [row(counts, False)])
    with pytest.raises(ValueError, match="2 read-outs are to be chosen among"):
        metric.evaluate(1)
    for options, words in (
        (dict(readouts="sclip"), "readouts are one text, .sclip.; give a list"),
        (dict(readouts=["pool"]), "readout='pool' is not one of"),
        (dict(layers=[7]), "block index 7 is outside"),
        (dict(layers=[1, -1]), "or one twice"),
        (dict(background="sky"), "a background needs thresholds"),
        (dict(background="sea", thresholds=[0.5]), "background='sea' is not one of"),
    ):
        with pytest.raises(ValueError, match=words):
            segmentor(**options)
    with pytest.raises(ValueError, match="unknown|not know"):
        segmentor(names={"sky": ["blue heaven"]}).name_vectors()
    assert candidates_of(["layer"], [0], [0.1, 0.2], 3)[1] == ("layer", 0, 0.2)
    assert candidates_of("[layer,sclip]", [0], (), 3)[1] == ("sclip", 0, None)  # as typed


TEXT_CONFIGS = [
    path
    for path in CONFIGS
    if (path.stem.startswith("text_") or "_text_" in path.stem) and "map" not in path.stem
]


@pytest.mark.parametrize("path", TEXT_CONFIGS, ids=lambda path: path.stem)
def test_models_build_for_another_encoder(path, mini_root):
    encoder = "pe_core_t16_384" if "mini" in path.stem else "pe_core_l14_336"
    options = own_data(path, mini_root)
    cfg, _ = load_config(path, encoder=encoder, weights="random", options=options)
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        metric = METRICS.build(cfg.test_evaluator)
    assert len({c.layer for c in model.candidates}) == model.reader.depth
    assert isinstance(metric, ReadoutMeanIoU)
    assert set(model.names.class_of_Q) | {model.background} >= set(range(cfg.num_classes))
    if "mini" not in path.stem:
        assert model.reader.depth == 24 and cfg.short_side == 504
        assert model.test_cfg["crop_size"] == (336, 336)


def test_a_run_of_the_mini_world_leaves_a_record(mini_root, tmp_path):
    options = {
        "data_root": str(mini_root / "ade"),
        "embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_hidden": 32,
        "short_side": 64, "num_workers": 0, "holdout_share": 0.2,
        "out_dir": str(tmp_path / "out"), "model.names.sky": ["blue sky", "sky"],
    }  # fmt: skip
    root = tmp_path / "records"
    scores = evaluate(CONFIG, records=root, options=options, work_dir=tmp_path / "w")
    (record,) = load_records(root)
    assert record.scores["mIoU"] == pytest.approx(scores["mIoU"])
    assert record.selection.on == "holdout" and record.selection.candidates == 2 * len(READOUTS)
    assert record.blind and record.ci95["mIoU"][0].low <= scores["mIoU"]
    assert set(record.by_layer["mIoU"]) == {"0", "1"}
    assert (tmp_path / "out/readouts.png").is_file()
