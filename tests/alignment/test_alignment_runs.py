"""Alignment as a user runs it: killed and resumed, on two processes, sharded, exported, stopped.

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

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/alignment/spatial_align_t16_mini.py"
PLAIN_VIEWS = "[{'type':'AspectJitterResize','size':(64,64),'ratio':(1,1)},{'type':'PackImages'}]"


@pytest.fixture(scope="module")
def options(mini_root: Path) -> dict[str, object]:
    return {
        "data_root": mini_root / "coco",
        "probe_root": mini_root / "ade",
        "video_root": mini_root / "davis",
        "crop_size": "(64,64)",
        "batch_size": 4,
        "accumulation": 2,
        "max_iters": 8,
        "checkpoint_interval": 2,
        "probe_interval": 4,
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
    return load_checkpoint_safely(str(work_dir / f"iter_{options['max_iters']}.pth"))


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
    assert not (work_dir / f"iter_{options['max_iters']}.pth").exists()
    run(command)
    resumed = last(work_dir, options)
    assert alike(whole["state_dict"], resumed["state_dict"])
    moments, others = (c["optimizer"]["state"] for c in (whole, resumed))
    assert moments.keys() == others.keys() and moments
    assert all(alike(moments[key], others[key]) for key in moments)
    facts, found = (c["meta"]["pe_dense"] for c in (whole, resumed))
    assert facts["alignment"] == found["alignment"]
    assert facts["student_scores"] == found["student_scores"]
    assert [entry["step"] for entry in facts["student_scores"]] == [0, 0, 4, 4, 8, 8]


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


# The same steps, on one process and on two

EQUAL = {
    "train_dataloader.dataset.pipeline": PLAIN_VIEWS,
    "max_iters": 4,
    "checkpoint_interval": 4,
    "param_scheduler": [],
    "lr": 5e-3,
}


@pytest.fixture(scope="module")
def one_process(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, object]
) -> tuple[dict, dict]:
    settings = {**options, **EQUAL}
    return settings, train(tmp_path_factory.mktemp("one") / "run", settings)


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_equal_one_with_the_same_batch(
    one_process: tuple[dict, dict], tmp_path: Path, sharded: bool
) -> None:
    settings, one = one_process
    config = CONFIG
    if sharded:
        config = str(tmp_path / "sharded.py")
        Path(config).write_text(f'_base_ = ["{ROOT / CONFIG}"]\nsharding = dict()\n')
    settings = {**settings, "batch_size": 2}
    arguments = [config, "--work-dir", tmp_path / "two", "--launcher", "pytorch"]
    run(tool("train", *arguments, *words(settings), torchrun=2))
    two = last(tmp_path / "two", settings)
    start = build_start(one)
    moved = max((one["state_dict"][k] - start[k]).abs().max().item() for k in start)
    gap = max((one["state_dict"][k] - v).abs().max().item() for k, v in two["state_dict"].items())
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert moved > 5e-3  # two steps of the optimiser have been made
    assert gap < moved / 100  # sums in another order, which the root of LAMB makes larger
    first, second = (c["meta"]["pe_dense"]["student_scores"] for c in (one, two))
    assert [e["step"] for e in first] == [e["step"] for e in second]
    for a, b in zip(first, second, strict=True):
        assert a["scores"] == pytest.approx(b["scores"], abs=0.02)
    assert two["meta"]["pe_dense"]["alignment"]["world_size"] == 2


def build_start(content: dict) -> dict:
    """Weights of another random tower; its norms start as those of the trained one did."""
    tower = build_encoder("pe_spatial_t16_512").state_dict()
    return {
        f"backbone.encoder.{key}": value
        for key, value in tower.items()
        if "ln_" in key and f"backbone.encoder.{key}" in content["state_dict"]
    }


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


def test_checkpoints_between_steps_are_refused(options: dict[str, object], tmp_path: Path) -> None:
    settings = {**options, "checkpoint_interval": 3}
    command = tool("train", CONFIG, "--work-dir", tmp_path / "run", *words(settings))
    assert "would lose gradients" in run(command, code=2)
