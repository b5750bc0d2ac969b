"""Pairs against the reference's arrays, the rule from a whole matrix, and awkward boxes."""

import pytest
import torch
from deta_case import load_arrays, tensor

from pe_dense.detection import pair_assignment
from pe_dense.detection.pair_assignment import PairAssigner, match_pairs, plain_pairs


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


def random_boxes(generator, count, largest=0.3):
    boxes = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    boxes[:, 2:] = boxes[:, 2:] * largest + 0.02
    return boxes


@pytest.mark.parametrize("case", ["stage1_0", "stage1_1", "stage1_2"])
def test_first_stage_equals_the_reference(arrays, case):
    objects = tensor(arrays[f"assign/{case}/gt_boxes"])
    for match in (match_pairs, plain_pairs):
        pairs = match(objects, tensor(arrays[f"assign/{case}/anchors"]), 0.7, 128)
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
def test_equals_the_plain_form_in_blocks_of_any_size(monkeypatch, seed, count, block):
    monkeypatch.setitem(pair_assignment.BLOCK_NUMEL, "cpu", block)
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, count)
    objects = random_boxes(generator, 9)
    for limit in (1000, 5):
        found = []
        for pairs in (match_pairs, plain_pairs):
            torch.manual_seed(seed)  # which positives are dropped is random
            found.append([index.tolist() for index in pairs(objects, boxes, 0.4, limit)])
        assert found[0] == found[1]
        assert len(found[0][0]) > 5 or limit == 5


def test_the_plain_form_by_hand():
    # IoUs with the first object: 1, 1/2, 1/4, 0; with the second: 0, 0, 0, 1/2.
    objects = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]])
    boxes = torch.tensor(
        [[0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.1, 0.2], [0.2, 0.2, 0.1, 0.1], [0.8, 0.8, 0.2, 0.1]]
    )

    def pairs(*settings):
        return list(zip(*(index.tolist() for index in plain_pairs(objects, boxes, *settings))))

    assert pairs(0.4, 100) == [(0, 0), (1, 0), (3, 1)]  # two positives, two pairs
    assert pairs(0.6, 100) == [(0, 0), (3, 1)]  # the last is the best of its object
    assert pairs(0.2, 100) == [(0, 0), (1, 0), (2, 0), (3, 1)]
    assert pairs(0.2, 100, 2) == [(0, 0), (1, 0), (3, 1)]


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
