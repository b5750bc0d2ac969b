"""The tables of the leaderboard, as cells of text, for Markdown and the terminal.

One table per protocol and version, best row first; measured and reported rows stand apart. A row is
an encoder with its weights: the mean of its seeds, which stand below it one by one.
Metrics are spelled and rounded as `metrics.TABLE` says; intervals say how many units they rest on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pe_dense.results.blind import strictest
from pe_dense.results.encoder_rows import (
    NOTHING_FOUND,
    Bounds,
    EncoderRow,
    Findings,
    encoder_rows,
)
from pe_dense.results.interval_marks import FEW_UNITS
from pe_dense.results.mean_rank import MeanRanks
from pe_dense.results.metrics import in_order, metric_of
from pe_dense.results.record import ProtocolInfo, Record
from pe_dense.results.row_notes import Note, row_notes
from pe_dense.results.store import encoder_of_folder, record_path, weights_tag

# Data sets of generated scenes: good for checking code, so their tables come last.
GENERATED = ("mini", "mini-mot", "mini2", "mini2-mot")
FIRST_TASKS = ("detection", "segmentation", "tracking", "depth")
FIRST_DATA = ("coco", "ade20k", "davis2017", "nyu", "imagenet")
ABSENT = "-"


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        caption: What stands above it.
        header: Names of its columns.
        rows: Cells; below the mean over several seeds, each seed by itself.
        command: Command of the best row.
        notes: What the words in the column 'Notes' mean, one sentence each.
        power: The smallest difference that its test set shows, a sentence; '' if unknown.
        blind: What predictors without the picture score, a sentence; '' if unknown.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    command: str | None
    notes: tuple[str, ...] = ()
    power: str = ""
    blind: str = ""


@dataclass(frozen=True)
class Section:
    """One protocol version: its heading, title, one line about it, its one or two tables."""

    heading: str
    title: str
    about: str
    tables: tuple[Table, ...]


def build_sections(records: Sequence[Record], findings: Findings = NOTHING_FOUND) -> list[Section]:
    """Records grouped by task and protocol version, ready to print.

    Raises:
        ValueError: As `render_markdown`.
    """
    return [_section(rows, findings) for rows in by_protocol(records)]


def by_protocol(records: Sequence[Record]) -> list[list[Record]]:
    """Records of each protocol version, in the order of the pages.

    Generated scenes come last. The tasks and data sets that most people ask for come first, as
    `FIRST_TASKS` and `FIRST_DATA` have them, others by name; then protocols with measured rows.

    Raises:
        ValueError: If records of one protocol version disagree on what it measures.
    """
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in sorted(records, key=record_path):
        groups.setdefault((record.protocol.id, record.protocol.version), []).append(record)
    for rows in groups.values():
        check_agreement(rows)

    def place(rows: list[Record]) -> tuple[bool, int, str, int, str, bool, str, int]:
        only_reported = all(record.origin == "reported" for record in rows)
        first, protocol = rows[0], rows[0].protocol
        data = first.dataset.name
        return (
            data in GENERATED, _place(first.task, FIRST_TASKS), heading_of(first),
            _place(data, FIRST_DATA), data, only_reported, protocol.id, protocol.version,
        )  # fmt: skip

    return sorted(groups.values(), key=place)


def _place(name: str, first: Sequence[str]) -> int:
    return first.index(name) if name in first else len(first)


def heading_of(record: Record) -> str:
    """The heading that a record stands under: its task, and whether its scenes are generated."""
    task = record.task.replace("_", " ")
    return f"{task}, generated scenes" if record.dataset.name in GENERATED else task


def check_agreement(records: Sequence[Record]) -> None:
    """Checks that records of one protocol version measure the same thing.

    Raises:
        ValueError: If they differ in task, main metric, direction, data set, split or (where
            known) number of items; it names both records and the field.
    """
    first_with: dict[str, tuple[object, Record]] = {}
    for record in sorted(records, key=record_path):
        for field, value in (
            ("task", record.task),
            ("protocol.metric", record.protocol.metric),
            ("protocol.higher_is_better", record.protocol.higher_is_better),
            ("dataset.name", record.dataset.name),
            ("dataset.split", record.dataset.split),
            ("dataset.num_items", record.dataset.num_items),
        ):
            if value is None:
                continue
            expected, other = first_with.setdefault(field, (value, record))
            if value != expected:
                raise ValueError(
                    f"{record_path(record)}: field '{field}' is {value!r} but {expected!r} in "
                    f"{record_path(other)}; a protocol version measures one thing, so give one "
                    "of them another version"
                )


# ---- tables --------------------------------------------------------------------------------


def _section(records: list[Record], findings: Findings) -> Section:
    tables = []
    rows = encoder_rows(records, findings)
    for measured, caption in ((True, "Measured"), (False, "Reported by others")):
        mine = [row for row in rows if row.is_measured == measured]
        if mine:
            table = _table(mine, caption, reported_scores(records))
            power = power_text(records[0].protocol, findings) if measured else ""
            blind = blind_text(records, findings) if measured else ""
            tables.append(replace(table, power=power, blind=blind))
    protocol = records[0].protocol
    title = f"{protocol.id}, version {protocol.version}"
    return Section(heading_of(records[0]), title, about_protocol(records), tuple(tables))


def power_text(protocol: ProtocolInfo, findings: Findings) -> str:
    """The power line of a protocol version; '' where no evidence tells.

    Example: 'Smallest difference that this test set shows at 80 %: AP 1.1 between checkpoints (n =
    100 images; from 1 pair of rows).'
    """
    found = findings.detectable.get((protocol.id, protocol.version))
    if found is None:
        return ""
    metric = metric_of(protocol.metric)
    unit = f" {metric.unit}" if metric.unit and not metric.is_fraction else ""
    pairs = f"from {found.pairs} pair{'' if found.pairs == 1 else 's'} of rows"
    if not found.pairs:
        pairs = "one row only: as if a second failed on other items, which is too pessimistic"
    return (
        f"Smallest difference that this test set shows at {100 * found.power:.0f} %: "
        f"{metric.spelling} {metric.shown(found.difference)}{unit} between {found.compares} "
        f"(n = {found.num_units} {found.unit}s; {pairs})."
    )


def blind_scores(records: Sequence[Record], findings: Findings) -> Mapping[str, float]:
    """Predictors without the picture of one protocol version, each as its best record has it."""
    protocol = records[0].protocol
    known = findings.blind.get((protocol.id, protocol.version), {})
    lines = [*(record.blind or {} for record in records), known]
    return strictest(lines, protocol.higher_is_better)


def blind_text(records: Sequence[Record], findings: Findings) -> str:
    """The line about predictors without the picture, best first; '' where none is known.

    Example: 'Without the picture: mean map of the training labels 21.2, most frequent class 3.4.'
    """
    scores, protocol = blind_scores(records, findings), records[0].protocol
    if not scores:
        return ""
    sign = -1 if protocol.higher_is_better else 1
    ordered = sorted(scores, key=lambda name: (sign * scores[name], name))
    shown = (f"{name} {score_text(protocol.metric, scores[name])}" for name in ordered)
    return f"Without the picture: {', '.join(shown)}."


def mean_rank_table(found: MeanRanks) -> Table:
    """Encoders over all protocols that they share, best first."""
    rows, notes = [], []
    for row in found.rows:
        folder, weights = row.name.split("/")
        rows.append(
            (
                encoder_of_folder(folder),
                weights,
                f"{row.mean_rank:.1f}",
                f"{row.low:.1f} to {row.high:.1f}",
                *(f"{row.ranks[protocol]:g}" for protocol in found.protocols),
            )
        )
        if row.compares == "checkpoints":
            notes.append("Some protocol has one seed for each row: ranks are of checkpoints.")
        if row.few_units:
            notes.append(
                f"Some protocol has fewer than {FEW_UNITS} units: intervals may be narrow."
            )
    if found.left_out:
        count = len(found.left_out)
        who = "1 other lacks" if count == 1 else f"{count} others lack"
        listed = "is" if count == 1 else "are"
        notes.append(f"{who} some of these protocols and {listed} not in the list.")
    header = ("Encoder", "Weights", "Mean rank", "95 %", *found.protocols)
    caption = f"Mean rank over n = {len(found.protocols)} protocols, of {len(rows)} rows"
    return Table(caption, header, tuple(rows), None, tuple(dict.fromkeys(notes)))


def about_protocol(records: Sequence[Record]) -> str:
    """One line about the protocol of some records: data, metric, direction."""
    first = records[0]
    protocol = first.protocol
    counts = [r.dataset.num_items for r in records if r.dataset.num_items is not None]
    items = f", {counts[0]} items" if counts else ""
    order = "higher" if protocol.higher_is_better else "lower"
    metric = metric_of(protocol.metric)
    named = f"{metric.spelling}, {metric.unit}" if metric.unit else metric.spelling
    return f"{first.dataset.name}, split {first.dataset.split}{items}; {named}, {order} is better."


def reported_scores(records: Sequence[Record]) -> dict[str, float]:
    """Encoder -> main score as its authors report it, of records of one protocol version.

    Where several sources report an encoder, the first in the order of paths counts.
    """
    found: dict[str, float] = {}
    for record in sorted(records, key=record_path):
        if record.origin == "reported":
            found.setdefault(record.encoder.name, record.scores[record.protocol.metric])
    return found


def _table(rows: list[EncoderRow], caption: str, reported: Mapping[str, float]) -> Table:
    """One line for each row, and below a mean over seeds one for each seed."""
    measured = rows[0].is_measured
    main = rows[0].first.protocol.metric
    names = {name for row in rows for record in row.records for name in record.scores}
    # Scores of single classes, 'AP/cat', stay in the records: there may be a thousand.
    others = in_order({name for name in names if "/" not in name} - {main})
    lines: list[dict[str, str]] = []
    notes: list[Note] = []
    for row in rows:
        found = row_notes(row)
        notes += found
        lines.append(
            _cells(row, main, others)
            | {
                "Encoder": row.first.encoder.name,
                "Group": ABSENT if row.rank is None else str(row.rank.group),
                "vs reported": _difference(row, reported),
                "Notes": note_words(found),
            }
        )
        if row.num_seeds > 1:
            for record in row.records:
                alone = EncoderRow((record,), None, None)
                lines.append(
                    _cells(alone, main, others) | {"Encoder": f"- seed {seeds_text(alone)}"}
                )
    spelled = {name: metric_of(name).spelling for name in (main, *others)}
    header = ["Encoder", "Weights", spelled[main], "95 %", "Group", "vs reported"]
    header += ["Seeds", "Notes", "Chosen"] if measured else []
    header += [spelled[name] for name in others]
    header += ["Train", "Commit", "Date"] if measured else ["Source"]
    optional = {"Weights", "95 %", "Group", "vs reported", "Chosen", "Notes"}
    header = [
        name
        for name in header
        if name not in optional or any(line.get(name, ABSENT) != ABSENT for line in lines)
    ]
    cells = tuple(tuple(line.get(name, ABSENT) for name in header) for line in lines)
    command = rows[0].first.command or None
    return Table(caption, tuple(header), cells, command, meanings(notes))


def _cells(row: EncoderRow, main: str, others: Sequence[str]) -> dict[str, str]:
    """Column -> cell of what one record, or the mean of several, says itself."""
    first = row.first
    cells = {
        metric_of(name).spelling: score_text(name, row.score(name)) for name in (main, *others)
    }
    cells |= {"95 %": interval_text(main, row.main_bounds), "Chosen": chosen_words(row)}
    if not row.is_measured:
        source = first.source
        assert source is not None
        mark = f" ({source.mark})" if source.mark else ""
        return cells | {"Source": f"{source.paper}, {source.table}{mark}"}
    return cells | {
        "Weights": weights_tag(first),
        "Seeds": seeds_text(row),
        "Train": duration(first.cost.train_s),
        "Commit": _same(_commit(record) for record in row.records),
        "Date": _same(record.created[:10] for record in row.records),
    }


def _same(values: Iterable[str]) -> str:
    """The values that differ, in order."""
    return ", ".join(dict.fromkeys(values))


def note_words(notes: Sequence[Note]) -> str:
    """The cell of a row's notes."""
    return "; ".join(note.words for note in notes) or ABSENT


def meanings(notes: Sequence[Note]) -> tuple[str, ...]:
    """What the notes of a table mean, each once."""
    return tuple(dict.fromkeys(note.meaning for note in notes if note.meaning))


def chosen_words(row: EncoderRow) -> str:
    """What was chosen, on what, and the gap between the best and the last layer.

    A choice that was made on the scored data says so: such a score is optimistic. Of several seeds
    it says the ends of their gaps, and how far apart their curves over layers are.
    """
    selections = [record.selection for record in row.records]
    if None in selections:
        return ABSENT
    parts = []
    for record, selection in zip(row.records, selections, strict=True):
        assert selection is not None
        layer = selection.chosen.get("layer")
        name = "setting" if layer is None else f"layer {layer}"
        on = selection.on
        if on in ("val", "test", record.dataset.split):
            on = f"{on}, optimistic"
        parts.append(f"{name} on {on}")
    words = _same(parts)
    gaps = [
        s.best_minus_last for s in selections if s is not None and s.best_minus_last is not None
    ]
    metric = metric_of(row.first.protocol.metric)
    if len(gaps) == row.num_seeds:
        words += f"; {metric.signed_text(sum(gaps) / len(gaps))} to the last"
        if len(gaps) > 1:
            ends = metric.signed_text(min(gaps)), metric.signed_text(max(gaps))
            words += f" (seeds: {ends[0]} to {ends[1]})"
    spread = row.curve_spread
    if spread is not None:
        words += f"; curves of seeds within {metric.shown(spread)}"
    return words


def score_text(metric: str, value: float | None) -> str:
    """A score as people read it, '-' where there is none."""
    return ABSENT if value is None else metric_of(metric).shown(value)


def interval_text(metric: str, bounds: Bounds | None) -> str:
    """Bounds with what they rest on: '43.0 to 47.2 (n = 72 images)'."""
    if bounds is None:
        return ABSENT
    words = f"{score_text(metric, bounds.low)} to {score_text(metric, bounds.high)}"
    return f"{words} ({size_text(bounds)})"


def size_text(bounds: Bounds) -> str:
    """What an interval rests on: 'n = 72 images'."""
    if bounds.num_units is None:
        return "n unknown"
    return f"n = {bounds.num_units} {bounds.unit}{'' if bounds.num_units == 1 else 's'}"


def difference_to_reported(row: EncoderRow, reported: Mapping[str, float]) -> float | None:
    """Measured minus reported score; None without a report, or for random weights."""
    encoder = row.first.encoder
    if not row.is_measured or encoder.name not in reported or encoder.weights == "random":
        return None
    return row.main - reported[encoder.name]


def _difference(row: EncoderRow, reported: Mapping[str, float]) -> str:
    difference = difference_to_reported(row, reported)
    metric = metric_of(row.first.protocol.metric)
    return ABSENT if difference is None else metric.signed_text(difference)


def duration(seconds: float | None) -> str:
    """'12 s', '2.5 min' or '3.1 h'; '-' where it is unknown."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def seeds_text(row: EncoderRow) -> str:
    """The seeds of a row: '0, 1, 2'."""
    return ", ".join(ABSENT if r.seed is None else str(r.seed) for r in row.records)


def _commit(record: Record) -> str:
    if record.code is None:
        return ABSENT
    kind, _, digits = record.code.commit.rpartition("-")  # 'files-' and a hash, without a commit
    return (f"{kind}-" if kind else "") + digits[:7] + ("+" if record.code.dirty else "")
