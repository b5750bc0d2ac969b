"""Any encoder of the zoo as an OpenMMLab backbone.

Registered once, on MMEngine's root registry, so that mmdet and mmseg configs both build it:
``backbone=dict(type='DenseBackbone', encoder='pe_spatial_b16_512', weights='released')``.

Shape legend: B images, C width, H W pixels, h w patch grid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.contract import WeightsInfo, check_choice, resolve_indices
from pe_dense.encoders.weights import load_weights
from pe_dense.encoders.whole_patches import pad_to_multiple
from pe_dense.encoders.zoo import find_encoder
from pe_dense.openmmlab.tuning import apply_tuning, parse_tuning, require_no_other, still_parts

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@MODELS.register_module()
class DenseBackbone(BaseModule):
    """An encoder whose chosen blocks come out as feature maps.

    Blocks after the last one asked for are not built, and parameters behind the blocks (final
    norm, attention pool) are not trained unless `norm` uses them, so that distributed training
    finds no unused parameter.

    Args:
        encoder: Name in the zoo, or 'timm:<model name>'.
        weights: 'random', 'released' (what the zoo names), a path, or 'hf://repo[:file]'.
        out_indices: 0-based blocks, negatives allowed; counted in the whole encoder.
        frozen: Eval mode, no gradient, parameters that never change; the same as tune='frozen'.
        norm: Apply the encoder's final norm to every map.
        amp_dtype: 'bfloat16' or 'float16' runs the encoder alone under autocast; maps come out
            as float32. None follows the surrounding precision.
        grad_checkpointing: Recompute blocks in the backward pass; an integer k, for PE towers,
            recomputes every k-th.
        tune: How much of the encoder is trained: 'frozen', 'lora' (rank 16), 'lora=RANK',
            'layers=N' (the last N blocks that are used) or 'full'; see `tuning`. None follows
            `frozen`.
        with_class_token: Give (map, class token) pairs instead of maps, for heads that read both.
            Necks and detectors take maps alone.
        center_pad: Surround an image whose sides are no multiples of the patch with zeros, half
            on either side (the odd pixel at the right and bottom). Maps then cover the padded
            image; heads that stretch them over the image shift it by less than half a patch, as
            DINOv2's dense evaluations do (arXiv:2304.07193). False leaves such sides to the
            encoder, whose option `remainder` refuses them by default.
        encoder_options: Further arguments of the encoder, for example
            `dict(cls_token=False, window_size=24, rope_grid=16, pos_embed='tile')`.
        weights_options: Further arguments of `load_weights`.
        init_cfg: Must stay None. MMEngine passes it to every module; weights come from
            `weights` alone, and neither this nor a detector-level `init_cfg` may replace them.

    Raises:
        ValueError: For an unknown encoder, block, option or weights file, with `init_cfg`, with
            `with_class_token` on an encoder that has none, or if `tune` cannot be followed.
    """

    def __init__(
        self,
        encoder: str,
        weights: str = "random",
        out_indices: Sequence[int] = (-1,),
        frozen: bool = False,
        norm: bool = False,
        amp_dtype: str | None = None,
        grad_checkpointing: bool | int = False,
        center_pad: bool = False,
        encoder_options: Mapping[str, Any] | None = None,
        weights_options: Mapping[str, Any] | None = None,
        with_class_token: bool = False,
        tune: str | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        if init_cfg is not None:
            raise ValueError("DenseBackbone takes no init_cfg; name the file in weights=...")
        if amp_dtype is not None:
            check_choice("amp_dtype", amp_dtype, tuple(AMP_DTYPES))
        tuning = parse_tuning(("frozen" if frozen else "full") if tune is None else tune)
        require_no_other(tuning, frozen)
        super().__init__()
        self.encoder_name, self.weights = encoder, weights
        self.tuning, self.norm, self.amp_dtype = tuning, norm, amp_dtype
        self.center_pad = center_pad
        spec = find_encoder(encoder)
        options = dict(encoder_options or {})
        full_depth = options.get("depth") or spec.arch.get("depth")
        if full_depth is None:  # timm rows do not say their depth
            with torch.device("meta"):
                full_depth = build_encoder(encoder, **options).depth
        self.out_indices = tuple(resolve_indices(out_indices, full_depth))
        self.full_depth = full_depth
        options["depth"] = max(self.out_indices) + 1
        if options.get("global_blocks"):  # counted in the whole encoder, like out_indices
            kept = resolve_indices(options["global_blocks"], full_depth)
            options["global_blocks"] = [i for i in kept if i < options["depth"]]
        if options.get("drop_path_schedule") == "linear" and full_depth > 1:
            share = (options["depth"] - 1) / (full_depth - 1)
            options["drop_path_rate"] = share * options.get("drop_path_rate", 0.0)
        self._weights_options = dict(weights_options or {})
        if weights == "released":
            self.weights = spec.weights
        if self.weights == "timm":
            options["pretrained"] = True
        options["grad_checkpointing"] = grad_checkpointing
        self._options = options
        self.encoder = self.new_encoder()
        self.embed_dim, self.patch_size = self.encoder.embed_dim, self.encoder.patch_size
        self.with_class_token = with_class_token
        if with_class_token and not self.encoder.has_class_token:
            raise ValueError(
                f"{encoder} has no class token as it is built; use with_class_token=False, or "
                "cls_token=True in encoder_options where the encoder has that choice"
            )
        self.weights_info = self._load()
        self.trains = apply_tuning(self.encoder, tuning)  # in words
        self.keep_parameters()
        for parameter in self.encoder.head_parameters(norm):
            parameter.requires_grad_(False)
        self.train()

    @property
    def frozen(self) -> bool:
        """Whether nothing of the encoder is trained."""
        return self.tuning.kind == "frozen"

    @property
    def is_loaded(self) -> bool:
        """Whether the parameters came from a file rather than from a random generator."""
        return self.weights != "random"

    def new_encoder(self) -> nn.Module:
        """Another encoder as this backbone builds it, before weights are loaded."""
        return build_encoder(self.encoder_name, **self._options)

    def whole_params(self) -> int:
        """Parameters of the encoder with the blocks that were not built, before any tuning."""
        options = {k: v for k, v in self._options.items() if k not in ("pretrained", "depth")}
        with torch.device("meta"):
            whole = build_encoder(self.encoder_name, **options, depth=self.full_depth)
        return sum(parameter.numel() for parameter in whole.parameters())

    def keep_parameters(self) -> None:
        """Take the encoder as it is now for what was loaded; `init_weights` compares with it.

        For those who change a loaded encoder on purpose, as by adding parameters.
        """
        self._loaded_sums = self._parameter_sums() if self.is_loaded else {}

    def _load(self) -> WeightsInfo:
        if self.weights == "timm":
            return self.encoder.weights_info()
        return load_weights(self.encoder, self.weights, **self._weights_options)

    def _parameter_sums(self) -> dict[str, float]:
        return {
            n: p.detach().cpu().double().sum().item() for n, p in self.encoder.named_parameters()
        }

    def init_weights(self) -> None:
        """Keep what was loaded: undo what a detector-level `init_cfg` did to the encoder."""
        if self.is_loaded and self._parameter_sums() != self._loaded_sums:
            if self.tuning.kind == "lora":
                self.encoder.load_state_dict(self._adapted_again().state_dict())
            elif self.weights == "timm":  # timm loads its own weights as it builds
                self.encoder.load_state_dict(self.new_encoder().state_dict())
            else:
                self._load()
        self._is_init = True

    def _adapted_again(self) -> nn.Module:
        """Another encoder, loaded and with updates that are zero."""
        encoder = self.new_encoder()
        if self.weights != "timm":
            load_weights(encoder, self.weights, **self._weights_options)
        apply_tuning(encoder, self.tuning)
        return encoder

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # MMEngine marks every module with `_params_init_info` while `init_weights` runs. A state
        # dict that arrives then comes from a model-level init_cfg of type Pretrained.
        reaches_encoder = any(key.startswith(prefix) for key in state_dict)
        if self.is_loaded and hasattr(self, "_params_init_info") and reaches_encoder:
            raise ValueError(
                "a model-level init_cfg of type Pretrained would overwrite the encoder weights "
                f"loaded from {self.weights}; name the checkpoint in load_from instead, or set "
                "the backbone's weights='random'"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def train(self, mode: bool = True) -> DenseBackbone:
        """Switch mode; what is frozen of the encoder stays in eval."""
        super().train(mode)
        for part in still_parts(self.encoder, self.tuning):
            part.eval()
        return self

    def forward(
        self, images_B3HW: Tensor
    ) -> tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...]:
        """Normalised RGB (B, 3, H, W) -> one (B, C, h, w) map for every index of `out_indices`.

        With class tokens, every entry is (map, token (B, C)).
        """
        if self.center_pad:
            images_B3HW, _ = pad_to_multiple(images_B3HW, self.patch_size, "centre")
        amp: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.amp_dtype is not None:
            amp = torch.autocast(images_B3HW.device.type, AMP_DTYPES[self.amp_dtype])
        grad = torch.no_grad() if self.frozen else contextlib.nullcontext()
        with amp, grad:
            found = self.encoder.forward_intermediates(
                images_B3HW,
                self.out_indices,
                norm=self.norm,
                return_prefix_tokens=self.with_class_token,
            )
        if not self.with_class_token:
            return tuple(found if self.amp_dtype is None else [m.float() for m in found])
        pairs = [(map_BChw, prefix_BPC[:, 0]) for map_BChw, prefix_BPC in found]  # registers follow
        return tuple(
            pairs if self.amp_dtype is None else [(m.float(), t.float()) for m, t in pairs]
        )
