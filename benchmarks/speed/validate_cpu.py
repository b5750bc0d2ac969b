"""Seconds of `tools/leaderboard.py validate` on a store of 200 sound records, as a person types it.

The store holds copies of the published records under other names of encoders, each with evidence
of its own (the values moved a little, so that no two are copies), and records with made-up evidence
of the size of ADE20K val (2,000 images, 150 classes) and of COCO val (5,000 images, 80 classes,
500,000 detections). Every score and interval is computed anew from 1,000 resamples. 'first' finds
nothing remembered; 'again' is the same store once more; 'one new' after one record of each size was
added. Imports are in the numbers.

    python benchmarks/speed/validate_cpu.py
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bootstrap import ade_size, coco_size
from measure import FOLDER, ROOT, command_line, hardware, versions, write_rows

from pe_dense.results.comparison import evidence_of
from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import DepthEvidence, TrackingEvidence, VideoObjectEvidence
from pe_dense.results.evidence_file import evidence_bytes
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.record import Record
from pe_dense.results.record_intervals import confidence_intervals
from pe_dense.results.store import load_records, save_record

PUBLISHED = ROOT / "benchmarks" / "records"


def moved(evidence: ItemEvidence, seed: int) -> ItemEvidence:
    """Other values on the same items, with the same annotations."""
    rng = np.random.default_rng(seed)
    if isinstance(evidence, DetectionEvidence):  # the order of scores must stay
        return dataclasses.replace(evidence, score_D=evidence.score_D * (1 - 1e-6 * seed))
    if isinstance(evidence, DepthEvidence):
        noise = rng.uniform(0.9, 1.1, evidence.values_NM.shape)
        return dataclasses.replace(evidence, values_NM=evidence.values_NM * noise)
    if isinstance(evidence, VideoObjectEvidence):
        shrunk = rng.uniform(0.8, 1.0, evidence.j_N.shape)
        return dataclasses.replace(evidence, j_N=evidence.j_N * shrunk, f_N=evidence.f_N * shrunk)
    if isinstance(evidence, TrackingEvidence):
        less = rng.uniform(0.9, 1.0, evidence.ass_a_sum_NA.shape)
        return dataclasses.replace(evidence, ass_a_sum_NA=evidence.ass_a_sum_NA * less)
    right = rng.binomial(evidence.intersection_NK, 0.95)
    return dataclasses.replace(evidence, intersection_NK=right)


def copy_of(record: Record, evidence: ItemEvidence, number: int, root: Path, **changes) -> None:
    """A record of another encoder with this evidence, as an evaluation would write it."""
    name = f"encoder_{number}"
    found = evidence.metrics()
    scores = {k: float(v) for k, v in found.items() if np.isfinite(v)}
    encoder = dataclasses.replace(
        record.encoder, name=name, feature_fingerprint=f"{number * 0x1234567:016x}"
    )
    # The list of published protocols knows their ids and what they choose: here they are one's own.
    changes.setdefault("protocol", record.protocol)
    own = f"{changes['protocol'].id}-own"
    changes["protocol"] = dataclasses.replace(changes["protocol"], id=own)
    changes.setdefault("dataset", dataclasses.replace(record.dataset, sha256=None))
    copy = dataclasses.replace(
        record, encoder=encoder, scores=scores, ci95=confidence_intervals(evidence, scores),
        by_layer=None, selection=None, evidence=None, command="python tools/test.py c.py w.pth",
        checkpoint_sha256=hashlib.sha256(name.encode()).hexdigest(), **changes,
    )  # fmt: skip
    save_record(copy, root, evidence=evidence_bytes(evidence))


def of_size(size: str, evidence: ItemEvidence, number: int, record: Record, root: Path) -> None:
    """A record under a protocol of one's own, with evidence of that size."""
    task, metric, split = {
        "ADE20K val": ("segmentation", "mIoU", "ADE20K"), "COCO val": ("detection", "AP", "COCO"),
    }[size]  # fmt: skip
    protocol = dataclasses.replace(
        record.protocol, id=split.lower(), metric=metric, higher_is_better=True
    )
    dataset = dataclasses.replace(
        record.dataset, name=split, split="val", num_items=evidence.num_items, sha256=None
    )
    copy_of(record, evidence, number, root, task=task, protocol=protocol, dataset=dataset)


def validate(root: Path, memory: Path) -> tuple[float, float]:
    """Seconds of one call, and of both cores in it; it must find nothing wrong."""
    command = [sys.executable, "tools/leaderboard.py", "validate", "--records", str(root)]
    env = {**os.environ, "XDG_CACHE_HOME": str(memory)}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        sys.exit(done.stderr)
    print(done.stdout.splitlines()[-1], f"{seconds:.1f} s, {busy:.1f} s of cores", flush=True)
    return seconds, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=200, help="in all (%(default)s)")
    parser.add_argument("--ade", type=int, default=20, help="of ADE20K's size (%(default)s)")
    parser.add_argument("--coco", type=int, default=4, help="of COCO's size (%(default)s)")
    args = parser.parse_args()
    published = load_records(PUBLISHED)
    with tempfile.TemporaryDirectory() as folder:
        root, memory = Path(folder) / "records", Path(folder) / "memory"
        small = args.records - args.ade - args.coco
        for number in range(small):
            record = published[number % len(published)]
            evidence = moved(evidence_of(record, PUBLISHED), number + 1)
            copy_of(record, evidence, number, root)
        sizes = {"ADE20K val": (ade_size(), args.ade), "COCO val": (coco_size(), args.coco)}
        number = small
        for size, (evidence, count) in sizes.items():
            for _ in range(count):
                of_size(size, moved(evidence, number), number, published[0], root)
                number += 1
        cases = {"first": validate(root, memory), "again": validate(root, memory)}
        for size, (evidence, _) in sizes.items():
            of_size(size, moved(evidence, number), number, published[0], root)
            number += 1
        copy_of(published[0], moved(evidence_of(published[0], PUBLISHED), 999), number, root)
        cases["one new of each size"] = validate(root, memory)
    rows = [
        {
            "case": case, "records": args.records, "of_ade_size": args.ade,
            "of_coco_size": args.coco, "seconds": round(seconds, 1),
            "core_seconds": round(busy, 1),
            "load_of_the_machine": round(os.getloadavg()[0], 1), "hardware": hardware(),
            "versions": versions("numpy"), "command": command_line(),
        }
        for case, (seconds, busy) in cases.items()
    ]  # fmt: skip
    write_rows(FOLDER / "validate_cpu.csv", rows, ("case", "records"))


if __name__ == "__main__":
    main()
