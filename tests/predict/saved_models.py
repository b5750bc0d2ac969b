"""Checkpoints of small models with drawn weights, without a training, and predicting with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope

from pe_dense.encoders.weights import WeightsInfo
from pe_dense.predict.command import PredictRequest, predict
from pe_dense.run.checkpoint import RunFacts
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.request import RunRequest

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTION = dict(image_scale=(64, 64), train_scales=[(64, 64)])
SEGMENTATION = dict(image_scale=(96, 64), crop_size=(64, 64))
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("segmentation/linear_pe_t16_mini.py", dict(SEGMENTATION, layers=[0])),
    "upernet": ("segmentation/upernet_pe_t16_mini.py", dict(SEGMENTATION, layers=[0])),
    "mask2former": ("segmentation/mask2former_pe_t16_mini.py", dict(SEGMENTATION, layers=[0])),
    "depth": ("depth/linear_pe_t16_mini.py", dict(crop_size=(64, 64), layers=[0])),
    "deta": ("detection/deta_pe_t16_mini.py", dict(DETECTION, num_queries=20)),
    "dino": ("detection/dino_pe_t16_mini.py", dict(DETECTION, num_queries=20)),
    "vitdet": (
        "detection/vitdet_pe_t16_mini.py",
        dict(DETECTION, canvas=64, layer=0, max_per_img=10),
    ),
}


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint, with the config and the options that it belongs to."""

    checkpoint: Path
    config: str
    options: dict[str, Any]

    def request(self, inputs: list[Path | str], out: Path, **more: Any) -> PredictRequest:
        known = dict(config=self.config, options=self.options, argv=["tools/predict.py"])
        return PredictRequest(self.checkpoint, list(map(str, inputs)), out, **known | more)

    def predict(self, inputs: list[Path | str], out: Path, **more: Any) -> Any:
        return predict(self.request(inputs, out, **more))

    @property
    def words(self) -> list[str]:
        return ["--cfg-options", *(f"{k}={v}".replace(" ", "") for k, v in self.options.items())]


def save_untrained(
    name: str, folder: Path, data_root: Path, config: Path | None = None, **more: Any
) -> Saved:
    """A model of `TINY` with drawn weights; features are spread, so that predictions differ."""
    known, options = TINY[name]
    saved = Saved(
        folder / f"{name}.pth",
        str(config or CONFIGS / known),
        {**options, "data_root": str(data_root), "test_dataloader.num_workers": 0, **more},
    )
    cfg, template = RunRequest(saved.config, options=saved.options, weights="random").load()
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    told = dict(seed=0, amp=False, world_size=1, commit="", dirty=False, train_command="")
    facts = RunFacts(
        encoder=cfg.encoder,
        weights=WeightsInfo("drawn", "0" * 64),
        protocol_sha256=protocol_sha256(template),
        start_from=None,
        train_seconds=None,
        **told,
    )
    content = dict(state_dict=model.state_dict(), meta=dict(pe_dense=facts.to_meta()))
    torch.save(content, saved.checkpoint)
    return saved
