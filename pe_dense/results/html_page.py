"""The leaderboard as one HTML file: sortable, with intervals, records and charts; no network.

The file holds the records as JSON and page/page.js draws them; page/page.css is its look. Texts
of records are never HTML: they are data, and the script shows them as text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.results.leaderboard import (
    about_protocol,
    best_first,
    by_protocol,
    difference_to_reported,
    ordered_metrics,
    reported_scores,
)
from pe_dense.results.rank_groups import Rank
from pe_dense.results.record import Record, is_fraction
from pe_dense.results.store import record_path, weights_tag

PAGE = Path(__file__).parent / "page"


def render_html(records: Sequence[Record], ranks: Mapping[str, Rank] | None = None) -> str:
    """The page; the same records give the same bytes.

    Args:
        records: Records in any order.
        ranks: Path of a record in its store -> its rank, as `comparison.rank_records` gives it.

    Raises:
        ValueError: If records of one protocol version disagree on what it measures.
    """
    # '<' cannot end the script element when it is written as an escape.
    text = json.dumps(page_data(records, ranks or {}), sort_keys=True, separators=(",", ":"))
    parts = {
        "@STYLE@": (PAGE / "page.css").read_text(encoding="ascii"),
        "@SCRIPT@": (PAGE / "page.js").read_text(encoding="ascii"),
        "@DATA@": text.replace("<", "\\u003c"),
    }
    page = (PAGE / "page.html").read_text(encoding="ascii")
    for name, part in parts.items():
        assert page.count(name) == 1, f"page.html must have {name} once"
        before, after = page.split(name)
        page = before + part.rstrip("\n") + after
    return page


def page_data(records: Sequence[Record], ranks: Mapping[str, Rank]) -> list[dict[str, Any]]:
    """What the script draws: one entry a protocol version, rows best first.

    Raises:
        ValueError: As `render_html`.
    """
    sections = []
    for group in by_protocol(records):
        rows = best_first(group)
        protocol = rows[0].protocol
        names = {name for record in rows for name in record.scores} - {protocol.metric}
        metrics = ordered_metrics(protocol.metric, names)
        reported = reported_scores(rows)
        sections.append(
            {
                "id": protocol.id,
                "version": protocol.version,
                "task": rows[0].task,
                "dataset": rows[0].dataset.name,
                "metric": protocol.metric,
                "fraction": is_fraction(protocol.metric),
                "higher": protocol.higher_is_better,
                "about": about_protocol(rows),
                "metrics": [{"name": m, "fraction": is_fraction(m)} for m in metrics],
                "rows": [_row(record, ranks, reported) for record in rows],
            }
        )
    return sections


def _row(record: Record, ranks: Mapping[str, Rank], reported: Mapping[str, float]) -> dict:
    name, rank = record.encoder.name, ranks.get(str(record_path(record)))
    source = record.source
    return {
        "encoder": name,
        "family": encoder_family(name),
        "origin": record.origin,
        "weights": weights_tag(record) if record.origin == "measured" else "",
        "group": None if rank is None else rank.group,
        "p": None if rank is None else rank.p_adjusted,
        "difference": difference_to_reported(record, reported),
        "source": "" if source is None else f"{source.paper}, {source.table}",
        "mark": "" if source is None else source.mark,
        "record": dataclasses.asdict(record),
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
