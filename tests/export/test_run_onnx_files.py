"""The files that docs/run_onnx.py writes are those of tools/predict.py."""

import json

import numpy as np
import pytest

pytest.importorskip("mmdet")

from export_case import in_torch, runner_module, spread, untrained_run
from PIL import Image
from pycocotools import mask as coco_mask

from pe_dense.export.checkpoint_program import Wanted, checkpoint_program
from pe_dense.predict.command import PredictRequest, predict

CASES = {
    "vitdet": (
        "detection/vitdet_pe_t16_mini.py",
        dict(image_scale=(64, 64), canvas=64, max_per_img=20),
    ),
    "linear": ("segmentation/linear_pe_t16_mini.py", dict(layers=[1], image_scale=(64, 64))),
    "depth": ("depth/linear_pe_t16_mini.py", dict(layers=[1])),
    "dpt": ("depth/nyu_dpt_pe.py", dict(encoder="pe_spatial_t16_512", layer=1)),
}
runner = runner_module()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "b.jpg")):
        values = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        values[10:30, 20:50] = 200
        Image.fromarray(values).save(folder / name)
    return sorted(folder.iterdir())


def both(name, tmp_path, pictures, **options):
    """Folders of predict and of the runner."""
    config, known = CASES[name]
    run = spread(untrained_run(f"configs/{config}", tmp_path, **known, **options))
    done = predict(
        PredictRequest(run.file, list(map(str, pictures)), tmp_path / "predict", device="cpu")
    )
    assert not done.failed
    model = in_torch(checkpoint_program(run, Wanted(size=(64, 64) if name != "vitdet" else None)))
    model.facts = json.loads(json.dumps(model.facts))  # as a file holds them
    assert runner.run_all(model, pictures, tmp_path / "runner") == {}
    names = [
        {path.relative_to(tmp_path / side).as_posix() for path in (tmp_path / side).rglob("*.*")}
        for side in ("predict", "runner")
    ]
    names = [{n for n in side if not n.startswith(".") and n != "index.json"} for side in names]
    assert names[0] == names[1]
    return tmp_path / "predict", tmp_path / "runner"


def test_label_maps_have_the_numbers_and_colours_of_predict(tmp_path, pictures):
    theirs, ours = both("linear", tmp_path, pictures)
    for path in (theirs / "labels").iterdir():
        with Image.open(path) as first, Image.open(ours / "labels" / path.name) as second:
            assert first.mode == second.mode == "P"
            assert first.getpalette() == second.getpalette()
            first, second = np.array(first), np.array(second)
        assert (first != second).mean() < 1e-3  # ties in the last bit
        assert len(np.unique(first)) > 1 and first.min() >= 1  # 0 is what is not annotated
    assert len(list((ours / "labels").iterdir())) == 3


def test_numbers_above_255_take_16_bits(tmp_path):
    facts = dict(task="segmentation", ids=[7, 300], palette=[[1, 2, 3], [4, 5, 6]])
    runner.save(dict(labels=np.array([[0, 1]])), facts, tmp_path, "a")
    with Image.open(tmp_path / "labels" / "a.png") as picture:
        assert np.array(picture).tolist() == [[7, 300]]


@pytest.mark.parametrize("name", ["depth", "dpt"])
def test_depth_is_that_of_predict(tmp_path, pictures, name):
    theirs, ours = both(name, tmp_path, pictures)
    for path in (theirs / "depth").glob("*.npy"):
        first, second = np.load(path), np.load(ours / "depth" / path.name)
        assert first.dtype == second.dtype and np.ptp(first) > 0.01
        np.testing.assert_allclose(first, second, atol=1e-4 * np.ptp(first))
        steps = [
            np.array(Image.open(s / "depth" / f"{path.stem}.png")).astype(int)
            for s in (theirs, ours)
        ]
        assert abs(steps[0] - steps[1]).max() <= 1


def test_detections_are_those_of_predict(tmp_path, pictures):
    theirs, ours = both("vitdet", tmp_path, pictures)
    first, second = (json.loads((side / "detections.json").read_text()) for side in (theirs, ours))
    assert first["categories"] == second["categories"]
    assert first["images"] == second["images"]
    assert len(first["annotations"]) == len(second["annotations"]) > 30
    keys = set(first["annotations"][0])
    left = list(second["annotations"])
    for row in first["annotations"]:  # in any order: scores may be equal
        other = min(left, key=lambda one: distance(one, row))
        left.remove(other)
        assert set(other) == keys
        assert distance(other, row) < 1e-2
        assert row["area"] == pytest.approx(other["area"], rel=1e-3)
        masks = [coco_mask.decode(one["segmentation"]) for one in (row, other)]
        assert (masks[0] != masks[1]).mean() < 0.01


def distance(one, other):
    """Largest difference of two detections of a picture and a class; scores count a hundredfold."""
    if any(one[key] != other[key] for key in ("image_id", "category_id")):
        return np.inf
    boxes = abs(np.subtract(one["bbox"], other["bbox"])).max()
    return max(boxes, 100 * abs(one["score"] - other["score"]))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (300, 400)])
def test_run_lengths_are_those_of_pycocotools(shape):
    generator = np.random.default_rng(0)
    noise = generator.random(shape) < 0.5
    block = np.zeros(shape, bool)
    block[shape[0] // 3 :, : shape[1] // 2] = True
    for mask in (noise, ~noise, block, ~block, np.zeros(shape, bool), np.ones(shape, bool)):
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        found = runner.run_lengths(mask)
        assert found == dict(size=list(shape), counts=expected["counts"].decode())


def test_ids_of_a_coco_file_are_taken_or_refused(tmp_path, pictures):
    data = dict(
        images=[dict(id=70 + k, file_name=f"train/{p.name}") for k, p in enumerate(pictures)],
        categories=[dict(id=9, name="cat"), dict(id=4, name="dog")],
    )
    file = tmp_path / "train.json"
    file.write_text(json.dumps(data))
    assert runner.ids_of(pictures, ["dog", "cat"], [1, 2], file) == ([70, 71, 72], [4, 9])
    assert runner.ids_of(pictures, ["dog", "cat"], [1, 2], None) == ([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="has no category 'cow'"):
        runner.ids_of(pictures, ["cow"], [1], file)
    with pytest.raises(ValueError, match="has not one image c.png"):
        runner.ids_of([tmp_path / "c.png"], ["cat"], [1], file)
    file.write_text("[]")
    with pytest.raises(ValueError, match="is no COCO file"):
        runner.ids_of(pictures, ["cat"], [1], file)


def test_nothing_is_lost_to_a_broken_picture_a_shared_name_or_an_earlier_run(tmp_path, pictures):
    class Constant:
        def __init__(self):
            self.facts = dict(task="segmentation", ids=[3], palette=[[9, 9, 9]])

        def __call__(self, picture):
            return dict(labels=np.zeros(picture.shape[:2], int))

    broken = pictures[0].with_name("c.png")
    broken.write_bytes(b"no picture")
    out = tmp_path / "out"
    failed = runner.run_all(Constant(), [*pictures, broken], out)
    assert list(failed) == [broken]
    names = sorted(path.name for path in (out / "labels").iterdir())
    assert names == ["a.png", "b.jpg.png", "b.png.png"]
    with pytest.raises(ValueError, match="holds files"):
        runner.run_all(Constant(), pictures, out)
    with pytest.raises(ValueError, match="two pictures are called a.png"):
        runner.run_all(Constant(), [pictures[0], tmp_path / "a.png"], tmp_path / "other")
    assert not (tmp_path / "other").exists()
