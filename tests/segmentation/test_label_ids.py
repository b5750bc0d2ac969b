"""What predictions call each class: the numbers of the label maps that a model learned from."""

from __future__ import annotations

import pytest

pytest.importorskip("mmseg")

import pe_dense.segmentation  # noqa: F401  registers data sets
from pe_dense.segmentation.label_ids import label_ids


def test_published_data_sets_keep_their_numbers() -> None:
    from mmseg.datasets import ADE20KDataset, CityscapesDataset

    ade = ADE20KDataset.METAINFO["classes"]
    assert label_ids(dict(type="ADE20KDataset"), ade) == tuple(range(1, 151)), "0 is not annotated"
    city = CityscapesDataset.METAINFO["classes"]
    assert label_ids(dict(type="CityscapesDataset"), city) == tuple(range(19))
    some = [city[7], city[2]]
    assert label_ids(dict(type="CityscapesDataset"), some) == (7, 2), "chosen ones, too"
    foreign = ["moss", city[0]]
    assert label_ids(dict(type="CityscapesDataset"), foreign) == (0, 1)


def test_own_maps_have_the_numbers_of_the_masks() -> None:
    own = dict(type="OwnLabelMaps", metainfo=dict(classes=["a", "b"], numbers=[3, 200]))
    assert label_ids(own, ["a", "b"]) == (3, 200)
    own["metainfo"]["numbers"] = None  # the masks are colours
    assert label_ids(own, ["a", "b"]) == (0, 1)
    own["metainfo"]["numbers"] = [3, 70_000]
    assert label_ids(own, ["a", "b"]) == (0, 1), "16 bits do not hold it"
