"""Best classes of pictures: by hand, against a slow form, ties."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pe_dense.zero_shot.top_classes import top_classes


def slow(images_ND, classes_KD, target_N, kept):
    rows = []
    for image, target in zip(images_ND, target_N.tolist(), strict=True):
        scores = [(image @ vector).item() for vector in classes_KD]
        order = sorted(range(len(scores)), key=lambda k: (-scores[k], k == target))
        rank = sum(s >= scores[target] for k, s in enumerate(scores) if k != target)
        rows.append((order[:kept], [scores[k] for k in order[:kept]], rank))
    return rows


def test_equal_to_the_slow_form_in_any_chunk():
    torch.manual_seed(0)
    images = F.normalize(torch.randn(23, 6).double(), dim=-1)
    classes = F.normalize(torch.randn(9, 6).double(), dim=-1)
    target = torch.randint(9, (23,))
    expected = slow(images, classes, target, 5)
    for chunk in (1, 7, 100):
        found = top_classes(images, classes, target, chunk=chunk)
        for n, (order, scores, rank) in enumerate(expected):
            assert found.class_NJ[n].tolist() == order
            assert found.score_NJ[n].tolist() == pytest.approx(scores, abs=1e-12)
            assert int(found.rank_N[n]) == rank


def test_a_tie_counts_against_the_right_class():
    images = torch.eye(2)[[0, 0, 1]]
    classes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = top_classes(images, classes, torch.tensor([0, 1, 2]))
    assert found.rank_N.tolist() == [1, 1, 0]
    assert found.class_NJ[:, 0].tolist() == [1, 0, 2]
    assert found.class_NJ.shape == (3, 3)


def test_a_tower_that_gives_all_classes_one_vector_is_right_nowhere():
    classes = torch.ones(4, 1)
    found = top_classes(torch.ones(8, 1), classes, torch.arange(8) % 4)
    assert found.rank_N.tolist() == [3] * 8
    assert not (found.class_NJ[:, 0] == torch.arange(8) % 4).any()
    zero = top_classes(torch.zeros(8, 1), classes, torch.arange(8) % 4)
    assert not (zero.class_NJ[:, 0] == torch.arange(8) % 4).any()


def test_the_nearest_numbers_of_float32_are_no_tie():
    one = torch.tensor(1.0)
    less = torch.nextafter(one, torch.tensor(0.0))
    classes = torch.stack([one, less, less])[:, None]
    found = top_classes(torch.ones(2, 1), classes, torch.tensor([0, 2]))
    assert found.class_NJ.tolist() == [[0, 1, 2], [0, 1, 2]] and found.rank_N.tolist() == [0, 2]


def test_nothing_to_score_is_empty_and_nonsense_is_refused():
    classes = torch.eye(3)
    found = top_classes(torch.zeros(0, 3), classes, torch.zeros(0, dtype=torch.long))
    assert found.class_NJ.shape == (0, 3) and found.rank_N.shape == (0,)
    for images, target, words in (
        (torch.zeros(2, 2), torch.zeros(2, dtype=torch.long), "do not fit"),
        (torch.zeros(2, 3), torch.zeros(1, dtype=torch.long), "1 targets for 2"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "outside the 3 classes"),
        (torch.full((2, 3), torch.nan), torch.tensor([0, 1]), "not finite"),
    ):
        with pytest.raises(ValueError, match=words):
            top_classes(images, classes, target)
