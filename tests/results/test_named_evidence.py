"""Scores of named evidence: by hand, weighted, and what is refused."""

from __future__ import annotations

import dataclasses

import evidence_case
import numpy as np
import pytest

from pe_dense.results.named_evidence import ClassificationEvidence, RetrievalEvidence


def four_pictures() -> ClassificationEvidence:
    """Three of class 0 (two right, one in the first five), one of class 6 (in no list)."""
    return ClassificationEvidence(
        image_ids=("a", "b", "c", "d"),
        classes=tuple("KLMNOPQ"),
        target_N=[0, 0, 0, 6],
        top_NJ=[[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 1, 2, 3, 0], [0, 1, 2, 3, 4]],
        score_NJ=[[0.5, 0.4, 0.3, 0.2, 0.1]] * 4,
    )


def test_classification_by_hand():
    scores = four_pictures().metrics()
    assert scores["top1"] == 0.5 and scores["top5"] == 0.75
    assert scores["mean_class_top1"] == pytest.approx((2 / 3 + 0) / 2)
    weights = np.array([[1, 0, 0, 0], [0, 0, 2, 1], [0, 0, 0, 3]])
    found = four_pictures().metrics(weights)
    assert found["top1"].tolist() == [1, 0, 0]
    assert found["top5"].tolist() == pytest.approx([1, 2 / 3, 0])
    assert found["mean_class_top1"].tolist() == [1, 0, 0]


def test_five_of_five_classes_are_no_score():
    evidence = four_pictures()
    few = dataclasses.replace(evidence, classes=tuple("KLMNO"), target_N=[0, 0, 0, 4],
                              top_NJ=[[0, 1, 2, 3, 4]] * 4)  # fmt: skip
    assert few.metric_names == ("top1", "mean_class_top1")


def test_retrieval_by_hand():
    evidence = RetrievalEvidence(
        query_ids=("a", "a0", "a1", "b", "b0"),
        image_ids=("a", "a", "a", "b", "b"),
        visual=("image",),
        is_text_N=[0, 1, 1, 0, 1],
        rank_N=[0, 0, 7, 4, 10],
    )
    scores = evidence.metrics()
    assert scores["text_to_image_R@1"] == pytest.approx(1 / 3)
    assert scores["text_to_image_R@10"] == pytest.approx(2 / 3)
    assert (scores["image_to_text_R@1"], scores["image_to_text_R@5"]) == (0.5, 1.0)
    assert evidence.unit == "image"
    videos = dataclasses.replace(evidence, visual=("video",))
    assert videos.metric_names[0] == "text_to_video_R@1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top_NJ": [[0, 0, 1, 2, 3]] * 4}, "twice in a row"),
        ({"top_NJ": [[7, 0, 1, 2, 3]] * 4}, "no place among 7 classes"),
        ({"target_N": [0, 0, 0, 7]}, "no place among 7 classes"),
        ({"score_NJ": [[0.1, 0.2, 0.3, 0.4, 0.5]] * 4}, "rises in a row"),
        ({"score_NJ": [[np.nan] * 5] * 4}, "leaves its range"),
        ({"image_ids": ("a", "a", "c", "d")}, "holds 'a' twice"),
    ],
)
def test_classes_that_are_none_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(four_pictures(), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_text_N": np.ones(36, int)}, "both directions"),
        ({"visual": ("sound",)}, "use"),
        ({"rank_N": -np.ones(36, int)}, "counts are 0 or more"),
    ],
)
def test_queries_that_are_none_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(evidence_case.retrieval(), **changes)
