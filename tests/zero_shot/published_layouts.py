"""Published data sets as they lie on disk, with a few tiny pictures of noise in their places."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

WORDNET = ("n01440764", "n01443537", "n01484850", "n01491361", "n03773504", "n04008634")


def noise(count: int) -> list[bytes]:
    """JPEG files of noise of several sizes, no two alike."""
    rng, files = np.random.default_rng(0), []
    for _ in range(count):
        content = io.BytesIO()
        pixels = rng.integers(0, 256, (*rng.integers(12, 30, 2), 3), np.uint8)
        Image.fromarray(pixels).save(content, format="JPEG")
        files.append(content.getvalue())
    return files


def class_folders(root: Path, folders: tuple[str, ...], each: int, ending: str) -> Path:
    """`each` pictures below every folder."""
    pictures = iter(noise(len(folders) * each))
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for place in range(each):
            (root / folder / f"{folder.replace('/', '_')}_{place}{ending}").write_bytes(
                next(pictures)
            )
    return root


def named_sets(root: Path) -> dict[str, str]:
    """ImageNet val, v2, A and R, and ObjectNet: data set -> its folder."""
    class_folders(root / "imagenet" / "val", WORDNET, 2, ".JPEG")
    v2 = root / "v2" / "imagenetv2-matched-frequency-format-val"
    class_folders(v2, tuple(map(str, range(len(WORDNET)))), 2, ".jpeg")
    for name in ("a", "r"):
        class_folders(root / name, WORDNET[:4], 3, ".jpg")
        (root / name / "README.txt").write_text("as the archive has it")
    labels = {"air_freshener": "Air freshener", "band_aid": "Band Aid", "mug": "Mug"}
    class_folders(root / "objectnet" / "images", tuple(labels), 3, ".png")
    mappings = {
        "folder_to_objectnet_label": labels,
        "objectnet_to_imagenet_1k": {"Band Aid": "Band Aid", "Mug": "cup"},
    }
    (root / "objectnet" / "mappings").mkdir()
    for name, table in mappings.items():
        (root / "objectnet" / "mappings" / f"{name}.json").write_text(json.dumps(table))
    return {
        "imagenet": str(root / "imagenet"), "imagenet-v2": str(root / "v2"),
        "imagenet-a": str(root / "a"), "imagenet-r": str(root / "r"),
        "objectnet": str(root / "objectnet"),
    }  # fmt: skip


def captioned_sets(root: Path, count: int) -> dict[str, str]:
    """COCO and Flickr30k with Karpathy's files: data set -> its folder."""
    for name, folder, filepath in (
        ("coco", "val2014", "val2014"), ("flickr30k", "flickr30k-images", None),
    ):  # fmt: skip
        images = []
        (root / name / folder).mkdir(parents=True)
        for place, content in enumerate(noise(count + 2)):
            file = f"{name}_{place:012d}.jpg"
            (root / name / folder / file).write_bytes(content)
            said = [{"raw": f"picture {place // 2} said for time {turn}."} for turn in range(3)]
            entry = {"filename": file, "split": "test" if place < count else "train"}
            entry |= {"sentences": said} | ({"filepath": filepath} if filepath else {})
            images.append(entry)
        (root / name / f"dataset_{name}.json").write_text(json.dumps({"images": images}))
    return {"coco": str(root / "coco"), "flickr30k": str(root / "flickr30k")}
