"""World 2 agrees with itself, repeats, and is not solved by position, texture or colour."""

import hashlib
import itertools
import json
import math
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

from pe_dense.mini_world import courtyard, world  # noqa: E402
from pe_dense.mini_world.captions import (  # noqa: E402
    MAX_TOKENS,
    caption_of,
    caption_tokens,
    mirrored_caption,
    vocabulary_of,
)
from pe_dense.mini_world.courtyard_render import render_scene  # noqa: E402
from pe_dense.mini_world.courtyard_scene import (  # noqa: E402
    SEMANTIC_NAMES,
    THING_NAMES,
    Camera,
    sample_scene,
)
from pe_dense.mini_world.formats import (  # noqa: E402
    DEPTH_SCALE,
    MiniWorldConfig,
    build_mini_world,
    find_damage,
    load_manifest,
)
from pe_dense.mini_world.outlines import SHAPES, VARIANTS, distance_at, outline_of  # noqa: E402
from pe_dense.mini_world.preview import write_contact_sheet  # noqa: E402
from pe_dense.mini_world.scene import FIRST_THING, MIN_VISIBLE_PX  # noqa: E402
from pe_dense.mini_world.worlds import WORLDS, world_of  # noqa: E402

REPO = Path(__file__).parents[2]
CONFIG = MiniWorldConfig(seed=3, train=4, val=3, clips=2, frames=4, image_size=96, world=2)
NUM_CLASSES, NUM_STUFF = len(SEMANTIC_NAMES), FIRST_THING
NOISE = np.random.default_rng(0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("courtyard") / "mini2"
    assert build_mini_world(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def frames():
    return [courtyard.make_image(0, "train", i, image_size=64) for i in range(200)]


@pytest.fixture(scope="module")
def val_frames():
    return [courtyard.make_image(0, "val", i, image_size=64) for i in range(50)]


def digest(frames, with_pictures):
    found = hashlib.sha256()
    for frame in frames:
        for array in (frame.ids, frame.semantic, frame.depth_m):
            found.update(array.tobytes())
        found.update(repr(frame.objects).encode())
        if with_pictures:
            found.update(frame.image.tobytes())
    return found.hexdigest()


def drawn(module):
    stills = [module.make_image(0, split, i, 64) for split in ("train", "val") for i in range(3)]
    return stills + module.make_clip(0, "clip_val", 0, 64, 3)


# The same for ever -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "known"),
    [
        (world, "8341a6348ff0dfea2c8ba8c527b67580ed358cc1e91a9e984553939f07d55544"),
        (courtyard, "1b4a551960aa39e784b63650f08d22fc24224dea07158788aad27376524d32da"),
    ],
    ids=["world 1", "world 2"],
)
def test_labels_and_depth_of_a_seed_are_the_known_ones(module, known):
    assert digest(drawn(module), with_pictures=False) == known


def test_same_seed_same_bytes_other_seed_other_bytes(root, tmp_path):
    again = tmp_path / "again"
    build_mini_world(again, CONFIG)
    assert (again / "manifest.json").read_bytes() == (root / "manifest.json").read_bytes()
    assert digest(drawn(courtyard), True) == digest(drawn(courtyard), True)
    other = courtyard.make_image(4, "val", 0, 64)
    assert (other.image != courtyard.make_image(3, "val", 0, 64).image).any()
    short, long = (courtyard.make_clip(0, "clip_val", 1, 64, num_frames=n) for n in (2, 3))
    for a, b in zip(short, long, strict=False):
        np.testing.assert_array_equal(a.image, b.image)


def test_both_worlds_draw_from_numbers_of_their_own():
    first = world.rng_for(0, "val", 0, 64).uniform(size=4)
    second = world.rng_for(0, "val", 0, 64, 2).uniform(size=4)
    assert (first != second).all()
    with pytest.raises(ValueError, match="there is no mini world 3; use 1 or 2"):
        world_of(3)
    with pytest.raises(ValueError, match="there is no mini world 0"):
        MiniWorldConfig(world=0)
    for call in (courtyard.make_image, courtyard.make_clip):
        with pytest.raises(ValueError, match="split is 'test'"):
            call(0, "test", 0, 64)
        with pytest.raises(ValueError, match="image_size is 32"):
            call(0, "val", 0, 32)


# Geometry ----------------------------------------------------------------------------------------


def test_nearest_surface_wins_everywhere():
    """Each solid drawn alone: the full picture shows at every pixel the nearest of them."""
    for seed in range(4):
        scene = sample_scene(np.random.default_rng(seed), image_size=96)
        whole = render_scene(scene, NOISE)
        nearest = render_scene(replace(scene, solids=()), NOISE).depth_m
        nearest = np.where(nearest == 0, np.inf, nearest)
        owner = np.zeros(nearest.shape, np.uint8)
        for solid in scene.solids:
            depth_m = render_scene(replace(scene, solids=(solid,)), NOISE).depth_m
            depth_m = np.where(depth_m == 0, np.inf, depth_m)
            closer = depth_m < nearest
            owner[closer] = solid.track_id
            nearest[closer] = depth_m[closer]
        np.testing.assert_array_equal(whole.ids, owner)
        np.testing.assert_array_equal(whole.depth_m, np.where(np.isinf(nearest), 0, nearest))


def test_a_box_covers_what_its_eight_corners_span():
    """Projected with a matrix inverse and filled by OpenCV; faces, rims and tilt together."""
    checked = 0
    for seed in range(12):
        scene = sample_scene(np.random.default_rng(seed), image_size=192)
        camera = scene.camera
        to_camera = np.linalg.inv(np.array(camera.axes()).T)
        for solid in scene.solids[:2]:
            box = replace(solid, class_id=1 + SHAPES.index("box"), track_id=1, variant=2)
            stretch = math.exp(0.05 * 0.5)
            u, v, n = np.array(box.axes())
            corners = [
                np.array(box.centre)
                + 0.41 * box.size_m * (a * stretch * u + b / stretch * v)
                + 0.5 * k * box.thickness_m * n
                for a, b, k in itertools.product((-1, 1), repeat=3)
            ]
            x, y, z = to_camera @ (np.array(corners) - camera.position).T
            points = 96 + camera.focal_px * np.stack([x / z, y / z], axis=1)
            if z.min() < 0.3 or points.min() < 3 or points.max() > 189:
                continue
            frame = render_scene(replace(scene, solids=(box,)), NOISE)
            expected = np.zeros((192, 192), np.uint8)
            hull = cv2.convexHull(((points - 0.5) * 256).round().astype(np.int32))
            cv2.fillConvexPoly(expected, hull, 1, shift=8)
            around = np.ones((3, 3), np.uint8)
            assert (cv2.erode(expected, around) <= frame.ids).all()
            assert (frame.ids <= cv2.dilate(expected, around)).all()
            inside = frame.depth_m[frame.ids == 1]
            assert z.min() - 0.01 < inside.min() and inside.max() < z.max() + 0.01
            checked += 1
    assert checked >= 6


def test_the_camera_turns_as_it_says():
    camera = Camera(64, 64.0, (0.0, -2.0, 0.0), yaw_rad=0.4, pitch_rad=0.5, roll_rad=-0.7)
    axes = np.array(camera.axes())
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes[2][1] == pytest.approx(-math.sin(0.5))  # upwards: y points down
    level = replace(camera, yaw_rad=0.0, pitch_rad=0.0, roll_rad=0.0)
    np.testing.assert_allclose(level.axes(), np.eye(3))
    rolled = replace(level, roll_rad=0.3)
    assert rolled.axes()[0] == pytest.approx((math.cos(0.3), math.sin(0.3), 0))
    assert level.ray(32, 64) == pytest.approx((0, 0.5, 1))


def test_the_ground_is_where_the_camera_stands_above_it():
    scene = sample_scene(np.random.default_rng(3), image_size=64)
    camera = replace(scene.camera, pitch_rad=-math.pi / 2, roll_rad=0.0)
    frame = render_scene(replace(scene, camera=camera, solids=()), NOISE)
    np.testing.assert_allclose(frame.depth_m, -camera.position[1], rtol=1e-5)
    assert set(np.unique(frame.semantic)) <= {3, 4}  # ground and path


def test_every_outline_has_an_inside_and_an_edge_before_its_reach():
    for shape, variant in itertools.product((*SHAPES, "blob"), range(VARIANTS)):
        outline = outline_of(shape, variant)
        assert 0.08 < (outline.distance_GG < 0).mean() < 0.5
        angles = np.linspace(0, 2 * np.pi, 50, dtype=np.float32)
        assert (distance_at(outline, 1.2 * np.cos(angles), 1.2 * np.sin(angles)) > 0).all()
        far = np.array([9.0], np.float32)
        assert distance_at(outline, far, far)[0] > 8
    with pytest.raises(ValueError, match="no outline 'pear' 0"):
        outline_of("pear", 0)


def test_boxes_areas_and_semantics_follow_the_ids(frames):
    for frame in frames[:60]:
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
        np.testing.assert_array_equal(frame.depth_m == 0, frame.semantic == 1)  # sky


# What must not give the answer away --------------------------------------------------------------


def test_things_cover_an_eighth_of_all_pixels_and_all_labels_occur(frames):
    semantic = np.stack([f.semantic for f in frames])
    assert 0.12 <= (semantic > NUM_STUFF).mean() <= 0.4
    share = np.bincount(semantic.ravel(), minlength=NUM_CLASSES + 1) / semantic.size
    assert (share[1:] > 0.008).all() and share[0] < 0.05
    objects = [o for f in frames for o in f.objects if o.is_annotated]
    assert np.mean([o.visibility < 0.8 for o in objects]) > 0.08
    sides = np.array([max(o.box_xywh[2:]) for o in objects]) / 64
    assert np.median(sides) > 0.2 and np.percentile(sides, 5) < 0.17


def chi_square(rows, columns):
    """Pearson's statistic of a table of counts, and its degrees of freedom."""
    counts = np.zeros((max(rows) + 1, max(columns) + 1))
    np.add.at(counts, (rows, columns), 1)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    return ((counts - expected) ** 2 / expected).sum(), (counts.shape[0] - 1) * (
        counts.shape[1] - 1
    )


def test_pattern_colour_size_and_place_do_not_depend_on_the_class():
    scenes = [sample_scene(world.rng_for(0, "train", i, 64, 2), 64) for i in range(500)]
    solids = [(scene, s) for scene in scenes for s in scene.solids if s.class_id]
    classes = [s.class_id - 1 for _, s in solids]
    kinds = sorted({s.texture.kind for _, s in solids})
    halves = {
        "pattern": [kinds.index(s.texture.kind) for _, s in solids],
        "red": [int(3.999 * s.texture.colour_a[0]) for _, s in solids],
        "green": [int(3.999 * s.texture.colour_a[1]) for _, s in solids],
        "blue": [int(3.999 * s.texture.colour_b[2]) for _, s in solids],
        "size": [int((s.size_m - 0.6) / 0.126) for _, s in solids],
        "height": [int(min(3, -s.centre[1])) for _, s in solids],
        "distance": [int(min(3, math.dist(s.centre, c.camera.position) - 1)) for c, s in solids],
    }
    assert len(solids) > 2000
    for name, groups in halves.items():
        value, freedom = chi_square(classes, groups)
        # Wilson and Hilferty: the cube root is close to normal; 3.1 is one chance in a thousand.
        z = ((value / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
        assert z < 3.1, (name, value, freedom)


def test_shape_gives_the_class_away_but_colour_does_not(frames):
    colours, shapes, labels = [], [], []
    for frame in frames:
        for item in frame.objects:
            if item.area_px >= 60 and item.visibility > 0.9:
                mask = frame.ids == item.track_id
                colours.append(colours_of(frame.image[mask]))
                shapes.append(shape_of(mask))
                labels.append(item.class_id)
    colours, shapes, labels = np.array(colours), np.array(shapes), np.array(labels)
    chance = np.bincount(labels).max() / len(labels)
    by_colour = [f(colours, labels) for f in (nearest_neighbour_accuracy, class_mean_accuracy)]
    by_shape = nearest_neighbour_accuracy(shapes, labels)
    assert len(labels) > 350
    assert max(by_colour) < 1.6 * chance, (by_colour, chance)
    assert by_shape > 2.2 * chance, (by_shape, chance)


def test_position_alone_finds_nothing(frames, val_frames):
    """The most frequent training label at each pixel, and the mean depth there."""
    counts = np.zeros((64, 64, NUM_CLASSES + 1))
    for label in range(1, NUM_CLASSES + 1):
        counts[..., label] = sum(f.semantic == label for f in frames)
    guess = counts.argmax(-1)
    iou = []
    for label in range(1, NUM_CLASSES + 1):
        hit = sum(((guess == label) & (f.semantic == label)).sum() for f in val_frames)
        union = sum(
            (((guess == label) | (f.semantic == label)) & (f.semantic > 0)).sum()
            for f in val_frames
        )
        iou.append(hit / union)
    assert np.mean(iou[NUM_STUFF:]) <= 0.08 and np.mean(iou) <= 0.05

    depths = np.stack([f.depth_m for f in frames])
    seen = depths > 0
    mean_map = depths.sum(0) / seen.sum(0)

    def error(guess_HW):
        return np.mean(
            [
                math.sqrt((((guess_HW - f.depth_m) ** 2)[f.depth_m > 0]).mean())
                for f in val_frames
                if (f.depth_m > 0).any()
            ]
        )

    assert error(mean_map) > 0.93 * error(np.full((64, 64), depths[seen].mean()))


def test_clips_move_so_that_masks_do_not_stay():
    overlaps = []
    for index in range(4):
        clip = courtyard.make_clip(5, "clip_train", index, image_size=64, num_frames=16)
        ids = [{o.track_id for o in f.objects} for f in clip]
        assert ids[0] == set(range(1, len(ids[0]) + 1)) and len(ids[0]) >= 2
        assert set().union(*ids) == ids[0]
        assert all(o.is_annotated for o in clip[0].objects)
        classes = {(o.track_id, o.class_id) for f in clip for o in f.objects}
        assert len(classes) == len(ids[0])
        for before, after in itertools.pairwise(clip):
            assert np.mean(before.ids != after.ids) < 0.35
            assert np.abs(after.image.astype(int) - before.image).mean() > 1
        backdrops = [np.where(f.ids > 0, -1, f.depth_m) for f in (clip[0], clip[-1])]
        still = (backdrops[0] >= 0) & (backdrops[1] >= 0)
        assert np.mean(np.abs(backdrops[0] - backdrops[1])[still] > 0.02) > 0.3 or not still.any()
        for track in ids[0]:
            masks = [f.ids == track for f in clip]
            overlaps += [(masks[0] & m).sum() / (masks[0] | m).sum() for m in masks[1:-1]]
    assert np.mean(overlaps) < 0.25


# The files ---------------------------------------------------------------------------------------


def test_all_formats_agree(root):
    coco = json.loads((root / "coco/annotations/val.json").read_text())
    assert [c["name"] for c in coco["categories"]] == list(THING_NAMES)
    lines = (root / "nyu/nyu_test.txt").read_text().splitlines()
    assert len(coco["images"]) == len(lines) == CONFIG.val
    for index, info in enumerate(coco["images"]):
        name = f"ADE_val_{index + 1:08d}"
        semantic = cv2.imread(
            str(root / f"ade/annotations/validation/{name}.png"), cv2.IMREAD_UNCHANGED
        )
        assert semantic.max() <= NUM_CLASSES
        union = np.zeros_like(semantic)
        for item in coco["annotations"]:
            if item["image_id"] == info["id"]:
                mask = coco_mask.decode(item["segmentation"]).astype(bool)
                assert coco_mask.toBbox(item["segmentation"]).tolist() == item["bbox"]
                assert int(mask.sum()) == item["area"] >= MIN_VISIBLE_PX
                assert not union[mask].any()
                union[mask] = FIRST_THING + item["category_id"]
        np.testing.assert_array_equal(np.where(semantic > FIRST_THING, semantic, 0), union)
        rgb, depth, focal = lines[index].split()
        depth_m = cv2.imread(str(root / "nyu" / depth), cv2.IMREAD_UNCHANGED) / DEPTH_SCALE
        np.testing.assert_array_equal(depth_m == 0, semantic == 1)
        assert float(focal) == pytest.approx(
            courtyard.make_image(CONFIG.seed, "val", index, 96).focal_px, abs=1e-3
        )
        pictures = [
            root / f"ade/images/validation/{name}.jpg",
            root / "coco/images/val" / info["file_name"],
            root / "nyu" / rgb,
        ]
        assert len({p.read_bytes() for p in pictures}) == 1
    for split, mot in (("train", "train"), ("val", "test")):
        (name,) = (root / f"davis/ImageSets/2017/{split}.txt").read_text().split()
        rows = np.loadtxt(root / f"mot/{mot}/{name}/gt/gt.txt", delimiter=",", ndmin=2)
        for t in range(CONFIG.frames):
            with Image.open(root / f"davis/Annotations/480p/{name}/{t:05d}.png") as file:
                ids = np.array(file)
            now = rows[rows[:, 0] == t + 1]
            assert set(now[:, 1]) == set(np.unique(ids)) - {0}
            for _, track_id, x, y, w, h, active, _, visibility in now:
                ys, xs = np.nonzero(ids == track_id)
                assert (x, y, w, h) == (xs.min() + 1, ys.min() + 1, np.ptp(xs) + 1, np.ptp(ys) + 1)
                assert active == (len(xs) >= MIN_VISIBLE_PX) and 0 < visibility <= 1
    manifest = load_manifest(root)
    assert manifest["version"] == "2" and manifest["class_names"] == list(THING_NAMES)
    assert manifest["semantic_names"] == list(SEMANTIC_NAMES)
    assert find_damage(root) == []


def test_the_first_world_has_the_manifest_that_it_had():
    settings = MiniWorldConfig().settings
    assert list(settings) == ["version", "seed", "train", "val", "clips", "frames", "image_size"]
    assert settings["version"] == "1"


def test_one_folder_holds_one_world(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(REPO / "tools"))
    import prepare_data

    out = tmp_path / "mini2"
    numbers = {"train": 1, "val": 1, "clips": 2, "frames": 3, "image-size": 64}
    small = [word for name, n in numbers.items() for word in (f"--{name}", str(n))] + ["--out"]
    assert prepare_data.main(["mini2", *small, str(out)]) == 0
    assert load_manifest(out)["version"] == "2"
    write_contact_sheet(out, tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).std() > 30
    assert prepare_data.main(["mini", *small, str(out)]) == 2
    assert "version 2 instead of 1; pass --overwrite" in capsys.readouterr().err


# Captions ----------------------------------------------------------------------------------------


def test_captions_count_the_annotated_shapes(frames):
    words = vocabulary_of(WORLDS[2])
    assert len(set(words)) == len(words) and {"heart", "moons", "arrow"} <= set(words)
    lengths = []
    for frame in frames:
        caption = caption_of(frame, world=WORLDS[2])
        lengths.append(len(caption.split()))
        tokens = caption_tokens(caption, MAX_TOKENS, words)
        assert [words[t] for t in tokens if t] == caption.split()
        assert mirrored_caption(mirrored_caption(caption)) == caption
        listed = caption_of(frame, colours=False, backdrop=False, world=WORLDS[2])
        names = [phrase.split()[0] for phrase in listed.partition(" : ")[2].split(" , ") if phrase]
        true = [THING_NAMES[o.class_id - 1] for o in frame.objects if o.is_annotated]
        assert sorted(names) == sorted(true)
    assert max(lengths) <= MAX_TOKENS
    seen = " ".join(caption_of(frame, world=WORLDS[2]) for frame in frames).split()
    assert min(seen.count(word) for word in ("near", "far", "left", "right")) > 80
