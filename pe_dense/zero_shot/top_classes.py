"""The best classes of pictures, from cosines, in chunks.

Shape legend: N pictures, K classes, D width of the embedding, J best classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MOST_KEPT = 5
# Relative to a score, one step of float64: parts ties of float32, and nothing that is no tie.
TIE = 2.0**-52


class TopClasses(NamedTuple):
    """The best classes of each picture.

    Attributes:
        class_NJ: Their places among the classes, the best first, int64.
        score_NJ: Their cosines.
        rank_N: How many other classes score at least what the right one does; 0 is right.
    """

    class_NJ: Tensor
    score_NJ: Tensor
    rank_N: Tensor


def top_classes(
    images_ND: Tensor, classes_KD: Tensor, target_N: Tensor, kept: int = MOST_KEPT,
    chunk: int = 4096, silent: Sequence[int] = (),
) -> TopClasses:  # fmt: skip
    """Scores of unit vectors, and what is kept of them.

    Ties count against the right class: it stands behind every other one of its score, so that a
    tower that gives all classes one vector is right nowhere.

    Args:
        images_ND: Unit length.
        classes_KD: Unit length.
        target_N: Right classes, int64.
        kept: J at most; there are no more than classes.
        chunk: Pictures that are scored together.
        silent: Classes that are never said, as those whose name stands before: `argmax` over equal
            scores takes the first.

    Raises:
        ValueError: If shapes do not fit, or a vector is not finite.
    """
    if images_ND.ndim != 2 or classes_KD.ndim != 2 or images_ND.shape[1] != classes_KD.shape[1]:
        raise ValueError(
            f"pictures {tuple(images_ND.shape)} and classes {tuple(classes_KD.shape)} do not fit; "
            "pass (N, D) and (K, D)"
        )
    if target_N.shape != images_ND.shape[:1]:
        raise ValueError(f"{len(target_N)} targets for {len(images_ND)} pictures; give one each")
    if len(target_N) and not 0 <= int(target_N.min()) <= int(target_N.max()) < len(classes_KD):
        raise ValueError(
            f"targets lie in {int(target_N.min())}..{int(target_N.max())}, outside the "
            f"{len(classes_KD)} classes"
        )
    for what, values in (("picture", images_ND), ("class", classes_KD)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"the vector of a {what} is not finite; its tower is broken")
    kept = min(kept, len(classes_KD) - len(silent))
    parts = []
    for start in range(0, len(images_ND), chunk):
        target_n1 = target_N[start : start + chunk, None]
        score_nK = images_ND[start : start + chunk] @ classes_KD.T
        score_nK[:, list(silent)] = -torch.inf
        right_n1 = score_nK.gather(1, target_n1)
        rank_n = (score_nK >= right_n1).sum(dim=1) - 1
        behind_nK = score_nK.to(torch.float64, copy=True)
        step_n1 = (TIE * right_n1.double().abs() + 1e-300).nan_to_num(posinf=0.0)
        behind_nK.scatter_(1, target_n1, right_n1.double() - step_n1)
        class_nJ = behind_nK.topk(kept, dim=1).indices
        parts.append((class_nJ, score_nK.gather(1, class_nJ), rank_n))
    if not parts:
        empty = target_N.new_zeros(0, kept)
        return TopClasses(empty, images_ND.new_zeros(0, kept), target_N.new_zeros(0))
    return TopClasses(*(torch.cat(column) for column in zip(*parts, strict=True)))
