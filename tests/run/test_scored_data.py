"""What configs score, as hashes: every kind of data set here, and the table of known splits."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from pe_dense.data.checks.known_sets import KNOWN_CONTENT, known_content
from pe_dense.results.store import load_records
from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import current_protocols
from pe_dense.run.scored_data import content_of_config, note_on_published, require_same_data

# config -> folder of its data, how many items count, and one of their names.
KINDS = {
    "configs/detection/atss_pe_t16_mini.py": ("coco", 6, "000000100001.jpg"),
    "configs/segmentation/linear_pe_t16_mini.py": ("ade", 6, "ADE_val_00000001.jpg"),
    "configs/probing/segmentation_pe_t16_mini.py": ("ade", 6, "ADE_val_00000001.jpg"),
    "configs/depth/linear_pe_t16_mini.py": ("nyu", 6, "test/rgb_00000.jpg"),
    "configs/probing/depth_pe_t16_mini.py": ("nyu", 6, "test/rgb_00000.jpg"),
    "configs/tracking/mini_v1.py": ("davis", 1, "val_000"),
    "configs/tracking/bytetrack_pe_t16_mini.py": ("mot/test", 1, "val_000"),
}


def content(config, root):
    return content_of_config(load_config(config, options={"data_root": str(root)})[0])


@pytest.mark.parametrize("config", KINDS)
def test_every_kind_of_data_tells_what_is_scored(config, mini_root, tmp_path):
    folder, count, name = KINDS[config]
    here = content(config, mini_root / folder)
    assert len(here.items) == count and name in here.items
    assert (here.labels is not None) is (folder == "coco")
    copy = shutil.copytree(mini_root / folder, tmp_path / "elsewhere")
    assert content(config, copy).sha256 == here.sha256  # the place does not count


@pytest.mark.parametrize(
    ("config", "pattern"),
    [
        ("configs/detection/atss_pe_t16_mini.py", "images/val/*.jpg"),
        ("configs/detection/atss_pe_t16_mini.py", "annotations/*val*.json"),
        ("configs/segmentation/linear_pe_t16_mini.py", "images/validation/*.jpg"),
        ("configs/segmentation/linear_pe_t16_mini.py", "annotations/validation/*.png"),
        ("configs/depth/linear_pe_t16_mini.py", "test/*.jpg"),
        ("configs/depth/linear_pe_t16_mini.py", "test/*.png"),
        ("configs/tracking/mini_v1.py", "JPEGImages/480p/val_000/*.jpg"),
        ("configs/tracking/mini_v1.py", "Annotations/480p/val_000/*.png"),
        ("configs/tracking/bytetrack_pe_t16_mini.py", "val_000/img1/*.jpg"),
        ("configs/tracking/bytetrack_pe_t16_mini.py", "val_000/gt/gt.txt"),
    ],
)
def test_one_byte_of_a_picture_or_a_label_shows(config, pattern, mini_root, tmp_path):
    copy = shutil.copytree(mini_root / KINDS[config][0], tmp_path / "copy")
    before = content(config, copy)
    file = min(copy.glob(pattern))
    file.write_bytes(file.read_bytes() + b" ")
    after = content(config, copy)
    assert after.sha256 != before.sha256
    assert before.difference(after)


def test_training_images_do_not_count(mini_root, tmp_path):
    config = "configs/probing/segmentation_pe_t16_mini.py"
    copy = shutil.copytree(mini_root / "ade", tmp_path / "copy")
    before = content(config, copy)
    for file in (copy / "images" / "training").iterdir():
        file.write_bytes(file.read_bytes() + b" ")
    assert content(config, copy).sha256 == before.sha256


def test_every_published_protocol_has_its_place_in_the_table():
    scored = set()
    for row in current_protocols(Path("configs")).values():
        template = load_template(row["config"])
        data = template.protocol
        if data.task != "alignment" and not str(data.dataset).startswith("$"):
            scored.add((data.task, data.dataset, data.split))
    assert scored == set(KNOWN_CONTENT)


def test_bccd_is_the_known_one(bccd_root):
    found = content("configs/detection/dino_pe_t16_bccd.py", bccd_root)
    assert found.sha256 == known_content("detection", "bccd", "val")
    assert note_on_published("detection", "bccd", "val", found) is None


def test_the_mini_world_is_the_known_one(tmp_path):
    import cv2
    import PIL

    from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world

    if (cv2.__version__, PIL.__version__) != ("4.11.0", "13.0.0"):
        pytest.skip("other encoders of pictures than the table was made with")
    build_mini_world(tmp_path, MiniWorldConfig(train=1))  # pictures do not depend on their number
    for config, (folder, _, _) in KINDS.items():
        data = load_template(config).protocol
        if "probing" not in config:
            found = content(config, tmp_path / folder).sha256
            assert found == known_content(data.task, data.dataset, data.split), config


def test_other_files_of_a_known_split_are_noted(mini_root):
    found = content("configs/detection/atss_pe_t16_mini.py", mini_root / "coco")
    note = note_on_published("detection", "mini", "val", found)
    assert "not those of mini val as published (b03527876642" in note
    assert note_on_published("detection", "coco", "val", found) is None  # nothing is known
    assert note_on_published("detection", "mini", "val", None) is None


def test_a_record_of_other_files_is_no_result_of_this_run(mini_root):
    found = content("configs/detection/atss_pe_t16_mini.py", mini_root / "coco")
    record = next(r for r in load_records("benchmarks/records") if r.task == "detection")

    def of(sha256):
        dataset = dataclasses.replace(record.dataset, sha256=sha256)
        return dataclasses.replace(record, dataset=dataset)

    require_same_data(of(found.sha256), found)
    require_same_data(of(None), found)
    require_same_data(of("b" * 64), None)
    with pytest.raises(ValueError, match=r"detection.*json was scored on other files of "):
        require_same_data(of("b" * 64), found)
