"""Which device a run takes, on machines that this one is not."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.device import utils as mmengine_device

from pe_dense.openmmlab import compiled_operators, devices
from pe_dense.run.launch import use_device


@pytest.fixture
def machine(monkeypatch):
    """Puts a GPU of a kind into this machine, as far as questions go."""

    def have(kind: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
        monkeypatch.setattr(torch.xpu, "is_available", lambda: kind == "xpu")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")

    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.setattr(mmengine_device, "DEVICE", mmengine_device.DEVICE)  # put back afterwards
    return have


def run_config(launcher: str) -> Config:
    return Config(dict(launcher=launcher, env_cfg=dict(dist_cfg={})))


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps", "cpu"])
def test_a_run_takes_the_gpu_that_is_there(machine, kind: str) -> None:
    machine(kind)
    assert devices.device_of_machine() == kind
    cfg = run_config("none")
    use_device(cfg)
    assert get_device() == kind  # where MMEngine's Runner puts the model
    assert cfg.env_cfg.dist_cfg.backend == ("nccl" if kind == "cuda" else "gloo")


def test_the_gpu_can_be_left_alone(machine, monkeypatch) -> None:
    machine("mps")
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.device_of_machine() == "cpu"
    monkeypatch.setenv(devices.VARIABLE, "mps")
    assert devices.device_of_machine() == "mps"
    monkeypatch.setenv(devices.VARIABLE, "cuda")
    with pytest.raises(ValueError, match="PE_DENSE_DEVICE=cuda, but torch finds mps"):
        devices.device_of_machine()


def test_operators_that_are_not_there_are_refused_before_anything_is_trained(
    machine, monkeypatch
) -> None:
    machine("cpu")
    monkeypatch.setattr(compiled_operators, "state_of_this_machine", lambda device: None)
    said = dict(maybe="none of auto, on, off", on="on, but mmcv has no compiled operators on cpu")
    for wanted in ("maybe", "on", "off", "auto", ""):
        monkeypatch.setenv(compiled_operators.VARIABLE, wanted)
        compiled_operators.problem_on.cache_clear()
        if wanted in said:
            with pytest.raises(ValueError, match=said[wanted]):
                use_device(run_config("none"))
        else:
            use_device(run_config("none"))
    compiled_operators.problem_on.cache_clear()


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_several_processes_are_refused_elsewhere_than_on_cuda(machine, kind: str) -> None:
    machine(kind)
    with pytest.raises(ValueError, match=f"needs CUDA devices, and this machine has '{kind}'"):
        use_device(run_config("pytorch"))


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_mmcv_has_no_operators_there(machine, kind: str) -> None:
    assert not compiled_operators.work_on(kind)
    assert compiled_operators.problem_on(kind) == "mmcv compiles none for this device"
