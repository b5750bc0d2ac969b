"""What every protocol of this project holds out, on the published lists.

    python benchmarks/experiments/holdouts.py            # writes holdouts.csv beside this file
    python benchmarks/experiments/holdouts.py --check    # ends with 1 if that file is another

The lists are known by their sizes: images of every folder, drive or city, from
tests/golden/list_groups.json, which names their sources. Where images are held out one by one, as
in ADE20K and VOC, their number alone says how many. Rules and shares are read from the configs.

A near copy is an image whose drive, scene, city or video is on the other side. It is counted by the
names in the list, with the letter of a recording taken off, not by the groups that were held out.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pe_dense.data.holdout import hold_out  # noqa: E402
from pe_dense.data.image_groups import nyu_scene  # noqa: E402
from pe_dense.files import atomic_write_text  # noqa: E402
from pe_dense.run.config import load_template  # noqa: E402
from pe_dense.tracking.davis_dataset import DavisVideos, part_of_videos  # noqa: E402

TABLE = ROOT / "benchmarks/experiments/holdouts.csv"
LISTS = ROOT / "tests/golden/list_groups.json"
PROBES = {
    "segmentation/ade20k_linear_v1": "ade20k",
    "segmentation/voc2012_linear_v1": "voc2012",
    "segmentation/cityscapes_linear_v1": "cityscapes",
    "depth/nyu_linear_v1": "nyu",
    "depth/kitti_linear_v1": "kitti",
}
VIDEOS = {
    "tracking/davis2017_v1": "davis2017",
    "tracking/mose_v1": "mose",
    "tracking/youtubevos_v1": "youtube-vos",
}


@dataclass(frozen=True)
class Row:
    """One protocol.

    Attributes:
        protocol: Its id and version.
        counted: What the list counts: images, or videos.
        total: How many the list holds.
        held_out: How many choose layer and setting and are not trained on; of videos, those that
            choose and are not reported.
        share: Share of them, 0 to 1.
        grouped_by: 'sequence', 'image' or 'video'.
        groups, held_out_groups: Groups of the list, and those of them that are held out.
        largest_group: Share of the held-out images that the largest held-out group has.
        near_copies: Held-out images with a near copy on the other side.
    """

    protocol: str
    counted: str
    total: int
    held_out: int
    share: float
    grouped_by: str
    groups: int
    held_out_groups: int
    largest_group: float
    near_copies: int


def probe_row(config: str, known: Mapping[str, Any]) -> Row:
    """The holdout of a probing protocol."""
    template = load_template(ROOT / "configs" / f"{config}.py")
    share, rule = template.holdout_share, template.holdout_group
    if rule == "image":
        folders = [f"{i}.jpg" for i in range(known["images"])]  # names do not change the number
    else:
        folders = [name for name, count in known["sizes"].items() for _ in range(count)]
    is_nyu = template.dataset_type == "NYUDepthDataset"  # its list has folders, not scenes
    groups = [nyu_scene(f"{name}/rgb.jpg") for name in folders] if is_nyu else folders
    found = hold_out(groups, share, rule)
    places = [re.sub(r"(?<=_\d{4})[a-z]$", "", name) for name in folders]
    trained = {places[i] for i in found.train}
    held = [groups[i] for i in found.held]
    return Row(
        protocol=f"{template.protocol.id}-v{template.protocol.version}",
        counted="images",
        total=len(groups),
        held_out=len(held),
        share=round(found.share, 4),
        grouped_by=rule,
        groups=found.num_groups or 0,
        held_out_groups=found.num_held_groups or 0,
        largest_group=round(max(map(held.count, set(held))) / len(held), 4),
        near_copies=sum(places[i] in trained for i in found.held),
    )


def video_row(config: str, known: Mapping[str, Any]) -> Row:
    """Which videos choose, and which are reported."""
    template = load_template(ROOT / "configs" / f"{config}.py")
    dataset = template.test_dataloader.dataset
    if isinstance(known["videos"], list):  # official lists of both
        choosing, reported = known["videos"]
        names = [f"{part}-{i}" for part, n in (("c", choosing), ("r", reported)) for i in range(n)]
        parts = names[:choosing], names[choosing:]
    else:
        names = [f"video-{i}" for i in range(known["videos"])]
        share = dataset.get("val_share", DavisVideos(data_root="", lazy_init=True).val_share)
        wanted = (dataset.selection.part, dataset.part)
        parts = tuple(part_of_videos(names, part, share) for part in wanted)
    held = len(parts[0])
    return Row(
        protocol=f"{template.protocol.id}-v{template.protocol.version}",
        counted="videos",
        total=len(names),
        held_out=held,
        share=round(held / len(names), 4),
        grouped_by="video",
        groups=len(names),
        held_out_groups=held,
        largest_group=round(1 / held, 4),
        near_copies=len(set(parts[0]) & set(parts[1])),
    )


def table() -> str:
    """The rows of all protocols as CSV."""
    lists = json.loads(LISTS.read_text(encoding="utf-8"))
    rows = [probe_row(config, lists[name]) for config, name in PROBES.items()]
    rows += [video_row(config, lists[name]) for config, name in VIDEOS.items()]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows(astuple(row) for row in rows)
    return out.getvalue()


def main() -> int:
    """Write the table, or compare it with the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing, end with 1 if it differs"
    )
    arguments = parser.parse_args()
    text = table()
    print(text, end="")
    if arguments.check:
        return int(not TABLE.is_file() or TABLE.read_text(encoding="utf-8") != text)
    atomic_write_text(TABLE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
