"""Classes of pictures by their nearest training pictures; nothing is trained.

Shape legend: Q pictures that are asked for, N training pictures, F width of a feature, K classes, S
sources, P numbers of neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from pe_dense.probing.classification.class_images import ClassImages, held_out_rows
from pe_dense.probing.classification.global_model import GlobalFeatureModel
from pe_dense.probing.classification.ranked_classes import ranked
from pe_dense.probing.head_bank import Source
from pe_dense.probing.neighbour_probe import Neighbours, class_votes, exact_top_k

FILLED_AT_ONCE = 256
Rows = tuple[np.ndarray, ...]  # of a source, one array (N, F) a layer


@MODELS.register_module()
class GlobalNeighbours(GlobalFeatureModel):
    """Weighted nearest neighbours among the features of training pictures, by cosine.

    A neighbour says its class with weight exp(cosine / temperature). Pictures that choose layer and
    k are compared with training pictures that are not held out; the reported ones with all of them,
    as DINO does. The k nearest are exact; of equal ones that with the lower place in the list. The
    bank is read chunk by chunk, so that no matrix of all pictures times all pictures exists.

    Args:
        bank: Config of the training pictures, a `ClassImages`.
        ks: Numbers of neighbours.
        temperature: None counts neighbours alike.
        holdout_share, held_together: Share and group of the training pictures that choose, as
            `HoldoutSubset` has them; None where nothing is chosen.
        sources, others: See `GlobalFeatureModel`.

    Raises:
        ValueError: If an option is out of range, there are fewer training pictures than neighbours,
            or a class of a picture has none; and as `GlobalFeatureModel`.

    Source: DINO (arXiv:2104.14294, appendix F.1, and facebookresearch/dino eval_knn.py: k 10, 20,
    100 and 200, temperature 0.07), which follows arXiv:1805.01978; written from the description.
    """

    def __init__(
        self,
        bank: Mapping[str, Any],
        ks: Sequence[int] = (20,),
        temperature: float | None = 0.07,
        holdout_share: float | None = None,
        held_together: str = "(.+)",
        *,
        sources: Sequence[Source] | str = (-1,),
        **others: Any,
    ) -> None:
        super().__init__(sources=sources, **others)
        if not ks or len(set(ks)) < len(ks) or min(ks) < 1:
            raise ValueError(f"ks is {list(ks)}; give at least one number of 1 or more, none twice")
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature={temperature} is not positive; use 0.07, or None")
        self.bank_cfg, self.ks, self.temperature = dict(bank), tuple(ks), temperature
        self.holdout_share, self.held_together = holdout_share, held_together
        self._bank: tuple[list[Rows], Tensor, np.ndarray, int] | None = None

    def init_weights(self) -> None:
        """There is nothing to draw; the encoder keeps what it loaded."""
        self._is_init = True

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "predict",
    ) -> Sequence[BaseDataElement]:
        """As MMEngine asks; only 'predict' is there, and `inputs` is not used."""
        if mode != "predict" or data_samples is None:
            raise ValueError(f"nothing is trained here: mode {mode!r} is not 'predict'")
        infos = [sample.metainfo for sample in data_samples]
        held = [info.get("probe_split") == "holdout" for info in infos]
        for kind in (
            True,
            False,
        ):  # a batch may hold the end of one kind and the start of the other
            places = [b for b, is_held in enumerate(held) if is_held == kind]
            # Lists of pictures are kept apart: they have features of their own.
            rows = self.ranked([infos[b] for b in places], kind) if places else []
            for b, rows_SPQ in zip(places, rows, strict=True):
                data_samples[b].set_field(rows_SPQ, "probe_counts")
        return data_samples

    @torch.no_grad()
    def ranked(self, infos: Sequence[Mapping[str, Any]], chooses: bool) -> list[np.ndarray]:
        """(S, P, 1 + 2 J) of each picture, see `ranked_classes`; scores are shares of all votes.

        Args:
            infos: Items of one list.
            chooses: Whether they are held-out training pictures; then the rank alone, (S, P, 1).
        """
        if self._bank is None:
            self._bank = self._filled()
        bank, label_N, taught_N, num_classes = self._bank
        features = self.features(infos)
        target_Q = torch.tensor([info["target"] for info in infos])
        used_n = np.flatnonzero(taught_N) if chooses else np.arange(len(taught_N))
        if max(self.ks) > len(used_n):
            raise ValueError(
                f"k={max(self.ks)} neighbours cannot be found among {len(used_n)} training "
                "pictures; use a smaller k"
            )
        label_n = label_N[torch.from_numpy(used_n)]
        parts = []
        for source, rows in zip(self.sources, bank, strict=True):
            queries_QF = joined([features[layer] for layer in source])
            nearest = exact_top_k(queries_QF, _Bank(rows, used_n), max(self.ks))
            votes = []
            for k in self.ks:
                some = Neighbours(nearest.cosine_Qk[:, :k], nearest.index_Qk[:, :k])
                votes_QK = class_votes(some, label_n, num_classes, self.temperature)
                votes.append(votes_QK / votes_QK.sum(dim=1, keepdim=True))
            parts.append(ranked(torch.stack(votes, dim=1), target_Q))
        rows_QSPR = np.stack(parts, axis=1)
        return [row[..., :1].copy() if chooses else row for row in rows_QSPR]

    def _filled(self) -> tuple[list[Rows], Tensor, np.ndarray, int]:
        """Features of all training pictures, their classes, and which of them are not held out."""
        images = DATASETS.build(dict(self.bank_cfg))
        assert isinstance(images, ClassImages), type(images)
        infos = [images.item(i) for i in range(len(images))]
        store = self.store(infos[0])
        there = store.num_there(self.layers[0])
        print_log(
            f"features of {len(infos):,} training pictures, {min(there, len(infos)):,} of them "
            f"there already{'' if store.folder is None else f': {store.folder}'}",
            logger="current",
        )
        for start in range(0, len(infos), FILLED_AT_ONCE):
            self.features(infos[start : start + FILLED_AT_ONCE])
            if start and start % (100 * FILLED_AT_ONCE) == 0:
                print_log(f"features of {start:,} of {len(infos):,}", logger="current")
        rows_N = np.array([info["row"] for info in infos])
        # A part of a list is a copy of its rows; a whole list stays on disk.
        whole = len(rows_N) == store.num_rows
        bank = []
        for source in self.sources:
            layers = [store.rows_of(layer) for layer in source]
            bank.append(tuple(rows if whole else rows[rows_N] for rows in layers))
        held = self._held_out(images)
        taught_N = np.array([row not in held for row in rows_N.tolist()])
        labels = torch.tensor([info["target"] for info in infos])
        return bank, labels, taught_N, len(images.classes)

    def _held_out(self, images: ClassImages) -> set[int]:
        if self.holdout_share is None:
            return set()
        return held_out_rows(images, self.holdout_share, self.held_together)


class _Bank:
    """Rows of some arrays side by side, read when a chunk of them is asked for."""

    ndim = 2

    def __init__(self, parts: Rows, used_n: np.ndarray) -> None:
        self._parts, self._used_n = parts, used_n
        self.shape = len(used_n), sum(part.shape[1] for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, some: slice) -> np.ndarray:
        rows = self._used_n[some]
        return joined([torch.from_numpy(np.array(part[rows])) for part in self._parts]).numpy()


def joined(parts: Sequence[Tensor]) -> Tensor:
    """(n, F) of several layers, each of unit length, so that none of them decides alone."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)
