"""A file that calls eval through the real `getattr`, which MMEngine's list of safe objects has.

`getattr(getattr, '__self__')` is the module builtins. Whatever reads a file must refuse it, or skip
the object, and run nothing, wherever in the file it hides.
"""

from __future__ import annotations

import os
import re
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
    "under a second model": lambda good, bad: {"model": {"model": {"a": torch.zeros(1), "b": bad}}},
    "under weights": lambda good, bad: {"weights": {"a": torch.zeros(1), "b": bad}},
    "in a group of an optimizer": lambda good, bad: {
        **good, "optimizer": {"state": {}, "param_groups": [{"lr": bad, "params": [0]}]}
    },
    "in a scheduler": lambda good, bad: {**good, "param_schedulers": [{"last_step": bad}]},
    "in averaged weights": lambda good, bad: {**good, "ema_state_dict": {"module.x": bad}},
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


FOLDERS = {"segmentation": "ade", "detection": "coco", "depth": "nyu", "tracking": "davis"}
CACHED = """
custom_imports = dict(imports=["pe_dense.alignment", "pe_dense.data.unlabelled_images"])
train_dataloader = dict(dataset=dict(type="UnlabelledImages", data_root={images!r}))
model = dict(teachers=[dict(type="CachedTeacher", name="core", folder={folder!r} + "/cache",
    grid_hw=(4, 4), image_hw=(64, 64), teacher=dict(type="EncoderTeacher",
    encoder="pe_spatial_t16_512", weights={file!r}, layer=9))])
"""
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
        f"tools/test.py {CONFIG} LAST --no-record",
        "tools/test.py configs/tracking/bytetrack_pe_t16_mini.py FILE --no-record",
        "tools/test.py configs/tracking/mini_v1.py --weights FILE --no-record --work-dir NEW",
        f"tools/visualize.py segment {CONFIG} FILE --out NEW",
        "tools/visualize.py detect configs/detection/atss_pe_t16_mini.py FILE --out NEW",
        "tools/visualize.py depth configs/depth/linear_pe_t16_mini.py FILE --out NEW",
        "tools/visualize.py features pe_spatial_t16_512 --weights FILE --image PICTURE --out NEW",
        "tools/visualize.py attention pe_spatial_t16_512 --weights FILE --image PICTURE --out NEW",
        "tools/cache_teacher.py CACHED",
        "tools/export_student.py FILE NEW/student.safetensors",
        "tools/convert_weights.py FILE NEW/out.pth --to ours",
    ],
)
def test_no_tool_runs_it(tmp_path: Path, mini_root: Path, command: str) -> None:
    file = forged(tmp_path, "in meta")
    (tmp_path / "last_checkpoint").write_text(str(file))
    images = mini_root / "ade/images/validation"
    (tmp_path / "cached.py").write_text(
        CACHED.format(file=str(file), folder=str(tmp_path), images=str(images))
    )
    words = {
        "FILE": str(file),
        "WORK": str(tmp_path),
        "NEW": str(tmp_path / "new"),
        "LAST": str(tmp_path / "last_checkpoint"),
        "PICTURE": str(min(images.iterdir())),
        "CACHED": str(tmp_path / "cached.py"),
    }
    for word, value in words.items():
        command = command.replace(word, value)
    asked = [sys.executable, *command.split()]
    config = next((word for word in asked if word.startswith("configs/")), None)
    if config is not None:
        if "--cfg-options" not in asked:
            asked.append("--cfg-options")
        folder = FOLDERS[config.split("/")[1]] if "bytetrack" not in config else "mot/test"
        asked.append(f"data_root={mini_root / folder}")
    done = subprocess.run(
        asked, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert not (tmp_path / "made").exists()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"epoch_9\.pth|last_checkpoint", done.stderr.strip().splitlines()[-1])


class MakesAFolder:
    """Pickles into a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def objects(folder: Path) -> np.ndarray:
    """An array of objects, which NumPy stores as a pickle."""
    return np.array([MakesAFolder(folder), None], dtype=object)


def test_the_array_does_what_it_says(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", objects(tmp_path / "made"))
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / "made").exists()


def test_evidence_is_not_unpickled(tmp_path: Path) -> None:
    from pe_dense.pixelwise.mean_iou import counts_evidence
    from pe_dense.results.evidence_file import evidence_bytes, load_content, load_evidence

    counts_N3K = np.ones((2, 3, 1), np.int64)
    good = tmp_path / "good.npz"
    good.write_bytes(evidence_bytes(counts_evidence(["a", "b"], ["sky"], counts_N3K)))
    with np.load(good) as file:
        arrays = {name: file[name] for name in file.files}
    for name in [*arrays, "one_more"]:
        np.savez(tmp_path / "bad.npz", **{**arrays, name: objects(tmp_path / "made")})
        for read in (load_evidence, load_content):
            with pytest.raises(ValueError, match=r"bad\.npz: not an evidence file, or damaged"):
                read(tmp_path / "bad.npz")
        assert not (tmp_path / "made").exists()


def test_a_teacher_cache_is_not_unpickled(tmp_path: Path) -> None:
    from pe_dense.alignment.teacher_cache import CacheSpec, TeacherCache

    cache = TeacherCache(tmp_path / "cache", CacheSpec({}, 3, (2, 2), (8, 8), "images", "code"))
    cache.write("0" * 64, torch.zeros(4, 3))
    np.save(cache.path_of("0" * 64), objects(tmp_path / "made"))
    with pytest.raises(ValueError, match="of the teacher cache is damaged"):
        cache.read("0" * 64)
    assert not (tmp_path / "made").exists()


def test_kept_pictures_are_not_unpickled(tmp_path: Path) -> None:
    from pe_dense.alignment.mini_captioned_images import MiniCaptionedImages

    MiniCaptionedImages(tmp_path, num_images=2, image_size=64)
    (file,) = tmp_path.glob("*.npz")
    np.savez(file, images=objects(tmp_path / "made"), captions=np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"is damaged .*delete it to draw it again"):
        MiniCaptionedImages(tmp_path, num_images=2, image_size=64)
    assert not (tmp_path / "made").exists()


def test_pictures_of_other_code_are_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pe_dense.alignment import mini_captioned_images as module

    first = module.MiniCaptionedImages(tmp_path, num_images=2, image_size=64)
    (file,) = tmp_path.glob("*.npz")
    np.savez(file, images=np.zeros((2, 64, 64, 3), np.uint8), captions=np.array(first.captions))
    assert not module.MiniCaptionedImages(tmp_path, num_images=2, image_size=64)[0]["inputs"].any()
    monkeypatch.setattr(module, "_drawing_code", lambda: "f" * 64)
    again = module.MiniCaptionedImages(tmp_path, num_images=2, image_size=64)
    assert torch.equal(again[0]["inputs"], first[0]["inputs"])
