"""How much of an encoder a training changes: `tune = frozen | lora | lora=RANK | layers=N | full`.

frozen     nothing; no gradient, eval mode
lora       updates of rank 16 beside the linear layers of the blocks (see encoders.low_rank)
layers=N   the last N of the blocks that are used; what is in front of them, positions and all norms
           outside of blocks stay
full       everything that the maps use
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from pe_dense.encoders.low_rank import add_adapters

if TYPE_CHECKING:
    from pe_dense.encoders.contract import Encoder

RANK = 16  # of 'lora'
FORMS = "frozen, lora, lora=RANK, layers=N, full"
_FORM = re.compile(r"(frozen|full|lora)|(lora|layers)=([1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True)
class Tuning:
    """What `parse_tuning` reads.

    Attributes:
        kind: 'frozen', 'lora', 'layers' or 'full'.
        number: Rank of the updates, or number of blocks; 0 for the other two.
    """

    kind: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.kind}={self.number}" if self.number else self.kind


def parse_tuning(text: object) -> Tuning:
    """Read the option.

    Raises:
        ValueError: If it has none of the forms.

    Example:
        >>> parse_tuning("lora"), str(parse_tuning("layers=4"))
        (Tuning(kind='lora', number=16), 'layers=4')
    """
    form = _FORM.fullmatch(text) if isinstance(text, str) else None
    if form is None:
        raise ValueError(f"tune={text!r} is none of {FORMS} (RANK and N are whole numbers from 1)")
    kind = form.group(1) or form.group(2)
    number = int(form.group(3)) if form.group(3) else RANK if kind == "lora" else 0
    return Tuning(kind, number)


def require_no_other(tuning: Tuning, frozen: bool) -> None:
    """Refuse `frozen=True` beside a `tune` that trains.

    Raises:
        ValueError: If so.
    """
    if frozen and tuning.kind != "frozen":
        raise ValueError(f"frozen=True and tune={tuning} contradict each other; leave frozen out")


def apply_tuning(encoder: Encoder, tuning: Tuning) -> str:
    """Freeze, or adapt, what a tuning says, in place; the encoder's function stays as it is.

    Args:
        encoder: Loaded; what `head_parameters` names is frozen by the caller.
        tuning: What to train.

    Returns:
        What is trained, in words.

    Raises:
        ValueError: If the encoder has fewer blocks than are asked for, or cannot be adapted.
    """
    if tuning.kind == "full":
        return "all parameters that the maps use"
    if tuning.kind == "lora":
        layers = add_adapters(encoder, tuning.number)
        return (
            f"LoRA of rank {tuning.number} on {', '.join(layers)} of {len(encoder.blocks)} blocks"
        )
    encoder.requires_grad_(False)
    if tuning.kind == "frozen":
        return "nothing"
    count = len(encoder.blocks)
    if tuning.number > count:
        raise ValueError(
            f"tune={tuning} asks for more blocks than the {count} that are used; use layers={count}"
            " or less, or full"
        )
    for block in list(encoder.blocks)[count - tuning.number :]:
        block.requires_grad_(True)
    return f"the last {tuning.number} of {count} blocks"


def still_parts(encoder: Encoder, tuning: Tuning) -> list[nn.Module]:
    """The modules that stay in eval mode while the rest trains: what a tuning leaves untouched."""
    if tuning.kind == "frozen":
        return [encoder]
    if tuning.kind == "layers":
        return list(encoder.blocks)[: len(encoder.blocks) - tuning.number]
    return []


def trainable_and_all(module: nn.Module) -> tuple[int, int]:
    """Numbers of parameters: those with a gradient, and all."""
    sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def in_words(model: nn.Module, backbone: nn.Module) -> str:
    """One line for the start of a training.

    Args:
        model: The whole model.
        backbone: The `DenseBackbone` in it.

    Example:
        'tune=lora: LoRA of rank 16 on attn.qkv ... of 12 blocks; 1.2 M of 23.3 M parameters of the
        encoder are trained, 5.2 M of 27.3 M of the model'
    """
    (some, every), (own, whole) = trainable_and_all(backbone.encoder), trainable_and_all(model)
    return (
        f"tune={backbone.tuning}: trains {backbone.trains}; {some:,} of {every:,} parameters of "
        f"the encoder have a gradient, {own:,} of {whole:,} of the model"
    )
