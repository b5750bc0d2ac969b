"""Boxes: solid and dashed lines, tags inside the picture, truth beside detections."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("mmdet")

from pe_dense.pictures.boxes import Boxes, detected_heading, draw_boxes, side_by_side, truth_heading
from pe_dense.pictures.colours import GREY, class_colour, id_colour

PLAIN = np.full((120, 160, 3), 128, dtype=np.uint8)
CLASSES = ["disc", "box"]


def boxes(*corners: tuple[int, int, int, int], **more: object) -> Boxes:
    return Boxes(
        np.array(corners, dtype=float).reshape(-1, 4),
        more.pop("labels", np.zeros(len(corners), int)),
        **more,
    )


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(-1).mean())


def test_the_outline_lies_where_the_box_is() -> None:
    picture = draw_boxes(PLAIN, boxes((40, 30, 120, 90)), CLASSES, scale=2.0)
    assert picture.shape == (240, 320, 3) and picture.dtype == np.uint8
    is_line = (picture == class_colour(0)).all(-1)
    ys, xs = np.nonzero(is_line[62:, :])  # below the label
    assert abs(xs.min() - 80) <= 1 and abs(xs.max() - 240) <= 1 and abs(ys.max() + 62 - 180) <= 1
    assert (picture[110:140, 120:200] == 128).all(), "the inside is left alone"


def test_what_does_not_agree_is_dashed() -> None:
    solid = draw_boxes(PLAIN, boxes((40, 40, 120, 90)), CLASSES)
    dashed = draw_boxes(PLAIN, boxes((40, 40, 120, 90), agrees_Q=np.array([False])), CLASSES)
    right_sides = [(p[45:88, 119:122] == class_colour(0)).all(-1).any(1) for p in (solid, dashed)]
    assert right_sides[0].all()
    assert 0.3 < right_sides[1].mean() < 0.8
    assert np.abs(np.diff(right_sides[1].astype(int))).sum() >= 4, "several strokes"


def test_labels_stay_inside_and_say_the_class_and_score() -> None:
    for corners in ((0, 0, 20, 10), (150, 110, 160, 120), (0, 0, 160, 120), (-9, -9, 400, 300)):
        plain = draw_boxes(PLAIN, boxes(corners), CLASSES)
        scored = draw_boxes(PLAIN, boxes(corners, scores_Q=np.array([0.75])), CLASSES)
        assert plain.shape == scored.shape == PLAIN.shape
        assert share_of(scored, class_colour(0)) > share_of(plain, class_colour(0)), "longer label"


def test_labels_of_boxes_in_one_place_do_not_cover_each_other() -> None:
    labels = np.array([0, 1])
    both = draw_boxes(PLAIN, boxes((40, 40, 120, 90), (40, 40, 120, 90), labels=labels), CLASSES)
    for label in (0, 1):
        alone = boxes((40, 40, 120, 90), labels=labels[label : label + 1])
        tag = share_of(draw_boxes(PLAIN, alone, CLASSES), class_colour(label))
        line = 2 * 2 * (80 + 50) / (120 * 160)
        assert share_of(both, class_colour(label)) > tag - 1.2 * line


def test_crowds_are_grey() -> None:
    picture = draw_boxes(PLAIN, boxes((40, 40, 120, 90), is_crowd_Q=np.array([True])), CLASSES)
    assert share_of(picture, GREY) > 0 and share_of(picture, class_colour(0)) == 0


def test_masks_are_outlined_and_tinted() -> None:
    mask = np.zeros((1, 120, 160), dtype=bool)
    mask[0, 50:80, 60:100] = True
    masked = boxes((60, 50, 100, 80), masks_QHW=mask)
    picture = draw_boxes(PLAIN, masked, CLASSES)
    plain = draw_boxes(PLAIN, boxes((60, 50, 100, 80)), CLASSES)
    assert (plain[60:70, 70:90] == 128).all()
    inside = picture[60:70, 70:90].astype(int)
    assert (np.sign(inside - 128) == np.sign(np.array(class_colour(0)) - 128)).all()
    empty = boxes((60, 50, 100, 80), masks_QHW=np.zeros((1, 120, 160), bool))
    assert (draw_boxes(PLAIN, empty, CLASSES) == plain).all()


def test_the_input_is_not_drawn_on() -> None:
    image = PLAIN.copy()
    draw_boxes(image, boxes((40, 40, 120, 90), masks_QHW=np.ones((1, 120, 160), bool)), CLASSES)
    assert (image == 128).all()


def test_truth_and_detections_lie_side_by_side() -> None:
    truth = boxes((10, 10, 60, 60), agrees_Q=np.array([False]))
    found = boxes((80, 20, 150, 100), agrees_Q=np.array([True]), scores_Q=np.array([0.9]))
    both, alone = (side_by_side(PLAIN, t, found, CLASSES, "x.jpg", side=320) for t in (truth, None))
    assert both.shape[0] == alone.shape[0] and both.shape[1] > 2 * 320 > alone.shape[1] > 320
    assert share_of(both[:, :330], class_colour(0)) > 0 < share_of(both[:, 340:], class_colour(0))


def test_an_image_without_anything() -> None:
    picture = side_by_side(PLAIN, boxes(), boxes(scores_Q=np.zeros(0)), CLASSES)
    assert picture.shape[1] == 2 * (640 + 10) + 10


def test_many_classes_with_long_names_fit() -> None:
    names = [f"a very long name of a class, number {k}" for k in range(60)]
    many = boxes(*[(5, 5, 50, 50)] * 60, labels=np.arange(60), scores_Q=np.ones(60))
    assert side_by_side(PLAIN, None, many, names, "z" * 500).shape[1] == 660


def test_names_that_are_not_ascii() -> None:
    plain = draw_boxes(PLAIN, boxes((40, 60, 120, 90)), ["?"])
    accented = draw_boxes(PLAIN, boxes((40, 60, 120, 90)), ["\u00e9\u044f\u03bb"])
    assert (plain != accented).any()


def test_headings() -> None:
    yes_no = np.array([True, False])
    two = boxes((0, 0, 9, 9), (0, 0, 9, 9), agrees_Q=yes_no)
    assert truth_heading(two) == "truth: 2 objects, 1 missed (dashed)"
    assert truth_heading(boxes(agrees_Q=np.zeros(0, bool))) == "truth: 0 objects"
    crowd = boxes((0, 0, 9, 9), (0, 0, 9, 9), agrees_Q=yes_no, is_crowd_Q=~yes_no)
    assert truth_heading(crowd) == "truth: 1 object, all found"
    assert detected_heading(two, True) == "detected: 2, 1 false (dashed)"
    assert detected_heading(two, False) == "detected: 2"


def test_identities_have_their_colours_and_boxes_may_leave_the_image() -> None:
    two = boxes((40, 20, 80, 60), (-5, -5, 300, 2), labels=np.array([1, 2]))
    drawn = draw_boxes(PLAIN, two, None)
    assert tuple(drawn[40, 40]) == id_colour(1)  # left edge
    assert tuple(drawn[40, 60]) == (128, 128, 128)  # inside
