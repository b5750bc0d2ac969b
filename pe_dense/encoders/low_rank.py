"""LoRA on the blocks of an encoder: low-rank updates that are trained beside frozen weights.

Every linear layer W of the blocks becomes W + SCALE * B A, with A of (rank, in) drawn at random and
B of (out, rank) zero, so that the encoder begins as it was. peft holds the two and runs them; here
is which layers get them, and how they go back into plain weights.

peft adapts modules of type Linear, and only where they are called. Both are seen to: the fused
query-key-value weights of a PE tower are parameters without a module, so `LinearQKV` gives them
one, and a trial pass finds layers whose weights a tower multiplies by hand (BEiT's qkv), which
would keep an adapter that never acts. Paths that read a layer's weight for speed
(`residual_norm.linear_gelu`) step aside for an adapted layer; with a compiler a block runs as
written. Merging needs no peft.

Source: LoRA, arXiv:2106.09685. Which layers (all linear ones) and the scale of the update, 2 at
every rank: LoRA Learns Less and Forgets Less, arXiv:2405.09673.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pe_dense.encoders.pe import SelfAttention

if TYPE_CHECKING:
    from pe_dense.encoders.contract import Encoder

SCALE = 2.0
_ADAPTER = "default"  # peft's name for the only one
_BASE, _DOWN, _UP = ".base_layer.", f".lora_A.{_ADAPTER}.weight", f".lora_B.{_ADAPTER}.weight"


class LinearQKV(SelfAttention):
    """`SelfAttention` whose query, key and value come out of a module, which can be adapted."""

    def __init__(self, attention: SelfAttention) -> None:
        nn.Module.__init__(self)
        self.num_heads = attention.num_heads
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        self.in_proj = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.in_proj.weight, self.in_proj.bias = weight, bias
        self.out_proj = attention.out_proj
        self.train(attention.training)

    @property
    def in_proj_weight(self) -> Tensor:
        """What stands in the place of the parameter, (3 C, C), for those who read it."""
        return effective_weight(self.in_proj)

    @property
    def in_proj_bias(self) -> Tensor:
        """The bias, (3 C,), which has no update."""
        return _base(self.in_proj).bias

    def qkv(self, tokens_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, 3 C)."""
        return self.in_proj(tokens_BNC)


def _base(layer: nn.Module) -> nn.Module:
    return layer.base_layer if is_adapted(layer) else layer


def is_adapted(module: nn.Module) -> bool:
    """Whether a layer has an update beside its weight."""
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def has_adapters(module: nn.Module) -> bool:
    """Whether any layer of a model has an update beside its weight."""
    return any(map(is_adapted, module.modules()))


def is_adapter_parameter(name: str) -> bool:
    """Whether a parameter belongs to an update, by its name.

    Example:
        >>> is_adapter_parameter("encoder.blocks.0.attn.qkv.lora_A.default.weight")
        True
        >>> is_adapter_parameter("encoder.blocks.0.attn.qkv.base_layer.weight")
        False
    """
    return ".lora_A." in name or ".lora_B." in name


def effective_weight(layer: nn.Module) -> Tensor:
    """The weight that a linear layer multiplies by, with its update if it has one."""
    weight = _base(layer).weight
    if not is_adapted(layer):
        return weight
    return weight + _update(layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight)


def _update(down_RI: Tensor, up_OR: Tensor) -> Tensor:
    return SCALE * (up_OR @ down_RI)


def add_adapters(encoder: Encoder, rank: int) -> list[str]:
    """Put updates beside all linear layers of the blocks, in place; nothing else has a gradient.

    Args:
        encoder: Loaded; its function does not change.
        rank: Inner width of an update, 1 or more.

    Returns:
        The adapted layers by the ends of their names, 'attn.qkv'; of a block each once.

    Raises:
        ValueError: If peft is missing, or the blocks have no layer that can be adapted.
    """
    assert rank >= 1
    peft = _import_peft()
    for block in encoder.blocks:
        for name, module in list(block.named_modules()):
            if type(module) is SelfAttention:
                block.set_submodule(name, LinearQKV(module))
    called = _called_linears(encoder)
    names = {
        f"{place}.{name}": name
        for place, block in _placed_blocks(encoder)
        for name, module in block.named_modules()
        if type(module) is nn.Linear and module in called
    }
    if not names:
        raise ValueError(
            f"{encoder.name} has no linear layer in its blocks that LoRA could adapt; use "
            "tune=frozen, layers=N or full"
        )
    settings = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=list(names))
    peft.inject_adapter_in_model(settings, encoder, _ADAPTER)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(is_adapter_parameter(name))
    return list(dict.fromkeys(names.values()))


def _placed_blocks(encoder: Encoder) -> list[tuple[str, nn.Module]]:
    names = {module: name for name, module in encoder.named_modules()}
    return [(names[block], block) for block in encoder.blocks]


@torch.enable_grad()  # paths that read weights for speed are for passes without
def _called_linears(encoder: Encoder) -> set[nn.Module]:
    """Linear layers that a pass calls as modules, as those must be that peft wraps."""
    called: set[nn.Module] = set()
    handles = [
        module.register_forward_pre_hook(lambda layer, _: called.add(layer))
        for block in encoder.blocks
        for module in block.modules()
        if type(module) is nn.Linear
    ]
    side = 2 * encoder.patch_size
    height, width = (side, side) if encoder.any_size else encoder.native_hw
    like = next(encoder.parameters())
    image_13HW = torch.zeros(1, 3, height, width, dtype=like.dtype, device=like.device)
    modes = {module: module.training for module in encoder.modules()}
    try:
        encoder.eval()
        encoder.forward_intermediates(image_13HW, (-1,))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return called


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError(
            f"tune=lora trains through peft, which cannot be imported ({error}); pip install "
            "'pe_dense[lora]', or use tune=frozen, layers=N or full"
        ) from error
    return peft


def merged_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every update added to its weight, under the plain names.

    Args:
        state: Of an encoder or of a model around it; without updates it comes back as it is.

    Raises:
        ValueError: If half an update is missing.
    """
    plain = {}
    for key, value in state.items():
        if is_adapter_parameter(key):
            continue
        layer, base, kind = key.rpartition(_BASE)
        if base and kind == "weight":
            for part in (_DOWN, _UP):
                if layer + part not in state:
                    raise ValueError(f"the LoRA layer {layer} has no {layer + part}")
            value = value + _update(state[layer + _DOWN], state[layer + _UP]).to(value.dtype)
        plain[_plain_name(key)] = value
    return plain


def _plain_name(key: str) -> str:
    """The name that an entry has in a model without updates."""
    layer, base, kind = key.rpartition(_BASE)
    joint = "_" if layer.endswith(".in_proj") else "."  # `LinearQKV`'s
    return f"{layer}{joint}{kind}" if base else key


def adapted_state(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A plain state dict under the names of a model with updates, whose own updates stay.

    Args:
        state: Of a model without updates; one that has some comes back as it is.
        own: State dict of the model that is to load it.
    """
    if any(map(is_adapter_parameter, state)):
        return dict(state)
    updates = {key: value for key, value in own.items() if is_adapter_parameter(key)}
    names = {_plain_name(key): key for key in own.keys() - updates.keys()}
    return {names.get(key, key): value for key, value in state.items()} | updates


def merged(model: nn.Module) -> nn.Module:
    """A copy of a model in which every update has become part of its weight.

    It has the layers, names and paths of a model that was never adapted; the model itself stays.
    """
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if is_adapted(module):
            layer = module.base_layer
            with torch.no_grad():
                layer.weight.copy_(effective_weight(module))
            plain.set_submodule(name, layer)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LinearQKV):
            plain.set_submodule(name, _plain_attention(module))
    return plain


def _plain_attention(attention: LinearQKV) -> SelfAttention:
    plain = SelfAttention.__new__(SelfAttention)
    nn.Module.__init__(plain)
    plain.num_heads = attention.num_heads
    plain.in_proj_weight, plain.in_proj_bias = attention.in_proj.weight, attention.in_proj.bias
    plain.out_proj = attention.out_proj
    return plain.train(attention.training)
