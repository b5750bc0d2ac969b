"""What a record says of itself against what is known apart from its evidence.

Each check is one that a person who edits a record would have to think of as well: the settings of
the protocol that it names, the command that made it, the labels of its protocol, the clock.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pe_dense.results.metrics import check_direction
from pe_dense.results.record import BEST_ON_HELD_OUT, Record

PROTOCOLS = Path("benchmarks/protocols.json")
EVALUATION = "tools/test.py"
CLOCKS = timedelta(minutes=10)  # by which the clocks of two machines may differ
_CREATED = "%Y-%m-%dT%H:%M:%SZ"
_LABELS = re.compile(
    r"mod-[0-9a-f]{8}|data-[0-9a-f]{8}|unfinished-[0-9]+-of-[0-9]+-(epoch|iter)s"
    r"|chosen-on-(the-scored-split|held-out)|end-of-training"
)

Protocols = Mapping[str, Mapping[str, Any]]


def load_protocols(path: Path = PROTOCOLS) -> dict[str, dict[str, Any]]:
    """'<id>-v<version>' -> what was accepted of it; empty without the file.

    Raises:
        ValueError: If the file is not a list of protocols.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sound = all(isinstance(row["sha256"], str) for row in content.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(f"{path}: is not a list of protocols; restore it")
    return content


def check_claims(
    record: Record, protocols: Protocols, now: datetime, published: bool = False
) -> list[str]:
    """One clause for each claim of a measured record that cannot be; without its name.

    Args:
        record: The record.
        protocols: As `load_protocols` gives them; without any, none is looked up.
        now: The time, UTC, without a zone.
        published: Whether its protocol must be a known one: it need not in a store of one's own.
    """
    return [
        *_check_time(record, now),
        *_check_protocol(record, protocols, published),
        *_check_labels(record),
        *_check_command(record, protocols, published),
    ]


def key_of(record: Record) -> str:
    """Key of the record's protocol in benchmarks/protocols.json, labels left out."""
    return f"{split_id(record.protocol.id)[0]}-v{record.protocol.version}"


def split_id(protocol_id: str) -> tuple[str, list[str]]:
    """A protocol's own id, and the labels of what is not as it says.

    Example:
        >>> split_id("ade20k-linear.mod-0123abcd.unfinished-3-of-8-epochs")
        ('ade20k-linear', ['mod-0123abcd', 'unfinished-3-of-8-epochs'])
    """
    parts = protocol_id.split(".")
    labels: list[str] = []
    while len(parts) > 1 and _LABELS.fullmatch(parts[-1]):
        labels.insert(0, parts.pop())
    return ".".join(parts), labels


def _check_time(record: Record, now: datetime) -> Iterator[str]:
    if datetime.strptime(record.created, _CREATED) > now + CLOCKS:
        yield f"field 'created' is {record.created}, which is still to come"


def _check_protocol(record: Record, protocols: Protocols, published: bool) -> Iterator[str]:
    protocol = record.protocol
    try:
        check_direction(protocol.metric, protocol.higher_is_better)
    except ValueError as error:
        yield str(error)
    key, labels = key_of(record), split_id(protocol.id)[1]
    digest = protocol.config_sha256 or ""
    changed = [label.removeprefix("mod-") for label in labels if label.startswith("mod-")]
    if changed and changed[-1] != digest[:8]:
        yield (
            f"field 'protocol.config_sha256' begins with {digest[:8]}, but its protocol is called "
            f"{protocol.id}"
        )
    if not protocols:
        return
    known = protocols.get(key)
    if known is None:
        if published:
            yield f"protocol {key} is not in {PROTOCOLS}"
        return
    if not changed and digest != known["sha256"]:
        yield (
            f"field 'protocol.config_sha256' is {digest[:12]}..., but the settings of {key} have "
            f"{known['sha256'][:12]}... in {PROTOCOLS}"
        )
    for field, fact, value in (
        ("task", "task", record.task),
        ("dataset.name", "dataset", record.dataset.name),
        ("dataset.split", "split", record.dataset.split),
        ("protocol.metric", "metric", protocol.metric),
    ):
        wanted = known.get(fact, value)
        from_data = str(wanted).startswith("$")  # own data: another value in every folder
        if value != wanted and not from_data:
            yield f"field '{field}' is {value!r}, but protocol {key} has {wanted!r}"
    if not changed:
        yield from _check_choices(record, known, key)


def _check_choices(record: Record, known: Mapping[str, Any], key: str) -> Iterator[str]:
    """How far it was trained and what was chosen on, as the settings of the protocol say.

    Of changed settings the list knows nothing; labels say what else is not as the protocol is.
    """
    training, chosen_on = record.training, record.selection.on if record.selection else ""
    if chosen_on != known.get("chosen_on", chosen_on):
        yield (
            f"field 'selection.on' is {chosen_on or None!r}, but protocol {key} chooses layer and "
            f"settings on {known['chosen_on'] or None!r}"
        )
    if training is None:  # of an old record: its row says so
        return
    rule = known.get("rule", training.rule)
    if training.rule != rule:
        yield f"field 'training.rule' is {training.rule!r}, but protocol {key} has {rule!r}"
    if training.planned is not None:
        planned = f"{training.planned} {training.unit}s"
    elif training.chosen == "nothing to train":
        planned = ""
    else:  # a checkpoint from elsewhere: its row says so
        return
    if planned != known.get("training", planned):
        yield (
            f"field 'training.planned' is {planned or 'nothing'}, but protocol {key} trains "
            f"{known['training'] or 'nothing'}"
        )


def _check_labels(record: Record) -> Iterator[str]:
    """The id of the protocol and the field `training` must tell the same of the checkpoint."""
    training, labels = record.training, split_id(record.protocol.id)[1]
    if training is None:
        return
    for chosen, start in (
        ("unfinished", "unfinished-"),
        ("best on the scored split", "chosen-on-the-scored-split"),
        ("best on held-out", "chosen-on-held-out"),
    ):
        labelled = any(label.startswith(start) for label in labels)
        if labelled and training.chosen == "end of training":
            yield f"field 'training.chosen' is {training.chosen!r}, not {labels[-1]!r} as its id"
        is_rule = chosen == "best on held-out" and training.rule == BEST_ON_HELD_OUT
        if training.chosen == chosen and not labelled and not is_rule:
            yield f"field 'training.chosen' is {chosen!r}, and its protocol's id does not say so"


# ---- command -------------------------------------------------------------------------------------


def _check_command(record: Record, protocols: Protocols, published: bool) -> Iterator[str]:
    try:
        steps = _steps(record.command)
    except ValueError:
        yield "field 'command' is not a line that a shell can read"
        return
    for words in steps:
        encoder = option(words, "--encoder")
        if encoder is not None and encoder != record.encoder.name:
            yield f"field 'command' scores the encoder {encoder}, not {record.encoder.name}"
            return
        weights = option(words, "--weights")
        if weights is not None and (weights == "random") != (record.encoder.weights == "random"):
            yield (
                f"field 'command' takes the weights {weights}, but the record has "
                f"{record.encoder.weights}"
            )
            return
        yield from _check_seed(record, option(words, "--seed"))
    own, scored = key_of(record), steps[-1] if steps else []
    if published and not (EVALUATION in scored and any(w.endswith(".py") for w in scored[2:])):
        yield f"field 'command' does not end with {EVALUATION} and a config, which write records"
    for word in scored:
        others = [key for key, row in protocols.items() if row.get("config") == word]
        if others and own not in others and own in protocols:
            yield f"field 'command' scores under {word}, which is {others[0]}, not {own}"


def _check_seed(record: Record, seed: str | None) -> Iterator[str]:
    """One run may hold a bank of heads, with seeds from that of the command upwards."""
    if seed is None or record.seed is None:
        return
    bank = record.selection is not None
    fits = seed.isdigit() and (int(seed) == record.seed or (bank and int(seed) <= record.seed))
    if not fits:
        yield f"field 'seed' is {record.seed}, but the command has --seed {seed}"


def _steps(command: str) -> list[list[str]]:
    """The words of each command of a line joined by '&&'."""
    steps: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word == "&&":
            steps.append([])
        else:
            steps[-1].append(word)
    return [step for step in steps if step]


def option(words: list[str], name: str) -> str | None:
    """Value of an option, '--name value' or '--name=value'; None where it is not given."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
