"""A released head and the encoder that it was trained on, in one file that can be scored."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from pe_dense.encoders.weights import WeightsInfo
from pe_dense.run.checkpoint import load_checkpoint_safely, load_strictly
from pe_dense.run.config import load_config


def with_encoder(
    head: str, config: str, encoder: str | None = None, weights: str = "released"
) -> tuple[dict[str, Tensor], WeightsInfo]:
    """State of the model of a config, with the head of a file and the weights of an encoder.

    Args:
        head: File that holds a head alone, in a layout that the config's task knows.
        config: Config of the model, most often one that only evaluates.
        encoder: Name in the zoo; None: that of the config.
        weights: Of the encoder: 'released', a path, or 'hf://repo[:file]'.

    Returns:
        The state dict, and what the encoder was loaded from.

    Raises:
        ValueError: If a file cannot be read or does not fit.
    """
    if weights == "random":
        raise ValueError(f"{head} does not fit an encoder with random weights; name its own")
    cfg, _ = load_config(config, encoder=encoder, weights=weights)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    content = load_checkpoint_safely(str(Path(head).expanduser()), map_location="cpu")
    model: torch.nn.Module = MODELS.build(cfg.model)
    load_strictly(model, content, head)
    return model.state_dict(), model.backbone.weights_info
