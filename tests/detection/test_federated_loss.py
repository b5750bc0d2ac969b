"""Federated loss against one loop for every sentence of its rule; repeat factors by hand."""

import json
import math

import pytest
import torch

from pe_dense.detection.federated_loss import FederatedLoss, read_image_counts, sample_classes
from pe_dense.detection.repeat_factor_sampler import (
    RepeatFactorSampler,
    draw_epoch,
    repeat_factors,
)

COUNTS = [100, 1, 25, 4, 9, 0]


def slow_loss(logits, labels, counted, total):
    loss = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        for k in counted:
            if k < len(row) - 1:
                sign = 1.0 if k == label else -1.0
                loss += math.log1p(math.exp(-sign * row[k]))
    return loss / total


@pytest.mark.parametrize("num_sampled", [3, 4, 50])
def test_equals_a_slow_version(num_sampled):
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 7, dtype=torch.float64), torch.tensor([0, 2, 6, 6, 2, 0, 6, 6])
    loss = FederatedLoss(image_counts=COUNTS, num_sampled=num_sampled)
    torch.manual_seed(1)
    found = loss(logits, labels, avg_factor=8)
    torch.manual_seed(1)
    counted = sample_classes(labels, loss.class_weights(6), num_sampled).tolist()
    assert found.item() == pytest.approx(slow_loss(logits, labels, counted, 8))


def test_own_classes_always_count_and_none_twice():
    labels = torch.tensor([5, 6, 1])
    weights = torch.tensor(COUNTS).float().sqrt()
    for seed in range(20):
        torch.manual_seed(seed)
        found = sample_classes(labels, weights, 5).tolist()
        assert {5, 6, 1} <= set(found)
        assert len(found) == len(set(found)) == 5
    # Class 5 was never seen, so it can only come from the labels.
    assert 5 not in sample_classes(torch.tensor([6]), weights, 50).tolist()


def test_more_own_classes_than_wanted_are_all_kept():
    assert len(sample_classes(torch.arange(7), torch.ones(6), 3)) == 7


def test_classes_are_drawn_by_the_power_of_their_count():
    torch.manual_seed(0)
    weights = FederatedLoss(image_counts=[100, 1, 0], power=0.5).class_weights(3)
    assert weights.tolist() == [10.0, 1.0, 0.0]
    drawn = [int(sample_classes(torch.tensor([3]), weights, 2)[1]) for _ in range(2000)]
    assert drawn.count(0) / 2000 == pytest.approx(10 / 11, abs=0.03)


def test_no_gradient_where_a_class_does_not_count():
    logits = torch.zeros(2, 4, requires_grad=True)
    loss = FederatedLoss(image_counts=[1, 0, 0], num_sampled=2)
    loss(logits, torch.tensor([1, 1])).backward()
    assert (logits.grad[:, :2] != 0).all()
    assert not logits.grad[:, 2:].any()  # not drawn, and the unused last output


def test_weights_accuracy_and_activation():
    loss = FederatedLoss(image_counts=[1, 1])
    logits, labels = torch.tensor([[2.0, -1.0, 9.0], [1.0, 2.0, 0.0]]), torch.tensor([0, 0])
    only_first = loss(logits, labels, weight=torch.tensor([1.0, 0.0]), avg_factor=1)
    assert only_first.item() == pytest.approx(loss(logits[:1], labels[:1], avg_factor=1).item())
    assert loss.get_accuracy(logits, labels)["acc_objects"] == 50.0
    assert torch.equal(loss.get_activation(logits), logits.sigmoid())
    assert loss.get_cls_channels(2) == 3
    assert loss(torch.zeros(0, 3), labels[:0]).item() == 0.0


def test_counts_come_from_the_file(tmp_path):
    path = tmp_path / "lvis.json"
    categories = [dict(id=2, image_count=5), dict(id=1, image_count=16)]
    path.write_text(json.dumps(dict(categories=categories)))
    assert read_image_counts(str(path)) == [16, 5]
    assert FederatedLoss(ann_file=str(path)).class_weights(2).tolist() == pytest.approx(
        [4.0, math.sqrt(5)]
    )
    with pytest.raises(ValueError, match="counts images of 2 classes, but the head has 3"):
        FederatedLoss(ann_file=str(path)).class_weights(3)
    path.write_text(json.dumps(dict(categories=[dict(id=1)])))
    with pytest.raises(ValueError, match="have no 'image_count'"):
        read_image_counts(str(path))
    with pytest.raises(ValueError, match="does not exist"):
        read_image_counts(str(tmp_path / "none.json"))
    for settings in ({}, dict(ann_file="a", image_counts=[1])):
        with pytest.raises(ValueError, match="ann_file or image_counts"):
            FederatedLoss(**settings)
    with pytest.raises(ValueError, match="no reduction 'sum'"):
        FederatedLoss(image_counts=[1])(
            torch.zeros(1, 2), torch.tensor([0]), reduction_override="sum"
        )


class Images:
    """A data set as the sampler sees it."""

    def __init__(self, classes):
        self.classes = classes

    def __len__(self):
        return len(self.classes)

    def get_cat_ids(self, index):
        return self.classes[index]


RARE = [[0]] * 98 + [[0, 1], []]  # class 1 in 1 of 100 images


def test_factors_by_hand():
    factors = repeat_factors(RARE, threshold=0.04)
    assert factors[98] == pytest.approx(2.0)  # sqrt(0.04 / 0.01)
    assert set(factors[:98]) == {1.0}
    assert factors[99] == 1.0  # without objects
    assert repeat_factors([[3, 3, 3]], threshold=0.001) == [1.0]


def test_the_rest_of_a_factor_is_a_chance():
    generator = torch.Generator().manual_seed(0)
    epochs = [draw_epoch(torch.tensor([1.0, 1.25]), generator) for _ in range(2000)]
    counts = torch.stack([epoch.bincount(minlength=2) for epoch in epochs]).float()
    assert counts[:, 0].unique().tolist() == [1.0]
    assert counts[:, 1].mean().item() == pytest.approx(1.25, abs=0.04)
    assert {tuple(epoch.tolist()) for epoch in epochs} >= {(0, 1), (1, 0)}


def test_sampling_is_endless_and_a_function_of_the_seed():
    def first(count, seed):
        stream = iter(RepeatFactorSampler(Images(RARE), threshold=0.04, seed=seed))
        return [next(stream) for _ in range(count)]

    assert first(250, 3) == first(250, 3) != first(250, 4)
    counts = torch.tensor(first(101 * 3, 3)).bincount(minlength=100)
    assert counts[98] == 6
    assert counts[:98].tolist() == [3] * 98


def test_processes_share_the_images(monkeypatch):
    from pe_dense.detection import repeat_factor_sampler as module

    streams = []
    for rank in range(2):
        monkeypatch.setattr(module, "get_dist_info", lambda rank=rank: (rank, 2))
        stream = iter(RepeatFactorSampler(Images([[0]] * 10), seed=0))
        streams.append([next(stream) for _ in range(5)])
    assert sorted(streams[0] + streams[1]) == list(range(10))
