"""tools/predict.py on 500 pictures of all kinds and 20 broken files: nothing lost, all named.

    python benchmarks/experiments/predict_many.py CHECKPOINT --work-dir DIR

Pictures are those of the tests (tests/predict/picture_zoo.py: grey, CMYK, 16 bits, palettes, alpha,
Exif-turned, JPEG, PNG, TIFF, WebP, BMP, GIF, PPM, of one pixel, one row, very long). Broken are
empty and cut files, text and an archive that are called pictures, heads that lie, and a picture of
3.6 billion pixels in a file of half a megabyte. CHECKPOINT is of a segmentation. Exit code 1 if a
picture is lost, a broken file is not named, or the tool's own exit code is not 1.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "predict"))

from picture_zoo import write_broken, write_zoo  # noqa: E402

BOMB_SIDE = 60_000


def main() -> int:
    """Make the files, predict, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True, help="new folder")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--broken", type=int, default=20, help="2 or more")
    args = parser.parse_args()
    source, out = args.work_dir.absolute() / "in", args.work_dir.absolute() / "out"
    pictures = write_zoo(source, args.pictures)
    broken = write_broken(source / "broken", args.broken - 2)
    broken += [archive(source / "broken/archive.jpg"), bomb(source / "broken/bomb.png")]
    command = [sys.executable, str(ROOT / "tools/predict.py"), str(args.checkpoint), str(source)]
    done = subprocess.run(
        [*command, "--out", str(out), "--overlays"], capture_output=True, text=True, check=False
    )
    index = json.loads((out / "index.json").read_text())
    predicted = {row["file"] for row in index["pictures"]}
    named = {file for file in map(str, broken) if f"not predicted: {file}: " in done.stderr}
    print(f"{len(predicted)} of {len(pictures)} pictures predicted")
    print(f"{len(named)} of {len(broken)} broken files named; exit code {done.returncode}")
    is_right = predicted == set(map(str, pictures)) and len(named) == len(broken)
    made = all((out / row["labels"]).is_file() for row in index["pictures"])
    return 0 if is_right and made and done.returncode == 1 else 1


def archive(path: Path) -> Path:
    """Ten million zeros in a few kilobytes, called a picture."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.txt", bytes(10**7))
    path.write_bytes(content.getvalue())
    return path


def bomb(path: Path) -> Path:
    """A sound PNG of more pixels than any reader should make room for."""
    Image.new("1", (BOMB_SIDE, BOMB_SIDE)).save(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
