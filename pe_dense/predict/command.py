"""What `tools/predict.py` does: opens the model, predicts into a folder, writes the index."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from mmengine.logging import print_log

from pe_dense.files import file_sha256
from pe_dense.predict.folder_prediction import Outcome, predict_pictures, stamp_of
from pe_dense.predict.inputs import find_inputs, output_stems
from pe_dense.predict.journal import Journal, Stamp
from pe_dense.predict.model import open_trained
from pe_dense.predict.predictor import Predictor
from pe_dense.predict.results import SCORE_THR
from pe_dense.predict.summary import (
    ids_of_file,
    own_ids,
    predicted,
    write_detections,
    write_index,
)
from pe_dense.predict.text_run import TextRequest, in_words, open_text, text_facts
from pe_dense.predict.video_prediction import (
    ImagePredictor,
    VideoOutcome,
    predict_videos,
    video_of,
)
from pe_dense.predict.video_source import is_camera
from pe_dense.predict.writing import DEPTH, LABELS, OVERLAYS, Writer
from pe_dense.results.provenance import code_state, typed
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.start_table import tell_weights
from pe_dense.run.trained_run import TrainedRun


@dataclass(frozen=True)
class PredictRequest:
    """One prediction as it was asked for.

    Attributes:
        checkpoint: File or work dir; None with `text`.
        inputs: Files, folders, lists, globs, videos, numbers of cameras.
        out: Folder of the predictions.
        config: Config file, for checkpoints that do not hold their own.
        encoder: Replaces the config's encoder.
        options: `--cfg-options`.
        device: Where the model runs; None: the machine's GPU if there is one.
        amp: Encoder in bfloat16.
        batch_size: Pictures that run together; None: as in the test.
        overlays: Draw what was found.
        score_thr: Least score that is drawn.
        ids: COCO file whose ids of pictures and classes are used; None: from 1.
        steps_per_metre: Of 16-bit depth; None: from the config.
        resume: Go on with a folder.
        argv: The command line, for the index.
        text: What to look for by name, instead of a checkpoint with its config, encoder and
            options.
    """

    checkpoint: Path | None
    inputs: Sequence[str]
    out: Path
    config: str | None = None
    encoder: str | None = None
    options: Mapping[str, Any] | None = None
    device: str | None = None
    amp: bool = False
    batch_size: int | None = None
    overlays: bool = False
    score_thr: float = SCORE_THR
    ids: Path | None = None
    steps_per_metre: float | None = None
    resume: bool = False
    argv: Sequence[str] = ("tools/predict.py",)
    text: TextRequest | None = None


def predict(request: PredictRequest) -> Outcome:
    """Predict pictures into a folder.

    Raises:
        ValueError: If the request cannot be followed, or not one picture could be predicted.
    """
    _require_sense(request)
    cv2.setLogLevel(0)  # each picture that fails is told of by its name
    found = find_inputs(request.inputs, request.out)
    output_stems([source.name for source in found.pictures])  # two of one name are refused here
    run = _opened(request)
    predictor = Predictor(run, request.device, request.amp)
    if request.steps_per_metre is not None:
        predictor.steps_per_metre = request.steps_per_metre
    if request.ids is not None and predictor.task != "detection":
        raise ValueError(f"--ids is for detections, and this checkpoint is of {predictor.task}")
    ids = own_ids(found.pictures, predictor.classes)
    if request.ids is not None:
        ids = ids_of_file(request.ids, found.pictures, predictor.classes)
    facts = facts_of(run, predictor, request)
    if run.file is None:
        tell_weights(run.facts.encoder, predictor.model.backbone.weights_info)
        print_log(in_words(facts, predictor.model.reader.depth), "current")
    journal = Journal(request.out, facts, request.resume)
    writer = Writer(request.out, request.overlays, request.score_thr)
    batch_size = request.batch_size or predictor.batch_size
    videos = _predict_videos(predictor, found.videos, request, journal) if found.videos else []
    outcome = predict_pictures(predictor, found.pictures, journal, writer, batch_size)
    journal.close()
    outcome.videos = sum(not video.error for video in videos)
    outcome.failed |= {video.input: video.error for video in videos if video.error}
    good = predicted(found.pictures, journal, outcome.failed)
    if predictor.task == "detection" and found.pictures:
        write_detections(request.out, good, journal, predictor.classes, ids)
    commit, is_dirty = code_state()
    source = {} if run.file is None else dict(checkpoint_file=str(run.file))
    made = [dict(input=video.input, file=video.file) for video in videos if not video.error]
    head = dict(
        command=shlex.join(typed(request.argv)), **source, **facts,
        commit=commit, dirty=is_dirty, videos=made,
    )  # fmt: skip
    write_index(request.out, head, found.pictures, journal, outcome.failed)
    if outcome.failed and not good and not outcome.videos:
        (file, why), count = next(iter(outcome.failed.items())), len(outcome.failed)
        raise ValueError(
            why if count == 1 else f"none of {count} could be predicted; the first, {file}: {why}"
        )
    return outcome


@dataclass(frozen=True)
class PredictedVideo:
    """What became of a video.

    Attributes:
        input: As it was named.
        file: The MP4, below the folder.
        error: Why it ended before its time; '' where it did not.
    """

    input: str
    file: str
    error: str = ""


def _predict_videos(
    predictor: Predictor, videos: Sequence[str], request: PredictRequest, journal: Journal
) -> list[PredictedVideo]:
    """Frame by frame, beside the pictures.

    Of a run that goes on, what came to its end and has not changed stays; the rest is done anew.
    """
    results = []
    todo: dict[str, Stamp] = {}
    for text in videos:
        file = video_of(request.out, text)
        folder = file.with_suffix("")
        if folder.name in (OVERLAYS, LABELS, DEPTH):
            raise ValueError(
                f"video {text} would be written into {folder}, where pictures are; rename it"
            )
        stamp = () if is_camera(text) or not Path(text).is_file() else stamp_of(Path(text))
        if file.is_file() and journal.videos.get(file.name) == stamp:
            results.append(PredictedVideo(text, file.name))
            continue
        if request.resume:  # what a killed run, a broken file or an earlier state of it left
            file.unlink(missing_ok=True)
            if folder.is_dir():
                shutil.rmtree(folder)
        todo[text] = stamp
    suffixes = (".npy",) if predictor.task == "depth" else (".png",)
    batch_size = request.batch_size or predictor.batch_size
    frames = ImagePredictor(predictor, suffixes, batch_size, predictor.bits)

    def note(text: str, outcome: VideoOutcome) -> None:
        file = video_of(request.out, text)
        results.append(PredictedVideo(text, file.name, outcome.error))
        if not outcome.error:
            journal.add_video(file.name, todo[text])

    predict_videos(list(todo), request.out, frames, note=note)
    return results


def facts_of(run: TrainedRun, predictor: Predictor, request: PredictRequest) -> dict[str, Any]:
    """What the files of a folder have in common; a run that goes on must have the same."""
    if run.file is None:
        source = text_facts(predictor.model)
    else:
        source = dict(checkpoint_sha256=file_sha256(run.file))
    facts: dict[str, Any] = dict(
        **source,
        encoder=run.facts.encoder,
        settings_sha256=protocol_sha256(run.template, predictor.is_amp),
        task=predictor.task,
        amp=predictor.is_amp,
        overlays=request.overlays,
    )
    if request.overlays and predictor.task == "detection":
        facts["score_thr"] = request.score_thr
    if predictor.task == "depth":
        facts["steps_per_metre"] = predictor.steps_per_metre
        facts["steps_of_unknown"] = 0
    else:
        named = zip(predictor.ids, predictor.classes, strict=True)
        facts["classes"] = [dict(id=number, name=name) for number, name in named]
    return facts


def _opened(request: PredictRequest) -> TrainedRun:
    """The run that predicts."""
    if request.text is not None:
        return open_text(request.text)
    assert request.checkpoint is not None
    return open_trained(request.checkpoint, request.config, request.encoder, request.options)


def _require_sense(request: PredictRequest) -> None:
    if not request.inputs:
        raise ValueError("nothing to predict is named; add pictures, folders, lists or globs")
    if not 0.0 <= request.score_thr <= 1.0:
        raise ValueError(f"--score-thr is {request.score_thr}, but scores lie between 0 and 1")
    if request.batch_size is not None and request.batch_size < 1:
        raise ValueError(f"--batch-size is {request.batch_size}; pass 1 or more")
    if request.steps_per_metre is not None and not 0 < request.steps_per_metre < float("inf"):
        raise ValueError(
            f"--depth-scale is {request.steps_per_metre}; pass steps per metre, for example 1000"
        )
