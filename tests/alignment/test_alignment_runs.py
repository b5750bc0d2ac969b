"""Alignment as a user runs it: killed and resumed, exported, stopped, refused.

Every run is the mini recipe at toy size, on the real tools in real processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

import torch

from pe_dense.alignment.export import export_student
from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.weights import load_weights
from pe_dense.run.checkpoint import checkpoint_file, load_checkpoint_safely
from pe_dense.run.command_line import parse_options
from pe_dense.run.request import RunRequest
from pe_dense.run.training import train as train_run

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/alignment/spatial_align_t16_mini.py"


@pytest.fixture(scope="module")
def options(mini_root: Path) -> dict[str, object]:
    return {
        "data_root": mini_root / "coco",
        "probe_root": mini_root / "ade",
        "video_root": mini_root / "davis",
        "crop_size": "(64,64)",
        "total_batch": 8,
        "batch_size": 4,
        "total_steps": 4,
        "warmup_steps": 2,
        "checkpoint_interval": 1,
        "probe_interval": 2,
        "log_interval": 2,
        "drop_path_rate": 0.4,
        "teachers.0.encoder_options": "{'depth':2}",
        "teachers.0.layer": 1,
        "probes.0.grid_side": 4,
        "probes.1.short_side": 4,
    }


def words(options: dict[str, object]) -> list[str]:
    return ["--cfg-options", *(f"{key}={value}" for key, value in options.items())]


def tool(name: str, *arguments: object, torchrun: int = 0) -> list[str]:
    launch = [sys.executable]
    if torchrun:
        launch += ["-m", "torch.distributed.run", "--standalone"]  # a free port
        launch += [f"--nproc-per-node={torchrun}"]
    return [*launch, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }


def run(command: list[str], code: int = 0) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def train(work_dir: Path, options: dict[str, object], torchrun: int = 0) -> dict:
    launcher = ["--launcher", "pytorch"] if torchrun else []
    arguments = [CONFIG, "--work-dir", work_dir, *launcher, *words(options)]
    run(tool("train", *arguments, torchrun=torchrun))
    return last(work_dir, options)


def last(work_dir: Path, options: dict[str, object]) -> dict:
    return load_checkpoint_safely(str(work_dir / f"iter_{options['total_steps']}.pth"))


def alike(first: dict, second: dict) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, object]
) -> tuple[Path, dict]:
    work_dir = tmp_path_factory.mktemp("whole") / "run"
    return work_dir, train(work_dir, options)


def test_killed_and_resumed_run_ends_with_the_same_weights_and_state(
    uninterrupted: tuple[Path, dict], options: dict[str, object], tmp_path: Path
) -> None:
    _, whole = uninterrupted
    work_dir = tmp_path / "run"
    command = tool("train", CONFIG, "--work-dir", work_dir, "--resume", *words(options))
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list(work_dir.glob("iter_*.pth")):
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (work_dir / f"iter_{options['total_steps']}.pth").exists()
    run(command)
    resumed = last(work_dir, options)
    assert alike(whole["state_dict"], resumed["state_dict"])
    moments, others = (c["optimizer"]["state"] for c in (whole, resumed))
    assert moments.keys() == others.keys() and moments
    assert all(alike(moments[key], others[key]) for key in moments)
    facts, found = (c["meta"]["pe_dense"] for c in (whole, resumed))
    assert facts["alignment"] == found["alignment"]
    assert facts["student_scores"] == found["student_scores"]
    assert [entry["step"] for entry in facts["student_scores"]] == [0, 0, 2, 2, 4, 4]


def test_checkpoints_name_the_teachers_and_hold_none(uninterrupted: tuple[Path, dict]) -> None:
    _, content = uninterrupted
    facts = content["meta"]["pe_dense"]["alignment"]
    assert [teacher["name"] for teacher in facts["teachers"]] == ["core", "masks"]
    assert all(len(teacher["sha256"]) == 64 for teacher in facts["teachers"])
    assert facts["data"]["num_images"] == 12 and len(facts["data"]["sha256"]) == 64
    assert all(key.startswith("backbone.encoder.") for key in content["state_dict"])


def test_another_teacher_cannot_go_on(
    uninterrupted: tuple[Path, dict], options: dict[str, object], tmp_path: Path
) -> None:
    _, content = uninterrupted
    content = {**content, "meta": {**content["meta"]}}
    facts = content["meta"]["pe_dense"]
    alignment = {**facts["alignment"], "teachers": []}
    content["meta"]["pe_dense"] = {**facts, "alignment": alignment}
    (tmp_path / "run").mkdir()
    torch.save(content, tmp_path / "run" / "iter_4.pth")
    command = tool("train", CONFIG, "--work-dir", tmp_path / "run", "--resume", *words(options))
    said = run(command, code=2)
    assert "other settings of the alignment (teachers)" in said and "Traceback" not in said


# Export


def exported(checkpoint: Path, target: Path, **options) -> None:
    file = checkpoint_file(checkpoint)
    export_student(file, load_checkpoint_safely(str(file), "cpu"), target, **options)


def test_export_comes_back_bit_for_bit(uninterrupted: tuple[Path, dict], tmp_path: Path) -> None:
    work_dir, content = uninterrupted
    target = tmp_path / "new" / "student.safetensors"
    said = run(tool("export_student", work_dir, target))
    assert "pe_spatial_t16_512" in said
    encoder = build_encoder("pe_spatial_t16_512")
    info = load_weights(encoder, target)
    assert info.notes == () and info.sha256 in said
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, content["state_dict"][f"backbone.encoder.{key}"]), key
    card = target.with_suffix(".md").read_text()
    for teacher in content["meta"]["pe_dense"]["alignment"]["teachers"]:
        assert teacher["sha256"] in card
    assert (
        "mini_segmentation" in card
        and "mini_propagation" in card
        and "PairwiseSimilarityLoss" in card
        and info.sha256 in card
    )
    assert sorted(p.name for p in target.parent.iterdir()) == ["student.md", "student.safetensors"]
    assert "--overwrite" in run(tool("export_student", work_dir, target), code=2)
    exported(work_dir, target, overwrite=True)


def test_export_refuses_what_it_cannot_write(
    uninterrupted: tuple[Path, dict], tmp_path: Path
) -> None:
    work_dir, content = uninterrupted
    target = tmp_path / "student.safetensors"
    with pytest.raises(ValueError, match="does not end in .safetensors"):
        exported(work_dir, tmp_path / "student.pth")
    with pytest.raises(ValueError, match="holds no finished checkpoint"):
        exported(tmp_path, target)
    torch.save({"state_dict": content["state_dict"]}, tmp_path / "iter_1.pth")
    with pytest.raises(ValueError, match="none of an alignment"):
        exported(tmp_path / "iter_1.pth", target)
    short = {k: v for k, v in content["state_dict"].items() if ".resblocks.11." not in k}
    torch.save({**content, "state_dict": short}, tmp_path / "iter_2.pth")
    with pytest.raises(ValueError, match="not pe_spatial_t16_512 as the zoo builds it"):
        exported(tmp_path / "iter_2.pth", target)
    with pytest.raises(ValueError, match="no LayerScale to fold"):
        exported(work_dir, target, fold_gains=True)
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".pth"]


def test_export_folds_an_added_layer_scale_only_if_asked(
    uninterrupted: tuple[Path, dict], tmp_path: Path
) -> None:
    _, content = uninterrupted
    state = dict(content["state_dict"])
    for block in range(12):
        for name in ("ls_1", "ls_2"):
            key = f"backbone.encoder.transformer.resblocks.{block}.{name}.gamma"
            state[key] = torch.full((192,), 0.5)
    torch.save({**content, "state_dict": state}, tmp_path / "iter_1.pth")
    target = tmp_path / "student.safetensors"
    with pytest.raises(ValueError, match="--fold-layer-scale"):
        exported(tmp_path / "iter_1.pth", target)
    exported(tmp_path / "iter_1.pth", target, fold_gains=True)
    encoder = build_encoder("pe_spatial_t16_512")
    load_weights(encoder, target)
    own = encoder.transformer.resblocks[3].mlp.c_proj.weight
    before = state["backbone.encoder.transformer.resblocks.3.mlp.c_proj.weight"]
    assert torch.equal(own, 0.5 * before)
    assert "folded into the projections" in target.with_suffix(".md").read_text()


# Stops


def test_nan_stops_the_run_with_step_and_term(options: dict[str, object], tmp_path: Path) -> None:
    settings = {**options, "losses.1.loss_weight": "1e39", "probes": "[]"}
    work_dir = tmp_path / "run"
    command = tool("train", CONFIG, "--work-dir", work_dir, *words(settings))
    said = run(command, code=2)
    assert "loss term loss_locality is" in said and "at step" in said
    assert "Traceback" not in said
    assert not list(work_dir.glob("*.pth"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 3}, "total_batch=8 of .* is no whole number of times batch_size=3"),
        ({"warmup_steps": 5}, "LinearLR runs from step 0 to 5 of a training of total_steps=4"),
        ({"checkpoint_interval": 5}, "checkpoint_interval=5 is no number of steps from 1 to"),
        ({"probe_interval": 0}, "probe_interval=0 is no number of steps from 1 to total_steps=4"),
    ],
)
def test_lengths_that_do_not_agree_are_refused_before_anything_is_loaded(
    options: dict[str, object], tmp_path: Path, change: dict[str, object], words: str
) -> None:
    nothing_there = {"data_root": tmp_path / "none", "weights": None, "total_batch": 8}
    request = RunRequest(CONFIG, options=parse_options(
        [f"{k}={v}" for k, v in {**options, **nothing_there, **change}.items() if v is not None]
    ), weights=str(tmp_path / "none.pt"), work_dir=tmp_path / "run")  # fmt: skip
    with pytest.raises(ValueError, match=words):
        train_run(request)
    assert not (tmp_path / "run").exists()


def test_steps_of_several_iterations_are_refused(
    options: dict[str, object], tmp_path: Path
) -> None:
    config = tmp_path / "old.py"
    config.write_text(
        f'_base_ = ["{ROOT / CONFIG}"]\noptim_wrapper = dict(accumulative_counts=2)\n'
    )
    command = tool("train", config, "--work-dir", tmp_path / "run", *words(options))
    assert "leave it out and set total_batch" in run(command, code=2)
