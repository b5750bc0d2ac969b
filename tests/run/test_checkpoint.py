"""Files that are whole or not there, and checkpoints that are read without running code."""

from __future__ import annotations

import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("mmengine")

from mmengine.fileio import get_file_backend
from mmengine.runner.checkpoint import CheckpointLoader

from pe_dense.run.checkpoint import (
    AtomicLocalBackend,
    install,
    load_checkpoint_safely,
    load_strictly,
    newest_checkpoint,
    remove_unfinished,
)

# Files


@pytest.fixture(autouse=True)
def installed() -> None:
    install()


def test_mmengine_writes_whole_files_only_once_it_is_told_to(tmp_path: Path) -> None:
    assert isinstance(get_file_backend(str(tmp_path / "epoch_1.pth")), AtomicLocalBackend)
    code = (
        "import pe_dense.run.resume, pe_dense.run.training, pe_dense.run.evaluation\n"
        "from mmengine.fileio import get_file_backend, LocalBackend\n"
        "assert type(get_file_backend('epoch_1.pth')) is LocalBackend\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_put_writes_and_replaces(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "a.bin"
    AtomicLocalBackend().put(b"first", file)
    AtomicLocalBackend().put(b"second", str(file))
    assert file.read_bytes() == b"second"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"old")

    def fail(*args: object) -> None:
        assert file.read_bytes() == b"old", "the old file was touched before the new one was whole"
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(type(error)):
            AtomicLocalBackend().put(b"new", file)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_files_have_the_usual_mode(tmp_path: Path) -> None:
    """Checkpoints in a shared folder stay readable for those whom the umask lets read."""
    AtomicLocalBackend().put(b"x", tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes(b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.bin", "b.bin")]
    assert modes[0] == modes[1]


# Reading checkpoints


class RunsCode:
    """Pickles into a call that makes a folder when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def test_a_whole_checkpoint_is_read(tmp_path: Path) -> None:
    file = tmp_path / "epoch_1.pth"
    content = {"state_dict": {"a": torch.arange(3.0)}, "meta": {"epoch": 1, "seed": np.float64(0)}}
    torch.save(content, file)
    for read in (load_checkpoint_safely, CheckpointLoader.load_checkpoint):
        found = read(str(file), map_location="cpu")
        assert torch.equal(found["state_dict"]["a"], torch.arange(3.0))
        assert found["meta"]["epoch"] == 1


@pytest.mark.parametrize("function", [Path.mkdir, os.mkdir, os.system], ids=lambda f: f.__name__)
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(
    tmp_path: Path, function: object
) -> None:
    target = tmp_path / "made"
    argument = {os.system: f"mkdir {target}", os.mkdir: str(target)}.get(function, target)
    file = tmp_path / "evil.pth"
    torch.save({"state_dict": {}, "meta": RunsCode(function, argument)}, file)
    for read in (load_checkpoint_safely, CheckpointLoader.load_checkpoint):
        with pytest.raises(ValueError, match="evil.pth holds objects that could run code"):
            read(str(file), map_location="cpu")
        assert not target.exists()
    # The file does what it says: the ordinary reader runs the code.
    torch.load(file, weights_only=False)
    assert target.exists()


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        cut,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"this is no checkpoint" * 9),
        lambda path: path.write_bytes(b"\x80\x02}q\x00."[:4]),
    ],
    ids=["half", "empty", "text", "half a pickle"],
)
def test_damaged_checkpoint(tmp_path: Path, spoil: object) -> None:
    file = tmp_path / "epoch_2.pth"
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, file)
    spoil(file)
    with pytest.raises(ValueError, match="epoch_2.pth is damaged.*earlier one") as error:
        load_checkpoint_safely(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["absent.pth", "."])
def test_missing_checkpoint(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="does not exist; give a .pth file"):
        load_checkpoint_safely(str(tmp_path / name))


def test_a_work_dir_that_is_called_otherwise_is_named(tmp_path: Path) -> None:
    run = tmp_path / "linear_custom-pe_spatial_t16_512-random"
    run.mkdir()
    with pytest.raises(ValueError, match="give a .pth file"):  # nothing is in it
        load_checkpoint_safely(str(tmp_path / "linear_custom"))
    (run / "iter_4.pth").touch()
    with pytest.raises(ValueError, match=re.escape(f"did you mean {run}?")):
        load_checkpoint_safely(str(tmp_path / "linear_custom"))


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, [1, 2], torch.zeros(3)])
def test_file_of_another_kind(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="w.pth has no 'state_dict'.*--weights"):
        load_checkpoint_safely(str(tmp_path / "w.pth"))


def test_plain_pickle_is_not_unpickled(tmp_path: Path) -> None:
    target = tmp_path / "made"
    (tmp_path / "p.pth").write_bytes(pickle.dumps(RunsCode(os.mkdir, str(target))))
    with pytest.raises(ValueError, match="p.pth"):
        load_checkpoint_safely(str(tmp_path / "p.pth"))
    assert not target.exists()


# Loading into a model


class Head(nn.Module):
    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.trunk = nn.Linear(width, width)
        self.cls_branches = nn.ModuleList([nn.Linear(width, num_classes)])


def test_a_fitting_checkpoint_is_loaded() -> None:
    source, target = Head(3), Head(3)
    load_strictly(target, {"state_dict": source.state_dict()}, "epoch_1.pth")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters()))


def refusal(model: nn.Module, state: dict) -> str:
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="checkpoint epoch_1.pth does not fit the model") as error:
        load_strictly(model, {"state_dict": state}, "epoch_1.pth")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    message = str(error.value)
    assert "\n" not in message and "--cfg-options" in message
    return message


def test_missing_and_unexpected_keys_are_listed() -> None:
    state = Head(3).state_dict()
    del state["trunk.weight"]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    message = refusal(Head(3), state)
    assert "missing: trunk.weight;" in message
    assert "unexpected: extra.0, extra.1, extra.2 and 2 more" in message
    assert "classes" not in message


def test_another_number_of_classes_is_said_in_words() -> None:
    message = refusal(Head(3), Head(80).state_dict())
    assert "the checkpoint has 80 classes and the config 3" in message
    assert "reshaped: cls_branches.0.bias, cls_branches.0.weight" in message.replace(
        "cls_branches.0.weight, cls_branches.0.bias", "cls_branches.0.bias, cls_branches.0.weight"
    )


def test_another_width_is_not_called_another_number_of_classes() -> None:
    assert "classes and the config" not in refusal(Head(3, width=4), Head(3, width=8).state_dict())


# Which checkpoint a run goes on from


def test_newest_checkpoint_by_number_whatever_the_note_says(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for name in ("epoch_2.pth", "epoch_10.pth", "epoch_9.pth", "best_AP.pth", ".epoch_11.pth.x"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text("")  # as a kill can leave it
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch_10.pth"
    remove_unfinished(tmp_path)
    assert not (tmp_path / ".epoch_11.pth.x").exists()
    assert (tmp_path / "epoch_9.pth").exists()
