"""Labels by names: predictions score as the test scores them, and what cannot be a request."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmengine.config import Config
from picture_zoo import write_broken, write_zoo
from PIL import Image
from runs import evaluate

from pe_dense import load
from pe_dense.predict.command import PredictRequest, predict
from pe_dense.predict.text_run import LAYER, READOUT, TextRequest, open_text, without_data
from pe_dense.run import evaluation
from pe_dense.run.config import load_template
from pe_dense.text_dense.prompts import require_prompts, typed_prompts

REPO = Path(__file__).resolve().parents[2]
MINI = str(REPO / "configs/segmentation/text_mini.py")
CLASSES = ["sky", "wall", "ground", "path", "disc", "box", "triangle", "star", "ring", "cross"]
SMALL = {
    "embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_hidden": 32, "short_side": 64,
    "test_mode": "slide", "window": (32, 32), "num_workers": 0,
}  # fmt: skip
# With a background: the sky, which no name describes.
SKY = {"background": "sky", "thresholds": [0.2], "model.names.sky": [], "model.scale": 3.0}


def run(folder: Path, out: Path, options: dict, **asked) -> dict:
    more = {key: asked.pop(key) for key in ("overlays", "resume", "amp") if key in asked}
    text = TextRequest(MINI, options={**SMALL, **options}, **asked)
    predict(PredictRequest(None, [str(folder)], out, text=text, **more))
    return json.loads((out / "index.json").read_text())


def mean_iou(out: Path, truth: Path, number_of: dict[int, int]) -> float:
    """By plain sums over pixels; `number_of` gives the annotation's number of each predicted."""
    right, predicted, annotated = (np.zeros(11, np.int64) for _ in range(3))
    for file in sorted(truth.iterdir()):
        with Image.open(file) as opened, Image.open(out / "labels" / file.name) as found:
            truth_HW, found_HW = np.array(opened), np.array(found)
            assert found.mode == "P" and found_HW.shape == truth_HW.shape
        assert set(np.unique(found_HW).tolist()) <= number_of.keys()
        found_HW = np.vectorize(number_of.get)(found_HW)
        for k in range(1, 11):
            right[k] += ((truth_HW == k) & (found_HW == k)).sum()
            predicted[k] += ((truth_HW > 0) & (found_HW == k)).sum()
            annotated[k] += (truth_HW == k).sum()
    union = predicted + annotated - right
    return float((right[union > 0] / union[union > 0]).mean())


@pytest.fixture(scope="module")
def scored(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What test.py scores of random towers, without and with a background."""
    known = {**SMALL, "data_root": str(mini_root / "ade"), "readouts": ["sclip"], "layers": [0]}
    work = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "pretty_text", "")  # MMEngine's copies of a config take most seconds
        patch.setattr(evaluation, "blind_line", lambda *_: None)
        return {
            name: evaluate(MINI, options={**known, **more}, work_dir=work / name)
            for name, more in (("plain", {}), ("sky", SKY))
        }


def test_names_of_a_data_set_score_as_the_test(
    mini_root: Path, tmp_path: Path, scored: dict
) -> None:
    ade = mini_root / "ade"
    pictures, truth = ade / "images/validation", ade / "annotations/validation"
    same = {k: k for k in range(1, 11)}
    chosen = dict(readout="sclip", layer=0)
    run(pictures, tmp_path / "prompts", {}, prompts=CLASSES, **chosen)
    run(pictures, tmp_path / "config", {"data_root": str(ade)}, **chosen)
    for out in ("prompts", "config"):
        found = mean_iou(tmp_path / out, truth, same)
        assert found == pytest.approx(scored["plain"]["mIoU"], abs=1e-6) and found > 0
    maps = [sorted((tmp_path / out / "labels").iterdir()) for out in ("prompts", "config")]
    for one, other in zip(*maps, strict=True):
        assert np.array_equal(np.array(Image.open(one)), np.array(Image.open(other)))


def test_the_background_is_that_of_the_protocol(
    mini_root: Path, tmp_path: Path, scored: dict
) -> None:
    ade = mini_root / "ade"
    pictures, truth = ade / "images/validation", ade / "annotations/validation"
    chosen = dict(readout="sclip", layer=0, threshold=0.2)
    index = run(pictures, tmp_path / "prompts", {"model.scale": 3.0}, prompts=CLASSES[1:], **chosen)
    assert [row["id"] for row in index["classes"]] == list(range(10))
    assert index["classes"][0]["name"] == "background" and index["names"]["background"] == []
    found = mean_iou(tmp_path / "prompts", truth, {k: k + 1 for k in range(10)})
    assert found == pytest.approx(scored["sky"]["mIoU"], abs=1e-6)
    assert found != pytest.approx(scored["plain"]["mIoU"], abs=1e-3)
    options = {key: value for key, value in SKY.items() if key != "thresholds"}
    run(pictures, tmp_path / "config", options, **chosen)
    found = mean_iou(tmp_path / "config", truth, {k: k for k in range(1, 11)})
    assert found == pytest.approx(scored["sky"]["mIoU"], abs=1e-6)
    with Image.open(next((tmp_path / "prompts/labels").iterdir())) as picture:
        palette = np.array(picture.getpalette()).reshape(-1, 3)
    assert palette[0].tolist() == [0, 0, 0] and len({tuple(c) for c in palette[:10].tolist()}) == 10


def test_a_folder_with_broken_files_goes_on_and_from_python(tmp_path: Path) -> None:
    pictures = write_zoo(tmp_path / "in", 4)
    broken = write_broken(tmp_path / "in" / "bad", 2)
    prompts = ["red disc", "sky", "wall"]
    index = run(tmp_path / "in", tmp_path / "out", {}, prompts=prompts, overlays=True)
    assert {row["file"] for row in index["failed"]} == set(map(str, broken))
    assert index["readout"] == READOUT and index["layer"] == 2 + LAYER
    assert index["weights"] == "random" and len(index["weights_sha256"]) == 64
    model = load("pe_core_t16_384", MINI, prompts=prompts, options=SMALL)
    assert model.classes == tuple(prompts)
    for row in index["pictures"]:
        with Image.open(tmp_path / "out" / row["labels"]) as picture:
            found = model(row["file"])
            assert np.array_equal(np.array(picture), found.as_ids())
        assert (tmp_path / "out" / row["overlays"]).is_file()
    assert len(index["pictures"]) == len(pictures)
    with pytest.raises(ValueError, match="was begun with .*, and this is"):
        run(tmp_path / "in", tmp_path / "out", {}, prompts=[*prompts, "star"], overlays=True,
            resume=True)  # fmt: skip
    with pytest.raises(ValueError, match="was begun with weights_sha256 .*, and this is"):
        run(tmp_path / "in", tmp_path / "out", {"randomness.seed": 1}, prompts=prompts,
            overlays=True, resume=True)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompts", "road"], "prompts are 1, and every pixel gets the nearest"),
        (["--prompts", "road", "car,ROAD "], "prompt 'ROAD' stands twice"),
        (["--prompts", "road,", "car"], "prompt 2 is ''"),
        (["--prompts", "a", "b", "--threshold", "1"], "threshold 1.0 is outside (0, 1)"),
        (["--prompts", "a", "background", "--threshold", "0.5"], "leave one of the two out"),
        (["--prompts", "a", "b", "--readout", "pool"], "readout='pool' is not one of layer"),
        (["--prompts", "a", "b", "--layer", "2"], "block index 2 is outside"),
        (["--prompts", "a", "b", "--layer", "1", "--cfg-options", "layers=[2]"], "given twice"),
        (["--prompts", "a", "b", "--cfg-options", "classes=[c]"], "classes is set by --prompts"),
        (["--prompts", "a", "b", "--cfg-options", "readouts=[layer,sclip]"], "name one of them"),
        (["--prompts", "sky", "box", "--ids", "x.json"], "--ids is for detections"),
    ],
)
def test_what_is_no_request_is_one_sentence(words, said, tmp_path, monkeypatch, capsys) -> None:
    write_zoo(tmp_path / "in", 1)
    first = [MINI, str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--cfg-options"]
    small = [f"{key}={value}".replace(" ", "") for key, value in SMALL.items()]
    refused([*first, *small, *words], monkeypatch, capsys, said)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (["pe_spatial_t16_512", "PICTURES", "--prompts", "a", "b"], "has no text tower; those"),
        (["pe_cor_t16", "PICTURES", "--prompts", "a", "b"], "unknown encoder 'pe_cor_t16'"),
        (["pe_core_t16_384", "--prompts", "a", "b"], "name an encoder with a text tower"),
        (["pe_core_t16_384", "PICTURES", "--encoder", "pe_core_t16_384", "--prompts", "a", "b"],
         "pe_core_t16_384 does not exist"),
        (["work_dirs/street", "PICTURES", "--layer", "1"], "--layer is for labels by name"),
        (["PICTURES", "PICTURES", "--prompts", "a", "b"], "is a file or folder; labels by name"),
        (["configs/segmentation/text_custom.py", "PICTURES"], "knows no names: say what to look"),
        (["configs/segmentation/voc2012_text_v1.py", "PICTURES"], "name one with --threshold"),
        (["configs/segmentation/ade20k_text_v1.py", "PICTURES", "--threshold", "0.5"],
         "have no background"),
        (["configs/segmentation/linear_custom.py", "PICTURES", "--prompts", "a", "b"],
         "does not label pixels by names"),
        (["configs/segmentation/text_mini.py", "PICTURES", "--prompts", "sky", "unicorn"],
         "unicorn"),
    ],
)  # fmt: skip
def test_what_has_no_texts_is_one_sentence(first, said, tmp_path, monkeypatch, capsys) -> None:
    write_zoo(tmp_path / "in", 1)
    words = [str(tmp_path / "in") if word == "PICTURES" else word for word in first]
    refused([*words, "--out", str(tmp_path / "out")], monkeypatch, capsys, said)
    assert not (tmp_path / "out").exists()


def refused(words, monkeypatch, capsys, said) -> None:
    tool = str(REPO / "tools" / "predict.py")
    monkeypatch.setattr(sys, "argv", [tool, *words])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(tool, run_name="__main__")
    error = capsys.readouterr().err
    line = next(text for text in error.splitlines() if text.startswith("error: "))
    assert left.value.code == 2 and said in line, error


def test_python_refuses_what_the_tool_refuses() -> None:
    with pytest.raises(ValueError, match="layer=1 goes with prompts"):
        load("work_dirs/street", layer=1)
    with pytest.raises(ValueError, match="prompts are one text, 'road'"):
        load("pe_core_t16_384", prompts="road", weights="random")
    with pytest.raises(ValueError, match="stands twice"):
        require_prompts(["a  b", "A b"])
    assert typed_prompts(["a b, c", "$d"]) == ["a b", "c", "$d"]


def test_what_depends_on_data_is_left_out_however_indirectly() -> None:
    template = load_template("configs/segmentation/text_custom.py")
    template.classes = ["road", "car"]
    left = without_data(template, "c")
    assert "own_set" not in left and "train_dataloader" not in left and "protocol" not in left
    assert list(left.templates) == ["a photo of a {}."] and left.model == template.model
    with pytest.raises(ValueError, match="depends on data, so that prompts alone"):
        template.classes = "$found"
        without_data(template, "c")


def test_a_dollar_in_a_prompt_is_a_dollar() -> None:
    cfg = open_text(TextRequest(prompts=["$encoder", "a {} in braces"], weights="random")).cfg
    assert list(cfg.classes) == ["$encoder", "a {} in braces"]
    assert list(cfg.model.classes) == ["$encoder", "a {} in braces"]
