"""Suites, the run matrix, and what is recognised as done."""

from __future__ import annotations

import dataclasses
import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from pe_dense.files import file_sha256
from pe_dense.results import provenance
from pe_dense.results.record import (
    CodeInfo,
    Cost,
    DatasetInfo,
    EncoderInfo,
    ProtocolInfo,
    Record,
)
from pe_dense.run.config import load_config
from pe_dense.run.scored_data import content_of_config
from pe_dense.suites import display, plan, slurm

ROOT = Path(__file__).resolve().parents[2]
BCCD = "configs/detection/dino_pe_t16_bccd.py"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def suite(*runs, seeds=1, weights="random"):
    return plan.Suite("s", weights, seeds, runs or ({"config": BCCD, "minutes": 30},))


def record_of(job: plan.Job, **changes) -> Record:
    record = Record(
        origin="measured",
        task=job.task,
        protocol=ProtocolInfo(job.protocol, job.version, "AP", True, job.config_sha256),
        dataset=DatasetInfo(job.dataset, "val", 87),
        encoder=EncoderInfo(job.encoder, "random", "random", "0" * 16, 1000),
        scores={"AP": 0.5},
        created="2026-01-31T12:00:00Z",
        command="python tools/test.py",
        seed=job.seed,
        code=CodeInfo("0" * 40, False),
        versions={"python": "3.11"},
        hardware=provenance.hardware(),
        cost=Cost(100.0, 20.0, 1.0),
    )
    return dataclasses.replace(record, **changes)


def test_a_record_of_other_data_is_no_result_of_a_job(mini_root, tmp_path):
    options = {"data_root": str(mini_root / "coco")}
    run = dict(config="configs/detection/atss_pe_t16_mini.py", minutes=1, options=options)
    jobs = plan.make_jobs(plan.Suite("mini", "random", 1, (run,)), ["pe_spatial_t16_512"])
    cfg = load_config(run["config"], options=options)[0]
    here = content_of_config(cfg).sha256

    def refuse(sha256):
        record = record_of(jobs[0])
        dataset = dataclasses.replace(record.dataset, sha256=sha256)
        record = dataclasses.replace(record, dataset=dataset)
        plan.refuse_other_data([plan.PlannedJob(jobs[0], record, 0.0, "recorded")])

    refuse(here)
    refuse(None)
    with pytest.raises(ValueError, match="was scored on other files of"):
        refuse("b" * 64)
    jobs[0] = dataclasses.replace(jobs[0], options=(("data_root", str(tmp_path / "absent")),))
    refuse("b" * 64)  # the data are not here


def test_the_matrix():
    encoders = ["pe_spatial_t16_512", "pe_core_t16_384=random"]
    jobs = plan.make_jobs(suite(seeds=2), encoders)
    assert [(job.encoder, job.seed) for job in jobs] == [
        ("pe_spatial_t16_512", 0),
        ("pe_spatial_t16_512", 1),
        ("pe_core_t16_384", 0),
        ("pe_core_t16_384", 1),
    ]
    assert len({job.work_dir for job in jobs}) == 4
    assert {job.protocol for job in jobs} == {"bccd-detection-scratch"}
    assert jobs[0].name == "pe_spatial_t16_512 (random) bccd-detection-scratch-v1 seed 0"
    assert len(plan.make_jobs(suite(seeds=2), encoders, seeds=3)) == 6


def test_the_hash_is_that_of_the_published_record():
    (job,) = plan.make_jobs(suite(), ["pe_spatial_t16_512"])
    published = ROOT / "benchmarks/records/pe_spatial_t16_512/random"
    assert job.config_sha256 in (published / "bccd-detection-scratch-v1.seed0.json").read_text()


def test_commands_carry_everything():
    jobs = plan.make_jobs(
        suite(), ["pe_core_t16_384=w.pt"], data_roots={"bccd": "/data/x"}, amp=True
    )
    train, test = jobs[0].train_command(), jobs[0].test_command(Path("r"))
    for words in (["--weights", "w.pt"], ["--seed", "0"], ["--cfg-options", "data_root=/data/x"]):
        assert " ".join(words) in " ".join(train)
    assert {"--amp", "--resume"} <= set(train) and BCCD in train
    assert "--cfg-options data_root=/data/x" in " ".join(test) and "--records r" in " ".join(test)
    assert jobs[0].protocol.startswith("bccd-detection-scratch.mod-")  # bfloat16 is another one


def test_options_of_speed_reach_both_commands_and_change_no_protocol():
    (plain,) = plan.make_jobs(suite(), ["pe_core_t16_384=w.pt"])
    (job,) = plan.make_jobs(suite(), ["pe_core_t16_384=w.pt"], speed=("compile", "tf32"))
    for command in (job.train_command(), job.test_command(Path("r"))):
        assert command[-2:] == ["--compile", "--tf32"]
    assert (job.protocol, job.config_sha256) == (plain.protocol, plain.config_sha256)


def test_what_trains_nothing_is_scored_at_once():
    (job,) = plan.make_jobs(suite(), ["pe_core_t16_384=w.pt"], amp=True)
    job = dataclasses.replace(job, training_free=True)
    assert job.train_command() == []
    words = " ".join(job.test_command(Path("r")))
    assert f"tools/test.py {BCCD} --weights w.pt --seed 0 --work-dir {job.work_dir} --amp" in words
    planned = plan.PlannedJob(job, None, 60.0, "suite file")
    assert "train.py" not in slurm.array_script([planned], Path("r"))


def test_another_folder_of_the_data_is_the_same_protocol():
    plain, moved = (
        plan.make_jobs(suite(), ["pe_spatial_t16_512"], data_roots=roots)[0]
        for roots in ({}, {"bccd": "/elsewhere"})
    )
    assert plain.config_sha256 == moved.config_sha256 and plain.protocol == moved.protocol


def test_done_runs_are_found_and_others_estimated():
    jobs = plan.make_jobs(suite(seeds=2), ["pe_spatial_t16_512", "pe_core_t16_384"])
    done = record_of(jobs[0])
    planned = plan.make_plan(jobs, [done])
    assert [p.record for p in planned] == [done, None, None, None]
    assert [p.seconds for p in planned] == [0, 120, 120, 120]
    assert planned[1].basis == "like recorded runs"
    other_machine = dataclasses.replace(done.hardware, cpu="another")
    elsewhere = record_of(jobs[0], hardware=other_machine)
    assert [p.seconds for p in plan.make_plan(jobs, [elsewhere])] == [0, 1800, 1800, 1800]


def test_other_weights_are_another_run(tmp_path):
    file = tmp_path / "w.pt"
    file.write_bytes(b"weights")
    jobs = plan.make_jobs(suite(), [f"pe_spatial_t16_512={file}", "pe_core_t16_384"])
    encoder = record_of(jobs[0]).encoder
    sha256 = file_sha256(file)
    same = dataclasses.replace(encoder, weights="renamed.pt", weights_sha256=sha256)
    other = dataclasses.replace(encoder, weights="w.pt", weights_sha256="a" * 64)
    assert plan.find_record(jobs[0], [record_of(jobs[0], encoder=same)])
    assert not plan.find_record(jobs[0], [record_of(jobs[0], encoder=other)])
    assert not plan.find_record(jobs[0], [record_of(jobs[0])])  # random weights


def test_released_weights_are_those_of_the_zoo():
    (job,) = plan.make_jobs(suite(weights="released"), ["pe_spatial_t16_512"])
    encoder = record_of(job).encoder
    source = plan.find_encoder(job.encoder).weights
    released = dataclasses.replace(encoder, weights=source, weights_sha256="a" * 64)
    assert plan.find_record(job, [record_of(job, encoder=released)])


def test_a_record_of_other_settings_is_refused():
    (job,) = plan.make_jobs(suite(), ["pe_spatial_t16_512"])
    protocol = dataclasses.replace(record_of(job).protocol, config_sha256="f" * 64)
    with pytest.raises(ValueError, match="other settings.*raise the protocol's version"):
        plan.make_plan([job], [record_of(job, protocol=protocol)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(encoders=["pe_spatial_t16_51"]), "pe_spatial_t16_512"),
        (dict(encoders=["pe_spatial_t16_512"] * 2), "asked for twice"),
        (dict(encoders=["pe_spatial_t16_512"], tasks=["depht"]), "depht.*has detection"),
        (dict(encoders=["pe_spatial_t16_512"], data_roots={"coco": "x"}), "data sets bccd"),
    ],
)
def test_what_does_not_exist_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        plan.make_jobs(suite(), **arguments)


def test_missing_data_shows_before_the_first_run():
    jobs = plan.make_jobs(suite(), ["pe_spatial_t16_512"], data_roots={"bccd": "no/such/folder"})
    with pytest.raises(ValueError, match="no/such/folder"):
        plan.find_faults(jobs)


def test_missing_data_of_one_job_leave_the_others(monkeypatch):
    def check(cfg, splits):
        if cfg.data_root == "broken":
            raise OSError(5, "Input/output error", "broken/labels.json")

    monkeypatch.setattr(plan, "check_data", check)
    jobs = plan.make_jobs(suite(), ["pe_spatial_t16_512", "pe_core_t16_384"])
    broken = dataclasses.replace(jobs[0], options=(("data_root", "broken"),))
    faults = plan.find_faults([broken, *jobs[1:]])
    assert list(faults) == [broken.work_dir] and "broken/labels.json" in faults[broken.work_dir]
    assert plan.find_faults(jobs) == {} and plan.find_faults([]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "must be: suite = dict"),
        ("suite = dict(weights='random', seeds=1)", "must be: suite = dict"),
        ("suite = dict(weights='random', seeds=1, runs=[])", "at least one run"),
        ("suite = dict(weights='random', seeds=0, runs=[dict(config='a')])", "one seed"),
        ("suite = dict(weights='random', seeds=1, runs=[dict(confg='a')])", r"runs\[0\]"),
        ("suite = dict(", "cannot be read"),
    ],
)
def test_files_that_are_no_suite(tmp_path, text, words):
    file = tmp_path / "s.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        plan.load_suite(str(file))


def test_unknown_suites_list_the_known():
    with pytest.raises(ValueError, match="known suites: .*mini"):
        plan.load_suite("maxi")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs/suites").glob("*.py")), ids=lambda f: f.stem
)
def test_every_suite_makes_jobs(file):
    loaded = plan.load_suite(file.stem)
    jobs = plan.make_jobs(loaded, ["pe_spatial_t16_512"])
    assert len(jobs) == loaded.seeds * sum(run.get("layers", 1) for run in loaded.runs)
    assert all(job.minutes > 0 for job in jobs)


def test_slurm_script_runs_each_job_once(tmp_path):
    jobs = plan.make_jobs(suite(seeds=3), ["pe_spatial_t16_512"])
    planned = plan.make_plan(jobs, [record_of(jobs[1])])
    script = slurm.array_script(planned, Path("my records"))
    assert "#SBATCH --array=0-1\n" in script and "#SBATCH --time=00:10:00\n" in script
    fake = tmp_path / ".venv/bin/python"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/bash\necho "$@" >> calls\n')
    fake.chmod(0o755)
    for index in ("0", "1"):
        environment = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_ARRAY_TASK_ID": index}
        done = subprocess.run(
            ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in calls] == ["tools/train.py", "tools/test.py"] * 2
    assert "--seed 0" in calls[0] and "--seed 2" in calls[2]
    assert "--records my records" in calls[1]


def test_slurm_without_work_is_refused():
    jobs = plan.make_jobs(suite(), ["pe_spatial_t16_512"])
    with pytest.raises(ValueError, match="nothing to submit"):
        slurm.array_script(plan.make_plan(jobs, [record_of(jobs[0])]), Path("r"))


def test_the_plan_can_be_read():
    jobs = plan.make_jobs(suite(seeds=2), ["pe_spatial_t16_512"])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(display.plan_table(plan.make_plan(jobs, [record_of(jobs[0])]), slots=1))
    text = console.export_text()
    assert "1 of 2 runs to do, about 2 min." in text
    assert "bccd-detection-scratch-v1" in text and "recorded" in text
