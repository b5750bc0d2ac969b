"""Any encoder of the zoo as a detectron2 backbone. Needs detectron2, and nothing of OpenMMLab.

In a LazyConfig it takes the place of ViT inside the simple feature pyramid:

    from pe_dense.encoders.detectron2_adapter import PEBackbone

    model.backbone.net = L(PEBackbone)(
        encoder="pe_spatial_b16_512",
        weights="released",
        out_feature="last_feat",
        square_size=1024,
        encoder_options=dict(cls_token=False, window_size=32, global_blocks=[2, 5, 8, 11],
                             pos_embed="tile", rope_grid=32),
    )
    model.pixel_mean, model.pixel_std, model.input_format = [127.5] * 3, [127.5] * 3, "RGB"

Detectors that PE released were trained with 127, not 127.5: take [127.0] * 3 for their checkpoints.

Layer-wise learning rates: the rule of detectron2's ViT knows the names of that class alone and
gives every parameter of this one the full rate, without a word. Use the one here:

    from functools import partial
    from pe_dense.encoders.detectron2_adapter import layer_decay_rate

    optimizer = model_zoo.get_config("common/optim.py").AdamW
    optimizer.params.lr_factor_func = partial(layer_decay_rate, lr_decay_rate=0.7, num_layers=12)
    # Weight decay on norms and positions too, as PE trains detectors; leave out for ViTDet's.
    optimizer.params.overrides, optimizer.params.weight_decay_norm = {}, None

num_layers counts the blocks of the encoder: 12 for T, S and B, 24 for L, 50 for G, fewer if
encoder_options has depth.

With yacs configs, call `register()` and `add_pe_config(cfg)`, then set
`MODEL.BACKBONE.NAME: build_pe_backbone` and the values below `MODEL.PE`.

detectron2 is imported when `PEBackbone`, `register` or `add_pe_config` is asked for, not before.

Source: the interface of detectron2 @ 02b5c4e, modeling/backbone/{backbone,build,vit}.py; parameter
names of perception_models @ 3e352cc, apps/detection/detectron2_pe. Written from the description.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pe_dense.encoders.build import build_loaded
from pe_dense.encoders.layer_depth import block_of, layer_of

_INSIDE = "encoder."
_POSITIONS = "positional_embedding"
# The backbone itself, or the net of a pyramid.
_IN_TOWER = re.compile(r"^backbone\.(?:\w+\.)*?encoder\.")


def _import_detectron2() -> Any:
    """The package, with the modules that are needed here.

    Raises:
        ImportError: One sentence with the remedy.
    """
    try:
        import detectron2.config
        import detectron2.layers
        import detectron2.modeling
    except ImportError as error:
        raise ImportError(
            f"detectron2 cannot be imported ({error}); install it with pip install "
            "'git+https://github.com/facebookresearch/detectron2', or use the vitdet_ configs of "
            "pe_dense, which need only mmdet"
        ) from error
    return detectron2


@functools.cache
def _backbone_class() -> type[nn.Module]:
    detectron2 = _import_detectron2()

    class PEBackbone(detectron2.modeling.Backbone):
        """An encoder as a detectron2 backbone: one map, that of its last block.

        Its state dict has the names and shapes of the official detection towers, so that
        checkpoints go both ways: `conv1.weight`, `positional_embedding` as (1, N, C), ... Rotary
        tables of official checkpoints are skipped, because they are computed for every size.

        Parameters behind the blocks (final norm, attention pool) are not trained.

        Args:
            encoder: Name in the zoo, or 'timm:<model name>'.
            weights: 'random', 'released', a path, or 'hf://repo[:file]'.
            out_feature: Name of the map.
            square_size: Side in pixels that images are padded to, 0 for none.
            frozen: Eval mode, no gradient.
            grad_checkpointing: Recompute blocks in the backward pass.
            encoder_options: Further arguments of the encoder; `depth=k` ends after block k.
            weights_options: Further arguments of `load_weights`.

        Raises:
            ValueError: For an unknown encoder, option or weights file, or a square that is no
                multiple of the patch.
        """

        def __init__(
            self,
            encoder: str,
            weights: str = "random",
            out_feature: str = "last_feat",
            square_size: int = 0,
            frozen: bool = False,
            grad_checkpointing: bool = False,
            encoder_options: Mapping[str, Any] | None = None,
            weights_options: Mapping[str, Any] | None = None,
        ) -> None:
            super().__init__()
            self.encoder, _ = build_loaded(
                encoder,
                weights,
                weights_options,
                grad_checkpointing=grad_checkpointing,
                **(encoder_options or {}),
            )
            patch = self.encoder.patch_size
            if square_size % patch:
                raise ValueError(
                    f"square_size={square_size} is no multiple of the patch of {patch} px; use "
                    f"{round(square_size / patch) * patch}"
                )
            for parameter in self.encoder.head_parameters():
                parameter.requires_grad_(False)
            self.frozen, self.square_size, self.out_feature = frozen, square_size, out_feature
            if frozen:
                self.encoder.requires_grad_(False).eval()
            self._out_features = [out_feature]
            self._out_feature_channels = {out_feature: self.encoder.embed_dim}
            self._out_feature_strides = {out_feature: patch}
            self.register_state_dict_post_hook(_to_official_names)
            self.register_load_state_dict_pre_hook(_from_official_names)

        @property
        def size_divisibility(self) -> int:
            """The patch."""
            return self.encoder.patch_size

        @property
        def padding_constraints(self) -> dict[str, int]:
            """What detectron2 pads images to; the square only if there is one."""
            constraints = {"size_divisibility": self.encoder.patch_size}
            return constraints | ({"square_size": self.square_size} if self.square_size else {})

        def output_shape(self) -> dict[str, Any]:
            """Channels and stride of the map."""
            shape = detectron2.layers.ShapeSpec(
                channels=self.encoder.embed_dim, stride=self.encoder.patch_size
            )
            return {self.out_feature: shape}

        def train(self, mode: bool = True) -> nn.Module:
            """Switch mode; a frozen encoder stays in eval."""
            super().train(mode)
            if self.frozen:
                self.encoder.eval()
            return self

        def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
            """Normalised images (B, 3, H, W) -> {out_feature: map (B, C, h, w)}."""
            (last,) = self.encoder.forward_intermediates(images_B3HW, (-1,))
            return {self.out_feature: last}

    # LazyConfig and pickle find the class by this name.
    PEBackbone.__qualname__ = "PEBackbone"
    return PEBackbone


def _to_official_names(
    module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any
) -> None:
    """Names of this module in `state`: without 'encoder.', positions with a leading axis."""
    inside = prefix + _INSIDE
    for key in [key for key in state if key.startswith(inside)]:
        name = key.removeprefix(inside)
        value = state.pop(key)
        state[prefix + name] = value[None] if name == _POSITIONS else value


def _from_official_names(
    module: nn.Module, state: dict[str, Tensor], prefix: str, *settings: Any
) -> None:
    """The inverse of `_to_official_names`; rotary tables are taken out."""
    for key in [key for key in state if key.startswith(prefix)]:
        name, value = key.removeprefix(prefix), state.pop(key)
        if name.endswith(("freqs_cos", "freqs_sin")):
            continue
        if name == _POSITIONS and value.ndim == 3:
            value = value[0]
        state[prefix + _INSIDE + name] = value


def layer_decay_rate(name: str, lr_decay_rate: float = 1.0, num_layers: int = 12) -> float:
    """Factor of the learning rate of a parameter: detectron2's `lr_factor_func`.

    lr_decay_rate ** (num_layers + 1 - k): k is 0 in front of the blocks, i + 1 in block i, and
    num_layers + 1, which gives the full rate, behind them and outside the encoder.

    Args:
        name: Of a parameter of the whole model, 'backbone.net.encoder.conv1.weight'.
        lr_decay_rate: Factor per layer, in (0, 1].
        num_layers: Blocks of the encoder.

    Raises:
        ValueError: If the encoder has more blocks than that, or the backbone has blocks that are
            none of `PEBackbone`, which would silently get the full rate.

    Source: perception_models @ 3e352cc, get_vit_lr_decay_rate_pev1; for every encoder of the zoo.

    Example:
        >>> layer_decay_rate("backbone.net.encoder.transformer.resblocks.11.ln_1.bias", 0.5, 12)
        0.5
        >>> layer_decay_rate("backbone.simfp_2.0.weight", 0.5, 12)
        1.0
    """
    tower = _IN_TOWER.match(name)
    if tower is None:
        if name.startswith("backbone.") and block_of(name) is not None:
            raise ValueError(
                f"{name} belongs to a block, but to none of PEBackbone; use the rule of its class"
            )
        return 1.0
    inside = name[tower.end() :]
    block = block_of(inside)
    if block is not None and block >= num_layers:
        raise ValueError(
            f"{name} is in block {block}, but num_layers is {num_layers}; give the blocks of the "
            "encoder"
        )
    return lr_decay_rate ** (num_layers + 1 - layer_of(inside, num_layers))


def add_pe_config(cfg: Any) -> None:
    """Add `MODEL.PE` with the arguments of `PEBackbone` to a yacs config."""
    detectron2 = _import_detectron2()
    node = detectron2.config.CfgNode()
    node.ENCODER, node.WEIGHTS, node.OUT_FEATURE = "pe_spatial_b16_512", "released", "last_feat"
    node.SQUARE_SIZE, node.FROZEN, node.GRAD_CHECKPOINTING = 0, False, False
    node.ENCODER_OPTIONS = detectron2.config.CfgNode(new_allowed=True)
    cfg.MODEL.PE = node


@functools.cache
def register() -> type[nn.Module]:
    """Register `build_pe_backbone` with detectron2's BACKBONE_REGISTRY, once.

    Returns:
        `PEBackbone`.

    Raises:
        ImportError: If detectron2 is not installed.
    """
    backbone_class = _backbone_class()

    def build_pe_backbone(cfg: Any, input_shape: Any) -> nn.Module:
        """`PEBackbone` as `cfg.MODEL.PE` says."""
        settings = {name.lower(): value for name, value in cfg.MODEL.PE.items()}
        settings["encoder_options"] = dict(settings["encoder_options"])
        if input_shape.channels != 3:
            raise ValueError(
                f"PE encoders take 3 channels, but MODEL.PIXEL_MEAN has {input_shape.channels}"
            )
        return backbone_class(**settings)

    _import_detectron2().modeling.BACKBONE_REGISTRY.register(build_pe_backbone)
    return backbone_class


def __getattr__(name: str) -> Any:
    if name == "PEBackbone":
        return _backbone_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
