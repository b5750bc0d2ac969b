"""The check of a depth config before anything is trained or scored, and the configs themselves."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from depth_folders import write_kitti, write_nyu, write_png
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import DataLoader

import pe_dense.depth  # noqa: F401
from pe_dense.data.checks.rules import require_known, require_sound
from pe_dense.depth.depth_check import check_config
from pe_dense.run.command_line import sentence
from pe_dense.run.config import load_config

REPO = Path(__file__).resolve().parents[2]
MINI = REPO / "configs" / "depth" / "linear_pe_t16_mini.py"


def config_of(root, kind="NYUDepthDataset", train=("sync", "sync"), test=None, **settings):
    """What `check_config` reads of a config."""
    loaders = {}
    for split, (images, depth) in (("train", train), ("test", test or train)):
        dataset = dict(
            type=kind,
            data_root=str(root),
            ann_file=f"nyu_{split}.txt",
            data_prefix=dict(img_path=images, depth_map_path=depth),
            pipeline=[dict(type="LoadImage")],
            **settings,
        )
        loaders[split] = dict(dataset=dataset)
    evaluator = dict(type="DepthErrors", min_depth=1e-3, max_depth=10.0, crop=None)
    return ConfigDict(
        max_depth=10.0,
        model=dict(decode_head=dict(max_depth=10.0)),
        train_dataloader=loaders["train"],
        val_dataloader=loaders["test"],
        test_dataloader=loaders["test"],
        val_evaluator=evaluator,
        test_evaluator=copy.deepcopy(evaluator),
    )


@pytest.fixture
def nyu(tmp_path):
    return write_nyu(tmp_path)


TEST = ("official_splits/test", "official_splits/test")
DEPTH = "official_splits/test/study/sync_depth_00001.png"


PUBLISHED = ("published-total", "images-of-another-size")  # of which the folders are no copies


def sound(cfg, splits, accept=PUBLISHED):
    """As training does."""
    checked = check_config(cfg, splits)
    require_known(accept, checked.rules)
    require_sound(checked.findings, accept)
    return checked


def check(root, *splits, accept=PUBLISHED, **settings):
    return sound(config_of(root, test=TEST, **settings), splits or ("train", "val"), accept)


def test_a_good_folder_passes(nyu):
    check(nyu)
    check(nyu, "test")


def test_missing_files_are_counted_and_named(nyu):
    (nyu / DEPTH).unlink()
    with pytest.raises(ValueError, match=r"study/sync_depth_00001.png: does not exist; "):
        check(nyu)
    check(nyu, "train")
    for i in range(2):
        (nyu / f"sync/kitchen_0001/rgb_{i:05d}.jpg").unlink()
    with pytest.raises(ValueError, match=r"rgb_00000.jpg: does not exist \(and 1 more of this"):
        check(nyu, "train")
    (nyu / "nyu_train.txt").unlink()
    with pytest.raises(ValueError, match=r"nyu_train.txt .*cannot be read"):
        check(nyu, "train")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((24, 32), 100, np.uint8), "uint8 and not uint16"),
        (np.zeros((24, 32), np.uint16), "0 everywhere"),
        (np.full((32, 24), 2000, np.uint16), "32x24 px but its image is 24x32"),
    ],
)
def test_a_bad_depth_map_is_named(nyu, values, words):
    """Depth of 8 bits, among others. Source: LightwheelOcc issue 1."""
    write_png(nyu / DEPTH, values)
    with pytest.raises(ValueError, match=f"sync_depth_00001.png.*{words}"):
        check(nyu)


def test_a_broken_image_is_named(nyu):
    (nyu / "sync/study_0002/rgb_00001.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"study_0002/rgb_00001.jpg: is no picture"):
        check(nyu)


@pytest.mark.parametrize(
    ("scale", "words"), [(10, "above .* too small"), (1e6, "below .* too large")]
)
def test_scales_that_cannot_be(nyu, scale, words):
    with pytest.raises(ValueError, match=f"100 % of its depths {words}"):
        check(nyu, depth_scale=scale)


def test_a_scale_that_is_no_number_of_steps(nyu):
    with pytest.raises(ValueError, match="depth scale is 0; pass steps per metre"):
        check(nyu, depth_scale=0)


def test_sun_rgbd_files_read_as_plain_millimetres(nyu):
    """Depth of about 2 m with rotated bits is about 16 m without undoing that."""
    for file in nyu.rglob("sync_depth_*.png"):
        steps = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), (steps << 3) | (steps >> 13))
    cfg = config_of(nyu, test=TEST, bit_rotation=0)
    cfg.max_depth = cfg.model.decode_head.max_depth = 5.0
    with pytest.raises(ValueError, match="correct depth_scale .* bit_rotation"):
        sound(cfg, ["train"])
    check(nyu, bit_rotation=3)


def test_nothing_to_score(nyu):
    cfg = config_of(nyu, test=TEST)
    cfg.val_evaluator.crop = "nyu_eigen"  # begins at row 45, the images end at 24
    with pytest.raises(ValueError, match="nyu_test.txt: has no annotated pixel .*'nyu_eigen'"):
        sound(cfg, ["val"])
    cfg.val_evaluator.crop = "nyu"
    with pytest.raises(ValueError, match="crop 'nyu' is not known"):
        check_config(cfg, ["val"])


def test_an_image_that_is_trained_on_and_scored(nyu):
    (nyu / "nyu_test.txt").write_text((nyu / "nyu_train.txt").read_text())
    cfg = config_of(nyu)
    for splits in (["train", "val"], ["test"]):  # scoring alone sees it as well
        with pytest.raises(ValueError, match=r"rgb_00000.jpg: is trained on \(and 3 more"):
            sound(cfg, splits)
    sound(cfg, ["train", "val"], (*PUBLISHED, "val-is-train"))


def test_a_published_set_has_its_number_of_images(nyu):
    with pytest.raises(ValueError, match="nyu_test.txt: has 4 pairs, but NYUv2 has 654"):
        check(nyu, "val", accept=())
    notes = [f.rule.name for f in check(nyu, "train").findings if not f.is_problem]
    assert notes == ["other-total"]  # papers train on other shares


def test_the_table_shows_range_and_shares(nyu):
    write_png(nyu / DEPTH, np.full((24, 32), 4000, np.uint16))
    table = [line.split() for line in check(nyu).table.splitlines()]
    files = sorted((nyu / "official_splits").rglob("*.png"))
    slow = np.stack([cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files])
    share = f"{100 * (slow > 0).mean():.2f}"
    assert ["pixels", "known", "95.83", "%", share, "%"] in table
    low, high = np.quantile(slow[slow > 0] / 1000, (0.01, 0.99), method="inverted_cdf")
    (depth,) = (row for row in table if row[:2] == ["depth,", "1"])
    assert depth[-4:] == [f"{low:.2f}", "to", f"{high:.2f}", "m"]


def test_65535_that_stands_for_unknown(nyu):
    """Depth cameras write the largest number where they see nothing.

    Source: tsdf-fusion-python issue 34 (7-Scenes); 2D-3D-Semantics issue 8.
    """
    steps = np.full((24, 32), 2000, np.uint16)
    steps[:8] = 65535
    write_png(nyu / DEPTH, steps)
    with pytest.raises(ValueError, match=r"has 65535 \(65.5 m\) in 8.6 % .* write 0 there"):
        check(nyu)
    check(nyu, accept=(*PUBLISHED, "depth-65535"))


def test_head_and_data_must_agree_on_the_largest_depth(nyu):
    cfg = config_of(nyu, test=TEST)
    cfg.model.decode_head.max_depth = 80.0
    with pytest.raises(ValueError, match="max_depth is 80"):
        check_config(cfg, ["train"])


def test_another_data_set_is_refused(nyu):
    cfg = config_of(nyu, kind="BaseSegDataset")
    with pytest.raises(ValueError, match="'BaseSegDataset' is no DepthDataset"):
        check_config(cfg, ["train"])


def test_kitti_is_checked_behind_its_crop(tmp_path):
    def cfg(root):
        dataset = dict(
            type="KITTIEigenDataset",
            data_root=str(root),
            ann_file="kitti_eigen_test.txt",
            data_prefix=dict(img_path="raw", depth_map_path="data_depth_annotated"),
            pipeline=[dict(type="Compose", transforms=[dict(type="KBCrop")])],
        )
        return ConfigDict(
            max_depth=80.0,
            val_dataloader=dict(dataset=dataset),
            val_evaluator=dict(type="DepthErrors", max_depth=80.0, crop="garg"),
        )

    sound(cfg(write_kitti(tmp_path / "large", (375, 1242))), ["val"])
    with pytest.raises(ValueError, match=r"0000000000.png: is 24x32 px \(the KB crop"):
        sound(cfg(write_kitti(tmp_path / "small")), ["val"])


def test_a_loading_worker_says_the_same_sentence(nyu):
    """A map that changed after the check, met by another process."""
    cfg = config_of(nyu, test=TEST)
    check(nyu, "val")
    write_png(nyu / DEPTH, np.full((32, 24), 2000, np.uint16))
    with pytest.raises(ValueError, match="32x24 px but its image is 24x32") as checked:
        check(nyu, "val")
    settings = cfg.val_dataloader.dataset
    settings.pipeline = [dict(type="LoadImage"), dict(type="LoadDepth")]
    init_default_scope("mmseg")
    loader = DataLoader(DATASETS.build(settings), batch_size=4, num_workers=1)
    with pytest.raises(ValueError, match="32x24") as loaded:
        next(iter(loader))
    assert sentence(loaded.value) == str(checked.value)


# The config of the mini world


@pytest.fixture
def mini_cfg(mini_root):
    init_default_scope("mmseg")
    options = dict(data_root=str(mini_root / "nyu"), crop_size=(112, 96))
    return load_config(MINI, options=options)[0]


def test_the_mini_config_fits_its_data(mini_cfg):
    assert mini_cfg.protocol == dict(
        id="mini-depth", version=1, task="depth", dataset="mini", split="val", metric="rmse",
        higher_is_better=False,
    )  # fmt: skip
    assert sound(mini_cfg, ["train", "val", "test"], ()).findings == []


def test_the_pipelines_of_the_mini_config_run(mini_cfg):
    for split, shape in (("train", (112, 96)), ("val", (128, 128))):
        data = DATASETS.build(mini_cfg[f"{split}_dataloader"]["dataset"])
        batch = pseudo_collate([data[0], data[1]])
        for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            assert image.shape == (3, *shape)
            assert sample.gt_depth_map.data.shape == (1, *shape)
            assert sample.sequence == sample.image_id
        depth = batch["data_samples"][0].gt_depth_map.data
        assert 0.5 < depth[depth > 0].median() < mini_cfg.max_depth


def probing_config(root, name: str, train: str, test: str):
    """A config of probes on the folders of a test: held-out images, and a list that is reported."""
    cfg, _ = load_config(REPO / "configs" / "depth" / name, options={"data_root": str(root)})
    cfg.train_dataloader.dataset.dataset.ann_file = train
    held, reported = cfg.test_dataloader.dataset.datasets
    held.dataset.ann_file, reported.ann_file = train, test
    cfg.train_dataloader.dataset.share = held.share = 0.5  # one of two scenes
    return cfg


@pytest.mark.parametrize("splits", [("train", "val"), ("test",)], ids=["train.py", "test.py"])
def test_probes_are_not_scored_on_what_they_are_trained_on(nyu, splits):
    """Training has no loader of what is reported, and scoring none of what is trained on."""
    cfg = probing_config(nyu, "nyu_linear_v1.py", "nyu_train.txt", "nyu_test.txt")
    sound(cfg, splits)
    same = probing_config(nyu, "nyu_linear_v1.py", "nyu_train.txt", "nyu_train.txt")
    with pytest.raises(ValueError, match=r"rgb_00000.jpg: is trained on \(and 3 more"):
        sound(same, splits)
    original = nyu / "sync/kitchen_0001/rgb_00001.jpg"
    copy_of_it = nyu / "official_splits/test/study/rgb_00001.jpg"
    copy_of_it.write_bytes(original.read_bytes())
    with pytest.raises(ValueError, match=r"study/rgb_00001.jpg: is trained on as .*kitchen_0001"):
        sound(cfg, splits)
    (nyu / "nyu_test.txt").unlink()  # a machine that only trains has no need of it
    if "train" in splits:
        sound(cfg, splits)


def test_parts_that_are_split_otherwise_are_refused(nyu):
    cfg = probing_config(nyu, "nyu_linear_v1.py", "nyu_train.txt", "nyu_test.txt")
    cfg.test_dataloader.dataset.datasets[0].share = 0.2
    with pytest.raises(ValueError, match="share=0.5 and another with 0.2, so images can be in"):
        check_config(cfg, ["train"])


def test_probes_hold_out_whole_rooms_and_drives(tmp_path):
    """What the loaders read: no room, in whatever recording, on both sides."""
    rooms = [f"kitchen_{i:04d}{letter}" for i in range(10) for letter in "abc"]
    cfg, _ = load_config(
        REPO / "configs" / "depth" / "nyu_linear_v1.py",
        options={"data_root": str(write_nyu(tmp_path, rooms))},
    )
    parts = [cfg.train_dataloader.dataset, cfg.test_dataloader.dataset.datasets[0]]
    for part in parts:
        part.dataset.pipeline = []
    trained, held = ([p["image_id"][:12] for p in infos(DATASETS.build(part))] for part in parts)
    assert (len(trained), len(held)) == (54, 6)  # one room, three recordings of two frames
    assert len(set(held)) == 1 and not set(held) & set(trained)


def infos(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


@pytest.mark.parametrize("splits", [("train", "val"), ("test",)], ids=["train.py", "test.py"])
def test_a_holdout_that_misses_its_share_is_refused_first(nyu, splits):
    cfg = probing_config(nyu, "nyu_linear_v1.py", "nyu_train.txt", "nyu_test.txt")
    for part in (cfg.train_dataloader.dataset, cfg.test_dataloader.dataset.datasets[0]):
        part.share = 0.1
    with pytest.raises(ValueError, match=r"comes to 0.00% .* such as 0\.5"):
        check_config(cfg, splits)
