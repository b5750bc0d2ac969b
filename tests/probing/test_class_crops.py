"""Objects cut out of photos: how many of a class, and intervals that draw photos."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from pe_dense.results.named_evidence import ClassificationEvidence
from pe_dense.results.statistics import interval

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "experiments" / "class_crops.py"


@pytest.fixture(scope="module")
def crops():
    spec = importlib.util.spec_from_file_location("class_crops", FILE)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def crop(crops, photo, name, number):
    return crops.Crop(Path(f"{photo}.jpg"), name, number, (0, 0, 40, 40))


def test_every_photo_gives_one_object_before_any_gives_two(crops):
    found = [crop(crops, "a", "cup", n) for n in range(5)]
    found += [crop(crops, "b", "cup", 10), crop(crops, "b", "cup", 11), crop(crops, "c", "cup", 20)]
    kept = crops.spread(found, 4)
    assert sorted(one.file for one in kept) == ["a-0.png", "a-1.png", "b-10.png", "c-20.png"]
    few = [crop(crops, "d", "bird", n) for n in range(3)]
    parts = crops.chosen(found + few, found + few, 4)
    assert {one.name for one in parts["train"]} == {"cup"}  # 3 birds are too few to learn from


def test_objects_of_one_photo_are_drawn_together(crops):
    """All objects of a photo right or all wrong: photos are the sample, not their objects."""
    names = tuple(f"cup/{photo:03d}-{n}.png" for photo in range(20) for n in range(8))
    right = np.repeat(np.arange(20) % 2, 8)
    fields = dict(
        image_ids=names, classes=("cup", "dog"), target_N=np.zeros(160, int),
        top_NJ=1 - right[:, None], score_NJ=np.ones((160, 1)),
    )  # fmt: skip
    by_photo = interval(crops.CropEvidence(**fields), "top1")
    alone = interval(ClassificationEvidence(**fields), "top1")
    assert by_photo.num_units == 20 and alone.num_units == 160
    assert by_photo.standard_error / alone.standard_error == pytest.approx(8**0.5, rel=0.15)
