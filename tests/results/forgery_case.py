"""A store of sound records of every kind, and the means to forge one of them.

Forgeries are as good as somebody with an editor and this code can make them: checksums of records
and names and hashes of evidence are made anew.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evidence_case
import numpy as np

from pe_dense.results.evidence import TrackingEvidence
from pe_dense.results.evidence_file import evidence_bytes, load_content, load_evidence
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.record import Record, record_from_json, record_to_json
from pe_dense.results.record_history import content_sha256
from pe_dense.results.record_intervals import confidence_intervals
from pe_dense.results.scored_content import ScoredContent, item_digits
from pe_dense.results.store import record_path, save_record

# Protocol -> task, metric, whether higher is better, evidence made from a seed.
KINDS: dict[str, tuple[str, str, bool, Callable[[int], ItemEvidence]]] = {
    "cats-detection": ("detection", "AP", True, lambda seed: evidence_case.detection(seed, 30)),
    "sky-segmentation": ("segmentation", "mIoU", True, lambda seed: _segmentation(seed)),
    "room-depth": ("depth", "rmse", False, lambda seed: evidence_case.depth(seed, 30)),
    "clip-vos": ("tracking", "J&F", True, lambda seed: evidence_case.video_object(seed, True)),
    "street-mot": ("tracking", "HOTA", True, lambda seed: _tracking(seed)),
}
ENCODERS = ("alpha", "beta", "gamma")
PROTOCOLS = {
    f"{id_}-v1": {
        "config": f"configs/{id_}.py", "sha256": hashlib.sha256(id_.encode()).hexdigest(),
    }
    for id_ in KINDS
}  # fmt: skip


def _segmentation(seed: int) -> ItemEvidence:
    """The same pictures for all encoders, found more or less well."""
    rng = np.random.default_rng(100 + seed)
    truth = evidence_case.segmentation(0, 30)
    right = rng.binomial(truth.target_NK, 0.7)
    found = right + rng.integers(0, 200, right.shape)
    return dataclasses.replace(truth, intersection_NK=right, prediction_NK=found)


def _tracking(seed: int) -> ItemEvidence:
    """The same sequences for all encoders: what was not matched was missed."""
    base, rng = evidence_case.tracking(0, 12), np.random.default_rng(100 + seed)
    boxes_N = base.clear_tp_N + base.clear_fn_N
    tp_N = rng.binomial(boxes_N, 0.6)
    every_NA = base.hota_tp_NA + base.hota_fn_NA
    hota_NA = rng.binomial(every_NA, 0.5)
    fields: dict[str, Any] = {
        "clear_tp_N": tp_N, "clear_fn_N": boxes_N - tp_N, "hota_tp_NA": hota_NA,
        "hota_fn_NA": every_NA - hota_NA,
    }  # fmt: skip
    for name in ("ass_a", "ass_re", "ass_pr"):
        fields[f"{name}_sum_NA"] = rng.random(hota_NA.shape) * hota_NA
    assert isinstance(base, TrackingEvidence)
    return dataclasses.replace(base, **fields)


def sound_store(root: Path, make_record: Callable[[dict], Record]) -> None:
    """Three encoders under each protocol, and two more seeds of one."""
    number = 0
    for id_, (task, metric, higher, build) in KINDS.items():
        runs = [(encoder, 0) for encoder in ENCODERS]
        runs += [("alpha", 1), ("alpha", 2)] if id_ == "room-depth" else []
        for encoder, seed in runs:
            number += 1
            changes = {
                "task": task, "protocol.id": id_, "protocol.metric": metric,
                "protocol.higher_is_better": higher, "seed": seed,
                "protocol.config_sha256": PROTOCOLS[f"{id_}-v1"]["sha256"],
                "encoder.name": encoder, "encoder.feature_fingerprint": f"{number:016x}",
                "encoder.weights": "w.pt",
                "encoder.weights_sha256": hashlib.sha256(encoder.encode()).hexdigest(),
                "checkpoint_sha256": hashlib.sha256(f"{number}".encode()).hexdigest(),
                "created": f"2026-01-31T12:{number:02d}:00Z",
                "command": f"python tools/test.py configs/{id_}.py w.pth --encoder {encoder} "
                f"--seed {seed}",
            }  # fmt: skip
            save(root, make_record, changes, build(number))


def save(
    root: Path, make_record: Callable[[dict], Record], changes: dict, evidence: ItemEvidence
) -> Path:
    """Writes a record as an evaluation does; its numbers are those of the evidence."""
    scores = {k: v for k, v in evidence.metrics().items() if np.isfinite(v)}
    num = len(set(getattr(evidence, "video_ids", evidence.item_ids)))
    intervals = confidence_intervals(evidence, scores)
    numbers = {"scores": scores, "ci95": intervals, "dataset.num_items": num}
    content = content_of(evidence)
    numbers["dataset.sha256"] = content.sha256
    data = evidence_bytes(evidence, content)
    return save_record(make_record({**changes, **numbers}), root, evidence=data)


def content_of(evidence: ItemEvidence) -> ScoredContent:
    """What the evidence would be of: the bytes of an image, video or sequence are its name."""
    names = sorted(set(getattr(evidence, "video_ids", evidence.item_ids)))
    return ScoredContent(None, {name: item_digits([name]) for name in names})


def place(root: Path, protocol: str, encoder: str = "alpha", seed: int = 0) -> Path:
    """File of a record."""
    (path,) = root.glob(f"{encoder}/*/{protocol}-v1.seed{seed}.json")
    return path


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a record's JSON and makes its checksum anew."""
    data = read(path)
    change(data)
    data["content_sha256"] = content_sha256(data)
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n")


def evidence_of(path: Path, root: Path) -> ItemEvidence:
    return load_evidence(root / read(path)["evidence"]["file"])


def replace_evidence(path: Path, root: Path, evidence: ItemEvidence, consistent: bool) -> None:
    """Puts other evidence beside a record; `consistent` makes all its numbers anew as well."""
    record = record_from_json(path.read_text())
    data = evidence_bytes(evidence, load_content(root / record.evidence.file))
    digest = hashlib.sha256(data).hexdigest()
    (root / record.evidence.file).unlink()
    file = record_path(record).with_suffix(f".{digest[:8]}.npz")
    (root / file).write_bytes(data)

    def change(fields: dict[str, Any]) -> None:
        fields["evidence"] = {"file": str(file), "sha256": digest}
        if consistent:
            found = evidence.metrics()
            fields["scores"] = {k: v for k, v in found.items() if np.isfinite(v)}
            intervals = confidence_intervals(evidence, fields["scores"])
            fields["ci95"] = {k: [dataclasses.asdict(i) for i in v] for k, v in intervals.items()}

    rewrite(path, change)


def move(path: Path, root: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copies a record with its evidence to where the changed content belongs."""
    data = copy.deepcopy(read(path))
    old = root / data["evidence"]["file"]
    change(data)
    data["content_sha256"] = content_sha256(data)
    record = record_from_json(json.dumps(data))
    file = record_path(record).with_suffix(f".{data['evidence']['sha256'][:8]}.npz")
    target = root / record_path(record)
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_bytes(old.read_bytes())
    target.write_text(
        record_to_json(
            dataclasses.replace(
                record, evidence=dataclasses.replace(record.evidence, file=str(file))
            )
        )
    )
    return target
