"""Whether mmcv's operators run on the GPU is tried once, in a process of its own, and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmcv.ops")
from pe_dense.openmmlab import compiled_operators

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a GPU and compiled operators; what is tried, and the file of the answer."""
    module = tmp_path / "_ext.so"  # the set-up compiles none
    module.write_bytes(b"compiled")
    monkeypatch.setattr(compiled_operators, "compiled_file", lambda: module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "card A")
    monkeypatch.setattr(compiled_operators, "ANSWER", tmp_path / "answer.json")
    tried = []
    monkeypatch.setattr(compiled_operators, "run_trial", lambda device: tried.append(1) or "broken")
    compiled_operators.problem_on.cache_clear()
    yield tried
    compiled_operators.problem_on.cache_clear()


def ask_again() -> str:
    """The answer of another process."""
    compiled_operators.problem_on.cache_clear()
    return compiled_operators.problem_on("cuda")


def test_the_answer_is_kept_for_other_processes(machine) -> None:
    assert ask_again() == ask_again() == "broken"
    assert machine == [1]
    assert json.loads(compiled_operators.ANSWER.read_text())["cuda"]["problem"] == "broken"


def test_another_gpu_or_a_damaged_file_is_tried_again(machine, monkeypatch) -> None:
    assert ask_again() == "broken"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "card B")
    monkeypatch.setattr(compiled_operators, "run_trial", lambda device: machine.append(2) or "")
    assert ask_again() == ""
    assert compiled_operators.work_on("cuda")
    compiled_operators.ANSWER.write_text("[]")
    assert ask_again() == ""
    assert machine == [1, 2, 2]


def test_a_folder_that_cannot_be_written_is_no_error(machine, monkeypatch) -> None:
    monkeypatch.setattr(compiled_operators, "ANSWER", Path("/proc/no/answer.json"))
    assert ask_again() == "broken"


@pytest.mark.parametrize(
    "problem",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB",
        "the interpreter crashed with signal 9",
        "no answer within 300 s",
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    ],
)
def test_what_passes_is_not_kept(machine, monkeypatch, problem: str) -> None:
    """Another job's memory must not turn the operators off for good."""
    monkeypatch.setattr(compiled_operators, "run_trial", lambda device: problem)
    assert ask_again() == problem and not compiled_operators.ANSWER.exists()
    monkeypatch.setattr(compiled_operators, "run_trial", lambda device: "")
    assert ask_again() == ""
    assert json.loads(compiled_operators.ANSWER.read_text())["cuda"]["problem"] == ""


def test_without_compiled_operators_nothing_is_tried(machine, monkeypatch) -> None:
    monkeypatch.setattr(compiled_operators, "compiled_file", lambda: None)
    assert ask_again() == "mmcv has no compiled operators"
    assert machine == []


def test_without_a_gpu_nothing_is_tried(machine, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ask_again() == "torch finds no CUDA device"
    assert machine == []


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("pass", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with signal 11"),
        ("raise RuntimeError('no kernel image')", "RuntimeError: no kernel image"),
        ("import sys; sys.exit(1)", "no message"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_a_trial_that_fails_says_how(monkeypatch, program: str, problem: str) -> None:
    monkeypatch.setattr(compiled_operators, "TRIAL", program)
    if "sleep" in program:
        monkeypatch.setattr(compiled_operators, "SECONDS", 1)
    found = compiled_operators.run_trial("cpu")
    assert problem in found
    assert bool(problem) == bool(found)


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [("off", "PE_DENSE_OPERATORS=off"), ("on", ValueError), ("maybe", ValueError)],
)
def test_the_environment_decides(machine, monkeypatch, wanted: str, answer) -> None:
    monkeypatch.setenv(compiled_operators.VARIABLE, wanted)
    if answer is ValueError:
        with pytest.raises(ValueError, match=f"PE_DENSE_OPERATORS={wanted}"):
            ask_again()
    else:
        assert ask_again() == answer


def test_as_a_program_it_prints_the_answer() -> None:
    command = [sys.executable, "-m", "pe_dense.openmmlab.compiled_operators"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout.startswith("mmcv's compiled operators on cpu: ")


def test_as_a_program_it_refuses_in_one_sentence(monkeypatch, capsys) -> None:
    monkeypatch.setenv(compiled_operators.VARIABLE, "maybe")
    compiled_operators.problem_on.cache_clear()
    assert compiled_operators.main() == 2
    told = capsys.readouterr().err
    assert told == "error: PE_DENSE_OPERATORS=maybe is none of auto, on, off\n"


def test_nothing_asks_mmcv_for_its_cuda_version(monkeypatch) -> None:
    """It crashed the interpreter in one build; neither we nor the start of a run call it."""
    from mmcv import ops
    from mmcv.ops import info
    from mmengine.utils.dl_utils import collect_env

    def forbidden() -> str:
        raise AssertionError("asked for mmcv's CUDA version")

    for module in (ops, info):
        monkeypatch.setattr(module, "get_compiling_cuda_version", forbidden)
    collect_env()
    ours = [*(REPO / "pe_dense").rglob("*.py"), *(REPO / "tools").rglob("*.py")]
    assert len(ours) > 100
    name = "get_compiling_" + "cuda_version"
    assert [path for path in ours if name in path.read_text(encoding="utf-8")] == []


def test_records_name_compiled_operators_alone(monkeypatch) -> None:
    monkeypatch.setattr(compiled_operators, "problem_on", lambda device: "")
    assert compiled_operators.used_in_words("cpu") == "mmcv's compiled ones"
    monkeypatch.setattr(compiled_operators, "problem_on", lambda device: "none are here")
    assert compiled_operators.used_in_words("cpu") is None
    monkeypatch.setattr(compiled_operators, "problem_on", lambda device: "")
    monkeypatch.delitem(sys.modules, "mmcv.ops")
    assert compiled_operators.used_in_words("cpu") is None
