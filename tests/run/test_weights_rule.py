"""One rule for the weights of all configs, and a run that says which it has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from config_files import CONFIGS, REPO, named
from runs import evaluate, train

from pe_dense.run.config import load_template
from pe_dense.run.start_table import RANDOM

MINI = REPO / "configs/tracking/mini_v1.py"


def header(path: Path) -> str:
    """What a config says of itself, and what those say that it is made from."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text = ast.get_docstring(tree) or ""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_base_":
            bases = ast.literal_eval(node.value)
            for base in [bases] if isinstance(bases, str) else bases:
                if base.startswith("./"):  # another recipe
                    text += header(path.parent / base)
    return text


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_weights_are_released_unless_the_header_says_random(path: Path) -> None:
    cfg = load_template(path)
    says_random = bool(re.search(r"random\s+weights|weights\s+are\s+random", header(path), re.I))
    is_small = re.search(r"mini|bccd|custom", path.stem) is not None
    if cfg.weights == "random":
        assert is_small, "published data are scored with released weights"
        assert says_random or "mini" in path.stem, "the header says: from random weights"
    else:
        assert cfg.weights == "released" or cfg.weights.startswith("hf://")
    if cfg.get("training_free") and "mini" not in path.stem:
        assert cfg.weights == "released", "a score of an untrained encoder is nothing to publish"
    if "custom" in path.stem and cfg.get("training_free"):
        assert cfg.weights == "released"


def test_the_rule_stands_in_the_docs() -> None:
    text = (REPO / "docs/encoders.md").read_text(encoding="utf-8")
    assert "## Which weights a config has" in text


def test_an_evaluation_says_that_the_weights_are_random_first_and_last(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data_root": str(mini_root / "davis"), "layers": [0]}
    options["settings"] = [
        dict(last_frames=1, radius=3, neighbourhood="circle", topk=2, temperature=0.2)
    ]
    evaluate(MINI, options=options, work_dir=tmp_path)
    said = capsys.readouterr().out
    before, _, after = said.partition("J&F")
    assert f"WARNING - pe_spatial_t16_512: weights are {RANDOM}" in before
    assert f"weights: {RANDOM}" in after
    assert "Config:" not in said and "System environment" not in said
    log = next(tmp_path.rglob("*.log")).read_text()
    assert "Config:" in log and "System environment" in log


def test_a_frozen_encoder_stays_random_after_a_training() -> None:
    from torch import nn

    from pe_dense.encoders.contract import WeightsInfo
    from pe_dense.run.start_table import encoder_learns

    model = nn.ModuleDict({"head": nn.Linear(2, 2), "backbone": nn.Linear(2, 2)})
    assert not encoder_learns(model)  # nobody knows of weights
    model["backbone"].weights_info = WeightsInfo("random", "random")
    assert encoder_learns(model)
    model["backbone"].requires_grad_(False)
    assert not encoder_learns(model)


def test_a_training_tells_what_it_does_in_a_few_lines(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = REPO / "configs/segmentation/linear_pe_t16_mini.py"
    options = {"data_root": str(mini_root / "ade"), "max_epochs": 1, "val_interval": 9}
    train(config, options=options, work_dir=tmp_path)
    said = capsys.readouterr().out
    assert "Config:" not in said and "Hooks will be executed" not in said
    before = said.partition("Epoch(train)")[0]
    assert len(before.splitlines()) < 50
    table = dict(re.findall(r"^  (\w[\w ]*?)  +(\S.*)$", before.partition("this run")[2], re.M))
    assert table["task"] == "segmentation on mini (protocol mini-segmentation-v1)"
    assert table["weights"] == RANDOM and f"WARNING - weights are {RANDOM}" in before
    assert table["data"] == f"12 training items in {mini_root / 'ade'}"
    assert table["a step"] == "4 images a step: 1 process x 4 images"
    assert table["steps"] == "1 epochs of 3 batches" and table["device"] == "cpu"
    assert table["optimiser"].startswith("AdamW, lr ") and "0.001" in table["optimiser"]
    assert Path(table["config"]).is_file()
    assert re.fullmatch(r"2,1\d\d,\d{3}, all trained", table["parameters"])
    log = next(tmp_path.rglob("*.log")).read_text()
    assert "Config:" in log and "this run" in log
