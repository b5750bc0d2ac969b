"""Dense probes without training: nearest neighbours and nearest class centroids of tokens.

A cheap first look at features before linear probes are trained: every test token takes the class
of the train tokens that are most like it (cosine). Features are computed once, from one fixed
view an image, and may lie in memory-mapped files: the bank is read chunk by chunk. Only the top k
so far is kept, and it is exact: the k best of all train tokens, not of a sample or an index.

The score is mean IoU over tokens, not pixels: a token's label is the class of most of its pixels.
It therefore does not compare with published numbers, which score pixels; layers and encoders of
one patch size compare with each other.

Shape legend: N train tokens, Q test tokens, C feature width, K classes, k neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.pixelwise.mean_iou import image_counts

IGNORE = 255
CHUNK = 8192  # train tokens at a time
QUERY_CHUNK = 2048  # test tokens at a time: 67 MB of float32 similarities


class TokenSet(NamedTuple):
    """Tokens and their classes; arrays or memory maps.

    Attributes:
        features_NC: Any float type.
        labels_N: Classes, `IGNORE` for none.
    """

    features_NC: np.ndarray
    labels_N: np.ndarray


class Neighbours(NamedTuple):
    """The nearest train tokens, best first; of equal ones the one with the lower index.

    Attributes:
        cosine_Qk: float32.
        index_Qk: Rows of the bank, int64.
    """

    cosine_Qk: Tensor
    index_Qk: Tensor


class TokenRows(Protocol):
    """Rows that are read when a slice of them is asked for."""

    ndim: int
    shape: tuple[int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, some: slice, /) -> np.ndarray: ...


def token_labels(labels_HW: np.ndarray, patch_size: int, num_classes: int) -> np.ndarray:
    """Class of most pixels of every patch, (h, w) int64; the lowest class where several tie.

    Pixels of `IGNORE` do not vote; a patch with nothing else is `IGNORE`.

    Raises:
        ValueError: If the sides are no multiples of the patch, or a class is out of range.

    Example:
        >>> token_labels(np.array([[0, 1, 255, 255], [1, 255, 255, 255]]), 2, 2).tolist()
        [[1, 255]]
    """
    height, width = labels_HW.shape
    if height % patch_size or width % patch_size or not labels_HW.size:
        raise ValueError(
            f"label map of {height} x {width} px is not made of patches of {patch_size}; resize it "
            "like its image, with nearest"
        )
    known = labels_HW[labels_HW != IGNORE]
    if known.size and not (known.min() >= 0 and known.max() < num_classes):
        raise ValueError(f"label map holds class {known.max()}, but there are {num_classes}")
    h, w = height // patch_size, width // patch_size
    patches = labels_HW.reshape(h, patch_size, w, patch_size).swapaxes(1, 2).reshape(h, w, -1)
    votes_hwK = np.stack([(patches == k).sum(axis=-1) for k in range(num_classes)], axis=-1)
    return np.where(votes_hwK.any(axis=-1), votes_hwK.argmax(axis=-1), IGNORE)


def reference_top_k(queries_QC: np.ndarray, bank_NC: np.ndarray, k: int) -> np.ndarray:
    """`index_Qk` of `exact_top_k`, slow: all cosines, sorted by (-cosine, index)."""
    q, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries_QC, bank_NC))
    cosine_QN = (q.astype(np.float64) @ b.T.astype(np.float64)).round(6)
    return (-cosine_QN).argsort(axis=1, kind="stable")[:, :k]


def exact_top_k(
    queries_QC: Tensor, bank_NC: np.ndarray | Tensor | TokenRows, k: int, chunk: int = CHUNK
) -> Neighbours:
    """The k train tokens of largest cosine for every query, in chunks of the bank.

    Float32; features of length 0 have cosine 0 to everything.

    Args:
        queries_QC: Test tokens.
        bank_NC: Train tokens; a memory map is read once, in order.
        k: Neighbours.
        chunk: Train tokens at a time; does not change the result, up to the last bits of a
            cosine.

    Raises:
        ValueError: If k is not in 1..N, a width differs, or a feature is not finite.
    """
    total = len(bank_NC)
    if not 1 <= k <= total:
        raise ValueError(f"k={k} neighbours cannot be found among {total} train tokens")
    if chunk < 1:
        raise ValueError(f"chunk={chunk} holds no token; use 1 or more")
    if queries_QC.ndim != 2 or bank_NC.ndim != 2 or queries_QC.shape[1] != bank_NC.shape[1]:
        raise ValueError(
            f"test tokens {tuple(queries_QC.shape)} and train tokens {tuple(bank_NC.shape)} need "
            "one feature width"
        )
    queries_QC = _unit(queries_QC)
    best = Neighbours(
        queries_QC.new_empty(len(queries_QC), 0),
        torch.empty(len(queries_QC), 0, dtype=torch.int64, device=queries_QC.device),
    )
    for start in range(0, total, chunk):
        part = torch.as_tensor(np.array(bank_NC[start : start + chunk]), device=queries_QC.device)
        cosine_Qn = queries_QC @ _unit(part).T
        index_n = torch.arange(start, start + len(part), device=queries_QC.device)
        # Of equals the one with the lower index stands in front, also among the kept ones.
        cosine = torch.cat([best.cosine_Qk, cosine_Qn], dim=1)
        index = torch.cat([best.index_Qk, index_n.expand(len(queries_QC), -1)], dim=1)
        best = _largest(cosine, index, min(k, cosine.shape[1]))
    return best


def class_votes(
    neighbours: Neighbours, labels_N: Tensor, num_classes: int, temperature: float | None = None
) -> Tensor:
    """What the neighbours of every query say of each class, (Q, K) float64.

    Args:
        neighbours: From `exact_top_k`.
        labels_N: Classes of the bank, all in 0..K-1.
        num_classes: K.
        temperature: None counts neighbours; a number weights them by exp(cosine / temperature),
            0.07 in the k-NN classifiers of arXiv:1805.01978 and DINO. Weights are relative to that
            of the nearest, so that nothing overflows.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if temperature is not None and not temperature > 0:
        raise ValueError(f"temperature {temperature} is not positive; use for example 0.07")
    cosine_Qk = neighbours.cosine_Qk.double()
    if temperature is None:
        weights_Qk = torch.ones_like(cosine_Qk)
    else:
        weights_Qk = ((cosine_Qk - cosine_Qk[:, :1]) / temperature).exp()
    votes_QK = weights_Qk.new_zeros(len(cosine_Qk), num_classes)
    return votes_QK.scatter_add_(1, labels_N[neighbours.index_Qk], weights_Qk)


def vote(
    neighbours: Neighbours, labels_N: Tensor, num_classes: int, temperature: float | None = None
) -> Tensor:
    """Class of every query, (Q,) int64; the lowest class where several tie. See `class_votes`."""
    votes_QK = class_votes(neighbours, labels_N, num_classes, temperature)
    return votes_QK.max(dim=1).indices  # the first of equals, which argmax does not promise


def class_centroids(train: TokenSet, num_classes: int, chunk: int = CHUNK) -> Tensor:
    """Mean unit-length feature of every class, (K, C) float32; NaN for a class without tokens.

    Raises:
        ValueError: If a feature is not finite.
    """
    sums_KC = torch.zeros(num_classes, train.features_NC.shape[1], dtype=torch.float64)
    counts_K = torch.zeros(num_classes, dtype=torch.float64)
    for start in range(0, len(train.features_NC), chunk):
        labels = torch.as_tensor(np.array(train.labels_N[start : start + chunk])).long()
        part = _unit(torch.as_tensor(np.array(train.features_NC[start : start + chunk])))
        is_known = labels != IGNORE
        sums_KC.index_add_(0, labels[is_known], part[is_known].double())
        counts_K += torch.bincount(labels[is_known], minlength=num_classes)
    return (sums_KC / counts_K[:, None]).float()  # 0 / 0 is NaN


def nearest_centroid(queries_QC: Tensor, centroids_KC: Tensor) -> Tensor:
    """Class of the centroid of largest cosine, (Q,) int64; classes without tokens never win."""
    is_empty_K = centroids_KC.isnan().any(dim=1)
    directions = F.normalize(centroids_KC.nan_to_num(0.0), dim=1).to(queries_QC.device)
    cosine_QK = _unit(queries_QC) @ directions.T
    cosine_QK[:, is_empty_K.to(queries_QC.device)] = -torch.inf
    return cosine_QK.max(dim=1).indices


def probe_neighbours(
    train: TokenSet,
    test: TokenSet,
    num_classes: int,
    ks: Sequence[int] = (1, 5, 20),
    temperature: float | None = None,
) -> dict[str, float]:
    """Mean IoU over tokens, 0..1, of k-NN for several k and of nearest centroids.

    The largest k is searched once; smaller ones are its beginning. Tokens of class `IGNORE`
    teach nothing and are not scored. Classes in neither prediction nor truth are left out.

    Args:
        train: Bank.
        test: Queries.
        num_classes: K.
        ks: Numbers of neighbours.
        temperature: See `vote`.

    Returns:
        'knn_<k>' for every k, and 'centroid'.

    Raises:
        ValueError: If a set has no token with a class, a class is out of range, or as
            `exact_top_k`.
    """
    if not len(ks):
        raise ValueError("ks is empty; name at least one number of neighbours")
    for name, tokens in (("train", train), ("test", test)):
        labels = np.asarray(tokens.labels_N)
        if labels.shape != (len(tokens.features_NC),):
            raise ValueError(f"{name}: {labels.shape} labels for {len(tokens.features_NC)} tokens")
        known = labels[labels != IGNORE]
        if not known.size:
            raise ValueError(f"the {name} set has no token with a class; check its labels")
        if not (known.min() >= 0 and known.max() < num_classes):
            raise ValueError(f"{name} labels reach {known.max()}, but there are {num_classes}")
    taught = np.flatnonzero(np.asarray(train.labels_N) != IGNORE)
    # A view of the bank where all tokens teach: no copy of a memory map.
    is_whole = len(taught) == len(train.labels_N)
    bank = train.features_NC if is_whole else np.asarray(train.features_NC)[taught]
    labels_N = torch.as_tensor(np.asarray(train.labels_N)[taught]).long()
    centroids_KC = class_centroids(train, num_classes)
    names = [*(f"knn_{k}" for k in ks), "centroid"]
    counts = {name: np.zeros((3, num_classes), np.int64) for name in names}
    asked = np.flatnonzero(np.asarray(test.labels_N) != IGNORE)
    for start in range(0, len(asked), QUERY_CHUNK):
        rows = asked[start : start + QUERY_CHUNK]
        queries = torch.as_tensor(np.array(test.features_NC[rows]))
        truth_1Q = np.asarray(test.labels_N)[rows][None].astype(np.int64)
        best = exact_top_k(queries, bank, max(ks))
        answers = {"centroid": nearest_centroid(queries, centroids_KC)}
        for k in ks:
            nearest = Neighbours(best.cosine_Qk[:, :k], best.index_Qk[:, :k])
            answers[f"knn_{k}"] = vote(nearest, labels_N, num_classes, temperature)
        for name, answer_Q in answers.items():
            counts[name] += image_counts(answer_Q.numpy()[None], truth_1Q, num_classes, IGNORE)
    scores = {}
    for name in names:
        right, predicted, annotated = counts[name]
        union = predicted + annotated - right
        scores[name] = float((right[union > 0] / union[union > 0]).mean())
    return scores


def _unit(features: Tensor) -> Tensor:
    features = features.float()
    if not bool(features.isfinite().all()):
        raise ValueError("a feature is NaN or infinite; use other weights or float32")
    return F.normalize(features, dim=1)


def _largest(cosine: Tensor, index: Tensor, k: int) -> Neighbours:
    """The k largest of every row, best first, those further left winning ties."""
    if k < cosine.shape[1]:
        # torch.topk takes any of equal values, so its choice stands only where none was left out.
        values, columns = cosine.topk(k + 1, dim=1)
        if bool((values[:, k - 1] > values[:, k]).all()):
            columns = columns[:, :k].sort(dim=1).values
        else:
            threshold = values[:, k - 1 : k]
            above, equal = cosine > threshold, cosine == threshold
            places = k - above.sum(dim=1, keepdim=True)
            keep = above | (equal & (equal.cumsum(dim=1) <= places))
            columns = keep.nonzero()[:, 1].view(-1, k)
        cosine, index = cosine.gather(1, columns), index.gather(1, columns)
    order = cosine.argsort(dim=1, descending=True, stable=True)
    return Neighbours(cosine.gather(1, order), index.gather(1, order))
