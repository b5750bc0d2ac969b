"""From a finished evaluation to records with evidence, intervals and what was chosen.

A metric may have, besides what MMEngine asks of it:
    evidence(): the per-item evidence of its scores;
    by_layer(): scores of every layer, {metric: {block index: score}};
    selection(): how the scored variant was chosen, a `Selection`;
    notes(): what the record should say besides, in words;
    evidence_by_seed(): {0: evidence, 1: ...} where one run holds several seeds; by_layer and
        selection then take the seed whose scores they are to give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner

from pe_dense.encoders.fingerprint import feature_fingerprint
from pe_dense.encoders.published import standing
from pe_dense.files import file_sha256
from pe_dense.openmmlab.compiled_operators import used_in_words
from pe_dense.results import provenance
from pe_dense.results.evidence_file import evidence_bytes
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.record import (
    CodeInfo,
    Cost,
    DatasetInfo,
    EncoderInfo,
    ProtocolInfo,
    Record,
    TrainingInfo,
)
from pe_dense.results.record_intervals import confidence_intervals
from pe_dense.results.row_notes import HELD_OUT
from pe_dense.results.scored_content import ScoredContent
from pe_dense.results.store import save_record
from pe_dense.run.config import encoder_facts
from pe_dense.run.launch import command_with_launcher, processes
from pe_dense.run.layers_option import CHOSEN_WORDS
from pe_dense.run.protocol import own_hashes
from pe_dense.run.request import RunRequest
from pe_dense.run.scored_data import note_on_published
from pe_dense.run.speed import options_in_words
from pe_dense.run.trained_run import TrainedRun, bare_model


def record_of(
    run: TrainedRun,
    request: RunRequest,
    protocol: ProtocolInfo,
    scores: Mapping[str, float],
    runner: Runner,
    seconds: float,
    accepted: Sequence[str] = (),
    content: ScoredContent | None = None,
    training: TrainingInfo | None = None,
    blind: Mapping[str, float] | None = None,
) -> Record:
    """The record of a finished evaluation, without intervals.

    Args:
        run: What was scored.
        request: How it was asked for.
        protocol: The protocol that was followed.
        scores: Scores by name.
        runner: The Runner that scored, for the model and the data.
        seconds: Duration of the evaluation.
        accepted: Faults of the scored data that were accepted, as `check_data` names them.
        content: Hashes of the scored files.
        training: How the checkpoint came about.
        blind: Main metric of predictors that never see the picture.
    """
    cfg, facts = run.cfg, run.facts
    backbone = bare_model(runner).backbone
    encoder = backbone.encoder
    weights = facts.scored_weights
    cuda = torch.cuda.is_available()
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else provenance.peak_memory_gib()
    here = command_with_launcher(request.argv, request.launcher, processes(request.launcher))
    data = cfg.protocol
    published = note_on_published(data.task, data.dataset, data.split, content)
    held_out = note_on_holdout(runner.test_dataloader.dataset)
    options = options_in_words(
        facts.amp, facts.speed if facts.train_command else None, request.speed
    )
    operators = used_in_words("cuda" if cuda else "cpu")
    has_detector = cfg.protocol.task == "detection" or "detector" in cfg.model
    if operators is not None and has_detector:  # other models call none of them
        options["operators"] = operators
    by_layer = None
    if isinstance(cfg.get("layer"), int):  # one point of a curve over layers
        layer = str(cfg.layer % encoder_facts(cfg.encoder)["depth"])
        by_layer = {protocol.metric: {layer: scores[protocol.metric]}}
    return Record(
        origin="measured",
        task=cfg.protocol.task,
        protocol=protocol,
        dataset=DatasetInfo(
            cfg.protocol.dataset,
            cfg.protocol.split,
            num_scored(runner),
            None if content is None else content.sha256,
        ),
        encoder=EncoderInfo(
            cfg.encoder,
            weights.source,
            weights.sha256,
            feature_fingerprint(encoder),
            sum(p.numel() for p in encoder.parameters()),
            standing(cfg.encoder, weights),
            weights.revision,
            backbone.whole_params() if hasattr(backbone, "whole_params") else None,
        ),
        scores=scores,
        by_layer=by_layer,
        training=training,
        blind=dict(blind) if blind else None,
        created=provenance.utc_now(),
        command=" && ".join(filter(None, [facts.train_command, here])),
        options=options,
        checkpoint_sha256=None if run.file is None else file_sha256(run.file),
        seed=facts.seed,
        code=code_of(run),
        versions=provenance.library_versions(),
        hardware=provenance.hardware(gpu=torch.cuda.get_device_name() if cuda else None),
        cost=Cost(facts.train_seconds, seconds, memory),
        notes="; ".join(
            filter(
                None,
                [*notes_of(run, accepted), *notes_of_metrics(runner), held_out, published],
            )
        ),
    )


def notes_of_metrics(runner: Runner) -> list[str]:
    """What the metrics of an evaluation want said, such as captions that were cut."""
    metrics = runner.test_evaluator.metrics
    return [note for metric in metrics if hasattr(metric, "notes") for note in metric.notes()]


def num_scored(runner: Runner) -> int:
    """Items of the test data that are reported; others may be there to choose settings."""
    dataset = runner.test_dataloader.dataset
    return getattr(dataset, "num_reported", None) or len(dataset)


def note_on_holdout(dataset: Any) -> str | None:
    """How many training images, and groups of them, chose what is reported; None if none did."""
    for part in getattr(dataset, "datasets", [dataset]):
        if getattr(part, "part", None) == "holdout" and hasattr(part, "holdout"):
            return f"{HELD_OUT}{part.holdout.in_words()}"
    return None


def code_of(run: TrainedRun) -> CodeInfo:
    """The commit that was trained at; changed if the tree was at training or is now."""
    _, dirty = provenance.code_state()
    return CodeInfo(run.facts.commit, run.facts.dirty or dirty)


def notes_of(run: TrainedRun, accepted: Sequence[str] = ()) -> list[str]:
    """What a record should say besides."""
    notes = ["encoder in bfloat16"] if run.facts.amp else []
    for where, faults in (("trained", run.facts.accepted), ("scored", accepted)):
        if faults:
            notes.append(f"accepted in the data that were {where}: {', '.join(faults)}")
    if run.facts.went_on_at:
        notes.append(f"training went on at commit {', '.join(run.facts.went_on_at)}")
    chosen = ((run.facts.recipe or {}).get("data") or {}).get(CHOSEN_WORDS)
    notes += [f"layers: {chosen}"] if chosen else []
    commit, _ = provenance.code_state()
    if commit != run.facts.commit:
        notes.append(f"evaluated at commit {commit}")
    if "own_annotations" in run.cfg.protocol:
        hashes = own_hashes(run.cfg, run.facts)
        plan = hashes.pop("plan", None)
        notes += [f"{split} annotations {sha256}" for split, sha256 in hashes.items()]
        notes += [] if plan is None else [f"plan: {plan}"]
    return notes


def save_with_evidence(
    record: Record,
    metrics: Sequence[Any],
    root: Path,
    supersede: bool,
    content: ScoredContent | None = None,
) -> list[Path]:
    """Complete a record with what the metrics kept, and write it; one for every seed of a run.

    Args:
        record: The record with the scores of the run.
        metrics: The metrics of the evaluation; the first that has evidence is asked.
        root: Root of the records.
        supersede: Replace existing records.
        content: Hashes of the scored files, which the evidence keeps.

    Returns:
        The files of the records.
    """
    metric = next((m for m in metrics if hasattr(m, "evidence")), None)
    if metric is None:
        path = save_record(record, root, supersede, None)
        print(f"record: {path}")
        return [path]
    several = metric.evidence_by_seed() if hasattr(metric, "evidence_by_seed") else None
    print("95 % intervals ...", flush=True)
    paths = []
    for seed, evidence in (several or {0: metric.evidence()}).items():
        scores = record.scores if several is None else finite_scores(evidence, record.scores)
        dataset = record.dataset
        if record.task != "tracking":  # items are objects there, and the data set holds videos
            dataset = dataclasses.replace(dataset, num_items=evidence.num_items)
        which = {} if several is None else {"seed": seed}  # else all would get those of the first
        of_seed = dataclasses.replace(
            record,
            scores=scores,
            by_layer=metric.by_layer(**which) if hasattr(metric, "by_layer") else record.by_layer,
            selection=metric.selection(**which) if hasattr(metric, "selection") else None,
            seed=record.seed + seed,
            dataset=dataset,
            ci95=confidence_intervals(evidence, scores),
        )
        paths.append(save_record(of_seed, root, supersede, evidence_bytes(evidence, content)))
        print(f"record: {paths[-1]}")
    return paths


def finite_scores(evidence: ItemEvidence, like: Mapping[str, float]) -> dict[str, float]:
    """Scores of the evidence that the run reports too, undefined ones left out."""
    found = evidence.metrics()
    return {name: float(found[name]) for name in like if np.isfinite(found.get(name, np.nan))}
