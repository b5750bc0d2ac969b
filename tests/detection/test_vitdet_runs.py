"""ViTDet's configs from the first to the last step on tiny data: LVIS, frozen detection, DDP."""

import json
import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from runs import evaluate, train
from torch import nn

import pe_dense.detection  # noqa: F401
from pe_dense.detection.coco_metric import CocoAP
from pe_dense.detection.gradient_compression import CompressGradients
from pe_dense.detection.lvis_dataset import LvisDataset
from pe_dense.run.config import load_config

FLOAT32 = """
_base_ = [{base!r}]
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", weight_decay=0.1),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(layer_decay="$layer_decay", decay_norm_and_bias=True),
)
"""
TINY = {
    "max_iters": 1, "val_interval": 1, "lr_drops": [1], "canvas": 128, "batch_size": 2,
    "max_per_img": 5, "score_thr": 0.5, "layer": 1, "model.test_cfg.rpn.max_per_img": 10,
    "model.train_cfg.rpn_proposal.max_per_img": 20, "model.train_cfg.rcnn.sampler.num": 8,
    "train_dataloader.num_workers": 0, "val_dataloader.num_workers": 0,
    "test_dataloader.num_workers": 0, "default_hooks.checkpoint.interval": 1,
}  # fmt: skip


def write_data(root, names, lvis):
    """Two images a split with two boxes each; LVIS's files name images by address only."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    counts = dict(frequency="f", image_count=3) if lvis else {}
    categories = [dict(id=k + 1, name=name, **counts) for k, name in enumerate(names)]
    for split in ("train", "val"):
        images, annotations = [], []
        for i in (1, 2):
            # Half of LVIS's validation images lie among COCO's training images.
            folder = f"{split if i == 1 else 'train'}2017" if lvis else f"{split}2017"
            name = f"{i + 2 * (split == 'val'):012d}.jpg"
            (root / folder).mkdir(exist_ok=True)
            pixels = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
            assert cv2.imwrite(str(root / folder / name), pixels)
            image = dict(id=i, width=120, height=90)
            if lvis:
                image["coco_url"] = f"http://images.cocodataset.org/{folder}/{name}"
                image |= dict(neg_category_ids=[3], not_exhaustive_category_ids=[3])
            else:
                image["file_name"] = name
            images.append(image)
            for k in (1, len(names)):
                x, y, w, h = 10.0 * i, 5.0 * i, 40.0, 30.0
                corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    dict(
                        id=len(annotations) + 1, image_id=i, category_id=k, bbox=[x, y, w, h],
                        area=w * h, segmentation=[corners], **({} if lvis else dict(iscrowd=0)),
                    )
                )  # fmt: skip
        form = "lvis_v1_" if lvis else "instances_"
        file = root / "annotations" / f"{form}{split}{'' if lvis else '2017'}.json"
        file.write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories))
        )
    return root


def float32_config(folder, name, repository):
    """The config without float16, which needs a GPU."""
    path = folder / "config.py"
    path.write_text(FLOAT32.format(base=str(repository / "configs/detection" / name)))
    return path


@pytest.fixture(scope="module")
def repository():
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lvis_root(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("lvis"), LvisDataset.METAINFO["classes"], True)


# The data are neither COCO's nor LVIS's.
ACCEPT = ["published-total", "other-category-ids"]
BEFORE = {}  # weights as they are when training begins


@HOOKS.register_module()
class KeepFirstWeights(Hook):
    def before_train(self, runner):
        BEFORE.update({name: v.clone() for name, v in runner.model.state_dict().items()})


@pytest.mark.slow
def test_lvis_trains_and_is_scored(tmp_path, lvis_root, repository, monkeypatch):
    # Laying out 1,203 class names for the log takes most of a minute.
    monkeypatch.setattr(Config, "pretty_text", property(lambda cfg: str(cfg.to_dict())))
    name = "vitdet_pe_core_g14_lvis_75ep.py"
    config = float32_config(tmp_path, name, repository)
    options = {**TINY, "data_root": str(lvis_root), "global_blocks": [1]}
    runner = train(
        str(config), "pe_core_t16_384", "random", options, work_dir=tmp_path / "run", argv=["t"],
        accept=ACCEPT,
    )  # fmt: skip
    assert runner.iter == 1
    assert type(runner.train_dataloader.sampler).__name__ == "RepeatFactorSampler"
    scores = evaluate(
        str(config), tmp_path / "run", options=options, records=tmp_path / "records", argv=["t"],
        accept=ACCEPT,
    )  # fmt: skip
    assert {"AP", "APf", "mask_AP"} <= scores.keys()
    (record,) = (tmp_path / "records").rglob("*.json")
    content = json.loads(record.read_text())
    assert content["dataset"]["name"] == "lvis"
    assert content["scores"]["AP"] == scores["AP"]


@pytest.mark.slow
def test_frozen_detection_trains_heads_only(tmp_path, repository):
    names = DATASETS.get("CocoDataset").METAINFO["classes"]
    root = write_data(tmp_path / "coco", names, False)
    config = float32_config(tmp_path, "frozen_vitdet_coco_15ep.py", repository)
    options = {**TINY, "data_root": str(root), "warmup_end": 2, "lr": 1e-2}
    BEFORE.clear()
    config.write_text(
        config.read_text()
        + 'custom_hooks = [dict(type="ExactResumeHook"), dict(type="KeepFirstWeights")]\n'
    )
    runner = train(
        str(config), "pe_core_t16_384", "random", options, work_dir=tmp_path / "run", argv=["t"],
        accept=ACCEPT,
    )  # fmt: skip
    after = runner.model.state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if (value != BEFORE[name]).any()}
    assert moved == {"neck", "rpn_head", "roi_head"}
    assert any(name.startswith("backbone.encoder") for name in BEFORE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_float16_without_a_gpu_is_one_sentence(tmp_path, repository):
    config = repository / "configs/detection/vitdet_pe_spatial_g14_coco_36ep.py"
    with pytest.raises(ValueError, match="trains in float16, which needs a GPU"):
        train(str(config), weights="random", work_dir=tmp_path / "run")


def test_other_classes_are_refused_where_the_data_set_would_ignore_them(tmp_path, repository):
    root = write_data(tmp_path / "own", ["cat", "dog"], False)
    config = float32_config(tmp_path, "vitdet_pe_spatial_s16_coco_36ep.py", repository)
    options = {"data_root": str(root), "classes": ["cat", "dog"], "num_classes": 2}
    with pytest.raises(ValueError, match="classes was set to 2 names, but CocoDataset reads its"):
        train(str(config), weights="random", options=options, work_dir=tmp_path / "run")


def test_own_masks_by_the_remedy_that_it_names(tmp_path, repository):
    root = write_data(tmp_path / "own", ["cat", "dog"], False)
    config = float32_config(tmp_path, "vitdet_pe_spatial_s16_coco_36ep.py", repository)
    config.write_text(
        config.read_text()
        + """data_check = "pe_dense.detection.coco_check:check_config"
train_dataloader = dict(dataset=dict(metainfo=dict(classes="$classes")))
val_dataloader = dict(dataset=dict(metainfo=dict(classes="$classes")))
test_dataloader = val_dataloader
"""
    )
    options = {**TINY, "data_root": str(root), "classes": ["cat", "dog"], "num_classes": 2}
    runner = train(
        str(config), "pe_spatial_t16_512", "random", {**options, "global_blocks": [1]},
        work_dir=tmp_path / "run", argv=["t"],
    )  # fmt: skip
    assert runner.train_dataloader.dataset.get_cat_ids(0) == [0, 1]


def test_lvis_names_are_those_of_the_files():
    names = LvisDataset.METAINFO["classes"]
    assert len(set(names)) == 1203
    assert "speaker_(stero_equipment)" in names  # as lvis_v1_*.json spell it


def test_lvis_images_lie_where_their_address_says(lvis_root):
    dataset = LvisDataset(
        ann_file="annotations/lvis_v1_val.json",
        data_root=str(lvis_root),
        data_prefix=dict(img=""),
        pipeline=[],
    )
    places = [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
    assert [place.split("/")[-2] for place in places] == ["val2017", "train2017"]
    assert [cv2.imread(place).shape for place in places] == [(90, 120, 3)] * 2
    assert dataset.get_cat_ids(0) == [0, 1202]


def compressed_gradients(rank, port, folder):
    """One of two processes: gradients of a linear map, averaged with compression."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    wrapped = nn.parallel.DistributedDataParallel(model)

    class Runner:
        model = wrapped

    CompressGradients().before_train(Runner())
    # 1/3 and 2/3 are no float16 numbers, so rounding shows that they were sent as such.
    wrapped(torch.full((1, 3), (rank + 1) / 3)).sum().backward()
    torch.save(model.weight.grad, folder / f"{rank}.pt")
    torch.distributed.barrier()
    # Not by a return: torch's reducer would wait for gloo's thread while it holds the lock of
    # Python, which that thread may need to let go of the hook.
    os._exit(0)


def test_gradients_are_averaged_in_float16(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(compressed_gradients, (port, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, torch.full((1, 3), 0.5), rtol=1e-3, atol=0)
    assert torch.equal(first, first.half().float())


def test_every_class_is_looked_up(lvis_root):
    metric = CocoAP(str(lvis_root / "annotations/lvis_v1_val.json"))
    metric.dataset_meta = {"classes": ["aerosol_can", "speaker_(stereo_equipment)"]}
    metric.process({}, [dict(img_id=1, pred_instances=dict(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long),
    ))])  # fmt: skip
    with pytest.raises(ValueError, match=r"has 0 classes 'speaker_\(stereo_equipment\)'"):
        metric.evaluate(1)


def test_lvis_configs_need_no_lvis_package(repository):
    for name in ("vitdet_pe_core_g14_lvis_75ep.py", "vitdet_pe_g14_lvis_eval.py"):
        cfg, _ = load_config(repository / "configs/detection" / name)
        assert cfg.train_dataloader.dataset.type == cfg.test_dataloader.dataset.type
        assert DATASETS.get(cfg.test_dataloader.dataset.type) is LvisDataset
        assert tuple(cfg.classes) == LvisDataset.METAINFO["classes"]
