"""Pairs against the reference's arrays, a slow version of the rule, and awkward boxes."""

import numpy as np
import pytest
import torch
from deta_case import load_arrays, tensor

from pe_dense.detection import pair_assignment
from pe_dense.detection.pair_assignment import PairAssigner, match_pairs


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


def slow_pairs(objects, boxes, positive_iou, max_per_object):
    """The rule with one loop for every sentence; no limit on positives."""

    def corners(box):
        return box[:2] - box[2:] / 2, box[:2] + box[2:] / 2

    iou = np.zeros((len(objects), len(boxes)))
    for g, first in enumerate(objects):
        for n, second in enumerate(boxes):
            (a, b), (c, d) = corners(first), corners(second)
            width, height = np.maximum(np.minimum(b, d) - np.maximum(a, c), 0)
            shared = width * height
            iou[g, n] = shared / (np.prod(first[2:]) + np.prod(second[2:]) - shared)
    counts = np.zeros(len(objects), dtype=int)
    for n in range(len(boxes)):
        own = int(iou[:, n].argmax())
        is_best = any(iou[g, n] == iou[g].max() for g in range(len(objects)))
        if iou[own, n] >= positive_iou or is_best:
            counts[own] += 1
    pairs = []
    for g, count in enumerate(counts):
        order = np.argsort(-iou[g], kind="stable")[: min(count, max_per_object)]
        pairs += [(int(n), g) for n in order]
    return pairs


def random_boxes(generator, count, largest=0.3):
    boxes = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    boxes[:, 2:] = boxes[:, 2:] * largest + 0.02
    return boxes


@pytest.mark.parametrize("case", ["stage1_0", "stage1_1", "stage1_2"])
def test_first_stage_equals_the_reference(arrays, case):
    objects = tensor(arrays[f"assign/{case}/gt_boxes"])
    pairs = match_pairs(objects, tensor(arrays[f"assign/{case}/anchors"]), 0.7, 128)
    assert pairs[0].tolist() == arrays[f"assign/{case}/pairs_pred"].tolist()
    assert pairs[1].tolist() == arrays[f"assign/{case}/pairs_gt"].tolist()


@pytest.mark.parametrize("case", ["stage2_0", "stage2_1", "stage2_2"])
def test_second_stage_equals_the_reference(arrays, case):
    assigner = PairAssigner(positive_iou=0.6, max_positives=0.25)
    boxes = tensor(arrays[f"assign/{case}/pred_boxes"])
    found = assigner(tensor(arrays[f"assign/{case}/gt_boxes"]), boxes)
    assert found[0].tolist() == arrays[f"assign/{case}/pairs_pred"].tolist()
    assert found[1].tolist() == arrays[f"assign/{case}/pairs_gt"].tolist()


@pytest.mark.parametrize("block", [40, 10**6])
@pytest.mark.parametrize("count", [60, 700])
@pytest.mark.parametrize("seed", range(6))
def test_equals_a_slow_version_in_blocks_of_any_size(monkeypatch, seed, count, block):
    monkeypatch.setitem(pair_assignment.BLOCK_NUMEL, "cpu", block)
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, count)
    objects = random_boxes(generator, 9)
    predictions, found = match_pairs(objects, boxes, 0.4, 1000)
    slow = slow_pairs(objects.numpy(), boxes.numpy(), 0.4, 4)
    assert list(zip(predictions.tolist(), found.tolist(), strict=True)) == slow


def test_ties_far_apart_all_become_positive():
    object_ = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    boxes = torch.tensor([[0.1, 0.1, 0.1, 0.1]]).repeat(500, 1)
    boxes[[3, 170, 420]] = torch.tensor([0.5, 0.5, 0.2, 0.4])  # IoU 0.5, below the threshold
    predictions, found = match_pairs(object_, boxes, 0.6, 1000)
    assert sorted(predictions.tolist()) == [3, 170, 420]
    assert found.tolist() == [0, 0, 0]


def test_an_object_that_nothing_overlaps_ties_with_everything():
    object_ = torch.tensor([[0.9, 0.9, 0.1, 0.1]])
    boxes = torch.tensor([[0.1, 0.1, 0.1, 0.1]]).repeat(300, 1)
    predictions, _ = match_pairs(object_, boxes, 0.6, 1000)
    assert len(set(predictions.tolist())) == 4 and max(predictions.tolist()) < 300


def test_a_prediction_can_appear_with_several_objects():
    wide, narrow = [0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.3, 0.4]
    # The third box is a positive of the narrow object (IoU 0.63), the first overlaps it more.
    boxes = torch.tensor([wide, narrow, [0.5, 0.59, 0.3, 0.4]])
    predictions, found = match_pairs(torch.tensor([wide, narrow]), boxes, 0.6, 100)
    assert list(zip(predictions.tolist(), found.tolist(), strict=True)) == [(0, 0), (1, 1), (0, 1)]


def test_too_many_positives_are_thinned_at_random_but_reproducibly():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4]]).repeat(50, 1)
    objects = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4 + 1e-3]])
    torch.manual_seed(0)
    first = match_pairs(objects, boxes, 0.6, 3)
    torch.manual_seed(0)
    second = match_pairs(objects, boxes, 0.6, 3)
    assert torch.equal(first[0], second[0])
    assert first[1].tolist() == [0, 0, 0]  # all 50 belong to the first, three are left


def test_no_objects_no_boxes_and_fewer_boxes_than_pairs():
    boxes = torch.rand(3, 4)
    for pair in (match_pairs(torch.zeros(0, 4), boxes, 0.6, 10),
                 match_pairs(boxes, torch.zeros(0, 4), 0.6, 10)):  # fmt: skip
        assert [index.shape for index in pair] == [(0,), (0,)]
        assert all(index.dtype == torch.int64 for index in pair)
    same = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    predictions, _ = match_pairs(same, same.repeat(2, 1), 0.6, 10)
    assert sorted(predictions.tolist()) == [0, 1]


@pytest.mark.parametrize(
    "settings",
    [dict(positive_iou=0.0), dict(positive_iou=1.5), dict(max_positives=0), dict(max_per_object=0)],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="PairAssigner got"):
        PairAssigner(**{"positive_iou": 0.5, "max_positives": 10, **settings})
