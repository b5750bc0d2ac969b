"""The plan of a training on own data: from the images, the machine and what was set."""

import itertools

import pytest
from mmengine.config import Config

from pe_dense.data.own_schedule import plan_in_words, schedule_facts, suggested
from pe_dense.run.protocol import own_hashes


@pytest.mark.parametrize("kind", ["maps", "boxes"])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_plans_are_possible_for_every_number_of_images(kind, on_gpu):
    plans = [suggested(n, on_gpu, kind) for n in (1, 2, 3, 7, 50, 300, 5_000, 10**6)]
    for n, plan in zip((1, 2, 3, 7, 50, 300, 5_000, 10**6), plans, strict=True):
        assert 1 <= plan.batch_size <= max(1, n // 2)
        assert plan.max_iters % plan.val_interval == 0
        assert 0 < plan.warmup_iters < plan.max_iters
        assert plan.image_side % 14 == plan.image_side % 16 == 0
    seen = [plan.max_iters * plan.batch_size for plan in plans]
    assert all(more >= 0.99 * less for less, more in itertools.pairwise(seen))


def test_small_pictures_are_not_enlarged_and_large_ones_reduced():
    sides = [suggested(99, True, longer_side=side).image_side for side in (20, 256, 640, 4000)]
    assert sides == [112, 224, 448, 448]


def test_steps_and_rate_follow_a_batch_that_was_set():
    usual = suggested(1000, on_gpu=True)
    smaller = suggested(1000, on_gpu=True, batch_size=4)
    assert smaller.max_iters == 4 * usual.max_iters
    assert smaller.lr == usual.lr / 2


def test_validations_and_warm_up_follow_steps_that_were_set():
    for steps in (3, 4, 20, 5000):
        plan = suggested(1000, on_gpu=False, max_iters=steps)
        assert plan.max_iters == steps
        assert 1 <= plan.val_interval <= steps
        assert plan.warmup_iters < steps
    facts = schedule_facts({"max_iters": 20}, 99)
    assert (facts["max_iters"], facts["val_interval"], facts["warmup_iters"]) == (20, 4, 2)


def test_the_machine_can_be_said():
    assert schedule_facts({}, 99)["planned_for"] == "cpu"  # tests see no GPU
    facts = schedule_facts({"planned_for": "gpu", "batch_size": 8, "lr_factor": 0.1}, 99)
    assert (facts["batch_size"], facts["image_side"]) == (8, 448)
    assert facts["lr"] == pytest.approx(0.1 * 1e-3 * 0.5**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("names", "images", "words"),
    [
        ({"planned_for": "tpu"}, 9, "planned_for='tpu' is not known"),
        ({"batch_size": 0}, 9, "batch_size=0 is no number of images"),
        ({"batch_size": "4x"}, 9, "batch_size='4x' is no number of images"),
        ({"max_iters": 0}, 9, "max_iters=0 is no number of steps"),
        ({}, 0, "0 images are too few"),
    ],
)
def test_what_cannot_be_planned_is_refused(names, images, words):
    with pytest.raises(ValueError, match=words):
        schedule_facts(names, images)


class Facts:
    def __init__(self, plan):
        self.own_annotations = dict(train="1" * 64, val="0" * 64, plan=plan)


def test_results_of_two_machines_are_two_protocols():
    plans = {
        device: plan_in_words(schedule_facts({"planned_for": device}, 99))
        for device in ("cpu", "gpu")
    }
    ids = {}
    for device, plan in plans.items():
        own = dict(train="1" * 64, val="2" * 64, plan=plan)
        ids[device] = own_hashes(Config(dict(protocol=dict(own_annotations=own))), Facts(plan))
    assert ids["cpu"] != ids["gpu"]
    assert ids["cpu"]["train"] == ids["gpu"]["train"]
    other = dict(train="1" * 64, val="2" * 64, plan=plans["gpu"])
    with pytest.raises(ValueError, match="planned_for=gpu"):
        own_hashes(Config(dict(protocol=dict(own_annotations=other))), Facts(plans["cpu"]))
