"""The choice of a block on pictures whose colour says everything, and in a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from config_files import REPO
from own_folders import label_map, picture
from PIL import Image
from runs import train

from pe_dense.probing import layer_choice
from pe_dense.probing.layer_choice import LayerChoice
from pe_dense.run.checkpoint import checkpoint_file, load_checkpoint_safely
from pe_dense.run.chosen_layers import FILE
from pe_dense.run.config import facts_of_data, load_config, resolved
from pe_dense.run.layers_option import CHOSEN, chooses
from pe_dense.run.opened_run import open_run
from pe_dense.run.request import RunRequest
from pe_dense.run.trained_run import trained_model

TOWER = dict(depth=4, embed_dim=32, num_heads=2, mlp_hidden=64)
TINY = {
    "model.backbone.encoder_options": TOWER,
    "image_side": 64, "batch_size": 2, "planned_for": "cpu", "max_iters": 4, "num_workers": 0,
}  # fmt: skip
SEGMENTATION = str(REPO / "configs/segmentation/linear_custom.py")
UPERNET = str(REPO / "configs/segmentation/upernet_custom.py")
DEPTH = str(REPO / "configs/depth/linear_custom.py")


class ColourBackbone(torch.nn.Module):
    """Block 1 of 4 has the mean colour of each patch; the others hold noise."""

    patch_size, embed_dim, out_indices = 16, 3, (0, 1, 2, 3)
    weights_info = type("Info", (), {"sha256": "none"})

    def __init__(self) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images_B3HW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert not any(side % 16 for side in images_B3HW.shape[2:])
        colours = torch.nn.functional.avg_pool2d(images_B3HW, 16)
        return tuple(
            colours if block == 1 else torch.randn_like(colours) for block in self.out_indices
        )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ten pictures of 70 x 101 px whose red says the class, and whose green the depth."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for n in range(10):
        labels = rng.integers(0, 3, (3, 4)).repeat(32, 0).repeat(32, 1)[:70, :101]
        metres = rng.uniform(0.5, 3.0, (3, 4)).repeat(32, 0).repeat(32, 1)[:70, :101]
        image = np.stack([labels * 100, metres * 80, 0 * labels], 2).astype(np.uint8)
        for part, content in (
            ("maps/images", image), ("maps/masks", labels.astype(np.uint8)),
            ("depths/images", image), ("depths/depth", (metres * 1000).astype(np.uint16)),
        ):  # fmt: skip
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / part / f"{n}.png")
    return {name: root / name for name in ("maps", "depths")}


@pytest.mark.parametrize(("config", "folder"), [(SEGMENTATION, "maps"), (DEPTH, "depths")])
def test_cells_lie_under_their_tokens(
    config: str, folder: str, folders: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data_root": str(folders[folder]), **TINY}
    cfg, _ = load_config(config, "pe_spatial_t16_512", "random", options)
    monkeypatch.setattr(layer_choice, "_backbone_of_all_blocks", lambda cfg: ColourBackbone())
    from mmengine.registry import init_default_scope

    init_default_scope("mmseg")
    choice = layer_choice.choose(cfg)
    assert choice.layers == (1,) and "more than noise" in choice.words
    assert "8 training images" in choice.words  # the two that are scored had no part in it
    assert choice.seconds > 0


class Counted:
    """Chooses block 1, and counts how often it was asked."""

    def __init__(self, layers: tuple[int, ...] | None = (1,)) -> None:
        self.calls, self.layers = 0, layers

    def __call__(self, cfg: Any) -> LayerChoice:
        self.calls += 1
        return LayerChoice(self.layers, "block 1 said a test", "a table of a test")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    chooser = Counted()
    monkeypatch.setattr(layer_choice, "choose", chooser)
    return chooser


def test_a_run_chooses_once_and_all_that_follows_uses_it(
    folders: dict, tmp_path: Path, counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data_root": str(folders["maps"]), **TINY, "holdout_share": 0}
    asked = dict(encoder="pe_spatial_t16_512", weights="random", options=options)
    work_dir = tmp_path / "run"
    train(SEGMENTATION, work_dir=work_dir, **asked)
    assert counted.calls == 1
    recipe = load_checkpoint_safely(str(checkpoint_file(work_dir)))["meta"]["pe_dense"]["recipe"]
    assert recipe["data"]["chosen_layers"] == [1]
    for request in (RunRequest(""), RunRequest(SEGMENTATION)):  # as predict, and as test
        run = open_run(request, work_dir)
        assert list(run.cfg.layers) == [1] and run.cfg.model.decode_head.num_layers == 1
    assert trained_model(run).backbone.out_indices == (1,)
    for file in work_dir.glob("*.pth"):
        file.unlink()  # killed before its first checkpoint
    train(SEGMENTATION, work_dir=work_dir, resume=True, **asked)
    first = checkpoint_file(work_dir)
    train(SEGMENTATION, work_dir=work_dir, resume=True, **asked)  # at the end already
    assert counted.calls == 1
    assert load_checkpoint_safely(str(first))["meta"]["pe_dense"]["recipe"] == recipe
    told = capsys.readouterr().out
    assert told.count("a table of a test") == 1
    assert told.count("block 1 said a test; chosen when the run began") == 2
    content = load_checkpoint_safely(str(first))
    del content["meta"]["pe_dense"]["recipe"]["data"]["chosen_layers"]
    torch.save(content, first)
    with pytest.raises(ValueError, match="does not say which block was chosen"):
        open_run(RunRequest(""), first)


def test_a_run_on_other_data_chooses_anew(folders: dict, tmp_path: Path, counted: Counted) -> None:
    options = {"data_root": str(folders["maps"]), **TINY, "holdout_share": 0}
    asked = dict(encoder="pe_spatial_t16_512", weights="random", work_dir=tmp_path)
    (tmp_path / FILE).write_text('{"layers": [0], "words": "", "question": {}}')
    train(SEGMENTATION, options=options, resume=True, **asked)
    assert counted.calls == 1


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ({"layers": "four"}, [0, 1, 2, 3]),
        ({"layers": [2]}, [2]),
        ({"layers": "-2"}, [-2]),
        ({"layers": [0, -1]}, [0, -1]),
        ({"tune": "lora"}, [0, 1, 2, 3]),
    ],
)
def test_blocks_that_are_named_are_read(option: dict, read: list[int], folders: dict) -> None:
    options = {"data_root": str(folders["depths"]), **TINY, **option}
    cfg, _ = load_config(DEPTH, "pe_spatial_t16_512", "random", options)
    assert list(cfg.model.backbone.out_indices) == read
    assert cfg.model.decode_head.num_layers == len(read)


@pytest.mark.parametrize(
    ("option", "read"),
    [({}, 3), ({"layer": 1}, 1), ({"layer": "1"}, 1), ({"layer": -2}, -2), ({"tune": "full"}, 3)],
)
def test_a_head_on_one_block(option: dict, read: int, folders: dict) -> None:
    options = {"data_root": str(folders["maps"]), **TINY, **option}
    cfg, template = load_config(UPERNET, "pe_spatial_t16_512", "random", options)
    assert list(cfg.model.backbone.out_indices) == [read]
    assert chooses(template) == (option == {})
    data = {CHOSEN: [2]} if option == {} else {}
    facts = facts_of_data(template, UPERNET)
    cfg = resolved(template, UPERNET, {**facts, **data})
    assert list(cfg.layers) == ([2] if data else [read])


@pytest.mark.parametrize("found", [[9], ["2"], [1.5], [[1]], [], "all", [True]])
def test_a_checkpoint_that_says_something_else_is_refused(found: Any, folders: dict) -> None:
    options = {"data_root": str(folders["maps"]), **TINY}
    _, template = load_config(SEGMENTATION, "pe_spatial_t16_512", "random", options)
    facts = facts_of_data(template, SEGMENTATION)
    with pytest.raises(ValueError, match="must be best, four, or blocks"):
        resolved(template, SEGMENTATION, {**facts, CHOSEN: found})


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"layers": "bset"}, "must be best, four, or blocks"),
        ({"layers": [4]}, "from 0 to 3"),
        ({"layers": []}, "must be best"),
        ({"layers": [1], "num_layers": 4}, "leave num_layers out"),
        ({"num_layers": 4}, "leave num_layers out"),  # before hours of choosing
        ({"model.backbone.encoder_options": "dict(depth=4)"}, "is no dict; write"),
    ],
)
def test_what_is_no_block_is_refused(option: dict, words: str, folders: dict) -> None:
    options = {"data_root": str(folders["maps"]), **TINY, **option}
    with pytest.raises(ValueError, match=words):
        load_config(SEGMENTATION, "pe_spatial_t16_512", "random", options)


def test_seven_pictures_fall_back_to_four_blocks_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(8):
        picture(tmp_path / f"data/images/{n}.png", n)
        label_map(tmp_path / f"data/masks/{n}.png", [0, 1])
    options = {"data_root": str(tmp_path / "data"), **TINY, "max_iters": 3, "holdout_share": 0}
    train(
        SEGMENTATION, encoder="pe_spatial_t16_512", weights="random", options=options,
        work_dir=tmp_path / "run",
    )  # fmt: skip
    told = capsys.readouterr()
    assert "are too few to hold some out and choose a block with" in told.out + told.err
    assert list(open_run(RunRequest(""), tmp_path / "run").cfg.layers) == [0, 1, 2, 3]
