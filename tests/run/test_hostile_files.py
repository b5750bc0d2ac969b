"""A file that calls eval through the real `getattr`, which MMEngine's list of safe objects has.

`getattr(getattr, '__self__')` is the module builtins. Whatever reads a file must refuse it, or skip
the object, and run nothing, wherever in the file it hides.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner.checkpoint import CheckpointLoader, get_torch_safe_globals

from pe_dense.detection.checkpoint_files import convert_file
from pe_dense.encoders.torch_file import Inert, read_torch_file
from pe_dense.encoders.weights import read_state_dict
from pe_dense.run.checkpoint import install, load_checkpoint_safely

ROOT = Path(__file__).resolve().parents[2]
GOOD = ROOT / "tests/golden/checkpoint_of_version_0_1.pth"


class Call:
    """Pickles into a call of `function` with `arguments`, which may be calls themselves."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.reduced

    def __call__(self) -> None:
        """Only so that pickle takes a call for a function."""


def hostile(folder: Path) -> Call:
    """Makes a folder when it is read."""
    evaluate = Call(getattr, Call(getattr, getattr, "__self__"), "eval")
    code = f"__import__('os').mkdir({str(folder)!r}) or __import__('torch').zeros(1)"
    return Call(torch._tensor._rebuild_from_type_v2, evaluate, torch.Tensor, (code,), {})


def content() -> dict[str, Any]:
    return load_checkpoint_safely(str(GOOD), "cpu")


PLACES: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "alone": lambda good, bad: bad,
    "in a list": lambda good, bad: [bad],
    "in meta": lambda good, bad: {**good, "meta": {**good["meta"], "note": bad}},
    "as meta": lambda good, bad: {**good, "meta": bad},
    "in the facts": lambda good, bad: {
        **good, "meta": {**good["meta"], "pe_dense": {**good["meta"]["pe_dense"], "canvas": bad}}
    },
    "a parameter": lambda good, bad: {**good, "state_dict": {**good["state_dict"], "x": bad}},
    "in an optimizer": lambda good, bad: {**good, "optimizer": {"state": {0: {"step": bad}}}},
    "in a history": lambda good, bad: {**good, "message_hub": {"log_scalars": {"loss": bad}}},
    "under model": lambda good, bad: {"model": {"a": torch.zeros(1), "b": bad}},
    "beside model": lambda good, bad: {"model": {"a": torch.zeros(1)}, "trainer": bad},
    "deep": lambda good, bad: {**good, "x": {"y": [({"z": (bad,)},)]}},
    "a key": lambda good, bad: {**good, (1, bad): 0},
}  # fmt: skip


@pytest.fixture(autouse=True)
def installed() -> None:
    install()


def forged(tmp_path: Path, place: str, name: str = "epoch_9.pth", **options: Any) -> Path:
    file = tmp_path / name
    torch.save(PLACES[place](content(), hostile(tmp_path / "made")), file, **options)
    return file


def test_the_file_does_what_it_says(tmp_path: Path) -> None:
    """The control: with the real `getattr` allowed, torch's reader runs the code."""
    file = forged(tmp_path, "in meta")
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        torch.load(file, weights_only=True)
    assert (tmp_path / "made").exists()


READERS: list[Callable[[Path], Any]] = [
    lambda file: load_checkpoint_safely(str(file), "cpu"),
    lambda file: CheckpointLoader.load_checkpoint(str(file), "cpu"),
    read_state_dict,
    read_torch_file,
    lambda file: convert_file(str(file), file.with_name("out.pth"), "ours"),
]


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "old format"])
@pytest.mark.parametrize("place", PLACES)
def test_no_reader_runs_it(tmp_path: Path, place: str, archive: bool) -> None:
    file = forged(tmp_path, place, _use_new_zipfile_serialization=archive)
    for read in READERS:
        with pytest.raises(ValueError, match=r"epoch_9.pth|damaged|other than tensors"):
            read(file)
        assert not (tmp_path / "made").exists()


def test_a_history_cannot_change_its_class(tmp_path: Path) -> None:
    """MMEngine's HistoryBuffer writes what a file says into the table that all of them share."""
    before = dict(HistoryBuffer._statistics_methods)
    history = HistoryBuffer([1.0, 2.0], [1, 3], 100)
    history.__dict__["statistics_methods"] = {"mean": print, "new": print}
    changed = content()
    changed["message_hub"]["log_scalars"] = {"train/loss": history}
    torch.save(changed, tmp_path / "a.pth")
    HistoryBuffer._statistics_methods.clear()
    HistoryBuffer._statistics_methods.update(before)
    loaded = load_checkpoint_safely(str(tmp_path / "a.pth"))["message_hub"]["log_scalars"]
    assert before == HistoryBuffer._statistics_methods
    assert loaded["train/loss"].data[0].tolist() == [1.0, 2.0]
    assert loaded["train/loss"].mean() == pytest.approx((1 + 2) / 4)


def test_histories_and_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    hub = MessageHub.get_instance("hostile")
    for step in range(5):
        hub.update_scalar("train/loss", 0.5 * step, 2)
    hub.update_info("best_score", np.float64(0.25))
    hub.update_info("curve", np.arange(6, dtype=np.float32).reshape(2, 3))
    torch.save({"state_dict": {}, "meta": {}, "message_hub": hub.state_dict()}, tmp_path / "a.pth")
    loaded = load_checkpoint_safely(str(tmp_path / "a.pth"))["message_hub"]
    again = MessageHub.get_instance("hostile again")
    again.load_state_dict(loaded)
    for one, other in zip(
        again.get_scalar("train/loss").data, hub.get_scalar("train/loss").data, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert loaded["runtime_info"]["best_score"] == 0.25
    np.testing.assert_array_equal(
        loaded["runtime_info"]["curve"], hub.get_info("curve"), strict=True
    )


def test_an_array_of_objects_is_none(tmp_path: Path) -> None:
    torch.save({"a": np.array([print, 1], dtype=object)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="other than tensors"):
        read_torch_file(tmp_path / "a.pth")
    torch.save({"a": np.array(["text", 1], dtype=object)}, tmp_path / "b.pth")
    assert isinstance(read_torch_file(tmp_path / "b.pth")["a"], Inert)
    with pytest.raises(ValueError, match="no number at meta.a"):
        torch.save({"state_dict": {}, "meta": {"a": np.array(["x"], object)}}, tmp_path / "c.pth")
        load_checkpoint_safely(str(tmp_path / "c.pth"))


def test_a_config_in_the_meta_is_dropped(tmp_path: Path) -> None:
    """MMEngine's Runner executes 'config' of the meta as Python when it resumes."""
    changed = content()
    changed["meta"]["config"] = f"import os; os.mkdir({str(tmp_path / 'made')!r})"
    torch.save(changed, tmp_path / "a.pth")
    assert "config" not in load_checkpoint_safely(str(tmp_path / "a.pth"))["meta"]


@pytest.mark.parametrize(
    "address",
    ["https://x.y/a.pth", "http://x.y/a.pth", "open-mmlab://a", "torchvision://a", "s3://a"],
)
def test_addresses_are_not_read(address: str) -> None:
    with pytest.raises(ValueError, match="is an address, and only files are read"):
        CheckpointLoader.load_checkpoint(address)


CONFIG = "configs/segmentation/linear_pe_t16_mini.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        f"tools/train.py {CONFIG} --work-dir WORK --resume",
        f"tools/train.py {CONFIG} --work-dir NEW --cfg-options load_from=FILE",
        f"tools/train.py {CONFIG} --work-dir NEW --weights FILE",
        f"tools/test.py {CONFIG} FILE --no-record",
        f"tools/test.py {CONFIG} WORK --no-record",
        f"tools/visualize.py segment {CONFIG} FILE --out NEW",
        "tools/export_student.py FILE NEW/student.safetensors",
        "tools/convert_weights.py FILE NEW/out.pth --to ours",
    ],
)
def test_no_tool_runs_it(tmp_path: Path, mini_root: Path, command: str) -> None:
    file = forged(tmp_path, "in meta")
    (tmp_path / "last_checkpoint").write_text(str(file))
    words = {"FILE": str(file), "WORK": str(tmp_path), "NEW": str(tmp_path / "new")}
    for word, value in words.items():
        command = command.replace(word, value)
    asked = [sys.executable, *command.split()]
    if "configs/" in command:
        if "--cfg-options" not in asked:
            asked.append("--cfg-options")
        asked.append(f"data_root={mini_root / 'ade'}")
    done = subprocess.run(
        asked, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert not (tmp_path / "made").exists()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch_9.pth" in done.stderr.strip().splitlines()[-1]
