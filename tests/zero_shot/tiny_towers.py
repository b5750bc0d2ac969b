"""Small towers of images and texts, as a backbone of configs; and folders of small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import MODELS
from PIL import Image

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.text_tower import ImageTextModel, TextTower
from pe_dense.zero_shot.image_text_backbone import ImageTextBackbone

CORE = dict(
    patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_hidden=32, image_size=16, cls_token=True,
    pool_heads=2, output_dim=12, mean=(0.5,) * 3, std=(0.5,) * 3,
)  # fmt: skip


@MODELS.register_module()
class TinyTowers(ImageTextBackbone):
    """As its parent, of towers that are built in no time; the name of the encoder is not used."""

    def __init__(self, encoder: str, weights: str = "random", amp_dtype: str | None = None) -> None:
        super(ImageTextBackbone, self).__init__()
        torch.manual_seed(0)
        text = TextTower(context_length=8, embed_dim=16, depth=1, num_heads=2, output_dim=12)
        self.towers, self.amp_dtype = ImageTextModel(PerceptionEncoder(**CORE), text), amp_dtype
        for parameter in self.towers.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        self.weights_info = WeightsInfo("random", "random")
        self.requires_grad_(False)
        self.eval()


TINY = {"model.backbone.type": "TinyTowers"}


def pictures(root: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Noise of other sizes, so many in the folder of each class."""
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            height, width = rng.integers(12, 40, 2)
            noise = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(noise).save(root / name / f"{i}.png")
    return root


def captions(root: Path, rows: list[tuple[str, list[str]]]) -> Path:
    lines = [json.dumps({"image": name, "captions": texts}) for name, texts in rows]
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return root
