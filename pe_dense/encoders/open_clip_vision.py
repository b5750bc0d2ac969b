"""The vision tower of an open_clip model behind the encoder contract.

Shape legend: B images, T frames, P prefix tokens, C width, D width of the embedding, H W pixels,
h w patch grid.

Two kinds of towers: open_clip's own ViT (CLIP, MetaCLIP, DFN, CLIPA) and timm's inside open_clip
(SigLIP, SigLIP 2, PE Core, EVA-02-CLIP). open_clip does the work; this file adds the contract.

Source: mlfoundations/open_clip 3.3 (transformer.py, timm_model.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.contract import WeightsInfo, check_choice, resolve_indices
from pe_dense.encoders.conversion import shorten
from pe_dense.encoders.open_clip_names import PREFIX, find_open_clip, import_open_clip
from pe_dense.encoders.weights import differences, read_state_dict, require_finite
from pe_dense.encoders.whole_patches import REMAINDERS, fit_to_patches

VISUAL = "visual."  # prefix of the vision tower in open_clip's files
# What OpenAI's files hold beside parameters, and names that trainings put in front.
_NO_PARAMETERS = ("input_resolution", "context_length", "vocab_size")
_TEXT_PARTS = (
    "text_projection",
    "positional_embedding",
    "token_embedding",
    "transformer",
    "ln_final",
)


class OpenClipEncoder(nn.Module):
    """The vision tower of an open_clip model, with every block readable.

    Args:
        model_name: 'open_clip:<model>' or 'open_clip:<model>.<tag>', the prefix may be left out.
        image_size: Native side in pixels of the position grid that is built; None keeps
            open_clip's. Files of another grid are resampled as open_clip does.
        depth: Keep the first `depth` blocks only; None keeps all, which embeddings need.
        remainder: What to do with a side that is not a multiple of the patch: 'error',
            'pad' (zeros bottom and right) or 'floor' (drop the rest).
        grad_checkpointing: Recompute blocks in the backward pass.
        name: How errors call this encoder; None for 'open_clip:<model_name>'.

    Raises:
        ValueError: If open_clip cannot be imported, does not know the name, or the tower is no
            plain ViT; if an option makes no sense.
    """

    def __init__(
        self,
        model_name: str,
        *,
        image_size: int | None = None,
        depth: int | None = None,
        remainder: Literal["error", "pad", "floor"] = "error",
        grad_checkpointing: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        found = find_open_clip(model_name)
        self.name = name or PREFIX + model_name.removeprefix(PREFIX)
        config = model_config(found.config, image_size, self.name)
        config["text_cfg"] = {"width": 1, "heads": 1, "layers": 1, "vocab_size": 1}  # not needed
        model = build_model(config, image_size, self.name)
        self._adopt(model, found.mean, found.std, remainder)
        if depth is not None and not 1 <= depth <= self.depth:
            raise ValueError(
                f"{self.name} has {self.depth} blocks; depth {depth} is not in 1..{self.depth}"
            )
        self._cut_keys: set[str] = set()
        if depth is not None and depth < self.depth:
            whole = set(self.model.state_dict())
            self._keep_blocks(depth)
            self._cut_keys = whole - set(self.model.state_dict())
        if grad_checkpointing:
            self.set_grad_checkpointing()

    @classmethod
    def of_model(
        cls, model: nn.Module, name: str, mean: Sequence[float], std: Sequence[float]
    ) -> OpenClipEncoder:
        """The tower of a model that is already built; it stays the model's."""
        tower = cls.__new__(cls)
        nn.Module.__init__(tower)
        tower.name, tower._cut_keys = name, set()
        tower._adopt(model, mean, std, "error")
        return tower

    def _adopt(
        self,
        model: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        remainder: Literal["error", "pad", "floor"],
    ) -> None:
        check_choice("remainder", remainder, REMAINDERS)
        self.model = model.visual
        self.trunk_is_timm = hasattr(self.model, "trunk")
        tower = self.model.trunk if self.trunk_is_timm else self.model
        self.patch_size = _plain_patch_size(tower, self.trunk_is_timm, self.name)
        self.depth = len(self.blocks)
        self.embed_dim = int(tower.embed_dim if self.trunk_is_timm else tower.conv1.out_channels)
        self.num_prefix_tokens = int(tower.num_prefix_tokens) if self.trunk_is_timm else 1
        self.has_class_token = not self.trunk_is_timm or tower.cls_token is not None
        self.output_dim = int(model.embedding_width)
        self.mean, self.std = tuple(mean), tuple(std)
        self.any_size, self.remainder = False, remainder
        size = tower.patch_embed.img_size if self.trunk_is_timm else tower.image_size
        self.native_hw = (int(size[0]), int(size[1]))
        self._full_depth = self.depth

    def _keep_blocks(self, depth: int) -> None:
        if self.trunk_is_timm:
            self.model.trunk.blocks = self.model.trunk.blocks[:depth]
        else:
            transformer = self.model.transformer
            transformer.resblocks = transformer.resblocks[:depth]
        self.depth = depth

    @property
    def blocks(self) -> nn.Sequential | nn.ModuleList:
        """The transformer blocks."""
        if self.trunk_is_timm:
            return self.model.trunk.blocks
        return self.model.transformer.resblocks

    @property
    def patch_embedding(self) -> nn.Module:
        """Pixels to patches, in the layout of the model."""
        return self.model.trunk.patch_embed if self.trunk_is_timm else self.model.conv1

    @property
    def final_norm(self) -> nn.Module:
        """The norm behind the last block; it may do nothing."""
        return self.model.trunk.norm if self.trunk_is_timm else self.model.ln_post

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory: recompute every block in the backward pass."""
        self.model.set_grad_checkpointing(enable)

    def attention_window(self, block: int) -> int | None:
        """None: these ViTs see all tokens."""
        return None

    def weights_state(self) -> dict[str, Tensor]:
        """The state dict under open_clip's names."""
        return {VISUAL + key: value for key, value in self.model.state_dict().items()}

    def weights_info(self) -> WeightsInfo:
        """Towers are built with random weights."""
        return WeightsInfo("random", "random")

    def head_parameters(self, norm: bool = False) -> list[nn.Parameter]:
        """Parameters that maps do not use: pool, projection, and the final norm unless `norm`."""
        behind = {"ln_post", "proj", "norm", "fc_norm", "attn_pool", "head"}
        final = set() if not norm else set(map(id, self.final_norm.parameters()))
        named = [
            (key.removeprefix("trunk.").partition(".")[0], parameter)
            for key, parameter in self.model.named_parameters()
        ]
        return [p for part, p in named if part in behind and id(p) not in final]

    def load_weights_file(self, path: str | Path, **options: str) -> tuple[str, ...]:
        """Load the vision tower of an open_clip file strictly; its text tower is left out.

        Raises:
            ValueError: If the file cannot be read or does not fit (keys are listed), or an option
                is given: those are for PE towers; no parameter has changed then.
        """
        if options:
            words = " and ".join(options)
            raise ValueError(f"{words} is for PE towers, not for {type(self).__name__}")
        state = plain_state(read_state_dict(path))
        visual = {k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)}
        if not visual:
            raise ValueError(
                f"{path} does not fit {self.name}: it holds no vision tower (keys begin with "
                f"{shorten(sorted(state), 3)})"
            )
        cut = sorted(visual.keys() & self._cut_keys)
        used = {key: value for key, value in visual.items() if key not in cut}
        used, notes = self.resampled(used)
        if problem := differences(used, self.model.state_dict()):
            raise ValueError(f"{path} does not fit {self.name}: {problem}")
        require_finite(used, path)
        self.model.load_state_dict(used, strict=True)
        left = ["the text tower"] * (len(state) > len(visual))
        left += [shorten(cut)] * bool(cut)
        return (*notes, f"left out: {' and '.join(left)}") if left else notes

    def resampled(self, visual: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """A vision tower's state with positions of this grid, and what was done, in words."""
        key = "trunk.pos_embed" if self.trunk_is_timm else "positional_embedding"
        wanted = self.model.state_dict().get(key)
        given = visual.get(key)
        if wanted is None or given is None or wanted.shape == given.shape:
            return dict(visual), ()
        lead = 1 if self.trunk_is_timm else 0
        # A position of the class token is in front; timm keeps none where the grid alone has some.
        grid = (self.native_hw[0] // self.patch_size, self.native_hw[1] // self.patch_size)
        prefix = wanted.shape[lead] - grid[0] * grid[1]
        old_side = int(max(given.shape[lead] - prefix, 0) ** 0.5)
        same_width = given.ndim == wanted.ndim and given.shape[-1] == wanted.shape[-1]
        if not same_width or old_side < 1 or old_side**2 + prefix != given.shape[lead]:
            return dict(visual), ()  # the strict load says what differs
        rows_NC = given[0] if lead else given
        head, patches = rows_NC.float().tensor_split([prefix])
        grid_1Cnn = patches.view(1, old_side, old_side, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(
            grid_1Cnn, size=grid, mode="bicubic", antialias=True, align_corners=False
        )
        rows_NC = torch.cat([head, resized[0].flatten(1).T]).to(given.dtype)
        note = f"positions resampled from {old_side}x{old_side} to {grid[0]}x{grid[1]}"
        return {**visual, key: rows_NC[None] if lead else rows_NC}, (note,)

    def fit_images(self, images_B3HW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images of the size that the tower reads, and their grid (h, w).

        Raises:
            ValueError: If the shape is wrong, or of another size.
        """
        images_B3HW = fit_to_patches(images_B3HW, self.patch_size, self.remainder)
        height, width = images_B3HW.shape[-2:]
        if (height, width) != self.native_hw:
            native = "x".join(map(str, self.native_hw))
            raise ValueError(
                f"{self.name} reads images of {native} only, got {height}x{width}; build it with "
                "image_size=<side> or resize the image"
            )
        return images_B3HW, (height // self.patch_size, width // self.patch_size)

    def forward_intermediates(
        self,
        images_B3HW: Tensor,
        out_indices: Sequence[int],
        *,
        norm: bool = False,
        return_prefix_tokens: bool = False,
    ) -> list:
        """As in the contract."""
        if norm and isinstance(self.final_norm, nn.Identity):
            raise ValueError(f"{self.name} has no final norm; use norm=False")
        if norm and self.final_norm_is_pooled:
            raise ValueError(f"{self.name} norms what it has pooled, not tokens; use norm=False")
        indices = resolve_indices(out_indices, self.depth)
        images_B3HW, _ = self.fit_images(images_B3HW)
        wanted = sorted(set(indices))
        prefixed = return_prefix_tokens and self.num_prefix_tokens > 0
        found = self.model.forward_intermediates(
            images_B3HW,
            indices=wanted,
            stop_early=True,
            normalize_intermediates=norm,
            intermediates_only=True,
            output_fmt="NCHW",
            output_extra_tokens=prefixed,
        )
        maps = found["image_intermediates"]
        prefixes = (
            found["image_intermediates_prefix"]
            if prefixed
            else [x.new_empty(x.shape[0], 0, self.embed_dim) for x in maps]
        )
        outputs = list(zip(maps, prefixes, strict=True)) if return_prefix_tokens else maps
        by_block = dict(zip(wanted, outputs, strict=True))
        return [by_block[i] for i in indices]

    @property
    def final_norm_is_pooled(self) -> bool:
        """Whether the final norm belongs to the pooled embedding."""
        return bool(getattr(self.model, "final_ln_after_pool", False))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Map of the last block, (B, C, h, w)."""
        return self.forward_intermediates(images_B3HW, (-1,))[0]

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Image embedding (B, D), as open_clip's; unit length if `normalize`.

        Raises:
            ValueError: If blocks were cut off.
        """
        if self.depth != self._full_depth:
            raise ValueError(f"{self.name} was cut to {self.depth} blocks and has no embedding")
        images_B3HW, _ = self.fit_images(images_B3HW)
        embedding_BD = self.model(images_B3HW)
        return F.normalize(embedding_BD, dim=-1) if normalize else embedding_BD

    def encode_video(self, clips_BT3HW: Tensor, normalize: bool = False) -> Tensor:
        """Mean of the frame embeddings (B, D), of unit length each if `normalize`, as PE's."""
        if clips_BT3HW.ndim != 5:
            raise ValueError(f"expected clips (B, T, 3, H, W), got {tuple(clips_BT3HW.shape)}")
        frames = self.encode_image(clips_BT3HW.flatten(0, 1), normalize)
        return frames.unflatten(0, clips_BT3HW.shape[:2]).mean(dim=1)


def model_config(config: dict[str, Any], image_size: int | None, name: str) -> dict[str, Any]:
    """open_clip's settings, without anything that would load weights of its own.

    Raises:
        ValueError: For models whose text or image side is of a kind that has no place here.
    """
    if "multimodal_cfg" in config:
        raise ValueError(f"{name} is a captioning model, whose text tower has no place here")
    if config["text_cfg"].get("hf_model_name"):
        raise ValueError(
            f"the text tower of {name} is one of transformers, which has no place here; use a "
            "model with open_clip's own"
        )
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    elif isinstance(vision["layers"], list):
        raise ValueError(f"{name} is no plain ViT but a ResNet; use a ViT")
    elif vision.get("attentional_pool"):
        raise ValueError(f"{name} pools by several queries, which has no place here")
    if image_size is not None:
        vision["image_size"] = image_size
    config.pop("custom_text", None)
    return config


def build_model(config: dict[str, Any], image_size: int | None, name: str) -> nn.Module:
    """An open_clip model of both towers with random weights.

    Raises:
        ValueError: If the settings contradict each other.
    """
    open_clip = import_open_clip()
    try:
        model = open_clip.CustomTextCLIP(**config)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be built: {error}") from error
    if image_size is not None and hasattr(model.visual, "trunk"):
        model.visual.set_input_size(image_size)
    model.embedding_width = int(config["embed_dim"])
    return model


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of open_clip or OpenAI under the names of the model with a text tower of its own.

    Names of wrappers are removed; what an older file has of text at the top goes under 'text.'.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if key not in _NO_PARAMETERS}
    if "text_projection" not in state and "positional_embedding" not in state:
        return state
    return {
        f"text.{key}" if key.startswith(_TEXT_PARTS) else key: value for key, value in state.items()
    }


def _plain_patch_size(tower: nn.Module, is_timm: bool, name: str) -> int:
    if not is_timm:
        patch = tower.patch_size
        plain = hasattr(tower, "transformer") and patch[0] == patch[1]
    else:
        blocks = getattr(tower, "blocks", None)
        patch = getattr(getattr(tower, "patch_embed", None), "patch_size", None)
        plain = (
            isinstance(blocks, nn.Sequential | nn.ModuleList)
            and isinstance(patch, tuple)
            and len(set(patch)) == 1
            and isinstance(getattr(tower, "embed_dim", None), int)
            and hasattr(tower, "norm")
        )
    if not plain:
        raise ValueError(
            f"{name} ({type(tower).__name__}) is not a plain ViT: it needs one patch size and "
            "blocks of one width on one grid"
        )
    return int(patch[0])
