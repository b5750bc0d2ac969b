"""Seconds and memory of the index of tar shards, on a million made-up images.

1,000 shards of 1,000 tiny JPEGs and as many JSON files, as WebDataset's writer makes them (a pax
header a member, because times have fractions); what is read is in the memory of the system, so the
numbers are those of the processor and not of a disk. Imports are not in them.

'scanned by every process' is what was done before there was an index: tarfile on all shards and a
list of all images in each process. 'built' has no index, 'built, four at once' neither, for four
processes as on four GPUs; 'second start' finds one, until the first image of the sampler is known.
Memory is that of a process above what it had before, after it has looked at every page of the
index: of its own ('private'), and in pages that all processes of the machine share.
Target: 5 s for the second start.

    python benchmarks/speed/shard_index_cpu.py
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measure import FOLDER, MIB, command_line, hardware, versions, write_rows

SHARDS, IMAGES = 1_000, 1_000
TARGET_S = {"second start": 5.0}


def write_shards(root: Path, shards: int) -> int:
    """Tar files of JPEGs that differ in a comment, each with a JSON file; their bytes together."""
    plain = cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8))[1].tobytes()
    for shard in range(shards):
        with tarfile.open(root / f"{shard:06d}.tar", "w") as tar:
            for number in range(shard * IMAGES, (shard + 1) * IMAGES):
                name = f"{number:09d}"
                comment = b"\xff\xfe" + (len(name) + 2).to_bytes(2, "big") + name.encode()
                image = plain[:2] + comment + plain[2:]
                text = json.dumps({"key": name, "caption": "a grey square"}).encode()
                for end, content in (("jpg", image), ("json", text)):
                    member = tarfile.TarInfo(f"{name}.{end}")
                    member.size, member.mtime = len(content), 1_700_000_000.25
                    tar.addfile(member, io.BytesIO(content))
    return sum(path.stat().st_size for path in root.glob("*.tar"))


def listed_by_scanning(root: Path) -> Any:
    """The images as every process listed them before there was an index."""
    from pe_dense.data.tar_members import tar_members_slowly
    from pe_dense.data.unlabelled_images import UnlabelledImages

    class Scanned(UnlabelledImages):
        def load_data_list(self) -> list[dict[str, Any]]:
            return [
                {"shard": shard.name, "name": name, "offset": offset, "num_bytes": num_bytes}
                for shard in sorted(root.glob("*.tar"))
                for name, offset, num_bytes in tar_members_slowly(shard)
                if name.endswith(".jpg")
            ]

    return Scanned(root)


def memory() -> tuple[int, int]:
    """Bytes of this process alone, and of pages of the index."""
    private = index = 0
    in_index = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if "-" in key.split(" ")[0]:  # the first line of a mapping
            in_index = line.endswith(".idx")
        elif key in ("Private_Clean", "Private_Dirty") and not in_index:
            private += int(rest.split()[0]) * 1024
        elif key == "Rss" and in_index:
            index += int(rest.split()[0]) * 1024
    return private, index


def open_images(root: Path, scan: bool) -> None:
    """Open the data set in this process; prints seconds, processor seconds and memory."""
    from mmengine.logging import MMLogger

    from pe_dense.data.image_shards import ShardedImages, ShardOrderSampler

    MMLogger.get_instance("quiet", log_level="ERROR")
    gc.collect()
    before, _ = memory()
    start, busy = time.perf_counter(), processor_seconds()
    if scan:
        images = listed_by_scanning(root)
    else:
        images = ShardedImages(root)
        sampler = ShardOrderSampler(images, seed=0)
        images.get_data_info(next(iter(sampler)))
        assert len(images.image_set_sha256) == 64
    seconds, busy = time.perf_counter() - start, processor_seconds() - busy
    if not scan:
        index = images.index
        assert int(index._columns.sum()) > 0 and int(index._names.max()) > 0  # every page
    gc.collect()
    private, shared = memory()
    print(json.dumps([len(images), seconds, busy, private - before, shared]))


def processor_seconds() -> float:
    """Of this process and of those that it started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measured(root: Path, processes: int = 1, scan: bool = False) -> dict[str, Any]:
    """The longest time of so many processes at once; processor time summed; the most memory."""
    command = [sys.executable, __file__, "--open", str(root), *(["--scan"] if scan else [])]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    found = [json.loads(p.communicate()[0].splitlines()[-1]) for p in started]
    num, seconds, busy, private, shared = zip(*found, strict=True)
    return {
        "processes": processes,
        "images": num[0],
        "seconds": round(max(seconds), 2),
        "processor_seconds": round(sum(busy), 2),
        "private_mib": round(max(private) / MIB, 1),
        "shared_mib": round(max(shared) / MIB, 1),
    }


def main() -> None:
    """Make the shards, measure, write shard_index_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scan", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="write no file, with 20 shards")
    args = parser.parse_args()
    if args.open:
        open_images(args.open, args.scan)
        return
    shards = 20 if args.dry else SHARDS
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tar_bytes = write_shards(root, shards)
        load = os.getloadavg()[0]
        found["built"] = measured(root)
        index_bytes = sum(path.stat().st_size for path in (root / ".pe_dense").iterdir())
        found["second start"] = measured(root)
        found["second start, four at once"] = measured(root, 4)
        shutil.rmtree(root / ".pe_dense")
        found["built, four at once"] = measured(root, 4)
        found["scanned by every process"] = measured(root, scan=True)
    rows = [
        {
            "case": case,
            "shards": shards,
            **numbers,
            "tar_mib": round(tar_bytes / MIB),
            "index_mib": round(index_bytes / MIB, 1) if "scanned" not in case else "",
            "target_seconds": TARGET_S.get(case, ""),
            "load_before": round(load, 1),
            "hardware": hardware(),
            "versions": versions("numpy", "onedl-mmengine"),
            "command": command_line(),
        }
        for case, numbers in found.items()
    ]
    for row in rows:
        print(row)
    if not args.dry:
        write_rows(FOLDER / "shard_index_cpu.csv", rows, key=("case",))


if __name__ == "__main__":
    main()
