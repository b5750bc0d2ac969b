"""One evaluation: a checkpoint is opened, its model built, scored by MMEngine, recorded."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import nn

from pe_dense.openmmlab.finite_outputs import RequireFiniteOutputs
from pe_dense.results.blind import best_blind
from pe_dense.results.record import ProtocolInfo
from pe_dense.results.store import encoder_folder, measured_path, require_writable
from pe_dense.run.blind import blind_scores
from pe_dense.run.checkpoint import RunFacts, install, load_strictly
from pe_dense.run.checkpoint_choice import training_info
from pe_dense.run.config import check_data
from pe_dense.run.launch import is_first_process, processes, use_device
from pe_dense.run.opened_run import open_run
from pe_dense.run.protocol import followed_protocol
from pe_dense.run.recording import record_of, save_with_evidence
from pe_dense.run.request import RunRequest
from pe_dense.run.runner import NamingRunner
from pe_dense.run.scored_data import content_of
from pe_dense.run.speed import use_speed_options
from pe_dense.run.start_table import beside_score, encoder_learns, tell_weights
from pe_dense.run.task import tell_without_protocol
from pe_dense.run.trained_run import TrainedRun, bare_model, encoder_settings
from pe_dense.run.vis_backends import use_vis_backends


class Evaluated(NamedTuple):
    """A finished evaluation.

    Attributes:
        run: What was scored.
        cfg: Its resolved config, with the training.
        model: With the weights that were scored.
        scores: By name.
        protocol: That was followed; None where the config has none.
        work_dir: Where the evaluation wrote.
        blind: What predictors without the picture score, by name, or None.
    """

    run: TrainedRun
    cfg: Config
    model: nn.Module
    scores: dict[str, float]
    protocol: ProtocolInfo | None
    work_dir: Path
    blind: dict[str, float] | None


def evaluate(
    request: RunRequest,
    checkpoint: Path | None = None,
    records: Path | None = None,
    supersede: bool = False,
    afterwards: Callable[[Evaluated], object] | None = None,
) -> dict[str, float]:
    """Score a checkpoint, or an encoder under a protocol without training, as `tools/test.py` does.

    Args:
        request: Config, and the overrides that the run was trained with.
        checkpoint: A checkpoint file, or a work dir whose newest one is meant. None for a config
            that trains nothing (`training_free = True`).
        records: Root of the records; None writes none.
        supersede: Replace an existing record.
        afterwards: Called by the first process when all is written.

    Returns:
        Scores by name, fractions where the metric is one.

    Raises:
        ValueError: If the checkpoint does not fit, or a record exists already.
    """
    install()
    run = open_run(request, checkpoint)
    meta = (run.content or {}).get("meta", {})
    training = training_info(run.cfg, run.facts, run.file, meta)
    tell_without_protocol(run.cfg, run.config)
    if run.cfg.get("protocol"):
        protocol = followed_protocol(
            run.config, run.template, run.cfg, run.facts, run.file, training, run.own_sha256,
            run.trained is not None,
        )  # fmt: skip
    else:
        protocol, records = None, None
    processes(request.launcher)  # a launcher without its environment is refused here
    if protocol is not None and run.content is not None:  # before anything is built
        try_place(records, run.facts, protocol, supersede)
    elif records is not None and is_first_process():  # in which folder, the weights will tell
        require_writable(records / encoder_folder(run.cfg.encoder) / "weights" / "record.json")
    accepted = check_data(run.cfg, ("test",))
    whole = copy.deepcopy(run.cfg)  # with the training data, from whose labels blind lines are made
    runner = build_runner(run, request)
    weights = f"encoder {run.cfg.encoder}" if run.file is None else f"checkpoint {run.file}"
    runner.register_hook(RequireFiniteOutputs(weights))
    model = bare_model(runner)
    use_speed_options(request.speed, model)
    if run.content is None:
        run = run.with_weights(model.backbone.weights_info)
        tell_weights(run.cfg.encoder, run.facts.scored_weights)
        if protocol is not None:
            try_place(records, run.facts, protocol, supersede)
    else:
        load_strictly(model, run.content, str(run.file))
    content = None
    if records is not None and is_main_process():
        content = content_of(runner.test_dataloader.dataset)
    started = time.monotonic()
    scores = plain_scores(runner.test())
    seconds = time.monotonic() - started
    if not is_main_process():
        return scores
    for name, value in scores.items():
        print(f"{name:>16} {value:.4f}")
    for part in (model, *runner.test_evaluator.metrics):
        if (written := getattr(part, "written_to", None)) is not None:
            note = (
                ""
                if scores
                else "; there is nothing to score: no video has annotated frames for it"
            )
            print(f"results: {written}{note}")
    blind = None
    if protocol is None:
        print(f"protocol: none, so that no record is written\nencoder: {run.cfg.encoder}")
    else:
        blind = blind_line(whole, scores) if scores else None
        used = run.facts.scored_weights
        learned = run.file is not None and encoder_learns(model)
        print(beside_score(protocol, run.cfg.encoder, used, learned))
    if protocol is not None and records is not None and scores:
        record = record_of(
            run, request, protocol, scores, runner, seconds, accepted, content, training, blind
        )
        save_with_evidence(record, runner.test_evaluator.metrics, records, supersede, content)
    if "journal_dir" in run.cfg:  # it was for a killed run; a finished one begins anew next time
        shutil.rmtree(run.cfg.model.journal_dir, ignore_errors=True)
    if afterwards is not None:
        afterwards(Evaluated(run, whole, model, scores, protocol, Path(run.cfg.work_dir), blind))
    return scores


def blind_line(cfg: Config, scores: Mapping[str, float]) -> dict[str, float] | None:
    """What predictors without the picture score, said beside the score; None where none is known.

    A model that was scored is not lost because they cannot be made: the reason is said instead.
    """
    try:
        blind = blind_scores(cfg)
    except Exception as error:  # whatever it is: hours of scoring come before it
        print(f"no blind baseline: {str(error) or type(error).__name__}")
        return None
    best = best_blind(blind, cfg.protocol.higher_is_better)
    if best is None:
        return None
    sign = 1 if cfg.protocol.higher_is_better else -1
    lead = sign * (best.score - scores[cfg.protocol.metric])
    told = ", which is better" if lead > 0 else ", which is as good" if lead == 0 else ""
    print(f"without the picture: {best.name} {best.score:.4f}{told}")
    return blind


def try_place(
    records: Path | None, facts: RunFacts, protocol: ProtocolInfo, supersede: bool
) -> None:
    """Refuse to score what has a record already, or whose record could not be written.

    Args:
        records: Root of the records; None where none is written.
        facts: Of the run, with the weights that are scored.
        protocol: The protocol of the record.
        supersede: Whether a record that is there is replaced.

    Raises:
        ValueError: If there is one, or its folder cannot be written.
    """
    if records is None:
        return
    target = records / measured_path(
        facts.encoder, facts.scored_weights.sha256, protocol.id, protocol.version, facts.seed
    )
    if target.exists() and not supersede:
        raise ValueError(
            f"{target} already holds this result; pass --supersede to replace it, or "
            "--no-record to leave it"
        )
    if is_first_process():
        require_writable(target)


def build_runner(run: TrainedRun, request: RunRequest) -> Runner:
    """A Runner that can only test, with the model as it was trained but without its weights."""
    cfg = run.cfg
    if run.facts.amp:  # scored in the precision that it was trained in
        encoder_settings(cfg).amp_dtype = "bfloat16"
    own_dir = request.default_work_dir() if run.file is None else run.file.parent / "test"
    cfg.work_dir = str(request.work_dir or own_dir)
    cfg.launcher, cfg.load_from, cfg.resume = request.launcher, None, False
    if "journal_dir" in cfg:  # what lets a killed evaluation go on
        cfg.model.journal_dir = str(Path(cfg.work_dir) / cfg.journal_dir)
        cfg.model.results_dir = cfg.results_dir
    remove_training(cfg)
    use_vis_backends(cfg)
    use_device(cfg)
    if "tta_model" in cfg:
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    with run.building():
        return NamingRunner.from_cfg(cfg)


def remove_training(cfg: Config) -> None:
    """Take out what only training needs, so that it is not built."""
    for name in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[name] = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.custom_hooks = []


def plain_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """Scores without the prefix of the metric class: 'coco/AP50' -> 'AP50'.

    Example:
        >>> plain_scores({"coco/AP": 0.5, "coco/AP/RBC": 0.6})
        {'AP': 0.5, 'AP/RBC': 0.6}
    """
    return {name.partition("/")[2] or name: float(value) for name, value in metrics.items()}
