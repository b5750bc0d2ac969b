"""`from pe_dense import load`: a trained model that is called with pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from PIL import Image
from runs import train
from saved_models import CONFIGS, SEGMENTATION, save_untrained

from pe_dense import load
from pe_dense.data.picture import read_picture
from pe_dense.predict.command import PredictRequest, predict
from pe_dense.predict.predictor import split_pipeline, steps_per_metre
from pe_dense.predict.results import DepthMap, Detections, LabelMap


def same(one: object, other: object) -> bool:
    if isinstance(one, LabelMap):
        return bool((one.labels_HW == other.labels_HW).all())
    if isinstance(one, DepthMap):
        return np.allclose(one.depth_HW, other.depth_HW, atol=1e-5)
    return np.allclose(one.boxes_Q4, other.boxes_Q4, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [("linear", "ade", LabelMap), ("depth", "nyu", DepthMap), ("deta", "coco", Detections)],
)
def test_a_path_an_array_and_a_pil_image_are_one_picture(
    mini_root: Path, tmp_path: Path, name: str, data: str, kind: type
) -> None:
    saved = save_untrained(name, tmp_path, mini_root / data)
    model = load(saved.checkpoint, saved.config, options=saved.options, device="cpu")
    assert len(model.classes) == {"linear": 10, "depth": 0, "deta": 6}[name]
    file = tmp_path / "a.png"
    image_HW3 = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(image_HW3).save(file)
    found = model(str(file))
    assert type(found) is kind and found.size == (50, 70) and found.file == file
    assert found.classes == model.classes
    forms = [file, image_HW3, Image.open(file), np.dstack([image_HW3, image_HW3[..., :1]])]
    for other in model(forms, batch_size=2):
        assert same(found, other) and (other.image_HW3 == image_HW3).all()
    assert model([]) == []
    grey_HW = image_HW3[..., 0]
    assert same(model(grey_HW), model(Image.fromarray(grey_HW)))
    for wrong, words in (
        (image_HW3.astype(np.float32), "RGB uint8, and this one is"),
        (np.zeros((0, 4, 3), np.uint8), "RGB uint8, and this one is"),
        (np.zeros((4, 4, 2), np.uint8), "RGB uint8, and this one is"),
        (Image.fromarray(grey_HW.astype(np.uint16)), "mode I;16 has no known white"),
        (tmp_path / "absent.jpg", "absent.jpg does not exist"),
    ):
        with pytest.raises(ValueError, match=words):
            model(wrong)
    with pytest.raises(ValueError, match="batch_size is -1"):
        model([image_HW3], batch_size=-1)


def test_a_checkpoint_alone(mini_root: Path, tmp_path: Path) -> None:
    """No config, no option and no data: all that is needed is in the file."""
    root = tmp_path / "data"
    (tmp_path / "gone").symlink_to(mini_root / "ade")
    (tmp_path / "gone").rename(root)
    short = dict(SEGMENTATION, layers=[0], max_epochs=1, val_interval=1, data_root=str(root))
    config = CONFIGS / "segmentation" / "linear_pe_t16_mini.py"
    train(config, options=short, work_dir=tmp_path / "work")
    known = sorted((mini_root / "ade" / "images" / "validation").glob("[!.]*"))
    with_config = load(tmp_path / "work", str(config))(known[0])
    root.unlink()  # the data are gone
    alone = load(tmp_path / "work")
    assert same(alone(known[0]), with_config)
    assert (alone(known[0]).image_HW3 == read_picture(known[0])).all()
    request = PredictRequest(tmp_path / "work", [str(known[0])], tmp_path / "out")
    assert predict(request).predicted == 1
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["classes"][0] == dict(id=1, name="sky")
    half = load(tmp_path / "work", amp=True)
    assert half.predictor.is_amp and half.predictor.model.backbone.amp_dtype is not None


def test_tasks_that_predict_no_pictures(tmp_path: Path, mini_root: Path) -> None:
    from mmengine.config import Config

    from pe_dense.predict.predictor import task_of_pictures
    from pe_dense.run.config import load_template

    class Run:
        file = "work/epoch_1.pth"

    probe = load_template(str(CONFIGS / "probing" / "depth_pe_t16_mini.py"))
    with pytest.raises(ValueError, match="is a probe with many heads on every layer"):
        task_of_pictures(probe, Run())
    tracker = Config(dict(protocol=dict(task="tracking"), model=dict(type="ByteTrack")))
    with pytest.raises(ValueError, match="is of tracking, and pictures are predicted by"):
        task_of_pictures(tracker, Run())


def test_steps_that_load_annotations_are_left_out_everywhere() -> None:
    load_map, pack = dict(type="LoadAnnotations"), dict(type="PackSegInputs")
    views = dict(type="TestTimeAug", transforms=[[dict(type="Resize")], [load_map], [pack]])
    inner = dict(type="Compose", transforms=[dict(type="LoadDepth"), dict(type="KBCrop")])
    reads, steps = split_pipeline([dict(type="LoadImage", bits=12), load_map, inner, views])
    assert reads == dict(backend="cv2", bits=12)
    assert steps == [
        dict(type="Compose", transforms=[dict(type="KBCrop")]),
        dict(type="TestTimeAug", transforms=[[dict(type="Resize")], [pack]]),
    ]
    with pytest.raises(ValueError, match="only pictures that LoadImage reads"):
        split_pipeline([dict(type="LoadImageFromFile")])


def test_views_of_a_test_are_averaged_as_it_does(mini_root: Path, tmp_path: Path) -> None:
    """With test-time augmentation the model is the averaged one, and its labels are the test's."""
    resize = [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (64, 96)]
    flips = [dict(type="RandomFlip", prob=prob) for prob in (0.0, 1.0)]
    pipeline = [
        dict(type="LoadImage"),
        dict(type="TestTimeAug", transforms=[
            resize, flips, [dict(type="LoadAnnotations")], [dict(type="PackSegInputs")]]),
    ]  # fmt: skip
    root, base = mini_root / "ade", CONFIGS / "segmentation" / "linear_pe_t16_mini.py"
    config = tmp_path / "views.py"
    loader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
    config.write_text(
        f"_base_ = [{str(base)!r}]\ntta_model = dict(type='DenseSegTTA')\n"
        f"test_dataloader = {loader!r}\n"
    )
    saved = save_untrained("linear", tmp_path, root)
    plain = load(saved.checkpoint, saved.config, options=saved.options)
    saved = save_untrained("linear", tmp_path, root, config)
    averaged = load(saved.checkpoint, saved.config, options=saved.options)
    file = sorted((root / "images" / "validation").iterdir())[0]
    found = averaged(file)
    assert found.size == (128, 128) and not same(found, plain(file))
    assert type(averaged.predictor.model).__name__ == "DenseSegTTA"
    assert len(averaged([file, file])) == 2


def test_a_kitti_crop_is_put_back(mini_root: Path, tmp_path: Path) -> None:
    saved = save_untrained("depth", tmp_path, mini_root / "nyu", val_cut=[dict(type="KBCrop")])
    model = load(saved.checkpoint, saved.config, options=saved.options)
    frame = np.full((375, 1242, 3), 90, np.uint8)
    found = model(frame)
    assert found.depth_HW.shape == (375, 1242)
    assert np.isfinite(found.depth_HW[23:, 13:1229]).all()
    assert np.isnan(found.depth_HW[:23]).all() and np.isnan(found.depth_HW[:, :13]).all()
    with pytest.raises(ValueError, match="the KB crop of 352 x 1216 does not fit"):
        model(frame[:100])


def test_scales_of_depth() -> None:
    assert steps_per_metre(dict(max_depth=65.0)) == 1000 and steps_per_metre({}) == 1000
    assert (
        steps_per_metre(dict(max_depth=80.0)) == 256 and steps_per_metre(dict(max_depth=1e9)) == 1
    )


def test_importing_costs_nothing() -> None:
    code = "import sys; from pe_dense import load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
