"""Repeat-factor sampling: the reference's order, and runs that go on as if never stopped."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

import pe_dense.run.resume  # noqa: F401  (registers ExactResumeHook)
from pe_dense.detection import repeat_factor_sampler
from pe_dense.detection.repeat_factor_sampler import RepeatFactorSampler, repeat_factors

LOADED = []  # image indices, over all copies of a data set that a runner makes


class Classes:
    """Images with classes; notes what is loaded, and draws a number as augmentation does."""

    def __init__(self, classes):
        self.classes = classes

    def __len__(self):
        return len(self.classes)

    def get_cat_ids(self, index):
        return self.classes[index]

    def __getitem__(self, index):
        LOADED.append(index)
        return torch.tensor([float(index), np.random.rand()])  # noqa: NPY002


@pytest.fixture(scope="module")
def arrays():
    with np.load(Path(__file__).parents[1] / "golden" / "vitdet_steps.npz") as content:
        return dict(content)


@pytest.fixture(scope="module")
def data(arrays):
    return Classes(json.loads(str(arrays["rfs_classes"])))


def place(monkeypatch, rank, world_size):
    monkeypatch.setattr(repeat_factor_sampler, "get_dist_info", lambda: (rank, world_size))


def first(sampler, number):
    return list(itertools.islice(iter(sampler), number))


def test_factors_and_order_of_the_reference(arrays, data, monkeypatch):
    factors = torch.tensor(repeat_factors(data.classes, 0.2))
    np.testing.assert_array_equal(factors.numpy(), arrays["rfs_factors"])
    order = first(RepeatFactorSampler(data, 0.2, seed=7), 400)
    assert order == arrays["rfs_sequence"].tolist()
    place(monkeypatch, 1, 3)
    assert first(RepeatFactorSampler(data, 0.2, seed=7), 120) == arrays["rfs_rank_1_of_3"].tolist()


@pytest.mark.parametrize("world_size", [1, 2, 5, 97])  # 97: more than an epoch has images
def test_what_follows_a_skip_is_what_would_have_followed(data, monkeypatch, world_size):
    LOADED.clear()
    for rank in {0, 1 % world_size, world_size - 1}:
        place(monkeypatch, rank, world_size)
        whole = first(RepeatFactorSampler(data, 0.2, seed=3), 400)
        for skipped in (0, 1, 7, 59, 60, 61, 80, 163, 300):
            sampler = RepeatFactorSampler(data, 0.2, seed=3)
            sampler.skip(skipped)
            assert first(sampler, 400 - skipped) == whole[skipped:]
    assert LOADED == []


def test_processes_share_one_order(data, monkeypatch):
    whole = first(RepeatFactorSampler(data, 0.2, seed=3), 300)
    for rank in range(3):
        place(monkeypatch, rank, 3)
        assert first(RepeatFactorSampler(data, 0.2, seed=3), 100) == whole[rank::3]


def test_a_skip_is_counted_from_the_beginning(data):
    sampler = RepeatFactorSampler(data, 0.2, seed=3)
    sampler.skip(9)
    sampler.skip(20)  # as MMEngine's own sampler
    assert first(sampler, 5) == first(RepeatFactorSampler(data, 0.2, seed=3), 25)[20:]
    with pytest.raises(ValueError, match="cannot skip -1 images"):
        sampler.skip(-1)


class Seen(BaseModel):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, batch, mode="loss"):
        self.seen.append(batch.tolist())
        return dict(loss=(self.weight * batch.mean()).sum())


def pairs(samples):
    return dict(batch=torch.stack(samples))


def run(folder, data, until, resume, num_workers):
    model = Seen()
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2, num_workers=num_workers, dataset=data,
            sampler=dict(type="mmdet.RepeatFactorSampler", threshold=0.2),
            collate_fn=pairs,
        ),
        train_cfg=dict(by_epoch=False, max_iters=until, val_interval=10_000),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.0)),
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", interval=10_000, by_epoch=False), logger=None
        ),
        custom_hooks=[dict(type="ExactResumeHook")],
        resume=resume, randomness=dict(seed=5), log_level="ERROR",
        experiment_name=f"sampler-{folder.name}-{until}",
    )  # fmt: skip
    runner.train()
    return model.seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_sees_what_an_uninterrupted_one_does(tmp_path, data, num_workers):
    whole = run(tmp_path / "whole", data, 90, False, num_workers)
    run(tmp_path / "stopped", data, 61, False, num_workers)
    LOADED.clear()
    rest = run(tmp_path / "stopped", data, 90, True, num_workers)
    assert rest == whole[61:]  # images, and the numbers drawn for each
    assert len(LOADED) == (0 if num_workers else 2 * (90 - 61))  # workers note it for themselves
