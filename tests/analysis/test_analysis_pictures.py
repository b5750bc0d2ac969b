"""`tools/visualize.py features|similarity|attention`: panels, index, table, the command line."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from small_towers import DETECTION, SPATIAL, tower_of

from pe_dense.analysis.encoder_images import layer_maps, read_for_encoder
from pe_dense.analysis.feature_colours import colour_map, fit_basis, low_pass
from pe_dense.analysis.pictures import (
    TABLE,
    Views,
    write_attention_pictures,
    write_feature_pictures,
    write_similarity_pictures,
)
from pe_dense.mini_world.world import make_image
from pe_dense.pictures.colours import OUTSIDE
from pe_dense.pictures.drawing import HEADER, MARGIN
from pe_dense.pictures.folder import INDEX

REPO = Path(__file__).resolve().parents[2]
SIDE = 512  # of a panel: 64 px are drawn 8 times as large
# Of features that numpy's generator gives: RGB token by token.
PINNED = [
    [227, 227, 223], [0, 164, 253], [83, 79, 77], [59, 59, 59], [156, 12, 82], [0, 112, 80],
]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for i in range(2):
        paths.append(tmp_path / f"image{i}.png")
        Image.fromarray(make_image(0, "val", i, 64).image).save(paths[-1])
    return paths


def panel_tokens(picture: Path, number: int, grid: int) -> np.ndarray:
    """Colour of the middle of every token of a panel, (h, w, 3)."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    left = MARGIN + number * (SIDE + MARGIN)
    centres = ((np.arange(grid) + 0.5) * SIDE / grid).astype(int)
    return pixels[np.ix_(HEADER + centres, left + centres)]


def test_panels_hold_the_colours_of_their_layers(tmp_path: Path, files: list[Path]) -> None:
    tower = tower_of(**SPATIAL)
    out = tmp_path / "out"
    lines = write_feature_pictures(
        Views(out, tower, files, [0, -1], heading="a tower", short_side=64)
    )
    assert [line.split()[0] for line in lines] == ["001_image0.png", "002_image1.png"]
    assert (out / INDEX).read_text().splitlines() == ["a tower", *lines]
    image = read_for_encoder(files[1], tower, 64)
    for panel, each in enumerate(layer_maps(tower, image, [0, 2]), start=1):
        mixed = low_pass(each)
        expected = 255 * colour_map(mixed, fit_basis([mixed]))
        found = panel_tokens(out / "002_image1.png", panel, 16)
        assert np.abs(found - expected).max() <= 1.5  # features were kept as float32


def test_the_same_seed_gives_the_same_colours() -> None:
    """Colours written down from one machine; another may be off by a grey level."""
    rng = np.random.default_rng(0)
    map_Chw = rng.normal(size=(8, 2, 3)) * np.arange(8, 0, -1)[:, None, None]
    found = (255 * colour_map(low_pass(map_Chw), fit_basis([low_pass(map_Chw)]))).round()
    np.testing.assert_allclose(found.reshape(-1, 3), PINNED, atol=1)


def test_masks_and_shared_bases(tmp_path: Path, files: list[Path]) -> None:
    tower = tower_of(**SPATIAL)
    masks = []
    for i in range(2):
        mask = np.zeros((64, 64), np.uint8)
        mask[16:48, 16:48] = 255
        masks.append(tmp_path / f"mask{i}.png")
        Image.fromarray(mask).save(masks[-1])
    out = tmp_path / "out"
    write_feature_pictures(
        Views(out, tower, files, [1], short_side=64), masks=masks, share_basis=True
    )
    maps = [low_pass(layer_maps(tower, read_for_encoder(f, tower, 64), [1])[0]) for f in files]
    inside = np.zeros((16, 16), bool)
    inside[4:12, 4:12] = True
    basis = fit_basis(maps, [inside, inside])
    for i, name in enumerate(("001_image0.png", "002_image1.png")):
        found = panel_tokens(out / name, 1, 16)
        assert (found[~inside] == OUTSIDE).all()
        expected = 255 * colour_map(maps[i], basis)
        assert np.abs(found[inside] - expected[inside]).max() <= 1.5
    with pytest.raises(ValueError, match="1 masks for 2 images"):
        write_feature_pictures(Views(tmp_path / "b", tower, files, [1]), masks=masks[:1])
    with pytest.raises(ValueError, match="exclude each other"):
        write_feature_pictures(Views(tmp_path / "b", tower, files, [1]), masks=masks, guess=True)


def test_similarity_panels_are_cosines_with_the_point(tmp_path: Path, files: list[Path]) -> None:
    tower = tower_of(**SPATIAL)
    out = tmp_path / "out"
    write_similarity_pictures(Views(out, tower, files, [2], short_side=64), (41, 22))
    maps = [layer_maps(tower, read_for_encoder(file, tower, 64), [2])[0] for file in files]
    clicked = maps[0][:, 5, 10]  # patches of 4 px
    for name, each in zip(("001_image0.png", "002_image1.png"), maps, strict=True):
        lengths = np.sqrt((each**2).sum(axis=0) * (clicked**2).sum())
        cosine = (each * clicked[:, None, None]).sum(axis=0) / lengths
        assert np.ptp(cosine) > 0.02  # there is something to see
        expected = 255 * matplotlib.colormaps["viridis"]((cosine + 1) / 2)[..., :3]
        found = panel_tokens(out / name, 1, 16)
        assert np.abs(found - expected).max() < 5  # one step of the colour map
    assert (out / "002_image1.png").is_file()
    with pytest.raises(ValueError, match=r"point \(64, 0\) lies outside"):
        write_similarity_pictures(Views(tmp_path / "b", tower, files, [2]), (64, 0))


@pytest.mark.parametrize("arch", [SPATIAL, DETECTION], ids=["global", "windowed"])
def test_attention_writes_maps_and_a_table_of_all_layers(
    arch: dict, tmp_path: Path, files: list[Path]
) -> None:
    tower, out = tower_of(**arch), tmp_path / "out"
    lines = write_attention_pictures(Views(out, tower, files, [1], heading="t", short_side=64))
    rows = [r for r in (out / TABLE).read_text().splitlines() if not r.startswith("#")]
    table = list(csv.DictReader(rows, delimiter="\t"))
    assert [(r["image"], r["layer"]) for r in table] == [
        (f"image{i}.png", str(k)) for i in range(2) for k in range(3)
    ]
    for row in table:
        assert float(row["max_received"]) >= 1 and float(row["max_norm"]) > 0
        assert float(row["padding"]) == 0  # 16 x 16 tokens are whole windows
    assert len(lines) == 2
    more = tmp_path / "more"
    write_attention_pictures(
        Views(more, tower, files[:1], [1], short_side=64), (41, 22), each_head=True
    )
    one, many = (Image.open(x / "001_image0.png").width for x in (out, more))
    assert many - one == 2 * (SIDE + MARGIN)  # two heads
    if arch is DETECTION:  # zero outside the window of the point: the darkest colour
        found = panel_tokens(more / "001_image0.png", 1, 16).astype(int)
        dark = np.abs(found - [68, 1, 84]).sum(axis=-1) < 6
        assert dark.sum() >= 16 * 16 - 4 and not dark[4:6, 10:12].all()
    with pytest.raises(ValueError, match="give --point"):
        write_attention_pictures(Views(tmp_path / "c", tower, files, [1]), each_head=True)


@pytest.mark.parametrize(
    "write",
    [
        write_feature_pictures,
        lambda views: write_similarity_pictures(views, (1, 1)),
        write_attention_pictures,
    ],
)
def test_a_layer_out_of_range_and_a_full_folder_are_refused(
    write, tmp_path: Path, files: list[Path]
) -> None:
    tower = tower_of(**SPATIAL)
    with pytest.raises(ValueError, match="block index 3 is outside an encoder of 3 blocks"):
        write(Views(tmp_path / "out", tower, files, [3]))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="not an empty folder"):
        write(Views(tmp_path, tower, files, [0]))


def visualize(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """Runs the tool in this process; what it raises becomes one sentence (see command_line)."""
    tool = REPO / "tools" / "visualize.py"
    monkeypatch.setattr(sys, "argv", [str(tool), *map(str, words)])
    runpy.run_path(str(tool))["main"]()


COMMON = ("pe_spatial_t16_512", "--weights", "random", "--encoder-options", "depth=2")


@pytest.mark.parametrize("words", [["features"], ["similarity", "--point", 3, 4], ["attention"]])
def test_the_command_line_draws(
    words: list,
    tmp_path: Path,
    files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    command, *more = words
    given = (*COMMON, "--short-side", 64, "--image", *files, "--out", tmp_path / "out", *more)
    visualize(monkeypatch, command, *given)
    assert "random weights, seed 0, depth=2" in capsys.readouterr().out
    assert (tmp_path / "out" / "002_image1.png").is_file()
    assert (tmp_path / "out" / INDEX).is_file()


def test_the_command_line_refuses(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((15, 90, 3), np.uint8)).save(small)
    for words, message in (
        (["--image", files[0], "--layers", 2], "block index 2 is outside an encoder of 2 blocks"),
        (["--image", small], "less than one patch of 16"),
        (["--image", tmp_path / "none.png"], "does not exist"),
        (["--image", files[0], "--order", "Lab"], "no permutation of LCh"),
    ):
        with pytest.raises(ValueError, match=message):
            visualize(monkeypatch, "features", *COMMON, *words, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_refusal_is_one_line(tmp_path: Path, files: list[Path]) -> None:
    words = ["attention", *COMMON, "--image", files[0], "--layers", -3, "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, str(REPO / "tools" / "visualize.py"), *map(str, words)],
        cwd=REPO, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: block index -3 is outside an encoder of 2 blocks")
