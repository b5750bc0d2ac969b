"""Layer-wise learning-rate decay for any encoder of the zoo, in mmdet and mmseg alike."""

from __future__ import annotations

import re

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from pe_dense.encoders.layer_depth import count_blocks, layer_of
from pe_dense.encoders.low_rank import is_adapter_parameter

# Positions, class and register tokens.
_EMBEDDING = re.compile(r"(?:embed|embedding|_token)$")
_SETTINGS = {"layer_decay", "backbone", "decay_norm_and_bias", "custom_keys"}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class EncoderLayerDecay(DefaultOptimWrapperConstructor):
    """Gives encoder block i the learning rate lr * layer_decay ** (L - i), heads the full one.

    Parameters without a gradient are in no group. LoRA updates are as new as a head and have
    nothing to keep: they get the full rate in every block, and keys of `custom_keys` that name no
    more than the encoder ('backbone.') are not for them; 'lora_' is.

    `paramwise_cfg` takes exactly these keys:
        layer_decay: Factor per layer, in (0, 1]; 1 switches the decay off.
        backbone: Prefix of the encoder's parameters, default 'backbone.'.
        decay_norm_and_bias: Whether weight decay also acts on vectors (norms, biases) and on
            position and class embeddings. False is the habit of the field; PE's own detection
            recipes use True.
        custom_keys: {substring: {'lr_mult': x, 'decay_mult': y}} for anything else, for example
            the sampling offsets of deformable attention.

    Raises:
        ValueError: If a key is unknown or no parameter belongs to the encoder.

    Source: decay rule of BEiT (arXiv:2106.08254) in the form of PE's detection code
    (perception_models @ 3e352cc, get_vit_lr_decay_rate_pev1): embeddings 0, block i as i + 1,
    everything else L + 1. mmdet's own constructor knows ConvNeXt only.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: object) -> None:
        """Append one parameter group for every (learning rate, weight decay) pair."""
        settings = dict(self.paramwise_cfg)
        unknown = sorted(set(settings) - _SETTINGS)
        if unknown:
            raise ValueError(f"EncoderLayerDecay has no setting {unknown}; it has {_SETTINGS}")
        decay, prefix = settings["layer_decay"], settings.get("backbone", "backbone.")
        num_layers = count_blocks(
            name for name, _ in module.named_parameters() if name.startswith(prefix)
        )
        groups: dict[tuple[float, float], dict] = {}
        seen_encoder = False
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                seen_encoder |= name.startswith(prefix)
                continue
            layer = num_layers + 1
            if name.startswith(prefix):
                seen_encoder = True
            is_adapter = name.startswith(prefix) and is_adapter_parameter(name)
            if name.startswith(prefix) and not is_adapter:
                layer = layer_of(name.removeprefix(prefix), num_layers)
            lr_mult, decay_mult = decay ** (num_layers + 1 - layer), 1.0
            is_embedding = name.startswith(prefix) and bool(_EMBEDDING.search(name))
            if not settings.get("decay_norm_and_bias", False):
                decay_mult = 0.0 if parameter.ndim == 1 or is_embedding else 1.0
            for key, custom in (settings.get("custom_keys") or {}).items():
                if key in name and not (is_adapter and key in prefix):
                    lr_mult *= custom.get("lr_mult", 1.0)
                    decay_mult *= custom.get("decay_mult", 1.0)
            pair = (self.base_lr * lr_mult, (self.base_wd or 0.0) * decay_mult)
            group = groups.setdefault(pair, {"params": [], "lr": pair[0], "weight_decay": pair[1]})
            group["params"].append(parameter)
        if not seen_encoder:
            raise ValueError(f"no parameter starts with {prefix!r}; set paramwise_cfg.backbone")
        params.extend(groups.values())
