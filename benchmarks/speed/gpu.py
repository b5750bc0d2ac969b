"""Speed on a GPU: every fast path beside a plain form or a peer, and beside its floor.

    python benchmarks/speed/gpu.py                         # all sections, on the first CUDA device
    python benchmarks/speed/gpu.py encoder propagation     # some of them
    python benchmarks/speed/gpu.py --tiny --out rows.csv   # does every section run? also on a CPU
    python benchmarks/speed/gpu.py encoder:40 data:10      # no part starts after so many seconds

Rows of the sections that ran replace their older rows in gpu.csv, after every section, so that an
interruption loses one section. A part that fails is a FAILED row with its sentence, the others go
on, and the exit code is 1. A section that is over its time skips its other parts: NOT RUN rows.
`gpu_table.py` puts the table into docs/speed.md. How a section is written: `gpu_bench.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch
from gpu_bench import Bench, Row
from gpu_table import COLUMNS, CSV_FILE, SECTIONS, merge_rows, read_rows, write_rows
from measure import ROOT, hardware, versions


def text(number: float | None) -> str:
    """Three significant digits without an exponent; nothing for None."""
    if number is None:
        return ""
    return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"


def cells(section: str, part: str, row: Row, about: dict[str, str]) -> dict[str, str]:
    """A row as the text of its columns; numbers with three significant digits."""
    ours, plain = row.ours, row.plain
    over_plain = ours.ms / plain.ms if ours and plain else None
    over_floor = ours.ms / row.floor_ms if ours and row.floor_ms else None
    values = {
        "section": section,
        "part": row.part or part,
        "status": row.status,
        "ours_ms": text(ours and ours.ms),
        "plain_name": row.plain_name,
        "plain_ms": text(plain and plain.ms),
        "floor_ms": text(row.floor_ms),
        "floor_by": row.floor_by,
        "ours_over_plain": text(over_plain),
        "ours_over_floor": text(over_floor),
        "share_of_peak": text(row.share_of_peak),
        "ours_gib": text(ours and ours.gib),
        "plain_gib": text(plain and plain.gib),
        "equal": row.equal,
        "target": row.target,
        "note": row.note,
        **about,
    }
    assert tuple(values) == COLUMNS
    return values


def failed(error: BaseException) -> Row:
    """A row that says in one line what went wrong."""
    sentence = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Row(status="FAILED", note=sentence)


def run_section(
    name: str, bench: Bench, about: dict[str, str], seconds: float = math.inf
) -> list[dict[str, str]]:
    """All rows of a section; what fails is a FAILED row, and the rest goes on.

    Args:
        name: Of the section.
        bench: What it measures with.
        about: The last columns.
        seconds: No part starts after them, counted from when the section is imported.
    """
    rows: list[dict[str, str]] = []

    def add(part: str, row: Row) -> None:
        rows.append(cells(name, part, row, about))
        shown = [f"{key}={value}" for key, value in list(rows[-1].items())[:16] if value]
        print(*shown, sep="  ", flush=True)

    try:
        section = importlib.import_module(f"gpu_sections.{name}")
        begin = time.perf_counter()
        for part, measure_part in section.parts(bench):
            if time.perf_counter() - begin > seconds:
                add(part, Row(status="NOT RUN", note=f"the section was over its {seconds:g} s"))
                continue
            try:
                result = measure_part()
                for row in [result] if isinstance(result, Row) else result:
                    add(part, row)
            except Exception as error:
                traceback.print_exc()
                add(part, failed(error))
            bench.free()
            print(f"  {time.perf_counter() - begin:.1f} s", flush=True)
    except Exception as error:
        traceback.print_exc()
        add("the section itself", failed(error))
    return rows


def limited(word: str, parser: argparse.ArgumentParser) -> tuple[str, float]:
    """'encoder:40' -> ('encoder', 40.0); without a number no limit."""
    name, _, seconds = word.partition(":")
    try:
        return name, float(seconds or math.inf)
    except ValueError:
        parser.error(f"{word} is not SECTION or SECTION:SECONDS")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION[:S]", help=", ".join(SECTIONS))
    parser.add_argument("--device", help="default: cuda where torch finds it, else cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes; always on a CPU")
    parser.add_argument("--out", type=Path, help="CSV file; default benchmarks/speed/gpu.csv")
    args = parser.parse_args()
    limits = dict(limited(word, parser) for word in args.sections or SECTIONS)
    sections = list(limits)
    if unknown := [name for name in sections if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    tiny = args.tiny or device == "cpu"
    if tiny and args.out is None:
        parser.error("tiny sizes say nothing about speed: name another file with --out")
    out = args.out or CSV_FILE
    warnings.simplefilter("ignore")
    bench = Bench.start(device, tiny)
    tera = bench.ceilings.operations / 1e12, bench.ceilings.bytes / 1e12
    machine = f"{hardware(device)}, {tera[0]:.3g} TFLOP/s, {tera[1]:.3g} TB/s"
    print(machine, flush=True)
    about = {
        "hardware": machine,
        "versions": versions(*["triton"] * (importlib.util.find_spec("triton") is not None)),
    }
    num_failed = 0
    for name in sections:
        begin = time.perf_counter()
        command = f"python {Path(__file__).resolve().relative_to(ROOT).as_posix()} {name}"
        rows = run_section(name, bench, {**about, "command": command}, limits[name])
        num_failed += sum(row["status"] == "FAILED" for row in rows)
        write_rows(out, merge_rows(read_rows(out), rows, [name]))
        print(f"{name}: {len(rows)} rows in {time.perf_counter() - begin:.0f} s", flush=True)
    print(f"wrote {out}" + (f"; {num_failed} FAILED" if num_failed else ""))
    return 1 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
