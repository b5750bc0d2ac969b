"""HOTA, MOTA and IDF1 of tracks through TrackEval, with the counts behind them.

The tracks are written as MOTChallenge result files first; TrackEval reads what was written, beside
the ground truth of the same frames, and applies the rules of the benchmark: only active boxes of
class 1 are targets, and detections that match people who are not (on vehicles, static, reflected)
are taken out.

Source: TrackEval 1.3.0 on PyPI (kovalp/TrackEval, a fork of JonathonLuiten/TrackEval for NumPy 2);
HOTA arXiv:2009.07736, CLEAR 0911.2632, identity arXiv:1609.01775.

Shape legend: N sequences, A = 19 localisation thresholds of HOTA.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS

from pe_dense.results.evidence import TrackingEvidence
from pe_dense.tracking.mot_files import (
    ground_truth_lines,
    read_ground_truth,
    read_sequence_info,
    result_lines,
)

BENCHMARKS = ("MOT15", "MOT16", "MOT17", "MOT20")


@METRICS.register_module()
class MOTChallengeScores(BaseMetric):
    """HOTA, DetA, AssA, AssRe, AssPr, MOTA, IDF1 (fractions) and IDSW (a count) over all sequences.

    Args:
        out_dir: Result files go to a new folder inside it, 'mot-<random>', in every evaluation:
            nothing that was there is read or replaced. 'tracks/data/<sequence>.txt' in it can be
            sent to the server of MOTChallenge.
        benchmark: Whose rules apply: 'MOT15', 'MOT16', 'MOT17' or 'MOT20'.
        partial: Whether sequences may be without ground truth: they are written and not scored.
        collect_device: Where results of several processes meet, 'cpu' or 'gpu'.
        prefix: Name in front of every metric.

    Raises:
        ValueError: If TrackEval is not installed, or the benchmark is another.
    """

    default_prefix = "mot"

    def __init__(
        self,
        out_dir: str = "work_dirs/mot_results",
        benchmark: str = "MOT17",
        partial: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        if benchmark not in BENCHMARKS:
            raise ValueError(f"benchmark={benchmark!r} is not one of {', '.join(BENCHMARKS)}")
        if importlib.util.find_spec("trackeval") is None:
            raise ValueError(
                "HOTA needs the package 'trackeval', which is not installed; run: "
                "pip install 'pe_dense[mot]'"
            )
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out_dir, self.benchmark, self.partial = Path(out_dir), benchmark, partial
        self.folder: Path | None = None  # of the last evaluation
        self._evidence: TrackingEvidence | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the tracks of the frames: sequence, number in its files, length, result lines."""
        for sample in data_samples:
            for frame in sample["video_data_samples"]:
                frame = frame if isinstance(frame, dict) else frame.to_dict()
                found = frame["pred_track_instances"]
                self.results.append(
                    {
                        "sequence_dir": frame["sequence_dir"],
                        "frame_number": int(frame["frame_number"]),
                        "length": int(frame["ori_video_length"]),
                        "ids": found["instances_id"].cpu().numpy(),
                        "boxes": found["bboxes"].cpu().numpy(),
                        "scores": found["scores"].cpu().numpy(),
                    }
                )

    def evaluate(self, size: int) -> dict[str, float]:
        """Scores over the frames of all processes.

        Args:
            size: Entries of the data set: sequences, where results are frames; not used.
        """
        frames = [frame for part in all_gather_object(self.results) for frame in part]
        shared: list = [None]
        if is_main_process():
            scores = self.compute_metrics(frames)
            shared = [{f"{self.prefix}/{name}": value for name, value in scores.items()}]
        broadcast_object_list(shared)
        self.results.clear()
        return shared[0]

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Write, score, sum up.

        Raises:
            ValueError: If frames are missing or doubled, or a sequence has no ground truth.
        """
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="mot-", dir=self.out_dir))
        lengths = write_evaluation_files(self.folder, results, self.partial)
        print_log(
            f"tracks of {len(lengths)} sequences: {self.folder / 'tracks' / 'data'}", "current"
        )
        if self.partial:
            lengths = {k: n for k, n in lengths.items() if (self.folder / "gt" / k).is_dir()}
            if not lengths:
                return {}
        self._evidence = score_files(self.folder, lengths, self.benchmark)
        return self._evidence.metrics()

    @property
    def written_to(self) -> Path | None:
        """Folder of the tracks of the last evaluation."""
        return None if self.folder is None else self.folder / "tracks" / "data"

    def evidence(self) -> TrackingEvidence:
        """Counts by sequence of the last evaluation.

        Raises:
            RuntimeError: If nothing was evaluated in this process.
        """
        if self._evidence is None:
            raise RuntimeError("MOTChallengeScores has evaluated nothing yet")
        return self._evidence


def write_evaluation_files(
    folder: Path, frames: Sequence[Mapping[str, Any]], partial: bool = False
) -> dict[str, int]:
    """Write 'tracks/data/<sequence>.txt', then 'gt/<sequence>/gt/gt.txt' of the same frames.

    Frames are numbered from 1 in what was tracked of a sequence, in both files. With `partial` a
    sequence without ground truth gets tracks alone.

    Returns:
        Frames of each sequence, by name.

    Raises:
        ValueError: If frames are missing or doubled, or a sequence has no ground truth; the tracks
            are written by then.
    """
    by_sequence: dict[str, list[Mapping[str, Any]]] = {}
    for frame in frames:
        by_sequence.setdefault(frame["sequence_dir"], []).append(frame)
    tracks = folder / "tracks" / "data"
    tracks.mkdir(parents=True)
    spans = {}
    for place, parts in by_sequence.items():
        parts.sort(key=lambda frame: frame["frame_number"])
        numbers = [frame["frame_number"] for frame in parts]
        first = numbers[0]
        if numbers != list(range(first, first + parts[0]["length"])):
            raise ValueError(
                f"{len(numbers)} frames of {place} were tracked, and it has {parts[0]['length']}; "
                "track every frame once, in order"
            )
        lines = [
            line
            for frame in parts
            for line in result_lines(
                frame["frame_number"] - first + 1, frame["ids"], frame["boxes"], frame["scores"]
            )
        ]
        (tracks / f"{Path(place).name}.txt").write_text("".join(f"{line}\n" for line in lines))
        spans[place] = first, numbers[-1]
    for place, (first, last) in spans.items():
        source = Path(place)
        if partial and not (source / "gt" / "gt.txt").is_file():
            continue
        info = read_sequence_info(source)
        rows = read_ground_truth(source / "gt" / "gt.txt", info.num_frames)
        target = folder / "gt" / source.name / "gt"
        target.mkdir(parents=True)
        lines = ground_truth_lines(rows, first, last)
        (target / "gt.txt").write_text("".join(f"{line}\n" for line in lines))
    return {Path(place).name: last - first + 1 for place, (first, last) in spans.items()}


def score_files(folder: Path, lengths: Mapping[str, int], benchmark: str) -> TrackingEvidence:
    """Score 'tracks/data/*.txt' against 'gt/*/gt/gt.txt' in a folder with TrackEval.

    Args:
        folder: What `write_evaluation_files` filled.
        lengths: Frames of each sequence.
        benchmark: One of `BENCHMARKS`.

    Returns:
        Counts by sequence.

    Raises:
        ValueError: If TrackEval refuses the files.
    """
    from trackeval.datasets import MotChallenge2DBox
    from trackeval.metrics import CLEAR, HOTA, Identity
    from trackeval.utils import TrackEvalException

    quiet = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}
    metrics = HOTA(), CLEAR(quiet), Identity(quiet)
    rows = []
    try:
        dataset = MotChallenge2DBox(
            {
                "GT_FOLDER": str(folder / "gt"),
                "TRACKERS_FOLDER": str(folder),
                "TRACKERS_TO_EVAL": ["tracks"],
                "BENCHMARK": benchmark,
                "SEQ_INFO": dict(lengths),
                "SKIP_SPLIT_FOL": True,
                "PRINT_CONFIG": False,
            }
        )
        for name in lengths:
            raw = dataset.get_raw_seq_data("tracks", name)
            data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
            rows.append([metric.eval_sequence(data) for metric in metrics])
    except TrackEvalException as error:
        raise ValueError(f"TrackEval refuses the files in {folder}: {error}") from error

    def counts(place: int, key: str) -> np.ndarray:
        return np.array([np.rint(row[place][key]) for row in rows]).astype(np.int64)

    def sums(key: str) -> np.ndarray:
        return np.array([row[0][key] * row[0]["HOTA_TP"] for row in rows], dtype=np.float64)

    return TrackingEvidence(
        sequence_ids=tuple(lengths),
        clear_tp_N=counts(1, "CLR_TP"),
        clear_fp_N=counts(1, "CLR_FP"),
        clear_fn_N=counts(1, "CLR_FN"),
        clear_idsw_N=counts(1, "IDSW"),
        id_tp_N=counts(2, "IDTP"),
        id_fp_N=counts(2, "IDFP"),
        id_fn_N=counts(2, "IDFN"),
        hota_tp_NA=counts(0, "HOTA_TP"),
        hota_fp_NA=counts(0, "HOTA_FP"),
        hota_fn_NA=counts(0, "HOTA_FN"),
        ass_a_sum_NA=sums("AssA"),
        ass_re_sum_NA=sums("AssRe"),
        ass_pr_sum_NA=sums("AssPr"),
    )
