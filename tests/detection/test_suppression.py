"""NMS and soft-NMS against the reference's arrays, slow versions, and awkward boxes."""

import numpy as np
import pytest
import torch
from deta_case import load_arrays, tensor
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense.detection import suppression
from pe_dense.detection.suppression import grouped_nms, soft_nms_quad, suppress


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


def iou_of(one, many):
    low, high = np.maximum(one[:2], many[:, :2]), np.minimum(one[2:], many[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    area = np.prod(many[:, 2:] - many[:, :2], axis=1)
    return shared / (np.prod(one[2:] - one[:2]) + area - shared)


def slow_soft_nms(boxes, scores, labels, threshold, exponent, least):
    boxes, scores = boxes.double().numpy(), scores.double().numpy().copy()
    labels, left, found = labels.numpy(), list(range(len(scores))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        found.append((best, scores[best]))
        left.remove(best)
        for i in left:
            overlap = iou_of(boxes[best], boxes[i : i + 1])[0]
            if labels[i] == labels[best] and overlap > threshold:
                scores[i] *= (1 - overlap) ** exponent
        left = [i for i in left if scores[i] > least]
    return found


def slow_nms(boxes, scores, groups, threshold):
    kept = []
    for i in np.argsort(-scores.numpy(), kind="stable"):
        same = [k for k in kept if groups[k] == groups[i]]
        overlaps = iou_of(boxes[i].double().numpy(), boxes[same].double().numpy())
        if not same or overlaps.max() <= threshold:
            kept.append(int(i))
    return kept


def crowd(seed, count, classes, spread=400.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread
    size = torch.rand(count, 2, generator=generator) * 80 + 60
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.cat([corner, corner + size], 1), scores, labels


CROWDS = [(200, 3, 60.0), (500, 1, 200.0), (9, 2, 9.0)]


@pytest.mark.parametrize(("count", "classes", "spread"), CROWDS)
@pytest.mark.parametrize("exponent", [0.5, 0.4, 2.0])
@pytest.mark.parametrize("limit", [10, 10_000])  # boxes packed, or all overlaps found first
def test_soft_nms_equals_a_slow_version(monkeypatch, count, classes, spread, exponent, limit):
    monkeypatch.setattr(suppression, "PAIRWISE_LIMIT", limit)
    boxes, scores, labels = crowd(0, count, classes, spread)
    index, new = soft_nms_quad(boxes, scores, labels, 0.6, exponent, 1e-3)
    slow = slow_soft_nms(boxes, scores, labels, 0.6, exponent, 1e-3)
    assert index.tolist() == [i for i, _ in slow]
    np.testing.assert_allclose(new.numpy(), [s for _, s in slow], atol=1e-5)


def test_grouped_nms_equals_a_slow_version_far_from_the_origin():
    boxes, scores, labels = crowd(1, 300, 4, 150.0)
    boxes = boxes + 1700.0
    index = grouped_nms(boxes, scores, labels + 86, 0.5)
    assert index.tolist() == slow_nms(boxes, scores, labels, 0.5)


def test_boxes_of_other_classes_and_at_the_threshold_are_untouched():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    index, new = soft_nms_quad(boxes, scores, labels, iou_threshold=0.5)
    assert index.tolist() == [0, 1, 2]
    assert torch.equal(new, scores)  # IoU with the first is exactly 0.5


def test_equal_boxes_vanish_and_the_first_box_always_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1)
    labels = torch.zeros(3, dtype=torch.int64)
    assert soft_nms_quad(boxes, torch.tensor([0.2, 0.9, 0.3]), labels)[0].tolist() == [1]
    index, new = soft_nms_quad(boxes, torch.tensor([1e-5, 2e-4, 3e-5]), labels)
    assert index.tolist() == [1]
    assert new.tolist() == pytest.approx([2e-4])


def test_no_boxes_and_boxes_without_area():
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    for kind in (dict(type="nms", iou_threshold=0.7), dict(type="soft_nms_quad")):
        index, scores = suppress(*empty, kind)
        assert (len(index), len(scores)) == (0, 0)
        points = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]])
        index, _ = suppress(points, torch.tensor([0.5, 0.4, 0.9]), torch.zeros(3).long(), kind)
        assert index.tolist() == [2, 0, 1]


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="neither 'nms' nor 'soft_nms_quad'"):
        suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), dict(type="linear"))


@pytest.mark.parametrize("exponent", ["0.5", "0.4"])
def test_soft_nms_after_preselection_equals_the_reference(arrays, exponent):
    prefix = f"post_big/soft_nms_quad_{exponent}/img0"
    expected = {name: arrays[f"{prefix}/{name}"] for name in ("scores", "labels", "boxes")}
    height, width = arrays["post_big/original_sizes"][0].tolist()
    logits = tensor(arrays["post_big/pred_logits"])[0]
    scores, index = logits.sigmoid().flatten().topk(2000)
    centre = tensor(arrays["post_big/pred_boxes"])[0]
    boxes = torch.cat([centre[:, :2] - centre[:, 2:] / 2, centre[:, :2] + centre[:, 2:] / 2], 1)
    boxes = (boxes * torch.tensor([width, height] * 2))[index // 91]
    keep, new = soft_nms_quad(boxes, scores, index % 91, 0.7, float(exponent), 1e-3)
    assert len(keep) == len(expected["scores"])
    found = np.c_[(index % 91)[keep].numpy(), boxes[keep].numpy()]
    known = np.c_[expected["labels"], expected["boxes"]]
    order, order_known = (np.lexsort(rows.round(2).T) for rows in (found, known))
    np.testing.assert_allclose(found[order], known[order_known], atol=2e-3)
    np.testing.assert_allclose(new.numpy()[order], expected["scores"][order_known], atol=1e-4)


@pytest.mark.parametrize(("count", "classes", "spread"), [*CROWDS, (0, 3, 9.0), (1, 1, 9.0)])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_the_kernel_of_grouped_nms_keeps_the_same_boxes(
    interpreted,  # noqa: F811
    count, classes, spread, threshold,
):  # fmt: skip
    boxes, scores, groups = crowd(5, count, classes, spread)
    fast = grouped_nms(boxes, scores, groups, threshold)
    assert fast.tolist() == slow_nms(boxes, scores, groups, threshold)


def test_the_kernel_takes_boxes_without_area_and_equal_scores(interpreted):  # noqa: F811
    boxes = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 4, 4], [0, 0, 4, 4.0]])
    scores = torch.tensor([0.5, 0.5, 0.5, 0.5])
    groups = torch.tensor([1, 1, -3, -3])
    assert grouped_nms(boxes, scores, groups, 0.5).tolist() == [0, 1, 2]


@pytest.mark.parametrize("setting", ["on", "off"])
def test_of_equal_scores_the_first_box_stays(setting, interpreted, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PE_DENSE_KERNELS", setting)
    for seed in range(4):
        boxes, scores, groups = crowd(seed, 130, 2)
        scores = (4 * scores).round() / 4
        found = grouped_nms(boxes, scores, groups, 0.3)
        assert found.tolist() == slow_nms(boxes, scores, groups, 0.3)
