"""Where Triton kernels are used, and what is said where they cannot be."""

from __future__ import annotations

import sys

import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense import kernels

CPU = torch.zeros(3)


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> None:
    kernels._problem.cache_clear()
    yield
    kernels._problem.cache_clear()


class OnCuda:
    """What `use_kernels` asks of a tensor, on a device that this machine may lack."""

    is_cuda = True
    device = torch.device("cuda", 0)


def test_cpu_tensors_take_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    assert not kernels.use_kernels(CPU)
    assert not kernels.use_kernels(CPU, choice=False)


def test_an_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.VARIABLE, "yes")
    with pytest.raises(ValueError, match="PE_DENSE_KERNELS=yes is none of auto, on, off"):
        kernels.use_kernels(CPU)


def test_demanded_kernels_say_why_they_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ValueError, match="cannot run: triton cannot be imported"):
        kernels.use_kernels(CPU, choice=True)
    monkeypatch.setenv(kernels.VARIABLE, "on")
    with pytest.raises(ValueError, match="cannot run"):
        kernels.use_kernels(CPU)


def test_without_triton_cuda_tensors_take_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    assert not kernels.use_kernels(OnCuda())


@pytest.mark.parametrize("outcome", ["right", "wrong", "raises"])
def test_a_trial_decides_once_for_a_device(monkeypatch: pytest.MonkeyPatch, outcome: str) -> None:
    pytest.importorskip("triton")
    trial = pytest.importorskip("pe_dense.kernels.trial_kernel")
    calls = []

    def answer(device: torch.device) -> bool:
        calls.append(device)
        if outcome == "raises":
            raise RuntimeError("no compiler")
        return outcome == "right"

    monkeypatch.setattr(trial, "trial_is_right", answer)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    if outcome == "right":
        assert kernels.use_kernels(OnCuda())
    else:
        with pytest.warns(RuntimeWarning, match="the plain PyTorch form is used"):
            assert not kernels.use_kernels(OnCuda())
    assert kernels.use_kernels(OnCuda()) == (outcome == "right")
    assert calls == [OnCuda.device]
    monkeypatch.setenv(kernels.VARIABLE, "off")
    assert not kernels.use_kernels(OnCuda())


def test_the_trial_kernel_is_right_in_the_interpreter(interpreted: None) -> None:  # noqa: F811
    assert kernels.use_kernels(CPU)
    assert kernels.use_kernels(CPU, choice=True)
    assert not kernels.use_kernels(CPU, choice=False)


@pytest.mark.gpu
def test_kernels_are_used_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    assert kernels.use_kernels(CPU.cuda())
