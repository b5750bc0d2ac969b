"""Writes a checkpoint as a folder for the Hugging Face Hub, and sends it there.

python tools/publish.py work_dirs/my_run --name OWNER/NAME --dry-run --out folder
python tools/publish.py work_dirs/my_run --name OWNER/NAME --out folder

The folder holds model.safetensors, config.json and README.md, the model card; nothing in it runs
code. It is read back before it is kept. Then, anywhere: load("hf://OWNER/NAME"), or load("folder").
Without --dry-run it is sent to the Hub as the person who has logged in with: hf auth login.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pe_dense.results.store import OWN_ROOT
from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint file, or a work dir")
    parser.add_argument("--name", required=True, help="OWNER/NAME of the repository")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--dry-run", action="store_true", help="write the folder and send nothing")
    parser.add_argument("--private", action="store_true", help="a repository that only you see")
    parser.add_argument(
        "--records", type=Path, default=OWN_ROOT, help="root of its records (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a folder of before")
    return parser.parse_args()


def main() -> None:
    """Write, read back, send."""
    args = parse_args()
    owner, _, name = args.name.partition("/")
    if not owner or not name or "/" in name:
        raise ValueError(f"--name {args.name} is not OWNER/NAME")
    from pe_dense.export.publish import upload, write_folder  # heavy: torch

    folder = write_folder(args.checkpoint, args.out, args.name, Path(args.records), args.overwrite)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: model.safetensors, config.json, README.md, {size:.1f} MB; read back")
    if args.dry_run:
        print(f"not sent; load it with load({str(folder)!r})")
    else:
        print(upload(folder, args.name, args.private))


if __name__ == "__main__":
    command_line.run(main)
