"""One evaluation: a checkpoint through MMEngine's test loop, and its record."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from pe_dense.encoders.fingerprint import feature_fingerprint
from pe_dense.files import file_sha256
from pe_dense.results import provenance
from pe_dense.results.provenance import repository_root
from pe_dense.results.record import CodeInfo, Cost, DatasetInfo, EncoderInfo, Record
from pe_dense.results.store import measured_path
from pe_dense.run.checkpoint import (
    TrainedRun,
    install,
    load_strictly,
    open_run,
    open_untrained,
)
from pe_dense.run.config import check_data, encoder_facts
from pe_dense.run.launch import (
    command_with_launcher,
    processes,
    use_device,
)
from pe_dense.run.protocol import (
    of_own_data,
    own_hashes,
    protocol_of,
)
from pe_dense.run.recording import save_with_evidence
from pe_dense.run.training import default_work_dir


def evaluate(
    config: str,
    checkpoint: Path | None,
    encoder: str | None = None,
    options: Mapping[str, Any] | None = None,
    work_dir: Path | None = None,
    launcher: str = "none",
    records: Path | None = None,
    supersede: bool = False,
    argv: Sequence[str] = ("tools/test.py",),
    weights: str | None = None,
    seed: int | None = None,
    amp: bool = False,
) -> dict[str, float]:
    """Score a checkpoint, or an encoder under a protocol without training, as `tools/test.py` does.

    Args:
        config: Config file of the run.
        checkpoint: A checkpoint file, or a work dir whose newest one is meant. None for a config
            that trains nothing (`training_free = True`).
        encoder: Encoder of the run; by default the one that the checkpoint names.
        options: The overrides that the run was trained with.
        work_dir: Where logs go; by default the checkpoint's folder.
        launcher: 'none', 'pytorch' or 'slurm'.
        records: Root of the records; None writes none.
        supersede: Replace an existing record.
        argv: Command line, for the record.
        weights: Without a checkpoint: replaces the config's encoder weights.
        seed: Without a checkpoint: replaces the config's seed.
        amp: Without a checkpoint: run the encoder in bfloat16.

    Returns:
        Scores by name, fractions where the metric is one.

    Raises:
        ValueError: If the checkpoint does not fit, or a record exists already.
    """
    install()
    if checkpoint is None:
        run = open_untrained(config, encoder, weights, options, seed, amp)
    elif weights is not None or seed is not None or amp:
        raise ValueError(
            "--weights, --seed and --amp are for configs that train nothing; a checkpoint has its "
            "own"
        )
    else:
        run = open_run(config, checkpoint, encoder, options)
    file, content, facts, cfg, template = run
    protocol = of_own_data(protocol_of(config, template, facts, file), cfg, facts)
    launch = processes(launcher)

    def refuse_existing(weights: Mapping[str, Any]) -> None:
        if records is None or supersede:
            return
        target = records / measured_path(
            cfg.encoder, weights["sha256"], protocol.id, protocol.version, facts["seed"]
        )
        if target.exists():
            raise ValueError(
                f"{target} already holds this result; pass --supersede to replace it, or "
                "--no-record to leave it"
            )

    if content is not None:  # before anything is built
        refuse_existing(facts["start_from"] or facts["weights"])
    check_data(cfg, ("test",))
    if facts["amp"]:  # scored in the precision that it was trained in
        encoder_settings(cfg).amp_dtype = "bfloat16"
    untrained_dir = default_work_dir(config, encoder, weights, seed)
    cfg.work_dir = str(work_dir or (untrained_dir if file is None else file.parent / "test"))
    cfg.launcher, cfg.load_from, cfg.resume = launcher, None, False
    if "journal_dir" in cfg:  # what lets a killed evaluation go on
        cfg.model.journal_dir = str(Path(cfg.work_dir) / cfg.journal_dir)
        cfg.model.results_dir = cfg.results_dir
    for name in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[name] = None  # not needed, and not built
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.custom_hooks = []
    use_device(cfg)
    if "tta_model" in cfg:
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    runner = Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model = model.module if isinstance(model, BaseTTAModel) else model
    if content is None:
        facts["weights"] = dataclasses.asdict(model.backbone.weights_info)
        refuse_existing(facts["weights"])
    else:
        load_strictly(model, content, str(file))
    # Where everything came from a checkpoint, the encoder did too.
    source = facts["start_from"] or facts["weights"]
    started = time.monotonic()
    scores = plain_scores(runner.test())
    eval_s = time.monotonic() - started
    if not is_main_process():
        return scores
    for name, value in scores.items():
        print(f"{name:>16} {value:.4f}")
    if records is not None:
        cost = Cost(facts["train_seconds"], eval_s, provenance.peak_memory_gib())
        if torch.cuda.is_available():
            cost = dataclasses.replace(
                cost, peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30
            )
        commands = [facts["train_command"], command_with_launcher(argv, launcher, launch)]
        record = Record(
            origin="measured",
            task=cfg.protocol.task,
            protocol=protocol,
            dataset=DatasetInfo(cfg.protocol.dataset, cfg.protocol.split, num_scored(runner)),
            encoder=EncoderInfo(
                cfg.encoder,
                source["source"],
                source["sha256"],
                feature_fingerprint(model.backbone.encoder),
                sum(p.numel() for p in model.backbone.encoder.parameters()),
            ),
            scores=scores,
            created=provenance.utc_now(),
            command=" && ".join(filter(None, commands)),
            checkpoint_sha256=None if file is None else file_sha256(file),
            seed=facts["seed"],
            code=code_of(facts),
            versions=provenance.library_versions(),
            hardware=provenance.hardware(
                gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None
            ),
            cost=cost,
            notes="; ".join(notes_of(cfg, facts)),
        )
        if isinstance(cfg.get("layer"), int):  # one point of a curve over layers
            depth = encoder_facts(cfg.encoder)["depth"]
            metric, layer = protocol.metric, str(cfg.layer % depth)
            record = dataclasses.replace(record, by_layer={metric: {layer: scores[metric]}})
        save_with_evidence(record, runner.test_evaluator.metrics, records, supersede)
    return scores


def num_scored(runner: Runner) -> int:
    """Items of the test data that are reported; others may be there to choose settings."""
    dataset = runner.test_dataloader.dataset
    return getattr(dataset, "num_reported", None) or len(dataset)


def code_of(facts: Mapping[str, Any]) -> CodeInfo:
    """The commit that was trained at; changed if the tree was at training or is now."""
    _, dirty = provenance.git_state(repository_root())
    return CodeInfo(facts["commit"], facts["dirty"] or dirty)


def notes_of(cfg: Config, facts: Mapping[str, Any]) -> list[str]:
    """What a record should say besides."""
    notes = ["encoder in bfloat16"] if facts["amp"] else []
    commit, _ = provenance.git_state(repository_root())
    if commit != facts["commit"]:
        notes.append(f"evaluated at commit {commit}")
    if "own_annotations" in cfg.protocol:
        notes += [f"{split} annotations {sha}" for split, sha in own_hashes(cfg, facts).items()]
    return notes


def trained_model(run: TrainedRun) -> torch.nn.Module:
    """The model of a run with its weights, ready to predict, on the GPU if there is one.

    Raises:
        ValueError: If the checkpoint does not fit the model.
    """
    init_default_scope(run.cfg.get("default_scope", "mmengine"))
    if run.facts["amp"]:
        encoder_settings(run.cfg).amp_dtype = "bfloat16"
    model = MODELS.build(copy.deepcopy(run.cfg.model))
    load_strictly(model, run.content, str(run.file))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def encoder_settings(cfg: Config) -> Any:
    """Settings of the backbone; that of a tracker belongs to its detector."""
    return (cfg.model if "backbone" in cfg.model else cfg.model.detector).backbone


def plain_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """Scores without the prefix of the metric class: 'coco/AP50' -> 'AP50'.

    Example:
        >>> plain_scores({"coco/AP": 0.5, "coco/AP/RBC": 0.6})
        {'AP': 0.5, 'AP/RBC': 0.6}
    """
    return {name.partition("/")[2] or name: float(value) for name, value in metrics.items()}
