"""The metric against mmseg's numbers, its evidence, and what it leaves out."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from pe_dense.depth.depth_metric import DepthErrors, image_names

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "depth_metrics.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def sample(path, prediction, depth, **meta):
    found = SegDataSample(metainfo=dict(img_path=path, **meta))
    found.pred_depth_map = PixelData(data=torch.as_tensor(prediction, dtype=torch.float32)[None])
    found.gt_depth_map = PixelData(data=torch.as_tensor(depth, dtype=torch.float32)[None])
    return found


def golden_samples(golden):
    return [
        sample(f"scene/{b}.png", golden[f"img{b}/prediction"], golden[f"img{b}/depth"])
        for b in range(5)
    ]


def scores_of(metric, samples, batch=2):
    evaluator = Evaluator(metric)
    for start in range(0, len(samples), batch):
        evaluator.process(samples[start : start + batch])
    return evaluator.evaluate(len(samples))


def settings_of(golden, name):
    config = {k.rpartition("/")[2]: v for k, v in golden.items() if k.startswith(f"{name}/config")}
    return dict(
        min_depth=float(config["min_depth"]),
        max_depth=float(config["max_depth"]) if config["has_max_depth"] else None,
        crop="nyu_eigen" if str(config["crop"]) == "nyu_crop" else None,
        clamp=False, silog_focus=0.5, silog_scale=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["default", "nyu", "nyu_no_crop"])
def test_numbers_are_mmseg_s(golden, name):
    metric = DepthErrors(**settings_of(golden, name))
    empty = sum(int(golden[f"{name}/img{b}/valid_pixels"]) == 0 for b in range(5))
    assert empty == 0
    scores = scores_of(metric, golden_samples(golden))
    ours = {"d1": "delta1", "d2": "delta2", "d3": "delta3"}
    known = {k.rpartition("/")[2]: v for k, v in golden.items() if k.startswith(f"{name}/mean/")}
    assert len(known) == 9
    for key, value in known.items():
        assert scores[f"depth/{ours.get(key, key)}"] == pytest.approx(float(value), rel=1e-5), key
    evidence = metric.evidence()
    column = evidence.metric_names.index("abs_rel")
    for b in range(5):
        value = float(golden[f"{name}/img{b}_float64/abs_rel"])
        assert evidence.values_NM[b, column] == pytest.approx(value, rel=1e-5)
    assert evidence.image_ids == tuple(f"{b}.png" for b in range(5))
    assert evidence.metrics()["rmse"] == pytest.approx(scores["depth/rmse"])


def test_pooled_numbers_come_beside_the_mean():
    # Errors of 1 m at three pixels of the first image, of 3 m at the one of the second.
    samples = [
        sample("a.png", [[3.0, 3.0, 3.0]], [[2.0, 2.0, 2.0]]),
        sample("b.png", [[5.0, 9.0, 9.0]], [[2.0, 0.0, 0.0]]),
    ]
    scores = scores_of(DepthErrors(pooled=True), samples)
    assert scores["depth/rmse"] == pytest.approx((1 + 3) / 2)
    assert scores["depth/pooled_rmse"] == pytest.approx(np.sqrt((3 * 1 + 9) / 4))
    assert "depth/pooled_rmse" not in scores_of(DepthErrors(), samples)


def test_images_without_annotation_are_named_and_left_out():
    samples = [
        sample("x/a.png", [[3.0, 3.0]], [[2.0, 2.0]]),
        sample("x/b.png", [[3.0, 3.0]], [[0.0, 90.0]]),
    ]
    metric = DepthErrors(max_depth=80.0)
    with pytest.warns(UserWarning, match=r"1 of 2 images .* x/b\.png"):
        scores = scores_of(metric, samples)
    assert scores["depth/rmse"] == pytest.approx(1.0)
    assert metric.evidence().image_ids == ("a.png",)
    with pytest.raises(ValueError, match="none of 1 images"):
        scores_of(DepthErrors(max_depth=80.0), samples[1:])


def test_sequences_and_image_ids_reach_the_evidence():
    rows = [("1.png", "office"), ("2.png", "office"), ("1.png", "study")]
    samples = [
        sample(f"nyu/{s}/{p}", [[1.0]], [[2.0]], sequence=s, image_id=f"{s}-{p}") for p, s in rows
    ]
    metric = DepthErrors()
    scores_of(metric, samples)
    assert metric.evidence().sequence_ids == ("office", "office", "study")
    assert metric.evidence().unit == "sequence"
    assert metric.evidence().image_ids == ("office-1.png", "office-2.png", "study-1.png")
    plain = [sample(f"nyu/{s}/{p}", [[1.0]], [[2.0]]) for p, s in rows]
    scores_of(metric, plain)
    assert metric.evidence().sequence_ids is None
    assert metric.evidence().image_ids == ("office/1.png", "office/2.png", "study/1.png")
    with pytest.raises(ValueError, match=r"nyu/office/1\.png has no sequence"):
        scores_of(metric, [plain[0], *samples[1:]])


def test_names_of_images():
    assert image_names(["a/1.jpg"]) == ["1.jpg"]
    assert image_names(["/d/a/1.jpg", "/d/b/1.jpg"]) == ["a/1.jpg", "b/1.jpg"]
    assert image_names(["a/1.jpg", "b/1.jpg"]) == ["a/1.jpg", "b/1.jpg"]
    assert image_names(["a\\x\\1.jpg", "a\\y\\1.jpg"]) == ["x/1.jpg", "y/1.jpg"]


def test_bad_input_is_named():
    with pytest.raises(RuntimeError, match="nothing yet"):
        DepthErrors().evidence()
    with pytest.raises(ValueError, match="nyu_crop"):
        DepthErrors(crop="nyu_crop")
    with pytest.raises(ValueError, match="no range"):
        DepthErrors(min_depth=3.0, max_depth=2.0)
    with pytest.raises(ValueError, match=r"b\.png.*\(1, 2\).*\(1, 1\)"):
        scores_of(DepthErrors(), [sample("b.png", [[1.0, 2.0]], [[1.0]])])
    without = SegDataSample(metainfo=dict(img_path="c.png"))
    without.pred_depth_map = PixelData(data=torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match=r"c\.png has no gt_depth_map"):
        scores_of(DepthErrors(), [without])


def _one_process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    with np.load(GOLDEN) as arrays:
        samples = golden_samples(dict(arrays))
    evaluator = Evaluator(DepthErrors(pooled=True))
    order = [*samples, samples[0]]  # 6 for two, as a sampler fills up; the last is dropped
    for one in order[rank::2]:
        evaluator.process([one])
    scores = evaluator.evaluate(5)
    if rank == 0:
        torch.save((scores, evaluator.metrics[0].evidence().values_NM), f"{folder}/scores.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_same(golden, tmp_path):
    metric = DepthErrors(pooled=True)
    known = scores_of(metric, golden_samples(golden))
    mp.start_processes(_one_process, (str(tmp_path),), nprocs=2, start_method="fork")
    scores, values_NM = torch.load(tmp_path / "scores.pt", weights_only=False)
    assert scores == known
    assert np.array_equal(values_NM, metric.evidence().values_NM)
