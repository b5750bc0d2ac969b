"""What stands in a folder of predictions beside the files of each picture: index and detections.

`index.json` says what was made of which file by which checkpoint and command. `detections.json`
is a COCO data set whose annotations have a score; `json.load(...)["annotations"]` is what
pycocotools' `loadRes` takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pe_dense.files import atomic_file
from pe_dense.predict.inputs import Source
from pe_dense.predict.journal import Journal

INDEX, DETECTIONS = "index.json", "detections.json"


@dataclass(frozen=True)
class CocoIds:
    """How a COCO file calls pictures and classes.

    Attributes:
        images: Id of each picture, by name.
        categories: Id of each class, by label.
    """

    images: dict[str, int]
    categories: tuple[int, ...]


def own_ids(sources: Sequence[Source], classes: Sequence[str]) -> CocoIds:
    """Numbers from 1, pictures in their order and classes by label."""
    images = {source.name: number for number, source in enumerate(sources, start=1)}
    return CocoIds(images, tuple(range(1, len(classes) + 1)))


def ids_of_file(file: Path, sources: Sequence[Source], classes: Sequence[str]) -> CocoIds:
    """The ids that a COCO file has for these pictures and classes.

    A picture is the image whose `file_name` is its name, or else the only one that ends in the
    same file.

    Raises:
        ValueError: If the file is none, or lacks one.
    """
    try:
        data = json.loads(file.read_bytes())
        by_name = {str(image["file_name"]): int(image["id"]) for image in data["images"]}
        by_class = {str(one["name"]): int(one["id"]) for one in data["categories"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--ids {file} is no COCO file with images and categories ({error}); name one"
        ) from error
    ends: dict[str, list[int]] = {}
    for name, image_id in by_name.items():
        ends.setdefault(PurePosixPath(name).name, []).append(image_id)
    images = {}
    for source in sources:
        same_end = ends.get(PurePosixPath(source.name).name, [])
        known = by_name.get(source.name, same_end[0] if len(same_end) == 1 else None)
        if known is None:
            raise ValueError(
                f"--ids {file} has no image {source.name}; name the file of these pictures, or "
                "leave --ids out"
            )
        images[source.name] = known
    lacking = [name for name in classes if name not in by_class]
    if lacking:
        raise ValueError(
            f"--ids {file} has no category {lacking[0]!r}, which the model predicts; name the file "
            "of the data that it was trained on, or leave --ids out"
        )
    if len(set(images.values())) < len(images):
        raise ValueError(
            f"several pictures are one image of --ids {file}; name the pictures as it does"
        )
    return CocoIds(images, tuple(by_class[name] for name in classes))


def predicted(
    sources: Sequence[Source], journal: Journal, failed: Mapping[str, str]
) -> list[Source]:
    """Those that the folder has, in order; not one that failed now and was there before."""
    return [s for s in sources if s.name in journal.done and str(s.file) not in failed]


def write_index(
    out: Path,
    head: Mapping[str, Any],
    sources: Sequence[Source],
    journal: Journal,
    failed: Mapping[str, str],
) -> None:
    """Write `index.json`: the head, then the pictures in order, then those that failed and why."""
    pictures = []
    for source in predicted(sources, journal, failed):
        done = journal.done[source.name]
        width, height = done.size
        known = dict(name=source.name, file=done.file, width=width, height=height)
        pictures.append({**known, **done.outputs, **done.facts})
    reasons = [dict(file=file, reason=reason) for file, reason in failed.items()]
    text = json.dumps({**head, "pictures": pictures, "failed": reasons}, indent=1)
    with atomic_file(out / INDEX) as file:
        file.write_text(text + "\n", encoding="utf-8")


def write_detections(
    out: Path, sources: Sequence[Source], journal: Journal, classes: Sequence[str], ids: CocoIds
) -> int:
    """Write `detections.json` of predicted pictures, one by one; returns how many there are."""
    images = [
        dict(id=ids.images[s.name], file_name=s.name, width=size[0], height=size[1])
        for s in sources
        for size in [journal.done[s.name].size]
    ]
    categories = [
        dict(id=category, name=name) for category, name in zip(ids.categories, classes, strict=True)
    ]
    head = json.dumps(dict(images=images, categories=categories))[:-1]
    number = 0
    with atomic_file(out / DETECTIONS) as file, file.open("w", encoding="utf-8") as text:
        text.write(f'{head}, "annotations": [')
        for row in _annotations(sources, journal, ids):
            text.write(f"{',' if number else ''}\n{json.dumps(row)}")
            number += 1
        text.write("\n]}\n")
    return number


def _annotations(
    sources: Sequence[Source], journal: Journal, ids: CocoIds
) -> Iterator[dict[str, Any]]:
    number = 0
    for source in sources:
        for row in journal.found(source.name):
            number += 1
            _, _, width, height = row["bbox"]
            named = dict(id=number, image_id=ids.images[source.name])
            named["category_id"] = ids.categories[row["category_id"] - 1]
            yield {**row, **named, "area": width * height, "iscrowd": 0}
