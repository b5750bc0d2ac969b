"""Blind lines of names and captions: by hand, and against every predictor there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pe_dense.zero_shot.blind import of_captions, of_classes


def test_classes_by_hand():
    targets = [0] * 5 + [1] * 3 + [2] * 2
    lot, often = of_classes(targets, 10, "top1").values()
    assert (lot, often) == (0.1, 0.5)
    assert list(of_classes(targets, 10, "top5").values()) == [0.5, 1.0]
    lot, often = of_classes(targets, 10, "mean_class_top1").values()
    assert (lot, often) == (0.1, pytest.approx(1 / 3))


def test_captions_against_every_order():
    """Three pictures, 'x' stands under two of them: all orders of answers, all queries."""
    captions = [["x", "a"], ["x"], ["b", "c"]]
    right_T = [{0, 1}, {0}, {0, 1}, {2}, {2}]
    right_I = [{0, 1, 2}, {0, 2}, {3, 4}]
    for direction, right, total in (("text_to_image", right_T, 3), ("image_to_text", right_I, 5)):
        for k in (1, 2):
            shares = [
                np.mean([bool(set(order[:k]) & r) for r in right])
                for order in itertools.permutations(range(total))
            ]
            lot, same = of_captions(captions, f"{direction}_R@{k}").values()
            assert lot == pytest.approx(np.mean(shares))
            assert same == pytest.approx(max(shares))


def test_more_answers_than_there_are_are_always_right():
    found = of_captions([["a"], ["b"]], "text_to_image_R@10")
    assert list(found.values()) == [1.0, 1.0]
