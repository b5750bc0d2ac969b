"""The mini world agrees with itself, repeats byte by byte, and cannot be solved by colour."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
Image = pytest.importorskip("PIL.Image")
coco_mask = pytest.importorskip("pycocotools.mask")

from class_guessing import (  # noqa: E402
    class_mean_accuracy,
    colours_of,
    nearest_neighbour_accuracy,
    shape_of,
)

from pe_dense.mini_world.formats import (  # noqa: E402
    DEPTH_SCALE,
    MiniWorldConfig,
    build_mini_world,
    davis_palette,
    find_damage,
    load_manifest,
)
from pe_dense.mini_world.preview import SIDE, write_contact_sheet  # noqa: E402
from pe_dense.mini_world.render import render_scene  # noqa: E402
from pe_dense.mini_world.scene import (  # noqa: E402
    FIRST_THING,
    MIN_VISIBLE_PX,
    SEMANTIC_NAMES,
    THING_NAMES,
    sample_scene,
)
from pe_dense.mini_world.world import make_clip, make_image  # noqa: E402
from pe_dense.pictures.colours import class_colour  # noqa: E402
from pe_dense.pictures.drawing import MARGIN  # noqa: E402

REPO = Path(__file__).parents[2]
CONFIG = MiniWorldConfig(seed=3, train=6, val=4, clips=3, frames=5, image_size=96)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "mini"
    assert build_mini_world(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def frames():
    return [make_image(0, "train", i, image_size=128) for i in range(140)]


def run_tool(*args):
    return subprocess.run(
        [sys.executable, "tools/prepare_data.py", *map(str, args)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def read_coco(root, split):
    return json.loads((root / f"coco/annotations/{split}.json").read_text())


def read_gray(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image.ndim == 2
    return image


def read_mot(root, split, name):
    rows = np.loadtxt(root / f"mot/{split}/{name}/gt/gt.txt", delimiter=",", ndmin=2)
    assert rows.shape[1] == 9
    return rows


def clip_names(root, split):
    return (root / f"davis/ImageSets/2017/{split}.txt").read_text().split()


# The drawn world ---------------------------------------------------------------------------------


def test_nearest_surface_wins_everywhere():
    """Each thing drawn alone: the full picture shows at every pixel the nearest of them."""
    for seed in range(6):
        scene = sample_scene(np.random.default_rng(seed), image_size=96)
        noise = np.random.default_rng(0)
        whole = render_scene(scene, noise)
        nearest = render_scene(replace(scene, things=()), noise).depth_m
        nearest = np.where(nearest == 0, np.inf, nearest)
        owner = np.zeros(nearest.shape, np.uint8)
        for thing in scene.things:
            depth_m = render_scene(replace(scene, things=(thing,)), noise).depth_m
            depth_m = np.where(depth_m == 0, np.inf, depth_m)
            closer = depth_m < nearest
            owner[closer] = thing.track_id
            nearest[closer] = depth_m[closer]
        np.testing.assert_array_equal(whole.ids, owner)
        np.testing.assert_array_equal(whole.depth_m, np.where(np.isinf(nearest), 0, nearest))


def test_objects_are_nearer_than_what_they_hide():
    scene = sample_scene(np.random.default_rng(1), image_size=96)
    noise = np.random.default_rng(0)
    empty = render_scene(replace(scene, things=()), noise).depth_m
    whole = render_scene(scene, noise)
    on_object = whole.ids > 0
    behind = np.where(empty == 0, np.inf, empty)
    assert on_object.any() and (whole.depth_m[on_object] < behind[on_object]).all()


def test_size_shrinks_with_distance():
    scene = sample_scene(np.random.default_rng(2), image_size=256)
    thing = replace(scene.things[0], x_m=0.0, class_id=1, track_id=1)
    heights = [
        render_scene(replace(scene, things=(replace(thing, z_m=z_m),)), np.random.default_rng(0))
        .objects[0]
        .box_xywh[3]
        for z_m in (2.5, 5.0)
    ]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.12)


def test_boxes_areas_and_semantics_follow_the_ids(frames):
    for frame in frames[:40]:
        semantic = np.zeros_like(frame.semantic)
        for item in frame.objects:
            rows, columns = np.nonzero(frame.ids == item.track_id)
            x, y, w, h = item.box_xywh
            assert (columns.min(), rows.min()) == (x, y)
            assert (columns.max() + 1, rows.max() + 1) == (x + w, y + h)
            assert len(rows) == item.area_px <= item.full_area_px
            if item.is_annotated:
                semantic[rows, columns] = FIRST_THING + item.class_id
        things = frame.semantic > FIRST_THING
        np.testing.assert_array_equal(np.where(things, frame.semantic, 0), semantic)
        assert {o.track_id for o in frame.objects} == set(np.unique(frame.ids)) - {0}


def test_all_classes_sizes_and_occlusion_occur(frames):
    objects = [o for f in frames for o in f.objects if o.is_annotated]
    assert {o.class_id for o in objects} == set(range(1, len(THING_NAMES) + 1))
    assert set(np.unique([f.semantic for f in frames])) == set(range(len(SEMANTIC_NAMES) + 1))
    assert np.mean([o.visibility < 0.8 for o in objects]) > 0.08
    sides = np.array([max(o.box_xywh[2:]) for o in objects]) * 2  # as if the picture had 256 px
    assert np.percentile(sides, 5) < 24 and np.percentile(sides, 95) > 75 and sides.max() < 160
    assert 3 < len(objects) / len(frames) < 5


def test_shape_gives_the_class_away_but_colour_does_not(frames):
    colours, shapes, labels = [], [], []
    for frame in frames:
        for item in frame.objects:
            if item.area_px < 80 or item.visibility < 0.9:
                continue
            mask = frame.ids == item.track_id
            colours.append(colours_of(frame.image[mask]))
            shapes.append(shape_of(mask))
            labels.append(item.class_id)
    colours, shapes, labels = np.array(colours), np.array(shapes), np.array(labels)
    chance = np.bincount(labels).max() / len(labels)
    assert len(labels) > 250
    by_colour = [f(colours, labels) for f in (nearest_neighbour_accuracy, class_mean_accuracy)]
    by_shape = nearest_neighbour_accuracy(shapes, labels)
    assert max(by_colour) < 1.6 * chance, (by_colour, chance)
    assert by_shape > 2.5 * chance, (by_shape, chance)


def test_clips_show_all_objects_first_and_move_smoothly():
    for index in range(4):
        clip = make_clip(5, "clip_train", index, image_size=96, num_frames=8)
        ids = [{o.track_id for o in f.objects} for f in clip]
        assert ids[0] == set(range(1, len(ids[0]) + 1)) and len(ids[0]) >= 2
        assert set().union(*ids) == ids[0]
        assert all(o.is_annotated for o in clip[0].objects)
        classes = {(o.track_id, o.class_id) for f in clip for o in f.objects}
        assert len(classes) == len(ids[0])
        for before, after in itertools.pairwise(clip):
            old = {o.track_id: o for o in before.objects if o.visibility > 0.95}
            for item in after.objects:
                if item.track_id in old and item.visibility > 0.95:
                    step = np.abs(np.subtract(item.box_xywh, old[item.track_id].box_xywh)).max()
                    assert step <= 14
        moved = np.abs(clip[-1].image.astype(int) - clip[0].image).mean()
        assert moved > 3


def test_one_picture_does_not_depend_on_the_others():
    again = make_image(0, "val", 7, image_size=64)
    np.testing.assert_array_equal(again.image, make_image(0, "val", 7, image_size=64).image)
    assert (again.image != make_image(0, "train", 7, image_size=64).image).any()
    short, long = (make_clip(0, "clip_val", 1, 64, num_frames=n) for n in (3, 4))
    for a, b in zip(short, long, strict=False):
        np.testing.assert_array_equal(a.image, b.image)


# The files ---------------------------------------------------------------------------------------


def test_coco_boxes_and_masks_agree(root):
    for split, count in (("train", CONFIG.train), ("val", CONFIG.val)):
        coco = read_coco(root, split)
        assert len(coco["images"]) == count
        assert coco["info"]["seed"] == CONFIG.seed
        assert [c["name"] for c in coco["categories"]] == list(THING_NAMES)
        assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"])
        for item in coco["annotations"]:
            assert isinstance(item["segmentation"]["counts"], str) and item["iscrowd"] == 0
            assert coco_mask.toBbox(item["segmentation"]).tolist() == item["bbox"]
            assert int(coco_mask.area(item["segmentation"])) == item["area"] >= MIN_VISIBLE_PX


def test_coco_api_loads_it(root, capsys):
    from pycocotools.coco import COCO

    coco = COCO(str(root / "coco/annotations/val.json"))
    capsys.readouterr()
    assert coco.getCatIds() == list(range(1, len(THING_NAMES) + 1))
    first = coco.loadAnns(coco.getAnnIds())[0]
    assert coco.annToMask(first).sum() == first["area"]
    names = {i["file_name"] for i in coco.loadImgs(coco.getImgIds())}
    assert names == {p.name for p in (root / "coco/images/val").iterdir()}


def test_coco_masks_make_up_the_ade_maps(root):
    coco = read_coco(root, "val")
    for index, info in enumerate(coco["images"]):
        name = f"ADE_val_{index + 1:08d}"
        semantic = read_gray(root / f"ade/annotations/validation/{name}.png")
        assert semantic.dtype == np.uint8 and semantic.max() <= len(SEMANTIC_NAMES)
        union = np.zeros_like(semantic)
        for item in coco["annotations"]:
            if item["image_id"] == info["id"]:
                mask = coco_mask.decode(item["segmentation"]).astype(bool)
                assert not union[mask].any()
                union[mask] = FIRST_THING + item["category_id"]
        np.testing.assert_array_equal(np.where(semantic > FIRST_THING, semantic, 0), union)
        picture = root / f"ade/images/validation/{name}.jpg"
        same = root / "coco/images/val" / info["file_name"]
        assert picture.read_bytes() == same.read_bytes()


def test_nyu_depth_is_metric_and_fits_the_semantics(root):
    lines = (root / "nyu/nyu_test.txt").read_text().splitlines()
    assert len(lines) == CONFIG.val
    assert len((root / "nyu/nyu_train.txt").read_text().splitlines()) == CONFIG.train
    for index, line in enumerate(lines):
        rgb, depth, focal = line.split()
        assert (root / "nyu" / rgb).is_file() and float(focal) > 0
        depth_png = read_gray(root / "nyu" / depth)
        assert depth_png.dtype == np.uint16
        depth_m = depth_png / DEPTH_SCALE
        semantic = read_gray(root / f"ade/annotations/validation/ADE_val_{index + 1:08d}.png")
        np.testing.assert_array_equal(depth_m == 0, semantic == 1)  # sky
        assert depth_m[depth_m > 0].min() > 1.0 and depth_m.max() < 12.0
        assert depth_m[semantic > FIRST_THING].max() < depth_m[semantic == 2].min()  # wall


def test_davis_masks_and_mot_boxes_agree(root):
    for split, mot_split in (("train", "train"), ("val", "test")):
        for name in clip_names(root, split):
            rows = read_mot(root, mot_split, name)
            classes = (root / f"mot/{mot_split}/{name}/gt/classes.txt").read_text().splitlines()
            for t in range(CONFIG.frames):
                with Image.open(root / f"davis/Annotations/480p/{name}/{t:05d}.png") as file:
                    assert file.mode == "P"
                    assert file.getpalette()[:768] == davis_palette().ravel().tolist()
                    ids = np.array(file)
                now = rows[rows[:, 0] == t + 1]
                assert set(now[:, 1]) == set(np.unique(ids)) - {0}
                for _, track_id, x, y, w, h, active, _, visibility in now:
                    ys, xs = np.nonzero(ids == track_id)
                    box = (xs.min() + 1, ys.min() + 1, np.ptp(xs) + 1, np.ptp(ys) + 1)
                    assert box == (x, y, w, h) and 0 < visibility <= 1
                    assert active == (len(xs) >= MIN_VISIBLE_PX)
                if t == 0:
                    assert [int(c.split(",")[0]) for c in classes] == sorted(set(rows[:, 1]))
                    assert set(now[:, 1]) == set(rows[:, 1])
            frame = root / f"mot/{mot_split}/{name}/img1/000001.jpg"
            same = root / f"davis/JPEGImages/480p/{name}/00000.jpg"
            assert frame.read_bytes() == same.read_bytes()


def test_manifest_lists_every_file(root):
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert files == set(load_manifest(root)["sha256"]) | {"manifest.json"}
    assert find_damage(root) == []


def test_same_seed_same_bytes_other_seed_other_bytes(root, tmp_path):
    build_mini_world(tmp_path / "again", CONFIG)
    build_mini_world(tmp_path / "other", replace(CONFIG, seed=4))
    first = (root / "manifest.json").read_bytes()
    assert (tmp_path / "again/manifest.json").read_bytes() == first
    pictures = [
        {v for k, v in load_manifest(folder)["sha256"].items() if k.endswith(".jpg")}
        for folder in (root, tmp_path / "other")
    ]
    assert not pictures[0] & pictures[1]


def test_contact_sheet(root, tmp_path):
    write_contact_sheet(root, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 5 * (SIDE + MARGIN) + MARGIN and sheet.shape[0] > 7 * SIDE
    assert sheet.std() > 30
    for label in (0, 1):  # in the legend, and as a box or an object
        shade = np.array(class_colour(label))[::-1]
        assert (sheet == shade).all(axis=-1).sum() > 300


# Using it ----------------------------------------------------------------------------------------


def test_finished_folder_is_kept_and_other_settings_need_overwrite(tmp_path):
    config = MiniWorldConfig(train=1, val=1, clips=2, frames=3, image_size=64)
    out = tmp_path / "mini"
    assert build_mini_world(out, config)
    assert not build_mini_world(out, config)
    with pytest.raises(ValueError, match=r"seed 0 instead of 1; pass --overwrite"):
        build_mini_world(out, replace(config, seed=1))
    assert build_mini_world(out, replace(config, seed=1), overwrite=True)
    assert load_manifest(out)["seed"] == 1
    (out / "nyu/nyu_test.txt").unlink()
    with pytest.raises(ValueError, match=r"nyu/nyu_test\.txt.*pass --overwrite"):
        build_mini_world(out, replace(config, seed=1))
    assert [p.name for p in tmp_path.iterdir()] == ["mini"]


def test_foreign_folder_is_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a mini world"):
        build_mini_world(tmp_path, CONFIG, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_error_in_the_middle_leaves_nothing(tmp_path):
    def fail(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_mini_world(tmp_path / "mini", CONFIG, on_progress=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_in_the_middle_leaves_no_target(tmp_path):
    out = tmp_path / "mini"
    process = subprocess.Popen(
        [sys.executable, "tools/prepare_data.py", "mini", "--out", str(out)],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".mini.partial-*/coco/images/train/*.jpg")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not out.exists()
    build_mini_world(out, MiniWorldConfig(train=1, val=1, clips=2, frames=3, image_size=64))
    assert [p.name for p in tmp_path.iterdir()] == ["mini"]  # the remains are gone too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train", "0"], "--train is 0, but must be 1 to"),
        (["--image-size", "32"], "--image-size is 32, but must be 64 to"),
        (["--seed", "-1"], "--seed is -1"),
        (["--preview", "sheet.txt"], "--preview is sheet.txt"),
    ],
)
def test_bad_options_exit_2_with_one_sentence(tmp_path, options, message, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(REPO / "tools"))
    import prepare_data

    assert prepare_data.main(["mini", "--out", str(tmp_path / "mini"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_out_that_is_a_file_exits_2(tmp_path):
    (tmp_path / "mini").write_text("a file")
    result = run_tool("mini", "--out", tmp_path / "mini")
    assert result.returncode == 2
    assert "is a file; pass another folder with --out" in result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['x', '--help']; sys.path.insert(0, 'tools'); import prepare_data\n"
        "try: prepare_data.main()\nexcept SystemExit: pass\n"
        "assert not {'numpy', 'cv2', 'torch', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True, stdout=subprocess.DEVNULL)
