"""Any timm ViT behind the encoder contract: DINOv2, DINOv3, SigLIP 2, CLIP, MAE, EVA-02 and more.

Shape legend: B images, P prefix tokens, C width, H W pixels, h w patch grid.

timm does the work; this file adds the contract: outputs in the order asked, sizes that do not fit
the patch handled as asked, errors that say what to do. timm and the torchvision that it needs
are imported when an encoder is built, never before.

Source: huggingface/pytorch-image-models (timm 1.0), through its public API only.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pe_dense.encoders.contract import WeightsInfo, check_choice, resolve_indices
from pe_dense.encoders.conversion import shorten
from pe_dense.encoders.fingerprint import state_sha256
from pe_dense.encoders.published import require_published, revision_of
from pe_dense.encoders.weights import (
    WITHOUT_HUB,
    differences,
    read_state_dict,
    require_finite,
)
from pe_dense.encoders.whole_patches import REMAINDERS, fit_to_patches
from pe_dense.files import file_sha256

# Of an MLP between two linear layers: exact, in its tanh form, and x * sigmoid(1.702 x).
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu")


def import_timm() -> ModuleType:
    """Import timm, or say in one sentence what is missing.

    Raises:
        ValueError: If timm or torchvision is missing, or torchvision does not fit torch.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "timm":
            raise ValueError("timm is not installed; pip install 'pe_dense[timm]'") from error
        raise ValueError(
            f"timm cannot be imported because {missing} is not installed; pip install {missing} "
            "(torchvision must be built for the torch that is installed)"
        ) from error
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        raise ValueError(
            f"timm cannot be imported ({error}); this usually means that torchvision was built "
            f"for another torch than {torch.__version__}: install the torchvision of the same "
            "release and device, for CPU pip install torchvision --index-url "
            "https://download.pytorch.org/whl/cpu"
        ) from error
    return timm


class TimmEncoder(nn.Module):
    """A timm ViT with every block readable, at any resolution that the model allows.

    Pooled heads (classifier, attention pool, norm of the pooled feature) are removed; `model` is
    the timm module that is left.

    Args:
        model_name: timm name, with or without a tag, for example
            'vit_base_patch14_dinov2.lvd142m'.
        pretrained: Load the weights of that tag from timm's hub (needs the network once).
        image_size: Native side in pixels of the position grid that is built; None keeps timm's.
        depth: Keep the first `depth` blocks only; None keeps all.
        activation: Activation of the MLPs, one of `ACTIVATIONS`; None is timm's for that name.
        drop_path_rate: Stochastic depth in training, linear over the blocks as timm does.
        remainder: What to do with a side that is not a multiple of the patch: 'error',
            'pad' (zeros bottom and right, h = ceil(H / patch)) or 'floor' (drop the rest).
        grad_checkpointing: Recompute blocks in the backward pass.
        name: How errors call this encoder; None for 'timm:<model_name>'.

    Raises:
        ValueError: If timm cannot be imported, does not know the name, or the model is not a
            plain ViT; if timm builds it without the QuickGELU that its weights were trained with;
            if `activation`, `depth` or `remainder` makes no sense.

    Example:
        >>> TimmEncoder("vit_tiny_patch16_224", depth=2).embed_dim  # doctest: +SKIP
        192
    """

    def __init__(
        self,
        model_name: str,
        *,
        pretrained: bool = False,
        image_size: int | None = None,
        depth: int | None = None,
        activation: str | None = None,
        drop_path_rate: float = 0.0,
        remainder: Literal["error", "pad", "floor"] = "error",
        grad_checkpointing: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__()
        check_choice("remainder", remainder, REMAINDERS)
        check_choice("activation", activation, (None, *ACTIVATIONS))
        timm = import_timm()
        _check_model_name(timm, model_name)
        if activation is None:
            _check_quick_gelu(timm, model_name)
        options: dict[str, Any] = {"drop_path_rate": drop_path_rate}
        if image_size is not None:
            options["img_size"] = image_size
        if activation is not None:
            options["act_layer"] = activation
        self.model = _create_model(timm, model_name, pretrained, options)
        self.pretrained = pretrained
        self.name = name or f"timm:{model_name}"
        self.patch_size = _plain_patch_size(self.model, self.name)
        self.embed_dim = int(self.model.embed_dim)
        self.num_prefix_tokens = int(getattr(self.model, "num_prefix_tokens", 0))
        # Prefix tokens are no sign of a class token: some towers have registers alone.
        self.has_class_token = getattr(self.model, "cls_token", None) is not None
        self.output_dim = None
        config = self.model.pretrained_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        self.any_size = bool(getattr(self.model, "dynamic_img_size", False))
        self.native_hw = tuple(self.model.patch_embed.img_size)
        self.remainder = remainder

        # A file holds the whole timm model; what is cut off here is known and may be left over.
        self._cut_keys = set(self.model.state_dict())
        _remove_pooling(self.model)
        blocks = len(self.model.blocks)
        if depth is not None and not 1 <= depth <= blocks:
            raise ValueError(
                f"{self.name} has {blocks} blocks; depth {depth} is not in 1..{blocks}"
            )
        self.depth = blocks if depth is None else depth
        self.model.blocks = self.model.blocks[: self.depth]
        self._cut_keys -= set(self.model.state_dict())
        if grad_checkpointing:
            self.set_grad_checkpointing()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory: recompute every block in the backward pass."""
        if enable:
            from timm.layers import set_reentrant_ckpt

            # The reentrant kind gives no gradient at all where the patch embedding is frozen.
            set_reentrant_ckpt(False)
        self.model.set_grad_checkpointing(enable)

    @property
    def blocks(self) -> nn.Sequential | nn.ModuleList:
        """The transformer blocks."""
        return self.model.blocks

    @property
    def patch_embedding(self) -> nn.Module:
        """Pixels to patches, in the layout of the model."""
        return self.model.patch_embed

    def attention_window(self, block: int) -> int | None:
        """None: plain ViTs see all tokens."""
        return None

    def weights_state(self) -> dict[str, Tensor]:
        """The state dict under timm's names, without the 'model.' of this wrapper."""
        return self.model.state_dict()

    def head_parameters(self, norm: bool = False) -> list[nn.Parameter]:
        """Parameters that maps do not use: the final norm, unless `norm` is asked for."""
        final = getattr(self.model, "norm", None)
        return list(final.parameters()) if isinstance(final, nn.Module) and not norm else []

    def weights_info(self) -> WeightsInfo:
        """Where the parameters came from when the encoder was built.

        Raises:
            ValueError: If the file is not the one that was published.
        """
        if not self.pretrained:
            return WeightsInfo("random", "random")
        path = _cached_file(self.model.pretrained_cfg)
        if path is not None:
            found = file_sha256(path)
            is_published = require_published(path, found, self.name)
            return WeightsInfo(self.name, found, (), is_published, revision_of(path))
        sha256 = state_sha256(self.model.state_dict(), with_layout=False)
        return WeightsInfo(self.name, sha256, ("sha256 is that of the tensors",))

    def load_weights_file(self, path: str | Path, **options: str) -> tuple[str, ...]:
        """Load a safetensors or torch file strictly; timm's converters read original layouts.

        Entries of parts that this encoder has cut off (classifier, pooling, blocks past `depth`)
        may be in the file; anything else that is missing or left over is an error, and then no
        parameter has changed.

        Returns:
            What was done to the file's entries, in words.

        Raises:
            ValueError: If the file cannot be read or does not fit (keys are listed), or an option
                is given: those are for PE towers.
        """
        if options:
            words = " and ".join(options)
            raise ValueError(f"{words} is for PE towers, not for {type(self).__name__}")
        state = read_state_dict(path)
        state, notes = self._to_timm_layout(state, path)
        expected = self.model.state_dict()
        cut = sorted((state.keys() & self._cut_keys) | (state.keys() & self._classifier_keys()))
        used = {key: value for key, value in state.items() if key not in cut}
        if problem := differences(used, expected):
            raise ValueError(f"{path} does not fit {self.name}: {problem}")
        require_finite(used, path)
        self.model.load_state_dict(used, strict=True)
        return (*notes, f"left out: {shorten(cut)}") if cut else notes

    def _classifier_keys(self) -> set[str]:
        heads = self.model.pretrained_cfg.get("classifier") or ()
        heads = (heads,) if isinstance(heads, str) else tuple(heads)
        return {f"{head}.{part}" for head in heads for part in ("weight", "bias")}

    def _to_timm_layout(
        self, state: Mapping[str, Tensor], path: str | Path
    ) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
        expected = self.model.state_dict()
        fits = all(key in state and state[key].shape == expected[key].shape for key in expected)
        family = sys.modules[type(self.model).__module__]
        convert = getattr(family, "checkpoint_filter_fn", None)
        if fits or convert is None:
            return state, ()
        try:
            converted = dict(convert(dict(state), self.model))
        except Exception as error:
            raise ValueError(
                f"{path} is in no layout that timm converts for {self.name} "
                f"({type(error).__name__}: {error}); it holds {shorten(sorted(state))}"
            ) from error
        changed = sorted(
            key
            for key in converted.keys() & expected.keys()
            if key not in state or state[key].shape != converted[key].shape
        )
        return converted, (f"converted by timm: {shorten(changed)}",) if changed else ()

    def fit_images(self, images_B3HW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images whose sides are multiples of the patch, and their grid (h, w).

        Raises:
            ValueError: If the shape is wrong, or the model cannot take this size.
        """
        images_B3HW = fit_to_patches(images_B3HW, self.patch_size, self.remainder)
        height, width = images_B3HW.shape[-2:]
        if not self.any_size and (height, width) != self.native_hw:
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
        """As in the contract; not every timm ViT has a final norm of its tokens."""
        if norm and isinstance(getattr(self.model, "norm", nn.Identity()), nn.Identity):
            raise ValueError(f"{self.name} has no final norm; use norm=False")
        indices = resolve_indices(out_indices, self.depth)
        images_B3HW, grid_hw = self.fit_images(images_B3HW)
        wanted = sorted(set(indices))  # timm answers in block order, once per block
        prefixed = return_prefix_tokens and self.num_prefix_tokens > 0
        options = {"return_prefix_tokens": True} if prefixed else {}
        outputs = self.model.forward_intermediates(
            images_B3HW,
            indices=wanted,
            norm=norm,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
            **options,
        )
        if return_prefix_tokens and not prefixed:
            outputs = [(x, x.new_empty(x.shape[0], 0, self.embed_dim)) for x in outputs]
        by_block = dict(zip(wanted, outputs, strict=True))
        first = outputs[0][0] if return_prefix_tokens else outputs[0]
        if tuple(first.shape[1:]) != (self.embed_dim, *grid_hw):
            raise ValueError(
                f"{self.name} gives maps {tuple(first.shape[1:])} where a plain ViT gives "
                f"{(self.embed_dim, *grid_hw)}; it does not fit the encoder contract"
            )
        return [by_block[i] for i in indices]

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Map of the last block, (B, C, h, w)."""
        return self.forward_intermediates(images_B3HW, (-1,))[0]

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Not available: raises ValueError."""
        raise ValueError(
            f"{self.name} has no image embedding here: encode_image belongs to PE Core; use "
            "forward_intermediates, or a pe_core_* encoder"
        )

    def encode_video(self, clips_BT3HW: Tensor, normalize: bool = False) -> Tensor:
        """Not available: raises ValueError."""
        raise ValueError(
            f"{self.name} has no video embedding here: encode_video belongs to PE Core; use "
            "forward_intermediates frame by frame, or a pe_core_* encoder"
        )


def _check_model_name(timm: ModuleType, model_name: str) -> None:
    architecture, _, tag = model_name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise ValueError(f"timm {timm.__version__} knows no model {model_name!r}; {hint}")
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and model_name not in tagged:
        near = ", ".join(tagged) or "none"
        raise ValueError(f"timm knows no weights {model_name!r}; those of {architecture}: {near}")


def _check_quick_gelu(timm: ModuleType, model_name: str) -> None:
    """Refuse a CLIP tower with GELU whose weights timm also has with QuickGELU.

    timm keeps such weights under both names and builds what the name says. Those of OpenAI, and of
    those who followed them (MetaCLIP, DFN), were trained with QuickGELU; with GELU every map is
    off, without an error.
    """
    architecture, _, tag = model_name.partition(".")
    trained_as = architecture.replace("_clip_", "_clip_quickgelu_", 1)
    if not tag or trained_as == architecture or "_clip_quickgelu_" in architecture:
        return
    if f"{trained_as}.{tag}" in timm.list_pretrained(f"{trained_as}.*"):
        raise ValueError(
            f"the weights {model_name} were trained with QuickGELU, and timm builds this name "
            f"with GELU; use timm:{trained_as}.{tag}, or name an activation"
        )


def _create_model(
    timm: ModuleType, model_name: str, pretrained: bool, options: Mapping[str, Any]
) -> nn.Module:
    for sizes in ({"dynamic_img_size": True}, {}):  # not every family has dynamic sizes
        try:
            return timm.create_model(
                model_name, pretrained=pretrained, num_classes=0, **options, **sizes
            )
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            if "act_layer" in str(error):
                raise ValueError(
                    f"timm model {model_name} has no other activation than its own; leave "
                    "activation out"
                ) from error
            reason = error
        except (OSError, RuntimeError, ValueError) as error:
            if not pretrained:
                raise
            raise ValueError(
                f"the weights of {model_name} cannot be loaded ({error}); check the network, or: "
                f"{WITHOUT_HUB}"
            ) from error
    raise ValueError(f"timm model {model_name} is not a plain ViT ({reason})") from reason


def _plain_patch_size(model: nn.Module, name: str) -> int:
    """Patch side of a plain ViT: blocks of one width on one grid, read from one patch size."""
    blocks = getattr(model, "blocks", None)
    patch_embed = getattr(model, "patch_embed", None)
    patch = getattr(patch_embed, "patch_size", None)
    plain = (
        isinstance(blocks, nn.Sequential | nn.ModuleList)
        and hasattr(model, "forward_intermediates")
        and getattr(patch_embed, "img_size", None) is not None
        and isinstance(patch, tuple)
        and len(set(patch)) == 1
        and isinstance(getattr(model, "embed_dim", None), int)
    )
    if plain:
        levels = [(level["num_chs"], level["reduction"]) for level in model.feature_info]
        plain = levels == [(model.embed_dim, patch[0])] * len(blocks)
    if not plain:
        raise ValueError(
            f"{name} ({type(model).__name__}) is not a plain ViT: it needs one patch size and "
            "blocks of one width on one grid"
        )
    return int(patch[0])


def _remove_pooling(model: nn.Module) -> None:
    """Cut everything behind the tokens, so that no parameter goes without a gradient."""
    if getattr(model, "attn_pool", None) is not None:
        model.attn_pool = None
    for part in ("fc_norm", "head", "head_dist", "neck"):
        if isinstance(getattr(model, part, None), nn.Module):
            setattr(model, part, nn.Identity())


def _cached_file(config: Mapping[str, Any]) -> Path | None:
    """File in the local cache that timm's pretrained weights were read from, if it is known."""
    if config.get("file"):
        return Path(config["file"])
    if config.get("hf_hub_id"):
        from huggingface_hub import try_to_load_from_cache

        name = config.get("hf_hub_filename")
        for file_name in (name,) if name else ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(config["hf_hub_id"], file_name)
            if isinstance(found, str):
                return Path(found)
        return None
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.get("url") or "none").name
    return path if path.is_file() else None
