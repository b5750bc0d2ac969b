"""One evaluation: a checkpoint through MMEngine's test loop, and its record."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from pe_dense.encoders.conversion import trained_canvas
from pe_dense.encoders.fingerprint import feature_fingerprint
from pe_dense.experiment import encoder_facts, load_config, load_template
from pe_dense.recording import save_with_evidence
from pe_dense.results import provenance
from pe_dense.results.record import (
    CodeInfo,
    Cost,
    DatasetInfo,
    EncoderInfo,
    ProtocolInfo,
    Record,
)
from pe_dense.results.store import measured_path
from pe_dense.runtime import load_checkpoint_safely, load_strictly, newest_checkpoint
from pe_dense.training import (
    check_data,
    command_with_launcher,
    default_work_dir,
    processes,
    protocol_sha256,
    repository_root,
    use_device,
)

# What tools/train.py leaves in the meta of every checkpoint.
NEEDED_FACTS = {
    "encoder", "weights", "protocol_sha256", "seed", "amp", "world_size", "start_from",
    "train_command", "train_seconds", "commit", "dirty",
}  # fmt: skip


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
            checkpoint_sha256=None if file is None else provenance.file_sha256(file),
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


class TrainedRun(NamedTuple):
    """A checkpoint with the config that fits it.

    Attributes:
        file: The checkpoint; None where nothing was trained.
        content: What it holds, or None.
        facts: What training, or the publisher's file, says of it.
        cfg: Resolved config.
        template: The same with references in place.
    """

    file: Path | None
    content: dict[str, Any] | None
    facts: dict[str, Any]
    cfg: Config
    template: Config


def open_run(
    config: str,
    checkpoint: Path,
    encoder: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """Read a checkpoint and the config that it is to be used with; arguments as in `evaluate`.

    Raises:
        ValueError: If the two do not fit.
    """
    file = checkpoint_file(checkpoint)
    content = load_checkpoint_safely(str(file), map_location="cpu")
    facts = content.get("meta", {}).get("pe_dense")
    if facts is None:
        facts = published_facts(config, encoder, file, content["state_dict"])
    if not facts.keys() >= NEEDED_FACTS:
        raise ValueError(
            f"checkpoint {file} was not written by tools/train.py, or by another version of it; "
            "train it there"
        )
    cfg, template = load_config(config, encoder or facts["encoder"], "random", options)
    if cfg.get("training_free"):
        raise ValueError(
            f"config {config} trains nothing and takes no checkpoint; leave {checkpoint} out"
        )
    if cfg.encoder != facts["encoder"]:
        raise ValueError(
            f"checkpoint {file} holds {facts['encoder']}, not {cfg.encoder}; leave --encoder out"
        )
    trained_canvas = facts.get("canvas")
    if trained_canvas is not None and cfg.get("canvas") != trained_canvas:
        raise ValueError(
            f"checkpoint {file} was trained on a canvas of {trained_canvas} px, and the config has "
            f"{cfg.get('canvas')}; positions would not fit: set --cfg-options "
            f"canvas={trained_canvas}, or use a config of that canvas"
        )
    trained = facts.get("classes")
    if trained is not None and list(cfg.classes) != trained:
        raise ValueError(
            f"checkpoint {file} was trained on {class_words(trained)}, but the data have "
            f"{class_words(cfg.classes)}; score it on data with the same classes in the same order"
        )
    return TrainedRun(file, content, facts, cfg, template)


def open_untrained(
    config: str,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    amp: bool = False,
) -> TrainedRun:
    """What stands in for a checkpoint under a protocol that trains nothing; see `evaluate`.

    Raises:
        ValueError: If the config does train.
    """
    cfg, template = load_config(config, encoder, weights, options)
    if not cfg.get("training_free"):
        raise ValueError(
            f"config {config} trains a model; name its checkpoint, which tools/train.py makes"
        )
    if seed is not None:
        cfg.randomness.seed = seed
    commit, dirty = provenance.git_state(repository_root())
    facts = {
        "encoder": cfg.encoder,
        "weights": None,  # known once the encoder is built
        "protocol_sha256": protocol_sha256(template, amp),
        "seed": cfg.randomness.seed,
        "amp": amp,
        "world_size": 1,
        "start_from": None,
        "train_command": "",
        "train_seconds": None,
        "commit": commit,
        "dirty": dirty,
    }
    return TrainedRun(None, None, facts, cfg, template)


def class_words(classes: Sequence[str], limit: int = 8) -> str:
    """How errors name a list of classes.

    Example:
        >>> class_words(["cat", "dog"])
        '2 classes (cat, dog)'
    """
    tail = ", ..." if len(classes) > limit else ""
    return f"{len(classes)} classes ({', '.join(classes[:limit])}{tail})"


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


def published_facts(
    config: str, encoder: str | None, file: Path, state: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands in for the facts of training where a detector was trained elsewhere.

    Raises:
        ValueError: If the config does not only evaluate.
    """
    cfg = load_template(config)
    if not cfg.get("evaluation_only"):
        raise ValueError(
            f"checkpoint {file} was not written by tools/train.py; published detectors are scored "
            "with a config that only evaluates (its name ends in _eval or _tta)"
        )
    commit, dirty = provenance.git_state(repository_root())
    return {
        "encoder": encoder or cfg.encoder,
        "weights": {"source": file.name, "sha256": provenance.file_sha256(file), "notes": ()},
        "protocol_sha256": None,
        "seed": cfg.randomness.seed,
        "amp": False,
        "world_size": 1,
        "start_from": None,
        "train_command": "",
        "train_seconds": None,
        "commit": commit,
        "dirty": dirty,
        "canvas": trained_canvas(state),
    }


def checkpoint_file(checkpoint: Path) -> Path:
    """The file itself, or the newest checkpoint of a work dir."""
    if not checkpoint.is_dir():
        return checkpoint
    newest = newest_checkpoint(checkpoint)
    if newest is None:
        raise ValueError(f"{checkpoint} holds no finished checkpoint; train there first")
    return newest


def protocol_of(
    config: str, template: Config, facts: Mapping[str, Any], file: Path | None
) -> ProtocolInfo:
    """The protocol that was followed, in training and in this evaluation.

    Overrides that touch the protocol make it another one: its id then ends in '.mod-<hash>'. A
    config that only evaluates takes a checkpoint however it was trained; where it names a config in
    `trained_with` (beside its own file), other training gives such an id, too.

    Raises:
        ValueError: If training followed other settings than this evaluation.
    """
    digest = protocol_sha256(template, facts["amp"], facts["world_size"])
    if template.get("evaluation_only"):
        own, trained = protocol_sha256(template, facts["amp"]), facts["protocol_sha256"]
        named = template.get("trained_with")
        if named and trained != protocol_sha256(load_template(Path(config).parent / named)):
            own = hashlib.sha256(f"{own} {trained}".encode()).hexdigest()
        return protocol_info(template, config, own)
    if facts["start_from"] is None and digest != facts["protocol_sha256"]:
        raise ValueError(
            f"checkpoint {file} was trained under other settings than these; give the same "
            f"config and --cfg-options as in: {facts['train_command']}"
        )
    return protocol_info(template, config, facts["protocol_sha256"])


def protocol_info(template: Config, config: str, digest: str) -> ProtocolInfo:
    """The protocol of a config; its id ends in '.mod-<hash>' where `digest` is not its own."""
    changed = digest != protocol_sha256(load_template(config)) or has_other_data(template)
    name = f"{template.protocol.id}.mod-{digest[:8]}" if changed else template.protocol.id
    return ProtocolInfo(
        name,
        template.protocol.version,
        template.protocol.metric,
        template.protocol.higher_is_better,
        digest,
    )


def of_own_data(protocol: ProtocolInfo, cfg: Config, facts: Mapping[str, Any]) -> ProtocolInfo:
    """The protocol on a user's own data: the id says which annotations were used.

    Results on other annotations cannot be compared, so they get another id. The rest of a
    published protocol is as it is.
    """
    if "own_annotations" not in cfg.protocol:
        return protocol
    hashes = own_hashes(cfg, facts)
    digest = hashlib.sha256(" ".join(map(str, hashes.values())).encode()).hexdigest()
    return dataclasses.replace(protocol, id=f"{protocol.id}.data-{digest[:8]}")


def own_hashes(cfg: Config, facts: Mapping[str, Any]) -> dict[str, str | None]:
    """sha256 of the annotations that a run was trained on, and of those that are scored."""
    trained = facts.get("own_annotations") or {}
    return {"train": trained.get("train"), "val": cfg.protocol.own_annotations["val"]}


def has_other_data(template: Config) -> bool:
    """Whether the evaluated annotations differ from those that the protocol names, if it does."""
    expected = template.protocol.get("annotations_sha256")
    if expected is None:
        return False
    file = Path(template.data_root) / template.val_dataloader.dataset.ann_file
    return file.is_file() and provenance.file_sha256(file) != expected


def plain_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """Scores without the prefix of the metric class: 'coco/AP50' -> 'AP50'.

    Example:
        >>> plain_scores({"coco/AP": 0.5, "coco/AP/RBC": 0.6})
        {'AP': 0.5, 'AP/RBC': 0.6}
    """
    return {name.partition("/")[2] or name: float(value) for name, value in metrics.items()}
