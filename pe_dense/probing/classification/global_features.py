"""One vector for a whole picture, from any block of an encoder.

Shape legend: B pictures, N tokens (prefix first), C width, F width of the vector, h w patch grid.

Read-outs:
    class        the class token; as DINO and DINOv2 read it (arXiv:2104.14294, arXiv:2304.07193)
    mean         the mean of the patch tokens; prefix tokens do not enter
    class+mean   both, one behind the other: F = 2 C, as DINOv2's linear evaluation
    pool         PE Core's attention pool with its own final norm, before the projection into the
                 space of texts (arXiv:2504.13181); of an earlier block: the pool over its tokens

Tokens are normed before they are read:
    none    the stream as it is
    final   the encoder's final norm, also of earlier blocks, as DINOv2 does
    plain   to mean 0 and variance 1 over C, without scale and shift: the same for all encoders,
            also for those that have no final norm
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.contract import check_choice
from pe_dense.encoders.pe import PerceptionEncoder

READOUTS = ("class", "mean", "class+mean", "pool")
NORMS = ("none", "final", "plain")


def require_readout(encoder: nn.Module, readout: str, norm: str) -> None:
    """Refuse what an encoder cannot give.

    Raises:
        ValueError: If an option is unknown, or the encoder has no class token or attention pool.
    """
    check_choice("readout", readout, READOUTS)
    check_choice("norm", norm, NORMS)
    name = getattr(encoder, "name", type(encoder).__name__)
    if readout.startswith("class") and not getattr(encoder, "has_class_token", False):
        raise ValueError(f"{name} has no class token as it is built; use readout=mean")
    if readout == "pool":
        if _core(encoder) is None:
            raise ValueError(
                f"{name} has no attention pool that can be read here; use a pe_core_* encoder, or "
                "readout=mean"
            )
        if norm != "none":
            raise ValueError(
                f"readout=pool brings its own final norm, and norm={norm} would be a second one; "
                "use norm=none"
            )


def _core(encoder: nn.Module) -> PerceptionEncoder | None:
    """The encoder as a PE tower with an attention pool, which no other kind has as a member."""
    if not isinstance(encoder, PerceptionEncoder):
        return None
    core = encoder
    return core if core.attn_pool is not None else None


def feature_width(embed_dim: int, readout: str) -> int:
    """F.

    Example:
        >>> feature_width(384, "class"), feature_width(384, "class+mean")
        (384, 768)
    """
    return embed_dim * len(readout.split("+"))


@torch.no_grad()
def global_features(
    encoder: nn.Module, images_B3HW: Tensor, layers: Sequence[int], readout: str, norm: str
) -> list[Tensor]:
    """(B, F) float32 of each layer, in one pass of the encoder.

    Args:
        encoder: Fulfils `contract.Encoder`.
        images_B3HW: Normalised RGB.
        layers: 0-based blocks.
        readout: One of `READOUTS`.
        norm: One of `NORMS`.

    Raises:
        ValueError: As `require_readout`, or if an image does not fit the encoder.
    """
    require_readout(encoder, readout, norm)
    pairs = encoder.forward_intermediates(
        images_B3HW, layers, norm=norm == "final", return_prefix_tokens=True
    )
    found = []
    for map_BChw, prefix_BPC in pairs:
        patches_BNC = map_BChw.flatten(2).transpose(1, 2)
        if norm == "plain":
            width = patches_BNC.shape[-1:]
            patches_BNC = F.layer_norm(patches_BNC.float(), width)
            prefix_BPC = F.layer_norm(prefix_BPC.float(), width)
        if readout == "pool":
            core = _core(encoder)
            assert core is not None and core.attn_pool is not None
            tokens_BNC = torch.cat([prefix_BPC, patches_BNC], dim=1)
            found.append(core.attn_pool(core.ln_post(tokens_BNC)).float())
            continue
        of = {"class": lambda p=prefix_BPC: p[:, 0], "mean": lambda t=patches_BNC: t.mean(dim=1)}
        found.append(torch.cat([of[part]() for part in readout.split("+")], dim=1).float())
    return found
