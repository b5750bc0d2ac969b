"""Images of a step: dealt out to any number of processes, or refused with numbers that work."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from mmengine.config import Config

from pe_dense.run.batch_plan import BatchPlan, plan_batches, recipe_total, require_schedule
from pe_dense.run.config import load_template
from pe_dense.run.protocol import protocol_sha256, stored_protocols

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs/detection/dino_pe_b16_coco_12ep.py"  # 8 processes x 2 images


def accumulating(**changes) -> Config:
    plain = dict(
        total_batch=96, batch_size=4, train_dataloader=dict(batch_size="$batch_size"),
        train_cfg=dict(type="StepTrainLoop", max_iters=10),
    )  # fmt: skip
    return Config(plain | changes)


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 24), (3, 8), (24, 1)])
def test_accumulation_follows_from_the_processes(processes: int, accumulation: int) -> None:
    plan = plan_batches(accumulating(), processes, (), "c.py")
    assert plan == BatchPlan(96, 4, processes, accumulation)


@pytest.mark.parametrize(
    ("changes", "processes", "words"),
    [
        ({}, 5, "start 4 or 6 processes, or .* total_batch=100"),
        ({}, 200, "start 96 processes"),
        ({"batch_size": 5}, 2, "batch_size=5 x 2 processes; take --cfg-options batch_size=4"),
        ({"batch_size": 100}, 1, "batch_size=96"),
        ({"batch_size": 0}, 1, "batch_size=0 is no positive whole number"),
        ({"batch_size": 1.5}, 1, "batch_size=1.5 is no positive whole number"),
        ({"total_batch": 0}, 1, "total_batch=0 is no positive whole number"),
        ({"total_batch": 9.5}, 1, "total_batch=9.5 is no positive whole number"),
        ({"train_cfg": dict(type="IterBasedTrainLoop")}, 1, "only train_cfg.type='StepTrainLoop'"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_what_can(changes, processes, words) -> None:
    with pytest.raises(ValueError, match=words):
        plan_batches(accumulating(**changes), processes, (), "c.py")


@pytest.mark.parametrize(("processes", "share"), [(1, 16), (4, 4), (8, 2), (16, 1)])
def test_a_recipe_of_8_processes_runs_on_others_without_any_option(processes, share) -> None:
    template = load_template(RECIPE)
    plan = plan_batches(template, processes, (), RECIPE)
    assert plan == BatchPlan(16, share, processes)
    # ... and it is the published protocol, however the batch was dealt out.
    given = load_template(RECIPE, options={"batch_size": share})
    stored = stored_protocols(ROOT / "benchmarks/protocols.json")
    for each in (template, given):
        digest = protocol_sha256(each, total_batch=plan.total_batch)
        assert digest == stored["coco-detection-dino-b16-12ep-v1"]["sha256"]
        assert plan_batches(each, processes, ["batch_size"] * (each is given), RECIPE) == plan


def test_more_processes_than_images_are_refused_with_both_ways_out() -> None:
    with pytest.raises(ValueError, match="start 16 processes, or .* --cfg-options batch_size=1"):
        plan_batches(load_template(RECIPE), 32, (), RECIPE)


def test_another_total_is_another_protocol_and_equal_totals_are_one() -> None:
    template = load_template(RECIPE)
    plan = plan_batches(template, 4, ["batch_size"], RECIPE)
    assert plan.total_batch == 8 and recipe_total(template) == 16
    hashes = {}
    for total, size in [(16, 2), (8, 2), (8, 8), (12, 2), (12, 12), (None, 2)]:
        given = load_template(RECIPE, options={"batch_size": size})
        hashes.setdefault(total, set()).add(protocol_sha256(given, total_batch=total))
    assert all(len(found) == 1 for found in hashes.values())
    assert hashes[16] == hashes[None] and len(set().union(*hashes.values())) == 3


def test_what_trains_nothing_in_batches_has_no_plan() -> None:
    assert plan_batches(Config(dict(train_dataloader=None)), 3, (), "c.py") is None
    assert (
        plan_batches(load_template(ROOT / "configs/tracking/davis2017_v1.py"), 3, (), "c") is None
    )


def test_lengths_of_other_trainings_are_left_to_them() -> None:
    loop = dict(type="IterBasedTrainLoop", max_iters=10)
    scheduler = [dict(type="LinearLR", by_epoch=False, begin=0, end=20)]
    require_schedule(Config(dict(train_cfg=loop, param_scheduler=scheduler)), "c.py")
    require_schedule(Config(dict(train_cfg=dict(max_epochs=3))), "c.py")
    with pytest.raises(ValueError, match="max_iters=0 is no positive whole number"):
        require_schedule(Config(dict(train_cfg=dict(max_iters=0))), "c.py")


@pytest.mark.parametrize("processes", [0, -1, 2.5, True])
def test_a_recipe_of_no_number_of_processes_is_refused(processes) -> None:
    template = load_template(RECIPE, options={"processes": processes})
    with pytest.raises(ValueError, match=f"processes={processes} is no positive whole number"):
        plan_batches(template, 4, ["processes"], RECIPE)


@pytest.mark.parametrize(
    ("place", "right"), [("train_cfg.accumulation", 3), ("optim_wrapper.accumulative_counts", 1)]
)
def test_no_setting_beside_the_plan_makes_a_step(place: str, right: int) -> None:
    recipe, template = load_template(RECIPE), accumulating(optim_wrapper={})
    for count in (1, 3, 4):  # 96 images are 8 processes x 4 images x 3
        for config, fits, total in ((recipe, 1, 16), (template, right, 96)):
            config.merge_from_dict({place: count})
            if count == fits:  # as in the copy that a run keeps of its config
                assert plan_batches(config, 8, (), "c.py").total_batch == total
                continue
            with pytest.raises(ValueError, match=f"{place}={count} makes no step; .* total_batch"):
                plan_batches(config, 8, (), "c.py")


def test_the_total_of_a_recipe() -> None:
    assert recipe_total(load_template(RECIPE)) == 16
    assert recipe_total(accumulating()) == 96
    assert recipe_total(Config(dict(train_dataloader=None))) is None
