"""The record: one score of one encoder under one protocol, with everything needed to trust it.

A `Record` cannot exist in an invalid state: building one checks every field, so the code that
reads records (store, leaderboard, statistics) checks nothing again. Scores are fractions
(AP 0.451, not 45.1); errors and counts keep the unit that `metrics.TABLE` gives them.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pe_dense.results.metrics import metric_of
from pe_dense.results.record_history import SCHEMA_VERSION, check_checksum, content_sha256, upgrade
from pe_dense.results.typed_json import check_keys, parse, shown, unique_keys

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")
_COMMIT = re.compile(r"(files-)?[0-9a-f]{40}|unknown")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_PROTOCOL_ID = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_TASK = re.compile(r"[a-z][a-z0-9_]*")
_ENCODER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}")
_LAYER = re.compile(r"(0|[1-9][0-9]{0,2})(\+(0|[1-9][0-9]{0,2}))*")
_LOOP_UNIT = re.compile(r"epoch|iter")
_METRIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@&/ -]{0,63}")
_CREATED_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class ProtocolInfo:
    """Which protocol made the score.

    Attributes:
        id: Protocol id, for example 'bccd-detection-scratch'.
        version: 1 or more; a fixed protocol is a new version.
        metric: Name of the main metric, a key of `Record.scores`.
        higher_is_better: Direction of the main metric.
        config_sha256: Hash of the resolved config; None for reported rows.
    """

    id: str
    version: int
    metric: str
    higher_is_better: bool
    config_sha256: str | None


@dataclass(frozen=True)
class DatasetInfo:
    """What was scored.

    Attributes:
        name: Name of the data set.
        split: Its split.
        num_items: Number of items; None only for reported rows.
        sha256: Hash over the labels and the picture files of the scored split, that of
            `scored_content.ScoredContent`; None for reported rows, for records older than schema
            4, and where a data set does not tell its files.
    """

    name: str
    split: str
    num_items: int | None
    sha256: str | None = None


@dataclass(frozen=True)
class EncoderInfo:
    """Which encoder, with which weights.

    Attributes:
        name: Name in the zoo, or 'timm:<model>'.
        weights: 'random', the bare name of a weight file, or 'hf://repo[:file]'.
        weights_sha256: Hash of the weight file, or 'random'; None only for reported rows.
        feature_fingerprint: 8 to 64 hex digits, features of a fixed image; None if reported.
        num_params: Parameters of the encoder as it ran, without the blocks after the last one that
            was read; None only for reported rows.
        published: How the weights stand to the released ones of this encoder, one of `PUBLISHED`;
            None for random weights, reported rows and records older than schema 4.
        revision: Commit of the hub's repository that the file was fetched at, 40 hex digits; None
            for other files.
        whole_params: Parameters of the encoder with all of its blocks; None for reported rows,
            and in records older than schema 6.
    """

    name: str
    weights: str
    weights_sha256: str | None
    feature_fingerprint: str | None
    num_params: int | None
    published: str | None = None
    revision: str | None = None
    whole_params: int | None = None


PUBLISHED = ("the released file", "another file", "no published hash")


@dataclass(frozen=True)
class TrainingInfo:
    """How the scored checkpoint came about.

    Attributes:
        chosen: Which of a training's checkpoints it is, one of `CHOSEN`.
        unit: What `done` and `planned` count: 'epoch' or 'iter'; None where nothing was counted.
        done: How far the training had come.
        planned: How far the config trains.
        rule: How the protocol says to choose, in its words: 'test-best (paper-compat)'; or ''.
    """

    chosen: str
    unit: str | None = None
    done: int | None = None
    planned: int | None = None
    rule: str = ""


# The rule of protocols whose result is the checkpoint of the best validation on training images.
BEST_ON_HELD_OUT = "best validation on held-out training images"
CHOSEN = (
    "end of training",
    "unfinished",
    "best on the scored split",
    "best on held-out",
    "not trained here",
    "nothing to train",
)


@dataclass(frozen=True)
class Source:
    """Where a reported number was read.

    Attributes:
        paper: Title or arXiv id.
        table: Table or section, with row or cell where that is needed to find it.
        mark: Doubt about the number, '' if there is none: 'settings unknown', 'second-hand' ...
    """

    paper: str
    table: str
    mark: str = ""


@dataclass(frozen=True)
class IntervalInfo:
    """A 95 % interval of one metric, in the unit of the score.

    Attributes:
        low: Lower bound.
        high: Upper bound, at least `low`.
        unit: What was resampled: 'image', 'video', 'object', 'sequence'; 'unknown' in records
            older than schema 2.
        num_units: How many of these the data set has; None where the unit is unknown.
        resamples: Number of bootstrap resamples; None where the unit is unknown.
        method: Its name, as `statistics.METHOD`; None in records older than schema 4.
        stretch: Factor that widened it for few units, 1 or more; None as above.
        thin_classes: How many classes of the metric rest on fewer than 10 images; None where a
            metric has no classes, and as above.
    """

    low: float
    high: float
    unit: str
    num_units: int | None
    resamples: int | None
    method: str | None = None
    stretch: float | None = None
    thin_classes: int | None = None


@dataclass(frozen=True)
class Selection:
    """How the scored variant was chosen among several, for example layers of an encoder.

    Attributes:
        on: Data that chose: 'holdout' (training images held out), another split such as 'train',
            or the scored split itself, as some papers do: such scores are optimistic.
        metric: Name of the metric that chose.
        candidates: How many variants there were.
        chosen: What was chosen, name -> value: {'layer': '7', 'lr': '0.001'}.
        best_minus_last: Main metric of the chosen layer minus that of the last one, on the same
            items; None where layers were not compared.
        best_minus_last_ci95: Its paired interval, or None.
        at_edge: Layer -> words, of layers whose chosen learning rate is an end of what was tried,
            so that another might be better: {'7': 'lr 0.01, the largest of 3'}; None where nobody
            looked, as in records older than schema 5.
        rising: Layer -> words, of layers whose head had clearly gained in the second half of its
            training, so that a longer one might give more: {'7': 'mIoU 18.9, 15.2 after a training
            half as long'}; None where nobody looked, as in records older than schema 6.
    """

    on: str
    metric: str
    candidates: int
    chosen: dict[str, str]
    best_minus_last: float | None = None
    best_minus_last_ci95: IntervalInfo | None = None
    at_edge: dict[str, str] | None = None
    rising: dict[str, str] | None = None


@dataclass(frozen=True)
class Evidence:
    """The per-item file behind the score: relative path with forward slashes, and its sha256."""

    file: str
    sha256: str


@dataclass(frozen=True)
class CodeInfo:
    """What ran, and whether the working tree had changes.

    `commit` has 40 hex digits; 'files-' and as many of a hash of the files where there is no commit
    (an installed wheel); or is 'unknown'.
    """

    commit: str
    dirty: bool


@dataclass(frozen=True)
class Hardware:
    """The machine: CPU model, logical cores, GPU model or None."""

    cpu: str
    cores: int
    gpu: str | None


@dataclass(frozen=True)
class Cost:
    """What the result cost: seconds of training and of evaluation, peak memory in GiB."""

    train_s: float | None = None
    eval_s: float | None = None
    peak_memory_gib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One score with its provenance. Building one validates it; nested dicts are accepted.

    Attributes:
        origin: 'measured' (by this code) or 'reported' (read in a paper).
        task: 'detection', 'segmentation', 'depth', 'tracking' ...
        protocol: See `ProtocolInfo`.
        dataset: See `DatasetInfo`.
        encoder: See `EncoderInfo`.
        scores: Metric name -> value; fractions, except where `metrics.TABLE` has a unit. An
            undefined metric is left out (pycocotools writes -1 for it, others nan).
        created: UTC time, '2026-01-31T12:00:00Z'.
        command: Command that made the score; empty only for reported rows.
        source: For reported rows only.
        checkpoint_sha256: Hash of the evaluated checkpoint, None if there is none.
        ci95: Metric name -> intervals, the first over the unit that the protocol calls for,
            others (objects beside videos) after it; or None.
        by_layer: Metric name -> {layer: score}, where several were scored: a block index as text,
            '7', or those of a concatenation, '8+9+10+11'. With the heads of `seed` alone.
        selection: See `Selection`, or None where nothing was chosen.
        training: See `TrainingInfo`; None for reported rows and records older than schema 4.
        options: How the run was computed where it is not the default: {'amp': 'bfloat16'}; empty
            for none, None for reported rows and records older than schema 4.
        blind: Main metric of each predictor that never sees the picture, by name, on the same data
            (`blind.py`); None where none was made, and in records older than schema 5.
        evidence: See `Evidence`, or None.
        seed: Random seed, 0 or more, or None.
        code: See `CodeInfo`; None only for reported rows.
        versions: Library -> version; empty only for reported rows.
        hardware: See `Hardware`; None only for reported rows.
        cost: See `Cost`.
        notes: Free text.
        schema_version: Version of this layout.

    Raises:
        ValueError: If any field is invalid; one sentence that names it and the remedy.
    """

    origin: str
    task: str
    protocol: ProtocolInfo
    dataset: DatasetInfo
    encoder: EncoderInfo
    scores: dict[str, float]
    created: str
    command: str = ""
    source: Source | None = None
    checkpoint_sha256: str | None = None
    ci95: dict[str, tuple[IntervalInfo, ...]] | None = None
    by_layer: dict[str, dict[str, float]] | None = None
    selection: Selection | None = None
    training: TrainingInfo | None = None
    options: dict[str, str] | None = None
    blind: dict[str, float] | None = None
    evidence: Evidence | None = None
    seed: int | None = None
    code: CodeInfo | None = None
    versions: dict[str, str] = field(default_factory=dict)
    hardware: Hardware | None = None
    cost: Cost = Cost()
    notes: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Converts every field to its declared type, then checks what types cannot say."""
        for name, hint in typing.get_type_hints(Record).items():
            object.__setattr__(self, name, parse(hint, getattr(self, name), name))
        _check_identity(self)
        _check_scores(self)
        _check_provenance(self)


def record_to_json(record: Record) -> str:
    """The record as JSON text: ASCII, sorted keys, indented, with a trailing newline.

    The key 'content_sha256' is a checksum over all others, so that an edit by hand shows.
    """
    data = dataclasses.asdict(record)
    data["content_sha256"] = content_sha256(data)
    return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"


def record_from_json(text: str, source: str = "record") -> Record:
    """The record in a JSON text; the exact inverse of `record_to_json`.

    Args:
        text: Content of a record file.
        source: Name of that file, for error messages.

    Returns:
        A valid record, upgraded to the current schema.

    Raises:
        ValueError: If the text is not JSON, a key is unknown, missing or given twice, or a
            value is invalid. One sentence that names the file, the field and the remedy.
    """
    try:
        data = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{source}: not valid JSON (line {error.lineno}: {error.msg}); "
            "restore the file, or remove it and evaluate again"
        ) from None
    except RecursionError:
        raise ValueError(f"{source}: nested too deeply to be a record; remove the file") from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    try:
        if not isinstance(data, dict):
            raise ValueError(f"holds {shown(data)} but must hold one JSON object; see Record")
        written = data
        data = upgrade({k: v for k, v in data.items() if k != "content_sha256"})
        check_keys(Record, data, "")
        record = Record(**data)
        check_checksum(written)  # last: a field that is wrong is named first
        return record
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


# ---- meaning -------------------------------------------------------------------------------


def _require(condition: bool, where: str, value: Any, rule: str) -> None:
    if not condition:
        raise ValueError(f"field '{where}' is {shown(value)}; {rule}")


def _match(pattern: re.Pattern[str], value: str | None, where: str, rule: str) -> None:
    _require(value is None or pattern.fullmatch(value) is not None, where, value, rule)


def _at_least(low: int, value: float | None, where: str) -> None:
    _require(value is None or value >= low, where, value, f"it must be {low} or more, correct it")


def _one_of(allowed: tuple[str, ...], value: str | None, where: str) -> None:
    words = ", ".join(repr(word) for word in allowed)
    _require(value is None or value in allowed, where, value, f"use one of {words}, or null")


def _check_identity(record: Record) -> None:
    """Origin, schema, and all that names the row."""
    version, origin = record.schema_version, record.origin
    _require(version == SCHEMA_VERSION, "schema_version", version, f"use {SCHEMA_VERSION}")
    origins = ("measured", "reported")
    _require(origin in origins, "origin", origin, "use 'measured' or 'reported'")
    _match(_TASK, record.task, "task", "use one lower-case word such as 'detection'")
    _at_least(0, record.seed, "seed")

    protocol, dataset, encoder = record.protocol, record.dataset, record.encoder
    id_rule = "use lower-case words joined by '-', such as 'ade20k-linear-dinov3'"
    _match(_PROTOCOL_ID, protocol.id, "protocol.id", id_rule)
    _at_least(1, protocol.version, "protocol.version")
    _match(_SHA256, protocol.config_sha256, "protocol.config_sha256", "give 64 hex digits")
    _require(dataset.name.strip() != "", "dataset.name", dataset.name, "name the data set")
    _require(dataset.split.strip() != "", "dataset.split", dataset.split, "name the split")
    _at_least(1, dataset.num_items, "dataset.num_items")
    _match(_SHA256, dataset.sha256, "dataset.sha256", "give 64 hex digits or null")

    name_rule = "start with a letter or digit and use only letters, digits and ._:/@-"
    _match(_ENCODER_NAME, encoder.name, "encoder.name", name_rule)
    weights_rule = "give 'random', 'hf://repo[:file]' or a bare file name, not a path"
    _require(_is_portable(encoder.weights), "encoder.weights", encoder.weights, weights_rule)
    digest, where = encoder.weights_sha256, "encoder.weights_sha256"
    if digest != "random":
        _match(_SHA256, digest, where, "give 64 hex digits or 'random'")
    if digest is not None:
        both = (encoder.weights == "random") == (digest == "random")
        _require(both, where, digest, "it must be 'random' exactly when encoder.weights is")
    fingerprint = encoder.feature_fingerprint
    _match(_FINGERPRINT, fingerprint, "encoder.feature_fingerprint", "give 8 to 64 hex digits")
    _at_least(1, encoder.num_params, "encoder.num_params")
    _at_least(1, encoder.whole_params, "encoder.whole_params")
    _one_of(PUBLISHED, encoder.published, "encoder.published")
    revision_rule = "give the 40 hex digits of a commit, or null"
    _match(_REVISION, encoder.revision, "encoder.revision", revision_rule)


def _check_scores(record: Record) -> None:
    """The main metric is there, units are right, intervals belong to scores."""
    metric = record.protocol.metric
    _match(_METRIC, metric, "protocol.metric", "use letters, digits and _.:@&/- (at most 64)")
    if metric not in record.scores:
        raise ValueError(f"field 'scores' lacks the main metric '{metric}'; add it")
    for name, value in record.scores.items():
        _match(_METRIC, name, f"scores.{name}", "rename it: letters, digits and _.:@&/-")
        _check_unit(name, value, f"scores.{name}")
    for name, intervals in (record.ci95 or {}).items():
        where = f"ci95.{name}"
        _require(name in record.scores, where, intervals, "no score has this name, remove it")
        _require(len(intervals) > 0, where, intervals, "give an interval or leave it out")
        for i, interval in enumerate(intervals):
            _check_interval(interval, f"{where}[{i}]")
    for name, by_layer in (record.by_layer or {}).items():
        for layer, value in by_layer.items():
            where = f"by_layer.{name}.{layer}"
            _match(
                _LAYER, layer, where, "name a layer by its block index, '0', or several as '8+9'"
            )
            _check_unit(name, value, where)
    for name, value in (record.blind or {}).items():
        _require(name.strip() != "", "blind", name, "name what it predicts")
        _check_unit(metric, value, f"blind.{name}")
    if record.selection is not None:
        _at_least(1, record.selection.candidates, "selection.candidates")
        if record.selection.best_minus_last_ci95 is not None:
            _check_interval(record.selection.best_minus_last_ci95, "selection.best_minus_last_ci95")


def _check_interval(interval: IntervalInfo, where: str) -> None:
    bounds = (interval.low, interval.high)
    _require(bounds[0] <= bounds[1], where, bounds, "write the lower bound first")
    _match(_TASK, interval.unit, f"{where}.unit", "name what was resampled, such as 'image'")
    _at_least(1, interval.num_units, f"{where}.num_units")
    _at_least(1, interval.resamples, f"{where}.resamples")
    _at_least(1, interval.stretch, f"{where}.stretch")
    _at_least(0, interval.thin_classes, f"{where}.thin_classes")


def _check_unit(name: str, value: float, where: str) -> None:
    metric = metric_of(name)
    if not metric.is_fraction:
        return
    high_rule = "fractions end at 1: divide percent by 100, or list the metric in metrics.TABLE"
    low_rule = "fractions start at 0: leave a metric out where it is not defined"
    _require(value <= 1 + 1e-9, where, value, high_rule)
    _require(value >= -1e-9 or metric.signed, where, value, low_rule)


def _check_provenance(record: Record) -> None:
    """Files, code, machine, cost and time are well formed; then the rules of each origin."""
    _match(_SHA256, record.checkpoint_sha256, "checkpoint_sha256", "give 64 hex digits or null")
    if record.evidence is not None:
        file = record.evidence.file
        relative = re.fullmatch(r"[^/~\\:][^\\:]*", file) and ".." not in file.split("/")
        _require(bool(relative), "evidence.file", file, "give a relative path with '/'")
        _match(_SHA256, record.evidence.sha256, "evidence.sha256", "give 64 hex digits")
    if record.training is not None:
        _check_training(record.training)
    if record.code is not None:
        rule = "give 40 hex digits, 'files-' and 40 hex digits, or 'unknown'"
        _match(_COMMIT, record.code.commit, "code.commit", rule)
    if record.hardware is not None:
        _at_least(1, record.hardware.cores, "hardware.cores")
    for name, value in dataclasses.asdict(record.cost).items():
        _at_least(0, value, f"cost.{name}")
    created_rule = "give UTC to the second, such as '2026-01-31T12:00:00Z'"
    try:
        created = datetime.strptime(record.created, _CREATED_FORMAT).strftime(_CREATED_FORMAT)
    except ValueError:
        created = None
    _require(created == record.created, "created", record.created, created_rule)
    if record.origin == "reported":
        _check_reported(record)
    else:
        _check_measured(record)


def _check_training(training: TrainingInfo) -> None:
    """An end that is the end, and counts that say what they count."""
    chosen, done, planned = training.chosen, training.done, training.planned
    _one_of(CHOSEN, chosen, "training.chosen")
    _match(_LOOP_UNIT, training.unit, "training.unit", "use 'epoch', 'iter' or null")
    for name, value in (("done", done), ("planned", planned)):
        _at_least(0, value, f"training.{name}")
        given = value is None or training.unit is not None
        _require(given, f"training.{name}", value, "name its unit in training.unit")
    if done is not None and planned is not None:
        words = f"{done} of {planned} {training.unit}s"
        fits = done >= planned if chosen == "end of training" else True
        _require(fits, "training.chosen", chosen, f"the training was at {words}: 'unfinished'")
        fits = done < planned if chosen == "unfinished" else True
        _require(fits, "training.chosen", chosen, f"the training was at {words}, its end")


def _check_reported(record: Record) -> None:
    source, rule = record.source, "a reported record says where its number was read, fill it in"
    _require(source is not None, "source", source, rule)
    assert source is not None
    _require(source.paper.strip() != "", "source.paper", source.paper, rule)
    _require(source.table.strip() != "", "source.table", source.table, rule)


def _check_measured(record: Record) -> None:
    _require(record.source is None, "source", record.source, "only reported records have one")
    needed = {
        "protocol.config_sha256": record.protocol.config_sha256,
        "dataset.num_items": record.dataset.num_items,
        "encoder.weights_sha256": record.encoder.weights_sha256,
        "encoder.feature_fingerprint": record.encoder.feature_fingerprint,
        "encoder.num_params": record.encoder.num_params,
        "command": record.command.strip(),
        "code": record.code,
        "versions": record.versions,
        "hardware": record.hardware,
    }
    for name, value in needed.items():
        _require(bool(value), name, value, "a measured record must have it, fill it in")


def _is_portable(weights: str) -> bool:
    if weights.startswith("hf://"):
        return len(weights) > len("hf://") and not re.search(r"\s", weights)
    return bool(weights.strip()) and not re.search(r"[/\\]|^~|^[A-Za-z]:", weights)
