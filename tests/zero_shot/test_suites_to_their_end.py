"""The suites zero_shot and retrieval on small stand-ins, run by run, broken and unbroken."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

pytest.importorskip("open_clip")
from published_layouts import WORDNET, captioned_sets, named_sets
from runs import evaluate, without_upkeep
from tiny_towers import TinyTowers

from pe_dense.results import pages
from pe_dense.results.comparison import compare_records, evidence_of
from pe_dense.results.store import load_readable
from pe_dense.suites import plan

ROOT = Path(__file__).resolve().parents[2]
ENCODERS = ("pe_core_t16_384=random", "pe_core_s16_384=random")
COUNT = 40  # pictures of a retrieval set


def digest(folders):
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()


# What makes a stand-in of a published set: the other settings are those of the suite's protocols.
SMALLER = {
    "configs/zero_shot/imagenet.py": {"num_classes": 6, "folders_sha256": digest(WORDNET)},
    "configs/zero_shot/imagenetv2.py": {"num_classes": 6},
    "configs/zero_shot/imagenet_a.py": {"num_classes": 4, "folders_sha256": digest(WORDNET[:4])},
    "configs/zero_shot/imagenet_r.py": {"num_classes": 4, "folders_sha256": digest(WORDNET[:4])},
    "configs/zero_shot/objectnet.py": {"num_classes": 2},
    "configs/retrieval/coco5k.py": {"num_items": COUNT},
    "configs/retrieval/coco5k_reweighted.py": {"num_items": COUNT},
    "configs/retrieval/flickr30k.py": {"num_items": COUNT},
    "configs/retrieval/flickr30k_reweighted.py": {"num_items": COUNT},
}


@MODELS.register_module()
class TwoTinyTowers(TinyTowers):
    """As its parent, with other weights for each encoder; counts what it sees."""

    seen: int = 0
    dies_after: float = float("inf")

    def __init__(self, encoder: str, weights: str = "random", amp_dtype: str | None = None) -> None:
        super().__init__(encoder, weights, amp_dtype)
        chance = torch.Generator().manual_seed(len(encoder) + ord(encoder[8]))
        for parameter in self.towers.parameters():
            parameter.data.normal_(std=0.3, generator=chance)

    def forward(self, images_B3HW):
        if TwoTinyTowers.seen + len(images_B3HW) > TwoTinyTowers.dies_after:
            raise KeyboardInterrupt
        TwoTinyTowers.seen += len(images_B3HW)
        return super().forward(images_B3HW)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    without_upkeep(monkeypatch)
    monkeypatch.setattr(TwoTinyTowers, "seen", 0)
    monkeypatch.setattr(TwoTinyTowers, "dies_after", float("inf"))


def jobs_of(name, data, work, encoders=ENCODERS[:1], **options):
    suite = plan.load_suite(name)
    small = {"model.backbone.type": "TwoTinyTowers", "model.images_at_once": 8}
    small |= {"test_dataloader.batch_size": 8, "results_dir": str(work / "vectors")}
    runs = [
        {**run, "options": {**run["options"], **small, **SMALLER[run["config"]]}}
        for run in suite.runs
    ]
    suite = dataclasses.replace(suite, runs=tuple(runs))
    return plan.make_jobs(suite, encoders, data_roots=data, work_root=work, **options)


def run_all(jobs, records):
    """What `tools/benchmark.py` does with the plan, in this process."""
    assert plan.find_faults(jobs) == {}
    todo = plan.make_plan(jobs, load_readable(records)[0])
    for job in (planned.job for planned in todo if planned.record is None):
        evaluate(
            job.config, encoder=job.encoder, weights=job.weights, seed=job.seed,
            work_dir=job.work_dir, records=records, options=dict(job.options), accept=job.accept,
        )  # fmt: skip


def results(records):
    """What is found in records that does not say when and where."""
    found, problems = load_readable(records)
    assert problems == []
    evidence = {}
    for record in found:
        of = evidence_of(record, records)
        arrays = {f.name: getattr(of, f.name) for f in dataclasses.fields(of)}
        evidence[record.encoder.name, record.protocol.id] = (
            record.scores, record.ci95, record.blind, record.dataset,
            {name: np.asarray(value).tolist() for name, value in arrays.items()},
        )  # fmt: skip
    return evidence


@pytest.mark.parametrize(("name", "num_runs"), [("zero_shot", 5), ("retrieval", 4)])
def test_a_suite_that_dies_twice_ends_as_one_that_does_not(name, num_runs, tmp_path, monkeypatch):
    named = name == "zero_shot"
    data = named_sets(tmp_path / "data") if named else captioned_sets(tmp_path / "data", COUNT)
    accept = {"accept": ("published-total",)} if named else {}
    whole, broken = tmp_path / "whole" / "records", tmp_path / "broken" / "records"
    jobs = jobs_of(name, data, whole.parent / "work", **accept)
    assert len(jobs) == num_runs
    run_all(jobs[:2], whole)
    pictures = TwoTinyTowers.seen
    if not named:  # re-weighted scores are of the same vectors
        assert pictures == COUNT
    run_all(jobs, whole)  # the others
    assert len(results(whole)) == num_runs
    # The hash that the plan has of a run is that of its record.
    planned = plan.make_plan(jobs, load_readable(whole)[0])
    assert all(one.record is not None for one in planned)
    plan.refuse_other_data(planned)

    jobs_again = jobs_of(name, data, broken.parent / "work", **accept)[:2]
    TwoTinyTowers.seen = 0
    for died_at in (pictures // 4, 3 * pictures // 4):
        monkeypatch.setattr(TwoTinyTowers, "dies_after", died_at)
        with pytest.raises(KeyboardInterrupt):
            run_all(jobs_again, broken)
    monkeypatch.setattr(TwoTinyTowers, "dies_after", float("inf"))
    run_all(jobs_again, broken)
    assert TwoTinyTowers.seen == pictures  # none twice
    unbroken = results(whole)
    assert results(broken) == {key: unbroken[key] for key in results(broken)}
    assert len(results(broken)) == 2

    (other, *_) = jobs_of(name, data, whole.parent / "work", ENCODERS[1:], **accept)
    run_all([other], whole)
    list(pages.build(whole))
    page = (whole.parent / "LEADERBOARD.md").read_text()
    for job in jobs:
        section = page.partition(f"### {job.protocol}, version 1")[2].partition("\n### ")[0]
        assert "Without the picture: " in section and "(n = " in section
        assert section.count("| pe_core_") == (2 if job.protocol == other.protocol else 1)
    found, _ = load_readable(whole)
    pair = [record for record in found if record.protocol.id == other.protocol]
    (tested,) = compare_records(*pair, whole)
    assert tested.paired.low <= tested.first - tested.second <= tested.paired.high


def test_what_a_suite_may_accept_makes_other_protocols(tmp_path):
    data = named_sets(tmp_path / "data")
    with pytest.raises(ValueError, match="--accept published-total"):
        plan.find_faults(jobs_of("zero_shot", data, tmp_path))
    jobs = jobs_of("zero_shot", data, tmp_path, accept=["published-total"])
    plain = jobs_of("zero_shot", data, tmp_path)
    assert not {job.protocol for job in jobs} & {job.protocol for job in plain}
    command = jobs[0].test_command(tmp_path)
    assert command[command.index("--accept") + 1] == "published-total"
    with pytest.raises(ValueError, match="--accept such-a-fault names no fault"):
        plan.find_faults(jobs_of("zero_shot", data, tmp_path, accept=["such-a-fault"]))


def test_where_vectors_are_kept_makes_no_other_protocol(tmp_path):
    for name in ("zero_shot", "retrieval"):
        for job in plan.make_jobs(plan.load_suite(name), ENCODERS[:1], work_root=tmp_path):
            assert ".mod-" not in job.protocol and dict(job.options)["results_dir"]


def test_options_of_a_suite_may_be_lists(tmp_path):
    data = named_sets(tmp_path / "data")
    suite = plan.load_suite("zero_shot")
    run = {"config": "configs/zero_shot/images_custom.py", "options": {"templates": ["a {}."]}}
    run["options"]["data_root"] = data["imagenet-a"]
    jobs = plan.make_jobs(dataclasses.replace(suite, runs=(run,)), ENCODERS, work_root=tmp_path)
    assert plan.find_faults(jobs) == {}
