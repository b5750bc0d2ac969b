"""Sizes, pixels, boxes and learning rates of DETA's recipe against arrays of its own code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

from pe_dense.detection.deta_layout import name_from_official
from pe_dense.detection.deta_transforms import DETAResize, detr_size, view_size
from pe_dense.detection.deta_tta import DETATTAModel
from pe_dense.run.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def arrays():
    with np.load(Path(__file__).parents[1] / "golden" / "deta_steps.npz") as content:
        return dict(content)


def test_sizes_of_all_test_views(arrays):
    hw_I2, base_I2, views_IV2 = (
        arrays[f"tta_{name}"] for name in ("image_hw", "base_hw", "view_hw")
    )
    assert len(hw_I2) >= 18
    for hw, base, views in zip(hw_I2.tolist(), base_I2.tolist(), views_IV2.tolist(), strict=True):
        found = detr_size(*hw, 1792, 1792)
        assert list(found) == base, hw
        assert [list(view_size(*found, view)) for view in (1728, 1536, 1344)] == views, hw


def test_sizes_of_the_views_of_the_config(arrays):
    cfg, _ = load_config(CONFIGS / "deta_pe_g16_coco_1824_tta.py")
    (steps,) = [s for s in cfg.test_dataloader.dataset.pipeline if s.type == "TestTimeAug"]
    views = [dict(step) for step in steps.transforms[0]]
    assert [view.pop("type") for view in views] == ["DETAResize"] * 4
    # Where the longer side of the resized image is not its limit.
    rows = np.flatnonzero(arrays["tta_base_hw"].max(1) != 1792)
    assert len(rows) > 2
    for row in rows[:3].tolist():
        height, width = arrays["tta_image_hw"][row].tolist()
        picture = np.zeros((height, width, 3), np.uint8)
        found = [list(DETAResize(**view)(dict(img=picture))["img_shape"]) for view in views]
        expected = [arrays["tta_base_hw"][row].tolist(), *arrays["tta_view_hw"][row].tolist()]
        assert found == expected
    assert all(view.get("antialias") for view in views[1:])


@pytest.mark.parametrize(("view", "name"), [(None, "base"), (44, "44"), (26, "26")])
def test_pixels_of_views(arrays, view, name):
    resized = DETAResize(canvas=80, view=view)(dict(img=arrays["pixels_image"]))["img"]
    found = ((resized / 255.0 - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(found, arrays[f"pixels_{name}"], atol=2e-6)


def test_a_flipped_view_is_the_view_mirrored(arrays):
    np.testing.assert_array_equal(arrays["pixels_flipped"], arrays["pixels_base"][:, :, ::-1])


def test_sizes_of_training(arrays):
    for height, width, short, longest, *expected in arrays["resize_rows"].tolist():
        assert list(detr_size(height, width, short, longest or None)) == expected


def test_boxes_through_flip_resize_crop_and_resize(arrays, monkeypatch):
    """The second branch of the jitter, with the region of the reference drawn."""
    from mmdet.datasets.transforms import RandomCrop, RandomFlip

    top, left, height, width = arrays["chain_region_tlhw"].tolist()
    results = dict(
        img=np.zeros((427, 640, 3), np.uint8),
        img_shape=(427, 640),
        gt_bboxes=HorizontalBoxes(torch.tensor(arrays["chain_boxes"])),
        gt_bboxes_labels=np.arange(4),
        gt_ignore_flags=np.zeros(4, bool),
    )

    def boxes():
        return results["gt_bboxes"].tensor.numpy()

    results = RandomFlip(prob=1.0)(results)
    np.testing.assert_allclose(boxes(), arrays["chain_flipped"], rtol=1e-6)
    results = DETAResize(short=500)(results)
    assert list(results["img_shape"]) == arrays["chain_resized_hw"].tolist()
    np.testing.assert_allclose(boxes(), arrays["chain_resized"], rtol=1e-5)
    crop = RandomCrop((384, 600), crop_type="absolute_range", allow_negative_crop=True)
    monkeypatch.setattr(crop, "_get_crop_size", lambda size: (height, width))
    monkeypatch.setattr(crop, "_rand_offset", lambda margin: (top, left))
    results = crop(results)
    np.testing.assert_allclose(boxes(), arrays["chain_cropped"], rtol=1e-5, atol=1e-4)
    assert results["gt_bboxes_labels"].tolist() == arrays["chain_labels"].tolist()
    results = DETAResize(canvas=1024)(results)
    assert list(results["img_shape"]) == arrays["chain_final_hw"].tolist()
    np.testing.assert_allclose(boxes(), arrays["chain_final"], rtol=1e-5, atol=1e-4)


class NoModel(torch.nn.Module):
    """Stands where a detector would; merging does not ask it."""

    def test_step(self, data):
        raise AssertionError("not called")


def test_views_are_merged_as_there(arrays):
    """Area filter of each view, soft-NMS over all, for plain and mirrored views."""
    cfg, _ = load_config(CONFIGS / "deta_pe_g16_coco_1824_tta.py")
    (steps,) = [s for s in cfg.test_dataloader.dataset.pipeline if s.type == "TestTimeAug"]
    limits = [view.get("min_side", 0.0) for view in steps.transforms[0]]
    samples = []
    for number in range(8):
        flip = bool(number % 2)
        boxes = torch.tensor(arrays[f"merge_{number}_boxes"])
        if flip:
            boxes[:, [0, 2]] = 600 - boxes[:, [2, 0]]
        facts = dict(ori_shape=(450, 600), flip=flip, flip_direction="horizontal" if flip else None)
        sample = DetDataSample(metainfo=dict(facts, min_side=limits[number // 2], img_id=1))
        sample.pred_instances = InstanceData(
            bboxes=boxes,
            scores=torch.tensor(arrays[f"merge_{number}_scores"]),
            labels=torch.tensor(arrays[f"merge_{number}_labels"]),
        )
        samples.append(sample)
    settings = cfg.tta_model.to_dict()
    assert settings.pop("type") == "DETATTAModel"
    merger = DETATTAModel(module=NoModel(), **settings)
    found = merger.merge_preds([samples])[0].pred_instances
    assert len(found) == len(arrays["merged_scores"])
    np.testing.assert_allclose(found.scores, arrays["merged_scores"], atol=1e-4)
    np.testing.assert_allclose(found.bboxes, arrays["merged_boxes"], atol=1e-3)
    np.testing.assert_array_equal(found.labels, arrays["merged_labels"])


class Named(torch.nn.Module):
    """Parameters with given dotted names."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            *path, last = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, torch.nn.Module())
                module = module._modules[part]
            module.register_parameter(last, torch.nn.Parameter(torch.zeros(2, 2)))


@pytest.mark.parametrize(
    ("name", "stage"),
    [("deta_pe_g16_objects365_1024.py", "1024"), ("deta_pe_g16_objects365_1536.py", "1536"),
     ("deta_pe_g16_coco_1728.py", "1728"), ("deta_pe_g16_coco_1824.py", "1824")],
)  # fmt: skip
def test_learning_rate_of_every_kind_of_parameter(arrays, name, stage):
    cfg, _ = load_config(CONFIGS / name)
    names = [name_from_official(key) for key in arrays["lr_names"].tolist()]
    model = Named(names)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(p): group for group in wrapper.param_groups for p in group["params"]}
    found = {key: groups[id(parameter)] for key, parameter in model.named_parameters()}
    assert [found[key]["lr"] for key in names] == pytest.approx(arrays[f"lr_{stage}"].tolist())
    assert {group["weight_decay"] for group in found.values()} == {1e-4}
    assert wrapper.clip_grad_kwargs == dict(max_norm=0.1, norm_type=2)
    assert (type(wrapper.optimizer).__name__ == "SGD") == (stage == "1824")
