"""The teacher cache: several writers, kills, other teachers and images, augmented views."""

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pe_dense.alignment.frozen_teacher import FrozenTeacher
from pe_dense.alignment.instance_mask_teacher import InstanceMaskTeacher
from pe_dense.alignment.teacher_cache import (
    CacheSpec,
    TeacherCache,
    fill_teacher_cache,
    view_of_tokens,
    whole_image,
)
from pe_dense.data.unlabelled_images import UnlabelledImages

GRID, SIZE, NUM_IMAGES = (4, 4), (16, 16), 12


class MeanTeacher(FrozenTeacher):
    """Mean colours of the cells, times a number; slow if asked."""

    def __init__(self, factor=1.0, seconds=0.0):
        super().__init__(None, 3, settings=dict(factor=factor), resampling="area")
        self.factor, self.seconds = factor, seconds

    def maps(self, images_B3HW, grid_hw, data_samples):
        time.sleep(self.seconds)
        return images_B3HW * self.factor


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(NUM_IMAGES):
        image = generator.integers(0, 256, (16 + index, 20, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{index:02d}.png"), image)
    return tmp_path / "images"


def images_of(folder, **options):
    return UnlabelledImages(folder, hash_images=True, **options)


def open_cache(path, folder, teacher=None, grid=GRID):
    teacher = teacher or MeanTeacher()
    return TeacherCache(path, CacheSpec.of(teacher, grid, SIZE, images_of(folder).image_set_sha256))


def expected_tokens(path, factor=1.0):
    """OpenCV, NumPy and nothing of the cache."""
    rgb = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
    image = torch.nn.functional.interpolate(
        torch.tensor(rgb.copy()).permute(2, 0, 1)[None], SIZE, mode="bilinear", antialias=True
    )[0]
    cells = image.numpy().reshape(3, 4, 4, 4, 4).mean((2, 4))  # 4 x 4 pixels a cell
    return factor * cells.reshape(3, 16).T


def assert_complete(cache, folder):
    for path in sorted(folder.glob("*.png")):
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        tokens = cache.read(sha256)
        assert tokens.dtype == torch.float16
        np.testing.assert_allclose(tokens.float().numpy(), expected_tokens(path), atol=1e-3)


def test_fill_announces_first_then_stores_every_image(tmp_path, folder):
    events = []
    cache = open_cache(tmp_path / "cache", folder)
    report = fill_teacher_cache(
        cache,
        MeanTeacher(),
        images_of(folder),
        batch_size=5,
        announce=events.append,
        on_progress=lambda done, todo: events.append((done, todo)),
    )
    assert (report.num_written, report.num_found, report.num_unreadable) == (12, 0, 0)
    assert_complete(cache, folder)
    assert "12 images x 16 tokens x 3 channels" in events[0] and "are free" in events[0]
    assert events[-1] == (12, 12)
    written = sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*.npy"))
    assert written == 12 * (128 + 16 * 3 * 2) <= cache.bytes_on_disk(12)


def test_second_fill_and_equal_images_do_nothing(tmp_path, folder):
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    cache = open_cache(tmp_path / "cache", folder)
    first = fill_teacher_cache(cache, MeanTeacher(), images_of(folder), batch_size=4)
    assert (first.num_written, first.num_found) == (12, 1)
    again = open_cache(tmp_path / "cache", folder)
    second = fill_teacher_cache(again, MeanTeacher(), images_of(folder))
    assert (second.num_written, second.num_found) == (0, 13)


def test_parts_make_the_whole(tmp_path, folder):
    cache = open_cache(tmp_path / "cache", folder)
    reports = [
        fill_teacher_cache(cache, MeanTeacher(), images_of(folder), part=(i, 3)) for i in range(3)
    ]
    assert [r.num_written for r in reports] == [4, 4, 4]
    assert_complete(cache, folder)


def write_slowly(path, folder, seconds):
    cache = open_cache(path, folder)
    fill_teacher_cache(cache, MeanTeacher(seconds=seconds), images_of(folder))


def npy_files(path):
    return [f for f in Path(path).rglob("*.npy") if not f.name.startswith(".")]


def test_two_writers_and_a_kill_in_between(tmp_path, folder):
    path = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_slowly, args=(path, folder, 0.3)) for _ in range(2)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 90
    while len(npy_files(path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(writers[0].pid, signal.SIGKILL)
    for writer in writers:
        writer.join(90)
    assert [writers[0].exitcode, writers[1].exitcode] == [-signal.SIGKILL, 0]
    assert_complete(open_cache(path, folder), folder)
    assert len(npy_files(path)) == NUM_IMAGES


def test_resume_after_a_kill_keeps_what_is_there(tmp_path, folder):
    path = tmp_path / "cache"
    writer = multiprocessing.get_context("spawn").Process(
        target=write_slowly, args=(path, folder, 0.3)
    )
    writer.start()
    deadline = time.monotonic() + 90
    while len(npy_files(path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(90)
    before = len(npy_files(path))
    assert 3 <= before < NUM_IMAGES
    report = fill_teacher_cache(open_cache(path, folder), MeanTeacher(), images_of(folder))
    assert (report.num_found, report.num_written) == (before, NUM_IMAGES - before)
    assert_complete(open_cache(path, folder), folder)


def test_cut_off_file_is_damage_to_a_reader_and_work_to_a_writer(tmp_path, folder):
    cache = open_cache(tmp_path / "cache", folder)
    fill_teacher_cache(cache, MeanTeacher(), images_of(folder))
    sha256 = hashlib.sha256((folder / "03.png").read_bytes()).hexdigest()
    file = cache.path_of(sha256)
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(ValueError, match="is damaged"):
        cache.read(sha256)
    assert fill_teacher_cache(cache, MeanTeacher(), images_of(folder)).num_written == 1
    assert_complete(cache, folder)


def test_unreadable_image_is_skipped_counted_and_listed(tmp_path, folder):
    (folder / "05.png").write_bytes(b"no picture")
    listed = tmp_path / "unreadable.txt"
    cache = open_cache(tmp_path / "cache", folder)
    images = images_of(folder, unreadable_list=listed)
    report = fill_teacher_cache(cache, MeanTeacher(), images, batch_size=4)
    assert (report.num_written, report.num_unreadable) == (11, 1)
    assert listed.read_text().startswith(str(folder / "05.png"))


def test_cache_of_another_teacher_grid_or_image_set_is_refused(tmp_path, folder):
    path = tmp_path / "cache"
    cache = open_cache(path, folder)
    with pytest.raises(ValueError, match=r"another teacher \(factor 1\.0, not 2\.0\)"):
        open_cache(path, folder, MeanTeacher(2.0))
    with pytest.raises(ValueError, match="another teacher"):
        fill_teacher_cache(cache, MeanTeacher(2.0), images_of(folder))
    with pytest.raises(ValueError, match=r"another grid_hw \(\[4, 4\], not \[2, 2\]\)"):
        open_cache(path, folder, grid=(2, 2))
    manifest = path / "manifest.json"
    spec = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(spec | {"code": "0" * 64}))
    with pytest.raises(ValueError, match=r"another code \(0000"):
        open_cache(path, folder)
    with pytest.raises(ValueError, match="another code"):  # nothing is added to it either
        fill_teacher_cache(cache, MeanTeacher(), images_of(folder))
    manifest.write_text(json.dumps(spec))
    (folder / "new.png").write_bytes((folder / "00.png").read_bytes())
    with pytest.raises(ValueError, match="another image set") as caught:
        open_cache(path, folder)
    assert "\n" not in str(caught.value) and "name another folder" in str(caught.value)


def test_image_without_tokens_and_bad_tokens(tmp_path, folder):
    cache = open_cache(tmp_path / "cache", folder)
    with pytest.raises(ValueError, match=r"has no tokens of 00\.png"):
        cache.read_batch(["0" * 64], ["00.png"])
    with pytest.raises(ValueError, match="do not fit a teacher cache"):
        cache.write("0" * 64, torch.zeros(9, 3))
    with pytest.raises(ValueError, match="float16 cannot hold"):
        cache.write("0" * 64, torch.full((16, 3), 1e5))


def test_folders_that_are_no_cache(tmp_path, folder):
    with pytest.raises(ValueError, match="holds other things"):
        open_cache(folder, folder)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="is no manifest of a teacher cache"):
        open_cache(tmp_path / "odd", folder)


def test_bad_arguments_of_filling(tmp_path, folder):
    cache = open_cache(tmp_path / "cache", folder)
    with pytest.raises(ValueError, match="out of range"):
        fill_teacher_cache(cache, MeanTeacher(), images_of(folder), part=(3, 3))
    with pytest.raises(ValueError, match="use it without a cache"):
        CacheSpec.of(InstanceMaskTeacher(), GRID, SIZE, "")


def test_full_disk_is_refused_before_work(tmp_path, folder, monkeypatch):
    from pe_dense.alignment import teacher_cache

    cache = open_cache(tmp_path / "cache", folder)
    usage = type("Usage", (), dict(free=12 * 4096 - 1))
    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"needs 48\.00 KiB more, but 48\.00 KiB are free"):
        fill_teacher_cache(cache, MeanTeacher(), images_of(folder))
    assert not npy_files(tmp_path / "cache")


def test_view_of_tokens_is_a_crop_and_a_mirror():
    tokens = torch.arange(32.0).view(1, 16, 2)  # (B, N, C) on a grid of 4 x 4
    grid = tokens.view(4, 4, 2)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    no, yes = torch.tensor([False]), torch.tensor([True])
    same = view_of_tokens(tokens, (4, 4), whole, no, (4, 4))
    torch.testing.assert_close(same, tokens)
    mirrored = view_of_tokens(tokens, (4, 4), whole, yes, (4, 4))
    torch.testing.assert_close(mirrored.view(4, 4, 2), grid.flip(1))
    lower_right = torch.tensor([[0.5, 0.25, 1.0, 0.75]])
    crop = view_of_tokens(tokens.half(), (4, 4), lower_right, yes, (2, 2))
    torch.testing.assert_close(crop.view(2, 2, 2), grid[2:4, 1:3].flip(1))
    with pytest.raises(ValueError, match="no grid"):
        view_of_tokens(tokens, (3, 3), whole, no, (2, 2))


def test_whole_image_is_rgb_in_0_to_1():
    blue = np.zeros((5, 7, 3), np.uint8)
    blue[..., 0] = 255
    image = whole_image(blue, (4, 4))
    assert image.shape == (3, 4, 4)
    assert image.amax((1, 2)).tolist() == [0.0, 0.0, 1.0]
