"""Classes of patches from cosines with names; what no name fits is background.

Shape legend: B images, K classes, Q names (a class may have several), D width of the embedding,
h w patch grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Background(NamedTuple):
    """Which patches belong to no name.

    Attributes:
        index: Class that they get.
        threshold: A patch is background where no class has this probability, in (0, 1).
        scale: What cosines are multiplied with before the softmax over the classes.
    """

    index: int
    threshold: float
    scale: float


class Names(NamedTuple):
    """Names of classes, one after the other.

    Attributes:
        names: Q names.
        class_of_Q: Class of each.
    """

    names: tuple[str, ...]
    class_of_Q: tuple[int, ...]


def names_of(classes: Sequence[str], other_names: Mapping[str, Sequence[str]] | None) -> Names:
    """The names of all classes in order: those that are given for it, else its own.

    Args:
        classes: K class names.
        other_names: Class -> what it is called in prompts; an empty list leaves it without a name,
            which only the background may be.

    Raises:
        ValueError: If names are given for a class that is not there, or one name for two classes.

    Example:
        >>> names_of(["sky", "tv"], {"tv": ["television", "screen"]})
        Names(names=('sky', 'television', 'screen'), class_of_Q=(0, 1, 1))
    """
    other_names = dict(other_names or {})
    if strange := sorted(other_names.keys() - set(classes)):
        raise ValueError(f"names are given for {strange[0]!r}, which is none of the classes")
    names: list[str] = []
    class_of: list[int] = []
    for index, name in enumerate(classes):
        own = listed(other_names.get(name, [name]), f"names of {name!r}")
        for each in own:
            if each in names:
                first = classes[class_of[names.index(each)]]
                raise ValueError(f"{each!r} is a name of {first!r} and of {name!r}; keep one")
            names.append(each)
            class_of.append(index)
    return Names(tuple(names), tuple(class_of))


def listed(given: str | Sequence[str], what: str) -> list[str]:
    """A list of words as a config has it, or as a command line does: '[a,b c]'.

    Raises:
        ValueError: If it is one text without brackets.

    Example:
        >>> listed("[television,tv set]", "names"), listed(["a"], "names"), listed("[]", "names")
        (['television', 'tv set'], ['a'], [])
    """
    if not isinstance(given, str):
        return [str(word) for word in given]
    if not (given.startswith("[") and given.endswith("]")):
        raise ValueError(f"{what} are one text, {given!r}; give a list, such as [{given}]")
    return [word.strip().strip("'\"") for word in given[1:-1].split(",") if word.strip()]


def patch_cosines(embedding_BDhw: Tensor, names_QD: Tensor) -> Tensor:
    """Cosine of every patch with every name, (B, Q, h, w); both of unit length."""
    return torch.einsum("bdhw,qd->bqhw", embedding_BDhw, names_QD.to(embedding_BDhw))


def class_logits(
    cosine_BQhw: Tensor,
    class_of_Q: Sequence[int],
    num_classes: int,
    background: Background | None = None,
) -> Tensor:
    """(B, K, h, w), the largest of which is the class of a patch.

    A class has the cosine of its best name. With a background, patches in which no class reaches
    the threshold get it: its logit is log(threshold) + logsumexp of the scaled cosines of all named
    classes, which is above theirs exactly there. If it has names too, they compete as others do.

    Args:
        cosine_BQhw: Of every name.
        class_of_Q: Class of each name.
        num_classes: K.
        background: None: every class has a name, and every patch one of them.

    Raises:
        ValueError: If a class has no name (the background may have none), or the background makes
            no sense.
    """
    index_Q = torch.as_tensor(class_of_Q, device=cosine_BQhw.device)
    missing = sorted(set(range(num_classes)) - set(class_of_Q))
    if background is not None:
        _require_sound(background, num_classes)
        missing = [k for k in missing if k != background.index]
    if missing:
        raise ValueError(f"class {missing[0]} has no name; give one")
    shape = (cosine_BQhw.shape[0], num_classes, *cosine_BQhw.shape[2:])
    best_BKhw = cosine_BQhw.new_full(shape, -math.inf)
    best_BKhw.scatter_reduce_(
        1, index_Q[None, :, None, None].expand_as(cosine_BQhw), cosine_BQhw, "amax"
    )
    if background is None:
        return best_BKhw
    scaled_BKhw = background.scale * best_BKhw
    limit_Bhw = math.log(background.threshold) + torch.logsumexp(scaled_BKhw, dim=1)
    scaled_BKhw[:, background.index] = torch.maximum(scaled_BKhw[:, background.index], limit_Bhw)
    return scaled_BKhw


def _require_sound(background: Background, num_classes: int) -> None:
    if not 0 <= background.index < num_classes:
        raise ValueError(f"background class {background.index} is none of {num_classes} classes")
    if not 0.0 < background.threshold < 1.0:
        raise ValueError(
            f"background threshold {background.threshold} is outside (0, 1): it is the probability "
            "that a class must reach"
        )
    if not background.scale > 0.0:
        raise ValueError(f"background scale {background.scale} must be above 0")
