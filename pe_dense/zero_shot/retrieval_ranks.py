"""Where the first right answer of each query stands: texts to pictures, and pictures to texts.

A text is right for its picture, and, where the same words stand under several pictures, for all of
them. A query counts as found among the first k if one of its right answers is there (CLIP-like
papers; not the share of right answers).

Two ways to score:

* plain: the cosine, or the product with the mean of frame embeddings of a video.
* re-weighted: s -> c s * softmax(c s), the softmax over all *queries* of the test set for each
  answer, so that an answer which suits every query counts less. It sees the whole test set at once,
  which no search engine does. PE's published retrieval numbers use it, with c = 1.

Ties count against the query: a right answer stands behind every wrong one of its score.

Shape legend: T texts, I pictures or videos, D width of the embedding, P pairs that are right.

Source: facebookresearch/perception_models @ 3e352cc, apps/pe/clip_benchmark/metrics/
zeroshot_retrieval.py and cli.py (reweight_retrieval, reweight_scale). Written from the description.
Deviation: ties, which the source leaves to the order of `topk`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pe_dense.text_dense.class_vectors import folded

ROWS = 1024  # texts that are compared with all pictures together
MOST_HELD = 2**28  # bytes of scores; of larger sets they are computed again for each look at them


class Ranks(NamedTuple):
    """Wrong answers at or before the first right one; 0 is found at once.

    Attributes:
        text_T: Of each text among all pictures, int64.
        image_I: Of each picture among all texts, int64.
    """

    text_T: Tensor
    image_I: Tensor


def right_pairs(texts: Sequence[str], image_T: Sequence[int]) -> tuple[Tensor, Tensor]:
    """All right pairs as (P,) texts and (P,) pictures; the same words share their pictures.

    Case and white space make no other words: tokenizers fold them, so that such captions have one
    vector, and a tie would count against the right one.

    Args:
        texts: T captions.
        image_T: The picture that each belongs to.

    Example:
        >>> right_pairs(["a cat", "a dog", "a cat"], [0, 1, 2])
        (tensor([0, 0, 1, 2, 2]), tensor([0, 2, 1, 0, 2]))
    """
    if len(texts) != len(image_T):
        raise ValueError(f"{len(texts)} texts for {len(image_T)} pictures; give one picture each")
    images_of: dict[str, dict[int, None]] = defaultdict(dict)
    for text, image in zip(texts, image_T, strict=True):
        images_of[folded(text)][int(image)] = None
    pairs = [(t, image) for t, text in enumerate(texts) for image in images_of[folded(text)]]
    if not pairs:
        empty = torch.zeros(0, dtype=torch.long)
        return empty, empty
    text_P, image_P = torch.tensor(pairs).T
    return text_P.contiguous(), image_P.contiguous()


def retrieval_ranks(
    texts_TD: Tensor, images_ID: Tensor, pairs: tuple[Tensor, Tensor],
    reweight: float | None = None, rows: int = ROWS, most_held: int = MOST_HELD,
) -> Ranks:  # fmt: skip
    """Ranks in both directions.

    Args:
        texts_TD: Unit length.
        images_ID: Unit length; of a video as its protocol has it.
        pairs: Of `right_pairs`.
        reweight: c of the re-weighted scores; None: plain ones.
        rows: Texts that are scored together.
        most_held: Bytes of scores that are kept from one look to the next.

    Raises:
        ValueError: If shapes do not fit, a vector is not finite, or a query has no right answer.
    """
    _check(texts_TD, images_ID, pairs)
    text_P, image_P = pairs
    order = torch.argsort(text_P, stable=True)
    scores = _Scores(texts_TD, images_ID, text_P[order], image_P[order], rows, most_held)
    if reweight is None:
        by_text: _Weighting = _Plain()
        by_image: _Weighting = by_text
    else:
        by_text, by_image = _softmax_sums(scores, reweight)
    best_T = texts_TD.new_full((len(texts_TD),), -torch.inf)
    best_I = images_ID.new_full((len(images_ID),), -torch.inf)
    for block in scores:
        for best, at, weight in (
            (best_T, block.text_p, by_text),
            (best_I, block.image_p, by_image),
        ):
            right_p = weight.of(block)[block.text_p - block.start, block.image_p]
            best.scatter_reduce_(0, at, right_p, "amax")
    text_T = torch.zeros(len(texts_TD), dtype=torch.long)
    image_I = torch.zeros(len(images_ID), dtype=torch.long)
    for block in scores:
        inside_p = block.text_p - block.start
        score_tI, stop = by_text.of(block), block.start + len(block.score_tI)
        least_t1 = best_T[block.start : stop, None]
        wrong_t = (score_tI >= least_t1).sum(dim=1)
        right_p = (score_tI[inside_p, block.image_p] >= best_T[block.text_p]).long()
        text_T[block.start : stop] = wrong_t - torch.zeros_like(wrong_t).index_add_(
            0, inside_p, right_p
        )
        score_tI = by_image.of(block)
        image_I += (score_tI >= best_I).sum(dim=0)
        right_p = (score_tI[inside_p, block.image_p] >= best_I[block.image_p]).long()
        image_I.index_add_(0, block.image_p, right_p, alpha=-1)
    return Ranks(text_T, image_I)


def recall_at(rank_N: Tensor, k: int) -> float:
    """Share of queries with a right answer among the first k.

    Example:
        >>> recall_at(torch.tensor([0, 3, 1]), 2)
        0.6666666666666666
    """
    return (rank_N < k).double().mean().item()


def _check(texts_TD: Tensor, images_ID: Tensor, pairs: tuple[Tensor, Tensor]) -> None:
    if texts_TD.ndim != 2 or images_ID.ndim != 2 or texts_TD.shape[1] != images_ID.shape[1]:
        raise ValueError(
            f"texts {tuple(texts_TD.shape)} and pictures {tuple(images_ID.shape)} do not fit; pass "
            "(T, D) and (I, D)"
        )
    for what, values in (("text", texts_TD), ("picture", images_ID)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"the vector of a {what} is not finite; its tower is broken")
    for what, at, count in (
        ("text", pairs[0], len(texts_TD)),
        ("picture", pairs[1], len(images_ID)),
    ):
        alone = torch.ones(count, dtype=torch.bool)
        alone[at] = False
        if bool(alone.any()):
            first = int(alone.nonzero()[0])
            raise ValueError(f"{what} {first} has no right answer; leave it out")


class _Block(NamedTuple):
    """Scores of some texts with all pictures, and the right pairs among them."""

    start: int
    score_tI: Tensor
    text_p: Tensor
    image_p: Tensor


class _Scores:
    """Blocks of products, as often as they are asked for; the same numbers every time."""

    def __init__(
        self, texts_TD: Tensor, images_ID: Tensor, text_P: Tensor, image_P: Tensor, rows: int,
        most_held: int,
    ) -> None:  # fmt: skip
        self.texts_TD, self.images_ID, self.rows = texts_TD, images_ID, rows
        self.text_P, self.image_P = text_P, image_P
        starts = range(0, len(texts_TD), rows)
        self.starts = list(starts)
        self.bounds = torch.searchsorted(text_P, torch.tensor([*starts, len(texts_TD)])).tolist()
        size = len(texts_TD) * len(images_ID) * texts_TD.element_size()
        self.held = [self._product(start) for start in starts] if size <= most_held else None

    def _product(self, start: int) -> Tensor:
        return self.texts_TD[start : start + self.rows] @ self.images_ID.T

    def __iter__(self) -> Iterator[_Block]:
        for i, start in enumerate(self.starts):
            score_tI = self._product(start) if self.held is None else self.held[i]
            here = slice(self.bounds[i], self.bounds[i + 1])
            yield _Block(start, score_tI, self.text_P[here], self.image_P[here])


class _Weighting(Protocol):
    """What becomes of the scores of one direction."""

    def of(self, block: _Block) -> Tensor:
        """Scores of a block, (t, I)."""
        ...


class _Plain:
    """Scores as they are."""

    def of(self, block: _Block) -> Tensor:
        return block.score_tI


class _OverTexts:
    """c s * softmax(c s) over the texts, for each picture: of queries that are texts."""

    def __init__(self, scale: float, total_I: Tensor) -> None:
        self.scale, self.total_I = scale, total_I  # log of the sum of exponentials

    def of(self, block: _Block) -> Tensor:
        scaled_tI = block.score_tI * self.scale
        return scaled_tI * (scaled_tI - self.total_I).exp_()


class _OverImages:
    """The same over the pictures, for each text: of queries that are pictures."""

    def __init__(self, scale: float, total_T: Tensor) -> None:
        self.scale, self.total_T = scale, total_T

    def of(self, block: _Block) -> Tensor:
        scaled_tI = block.score_tI * self.scale
        total_t1 = self.total_T[block.start : block.start + len(scaled_tI), None]
        return scaled_tI * (scaled_tI - total_t1).exp_()


def _softmax_sums(scores: _Scores, scale: float) -> tuple[_OverTexts, _OverImages]:
    total_I, totals = None, []
    for block in scores:
        scaled_tI = block.score_tI * scale
        totals.append(scaled_tI.logsumexp(dim=1))
        more_I = scaled_tI.logsumexp(dim=0)
        total_I = more_I if total_I is None else torch.logaddexp(total_I, more_I)
    assert total_I is not None
    return _OverTexts(scale, total_I), _OverImages(scale, torch.cat(totals))
