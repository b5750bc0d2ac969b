"""`tune` at the top of any recipe: where it goes, which protocol that makes, who refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmengine")

from config_files import CONFIGS, REPO
from mmengine.config import Config

from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.tune_option import with_tuning

MINI = REPO / "configs/detection/dino_pe_t16_mini.py"


def backbone_of(cfg: Config) -> Any:
    return (cfg.model if "backbone" in cfg.model else cfg.model.detector).backbone


def test_every_recipe_takes_it_or_says_why_not() -> None:
    taken = 0
    for path in CONFIGS:
        template = load_template(path, options={"tune": "layers=2"})
        model = template.get("model") or {}
        trains_none = template.get("training_free") or template.get("evaluation_only")
        if trains_none or model.get("type") in ("LayerProbe", "GlobalProbe"):
            with pytest.raises(ValueError, match="tune=layers=2 does nothing in .*; leave it out"):
                with_tuning(template.to_dict(), path)
            continue
        backbone = backbone_of(Config(with_tuning(template.to_dict(), path)))
        assert backbone.tune == "layers=2" and "frozen" not in backbone
        taken += 1
    assert taken > 40


def test_it_makes_another_protocol() -> None:
    digests = {
        protocol_sha256(load_template(MINI, options=options))
        for options in ({}, {"tune": "lora"}, {"tune": "full"})
    }
    assert len(digests) == 3


def test_a_recipe_may_name_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        f'_base_ = ["{MINI}"]\ntune = "frozen"\nmodel = dict(backbone=dict(tune="$tune"))\n'
    )
    assert load_config(own)[0].model.backbone.tune == "frozen"
    cfg, _ = load_config(own, options={"tune": "lora=4"})
    assert cfg.model.backbone.tune == "lora=4"


@pytest.mark.parametrize("wrong", ["some", "layers", "lora=0"])
def test_a_slip_is_one_sentence(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"tune='.*' is none of frozen, lora"):
        load_config(MINI, options={"tune": wrong})


def test_a_model_without_a_backbone_of_ours_is_told(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text('encoder = "pe_spatial_t16_512"\nmodel = dict(type="X", encoder="$encoder")\n')
    with pytest.raises(ValueError, match="has no DenseBackbone"):
        load_config(own, options={"tune": "lora"})
