"""What must be said of a row beside its score: how far it can be trusted, in few words.

Every note has words, which stand in the row, and a meaning, which stands once below the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pe_dense.results.encoder_rows import EncoderRow
from pe_dense.results.interval_marks import FEW_IMAGES, FEW_UNITS, marks_in_words
from pe_dense.results.metrics import metric_of
from pe_dense.results.record import Record
from pe_dense.results.scored_content import OTHER_DATA


class Note(NamedTuple):
    """Words for a row, and the sentence that explains them; '' where the words say all."""

    words: str
    meaning: str


ONE_SEED = Note("one seed", "One seed: the row compares checkpoints, not encoders.")
POOLED = Note(
    "one seed",
    "One seed, while other rows have several: its interval and its group have the spread of their "
    "seeds.",
)
TOO_NARROW = (
    f"Fewer than {FEW_UNITS} units, or classes on fewer than {FEW_IMAGES} images: the interval may "
    "be too narrow, and groups too fine."
)
OLD_INTERVAL = Note(
    "older interval",
    "Older interval: made before intervals were widened for few units; tools/leaderboard.py "
    "intervals makes it again.",
)
UNFINISHED = "Unfinished: the training was scored before its end."
ON_SCORED = (
    "Chosen on the scored split: the best of several checkpoints or layers there, so the score is "
    "optimistic."
)
ON_HELD_OUT = Note(
    "checkpoint chosen on held-out",
    "Chosen on held-out: the best of several checkpoints on data that are not scored; it is ranked "
    "with no end of a training.",
)
NOT_TRAINED_HERE = Note(
    "not trained here", "Not trained here: a checkpoint from elsewhere, whose training is unknown."
)
TRAINING_UNKNOWN = Note(
    "training unknown",
    "Training unknown: the record is older than the field that says how its checkpoint came about.",
)
DATA_UNKNOWN = Note(
    "data hash unknown",
    "Data hash unknown: the record names the scored data, but does not say which files they were.",
)
OTHER_FILES = Note(
    "other files than published",
    "Other files than published: the scored pictures or labels are not those of the data set of "
    "this name.",
)
NO_EVIDENCE = Note(
    "no evidence",
    "No evidence: nobody can compute the score again, or an interval; only the record vouches for "
    "them.",
)
NO_INTERVAL = Note(
    "no interval",
    "No interval: too few items to resample, so that nothing is known of other test sets.",
)
BLIND = Note(
    "not above blind",
    "Not above blind: its interval does not clear what a predictor without the picture scores, so "
    "the row shows no use of the picture.",
)
AT_EDGE = Note(
    "learning rate at the edge",
    "Learning rate at the edge: the best of those tried is the largest or the smallest, so that "
    "the head may not be trained to its end, and another rate might be better.",
)
RISING = Note(
    "not trained to its end",
    "Not trained to its end: the second half of the training gave the head clearly more, so that a "
    "longer one might give more still.",
)
HELD_OUT = "held out: "  # in the notes of a record, up to the next ';'
ALONE = "each for itself"
IN_GROUPS = (
    "Held out: training images that chose layer and setting and were not trained on, in whole "
    "sequences, since frames of one look alike; few sequences choose coarsely."
)
OPTIONS = "With options: computed otherwise than the protocol does by default."


def row_notes(row: EncoderRow) -> list[Note]:
    """The notes of a row, what weighs most first; none for reported numbers.

    What is not so in all seeds is said of the row all the same.
    """
    if not row.is_measured:
        return []
    found = [BLIND] if row.sees is False else []
    found += [note for record in row.records for note in _about_checkpoint(record)]
    found += _about_seeds(row)
    found += _about_interval(row)
    found += [note for record in row.records for note in _about_run(record)]
    return list(dict.fromkeys(found))


def _about_checkpoint(record: Record) -> Iterator[Note]:
    """Whether the score is one of the end of a training, and whether it was picked by looking."""
    training, selection = record.training, record.selection
    if training is None:
        yield TRAINING_UNKNOWN
    else:
        if training.chosen == "unfinished":
            counted = f" at {training.done} of {training.planned} {training.unit}s"
            yield Note("unfinished" + (counted if training.unit else ""), UNFINISHED)
        if training.chosen == "best on the scored split":
            yield Note("checkpoint chosen on the scored split", ON_SCORED)
        if training.chosen == "best on held-out":
            yield ON_HELD_OUT
        if training.chosen == "not trained here":
            yield NOT_TRAINED_HERE
        if training.rule:
            yield Note(training.rule, "")
    if selection is not None and selection.chosen.get("layer") in (selection.at_edge or ()):
        yield AT_EDGE
    if selection is not None and selection.chosen.get("layer") in (selection.rising or ()):
        yield RISING
    if selection is not None and selection.on in ("val", "test", record.dataset.split):
        chosen = "layer" if "layer" in selection.chosen else "setting"
        yield Note(f"{chosen} chosen on the scored split", ON_SCORED)


def _about_seeds(row: EncoderRow) -> list[Note]:
    if row.num_seeds == 1:
        return [ONE_SEED if row.mean is None else POOLED]
    name = row.first.protocol.metric
    metric = metric_of(name)
    values = [record.scores[name] for record in row.records]
    ends = f"{metric.shown(min(values))} to {metric.shown(max(values))}"
    return [Note(f"mean of {row.num_seeds} seeds, {ends}", "")]


def _about_interval(row: EncoderRow) -> Iterator[Note]:
    bounds = row.main_bounds
    if any(record.evidence is None for record in row.records):
        yield NO_EVIDENCE
    elif bounds is None and row.num_seeds == 1:
        yield NO_INTERVAL
    if bounds is None:
        return
    for words in marks_in_words(bounds.unit, bounds.num_units, bounds.thin_classes):
        yield Note(words, TOO_NARROW)
    if bounds.method is None:
        yield OLD_INTERVAL


def _about_run(record: Record) -> Iterator[Note]:
    if record.dataset.sha256 is None:
        yield DATA_UNKNOWN
    if OTHER_DATA in record.notes:
        yield OTHER_FILES
    for note in record.notes.split("; "):
        if note.startswith(HELD_OUT) and not note.endswith(ALONE):
            yield Note(note, IN_GROUPS)
    for name, value in sorted((record.options or {}).items()):
        yield Note(f"{name} {value}", OPTIONS)
