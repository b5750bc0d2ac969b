"""Mean IoU against mmseg's IoUMetric (golden arrays) and hand-solved cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pe_dense.pixelwise import mean_iou
from pe_dense.pixelwise.mean_iou import MeanIoU, counts_on_device, image_counts

with np.load(Path(__file__).resolve().parents[1] / "golden/ade_like_miou.npz") as file:
    ARRAYS = {name: file[name] for name in file.files}
CASES = sorted({name.split("/")[0] for name in ARRAYS})


def images_of(case):
    numbers = {n.split("/")[1] for n in ARRAYS if n.startswith(f"{case}/img")}
    return sorted(numbers)


@pytest.mark.parametrize("case", CASES)
def test_counts_of_every_image(case):
    num_classes = ARRAYS[f"{case}/num_classes"].item()
    for image in images_of(case):
        prefix = f"{case}/{image}"
        right, predicted, annotated = image_counts(
            ARRAYS[f"{prefix}/prediction"], ARRAYS[f"{prefix}/annotation"], num_classes
        )
        np.testing.assert_array_equal(right, ARRAYS[f"{prefix}/intersect"])
        np.testing.assert_array_equal(predicted, ARRAYS[f"{prefix}/prediction_area"])
        np.testing.assert_array_equal(annotated, ARRAYS[f"{prefix}/annotation_area"])


@pytest.mark.parametrize("case", CASES)
def test_counts_on_a_device_are_those_on_the_host(case):
    num_classes = ARRAYS[f"{case}/num_classes"].item()
    for image in images_of(case):
        maps = [ARRAYS[f"{case}/{image}/{name}"] for name in ("prediction", "annotation")]
        found = counts_on_device(*map(torch.from_numpy, maps), num_classes)
        np.testing.assert_array_equal(found, image_counts(*maps, num_classes))


@pytest.mark.parametrize("prediction", [[[0, 2]], [[0, -1]], [[0]]])
def test_counts_on_a_device_leave_strange_maps_to_the_host(prediction):
    labels = torch.tensor([[0, 1]])
    assert counts_on_device(torch.tensor(prediction), labels, 2) is None
    ignored = torch.tensor([[0, 255]])
    if len(prediction[0]) == 2:
        assert counts_on_device(torch.tensor(prediction), ignored, 2).tolist() == [[1, 0]] * 3


def sample(path, prediction, labels):
    return dict(
        img_path=path,
        pred_sem_seg=dict(data=torch.from_numpy(prediction.astype(np.int64))[None]),
        gt_sem_seg=dict(data=torch.from_numpy(labels.copy())[None]),
    )


def metric_of(num_classes, ignore_index=255):
    metric = MeanIoU(ignore_index=ignore_index)
    metric.dataset_meta = {"classes": [f"c{k}" for k in range(num_classes)]}
    return metric


@pytest.mark.parametrize("case", CASES)
def test_scores_of_the_data_set(case):
    num_classes = ARRAYS[f"{case}/num_classes"].item()
    metric, images = metric_of(num_classes), images_of(case)
    for image in images:
        prefix = f"{case}/{image}"
        maps = ARRAYS[f"{prefix}/prediction"], ARRAYS[f"{prefix}/annotation"]
        metric.process({}, [sample(f"folder/{image}.png", *maps)])
    scores = metric.evaluate(len(images))
    means = {n.rpartition("/")[2]: v for n, v in ARRAYS.items() if n.startswith(f"{case}/mean/")}
    assert scores["seg/mIoU"] == pytest.approx(means["IoU"].item(), abs=1e-6)  # float32 there
    assert scores["seg/aAcc"] == pytest.approx(means["aAcc"].item(), abs=1e-6)  # float32 there
    assert scores["seg/mAcc"] == pytest.approx(means["Acc"].item(), abs=1e-6)  # float32 there
    iou = ARRAYS[f"{case}/per_class/IoU"]
    for k in np.flatnonzero(ARRAYS[f"{case}/per_class/IoU_defined"]):
        assert scores[f"seg/IoU/c{k}"] == pytest.approx(iou[k], abs=1e-6)  # float32 there
    evidence = metric.evidence()
    assert evidence.image_ids == tuple(f"{image}.png" for image in images)
    assert evidence.metrics()["mIoU"] == scores["seg/mIoU"]


def test_by_hand():
    prediction, labels = np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 255]], dtype=np.uint8)
    counts = image_counts(prediction, labels, 3)
    assert counts.tolist() == [[1, 1, 0], [2, 1, 0], [1, 2, 0]]
    metric = metric_of(3)
    metric.process({}, [sample("a.png", prediction, labels)])
    scores = metric.evaluate(1)
    assert scores["seg/mIoU"] == pytest.approx(0.5)  # 1/2 and 1/2; class 2 is nowhere
    assert "seg/IoU/c2" not in scores


def test_many_classes_and_everything_ignored():
    counts = image_counts(np.array([[700]]), np.array([[700]]), 1000)
    assert counts[:, 700].tolist() == [1, 1, 1]
    assert not image_counts(np.zeros((2, 2), int), np.full((2, 2), 255), 3).any()


def test_256_classes_fill_sixteen_bits():
    values = np.arange(256).reshape(16, 16)
    counts = image_counts(values, values, 256, ignore_index=-1)
    assert counts.min() == counts.max() == 1


def test_every_way_of_counting_agrees(monkeypatch):
    """Bytes, wide integers, an ignored class among the classes, cut into bands: a slow count."""
    rng = np.random.default_rng(0)
    for dtype, num_classes, ignore_index in (
        (np.uint8, 7, 255), (np.int64, 7, 3), (np.int64, 7, 999), (np.uint8, 256, 0),
        (np.int32, 300, 255),
    ):  # fmt: skip
        labels = rng.integers(0, num_classes, (9, 11)).astype(dtype)
        labels[rng.random(labels.shape) < 0.2] = ignore_index
        prediction = rng.integers(0, num_classes, (9, 11))
        slow = np.zeros((3, num_classes), int)
        for right, guess in zip(labels.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if right != ignore_index:
                slow[0, right] += right == guess
                slow[1, guess] += 1
                slow[2, right] += 1
        for pixels in (2**24, 25):
            monkeypatch.setattr(mean_iou, "_EXACT_IN_FLOAT32", pixels)
            for maps in ((prediction, labels), (prediction.T, labels.T)):
                counts = image_counts(*maps, num_classes, ignore_index)
                np.testing.assert_array_equal(counts, slow)
    assert not image_counts(np.zeros((0, 4), int), np.zeros((0, 4), np.uint8), 3).any()


@pytest.mark.parametrize(
    ("prediction", "labels", "words"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), "must have the size of its image"),
        (np.zeros((1, 1)), np.full((1, 1), 3), "the label map holds class 3, but there are 3"),
        (np.full((1, 1), 9), np.zeros((1, 1)), "the prediction holds class 9"),
        (np.zeros((1, 1)), np.full((1, 1), -1), "the label map holds class -1"),
    ],
)
def test_bad_maps_are_named(prediction, labels, words):
    prediction, labels = prediction.astype(int), labels.astype(int)
    with pytest.raises(ValueError, match=words):
        image_counts(prediction, labels, 3)
    metric = metric_of(3)
    with pytest.raises(ValueError, match=f"maps/b.png: .*{words}"):
        metric.process({}, [dict(sample("maps/b.png", prediction, labels))])


def test_a_data_set_without_annotation_is_named():
    metric, nothing = metric_of(3), np.full((4, 5), 255, np.uint8)
    metric.process({}, [sample("folder/7.png", np.zeros((4, 5)), nothing)])
    with pytest.raises(ValueError, match="none of 1 images has an annotated pixel, first .*7.png"):
        metric.evaluate(1)


def test_evidence_before_evaluation():
    with pytest.raises(RuntimeError, match="nothing yet"):
        MeanIoU().evidence()
