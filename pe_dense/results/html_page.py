"""The leaderboard as one HTML file: sortable, with intervals, records and charts; no network.

The file holds the records as JSON, the scripts in page/ draw them, and page/page.css is its look.
Texts of records are never HTML: they are data, and the scripts show them as text. Besides, the page
allows no code, style or address but its own (Content-Security-Policy).
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.results.encoder_rows import NOTHING_FOUND, EncoderRow, Findings, encoder_rows
from pe_dense.results.leaderboard import EMPTY_PAGE
from pe_dense.results.metrics import in_order, metric_of
from pe_dense.results.record import Record
from pe_dense.results.row_notes import ONE_SEED, row_notes
from pe_dense.results.store import weights_tag
from pe_dense.results.tables import (
    ABSENT,
    GENERATED,
    about_protocol,
    blind_text,
    by_protocol,
    chosen_words,
    difference_to_reported,
    heading_of,
    mean_rank_table,
    power_text,
    reported_scores,
)

PAGE = Path(__file__).parent / "page"
# In this order they are one script: each uses only names of those before it until the page starts.
SCRIPTS = (
    "dom.js",
    "filters.js",
    "table.js",
    "chart.js",
    "plots.js",
    "record.js",
    "matrix.js",
    "page.js",
)


def render_html(records: Sequence[Record], findings: Findings = NOTHING_FOUND) -> str:
    """The page; the same records give the same bytes.

    Args:
        records: Records in any order.
        findings: What their evidence shows, as `findings.find` gives it.

    Raises:
        ValueError: If records of one protocol version disagree on what it measures.
    """
    found = findings.mean_ranks
    data = {
        "empty": EMPTY_PAGE,
        "sections": page_data(records, findings),
        "meanRanks": None if found is None else dataclasses.asdict(mean_rank_table(found)),
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in SCRIPTS)
    parts = {
        "@POLICY@": _policy(style, script),
        "@STYLE@": style,
        "@SCRIPT@": script,
        # '<' cannot end the script element when it is written as an escape.
        "@DATA@": text.replace("<", "\\u003c"),
    }
    page = _asset("page.html")
    # In one pass, so that '@STYLE@' in a record stays text.
    return re.sub("|".join(parts), lambda found: parts[found[0]], page)


def _asset(name: str) -> str:
    return (PAGE / name).read_text(encoding="ascii")


def _policy(style: str, script: str) -> str:
    """What the page may do: run this style and this script, and load nothing."""

    def allowed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; style-src {allowed(style)}; script-src {allowed(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def page_data(records: Sequence[Record], findings: Findings) -> list[dict[str, Any]]:
    """What the script draws: one entry per protocol version, rows best first.

    Raises:
        ValueError: As `render_html`.
    """
    sections = []
    for group in by_protocol(records):
        rows = encoder_rows(group, findings)
        first = rows[0].first
        protocol = first.protocol
        names = {name for record in group for name in record.scores} - {protocol.metric}
        reported = reported_scores(group)
        sections.append(
            {
                "id": protocol.id,
                "version": protocol.version,
                "task": first.task,
                "heading": heading_of(first),
                "dataset": first.dataset.name,
                "generated": first.dataset.name in GENERATED,
                "metric": protocol.metric,
                "higher": protocol.higher_is_better,
                "about": about_protocol(group),
                "power": power_text(protocol, findings),
                "blind": blind_text(group, findings),
                "blindLine": None if rows[0].blind is None else dataclasses.asdict(rows[0].blind),
                "metrics": [_metric(name) for name in [protocol.metric, *in_order(names)]],
                "rows": [_row(row, reported) for row in rows],
            }
        )
    return sections


def _metric(name: str) -> dict[str, Any]:
    metric = metric_of(name)
    return {
        "name": name,
        "spelling": metric.spelling,
        "unit": "%" if metric.is_fraction else metric.unit,
        "scale": metric.scale,
        "decimals": metric.decimals,
        "higher": metric.higher_is_better,
    }


def _row(row: EncoderRow, reported: Mapping[str, float]) -> dict[str, Any]:
    """One row; that of several seeds holds one for each of them."""
    first, rank, mean = row.first, row.rank, row.mean
    source, bounds = first.source, row.main_bounds
    names = {name for record in row.records for name in record.scores}
    scores = {name: row.score(name) for name in names}
    seeds: list[dict[str, Any]] = []
    if row.num_seeds > 1:
        alone = [EncoderRow((record,), None, None, row.blind) for record in row.records]
        seeds = [_row(one, {}) for one in alone]
        for seed in seeds:  # the row itself has several
            seed["notes"] = [note for note in seed["notes"] if note != ONE_SEED._asdict()]
    return {
        "encoder": first.encoder.name,
        "family": encoder_family(first.encoder.name),
        "origin": first.origin,
        "weights": weights_tag(first) if row.is_measured else "",
        "scores": {name: score for name, score in scores.items() if score is not None},
        "interval": None if bounds is None else bounds._asdict(),
        "errors": None
        if mean is None
        else {"items": mean.item_standard_error, "seeds": mean.seed_standard_error},
        "group": None if rank is None else rank.group,
        "p": None if rank is None else rank.p_adjusted,
        "difference": difference_to_reported(row, reported),
        "chosen": "" if (words := chosen_words(row)) == ABSENT else words,
        "sees": row.sees,
        "notes": [note._asdict() for note in row_notes(row)],
        "source": "" if source is None else f"{source.paper}, {source.table}",
        "mark": "" if source is None else source.mark,
        "seeds": seeds,
        "record": dataclasses.asdict(first),
    }


def encoder_family(name: str) -> str:
    """The family of an encoder, to filter by: what stands before its size.

    Example:
        >>> encoder_family("pe_spatial_t16_512"), encoder_family("dinov2_b14")
        ('pe_spatial', 'dinov2')
        >>> encoder_family("timm:vit_small_patch14_dinov2.lvd142m")
        'timm'
    """
    if name.startswith("timm:"):
        return "timm"
    words = name.split("_")
    return "_".join(words[:2]) if words[0] == "pe" else words[0]
