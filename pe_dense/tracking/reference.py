"""Label propagation as one would write it down: its settings, and all similarities at once.

A token takes the labels of the k most similar tokens of the context (the first frame and the last
n frames) within a radius, weighted by exp(cosine / temperature). `label_propagation` computes the
same for many settings in a fraction of the time and memory; tests and benchmarks compare the two.

Source: facebookresearch/dino @ 7c446df, eval_video_segmentation.py (after Jabri et al.,
arXiv:2006.14613); circular neighbourhoods as in DINOv3, arXiv:2508.10104 section 6.1. As there,
tokens as similar as the k-th best one count too, the first frame is restricted to the
neighbourhood like any other, and soft labels are what is passed on.

Deviations: the exponent is taken relative to the best token, so that low temperatures do not
overflow; ties are ties of the cosine, not of its exponential, which merges close values in
float32.

Shape legend: T frames, h w token grid, N = h w tokens, D width, C labels, M context frames,
X = M N tokens of the context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBOURHOODS = ("square", "circle")


@dataclass(frozen=True)
class PropagationSetting:
    """How labels are passed on; the defaults are those of DINO.

    Attributes:
        last_frames: Previous frames in the context besides the first; 0 for the first alone.
        radius: Reach of a query in tokens, 0 for the whole grid.
        neighbourhood: 'square' (Chebyshev distance) or 'circle' (Euclidean), both up to and
            including the radius.
        topk: Neighbours that give labels, over all context frames together.
        temperature: Of the exponential of the cosine.

    Raises:
        ValueError: If a value is out of range.
    """

    last_frames: int = 7
    radius: int = 12
    neighbourhood: str = "square"
    topk: int = 5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name, low in (("last_frames", 0), ("radius", 0), ("topk", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {low}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature} must be above 0 and finite")
        if self.neighbourhood not in NEIGHBOURHOODS:
            raise ValueError(
                f"neighbourhood {self.neighbourhood!r} is unknown; "
                f"choose one of {', '.join(NEIGHBOURHOODS)}"
            )

    @property
    def reach(self) -> tuple[int, str]:
        """Radius and neighbourhood; an unrestricted one has no shape."""
        return self.radius, self.neighbourhood if self.radius else NEIGHBOURHOODS[0]


def propagate_plainly(
    frames_ThwD: Tensor,
    first_labels_Chw: Tensor,
    setting: PropagationSetting,
    given: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Soft labels (T - 1, C, h, w) of all frames after the first.

    Args:
        frames_ThwD: Token features, not normalised.
        first_labels_Chw: Labels of the first frame on the token grid.
        setting: How labels are passed on.
        given: Labels (C, h, w) of some later frames, by number of the frame: where a token has
            any, they replace what was propagated to it.
    """
    grid_hw, given = frames_ThwD.shape[1:3], given or {}
    features_TND = frames_ThwD.flatten(1, 2)
    near_NN = neighbourhood(grid_hw, setting).to(frames_ThwD.device)
    labels_NC = [first_labels_Chw.flatten(1).T]  # of each frame
    for t in range(1, len(features_TND)):
        context = [0, *range(max(1, t - setting.last_frames), t)]
        labels_MNC = torch.stack([labels_NC[u] for u in context])
        new_NC = next_labels(features_TND[t], features_TND[context], labels_MNC, near_NN, setting)
        if t in given:
            given_NC = given[t].flatten(1).T
            new_NC = torch.where(given_NC.any(dim=1, keepdim=True), given_NC, new_NC)
        labels_NC.append(new_NC)
    return torch.stack(labels_NC[1:]).mT.unflatten(2, grid_hw)


def neighbourhood(grid_hw: tuple[int, int], setting: PropagationSetting) -> Tensor:
    """Whether a query (row) may look at a token (column) of a context frame: bool (N, N)."""
    y, x = torch.meshgrid(*(torch.arange(side) for side in grid_hw), indexing="ij")
    dy_NN, dx_NN = (place.flatten()[:, None] - place.flatten() for place in (y, x))
    if not setting.radius:
        return torch.ones_like(dy_NN, dtype=torch.bool)
    if setting.neighbourhood == "square":
        return torch.maximum(dy_NN.abs(), dx_NN.abs()) <= setting.radius
    return dy_NN**2 + dx_NN**2 <= setting.radius**2


def next_labels(
    query_ND: Tensor,
    context_MND: Tensor,
    labels_MNC: Tensor,
    near_NN: Tensor,
    setting: PropagationSetting,
) -> Tensor:
    """Soft labels (N, C) of a frame, from features and labels of its context."""
    query_ND, context_MND = F.normalize(query_ND, dim=-1), F.normalize(context_MND, dim=-1)
    cosine_NX = query_ND @ context_MND.flatten(0, 1).T
    cosine_NX.view(len(query_ND), *labels_MNC.shape[:2]).masked_fill_(~near_NN[:, None], -math.inf)
    k = min(setting.topk, cosine_NX.shape[1])
    kth_N1 = cosine_NX.topk(k, dim=1).values[:, -1:]
    cosine_NX.masked_fill_(cosine_NX < kth_N1, -math.inf)  # what ties with the k-th stays
    weights_NX = cosine_NX.div_(setting.temperature).softmax(dim=1)
    return weights_NX @ labels_MNC.flatten(0, 1)
