"""Frozen blocks of a real encoder under a detector: is an inner one better than the last?

    python benchmarks/experiments/layers_detection.py --weights vit_s14.safetensors --data BCCD \
        [--only block7]

Beside layers_real.py, whose tower it is (`imgfocus_vit_s14`, and the same tower drawn at random
with gains of 1). DETA of configs/detection/deta_custom.py on BCCD, 224 px, the encoder frozen and
read at one block; a detector is trained for every one, so that it is three blocks and a control.
Each is trained and scored by the tools; layers_detection.csv has what the records say, and the
difference to the last block, paired by image. A run that has a record is skipped, one that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from real_encoder import REAL, ROOT, random_weights
from tool_calls import call

from pe_dense.files import atomic_write_text
from pe_dense.results.evidence_file import load_evidence
from pe_dense.results.record import Record
from pe_dense.results.statistics import paired_difference
from pe_dense.results.store import load_records
from pe_dense.run import command_line

CONFIG = "configs/detection/deta_custom.py"
OPTIONS = ("tune=frozen", "image_scale=(224,224)", "max_iters=300")
LAST = REAL.depth - 1
# Name of a run -> tower and block, 0-based.
RUNS = {
    "block3": ("pretrained", 3),
    "block7": ("pretrained", 7),
    "last": ("pretrained", LAST),
    "random": ("random", LAST),
}
COLUMNS = (
    "tower", "block", "AP", "low", "high", "minus_last", "minus_low", "minus_high", "blind",
    "images", "weights_sha256", "options", "protocol", "commit",
)  # fmt: skip


def main() -> None:
    """Run what has no record yet, and write the table."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help=f"file for {REAL.encoder}")
    parser.add_argument("--data", type=Path, required=True, help="folder of BCCD")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/layers_detection"))
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    work = args.work_dir.absolute()
    towers = {
        "pretrained": args.weights.absolute(),
        "random": random_weights(REAL, work / "random.safetensors", 0),
    }
    for name in args.only:
        tower, block = RUNS[name]
        run(work / name, towers[tower], block, args.data.absolute())
    write({name: one for name in RUNS for one in load_records(work / name / "records")}, work)


def run(place: Path, weights: Path, block: int, data: Path) -> None:
    """Train and score one detector, unless it has a record."""
    records = place / "records"
    if any(records.rglob("*.json")):
        return
    options = [f"data_root={data}", f"model.backbone.out_indices=[{block}]", *OPTIONS]
    call(
        [sys.executable, "tools/train.py", CONFIG, "--resume", "--encoder", REAL.encoder,
         "--weights", str(weights), "--work-dir", str(place / "run"), "--cfg-options", *options],
        place / "training.txt",
    )  # fmt: skip
    scoring = [sys.executable, "tools/test.py", "--records", str(records), str(place / "run")]
    call(scoring, place / "scoring.txt")


def write(records: dict[str, Record], work: Path) -> None:
    """Write layers_detection.csv beside this file."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, record in records.items():
        assert record.ci95 and record.blind and record.code, "a record of tools/test.py has them"
        tower, block = RUNS[name]
        interval, gap = record.ci95["AP"][0], ["", "", ""]
        if "last" in records and name != "last":
            own, last = evidence(work, name, record), evidence(work, "last", records["last"])
            found = paired_difference(own, last, "AP")
            gap = [f"{value:.4f}" for value in (found.difference, found.low, found.high)]
        scores = record.scores["AP"], interval.low, interval.high
        table.writerow(
            [
                tower, block, *(f"{value:.4f}" for value in scores), *gap,
                f"{max(record.blind.values()):.4f}", record.dataset.num_items,
                record.encoder.weights_sha256, " ".join(OPTIONS), record.protocol.id,
                record.code.commit,
            ]
        )  # fmt: skip
    atomic_write_text(ROOT / "benchmarks/experiments/layers_detection.csv", text.getvalue())


def evidence(work: Path, name: str, record: Record) -> Any:
    """What a record was scored from."""
    assert record.evidence is not None, "a record of tools/test.py has evidence"
    return load_evidence(work / name / "records" / record.evidence.file, record.evidence.sha256)


if __name__ == "__main__":
    command_line.run(main)
