"""A detector can be built on another device at once, as benchmarks and large models are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import pe_dense.detection  # noqa: F401
from pe_dense.run.config import encoder_facts, substitute

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("base", ["deta.py", "deta_small.py"])
def test_every_tensor_of_deta_is_made_on_the_default_device(base: str) -> None:
    init_default_scope("mmdet")
    cfg = Config.fromfile(CONFIGS / "_base_" / base)
    names = {key: value for key, value in cfg.items() if key not in ("model", "test_cfg")}
    names |= dict(
        encoder="pe_spatial_t16_512", weights="random", canvas=256, num_queries=50, num_classes=3,
        amp_dtype=None, grad_checkpointing=False,
    )  # fmt: skip
    facts = encoder_facts(names["encoder"], {})
    names |= {f"encoder.{key}": value for key, value in facts.items()}
    settings = substitute(cfg.model.to_dict(), names)
    with torch.device("meta"):
        model = MODELS.build(settings)
    elsewhere = {name for name, p in model.named_parameters() if p.device.type != "meta"}
    assert elsewhere == set()
