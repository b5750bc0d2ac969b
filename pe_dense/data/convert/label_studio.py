"""Label Studio's JSON and JSON-MIN exports.

Coordinates are percent of the picture. A rectangle is turned about its upper left corner, an
ellipse about its middle. The brush's masks are packed numbers (`brush_runs`). Later regions lie on
top. The export names pictures as they were uploaded (/data/upload/1/0f1e2d3c-a.jpg), or where they
lay (/data/local-files/?d=...): a picture of that path or name is looked for below the folder, with
and without the eight digits in front.

Source: labelstud.io/guide/export and .../guide/task_format; label-studio-sdk 2.1, converter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from pe_dense.data.checks.rules import Rule
from pe_dense.data.convert.brush_runs import brush_mask
from pe_dense.data.convert.image_places import ImagePlaces, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NAMELESS,
    NO_AREA,
    NO_IMAGE,
    ROTATED,
    SEVERAL_NAMES,
    SHORT,
    UNLABELLED,
    LabelledImage,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_of_path,
)
from pe_dense.data.convert.outlines import box_of_mask, ellipse, rectangle, runs_of

SEVERAL = Rule(
    "several-annotations",
    "tasks annotated more than once",
    "keep one annotation a task",
    "the latest one is used",
)
UNANSWERED = Rule(
    "unfinished-tasks",
    "tasks without an annotation, or with one that was skipped",
    "finish them, or take them out of the export",
    "kept as pictures without objects",
)
GUESSES = Rule("predictions", "predictions of models, not read", is_problem=False)
_KINDS = {
    "rectanglelabels": "rectangle", "rectangle": "rectangle", "polygonlabels": "polygon",
    "polygon": "polygon", "brushlabels": "brush", "brush": "brush", "ellipselabels": "ellipse",
    "ellipse": "ellipse",
}  # fmt: skip


def is_label_studio(content: Any) -> bool:
    """Whether what a JSON holds is an export of Label Studio."""
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        return False
    task = content[0]
    is_task = "data" in task and bool({"annotations", "completions"} & set(task))
    return is_task or ("annotation_id" in task and "id" in task)


def read_label_studio(root: Path) -> LabelledSet:
    """A folder with exports of Label Studio and their pictures.

    Raises:
        ValueError: If an export cannot be understood, or is for a picture of another size.
    """
    found = LabelledSet(root, "labelstudio")
    places = ImagePlaces(root)
    labelled: dict[Path, Path] = {}
    for file in files_below(root, (".json",)):
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        if not is_label_studio(content):
            continue
        found.read.append(file)
        for k, task in enumerate(content, start=1):
            where = f"task {task.get('id', k)}"
            source = _source(task)
            image = _picture(source, places, file)
            if image is None:
                found.found.add(NO_IMAGE, where, f"is of {source!r}, which is not there", file)
                continue
            if image in labelled:
                raise ValueError(f"{file}: {where} is of {image.name}, as another is; keep one")
            labelled[image] = file
            name = image.relative_to(root).as_posix()
            entry = found.add_image(image, split_of_path(name))
            results = _results(found, file, where, task)
            entry.shapes = list(_shapes(found, file, where, results, entry))
            if not results:
                found.found.add(EMPTY, where, "has no region", file)
    for image in places.files:
        if image not in labelled:
            found.add_image(image, split_of_path(image.relative_to(root).as_posix()))
            found.found.add(UNLABELLED, image.name, "is in no task", image.parent)
    return found.finish()


def _source(task: Mapping[str, Any]) -> str:
    """What the task says its picture is: the only value of its data that names one."""
    data = task.get("data", task)
    keys = [k for k, v in data.items() if isinstance(v, str) and re.search(r"\.\w{3,4}$", v)]
    usual = [k for k in ("image", "img", "photo") if isinstance(data.get(k), str)]
    key = (usual or keys or [""])[0]
    return str(data.get(key, ""))


def _picture(source: str, places: ImagePlaces, file: Path) -> Path | None:
    parsed = urlparse(source)
    path = parse_qs(parsed.query).get("d", [unquote(parsed.path)])[0].lstrip("/")
    if not path:
        return None
    near = [file.parent, file.parent / "images"]
    image = places.named(path, near, file)
    base = path.replace("\\", "/").rpartition("/")[2]
    plain = re.sub(r"^[0-9a-f]{8}-", "", base)
    return image or (places.named(plain, near, file) if plain != base else None)


def _results(
    found: LabelledSet, file: Path, where: str, task: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Regions of a task's annotation."""
    found.found.add_count(GUESSES, len(task.get("predictions") or ()))
    if "data" not in task:  # JSON-MIN: lists of regions under the names of the labelling tags
        return [
            {"type": _kind_of_min(value), "value": value, **{k: value.get(k) for k in _SIZES}}
            for key, values in task.items()
            if isinstance(values, list)
            for value in values
            if isinstance(value, Mapping)
        ]
    annotations = task.get("annotations", task.get("completions")) or []
    valid = [a for a in annotations if not a.get("was_cancelled") and not a.get("skipped")]
    if not valid:
        found.found.add(UNANSWERED, where, "has no annotation", file)
        return []
    if len(valid) > 1:
        found.found.add(SEVERAL, where, f"has {len(valid)} annotations", file)
        valid.sort(
            key=lambda a: (str(a.get("updated_at", a.get("created_at", ""))), a.get("id", 0))
        )
    return list(valid[-1].get("result") or [])


_SIZES = ("original_width", "original_height", "image_rotation")


def _kind_of_min(value: Mapping[str, Any]) -> str:
    labels = [key for key in value if key.endswith("labels") and key in _KINDS]
    return labels[0] if labels else "choices"


def _shapes(
    found: LabelledSet, file: Path, where: str, results: list[Mapping[str, Any]],
    entry: LabelledImage,
) -> Iterator[Shape]:  # fmt: skip
    names: dict[str, list[str]] = {}
    for result in results:
        value = result.get("value") or {}
        named = [n for key, n in value.items() if key == "labels" or key.endswith("labels")]
        if named and isinstance(named[0], list):
            names.setdefault(str(result.get("id")), []).extend(map(str, named[0]))
    done: set[str] = set()
    for k, result in enumerate(results):
        kind, region = _KINDS.get(str(result.get("type"))), str(result.get("id"))
        if kind is None:
            if result.get("type") != "labels" or region not in names:
                found.found.add(NO_AREA, where, f"has a region {result.get('type')!r}", file)
            continue
        if result.get("id") is not None and region in done:
            continue  # a shape and its label are two results of one id
        done.add(region)
        value = result.get("value") or {}
        own = [str(n) for key, v in value.items() if key.endswith("labels") for n in v]
        labels = list(dict.fromkeys(map(clean, own or names.get(region, []))))
        if not labels:
            found.found.add(NAMELESS, where, f"has a {kind} without a label", file)
            continue
        if len(labels) > 1:
            found.found.add(SEVERAL_NAMES, where, f"has a {kind} called {labels}", file)
        _require_size(file, where, result, entry)
        shape = _shape(found, file, where, kind, value, labels[0], entry, k)
        if shape is not None:
            yield shape


def _require_size(file: Path, where: str, result: Mapping[str, Any], entry: LabelledImage) -> None:
    if result.get("image_rotation"):
        raise ValueError(
            f"{file}: {where} was labelled with the picture turned by "
            f"{result['image_rotation']} degrees; turn the picture itself and label it anew"
        )
    said = result.get("original_width"), result.get("original_height")
    if said[0] and said[1] and said != entry.size:
        raise ValueError(
            f"{file}: {where} is for a picture of {said[0]} x {said[1]}, but {entry.file} has "
            f"{entry.size[0]} x {entry.size[1]}; put the right picture there"
        )


def _shape(
    found: LabelledSet, file: Path, where: str, kind: str, value: Mapping[str, Any], label: str,
    entry: LabelledImage, k: int,
) -> Shape | None:  # fmt: skip
    here = f"{file}: {where}"
    width, height = entry.size
    if kind == "brush":
        try:
            mask = brush_mask(value.get("rle") or [], entry.size)
        except ValueError as error:
            raise ValueError(f"{here} {error}") from None
        box = box_of_mask(mask)
        if box is None:
            found.found.add(SHORT, where, f"has an empty mask of {label!r}", file)
            return None
        return Shape(label, box, runs=runs_of(mask), order=k)
    if kind == "polygon":
        points = value.get("points") or []
        outline = tuple(
            _percent(v, side, here)
            for point in points
            for v, side in zip(point, (width, height))  # noqa: B905
        )
        if len(outline) < 6:
            found.found.add(SHORT, where, f"has a polygon of {len(outline) // 2} points", file)
            return None
        return Shape(label, bounds([outline]), (outline,), order=k)
    x, y = _percent(value.get("x"), width, here), _percent(value.get("y"), height, here)
    degrees = float(value.get("rotation") or 0)
    if kind == "ellipse":
        rx = _percent(value.get("radiusX"), width, here)
        ry = _percent(value.get("radiusY"), height, here)
        outline = ellipse(x, y, rx, ry, degrees)
        return Shape(label, bounds([outline]), (outline,), order=k)
    w, h = _percent(value.get("width"), width, here), _percent(value.get("height"), height, here)
    if degrees % 360 == 0:
        return Shape(label, (x, y, x + w, y + h), order=k)
    found.found.add(ROTATED, where, f"has a box of {label!r} turned by {degrees:g} degrees", file)
    outline = rectangle(x, y, x + w, y + h, degrees, (x, y))
    return Shape(label, bounds([outline]), (outline,), order=k)


def _percent(value: Any, side: int, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} has a coordinate {value!r}, not a number of percent; correct it")
    return value * side / 100
