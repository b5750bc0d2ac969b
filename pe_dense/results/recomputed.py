"""What evidence gives when it is scored again: every metric, every interval, what was scored.

The bootstrap of a large detection set takes seconds, and a page is built more often than records
are written. So what was computed is remembered in a folder of this machine's user, never in the
store, under a name that holds the hash of the evidence file and of all code that computed it:
whatever changes in either, it is computed anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.files import atomic_write_text, code_sha256
from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import (
    SegmentationEvidence,
    TrackingEvidence,
    VideoObjectEvidence,
)
from pe_dense.results.evidence_file import load_content, load_evidence
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.named_evidence import ClassificationEvidence, RetrievalEvidence
from pe_dense.results.statistics import Interval, intervals
from pe_dense.results.typed_json import parse

SKETCHED = 256  # items whose values are kept to recognise a copy


@dataclasses.dataclass(frozen=True)
class Recomputed:
    """What an evidence file gives.

    Attributes:
        kind: Kind of evidence.
        num_items: Items as a record counts them: images, videos or sequences.
        unit: What the intervals are over.
        items_sha256: Hash of the names of the items, in any order.
        truth_sha256: Hash of what is annotated on them, as far as the evidence holds it; None
            where it holds nothing of it. The same for every encoder under one protocol.
        scores: Metric -> value, undefined ones left out.
        intervals: Metric -> its interval over that unit; none where there is one unit only.
        sketch: Up to 256 items -> print of what the encoder did on them, those left out where
            anyone would do the same.
        content_sha256: Hash over the labels and pictures that were scored; None where the
            evidence does not know it.
    """

    kind: str
    num_items: int
    unit: str
    items_sha256: str
    truth_sha256: str | None
    scores: dict[str, float]
    intervals: dict[str, Interval]
    sketch: dict[str, str]
    content_sha256: str | None = None

    @property
    def metric_names(self) -> frozenset[str]:
        """Metrics that have a value."""
        return frozenset(self.scores)


def recompute(evidence: ItemEvidence) -> Recomputed:
    """Scores the evidence again, with an interval of every score that has one."""
    scores = {k: float(v) for k, v in evidence.metrics().items() if math.isfinite(v)}
    several = len(set(evidence.unit_labels[evidence.unit])) > 1
    found = intervals(evidence) if several else {}
    return Recomputed(
        kind=evidence.kind,
        num_items=_num_scored(evidence),
        unit=evidence.unit,
        items_sha256=_text_sha256(sorted(evidence.item_ids)),
        truth_sha256=_truth_sha256(evidence),
        scores=scores,
        intervals=found,
        sketch=_sketch(evidence),
    )


def _num_scored(evidence: ItemEvidence) -> int:
    """Records of tracking count videos, whose objects are the items of the evidence."""
    if isinstance(evidence, VideoObjectEvidence):
        return len(set(evidence.video_ids))
    return evidence.num_items


def _text_sha256(texts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(texts)).encode("ascii")).hexdigest()


def _truth_sha256(evidence: ItemEvidence) -> str | None:
    """Hash of the annotations behind the evidence, whatever the order of items and classes."""
    rows: list[Any]
    if isinstance(evidence, SegmentationEvidence):
        n, k = np.nonzero(evidence.target_NK)
        counts = evidence.target_NK[n, k].tolist()
        rows = [evidence.image_ids, evidence.classes, n, k, counts]
    elif isinstance(evidence, DetectionEvidence):
        n, k, counts = evidence.gt_image_G, evidence.gt_class_G, evidence.gt_count_GA.tolist()
        rows = [evidence.image_ids, evidence.classes, n, k, map(tuple, counts)]
    elif isinstance(evidence, TrackingEvidence):
        boxes = (evidence.clear_tp_N + evidence.clear_fn_N).tolist()
        every = (evidence.hota_tp_NA + evidence.hota_fn_NA).tolist()
        return _text_sha256(map(str, sorted(zip(evidence.sequence_ids, boxes, every, strict=True))))
    elif isinstance(evidence, ClassificationEvidence):
        right = [evidence.classes[k] for k in evidence.target_N]
        pairs = sorted(zip(evidence.image_ids, right, strict=True))
        return _text_sha256([*sorted(evidence.classes), *map(str, pairs)])
    elif isinstance(evidence, RetrievalEvidence):
        return _text_sha256(
            map(str, sorted(zip(evidence.query_ids, evidence.image_ids, strict=True)))
        )
    else:
        return None
    images, classes, n, k, counts = rows
    cells = zip((images[i] for i in n), (classes[i] for i in k), counts, strict=True)
    return _text_sha256([*sorted(classes), *map(str, sorted(cells))])


def _sketch(evidence: ItemEvidence) -> dict[str, str]:
    """Prints of items, those with the smallest hashes of their names: the same for all encoders."""
    values = _values_by_item(evidence)
    order = sorted(values, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return {
        name: hashlib.sha256(values[name].tobytes()).hexdigest()[:16] for name in order[:SKETCHED]
    }


def _values_by_item(evidence: ItemEvidence) -> dict[str, np.ndarray]:
    """Item -> what the encoder did on it, where that could hardly be the same by chance."""
    names = evidence.item_ids
    if isinstance(evidence, DetectionEvidence):
        order = np.lexsort((evidence.score_D, evidence.image_D))
        ends = np.searchsorted(evidence.image_D[order], np.arange(len(names) + 1))
        scores = evidence.score_D[order]
        parts = [scores[a:b] for a, b in itertools.pairwise(ends)]
        return {name: part for name, part in zip(names, parts, strict=True) if len(part)}
    if isinstance(evidence, SegmentationEvidence):
        # One class everywhere is what a head gives that has learnt nothing.
        several_N = (evidence.prediction_NK > 0).sum(axis=1) > 1
        both = np.concatenate([evidence.intersection_NK, evidence.prediction_NK], axis=1)
        return {names[n]: both[n] for n in np.flatnonzero(several_N)}
    if isinstance(evidence, VideoObjectEvidence):
        both = np.stack([evidence.j_N, evidence.f_N], axis=1)
        some_N = ((both > 0) & (both < 1)).all(axis=1)
        return {names[n]: both[n] for n in np.flatnonzero(some_N)}
    if isinstance(evidence, TrackingEvidence):
        some_N = (evidence.hota_tp_NA > 0).any(axis=1)
        return {names[n]: evidence.ass_a_sum_NA[n] for n in np.flatnonzero(some_N)}
    if isinstance(evidence, RetrievalEvidence):  # good towers find most at once, all of them
        return {names[n]: evidence.rank_N[n : n + 1] for n in np.flatnonzero(evidence.rank_N >= 10)}
    if isinstance(evidence, ClassificationEvidence):
        both = np.concatenate([evidence.top_NJ.astype(np.float64), evidence.score_NJ], axis=1)
        return dict(zip(names, both, strict=True))
    values_NM = getattr(evidence, "values_NM", None)
    if values_NM is None:
        return {}
    return {name: np.nan_to_num(row, nan=-1.0) for name, row in zip(names, values_NM, strict=True)}


# ---- memory --------------------------------------------------------------------------------------


def default_memory() -> Path:
    """Folder of the user's cache: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pe_dense" / "recomputed"


@functools.cache
def _code() -> str:
    """Hash of all that computes scores and intervals from evidence."""
    text = f"{code_sha256(Path(__file__).parent)} numpy {np.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()


def recompute_file(path: Path, sha256: str, memory: Path | None = None) -> Recomputed:
    """`recompute` of an evidence file, or what is remembered of it.

    Args:
        path: The file; its hash is checked by `store.evidence_problem`.
        sha256: Its hash.
        memory: Folder to remember in; None remembers nothing. What cannot be read or written there
            is computed.

    Raises:
        ValueError: As `load_evidence`.
    """
    if memory is None:
        return _recompute_file(path, sha256)
    about = hashlib.sha256(f"{sha256} {_code()}".encode()).hexdigest()
    file = memory / about[:2] / f"{about}.json"
    found = _remembered(file)
    if found is None:
        found = _recompute_file(path, sha256)
        with contextlib.suppress(OSError, ValueError):  # the next one computes it again
            atomic_write_text(file, json.dumps(dataclasses.asdict(found), allow_nan=False))
    return found


def _recompute_file(path: Path, sha256: str) -> Recomputed:
    found, content = recompute(load_evidence(path, sha256)), load_content(path)
    return found if content is None else dataclasses.replace(found, content_sha256=content.sha256)


def _remembered(file: Path) -> Recomputed | None:
    try:
        return parse(Recomputed, json.loads(file.read_text(encoding="ascii")), "remembered")
    except (OSError, ValueError, RecursionError):
        return None
