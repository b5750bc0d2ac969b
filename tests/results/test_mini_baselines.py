"""Published results on the mini world are clearly better than predicting one value everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pe_dense.mini_world.world import make_image
from pe_dense.results.record import Record
from pe_dense.results.store import load_records

STORE = Path(__file__).resolve().parents[2] / "benchmarks/records"
NUM_VAL, NUM_CLASSES = 100, 10


@pytest.fixture(scope="module")
def val_frames() -> list:
    """The scored pictures of the mini world at its default size."""
    return [make_image(0, "val", i) for i in range(NUM_VAL)]


def published(protocol: str) -> Record:
    (record,) = [
        r
        for r in load_records(STORE)
        if r.protocol.id == protocol and r.encoder.name == "pe_spatial_t16_512"
    ]
    assert record.dataset.num_items == NUM_VAL
    return record


def test_segmentation_beats_the_best_single_class(val_frames) -> None:
    pixels_K = sum(
        np.bincount(f.semantic[f.semantic > 0] - 1, minlength=NUM_CLASSES) for f in val_frames
    )
    assert (pixels_K > 0).all()
    # The class that is predicted everywhere has IoU n / N, the others 0.
    baseline = (pixels_K / pixels_K.sum()).max() / NUM_CLASSES
    assert 0.03 < baseline < 0.05
    record = published("mini-segmentation")
    assert record.ci95["mIoU"][0].low > 3 * baseline


def test_depth_beats_the_best_single_depth(val_frames) -> None:
    depths = [f.depth_m[(f.depth_m > 1e-3) & (f.depth_m < 10.0)] for f in val_frames]
    candidates = np.linspace(0.5, 9.5, 181)
    errors = [np.mean([np.sqrt(((d - c) ** 2).mean()) for d in depths]) for c in candidates]
    baseline = min(errors)  # chosen on the scored pictures, so better than any mean of training
    record = published("mini-depth")
    assert record.ci95["rmse"][0].high < 0.6 * baseline
