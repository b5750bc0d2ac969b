"""Encoders around and above 2 GiB as ONNX files: size, difference to torch, memory, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/speed/export_large.py             # needs 20 GB of memory
    OMP_NUM_THREADS=1 python benchmarks/speed/export_large.py --only l14

tools/export.py writes each from random weights at 112 px and compares the file with torch on two
inputs, as always; a file above protobuf's 2 GiB has its weights beside it. What it prints, the most
memory that the process held and its processor time go to export_large.csv, a row for each.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import hardware, versions, write_rows  # noqa: E402

FILE = Path(__file__).with_suffix(".csv")
MODELS: Mapping[str, tuple[str, ...]] = {
    "l14": ("pe_core_l14_336",),
    "g14_15_blocks": ("pe_spatial_g14_448", "--layers", "14"),
    "g14": ("pe_spatial_g14_448",),
}
_SIZE = re.compile(r"1 at once, ([\d.]+) MB")
_DIFFERENCE = re.compile(r"differs from torch by (\S+) of the range, limit (\S+);")


def command_of(name: str, target: str) -> list[str]:
    """The arguments of a model's export."""
    encoder, *more = MODELS[name]
    return ["tools/export.py", "--encoder", encoder, *more, "--weights", "random",
            "--size", "112", "112", "--out", target]  # fmt: skip


def row_of(name: str, printed: str, peak_kib: int, seconds: float) -> dict[str, str]:
    """A row, from what the export printed.

    Raises:
        ValueError: If it printed no size or no difference.
    """
    size, found = _SIZE.search(printed), _DIFFERENCE.findall(printed)
    if size is None or not found:
        raise ValueError(f"the export of {name} said neither size nor difference: {printed[-800:]}")
    return {
        "model": name,
        "file_mb": size.group(1),
        "difference": f"{max(float(difference) for difference, _ in found):.1e}",
        "limit": found[0][1],
        "peak_gib": f"{peak_kib / 2**20:.1f}",
        "processor_s": f"{seconds:.0f}",
        "hardware": hardware(),
        "versions": versions("onnx", "onnxscript", "onnxruntime"),
        "command": " ".join(["python", *command_of(name, f"{name}.onnx")]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=MODELS, help="measure one of them")
    args = parser.parse_args()
    for name in [args.only] if args.only else MODELS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, *command_of(name, str(Path(folder, f"{name}.onnx")))]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-800:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        # The most of any child so far: the models grow.
        row = row_of(name, done.stdout, after.ru_maxrss, seconds)
        print(*(f"{key}={value}" for key, value in row.items()), flush=True)
        write_rows(FILE, [row], ("model",))


if __name__ == "__main__":
    main()
