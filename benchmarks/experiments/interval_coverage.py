"""Do 95 % intervals of AP hold the mean over test sets in 95 % of trials?

    python benchmarks/experiments/interval_coverage.py

The images of a published record play the population: test sets of 50 images are drawn from it,
and each gives a plain percentile interval and one centred on its score, as
`pe_dense.results.statistics` makes them. Measured on mini-detection-v1 of PE Spatial T/16, with
300 trials of 300 resamples: 0.847 and 0.950.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pe_dense.results.evidence_file import load_evidence  # noqa: E402

FOLDER = ROOT / "benchmarks/records/pe_spatial_t16_512/random"
IMAGES, TRIALS, RESAMPLES = 50, 300, 300


def main() -> None:
    """Print both shares."""
    (file,) = FOLDER.glob("mini-detection-v1.seed0.*.npz")
    evidence, rng = load_evidence(file), np.random.default_rng(0)

    def average_precision(drawn_RN: np.ndarray) -> np.ndarray:
        weights = [np.bincount(row, minlength=evidence.num_items) for row in drawn_RN]
        return evidence.metrics(np.stack(weights), ["AP"])["AP"]

    sets = rng.integers(evidence.num_items, size=(TRIALS, IMAGES))
    many = rng.integers(evidence.num_items, size=(4000, IMAGES))
    target = average_precision(many).mean()
    plain = centred = 0
    for images_N, score in zip(sets, average_precision(sets), strict=True):
        again_RN = images_N[rng.integers(IMAGES, size=(RESAMPLES, IMAGES))]
        drawn_R = average_precision(again_RN)
        bounds = np.quantile(drawn_R, [0.025, 0.975])
        plain += bounds[0] <= target <= bounds[1]
        bounds += score - drawn_R.mean()
        centred += bounds[0] <= target <= bounds[1]
    print(f"mean AP of {IMAGES} images: {target:.4f}")
    print(f"held by plain percentiles: {plain / TRIALS:.3f}, centred: {centred / TRIALS:.3f}")


if __name__ == "__main__":
    main()
