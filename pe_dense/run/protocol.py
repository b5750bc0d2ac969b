"""The protocol: which settings of a config count, their hash, and the hashes that were published.

Published protocols never change: benchmarks/protocols.json maps '<id>-v<version>' to the config
that defines it and the hash of its settings, the one that records hold. A config that changed
without a new version is an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.files import atomic_write_text, file_sha256
from pe_dense.results.metrics import check_direction
from pe_dense.results.provenance import repository_root
from pe_dense.results.record import ProtocolInfo, TrainingInfo
from pe_dense.run.batch_plan import batch_size_of
from pe_dense.run.checkpoint import RunFacts
from pe_dense.run.checkpoint_choice import labels_of
from pe_dense.run.config import load_template
from pe_dense.run.config_files import CONFIGS
from pe_dense.run.protocol_facts import FACTS, protocol_facts

STORED = Path("benchmarks/protocols.json")
ACCEPT = "python tools/protocols.py accept"

# Settings that name a machine, a run or the measured encoder; they are not part of a protocol.
NOT_PROTOCOL = {
    "encoder", "weights", "data_root", "work_dir", "load_from", "resume", "launcher", "env_cfg",
    "randomness", "log_level", "log_processor", "visualizer", "vis_backends", "default_hooks",
    "custom_imports", "data_check", "data_facts", "default_scope", "dist_backend",
    "protocol", "filename", "num_workers", "sharding", "processes",
    "journal_dir", "results_dir", "out_dir", "map_file", "checkpoint_interval", "log_interval",
    "half_length",
}  # fmt: skip
# The same at any depth. Heads of half the training learn beside the others and touch none of them.
ANYWHERE = {"num_workers", "half_length"}


# ---- settings that count, and their hash ---------------------------------------------------------


def protocol_settings(template: Config) -> dict[str, Any]:
    """The part of an unresolved config that defines the protocol, for hashing.

    Encoder, weights, paths, seeds and logging are left out, so that all encoders measured under
    one protocol share one hash; of images, what a process takes at a time where `total_batch` says
    how many make a step. So is what adds to a run without touching its scores, wherever it stands.
    """
    settings = {k: v for k, v in template.to_dict().items() if k not in NOT_PROTOCOL}
    hooks = [hook for hook in settings.pop("custom_hooks", []) if hook["type"] != "ExactResumeHook"]
    if hooks:
        settings["custom_hooks"] = hooks
    if "total_batch" in template:
        settings = _without_batch_size(settings)
    return _without_anywhere(settings)


def _without_anywhere(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_anywhere(v) for k, v in value.items() if k not in ANYWHERE}
    if isinstance(value, (list, tuple)):
        return [_without_anywhere(item) for item in value]
    return value


def protocol_sha256(
    template: Config,
    amp: bool = False,
    total_batch: int | None = None,
    start_sha256: str | None = None,
) -> str:
    """Hash of everything that was done, apart from encoder, weights, paths and seed.

    Images of a step count, not how many processes share them, or how. A bfloat16 encoder and a
    fine-tuning start enter the hash.

    Args:
        template: Config with references in place.
        amp: Whether the encoder ran in bfloat16.
        total_batch: Images of a step in training; None: those of the config.
        start_sha256: Hash of the checkpoint that was fine-tuned.
    """
    processes = template.get("processes", 1)
    settings = protocol_settings(template)
    own = batch_size_of(template)
    if "total_batch" in template:
        processes = 1
    elif own is not None and total_batch not in (None, own * processes):
        # As many as the recipe has; of totals that they cannot share, one has all.
        processes = processes if total_batch % processes == 0 else 1
        settings = _with_batch_size(settings, total_batch // processes)
    return _settings_sha256(settings, amp, processes, start_sha256)


def sha256_by_processes(
    template: Config, amp: bool, world_size: int, start_sha256: str | None
) -> str:
    """The hash that checkpoints have which do not know their total batch.

    They were written when batch_size and the number of processes both counted.
    """
    return _settings_sha256(protocol_settings(template), amp, world_size, start_sha256)


def _settings_sha256(
    settings: Mapping[str, Any], amp: bool, processes: int, start_sha256: str | None
) -> str:
    extra: dict[str, Any] = {}
    if amp:
        extra["amp"] = True
    if processes > 1:  # batch_size is that of one process
        extra["world_size"] = processes
    if start_sha256:
        extra["start_from"] = start_sha256
    return config_sha256({**settings, "run": extra} if extra else settings)


def _with_batch_size(settings: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Settings with another batch of a process, where they name it."""
    loader = settings["train_dataloader"]
    if isinstance(loader["batch_size"], str):  # '$batch_size'
        return {**settings, loader["batch_size"].removeprefix("$"): size}
    return {**settings, "train_dataloader": {**loader, "batch_size": size}}


def _without_batch_size(settings: Mapping[str, Any]) -> dict[str, Any]:
    loader = {k: v for k, v in settings["train_dataloader"].items() if k != "batch_size"}
    rest = {k: v for k, v in settings.items() if k != "batch_size"}
    return {**rest, "train_dataloader": loader}


def config_sha256(config: Mapping[str, Any]) -> str:
    """SHA-256 of a resolved config as 64 hex digits.

    The hash is over canonical JSON: key order does not matter and tuples equal lists; everything
    else counts (1 and 1.0 differ). Nothing is left out: remove what is not part of the protocol,
    such as the work folder, before.

    Args:
        config: Nested mappings with text keys, lists, tuples, texts, numbers, booleans and None.

    Raises:
        ValueError: If a key or value is of another type, or a number is not finite; it names the
            place as 'model.backbone.out_indices[2]'.

    Example:
        >>> config_sha256({"a": 1, "b": (2, 3)}) == config_sha256({"b": [2, 3], "a": 1})
        True
    """
    if not isinstance(config, Mapping):
        raise ValueError(
            f"config is a {type(config).__name__} but must be a mapping; pass cfg.to_dict()"
        )
    try:
        plain = _plain(config, "")
    except RecursionError:
        raise ValueError("config contains itself; remove the cycle before hashing") from None
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(
                    f"config has the key {key!r} at '{where or 'the top'}', which JSON cannot "
                    "hold; use a text key"
                )
        return {str(k): _plain(v, f"{where}.{k}" if where else k) for k, v in value.items()}
    raise ValueError(
        f"config value '{where}' is {repr(value)[:60]} ({type(value).__name__}), which JSON cannot "
        "hold; use text, finite numbers, booleans, lists or dicts"
    )


# ---- the protocol that a run followed ------------------------------------------------------------


def followed_protocol(
    config: str,
    template: Config,
    cfg: Config,
    facts: RunFacts,
    file: Path | None,
    training: TrainingInfo | None = None,
    own: str | None = None,
    may_differ: bool = False,
) -> ProtocolInfo:
    """The protocol of an evaluation: its settings, and on own data which annotations were used.

    A checkpoint that is not the end of a training is labelled in the id.

    Args:
        config: Config file.
        template: The config with references in place.
        cfg: The same, resolved.
        facts: What the checkpoint knows of its run.
        file: The checkpoint; None where nothing is trained.
        training: How the checkpoint came about.
        own: As of `protocol_info`.
        may_differ: As of `protocol_of`.

    Raises:
        ValueError: As `protocol_of`.
    """
    protocol = protocol_of(config, template, facts, file, own, may_differ)
    protocol = of_own_data(protocol, cfg, facts)
    return dataclasses.replace(protocol, id=".".join([protocol.id, *labels_of(training)]))


def protocol_of(
    config: str,
    template: Config,
    facts: RunFacts,
    file: Path | None,
    own: str | None = None,
    may_differ: bool = False,
) -> ProtocolInfo:
    """The protocol that was followed, in training and in this evaluation.

    Overrides that touch the protocol make it another one: its id then ends in '.mod-<hash>'. A
    config that only evaluates takes a checkpoint however it was trained; where it names a config in
    `trained_with` (beside its own file), other training gives such an id, too. So does an
    evaluation that differs from the training, with a hash over both: it is not the protocol of a
    run that was trained so, too.

    Args:
        config: Config file.
        template: The config with references in place.
        facts: What the checkpoint knows of its run.
        file: The checkpoint; None where nothing is trained.
        own: As of `protocol_info`.
        may_differ: Whether the config is known to train as the checkpoint was trained, so that
            only the evaluation can differ.

    Raises:
        ValueError: If training followed other settings than this evaluation.
    """
    if template.get("evaluation_only"):
        digest, trained = protocol_sha256(template, facts.amp), facts.protocol_sha256
        named = template.get("trained_with")
        if named and trained != protocol_sha256(load_template(Path(config).parent / named)):
            digest = hashlib.sha256(f"{digest} {trained}".encode()).hexdigest()
        return protocol_info(template, config, digest, own)
    digest = followed_sha256(template, facts)
    if digest != facts.protocol_sha256:
        require_known_training(facts, file, may_differ)
        digest = hashlib.sha256(f"{digest} {facts.protocol_sha256}".encode()).hexdigest()
    return protocol_info(template, config, digest, own)


def followed_sha256(template: Config, facts: RunFacts) -> str:
    """Hash of the protocol that a run with these facts follows, were it trained with a config."""
    start = None if facts.start_from is None else facts.start_from.sha256
    if facts.total_batch is None:
        return sha256_by_processes(template, facts.amp, facts.world_size, start)
    return protocol_sha256(template, facts.amp, facts.total_batch, start)


def require_known_training(facts: RunFacts, file: Path | None, is_known: bool) -> None:
    """Refuse other settings than a checkpoint's where it does not tell in what they differ.

    Raises:
        ValueError: With the command of the training.
    """
    if not is_known:
        raise ValueError(
            f"checkpoint {file} was trained under other settings than these; give the same "
            f"config and --cfg-options as in: {facts.train_command}"
        )


def protocol_info(
    template: Config, config: str, digest: str, own: str | None = None
) -> ProtocolInfo:
    """The protocol of a config; its id ends in '.mod-<hash>' where `digest` is not its own.

    Args:
        template: The config with references in place.
        config: Its file.
        digest: Hash of what was done.
        own: Hash of the config without options; None: of its file. A config that did not come from
            its file is not believed to be what is published under its id.
    """
    changed = has_other_data(template)
    if own is None:
        changed |= digest != protocol_sha256(load_template(config))
    else:
        published = stored_protocols().get(f"{template.protocol.id}-v{template.protocol.version}")
        changed |= digest != (own if published is None else published["sha256"])
    name = f"{template.protocol.id}.mod-{digest[:8]}" if changed else template.protocol.id
    metric, higher_is_better = template.protocol.metric, template.protocol.higher_is_better
    check_direction(metric, higher_is_better, f"{config}: ")
    return ProtocolInfo(
        name,
        template.protocol.version,
        metric,
        higher_is_better,
        digest,
    )


def has_other_data(template: Config) -> bool:
    """Whether the evaluated annotations differ from those that the protocol names, if it does."""
    expected = template.protocol.get("annotations_sha256")
    if expected is None:
        return False
    file = Path(template.data_root) / template.val_dataloader.dataset.ann_file
    return file.is_file() and file_sha256(file) != expected


def of_own_data(protocol: ProtocolInfo, cfg: Config, facts: RunFacts) -> ProtocolInfo:
    """The protocol on a user's own data: the id says which annotations were used.

    Results on other annotations cannot be compared, so they get another id. The rest of a
    published protocol is as it is.
    """
    if "own_annotations" not in cfg.protocol:
        return protocol
    hashes = own_hashes(cfg, facts)
    digest = hashlib.sha256(" ".join(map(str, hashes.values())).encode()).hexdigest()
    return dataclasses.replace(protocol, id=f"{protocol.id}.data-{digest[:8]}")


def own_hashes(cfg: Config, facts: RunFacts) -> dict[str, str | None]:
    """sha256 of the annotations that a run was trained on, and of those that are scored.

    Where the protocol names a 'plan', what follows from the data and the machine (image side,
    steps), it is there as well.

    Raises:
        ValueError: If the run was trained by another plan than it is scored by.
    """
    trained, own = facts.own_annotations or {}, cfg.protocol.own_annotations
    found = {"train": trained.get("train"), "val": own["val"]}
    if "plan" not in own:
        return found
    if trained.get("plan") != own["plan"]:
        raise ValueError(
            f"the checkpoint was trained by the plan {trained.get('plan')!r}, but here it is "
            f"{own['plan']!r}; give the values of the former with --cfg-options, such as "
            "planned_for=gpu"
        )
    return {**found, "plan": own["plan"]}


def found_in_data(cfg: Config) -> dict[str, Any]:
    """What a config does not say itself but found in the data: classes, and hashes of own files."""
    own = (cfg.get("protocol") or {}).get("own_annotations")
    return {
        "classes": list(cfg.classes) if "data_facts" in cfg and "classes" in cfg else None,
        "own_annotations": None if own is None else dict(own),
    }


# ---- published protocols -------------------------------------------------------------------------


def current_protocols(configs: Path = CONFIGS) -> dict[str, dict[str, str]]:
    """'<id>-v<version>' -> config, hash and facts of all configs with a protocol.

    Files in folders that start with '_' are parts of configs, those in 'suites' are no configs.

    Raises:
        ValueError: If two configs define the same protocol version, or one cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    configs = _home(configs) / configs
    for path in sorted(configs.rglob("*.py")):
        inner = path.relative_to(configs).parts
        if inner[0] == "suites" or any(part.startswith("_") for part in inner):
            continue
        template = load_template(path)
        if "protocol" not in template:
            continue
        key = f"{template.protocol.id}-v{template.protocol.version}"
        name = Path(configs.name, *inner).as_posix()
        if key in found:
            raise ValueError(
                f"{found[key]['config']} and {name} both define {key}; give one of them another "
                "id or version"
            )
        digest = protocol_sha256(template)
        found[key] = {"config": name, "sha256": digest, **protocol_facts(template)}
    return found


def stored_protocols(path: Path = STORED) -> dict[str, dict[str, str]]:
    """What was accepted before; empty if the file does not exist.

    Raises:
        ValueError: If the file is not as `accept` writes it.
    """
    path = _home(CONFIGS) / path
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        return {
            key: {
                "config": row["config"], "sha256": row["sha256"],
                **{fact: row[fact] for fact in FACTS if fact in row},
            }
            for key, row in content.items()
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not a list of protocols; restore it") from None


def _home(configs: Path) -> Path:
    """The current folder where it has the configs, else what the package has of the repository."""
    return Path() if configs.is_dir() else repository_root()


def find_changes(
    current: Mapping[str, Mapping[str, str]], stored: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """One sentence for each protocol that is not as it was stored; they say what to do."""
    problems = []
    for key, row in sorted(current.items()):
        if key not in stored:
            problems.append(f"{row['config']}: {key} is new; publish it with: {ACCEPT}")
        elif stored[key]["sha256"] != row["sha256"]:
            problems.append(
                f"{row['config']}: the settings of {key} changed; raise protocol.version there and "
                f"run: {ACCEPT}, or restore the config"
            )
        elif other := _other_fact(row, stored[key]):
            problems.append(
                f"{row['config']}: {key} has another {other} than it had; raise protocol.version "
                f"there and run: {ACCEPT}, or restore the config"
            )
        elif stored[key]["config"] != row["config"]:
            problems.append(f"{key} moved to {row['config']}; say so with: {ACCEPT}")
        elif stored[key].keys() != row.keys():
            problems.append(f"{key} does not say all of what it measures; say so with: {ACCEPT}")
    return problems


def _other_fact(row: Mapping[str, str], stored: Mapping[str, str]) -> str | None:
    """The first of `FACTS` that a protocol has otherwise than it was stored."""
    return next((f for f in FACTS if f in stored and stored[f] != row.get(f)), None)


def retired(
    current: Mapping[str, Mapping[str, str]], stored: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Protocol versions whose config is now another version, or gone; records of them stay."""
    return sorted(stored.keys() - current.keys())


def accept(path: Path = STORED, configs: Path = CONFIGS) -> list[str]:
    """Store new protocols, and new places of old ones; returns the keys that were written.

    Old versions stay in the file, so that a version number is never used again for other
    settings.

    Raises:
        ValueError: If the settings of a stored protocol changed: that is never accepted.
    """
    current, stored = current_protocols(configs), stored_protocols(path)
    for key, row in current.items():
        known = stored.get(key, row)
        if known["sha256"] != row["sha256"] or _other_fact(row, known):
            raise ValueError(find_changes({key: row}, stored)[0])
    written = sorted(key for key, row in current.items() if stored.get(key) != row)
    content = dict(sorted({**stored, **current}.items()))
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")
    return written
