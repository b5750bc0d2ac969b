"""What alignment on photos did to clips of mini world 2: the table behind the records.

    python benchmarks/experiments/align_world2.py

align_real.py asked on real clips, where the last block of its tower is hardly worse than an inner
one. On the generated clips of world 2 it is much worse, as in PE (arXiv:2504.13181),
so that there is something to bring to it. The towers are those of align_real.py, seed 1 (`again`:
seed 2), aligned with 100 photos; no generated picture was ever shown to them. The records are of
`mini2-vos-last-layer` and `mini2-vos-one-layer` (the sixth block), made by tools/test.py; this
script only compares them, clip by clip.

This was asked after the answer on real clips was known: it shows that there is an effect and what
the controls say of it, and replaces none of what was fixed before.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pe_dense.files import atomic_write_text  # noqa: E402
from pe_dense.results.evidence_file import load_evidence  # noqa: E402
from pe_dense.results.record import Record  # noqa: E402
from pe_dense.results.statistics import paired_difference  # noqa: E402
from pe_dense.results.store import load_records  # noqa: E402

RECORDS = ROOT / "benchmarks/records"
ENCODER = "timm:vit_small_patch14_dinov2.lvd142m"
LAST, INNER = "mini2-vos-last-layer", "mini2-vos-one-layer"
BEFORE = "imgfocus_vit_s14.safetensors"
ALIGNED = "imgfocus_vit_s14_aligned_{}.safetensors"
# Rows of the table: words, weights, protocol.
ROWS = (
    ("before, sixth block", BEFORE, INNER),
    ("before", BEFORE, LAST),
    ("own best inner block (block 7)", ALIGNED.format("block"), LAST),
    ("the same, another seed", ALIGNED.format("block_again"), LAST),
    ("instance masks", ALIGNED.format("masks"), LAST),
    ("block and masks", ALIGNED.format("both"), LAST),
    ("control: own last block", ALIGNED.format("last"), LAST),
    ("the same, another seed", ALIGNED.format("last_again"), LAST),
    ("control: block of another picture", ALIGNED.format("shuffled"), LAST),
    ("random weights, not aligned", "random", LAST),
)
COLUMNS = (
    "last_block_of", "weights", "weights_sha256", "protocol", "J&F", "low", "high", "minus_before",
    "minus_low", "minus_high", "blind", "clips", "commit",
)  # fmt: skip
NAME = Path(__file__).with_suffix("")


def main() -> None:
    """Write align_world2.csv."""
    records = {
        (record.encoder.weights, record.protocol.id): record
        for record in load_records(RECORDS)
        if record.encoder.name == ENCODER and record.task == "tracking"
    }
    before = evidence_of(records[BEFORE, LAST])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for words, weights, protocol in ROWS:
        record = records[weights, protocol]
        gap = paired_difference(evidence_of(record), before, "J&F")
        assert record.ci95 and record.blind and record.code, "a record of tools/test.py has them"
        interval = record.ci95["J&F"][0]
        numbers = record.scores["J&F"], interval.low, interval.high
        gaps = gap.difference, gap.low, gap.high
        table.writerow(
            [
                words, weights, record.encoder.weights_sha256, protocol,
                *(f"{value:.4f}" for value in (*numbers, *gaps, max(record.blind.values()))),
                record.dataset.num_items, record.code.commit,
            ]
        )  # fmt: skip
    atomic_write_text(NAME.with_suffix(".csv"), text.getvalue())


def evidence_of(record: Record) -> object:
    """What a record was scored from."""
    assert record.evidence is not None, "a record of tools/test.py has evidence"
    return load_evidence(RECORDS / record.evidence.file, record.evidence.sha256)


if __name__ == "__main__":
    main()
