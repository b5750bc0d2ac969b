"""Seconds and memory of scoring by names and captions beyond the encoder, at the size of real sets.

The vectors are made up, of 1,024 numbers as those of PE Core B and L: 50,000 pictures, 1,000
classes of 80 sentences (ImageNet), and 5,000 pictures with 25,010 captions (COCO's test pictures).
Each row is a process of its own; peak memory is all of it, Python and torch included. CPU seconds
are those of all threads: seconds are about half of them where two threads have two cores alone,
and many more where the machine does other things (`load` is its load average at that time).

    python benchmarks/speed/zero_shot.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from measure import FOLDER, command_line, hardware, versions, write_rows

from pe_dense.results.named_evidence import ClassificationEvidence
from pe_dense.results.statistics import intervals
from pe_dense.text_dense.class_vectors import class_vectors
from pe_dense.zero_shot.retrieval_ranks import retrieval_ranks, right_pairs
from pe_dense.zero_shot.top_classes import top_classes

WIDTH, CLASSES, TEMPLATES, PICTURES = 1024, 1000, 80, 50_000
IMAGES, CAPTIONS = 5000, 25_010
TARGET_S = {"classes by name": 20.0, "retrieval, plain": 10.0, "retrieval, re-weighted": 10.0}


def unit(*shape: int, seed: int) -> torch.Tensor:
    """Random vectors of unit length."""
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def classes_by_name() -> Callable[[], object]:
    """Class vectors of 80,000 sentences, best classes of all pictures, evidence, accuracy."""
    texts = unit(CLASSES * TEMPLATES, WIDTH, seed=0)
    target_N = torch.arange(PICTURES) % CLASSES
    images_ND = unit(PICTURES, WIDTH, seed=1)
    images_ND.add_(texts[target_N * TEMPLATES], alpha=0.05)
    images_ND /= images_ND.norm(dim=1, keepdim=True)
    names = [f"class {k}" for k in range(CLASSES)]
    at = [0]

    def encode(some: Sequence[str]) -> torch.Tensor:
        at[0] += len(some)
        return texts[at[0] - len(some) : at[0]]

    def run() -> ClassificationEvidence:
        at[0] = 0
        vectors_KD = class_vectors(encode, names, [f"{{}} {t}" for t in range(TEMPLATES)])
        found = top_classes(images_ND, vectors_KD, target_N)
        evidence = ClassificationEvidence(
            image_ids=tuple(map(str, range(PICTURES))),
            classes=tuple(names),
            target_N=target_N.numpy(),
            top_NJ=found.class_NJ.numpy(),
            score_NJ=found.score_NJ.numpy(),
        )
        evidence.metrics()
        return evidence

    return run


def with_intervals() -> Callable[[], object]:
    """Intervals of the three metrics, 1,000 resamples of 50,000 pictures."""
    evidence = classes_by_name()()
    return lambda: intervals(evidence)


def retrieval(reweight: float | None) -> Callable[[], object]:
    """Ranks of all captions and pictures."""
    image_T = np.arange(CAPTIONS) % IMAGES
    images_ID = unit(IMAGES, WIDTH, seed=0)
    texts_TD = unit(CAPTIONS, WIDTH, seed=1).add_(images_ID[image_T], alpha=0.1)
    texts_TD /= texts_TD.norm(dim=1, keepdim=True)
    texts = [f"caption {t}" for t in range(CAPTIONS)]
    return lambda: retrieval_ranks(texts_TD, images_ID, right_pairs(texts, image_T), reweight)


PARTS: dict[str, Callable[[], Callable[[], object]]] = {
    "classes by name": classes_by_name,
    "classes by name: intervals": with_intervals,
    "retrieval, plain": lambda: retrieval(None),
    "retrieval, re-weighted": lambda: retrieval(1.0),
}


def measured(part: str, threads: int) -> dict[str, float]:
    """One run in this process."""
    torch.set_num_threads(threads)
    run = PARTS[part]()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "load": round(os.getloadavg()[0], 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Every part in a process of its own, then the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=list(PARTS), help="one part, in this process")
    args = parser.parse_args()
    if args.part:
        print(json.dumps(measured(args.part, args.threads)))
        return
    rows = []
    for part in PARTS:
        command = [sys.executable, __file__, "--part", part, "--threads", str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        target = {"target_seconds": TARGET_S.get(part, "")}
        rows.append({"what": part, **found, **target, "threads": args.threads})
        print(rows[-1], flush=True)
    shared = {"hardware": hardware(), "versions": versions(), "command": command_line()}
    write_rows(FOLDER / "zero_shot_cpu.csv", [{**row, **shared} for row in rows], key=("what",))


if __name__ == "__main__":
    main()
