"""mIoU of many read-outs: one is chosen on held-out training images and reported once.

Shape legend: N images, R candidates, K classes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.files import atomic_write_bytes, atomic_write_text
from pe_dense.pixelwise.mean_iou import counts_evidence, short_names
from pe_dense.results.evidence import SegmentationEvidence
from pe_dense.results.record import Selection
from pe_dense.segmentation.text_segmentor import Candidate

TABLE, PICTURE = "readouts.tsv", "readouts.png"


@METRICS.register_module()
class ReadoutMeanIoU(BaseMetric):
    """mIoU of the candidate of a `TextSegmentor` that is best on held-out training images.

    The data hold two kinds of images: those that `HoldoutSubset` marks, which choose, and all
    others, which are reported. A single candidate needs none to choose with.

    Args:
        out_dir: Folder of a table and a picture of all candidates on the reported images; None
            writes none. They are for looking: nothing is chosen by them.
        collect_device, prefix: As in MMEngine's metrics.

    Raises:
        ValueError: If images of a kind are missing, or nothing is annotated.
    """

    default_prefix = "seg"

    def __init__(
        self,
        out_dir: str | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.candidates: tuple[Candidate, ...] = ()
        self.chosen = 0
        self.num_held = self.num_cut = 0
        self.reader_notes: tuple[str, ...] = ()
        self._reported: tuple[tuple[str, ...], np.ndarray] | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the counts of a batch."""
        for sample in data_samples:
            held = sample.get("probe_split") == "holdout"
            counts_R3K = np.asarray(sample["readout_counts"]).astype(np.int32)  # of one image
            self.candidates = tuple(Candidate(*each) for each in sample["candidates"])
            self.reader_notes = tuple(sample.get("reader_notes", ()))
            self.results.append((sample["img_path"], held, counts_R3K, sample["num_cut"]))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Choose, then score what was chosen."""
        self.num_cut = max(row[3] for row in results)
        held = [row[2] for row in results if row[1]]
        reported = [row for row in results if not row[1]]
        self.num_held = len(held)
        if not reported:
            raise ValueError("the test data hold no image to report")
        if len(self.candidates) > 1 and not held:
            raise ValueError(
                f"{len(self.candidates)} read-outs are to be chosen among, and the test data hold "
                "no image to choose with; add a HoldoutSubset of part 'holdout', or name one "
                "read-out, one layer and one threshold"
            )
        if len(self.candidates) > 1:
            scores_R = mean_ious(np.stack(held))
            if not np.isfinite(scores_R).any():
                raise ValueError(f"none of {len(held)} images to choose with is annotated")
            self.chosen = int(np.nanargmax(scores_R))
        names = short_names([row[0].replace("\\", "/") for row in reported])
        counts_NR3K = np.stack([row[2] for row in reported])
        if not counts_NR3K[:, :, 2].any():
            raise ValueError(f"none of {len(reported)} images to report has an annotated pixel")
        self._reported = names, counts_NR3K
        self._write(mean_ious(np.stack(held)) if held else None)
        scores = self.evidence().metrics()
        return {name: float(value) for name, value in scores.items() if np.isfinite(value)}

    def evidence(self) -> SegmentationEvidence:
        """Counts of every reported image under what was chosen."""
        names, counts_NR3K = self._found()
        return counts_evidence(names, self.dataset_meta["classes"], counts_NR3K[:, self.chosen])

    def by_layer(self) -> dict[str, dict[str, float]]:
        """Metric -> {layer: score of the chosen read-out and threshold there}."""
        names, counts_NR3K = self._found()
        best = self.candidates[self.chosen]
        found: dict[str, dict[str, float]] = {}
        for r, candidate in enumerate(self.candidates):
            if candidate._replace(layer=best.layer) == best:
                evidence = counts_evidence(names, self.dataset_meta["classes"], counts_NR3K[:, r])
                for name, value in evidence.metrics().items():
                    if np.isfinite(value):
                        found.setdefault(name, {})[str(candidate.layer)] = float(value)
        return found

    def selection(self) -> Selection | None:
        """How the reported read-out was chosen; None where there was no choice."""
        self._found()
        if len(self.candidates) == 1:
            return None
        return Selection(
            on="holdout",
            metric="mIoU",
            candidates=len(self.candidates),
            chosen=self.candidates[self.chosen].in_words(),
        )

    def notes(self) -> list[str]:
        """What a record should say besides."""
        notes = list(self.reader_notes)
        if self.num_cut:
            notes.append(
                f"{self.num_cut} prompts were longer than the text tower's context and cut"
            )
        return notes

    def _found(self) -> tuple[tuple[str, ...], np.ndarray]:
        if self._reported is None:
            raise RuntimeError("ReadoutMeanIoU has evaluated nothing yet")
        return self._reported

    def _write(self, held_R: np.ndarray | None) -> None:
        if self.out_dir is None:
            return
        scores_R = mean_ious(self._found()[1])
        self.out_dir.mkdir(parents=True, exist_ok=True)
        text = readout_table(self.candidates, scores_R, held_R, self.chosen)
        atomic_write_text(self.out_dir / TABLE, text)
        picture = readout_picture(self.candidates, scores_R, self.chosen)
        atomic_write_bytes(self.out_dir / PICTURE, picture)


def mean_ious(counts_NR3K: np.ndarray) -> np.ndarray:
    """Mean IoU of every candidate over all images, (R,); nan where nothing is annotated.

    Classes in neither annotations nor predictions are left out of the mean.
    """
    right_RK, predicted_RK, annotated_RK = counts_NR3K.sum(0, dtype=np.int64).swapaxes(0, 1)
    union_RK = predicted_RK + annotated_RK - right_RK
    share_RK = np.where(union_RK > 0, right_RK / np.maximum(union_RK, 1), np.nan)
    found_R = np.full(len(share_RK), np.nan)
    used_R = annotated_RK.any(axis=1)
    found_R[used_R] = np.nanmean(share_RK[used_R], axis=1)
    return found_R


def readout_table(
    candidates: Sequence[Candidate],
    scores_R: np.ndarray,
    held_R: np.ndarray | None,
    chosen: int,
) -> str:
    """All candidates, tab-separated: what they score on reported and on held-out images."""
    lines = ["readout\tlayer\tthreshold\tmIoU\tmIoU held out\tchosen"]
    for r, candidate in enumerate(candidates):
        threshold = "" if candidate.threshold is None else f"{candidate.threshold:g}"
        held = "" if held_R is None else f"{held_R[r]:.4f}"
        cells = [candidate.readout, str(candidate.layer), threshold, f"{scores_R[r]:.4f}", held]
        lines.append("\t".join([*cells, "x" if r == chosen else ""]))
    return "\n".join(lines) + "\n"


def readout_picture(candidates: Sequence[Candidate], scores_R: np.ndarray, chosen: int) -> bytes:
    """PNG of mIoU over layers: a line for every read-out with the chosen threshold."""
    from matplotlib.figure import Figure  # slow to import

    best = candidates[chosen]
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    axes = figure.subplots()
    for readout in dict.fromkeys(each.readout for each in candidates):
        of = [
            (each.layer, scores_R[r])
            for r, each in enumerate(candidates)
            if each.readout == readout and each.threshold == best.threshold
        ]
        layers, scores = zip(*sorted(of), strict=True)
        axes.plot(layers, scores, marker="o", markersize=3, label=readout)
    axes.plot(
        best.layer, scores_R[chosen], "o", markersize=11, fillstyle="none", color="black",
        label="chosen on held-out images" if len(candidates) > 1 else "scored",
    )  # fmt: skip
    axes.set_xlabel("block, from 0")
    axes.set_ylabel("mIoU of the reported images")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()
