"""Sharded training equals plain distributed training, and leaves the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

pytest.importorskip("mmengine")

from mmengine.config import Config

from pe_dense.run.checkpoint import load_checkpoint_safely
from pe_dense.run.config import load_config
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.sharding import Sharding, find_blocks, sharding_of

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/detection/deta_pe_t16_mini.py"
# AdamW divides a gradient by its own size: where it is nearly 0, its rounding moves a weight by a
# share of the step, 1e-3 here. Sharded sums are rounded in another order.
WEIGHTS_ATOL = 3e-5


@pytest.fixture(scope="module")
def runs(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/sharded_runs.py leaves: a folder for each training."""
    out = tmp_path_factory.mktemp("runs")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        str(ROOT / "tests" / "sharded_runs.py"), str(mini_root / "coco"), str(out),
    ]  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return out


def logged(runs: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((runs / name / f"rank{rank}.json").read_text())


def content(runs: Path, name: str, epoch: int = 2) -> dict[str, Any]:
    return load_checkpoint_safely(str(runs / name / f"epoch_{epoch}.pth"), "cpu")


def assert_same(first: Any, second: Any, atol: float, path: str = "") -> None:
    """The same keys in the same order, types, shapes and, within `atol`, numbers."""
    assert type(first) is type(second), path
    if isinstance(first, Mapping):
        assert list(first) == list(second), path
        for key in first:
            assert_same(first[key], second[key], atol, f"{path}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), path
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, atol, f"{path}/{number}")
    elif isinstance(first, Tensor):
        assert first.stride() == second.stride() and first.dtype == second.dtype, path
        torch.testing.assert_close(first, second, atol=atol, rtol=0, msg=path)
    else:
        close = pytest.approx(second, rel=1e-6) if isinstance(second, float) else second
        assert first == close, path


NUMBERS = ("state_dict", "optimizer", "param_schedulers", "ema_state_dict")


@pytest.mark.slow
def test_sharded_training_equals_plain_training(runs: Path) -> None:
    """Encoder with recomputed blocks, layer-wise rates, moving average, evaluation in between."""
    plain, sharded = content(runs, "plain"), content(runs, "sharded")
    assert plain.keys() == sharded.keys() >= set(NUMBERS)
    for name in NUMBERS:
        assert_same(plain[name], sharded[name], WEIGHTS_ATOL, name)
    start = content(runs, "plain", 1)["state_dict"]
    key = "backbone.encoder.transformer.resblocks.0.mlp.c_fc.weight"
    assert (plain["state_dict"][key] - start[key]).abs().max() > 1e-4  # there was something to see
    for rank in range(2):
        first, second = (logged(runs, name, rank) for name in ("plain", "sharded"))
        for name in ("loss", "grad_norm"):
            assert first[name] == pytest.approx(second[name], rel=1e-5)
    facts = [c["meta"]["pe_dense"]["protocol_sha256"] for c in (plain, sharded)]
    assert facts[0] == facts[1]


@pytest.mark.slow
def test_each_process_holds_its_share(runs: Path) -> None:
    shares = [logged(runs, "sharded", rank) for rank in range(2)]
    for name in ("kept", "moments"):
        assert sum(share[name] for share in shares) == shares[0]["all"]
        assert abs(shares[0][name] - shares[1][name]) < 0.01 * shares[0]["all"]
    assert logged(runs, "plain")["kept"] == shares[0]["all"]


@pytest.mark.slow
def test_resuming_goes_on_exactly_and_also_without_shards(runs: Path) -> None:
    sharded, resumed = content(runs, "sharded"), content(runs, "resumed")
    plain = content(runs, "resumed_plain")
    for name in NUMBERS:
        assert_same(sharded[name], resumed[name], 0.0, name)
        assert_same(sharded[name], plain[name], WEIGHTS_ATOL, name)
    assert logged(runs, "resumed") == logged(runs, "sharded")


@pytest.mark.slow
def test_updates_beside_frozen_weights_are_sharded_too(runs: Path) -> None:
    """LoRA, with averaged weights and recomputed blocks."""
    pytest.importorskip("peft")
    sharded, plain = content(runs, "updates", 1), content(runs, "updates_plain", 1)
    for name in NUMBERS:
        assert_same(plain[name], sharded[name], WEIGHTS_ATOL, name)
    updates = [v for k, v in sharded["state_dict"].items() if ".lora_B." in k]
    assert updates and all(value.abs().max() > 0 for value in updates)


@pytest.mark.slow
def test_fine_tuning_in_bfloat16_from_the_memory_of_the_host(runs: Path) -> None:
    """Starts from a whole checkpoint without its class branches, which are as initialised.

    Blocks are gathered in the type that autocast computes in.
    """
    first, second = logged(runs, "tuned"), logged(runs, "tuned_plain")
    # The first step differs by no more than an order of summation. Rounding to bfloat16 then makes
    # small differences of weights larger.
    assert first["loss"][0] == pytest.approx(second["loss"][0], rel=1e-6)
    assert first["grad_norm"][0] == pytest.approx(second["grad_norm"][0], rel=1e-5)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
    start = logged(runs, "sharded")["loss"][0]
    assert abs(first["loss"][0] - start) > 0.1  # not from random weights
    sharded, plain = content(runs, "tuned", 1), content(runs, "tuned_plain", 1)
    assert sharded["meta"]["pe_dense"]["start_from"]["source"] == "epoch_2.pth"
    for key, value in sharded["state_dict"].items():
        assert value.dtype == plain["state_dict"][key].dtype
        assert value.shape == plain["state_dict"][key].shape


@pytest.mark.slow
def test_awkward_parameters_and_batches(runs: Path) -> None:
    """A scalar, a frozen block, a parameter unused on one process, both kinds of clipping."""
    checks = json.loads((runs / "checks.json").read_text())
    assert checks["toy"] == []
    assert "val_dataloader gives 2 to 3 batches" in checks["uneven"]
    assert "round_up=True" in checks["uneven"]


# Settings


def config(sharding: Any, amp_dtype: str | None = None, **more: Any) -> Config:
    return Config(dict(sharding=sharding, model=dict(backbone=dict(amp_dtype=amp_dtype)), **more))


def test_a_launched_run_is_sharded_and_one_process_is_not() -> None:
    assert sharding_of(config({}), "pytorch") == Sharding()
    assert sharding_of(config({}), "none") is None
    assert sharding_of(config(None), "pytorch") is None
    assert sharding_of(Config(dict(model={})), "slurm") is None
    found = sharding_of(config(dict(param_dtype="bfloat16"), "bfloat16"), "slurm")
    assert found == Sharding(param_dtype="bfloat16")


@pytest.mark.parametrize(
    ("cfg", "launcher", "words"),
    [
        (config(dict(block="x")), "pytorch", "sharding=.*blocks, cpu_offload, param_dtype"),
        (config(True), "pytorch", "sharding=True"),
        (config(dict(param_dtype="float16")), "pytorch", "loss scaling"),
        (config(dict(param_dtype="bfloat16")), "pytorch", "amp_dtype is None; add --amp"),
        (config(dict(cpu_offload=True)), "none", "cpu_offload works in launched runs.*torchrun"),
        (config(dict(param_dtype="bfloat16"), "bfloat16"), "none", "param_dtype works in launched"),
        (config({}, model_wrapper_cfg=dict(type="X")), "pytorch", "model_wrapper_cfg"),
    ],
)
def test_wrong_settings_are_one_sentence(cfg: Config, launcher: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        sharding_of(cfg, launcher)
    assert "\n" not in str(caught.value)


def test_an_older_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FSDPModule, "set_reduce_scatter_unused_params")
    with pytest.raises(ValueError, match=r"torch 2\.13.*sharding=None"):
        sharding_of(config({}), "pytorch")
    assert sharding_of(config(None), "pytorch") is None


def test_blocks_are_found_by_name_or_size() -> None:
    model = nn.Module()
    model.backbone, model.neck = nn.Module(), nn.Sequential(nn.Linear(99, 99))
    model.backbone.stem = nn.Sequential(nn.Linear(2, 2))
    model.backbone.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
    assert find_blocks(model, None) == ("backbone.blocks", list(model.backbone.blocks))
    assert find_blocks(model, "backbone.stem")[1] == list(model.backbone.stem)
    with pytest.raises(ValueError, match="no list of modules backbone.layers; it has.*neck"):
        find_blocks(model, "backbone.layers")
    with pytest.raises(ValueError, match="it has none"):
        find_blocks(nn.Linear(1, 1), None)


def test_the_base_config_shards_and_keeps_the_protocol(tmp_path: Path) -> None:
    file = tmp_path / "sharded.py"
    file.write_text(f'_base_ = ["{CONFIG}", "{ROOT / "configs/_base_/sharded.py"}"]\n')
    cfg, template = load_config(file)
    assert sharding_of(cfg, "pytorch") == Sharding()
    assert protocol_sha256(template) == protocol_sha256(load_config(CONFIG)[1])
    cfg, template = load_config(file, options={"sharding.cpu_offload": True})
    assert sharding_of(cfg, "pytorch") == Sharding(cpu_offload=True)
    assert sharding_of(load_config(file, options={"sharding": None})[0], "pytorch") is None
