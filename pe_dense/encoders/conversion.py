"""Conversions between PE checkpoint layouts: names, patch kernels, position grids, student init.

Pure functions on dictionaries of tensors; reading files and the strict load are in `weights`.

Shape legend: C width, O output channels, P patch side, N positions (cls row first), h w grid.

Sources: key names of facebookresearch/perception_models @ 3e352cc and of timm 1.0 (`Eva` with
the PE settings); patch and position resampling as that repository's
apps/detection/tools/convert_d2.py; pseudo-inverse resampling from FlexiViT, arXiv:2212.08013.
Written from the descriptions, not ported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.encoders.contract import check_choice
from pe_dense.encoders.zoo import ENCODERS

State = dict[str, Tensor]

LAYER_SCALE_OF_SPATIAL_G = 0.1
PATCH_METHODS = ("bicubic", "pseudo-inverse")
POSITION_METHODS = ("bicubic", "bilinear")
CORE_METHODS = ("preserve", "published")
_CHECKPOINT_WRAPPERS = ("state_dict", "weights", "model")
# Names that training wrappers (DDP, torch.compile, FSDP, activation checkpointing) put in keys.
_MODULE_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Two keys that together only a vision tower has: the prefix in front of both is the tower's.
_OFFICIAL_ANCHORS = ("conv1.weight", "ln_pre.weight")
_TIMM_ANCHORS = ("patch_embed.proj.weight", "norm_pre.weight")
# Under DETA's `backbone.0.body.` and in detectron2's backbone, the pyramid sits beside the tower.
_PYRAMID = re.compile(r"(fpn|simfp_)\d+\.")
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")

# Official name -> timm name. What is absent has no counterpart and keeps its name.
_TOP_NAMES = {
    "conv1": "patch_embed.proj",
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "ln_pre": "norm_pre",
    "ln_post": "norm",
    "attn_pool.probe": "attn_pool.latent",
    "attn_pool.attn.out_proj": "attn_pool.proj",
    "attn_pool.layernorm": "attn_pool.norm",
    "attn_pool.mlp.c_fc": "attn_pool.mlp.fc1",
    "attn_pool.mlp.c_proj": "attn_pool.mlp.fc2",
}
_BLOCK_NAMES = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_weight": "attn.qkv.weight",
    "attn.in_proj_bias": "attn.qkv.bias",
    "attn.out_proj": "attn.proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ls_1.gamma": "gamma_1",
    "ls_2.gamma": "gamma_2",
}
# Axes that timm puts in front: (N, C) -> (1, N, C) and (C,) -> (1, 1, C).
_TIMM_AXES = {"pos_embed": 1, "cls_token": 2}


@dataclass(frozen=True)
class TowerLayout:
    """What the shapes of a state dict say about a tower (the number of heads leaves no trace)."""

    embed_dim: int
    depth: int
    mlp_hidden: int
    patch_size: int
    num_positions: int
    cls_token: bool
    layer_scale: bool
    pool: bool
    output_dim: int | None

    def describe(self) -> str:
        """The layout in words, for errors."""
        return (
            f"width {self.embed_dim}, {self.depth} blocks, MLP {self.mlp_hidden}, "
            f"patch {self.patch_size}, {self.num_positions} positions, "
            f"{'a' if self.cls_token else 'no'} cls token, "
            f"{'with' if self.layer_scale else 'no'} LayerScale, "
            f"{'with' if self.pool else 'no'} attention pool"
        )

    def nearest_encoder(self) -> str | None:
        """Name of the zoo's PE encoder that these shapes fit best, None if no width fits.

        Example:
            >>> TowerLayout(1536, 50, 8960, 16, 1024, False, True, False, None).nearest_encoder()
            'pe_spatial_g14_448'
        """
        scores = {}
        for name, spec in ENCODERS.items():
            arch = spec.arch
            if spec.family != "pe" or arch["embed_dim"] != self.embed_dim:
                continue
            side = arch.get("position_image_size", arch["image_size"])
            grid = side // arch["patch_size"]
            scores[name] = sum(
                weight * (mine == theirs)
                for weight, mine, theirs in (
                    (8, self.depth, arch["depth"]),
                    (8, self.pool, arch.get("pool_heads") is not None),
                    (4, self.layer_scale, arch.get("layer_scale") is not None),
                    (2, self.mlp_hidden, arch["mlp_hidden"]),
                    (2, self.num_positions, grid**2 + arch["cls_token"]),
                    (1, self.patch_size, arch["patch_size"]),
                    (1, self.cls_token, arch["cls_token"]),
                )
            )
        return max(scores, key=scores.__getitem__) if scores else None


def read_layout(state: Mapping[str, Tensor]) -> TowerLayout:
    """Read the sizes of a tower off its state dict in the official layout.

    Raises:
        ValueError: If a tensor that fixes a size is absent or has the wrong number of axes.
    """
    needed = {
        "conv1.weight": 4,
        "positional_embedding": 2,
        "transformer.resblocks.0.mlp.c_fc.weight": 2,
    }
    for key, ndim in needed.items():
        if key not in state:
            raise ValueError(f"it has no {key}, so it holds no complete PE vision tower")
        if state[key].ndim != ndim:
            raise ValueError(f"its {key} has shape {tuple(state[key].shape)}, not {ndim} axes")
    indices = [int(match[1]) for key in state if (match := _BLOCK.match(key))]
    return TowerLayout(
        embed_dim=state["conv1.weight"].shape[0],
        depth=max(indices) + 1,
        mlp_hidden=state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        patch_size=state["conv1.weight"].shape[-1],
        num_positions=state["positional_embedding"].shape[0],
        cls_token="class_embedding" in state,
        layer_scale="transformer.resblocks.0.ls_1.gamma" in state,
        pool="attn_pool.probe" in state,
        output_dim=state["proj"].shape[-1] if "proj" in state else None,
    )


def unwrap(checkpoint: Any) -> State:
    """Take the table of tensors out of what a checkpoint file holds.

    Follows 'state_dict', 'weights' and 'model' as deep as they nest.

    Raises:
        ValueError: If what remains is not a mapping of names to tensors.
    """
    while isinstance(checkpoint, Mapping):
        inner = [k for k in _CHECKPOINT_WRAPPERS if isinstance(checkpoint.get(k), Mapping)]
        if not inner:
            break
        checkpoint = checkpoint[inner[0]]
    if not isinstance(checkpoint, Mapping):
        raise ValueError(
            f"it holds a {type(checkpoint).__name__}, not a mapping of names to tensors; "
            "save model.state_dict() instead"
        )
    if not checkpoint:
        raise ValueError("it holds no tensor at all; save model.state_dict() instead")
    strange = [k for k, v in checkpoint.items() if not (isinstance(k, str) and torch.is_tensor(v))]
    if strange:
        raise ValueError(
            f"it is not a mapping of names to tensors (see {shorten(map(str, strange))}); save "
            "model.state_dict() alone, or under 'state_dict'"
        )
    return {key: value.detach() for key, value in checkpoint.items()}


def shorten(names: Any, limit: int = 5) -> str:
    """First names of a list and how many more there are.

    Example:
        >>> shorten(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def to_official(checkpoint: Any) -> State:
    """Vision tower of any known checkpoint, in the official layout.

    Unwraps 'state_dict', 'weights' and 'model'; removes the names that DDP, torch.compile and
    FSDP add; finds the tower under whatever prefix it has ('visual.' of CLIP files, whose text
    tower is left out; 'backbone.net.' and 'backbone.0.body.' of detection files; 'encoder.' and
    'backbone.encoder.' of our own); drops RoPE tables, which depend on the image size, and the
    pyramid of detection backbones; removes the leading axis of 3-D positions; converts timm's
    names. Every other key stays, for the strict load to judge.

    Raises:
        ValueError: If there is no PE vision tower, or more than one.

    Example:
        >>> one = torch.ones(1)
        >>> state = {"visual.conv1.weight": one, "visual.ln_pre.weight": one, "logit_scale": one}
        >>> sorted(to_official({"state_dict": {f"module.{k}": v for k, v in state.items()}}))
        ['conv1.weight', 'ln_pre.weight']
    """
    state: State = {}
    for key, value in unwrap(checkpoint).items():
        bare = ".".join(part for part in key.split(".") if part not in _MODULE_WRAPPERS)
        if bare in state:
            raise ValueError(f"it holds {bare} twice, with and without a wrapper's prefix")
        state[bare] = value
    prefix, is_timm = _find_tower(state)
    tower = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    tower = {
        key: value
        for key, value in tower.items()
        if not key.endswith(("freqs_cos", "freqs_sin")) and not (prefix and _PYRAMID.match(key))
    }
    if is_timm:
        return timm_to_official(tower)
    positions = tower.get("positional_embedding")
    if positions is not None and positions.ndim == 3 and positions.shape[0] == 1:
        tower["positional_embedding"] = positions[0]
    return tower


def _find_tower(state: State) -> tuple[str, bool]:
    """Prefix of the only vision tower, and whether it has timm's names."""
    found = []
    for is_timm, (first, second) in enumerate((_OFFICIAL_ANCHORS, _TIMM_ANCHORS)):
        for key in state:
            prefix = key.removesuffix(first)
            at_a_border = prefix == "" or prefix.endswith(".")
            if key.endswith(first) and at_a_border and prefix + second in state:
                found.append((prefix, bool(is_timm)))
    if len(found) > 1:
        names = ", ".join(repr(prefix) for prefix, _ in found)
        raise ValueError(
            f"it holds {len(found)} vision towers (under {names}); save the one you want alone"
        )
    if not found:
        hint = ""
        if any(key.endswith("patch_embed.proj.weight") for key in state):
            hint = "; it looks like another ViT, which timm:<model name> may load"
        raise ValueError(
            f"it holds no PE vision tower (its {len(state)} keys begin with "
            f"{shorten(state, 3)}){hint}"
        )
    return found[0]


def _rename(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if key == old or key.startswith(old + "."):
            return new + key[len(old) :]
    return key


def official_to_timm(state: Mapping[str, Tensor]) -> State:
    """Rename an official vision tower to timm's `vit_pe_*` layout.

    Values are untouched; the pool's joint projection is split into q and kv, and `proj` (C, O)
    becomes a linear head (O, C) with a zero bias, which the official model does not have.

    Returns:
        The timm state dict; tensors that were split or turned are copies.
    """
    timm: State = {}
    for key, value in state.items():
        if match := _BLOCK.match(key):
            timm[f"blocks.{match[1]}.{_rename(key[match.end() :], _BLOCK_NAMES)}"] = value
        elif key == "proj":
            timm["head.weight"] = value.t().contiguous()
            timm["head.bias"] = value.new_zeros(value.shape[1])
        elif key.startswith("attn_pool.attn.in_proj_"):
            kind = key.rpartition("_")[2]  # weight or bias
            width = value.shape[0] // 3
            timm[f"attn_pool.q.{kind}"] = value[:width].clone()
            timm[f"attn_pool.kv.{kind}"] = value[width:].clone()
        else:
            name = _rename(key, _TOP_NAMES)
            axes = _TIMM_AXES.get(name, 0)
            timm[name] = value.reshape((1,) * axes + tuple(value.shape))
    return timm


def both_towers_to_official(state: Mapping[str, Tensor]) -> State:
    """A model of both towers in open_clip's layout of PE Core, in the official one.

    open_clip keeps the vision tower as timm's under 'visual.trunk.' and the text tower under
    'text.'. A state in another layout comes back as it is.

    Raises:
        ValueError: If the vision head has a bias other than zero, for which PE has no place.
    """
    trunk = "visual.trunk."
    if not any(key.startswith(trunk) for key in state):
        return dict(state)
    visual = timm_to_official({k.removeprefix(trunk): v for k, v in state.items() if trunk in k})
    rest = {k.removeprefix("text."): v for k, v in state.items() if trunk not in k}
    return {**rest, **{f"visual.{key}": value for key, value in visual.items()}}


def timm_to_official(state: Mapping[str, Tensor]) -> State:
    """Rename a timm `vit_pe_*` tower to the official layout; the inverse of `official_to_timm`.

    Raises:
        ValueError: If the head has a bias other than zero, for which PE has no place.
    """
    top = {new: old for old, new in _TOP_NAMES.items()}
    inside = {new: old for old, new in _BLOCK_NAMES.items()}
    official: State = {}
    for key, value in state.items():
        if match := re.match(r"blocks\.(\d+)\.", key):
            tail = _rename(key[match.end() :], inside)
            official[f"transformer.resblocks.{match[1]}.{tail}"] = value
        elif key == "head.weight":
            official["proj"] = value.t().contiguous()
        elif key == "head.bias":
            if not value.is_meta and bool(value.any()):
                raise ValueError(
                    "its head.bias is not zero, and a PE projection has no bias; use the "
                    "checkpoint through timm:<model name>, or remove its head"
                )
        elif key.startswith("attn_pool.q."):
            kind = key.rpartition(".")[2]
            if f"attn_pool.kv.{kind}" not in state:
                raise ValueError(f"it has {key} but no attn_pool.kv.{kind}; it is incomplete")
            both = torch.cat([value, state[f"attn_pool.kv.{kind}"]])
            official[f"attn_pool.attn.in_proj_{kind}"] = both
        elif not (key.startswith("attn_pool.kv.") and key.replace(".kv.", ".q.") in state):
            axes = _TIMM_AXES.get(key, 0)
            if value.shape[:axes] == (1,) * axes:
                value = value.reshape(value.shape[axes:])
            official[_rename(key, top)] = value
    return official


def resample_patch(kernel_OCPP: Tensor, new_patch: int, method: str = "bicubic") -> Tensor:
    """Resize the patch kernels of `conv1` to another patch side.

    'bicubic' does what PE's converter does: the kernel is interpolated like an image
    (align_corners=False, no antialias) and its values are not rescaled. The response to a
    constant image therefore grows by about (new / old)^2, 1.31 for 14 -> 16; `ln_pre` takes
    most of that back, but patches gain weight against the position embedding. The published
    detection models were fine-tuned from this.

    'pseudo-inverse' (FlexiViT) asks that resized patches give the response that the original
    patches gave: with B the bilinear resize of a patch to the new side, the new kernel is
    pinv(B^T) w. Growing, this holds exactly for every patch (and sums, so responses to constant
    images, are kept); shrinking loses detail, and the new kernel is the closest in the mean over
    white-noise patches. Better where nothing is fine-tuned afterwards; not what PE published.

    Args:
        kernel_OCPP: (O, C, P, P), any floating type.
        new_patch: New side P'.
        method: 'bicubic' or 'pseudo-inverse'.

    Returns:
        (O, C, P', P') float32; the values as they are if the side is the same.

    Raises:
        ValueError: For an unknown method, a kernel that is not square or a side below 1.

    Example:
        >>> resample_patch(torch.ones(1, 1, 2, 2), 4).sum().item()
        16.0
    """
    check_choice("patch_resample", method, PATCH_METHODS)
    if kernel_OCPP.ndim != 4 or kernel_OCPP.shape[-1] != kernel_OCPP.shape[-2] or new_patch < 1:
        raise ValueError(
            f"cannot resize a kernel of shape {tuple(kernel_OCPP.shape)} to patch {new_patch}; "
            "expected (out, in, P, P) and a side of 1 or more"
        )
    old_patch, kernel = kernel_OCPP.shape[-1], kernel_OCPP.float()
    if new_patch == old_patch:
        return kernel
    side = (new_patch, new_patch)
    if method == "bicubic":
        return F.interpolate(kernel, size=side, mode="bicubic", align_corners=False)
    basis = torch.eye(old_patch**2, dtype=torch.float64).view(-1, 1, old_patch, old_patch)
    shrinks = new_patch < old_patch  # images are antialiased when they shrink, so patches are
    resized = F.interpolate(basis, side, mode="bilinear", align_corners=False, antialias=shrinks)
    b_transposed = resized.flatten(1)  # (P * P, P' * P'): row i is the resized unit patch i
    solve = torch.linalg.pinv(b_transposed).to(kernel.device)  # (P' * P', P * P)
    return (kernel.double().flatten(2) @ solve.T).unflatten(2, side).float()


def resample_positions(
    positions_NC: Tensor,
    new_grid_hw: tuple[int, int],
    num_prefix_tokens: int = 0,
    mode: str = "bicubic",
) -> Tensor:
    """Resize a square grid of position embeddings; leading rows of prefix tokens stay.

    Interpolated in float32 with align_corners=False and without antialias, as PE's converter
    ('bicubic') and the tower at run time ('bilinear') do.

    Args:
        positions_NC: (N, C), N = prefix tokens + a square number.
        new_grid_hw: New rows and columns.
        num_prefix_tokens: Rows in front that are not part of the grid.
        mode: 'bicubic' or 'bilinear'.

    Returns:
        (num_prefix_tokens + h * w, C) float32; the rows as they are if the grid is the same.

    Raises:
        ValueError: If the rows form no square grid, or the mode is unknown.

    Example:
        >>> resample_positions(torch.ones(5, 8), (3, 3), num_prefix_tokens=1).shape
        torch.Size([10, 8])
    """
    check_choice("position_resample", mode, POSITION_METHODS)
    prefix, grid_NC = positions_NC.tensor_split([num_prefix_tokens])
    old = math.isqrt(grid_NC.shape[0])
    if old == 0 or old**2 != grid_NC.shape[0]:
        raise ValueError(
            f"{grid_NC.shape[0]} positions (beside {num_prefix_tokens} for prefix tokens) form "
            "no square grid; convert the checkpoint to a square native size first"
        )
    if (old, old) == tuple(new_grid_hw):
        return positions_NC
    grid_1Chw = grid_NC.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid_1Chw, size=tuple(new_grid_hw), mode=mode, align_corners=False)
    return torch.cat([prefix.float(), resized[0].flatten(1).T])


def drop_cls_token(state: Mapping[str, Tensor]) -> State:
    """Remove the cls token and its position, the first row (detection towers have none)."""
    state = dict(state)
    if state.pop("class_embedding", None) is not None:
        state["positional_embedding"] = state["positional_embedding"][1:]
    return state


def core_to_spatial(
    state: Mapping[str, Tensor], layer_scale: float | None = None, method: str = "preserve"
) -> State:
    """Start a Spatial (or Lang) tower from a Core one: remove the head, add LayerScale.

    The paper starts PE Spatial G from PE Core G and adds LayerScale of 0.1 (arXiv:2504.13181,
    appendix B.3). That damps every residual branch tenfold, so the student does not start as
    the function it was (mean token cosine 0.83 between the two, on random weights).

    'published' does just that: gamma = `layer_scale`, projections untouched.

    'preserve' starts as the Core tower, bit for bit: gamma = 1, projections untouched. The other
    way to keep the function, gamma = 0.1 and `out_proj` and `c_proj` divided by it, was decided
    against: it is exact only up to rounding, branches before the gain become ten times larger
    (float16 overflows sooner), and larger weights change what an optimiser step of given size
    and a published learning rate mean. With gamma = 1 the projections keep their norm.

    Args:
        state: Core tower in the official layout; a head that is already gone is fine.
        layer_scale: Gain of the published initialisation, 0.1 for G and Lang; None for a tower
            without LayerScale (Spatial L, B, S, T), where both methods only remove the head.
        method: 'preserve' or 'published'.

    Returns:
        A new state dict without `attn_pool`, `ln_post` and `proj`.

    Raises:
        ValueError: For an unknown method, or a state that has LayerScale already.
    """
    check_choice("core_to_spatial", method, CORE_METHODS)
    head = ("attn_pool.", "ln_post.", "proj")
    spatial = {key: value for key, value in state.items() if not key.startswith(head)}
    if layer_scale is None:
        return spatial
    layout = read_layout(spatial)
    if layout.layer_scale:
        raise ValueError("it has LayerScale already, so it is no Core tower")
    gain = 1.0 if method == "preserve" else layer_scale
    like = spatial["conv1.weight"]
    for i in range(layout.depth):
        for name in ("ls_1", "ls_2"):
            gamma = like.new_full((layout.embed_dim,), gain)
            spatial[f"transformer.resblocks.{i}.{name}.gamma"] = gamma
    return spatial


def trained_canvas(state: Mapping[str, Tensor], patch_size: int = 16) -> int | None:
    """Canvas in pixels that an official detection file was trained on.

    The official towers store the rotary table of their global blocks, one row per token of a square
    canvas; files of other kinds do not have it, and give None.

    Example:
        >>> trained_canvas({"backbone.0.body.rope_glb.freqs_cos": torch.ones(64 * 64, 96)})
        1024
    """
    for key, value in state.items():
        if key.endswith("rope_glb.freqs_cos"):
            return math.isqrt(value.shape[0]) * patch_size
    return None
