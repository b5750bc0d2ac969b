"""Trains a small detector on generated scenes for two encoders and prints the leaderboard.

python tools/demo.py                 about six minutes on two CPU cores; no data, no weights, no GPU
python tools/demo.py --encoders pe_spatial_t16_512

Makes the mini world in data/mini, runs the suite `mini` and shows its table; an interrupted demo
goes on with the same command. The three commands are printed; each can be typed by itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--encoders",
        nargs="+",
        default=["pe_spatial_t16_512", "pe_core_t16_384"],
        metavar="NAME",
        help="zoo names or timm:<model> (%(default)s)",
    )
    add("--work-dir", default="work_dirs/demo", help="folder of runs and records (%(default)s)")
    return parser.parse_args()


def main() -> int:
    """Run the three steps; the exit code of the first that fails, else 0."""
    args = parse_args()
    records = f"{args.work_dir}/records"
    suite = ["--suite", "mini", "--encoders", *args.encoders, "--work-dir", args.work_dir]
    for name, words in (
        ("prepare_data", ["mini", "--out", "data/mini"]),
        ("benchmark", [*suite, "--records", records]),
        ("leaderboard", ["show", "--records", records]),
    ):
        print(command_line.as_typed(" ".join([f"$ python tools/{name}.py", *words])), flush=True)
        tool = [sys.executable, "-m", "pe_dense", name]
        if code := subprocess.run([*tool, *words], check=False).returncode:
            return code
    print(f"The same as a page: {Path(args.work_dir) / 'leaderboard.html'}")
    return 0


if __name__ == "__main__":
    command_line.run(main, goes_on=True)
