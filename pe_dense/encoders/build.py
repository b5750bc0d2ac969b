"""An encoder by name, with random weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from pe_dense.encoders.zoo import find_encoder


def build_encoder(name: str, **options: Any) -> nn.Module:
    """Build an encoder by name with random weights; see `weights.load_weights` for others.

    Args:
        name: A name of the zoo, or 'timm:<model name>'.
        **options: Keyword arguments of `PerceptionEncoder` (or `TimmEncoder`) that override the
            row, for example `depth=6`, `window_size=24, cls_token=False`, `remainder='pad'`.

    Raises:
        ValueError: If the name is unknown or an option does not exist.
    """
    spec = find_encoder(name)
    if spec.family == "pe":
        from pe_dense.encoders.pe import PerceptionEncoder

        encoder_class: type[nn.Module] = PerceptionEncoder
    else:
        from pe_dense.encoders.timm_vit import TimmEncoder

        encoder_class = TimmEncoder
    try:
        return encoder_class(**{**spec.arch, **options})
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"encoder {name} has no such option: {error}") from error
