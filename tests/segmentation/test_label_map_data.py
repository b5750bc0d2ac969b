"""The loader of label maps: mmseg's numbers for sound maps, a sentence for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.registry import init_default_scope
from mmseg.datasets import transforms as stock
from mmseg.registry import DATASETS, TRANSFORMS
from torch.utils.data import DataLoader

import pe_dense.segmentation  # noqa: F401 (registers the parts)
from pe_dense.data.holdout import HoldoutSubset
from pe_dense.run.command_line import sentence
from pe_dense.segmentation import label_map_data


def saved(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def sample(path: Path, reduces: bool = False, **more) -> dict:
    return dict(seg_map_path=str(path), reduce_zero_label=reduces, seg_fields=[], **more)


@pytest.mark.parametrize("reduces", [False, True])
@pytest.mark.parametrize("label_map", [None, {0: 1, 1: 0, 2: 255, 3: 2}])
def test_sound_maps_are_read_as_mmseg_reads_them(tmp_path, reduces, label_map):
    every = np.random.default_rng(0).integers(0, 256, (9, 31), np.uint8)
    every.flat[:256] = np.arange(256)
    file = saved(tmp_path / "a.png", every)
    ours, theirs = (
        kind().transform(sample(file, reduces, label_map=label_map))
        for kind in (label_map_data.LoadAnnotations, stock.LoadAnnotations)
    )
    assert np.array_equal(ours["gt_seg_map"], theirs["gt_seg_map"])
    assert ours["gt_seg_map"].dtype == np.uint8 and ours["seg_fields"] == theirs["seg_fields"]


def test_the_names_that_configs_use_are_ours():
    assert TRANSFORMS.get("LoadAnnotations") is label_map_data.LoadAnnotations
    for name in ("BaseSegDataset", "ADE20KDataset", "PascalVOCDataset", "CityscapesDataset"):
        assert issubclass(DATASETS.get(name), label_map_data.PairedFiles)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 6), 3, np.uint8), "holds label 3, but its labels may be 0 to 2 and 255"),
        (np.full((4, 6), 256, np.uint16), "holds 256"),
        (np.zeros((6, 4), np.uint8), "is 4x6 px but its image is 6x4"),
        (np.zeros((4, 6, 3), np.uint8), "has 3 channels"),
    ],
)
def test_the_loader_refuses_what_it_would_have_cast(tmp_path, values, words):
    file = saved(tmp_path / "a.png", values)
    load = label_map_data.LoadAnnotations()
    with pytest.raises(ValueError, match=f"a.png: {words}"):
        load.transform(sample(file, num_labels=3, ori_shape=(4, 6)))


def test_another_reduce_zero_label_than_the_data_set(tmp_path):
    file = saved(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    with (
        pytest.warns(UserWarning, match="deprecated"),
        pytest.raises(ValueError, match="give it to the data set alone"),
    ):
        label_map_data.LoadAnnotations(reduce_zero_label=True).transform(sample(file))


def test_a_loading_worker_says_the_same_sentence(tmp_path):
    """A map that changed after the check, met by another process."""
    saved(tmp_path / "img/a.jpg", np.zeros((4, 6, 3), np.uint8))
    file = saved(tmp_path / "map/a.png", np.full((4, 6), 7, np.uint8))
    init_default_scope("mmseg")
    dataset = DATASETS.build(
        dict(
            type="BaseSegDataset",
            data_root=str(tmp_path),
            data_prefix=dict(img_path="img", seg_map_path="map"),
            metainfo=dict(classes=["a", "b"]),
            pipeline=[dict(type="LoadImage"), dict(type="LoadAnnotations")],
        )
    )
    said = []
    for workers in (0, 1):
        loader = DataLoader(dataset, num_workers=workers, multiprocessing_context=None)
        with pytest.raises(ValueError, match="holds label 7") as caught:
            next(iter(loader))
        said.append(sentence(caught.value))
    assert said[0] == said[1] and said[0].startswith(f"{file}: ")


def test_frames_of_cityscapes_know_their_city(tmp_path):
    """What `HoldoutSubset(group='sequence')` keeps together; other names have none."""
    for city, number in (("ulm", 0), ("ulm", 1), ("zurich", 0), ("zurich", 1)):
        stem = f"{city}/{city}_{number:06d}_000019"
        saved(tmp_path / f"img/{stem}_leftImg8bit.png", np.zeros((2, 2, 3), np.uint8))
        saved(tmp_path / f"map/{stem}_gtFine_labelTrainIds.png", np.zeros((2, 2), np.uint8))
    built = DATASETS.build(
        dict(
            type="CityscapesDataset",
            data_prefix=dict(img_path=str(tmp_path / "img"), seg_map_path=str(tmp_path / "map")),
            img_suffix="_leftImg8bit.png",
            seg_map_suffix="_gtFine_labelTrainIds.png",
            pipeline=[],
        )
    )
    cities = [built.get_data_info(i)["sequence"] for i in range(4)]
    assert cities == ["ulm", "ulm", "zurich", "zurich"]
    part = HoldoutSubset(built, "holdout", share=0.5, group="sequence")
    assert len({cities[i] for i in part.indices}) == 1 and len(part) == 2
    assert built.sequence_of("a.png") is None
