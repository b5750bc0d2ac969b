"""`tools/visualize.py text`: heat maps of prompts, and what is refused."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_towers import CORE, tower_of

pytest.importorskip("open_clip")

from pe_dense.analysis.encoder_images import read_for_encoder
from pe_dense.analysis.pictures import Views, write_text_pictures
from pe_dense.encoders.text_tower import ImageTextModel, TextTower
from pe_dense.mini_world.world import make_image
from pe_dense.pictures.colours import SHARE_COLOURS, colour_table, coloured
from pe_dense.pictures.drawing import HEADER, MARGIN

REPO = Path(__file__).resolve().parents[2]
PROMPTS = ["a red disc", "sky"]
SIDE, GRID = 512, 16  # of a panel; 64 px at patch 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.fromarray(make_image(0, "val", 0, 64).image).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def model() -> ImageTextModel:
    visual = tower_of(**CORE)
    text = TextTower(context_length=8, embed_dim=16, depth=1, num_heads=2, output_dim=12)
    return ImageTextModel(visual, text).eval().requires_grad_(False)


@torch.no_grad()
def test_panels_hold_cosines_of_single_patches(
    tmp_path: Path, file: Path, model: ImageTextModel
) -> None:
    views = Views(tmp_path / "out", model.visual, [file], [0], short_side=64)
    (line,) = write_text_pictures(views, model, PROMPTS, "layer")
    image = read_for_encoder(file, model.visual, 64)
    map_Chw = model.visual.forward_intermediates(image.normalised_3HW[None], (0,))[0][0]
    texts = model.encode_text(model.tokenize(PROMPTS).ids_BL, normalize=True)
    cosines = np.zeros((2, GRID, GRID))
    for y in range(GRID):
        for x in range(GRID):
            token = model.visual.ln_post(map_Chw[:, y, x])[None, None]
            embedding = model.visual.attn_pool(token) @ model.visual.proj
            cosines[:, y, x] = (F.normalize(embedding, dim=-1) @ texts.T)[0].numpy()
    limits = float(cosines.min()), float(cosines.max())
    picture = np.asarray(Image.open(tmp_path / "out" / line.split()[0]).convert("RGB"))
    centres = ((np.arange(GRID) + 0.5) * SIDE / GRID).astype(int)
    for number, cosine_hw in enumerate(cosines, start=1):
        left = MARGIN + number * (SIDE + MARGIN)
        found = picture[np.ix_(HEADER + centres, left + centres)].astype(int)
        wanted = coloured(cosine_hw, limits, colour_table(SHARE_COLOURS)).astype(int)
        assert np.abs(found - wanted).max() <= 3  # a step of the colours, by rounding
    share = (cosines.argmax(0) == 0).mean()
    assert f"layer 0: a red disc {share:.0%}, sky {1 - share:.0%}" in line


def test_what_cannot_be_drawn_is_one_sentence(
    tmp_path: Path, file: Path, model: ImageTextModel
) -> None:
    views = Views(tmp_path / "out", model.visual, [file], [0], short_side=64)
    for prompts, readout, words in (
        (["a", "a"], "layer", "each once"),
        ([], "layer", "one or more texts"),
        (["a"], "pool", "readout='pool' is not one of"),
        (["a cat and a dog and a bird and a cow"], "layer", "more than the 8 tokens"),
        ([" "], "layer", "give a text with a word"),
    ):
        with pytest.raises(ValueError, match=words):
            write_text_pictures(views, model, prompts, readout)
    assert not (tmp_path / "out").exists()


def test_the_command_draws_random_towers_and_says_so(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["text", "pe_core_t16_384", "--weights", "random", "--image", str(file), "--prompts",
             "a red disc,sky", "--short-side", "32", "--out", str(tmp_path / "out")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["tools/visualize.py", *words])
    runpy.run_path(str(REPO / "tools/visualize.py"))["main"]()
    told = capsys.readouterr().out
    assert "pe_core_t16_384, random weights, seed 0, maskclip" in told
    assert "nearest text: layer 11: a red disc" in told
    monkeypatch.setattr(sys, "argv", ["tools/visualize.py", "text", "dinov2_s14", *words[2:]])
    with pytest.raises(ValueError, match="dinov2_s14 has no text tower"):
        runpy.run_path(str(REPO / "tools/visualize.py"))["main"]()
