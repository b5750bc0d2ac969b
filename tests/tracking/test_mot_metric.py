"""HOTA, MOTA and IDF1 on cases that can be solved by hand, and against TrackEval's own sums."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
from pe_dense.tracking import mot_metric
from pe_dense.tracking.mot_metric import MOTChallengeScores

needs_trackeval = pytest.mark.skipif(
    importlib.util.find_spec("trackeval") is None, reason="needs the extra 'mot'"
)
FRAMES = 4
BOXES = {1: (10, 10, 20, 20), 2: (60, 10, 20, 20)}  # xywh from pixel 0; the two never touch


def sequence(root, name="clip", extra=""):
    folder = root / name
    (folder / "gt").mkdir(parents=True)
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nseqLength={FRAMES}\nimHeight=100\nimWidth=100\n"
    )
    rows = [
        f"{t},{i},{x + 1},{y + 1},{w},{h},1,1,1"
        for t in range(1, FRAMES + 1)
        for i, (x, y, w, h) in BOXES.items()
    ]
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n" + extra)
    return folder


def tracks(folder, ids_by_frame):
    """One dict a frame; `ids_by_frame[t]` gives the identity of each tracked true object."""
    frames = []
    for t, ids in enumerate(ids_by_frame, start=1):
        xywh = np.array([BOXES[i] for i in ids], float).reshape(-1, 4)
        frames.append(
            {
                "sequence_dir": str(folder),
                "frame_number": t,
                "length": FRAMES,
                "ids": np.array(list(ids.values()), int),
                "boxes": np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
                "scores": np.ones(len(ids)),
            }
        )
    return frames


def score(tmp_path, frames):
    metric = MOTChallengeScores(out_dir=str(tmp_path / "out"))
    return metric, metric.compute_metrics(frames)


@needs_trackeval
def test_perfect_tracks_have_every_score_1(tmp_path):
    folder = sequence(tmp_path)
    _, scores = score(tmp_path, tracks(folder, [{1: 0, 2: 1}] * FRAMES))
    assert scores.pop("IDSW") == 0
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


@needs_trackeval
def test_an_exchange_of_identities_half_way(tmp_path):
    """Two objects swap identities after 2 of 4 frames, every box exact.

    CLEAR: 8 right boxes, 2 switches: MOTA 6/8. Identity: each object keeps 2 of 4 frames: IDTP 4,
    IDFP 4, IDFN 4: IDF1 1/2. HOTA: of a right box, 2 of 4 + 4 - 2 are the same pair: AssA 1/3,
    DetA 1, HOTA sqrt(1/3).
    """
    folder = sequence(tmp_path)
    swapped = [{1: 0, 2: 1}] * 2 + [{1: 1, 2: 0}] * 2
    _, scores = score(tmp_path, tracks(folder, swapped))
    assert scores["MOTA"] == pytest.approx(6 / 8) and scores["IDSW"] == 2
    assert scores["IDF1"] == pytest.approx(1 / 2)
    assert scores["DetA"] == pytest.approx(1) and scores["AssA"] == pytest.approx(1 / 3)
    assert scores["HOTA"] == pytest.approx(3**-0.5)


@needs_trackeval
def test_one_object_is_never_found(tmp_path):
    """4 of 8 boxes: MOTA 1/2, IDF1 2*4/(8+4), DetA 1/2, AssA 1."""
    _, scores = score(tmp_path, tracks(sequence(tmp_path), [{1: 0}] * FRAMES))
    assert scores["MOTA"] == pytest.approx(1 / 2) and scores["IDF1"] == pytest.approx(8 / 12)
    assert scores["HOTA"] == pytest.approx(0.5**0.5)


@needs_trackeval
def test_no_tracks_at_all(tmp_path):
    _, scores = score(tmp_path, tracks(sequence(tmp_path), [{}] * FRAMES))
    assert scores["HOTA"] == 0 and scores["MOTA"] == 0 and scores["IDF1"] == 0


@needs_trackeval
def test_rows_that_are_no_targets_do_not_count(tmp_path):
    folder = sequence(tmp_path, extra="1,9,1,80,5,5,0,1,1\n2,9,1,80,5,5,1,3,1\n")
    _, scores = score(tmp_path, tracks(folder, [{1: 0, 2: 1}] * FRAMES))
    assert scores["HOTA"] == pytest.approx(1)


@needs_trackeval
def test_sums_over_sequences_are_those_of_trackeval(tmp_path):
    from trackeval import Evaluator
    from trackeval.datasets import MotChallenge2DBox
    from trackeval.metrics import CLEAR, HOTA, Identity

    good, bad = sequence(tmp_path, "good"), sequence(tmp_path, "bad")
    frames = tracks(good, [{1: 0, 2: 1}] * FRAMES)
    frames += tracks(bad, [{1: 0}, {2: 1, 1: 0}, {1: 1}, {}])
    metric, scores = score(tmp_path, frames)
    quiet = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False}
    evaluator = Evaluator(
        {
            **quiet,
            "USE_PARALLEL": False,
            "BREAK_ON_ERROR": True,
            "OUTPUT_SUMMARY": False,
            "OUTPUT_DETAILED": False,
            "PLOT_CURVES": False,
        }
    )
    dataset = MotChallenge2DBox(
        {
            "GT_FOLDER": str(metric.folder / "gt"),
            "TRACKERS_FOLDER": str(metric.folder),
            "TRACKERS_TO_EVAL": ["tracks"],
            "SEQ_INFO": {"good": FRAMES, "bad": FRAMES},
            "SKIP_SPLIT_FOL": True,
            "PRINT_CONFIG": False,
        }
    )
    small = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}
    found, _ = evaluator.evaluate([dataset], [HOTA(), CLEAR(small), Identity(small)])
    total = found["MotChallenge2DBox"]["tracks"]["COMBINED_SEQ"]["pedestrian"]
    for name in ("HOTA", "DetA", "AssA", "AssRe", "AssPr"):
        assert scores[name] == pytest.approx(np.mean(total["HOTA"][name]), abs=1e-12)
    assert scores["MOTA"] == pytest.approx(total["CLEAR"]["MOTA"], abs=1e-12)
    assert scores["IDF1"] == pytest.approx(total["Identity"]["IDF1"], abs=1e-12)
    assert metric.evidence().sequence_ids == ("good", "bad")


@needs_trackeval
def test_every_evaluation_gets_a_new_folder(tmp_path):
    folder = sequence(tmp_path)
    frames = tracks(folder, [{1: 0, 2: 1}] * FRAMES)
    metric, first = score(tmp_path, frames)
    old = metric.folder
    (old / "tracks" / "data" / "clip.txt").write_text("what an earlier run left\n")
    assert metric.compute_metrics(frames) == first and metric.folder != old
    lines = (metric.folder / "tracks" / "data" / "clip.txt").read_text().splitlines()
    assert len(lines) == 8 and lines[0].startswith("1,1,11.0000,11.0000,20.0000,20.0000,")


@needs_trackeval
def test_the_second_half_is_scored_as_a_sequence_of_its_own(tmp_path):
    frames = tracks(sequence(tmp_path), [{1: 0, 2: 1}] * FRAMES)[3:]
    frames[0]["length"] = 1
    assert score(tmp_path, frames)[1]["HOTA"] == pytest.approx(1)


@needs_trackeval
def test_missing_and_doubled_frames_are_refused(tmp_path):
    frames = tracks(sequence(tmp_path), [{1: 0, 2: 1}] * FRAMES)
    for wrong in (frames[:-1], frames + frames[-1:]):
        with pytest.raises(ValueError, match="track every frame once"):
            score(tmp_path, wrong)


@needs_trackeval
def test_tracks_are_written_even_without_ground_truth(tmp_path):
    folder = sequence(tmp_path)
    (folder / "gt" / "gt.txt").unlink()
    with pytest.raises(ValueError, match="scored on its server"):
        score(tmp_path, tracks(folder, [{1: 0}] * FRAMES))
    assert len(list((tmp_path / "out").glob("mot-*/tracks/data/clip.txt"))) == 1


def test_a_missing_extra_is_one_sentence(monkeypatch):
    monkeypatch.setattr(mot_metric.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pe_dense\[mot\]'"):
        MOTChallengeScores()


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(ValueError, match="'MOT18' is not one of MOT15"):
        MOTChallengeScores(benchmark="MOT18")


@needs_trackeval
def test_evidence_needs_an_evaluation():
    with pytest.raises(RuntimeError, match="nothing yet"):
        MOTChallengeScores().evidence()


@needs_trackeval
def test_scores_are_those_of_the_original_trackeval(tmp_path):
    """Three sequences with distractors, switches, lost and exchanged identities, and no tracks."""
    with np.load(Path(__file__).parents[1] / "golden" / "mot_scores.npz") as arrays:
        golden = dict(arrays)
    names = sorted({key.split("/")[0] for key in golden} - {"all"})
    assert names == ["busy", "empty", "lost"]
    frames = []
    for name in names:
        folder, length = tmp_path / name, int(golden[f"{name}/length"])
        (folder / "gt").mkdir(parents=True)
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nseqLength={length}\nimHeight=240\nimWidth=320\n"
        )
        rows = [
            f"{int(t)},{int(i)},{x},{y},{w},{h},{int(active)},{int(kind)},{visibility}\n"
            for t, i, x, y, w, h, active, kind, visibility in golden[f"{name}/ground_truth"]
        ]
        (folder / "gt" / "gt.txt").write_text("".join(rows))
        tracks_Q7 = golden[f"{name}/tracks"]
        for t in range(1, length + 1):
            _, ids, x, y, w, h, scores = tracks_Q7[tracks_Q7[:, 0] == t].T
            frames.append(
                {
                    "sequence_dir": str(folder), "frame_number": t, "length": length,
                    "ids": ids.astype(int) - 1, "scores": scores,
                    "boxes": np.stack([x - 1, y - 1, x - 1 + w, y - 1 + h], axis=1),
                }
            )  # fmt: skip
    metric, scores = score(tmp_path, frames)
    evidence = metric.evidence()
    assert evidence.sequence_ids == tuple(names)
    for ours, theirs in (
        ("clear_tp_N", "CLR_TP"), ("clear_fp_N", "CLR_FP"), ("clear_fn_N", "CLR_FN"),
        ("clear_idsw_N", "IDSW"), ("id_tp_N", "IDTP"), ("id_fp_N", "IDFP"), ("id_fn_N", "IDFN"),
        ("hota_tp_NA", "HOTA_TP"), ("hota_fp_NA", "HOTA_FP"), ("hota_fn_NA", "HOTA_FN"),
    ):  # fmt: skip
        expected = np.stack([golden[f"{name}/{theirs}"] for name in names])
        np.testing.assert_array_equal(getattr(evidence, ours), expected, err_msg=theirs)
    assert golden["all/IDSW"] > 0 and golden["all/CLR_FP"] > 0  # the case is about something
    for name in ("HOTA", "DetA", "AssA", "AssRe", "AssPr", "MOTA", "IDF1", "IDSW"):
        assert scores[name] == pytest.approx(golden[f"all/{name}"].mean(), abs=1e-9), name
