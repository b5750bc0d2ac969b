"""Many pictures into a folder: what is broken, what was there, and what a kill leaves."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from picture_zoo import KINDS, ODD_SIZES, write_broken, write_zoo
from PIL import Image
from saved_models import Saved, save_untrained

from pe_dense.predict import folder_prediction
from pe_dense.predict.command import facts_of
from pe_dense.predict.journal import NAME, Journal
from pe_dense.predict.model import open_trained
from pe_dense.predict.predictor import Predictor

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def linear(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save_untrained("linear", tmp_path_factory.mktemp("linear"), mini_root / "ade")


@pytest.fixture(scope="module")
def deta(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save_untrained("deta", tmp_path_factory.mktemp("deta"), mini_root / "coco")


def index_of(out: Path) -> dict:
    return json.loads((out / "index.json").read_text())


def run_tool(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of the tool, in this process: to load OpenMMLab anew takes seconds."""
    tool = str(REPO / "tools" / "predict.py")
    monkeypatch.setattr(sys, "argv", [tool, *map(str, words)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(tool, run_name="__main__")
    return int(left.value.code or 0)


@pytest.mark.parametrize("name", ["linear", "depth", "deta"])
def test_every_kind_of_picture_and_broken_ones(mini_root: Path, tmp_path: Path, name: str) -> None:
    data = {"linear": "ade", "depth": "nyu", "deta": "coco"}[name]
    saved = save_untrained(name, tmp_path, mini_root / data)
    pictures = write_zoo(tmp_path / "in", len(KINDS) + 1)
    for number, (height, width) in enumerate(ODD_SIZES.values()):
        path = tmp_path / "in" / f"odd_{number}.png"
        Image.fromarray(np.full((height, width, 3), 100, np.uint8)).save(path)
        pictures.append(path)
    broken = write_broken(tmp_path / "in" / "bad", 12)
    outcome = saved.predict([tmp_path / "in"], tmp_path / "out", overlays=True, score_thr=0.0)
    assert outcome.predicted == len(pictures)
    assert set(outcome.failed) == set(map(str, broken))
    for file, reason in outcome.failed.items():
        assert reason and "\n" not in reason, file
    index = index_of(tmp_path / "out")
    assert {row["file"] for row in index["pictures"]} == set(map(str, pictures))
    assert [row["file"] for row in index["failed"]] == list(outcome.failed)
    for row in index["pictures"]:
        with Image.open(row["file"]) as picture:
            size = picture.size
        is_turned = name == "deta" and "turned" in row["file"]
        assert (row["width"], row["height"]) == (size[::-1] if is_turned else size)
        for kind in ("labels", "depth_png"):
            if kind in row:
                with Image.open(tmp_path / "out" / row[kind]) as picture:
                    assert picture.size == size
    if name == "deta":
        data = json.loads((tmp_path / "out" / "detections.json").read_text())
        assert len(data["images"]) == len(pictures)
        assert len({row["image_id"] for row in data["annotations"]}) == len(pictures)


def test_a_picture_has_the_same_result_whatever_is_beside_it(deta: Saved, tmp_path: Path) -> None:
    write_zoo(tmp_path / "in", 6)
    deta.predict([tmp_path / "in"], tmp_path / "a", batch_size=1)
    deta.predict([tmp_path / "in"], tmp_path / "b", batch_size=5)
    rows = [json.loads((tmp_path / n / "detections.json").read_text()) for n in "ab"]
    for one, other in zip(*(found["annotations"] for found in rows), strict=True):
        assert one["image_id"] == other["image_id"]
        np.testing.assert_allclose(one["bbox"] + [one["score"]], other["bbox"] + [other["score"]],
                                   atol=1e-3)  # fmt: skip


def test_an_earlier_run_is_refused_or_gone_on_with(linear: Saved, tmp_path: Path) -> None:
    files = write_zoo(tmp_path / "in", 5)
    out = tmp_path / "out"
    linear.predict([tmp_path / "in"], out)
    with pytest.raises(ValueError, match="holds predictions of an earlier run; go on with --resu"):
        linear.predict([tmp_path / "in"], out)
    before = {path: path.stat().st_mtime_ns for path in (out / "labels").rglob("*.png")}
    Image.fromarray(np.full((30, 30, 3), 9, np.uint8)).save(files[1])  # another picture by now
    write_zoo(tmp_path / "in" / "more", 1)
    gone = out / next(r["labels"] for r in index_of(out)["pictures"] if r["file"] == str(files[2]))
    gone.unlink()
    outcome = linear.predict([tmp_path / "in"], out, resume=True)
    assert (outcome.earlier, outcome.predicted) == (3, 3)
    changed = {path for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert len(changed) == 2 and gone in changed and len(index_of(out)["pictures"]) == 6
    with pytest.raises(ValueError, match="was begun with overlays false, and this is true"):
        linear.predict([tmp_path / "in"], out, resume=True, overlays=True)


def test_another_picture_of_the_same_name_bytes_and_time_is_predicted(
    linear: Saved, tmp_path: Path
) -> None:
    """Archives give all their files one time, and pictures without compression have one size."""
    for name, value in (("a", 9), ("b", 200)):
        (tmp_path / name).mkdir()
        picture = np.full((40, 50, 3), value, np.uint8)
        picture[:, 25:] = 255 - value
        Image.fromarray(picture).save(tmp_path / name / "x.bmp")
        os.utime(tmp_path / name / "x.bmp", (1e9, 1e9))
    linear.predict([tmp_path / "b"], tmp_path / "fresh")
    linear.predict([tmp_path / "a"], tmp_path / "out")
    assert linear.predict([tmp_path / "a"], tmp_path / "out", resume=True).earlier == 1
    outcome = linear.predict([tmp_path / "b"], tmp_path / "out", resume=True)
    assert (outcome.earlier, outcome.predicted) == (0, 1)
    fresh, found = ((tmp_path / n / "labels/x.png").read_bytes() for n in ("fresh", "out"))
    assert found == fresh


def test_a_picture_that_changes_while_it_is_predicted_is_predicted_again(
    linear: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = write_zoo(tmp_path / "in", 1)
    predict = folder_prediction.Predictor.predict

    def meanwhile(self: object, items: list) -> list:
        Image.fromarray(np.full((30, 30, 3), 9, np.uint8)).save(file)
        return predict(self, items)

    with monkeypatch.context() as patch:
        patch.setattr(folder_prediction.Predictor, "predict", meanwhile)
        linear.predict([file], tmp_path / "out")
    assert linear.predict([file], tmp_path / "out", resume=True).predicted == 1


def test_videos_that_broke_off_or_changed_are_predicted_again(
    linear: Saved, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    from pe_dense.predict.video_mp4 import Mp4File

    def save(path: Path, count: int) -> None:
        with Mp4File(path, 10.0) as video:
            for number in range(count):
                video.add(np.full((40, 60, 3), 9 * number, np.uint8), number / 10)

    out, cut, sound = tmp_path / "out", tmp_path / "cut.mp4", tmp_path / "sound.mp4"
    save(cut, 25)
    save(sound, 3)
    content = cut.read_bytes()
    cut.write_bytes(content[: len(content) * 9 // 10])
    for resume in (False, True):
        outcome = linear.predict([cut, sound], out, resume=resume)
        assert (outcome.videos, set(outcome.failed)) == (1, {str(cut)})
        assert index_of(out)["videos"] == [dict(input=str(sound), file="sound.mp4")]
    cut.write_bytes(content)  # copied whole by now
    save(sound, 5)
    outcome = linear.predict([cut, sound], out, resume=True)
    assert (outcome.videos, outcome.failed) == (2, {})
    assert [len(list((out / n).glob("*.png"))) for n in ("cut", "sound")] == [25, 5]


def test_other_options_do_not_go_on_with_a_folder(linear: Saved, tmp_path: Path) -> None:
    run = open_trained(linear.checkpoint, linear.config, options=linear.options)
    predictor = Predictor(run)
    before = facts_of(run, predictor, linear.request([], tmp_path))
    Journal(tmp_path / "out", before, resume=False).close()
    for name, value in (("image_bits", 12), ("data_root", "elsewhere")):
        template = copy.deepcopy(run.template)
        template[name] = value
        changed = dataclasses.replace(run, template=template)
        now = facts_of(changed, predictor, linear.request([], tmp_path))
        refused = pytest.raises(ValueError, match="was begun with settings_sha256")
        with refused if name == "image_bits" else contextlib.nullcontext():
            Journal(tmp_path / "out", now, resume=True).close()


def test_other_files_are_never_written_over(linear: Saved, tmp_path: Path) -> None:
    write_zoo(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds other files; name a new or empty folder"):
            linear.predict([tmp_path / "in"], tmp_path / "out", resume=resume)
    with pytest.raises(ValueError, match="is no folder"):
        linear.predict([tmp_path / "in"], tmp_path / "out" / "thesis.txt")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_line_that_a_kill_cut_off(deta: Saved, tmp_path: Path) -> None:
    write_zoo(tmp_path / "in", 4)
    out = tmp_path / "out"
    deta.predict([tmp_path / "in"], out, batch_size=1)
    whole = (out / "detections.json").read_bytes()
    lines = (out / NAME).read_bytes().splitlines(keepends=True)
    (out / NAME).write_bytes(b"".join(lines[:3]) + lines[3][:20])
    (out / "detections.json").unlink()
    (out / ".detections.json.abc.tmp").write_bytes(b"half")
    outcome = deta.predict([tmp_path / "in"], out, resume=True, batch_size=1)
    assert (outcome.earlier, outcome.predicted) == (2, 2)
    assert (out / "detections.json").read_bytes() == whole
    assert not (out / ".detections.json.abc.tmp").exists()
    (out / NAME).write_bytes(b"".join([*lines[:2], b"{broken\n", *lines[3:]]))
    with pytest.raises(ValueError, match=r"line 3 of .* is damaged"):
        deta.predict([tmp_path / "in"], out, resume=True)


def test_a_killed_run_goes_on(linear: Saved, tmp_path: Path) -> None:
    """Killed as soon as some pictures are done, it does the rest, and nothing twice."""
    write_zoo(tmp_path / "in", 200)
    out = tmp_path / "out"
    words = [sys.executable, str(REPO / "tools" / "predict.py"), linear.config,
             str(linear.checkpoint), str(tmp_path / "in"), "--out", str(out),
             *linear.words]  # fmt: skip
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    journal = out / NAME
    while process.poll() is None and not (
        journal.is_file() and len(journal.read_bytes().splitlines()) > 5
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (out / "index.json").exists():
        pytest.skip("it was done before it could be killed")
    outcome = linear.predict([tmp_path / "in"], out, resume=True)
    assert outcome.earlier >= 4 and outcome.earlier + outcome.predicted == 200
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()[1:]]
    assert len(lines) == len({line["name"] for line in lines}) == 200
    assert not list(out.rglob(".*.tmp"))


def test_the_tool_tells_of_each_broken_picture(
    linear: Saved,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_zoo(tmp_path / "in", 3)
    broken = write_broken(tmp_path / "in" / "bad", 3)
    two_lines = tmp_path / "in" / "bad" / "two\nlines.jpg"
    two_lines.write_bytes(b"")
    run, more = [linear.config, linear.checkpoint], linear.words
    assert run_tool(monkeypatch, *run, tmp_path / "in", "--out", tmp_path / "out", *more) == 1
    told = capsys.readouterr()
    for file in broken:
        assert f"not predicted: {file}: " in told.err
    assert f"not predicted: {two_lines.parent / 'two'}\\nlines.jpg: " in told.err
    assert "4 could not be predicted" in told.err and "3 pictures predicted" in told.out
    bad = tmp_path / "in" / "bad"
    assert run_tool(monkeypatch, *run, bad, "--out", tmp_path / "none", *more) == 2
    assert "error: none of 4 could be predicted; the first, " in capsys.readouterr().err


def test_what_the_model_cannot_take_stops_nothing_else(
    linear: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_zoo(tmp_path / "in", 4)
    run = folder_prediction.Predictor._run

    def fails_for_one(self: object, items: list) -> list:
        if any(item.file == files[2] for item in items):
            raise RuntimeError("CUDA out of memory")
        return run(self, items)

    monkeypatch.setattr(folder_prediction.Predictor, "_run", fails_for_one)
    outcome = linear.predict([tmp_path / "in"], tmp_path / "out", batch_size=4)
    assert outcome.failed == {str(files[2]): "RuntimeError: CUDA out of memory"}
    assert outcome.predicted == 3


def test_a_full_disk_stops_the_run(
    linear: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zoo(tmp_path / "in", 3)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pe_dense.predict.writing.atomic_write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        linear.predict([tmp_path / "in"], tmp_path / "out")


def test_ids_of_a_coco_file(deta: Saved, tmp_path: Path) -> None:
    files = write_zoo(tmp_path / "in", 2)
    classes = ["disc", "box", "triangle", "star", "ring", "cross"]
    data = dict(
        images=[dict(id=70 + i, file_name=f"x/{file.name}") for i, file in enumerate(files)],
        categories=[dict(id=9 - k, name=name) for k, name in enumerate(classes)],
    )
    known = tmp_path / "known.json"
    known.write_text(json.dumps(data))
    deta.predict([tmp_path / "in"], tmp_path / "out", ids=known)
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [image["id"] for image in found["images"]] == [70, 71]
    assert [row["id"] for row in found["categories"]] == [9, 8, 7, 6, 5, 4]
    assert {row["image_id"] for row in found["annotations"]} == {70, 71}
    known.write_text(json.dumps({**data, "images": data["images"][:1]}))
    with pytest.raises(ValueError, match="has no image 0001_grey.png"):
        deta.predict([tmp_path / "in"], tmp_path / "b", ids=known)
    known.write_text(json.dumps({**data, "categories": data["categories"][:5]}))
    with pytest.raises(ValueError, match="has no category 'cross'"):
        deta.predict([tmp_path / "in"], tmp_path / "b", ids=known)
    assert not (tmp_path / "b").exists(), "refused before anything is written"


def test_videos_beside_pictures(deta: Saved, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from pe_dense.predict.video_mp4 import Mp4File

    write_zoo(tmp_path / "in", 2)
    for name in ("street", "overlays"):
        (tmp_path / "in").mkdir(exist_ok=True)
        with Mp4File(tmp_path / "in" / f"{name}.mp4", 10.0) as video:
            for number in range(3):
                video.add(np.full((40, 60, 3), 60 * number, np.uint8), number / 10)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="would be written into .*overlays, where pictures are"):
        deta.predict([tmp_path / "in"], tmp_path / "refused")
    (tmp_path / "in" / "overlays.mp4").write_bytes(b"no video")
    (tmp_path / "in" / "overlays.mp4").rename(tmp_path / "in" / "broken.mp4")
    outcome = deta.predict([tmp_path / "in"], out)
    assert (outcome.predicted, outcome.videos) == (2, 1)
    assert set(outcome.failed) == {str(tmp_path / "in" / "broken.mp4")}
    index = index_of(out)
    street = str(tmp_path / "in" / "street.mp4")
    assert index["videos"] == [dict(input=street, file="street.mp4")]
    assert [row["file"] for row in index["failed"]] == list(outcome.failed)
    rows = json.loads((out / "street" / "detections.json").read_text())
    assert {row["image_id"] for row in rows} == {0, 1, 2}
    (out / "street.mp4").unlink()  # as a kill would leave it
    again = deta.predict([street], out, resume=True)
    assert again.videos == 1 and (out / "street.mp4").is_file() and not again.failed
    at = (out / "street.mp4").stat().st_mtime_ns
    assert deta.predict([street], out, resume=True).videos == 1
    assert (out / "street.mp4").stat().st_mtime_ns == at


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (dict(batch_size=0), "--batch-size is 0; pass 1 or more"),
        (dict(score_thr=1.5), "--score-thr is 1.5, but scores lie between 0 and 1"),
        (dict(device="gpu"), "device gpu cannot be used"),
        (dict(device="cuda:7"), "device cuda:7 cannot be used"),
        (dict(ids=Path("x.json")), "--ids is for detections"),
        (dict(steps_per_metre=0.0), "--depth-scale is 0.0"),
    ],
)
def test_settings_that_cannot_be(linear: Saved, tmp_path: Path, more: dict, message: str) -> None:
    write_zoo(tmp_path / "in", 1)
    with pytest.raises(ValueError, match=message):
        linear.predict([tmp_path / "in"], tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.pth"], "name a checkpoint and then what to predict"),
        (["x.pth", "photo.jpg"], "photo.jpg does not exist"),
    ],
)
def test_wrong_words_are_one_line(
    tmp_path: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_tool(monkeypatch, *words, "--out", "out") == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
