"""A map from fitting to scoring: pairs by hand, no labels, and what a map is refused for."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from runs import evaluate

from pe_dense.files import file_sha256
from pe_dense.predict.command import PredictRequest, predict
from pe_dense.predict.text_run import TextRequest
from pe_dense.results.store import load_records
from pe_dense.run import evaluation
from pe_dense.run.request import RunRequest
from pe_dense.segmentation.text_map_fit import (
    chooses_regulariser,
    fit_of_config,
    hashes_of,
    pairs_of,
    training_pictures,
)
from pe_dense.text_dense.linear_map import fit_map
from pe_dense.text_dense.map_file import load_map, pictures_sha256

pytest.importorskip("mmseg")
from mmseg.registry import MODELS

REPO = Path(__file__).resolve().parents[2]
CONFIG = str(REPO / "configs/segmentation/text_map_mini.py")


@pytest.fixture(scope="module")
def options(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Small towers and pictures; 'maps' are the labels, which the fit must not need."""
    return {
        "data_root": str(mini_root / "ade"), "num_workers": 0, "text_weights": "random",
        "embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_hidden": 32, "towers_side": 32,
        "short_side": 96, "window": (64, 64), "holdout_share": 0.2, "layer": 3,
    }  # fmt: skip


def config(options: dict, **more) -> Config:
    init_default_scope("mmseg")
    return RunRequest(CONFIG, options={**options, **more}).load()[0]


@pytest.fixture(scope="module")
def fitted(options: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool's own file."""
    path = tmp_path_factory.mktemp("map") / "map.safetensors"
    control = path.with_name("control.safetensors")
    run_tool([CONFIG, str(path), "--control", str(control), "--shuffle", "5"], options)
    return path


def run_tool(words: list[str], options: dict, code: int = 0) -> None:
    small = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tools/fit_text_map.py", *words, "--cfg-options", *small])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(REPO / "tools/fit_text_map.py"), run_name="__main__")
    assert (left.value.code or 0) == code


def test_pairs_are_windows_seen_by_both(options: dict, fitted: Path) -> None:
    cfg = config(options)
    pictures = training_pictures(cfg)
    assert len(pictures) == 10  # of 12; the others choose what labels choose
    torch.manual_seed(cfg.randomness.seed)
    model = MODELS.build(cfg.model).eval()
    share = cfg.model.backbone.map_rule.held_share
    held = [chooses_regulariser(sha256, share) for sha256 in hashes_of(pictures)]
    pipeline = cfg.test_dataloader.dataset.datasets[-1].pipeline
    pairs = pairs_of(model, pipeline, pictures, held)
    x, y = [], []
    encoder, tower = model.backbone.encoder, model.backbone.texts.encoder
    for picture in pictures:
        rgb = np.array(Image.open(picture).convert("RGB").resize((96, 96), Image.BILINEAR))
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
        for top in (0, 32):
            for left in (0, 32):
                crop = image[:, :, top : top + 64, left : left + 64]
                with torch.no_grad():
                    (found,) = encoder.forward_intermediates((crop - 0.5) / 0.5, (3,))
                    small = F.interpolate(crop, size=(32, 32), mode="bilinear", antialias=True)
                    y.append(F.normalize(tower.encode_image((small - 0.5) / 0.5)[0], dim=0))
                x.append(found[0].flatten(1).mean(1))
    assert pairs.x_WC.shape == (40, encoder.embed_dim)
    # cv2 and Pillow resize 128 to 96 pixels a little differently
    assert float(F.cosine_similarity(pairs.x_WC, torch.stack(x)).min()) > 0.995
    assert float(F.cosine_similarity(pairs.y_WD, torch.stack(y)).min()) > 0.995
    wanted = fit_map(*pairs)
    mapping, facts = load_map(fitted)
    torch.testing.assert_close(mapping.weight_CD, wanted.map.weight_CD)
    assert facts.strength == wanted.strength and facts.num_pairs == 40
    assert facts.pictures_sha256 == pictures_sha256(hashes_of(pictures))
    assert facts.held_out["shuffled"] == pytest.approx(wanted.shuffled)
    control, said = load_map(fitted.with_name("control.safetensors"))
    torch.testing.assert_close(control.weight_CD, fit_map(*pairs, shuffle_seed=5).map.weight_CD)
    assert said.shuffle_seed == 5  # by which its own shuffled pairs are, too
    assert dataclasses.replace(said, shuffle_seed=None, held_out=facts.held_out) == facts


def test_labels_and_scored_pictures_are_not_read(options: dict, fitted: Path, tmp_path) -> None:
    root = tmp_path / "ade"
    shutil.copytree(options["data_root"], root)
    for file in (root / "annotations/training").iterdir():
        file.write_bytes(b"no label map")
    for file in (root / "images/validation").iterdir():
        file.write_bytes(b"no picture")
    [(_, facts)] = fit_of_config(config(options, data_root=str(root)))
    assert facts == load_map(fitted)[1]


def test_a_map_is_scored_under_its_own_protocol(options: dict, fitted: Path, tmp_path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "pretty_text", "")  # MMEngine's copies of it take most seconds
        patch.setattr(evaluation, "blind_line", lambda *_: None)  # that of text_mini
        named = {**options, "map_file": str(fitted)}
        scores = evaluate(CONFIG, records=tmp_path / "r", options=named, work_dir=tmp_path / "w")
    (record,) = load_records(tmp_path / "r")
    assert record.protocol.id.startswith("mini-segmentation-text-map.mod-")
    assert record.encoder.name == "pe_spatial_t16_512"
    assert "linear map of block 3 into the space of pe_core_t16_384" in record.notes
    assert "CONTROL" not in record.notes and record.selection is None
    text = TextRequest(CONFIG, options={**named, "thresholds": []}, prompts=None)
    predict(PredictRequest(None, [f"{options['data_root']}/images/validation"], tmp_path / "out",
                           text=text))  # fmt: skip
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["notes"] == [record.notes.split("; ")[0]] and index["layer"] == 3
    assert file_sha256(fitted)[:12] in index["notes"][0]
    right = total = 0
    for file in sorted((Path(options["data_root"]) / "annotations/validation").iterdir()):
        truth = np.array(Image.open(file))
        found = np.array(Image.open(tmp_path / "out/labels" / file.name))
        right += ((truth == found) & (truth > 0)).sum()
        total += (truth > 0).sum()
    assert right / total == pytest.approx(scores["aAcc"], abs=1e-6) and right > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer": 2}, "fitted with layer=3, and is to be used with 2"),
        ({"randomness.seed": 1}, "fitted with weights_sha256="),
        ({"shuffle_seed": 0}, "fitted with shuffle_seed=null, and is to be used with 0"),
        ({"short_side": 80}, "fitted with rule="),
        ({"depth": 3}, "fitted with text_weights_sha256="),
    ],
)
def test_a_map_is_refused_for_anything_else(options: dict, fitted: Path, change, words) -> None:
    cfg = config({**options, "map_file": str(fitted)}, **change)
    torch.manual_seed(cfg.randomness.seed)
    with pytest.raises(ValueError, match=words):
        MODELS.build(cfg.model)


def test_a_map_of_other_pictures_or_none_is_refused(options: dict, fitted: Path, tmp_path) -> None:
    with pytest.raises(ValueError, match="no map is named; fit one with tools/fit_text_map.py"):
        evaluate(CONFIG, options=options, work_dir=tmp_path / "w")
    root = tmp_path / "ade"
    shutil.copytree(options["data_root"], root)
    first = sorted((root / "images/training").iterdir())[0]
    Image.fromarray(np.full((128, 128, 3), 7, np.uint8)).save(first, quality=95)
    other = {**options, "data_root": str(root), "map_file": str(fitted)}
    with pytest.raises(ValueError, match="fitted with pictures_sha256="):
        evaluate(CONFIG, options=other, work_dir=tmp_path / "w")


def test_what_the_tool_refuses(options: dict, fitted: Path, tmp_path, capsys) -> None:
    twice = str(tmp_path / "m.safetensors")
    for words, more, said in (
        ([CONFIG, str(fitted)], {}, "exists; name another file, or replace it with --overwrite"),
        ([CONFIG, str(tmp_path / "m.pth")], {}, "must end in .safetensors"),
        ([CONFIG, str(tmp_path / "m.safetensors")], {"map_file": "x"}, "map_file is what is made"),
        ([CONFIG, str(tmp_path / "m.safetensors")], {"shuffle_seed": 1}, "fit it with --control"),
        ([CONFIG, twice, "--control", twice], {}, "cannot be both"),
    ):
        run_tool(words, {**options, **more}, code=2)
        assert said in capsys.readouterr().err
    text_mini = str(REPO / "configs/segmentation/text_mini.py")
    run_tool([text_mini, str(tmp_path / "m.safetensors")], {"data_root": options["data_root"]}, 2)
    assert "has no encoder whose patches a map takes to texts" in capsys.readouterr().err
