"""Tokens from a cache in the place of a teacher, and the tool that fills the cache."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS
from safetensors.torch import save_file

from pe_dense.alignment.cached_teacher import CachedTeacher, fill_caches
from pe_dense.alignment.frozen_teacher import FrozenTeacher
from pe_dense.data.photo_jitter import AspectJitterResize, PackImages
from pe_dense.data.unlabelled_images import UnlabelledImages
from pe_dense.encoders.build import build_encoder
from pe_dense.run.checkpoint import load_checkpoint_safely

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "configs/alignment/spatial_align_t16_mini.py"
WHOLE_VIEW = AspectJitterResize(64, ratio=(1.0, 1.0))  # of square images
TOWER = dict(embed_dim=32, depth=2, num_heads=2, mlp_hidden=64)


@MODELS.register_module()
class CellColours(FrozenTeacher):
    """Mean colours of the cells of the grid, times a number."""

    def __init__(self, factor=1.0):
        super().__init__(None, 3, settings=dict(factor=factor), resampling="area")
        self.factor = factor

    def maps(self, images_B3HW, grid_hw, data_samples):
        return images_B3HW * self.factor


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(6):
        image = generator.integers(0, 256, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image)
    return tmp_path / "images"


def cached(tmp_path, **changes):
    config = dict(
        name="colours",
        type="CachedTeacher",
        folder=str(tmp_path / "cache"),
        teacher=dict(type="CellColours", factor=2.0),
        grid_hw=(8, 8),
        image_hw=(64, 64),
    )
    return {**config, **changes}


def filled(tmp_path, folder, **changes):
    dataset = dict(type="UnlabelledImages", data_root=str(folder), hash_images=True)
    teachers = [cached(tmp_path, **changes)]
    fill_caches({"model": {"teachers": teachers}, "train_dataloader": {"dataset": dataset}})
    return {key: value for key, value in teachers[0].items() if key not in ("name", "type")}


def view(folder, index, rows, columns, flip):
    """A sample cut by hand, (1, 3, h, w) in 0..1 and its data sample."""
    images = UnlabelledImages(folder, hash_images=True)
    sample = images.load_sample(index)
    part = sample["img"][slice(*rows), slice(*columns)]
    shares = tuple(v / 64 for v in (rows[0], columns[0], rows[1], columns[1]))
    if flip:
        part = part[:, ::-1]
    packed = PackImages()(dict(sample, img=part, view_yxyx=shares, flip=flip))
    return packed["inputs"].flip(0)[None].float() / 255, [packed["data_samples"]]


@pytest.mark.parametrize("flip", [False, True])
def test_a_view_along_the_cells_is_what_the_teacher_says_of_it(tmp_path, folder, flip):
    teacher = CachedTeacher(**filled(tmp_path, folder))
    images, samples = view(folder, 2, (16, 48), (0, 32), flip)
    expected = CellColours(2.0)(images, (4, 4))
    # Colours of cells do not depend on what lies around them, so that the cut is exact.
    torch.testing.assert_close(teacher(images, (4, 4), samples), expected, atol=2e-3, rtol=0)
    facts = teacher.facts()
    assert facts["type"] == "CellColours" and facts["factor"] == 2.0
    assert facts["cache"] == {"grid_hw": [8, 8], "image_hw": [64, 64]}
    assert teacher.sha256 == CellColours(2.0).sha256


def test_batches_of_the_loader(tmp_path, folder):
    teacher = CachedTeacher(**filled(tmp_path, folder))
    images = UnlabelledImages(folder, [WHOLE_VIEW, PackImages()], hash_images=True)
    batch = pseudo_collate([images[i] for i in range(6)])
    inputs = torch.stack(batch["inputs"]).flip(1).float() / 255
    tokens = teacher(inputs, (8, 8), batch["data_samples"])
    torch.testing.assert_close(tokens, CellColours(2.0)(inputs, (8, 8)), atol=2e-3, rtol=0)


def test_what_does_not_belong_together_is_refused(tmp_path, folder):
    settings = filled(tmp_path, folder)
    for change, words in (
        (dict(teacher=dict(type="CellColours", factor=1.0)), "factor=2.0, and the config has 1.0"),
        (dict(teacher=dict(type="SamTeacher")), "type=CellColours, and the config has SamTeacher"),
        (dict(grid_hw=(4, 4)), r"grid_hw=\(8, 8\), and the config has \(4, 4\)"),
        (dict(folder=str(tmp_path / "none")), "none is not there; fill it"),
    ):
        with pytest.raises(ValueError, match=words):
            CachedTeacher(**{**settings, **change})
    manifest = tmp_path / "cache/manifest.json"
    spec = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(spec | {"code": "0" * 64}))
    with pytest.raises(ValueError, match="was made by other code of CellColours than is here now"):
        CachedTeacher(**settings)
    manifest.write_text(json.dumps(spec))
    teacher = CachedTeacher(**settings)
    teacher.check_image_set(UnlabelledImages(folder).image_set_sha256)
    with pytest.raises(ValueError, match="belongs to another image set"):
        teacher.check_image_set("0" * 64)
    images, samples = view(folder, 0, (0, 64), (0, 64), False)
    for given in (None, [samples[0].new(metainfo=dict(img_path="a"))]):
        with pytest.raises(ValueError, match=r"set train_dataloader\.dataset\.hash_images=True"):
            teacher(images, (8, 8), given)
    samples[0].set_metainfo(dict(image_sha256="0" * 64))
    with pytest.raises(ValueError, match=r"has no tokens of .*0\.png"):
        teacher(images, (8, 8), samples)
    (tmp_path / "cache/manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="is no manifest of a teacher cache"):
        CachedTeacher(**settings)


def test_a_config_without_caches_and_a_teacher_of_annotations(tmp_path, folder):
    with pytest.raises(ValueError, match="no teacher of type CachedTeacher"):
        fill_caches({"model": {"teachers": [dict(type="SamTeacher")]}})
    masks = dict(type="InstanceMaskTeacher", points_per_side=4)
    with pytest.raises(ValueError, match="reads annotations"):
        filled(tmp_path, folder, teacher=masks)


def tool(name, *words):
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / f"{name}.py", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_filled_by_the_tool_and_trained_from(tmp_path, folder):
    torch.manual_seed(0)
    weights = tmp_path / "tower.safetensors"
    save_file(build_encoder("pe_core_t16_384", **TOWER, image_size=64).state_dict(), weights)
    config = tmp_path / "cached.py"
    config.write_text(
        f'"""Trains from a cache."""\n_base_ = ["{BASE}"]\n'
        f'dataset_type, data_root, crop_size = "UnlabelledImages", "{folder}", (64, 64)\n'
        'total_batch, batch_size, total_steps, warmup_steps = 2, 2, 2, 1\n'
        'checkpoint_interval, probe_interval = 2, 2\n'
        "probes, num_workers = [], 0\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='UnlabelledImages', "
        f"data_root='{folder}', hash_images=True, pipeline=[dict(type='AspectJitterResize', "
        "size=(64, 64)), dict(type='RandomMirror'), dict(type='PackImages')]))\n"
        f"teachers = [dict(name='tower', type='CachedTeacher', folder='{tmp_path / 'cache'}', "
        "grid_hw=(4, 4), image_hw=(64, 64), teacher=dict(type='EncoderTeacher', "
        f"encoder='pe_core_t16_384', weights='{weights}', layer=1, "
        f"encoder_options=dict({', '.join(f'{k}={v}' for k, v in TOWER.items())}, "
        "image_size=64)))]\n"
        "losses = [dict(name='pairwise', teacher='tower', type='PairwiseSimilarityLoss')]\n"
    )  # fmt: skip
    run = tmp_path / "run"
    code, text = tool("train", config, "--work-dir", run)
    assert code == 2 and "cache is not there; fill it: python tools/cache_teacher.py" in text
    code, text = tool("cache_teacher", config, "--dry-run")
    assert code == 0 and "6 images x 16 tokens x 32 channels in float16 take about" in text
    assert not list((tmp_path / "cache").glob("??/*.npy"))
    code, text = tool("cache_teacher", config, "--part", "0/2", "--batch-size", 2)
    assert code == 0 and "tower: 3 images written, 0 were there, 0 cannot be read" in text
    code, text = tool("cache_teacher", config)
    assert code == 0 and "tower: 3 images written, 3 were there, 0 cannot be read" in text
    code, text = tool("cache_teacher", config, "--part", "2/2")
    assert code == 2 and "--part 2/2 is not I/N" in text
    code, text = tool("train", config, "--work-dir", run)
    assert code == 0, text
    (teacher,) = load_checkpoint_safely(str(run / "iter_2.pth"))["meta"]["pe_dense"]["alignment"][
        "teachers"
    ]
    assert teacher["type"] == "EncoderTeacher" and teacher["cache"]["grid_hw"] == [4, 4]
    assert len(teacher["sha256"]) == 64
    cv2.imwrite(str(folder / "new.png"), np.zeros((64, 64, 3), np.uint8))
    code, text = tool("train", config, "--work-dir", tmp_path / "other")
    assert code == 2 and "belongs to another image set" in text
