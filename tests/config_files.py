"""The files under configs/ that can be run."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from pe_dense.run.config import load_template

REPO = Path(__file__).resolve().parents[1]
NOT_RUN = {"_base_", "suites"}  # parts of configs, and lists of configs
OWN_DATA = {
    "pe_dense.data.checks.coco_folder:facts": "coco",
    "pe_dense.data.checks.own_depths:facts": "nyu",
    "pe_dense.data.checks.own_maps:facts": "ade",
    "pe_dense.tracking.own_video_facts:facts": "davis",
    "pe_dense.tracking.own_sequences:facts": "mot/test",
    "pe_dense.zero_shot.own_facts:class_facts": "ade/images",  # its two parts, as if classes
    "pe_dense.probing.classification.own_facts:facts": "ade/images",
}
CAPTIONS = "pe_dense.zero_shot.own_facts:caption_facts"
CONFIGS = sorted(p for p in (REPO / "configs").rglob("*.py") if not NOT_RUN & set(p.parts))


def named(path: Path) -> str:
    return str(path.relative_to(REPO))


@functools.cache
def captions_of_one_picture() -> Path:
    """A folder with the captions of a picture, or a video, that nobody opens."""
    folder = Path(tempfile.mkdtemp(prefix="captions"))
    line = {"image": "a.jpg", "captions": ["a picture"]}
    (folder / "captions.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def own_data(path: Path, mini_root: Path) -> dict[str, Any]:
    """Data for a config that asks for the user's own; the others need none to be loaded."""
    facts = load_template(path).get("data_facts")
    if facts == CAPTIONS:
        return {"data_root": str(captions_of_one_picture())}
    found = OWN_DATA.get(facts)
    options = {} if found is None else {"data_root": str(mini_root / found)}
    return options | ({"unlabelled": [0]} if found == "ade" else {})
