"""Records in the formats of others: CSV, LaTeX tables, OpenMMLab metafiles."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import yaml

from pe_dense.results.encoder_rows import NOTHING_FOUND, EncoderRow, Findings, encoder_rows
from pe_dense.results.metrics import in_order, metric_of
from pe_dense.results.record import Record
from pe_dense.results.store import record_path
from pe_dense.results.tables import by_protocol, size_text

PAPER = {"Title": "Perception Encoder", "URL": "https://arxiv.org/abs/2504.13181"}
CSV_COLUMNS = (
    "path", "origin", "task", "protocol", "version", "dataset", "split", "num_items", "encoder",
    "weights", "weights_sha256", "num_params", "seed", "metric", "score", "ci95_low", "ci95_high",
    "ci95_unit", "ci95_num_units", "is_main", "train_s", "eval_s", "peak_memory_gib", "gpu",
    "commit", "dirty", "created", "source", "mark",
)  # fmt: skip
_CONFIG = re.compile(r"\bconfigs/[\w/.-]+\.py\b")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%",
    "#": r"\#", "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\N{GREEK SMALL LETTER DELTA}": r"$\delta$",
}  # fmt: skip


def render_csv(records: Sequence[Record]) -> str:
    """One line for every record and metric, so that every column has one meaning.

    Names of metrics and scores are those of the record, unrounded; what a record does not have is
    empty. Text that a spreadsheet would run as a formula has an apostrophe in front.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for record in sorted(records, key=record_path):
        main = record.protocol.metric
        for metric in [main, *in_order(set(record.scores) - {main})]:
            row = _csv_row(record, metric)
            writer.writerow([_cell(value) for value in row])
    return buffer.getvalue()


def _cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula: such text gets an apostrophe in front.

    Source: OWASP, "CSV Injection".
    """
    if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and not _is_number(value):
        return f"'{value}"
    return "" if value is None else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_row(record: Record, metric: str) -> tuple:
    interval = (record.ci95 or {}).get(metric, (None,))[0]
    source = record.source
    return (
        str(record_path(record)),
        record.origin,
        record.task,
        record.protocol.id,
        record.protocol.version,
        record.dataset.name,
        record.dataset.split,
        record.dataset.num_items,
        record.encoder.name,
        record.encoder.weights,
        record.encoder.weights_sha256,
        record.encoder.num_params,
        record.seed,
        metric,
        repr(record.scores[metric]),
        None if interval is None else repr(interval.low),
        None if interval is None else repr(interval.high),
        None if interval is None else interval.unit,
        None if interval is None else interval.num_units,
        int(metric == record.protocol.metric),
        record.cost.train_s,
        record.cost.eval_s,
        record.cost.peak_memory_gib,
        None if record.hardware is None else record.hardware.gpu,
        None if record.code is None else record.code.commit,
        None if record.code is None else int(record.code.dirty),
        record.created,
        None if source is None else f"{source.paper}, {source.table}",
        None if source is None else source.mark,
    )


# ---- LaTeX -------------------------------------------------------------------------------------


def render_latex(records: Sequence[Record], findings: Findings = NOTHING_FOUND) -> str:
    """A booktabs table for every protocol version, means over seeds; intervals as subscripts.

    Bold is the best rank group, or the best measured row where ranks are unknown. Reported rows
    stand below a rule, with their source.

    Raises:
        ValueError: If records of one protocol version disagree on what it measures.
    """
    tables = [
        _latex_table(encoder_rows(group, findings), findings) for group in by_protocol(records)
    ]
    return "\n\n".join(["% needs \\usepackage{booktabs}", *tables]) + "\n"


def _latex_table(rows: list[EncoderRow], findings: Findings) -> str:
    protocol = rows[0].first.protocol
    measured = [row for row in rows if row.is_measured]
    best = [row.rank is not None and row.rank.group == 1 for row in measured]
    if measured and not any(best):
        best[0] = True
    names = {name for row in rows for record in row.records for name in record.scores}
    others = {name for name in names if "/" not in name} - {protocol.metric}
    metrics = [protocol.metric, *in_order(others)]
    heads = ["Encoder", *(metric_of(name).spelling for name in metrics)]
    caption = f"{protocol.id}, version {protocol.version}"
    sizes = dict.fromkeys(size_text(b) for row in rows if (b := row.main_bounds) is not None)
    if sizes:
        caption += f"; 95 % intervals over {', '.join(sizes)}"
    found = findings.detectable.get((protocol.id, protocol.version))
    if found is not None:
        least = metric_of(protocol.metric).shown(found.difference)
        caption += f"; smallest difference shown at {100 * found.power:.0f} %: {least}"
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        " & ".join(map(latex_text, heads)) + r" \\",
        r"\midrule",
    ]
    for row, bold in zip(measured, best, strict=True):
        lines.append(_latex_row(latex_text(row.first.encoder.name), row, metrics, bold))
    reported = [row for row in rows if not row.is_measured]
    if measured and reported:
        lines.append(r"\midrule")
    for row in reported:
        assert row.first.source is not None
        name = f"{row.first.encoder.name} [{row.first.source.paper}]"
        lines.append(_latex_row(latex_text(name), row, metrics, False))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _latex_row(encoder: str, row: EncoderRow, metrics: Sequence[str], bold: bool) -> str:
    cells = [encoder]
    for i, name in enumerate(metrics):
        score, bounds = row.score(name), row.bounds(name)
        if score is None:
            cells.append("--")
            continue
        metric = metric_of(name)
        text = metric.shown(score)
        text = rf"\mathbf{{{text}}}" if bold and i == 0 else text
        if bounds is not None:
            text += rf"_{{[{metric.shown(bounds.low)},\,{metric.shown(bounds.high)}]}}"
        cells.append(f"${text}$")
    return " & ".join(cells) + r" \\"


def latex_text(text: str) -> str:
    r"""Text with everything that LaTeX would read as a command escaped.

    Example:
        >>> print(latex_text("pe_spatial 50%"))
        pe\_spatial 50\%
    """
    return "".join(_LATEX.get(character, character) for character in text)


# ---- OpenMMLab ---------------------------------------------------------------------------------


def render_metafile(records: Sequence[Record]) -> dict[str, str]:
    """Files of OpenMMLab's model index: model-index.yml, and configs/<task>/metafile.yml.

    Measured records only; metrics in percent, as there. The layout is the one that `mim` reads
    (Collections and Models with Name, In Collection, Config, Metadata, Results).
    """
    measured = sorted((r for r in records if r.origin == "measured"), key=record_path)
    files: dict[str, str] = {}
    imports = []
    for task in sorted({record.task for record in measured}):
        rows = [record for record in measured if record.task == task]
        collections = sorted({_family(record) for record in rows})
        content = {
            "Collections": [{"Name": name, "Paper": dict(PAPER)} for name in collections],
            "Models": [_model(record) for record in rows],
        }
        name = f"configs/{task}/metafile.yml"
        files[name] = yaml.safe_dump(content, sort_keys=False, width=100)
        imports.append(name)
    return {"model-index.yml": yaml.safe_dump({"Import": imports}), **files}


def _family(record: Record) -> str:
    return f"{record.protocol.id} on ViT"


def _model(record: Record) -> dict:
    config = _CONFIG.search(record.command)
    hardware, cost = record.hardware, record.cost
    assert hardware is not None and record.code is not None
    metadata = {
        "Architecture": [record.encoder.name],
        "Parameters": record.encoder.num_params,
        "Training Data": record.dataset.name,
        "Training Resources": hardware.gpu or f"{hardware.cores} CPU cores",
        "Weights": record.encoder.weights,
    }
    if cost.peak_memory_gib is not None:
        metadata["Memory (GB)"] = round(cost.peak_memory_gib, 2)
    metrics = {
        metric_of(name).spelling: _rounded(name, value)
        for name, value in sorted(record.scores.items())
    }
    name = "_".join(record_path(record).with_suffix("").parts)
    return {
        "Name": name,
        "In Collection": _family(record),
        **({"Config": config[0]} if config else {}),
        "Metadata": metadata,
        "Results": [
            {
                "Task": record.task.replace("_", " ").title(),
                "Dataset": f"{record.dataset.name} {record.dataset.split}",
                "Metrics": metrics,
            }
        ],
        "Code": {"Version": record.code.commit},
    }


def _rounded(name: str, value: float) -> float | int:
    metric = metric_of(name)
    return round(metric.scale * value, 2 if metric.is_fraction else 4 if metric.decimals else None)
