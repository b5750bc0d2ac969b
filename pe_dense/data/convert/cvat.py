"""CVAT's XML: pictures with shapes ('CVAT for images'), and tracks through a video.

Coordinates are pixels from the upper left corner. Of overlapping shapes the higher `z_order` lies
on top. A mask is run lengths, background first, row by row inside its own rectangle. A shape of a
track holds in its frame alone; 'outside' means that the object is not to be seen there. CVAT writes
every frame of a track; where one is left out between two others, a box is taken in between.

Source: docs.cvat.ai, XML annotation format 1.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from pe_dense.data.checks.rules import Rule
from pe_dense.data.convert.image_places import ImagePlaces, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NO_AREA,
    NO_IMAGE,
    OTHER_TAGS,
    ROTATED,
    SHORT,
    UNLABELLED,
    LabelledImage,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_in,
    split_of_path,
)
from pe_dense.data.convert.outlines import box_of_mask, ellipse, rectangle, runs_of
from pe_dense.data.convert.plain_xml import NoXmlError, number, read_xml

OUTSIDE = Rule(
    "outside-frames",
    "frames of tracks in which the object is outside (no object)",
    is_problem=False,
)
OCCLUDED = Rule("occluded-objects", "objects marked occluded (kept)", is_problem=False)
BETWEEN = Rule(
    "frames-in-between",
    "boxes between two frames of a track (taken in between)",
    is_problem=False,
)
_AREAS = ("box", "polygon", "mask", "ellipse")
_NO_AREAS = ("polyline", "points", "cuboid", "skeleton", "tag")


def read_cvat(root: Path) -> LabelledSet:
    """A folder with CVAT XML files and their pictures.

    Raises:
        ValueError: If a file cannot be understood, or is for a picture of another size.
    """
    found = LabelledSet(root, "cvat")
    places = ImagePlaces(root)
    names: dict[str, None] = {}
    labelled: dict[Path, LabelledImage] = {}
    for file in files_below(root, (".xml",)):
        tree = read_xml(file)
        if tree.tag != "annotations":
            found.found.add(OTHER_TAGS, "", f"is <{tree.tag}>, not of CVAT", file)
            continue
        found.read.append(file)
        for label in tree.iter("label"):
            if label.find("name") is not None:
                names[clean(label.findtext("name") or "")] = None
        _images(found, file, tree, places, labelled)
        if tree.find("track") is not None:
            _tracks(found, file, tree, places, labelled)
        others = Counter(c.tag for c in tree if c.tag not in ("version", "meta", "image", "track"))
        for tag, count in others.items():
            for _ in range(count):
                found.found.add(OTHER_TAGS, "", f"has <{tag}>", file)
    for image in places.files:
        if image not in labelled:
            found.add_image(image, split_of_path(image.relative_to(root).as_posix()))
            found.found.add(UNLABELLED, image.name, "is in no XML", image.parent)
    used = {shape.label for image in found.images for shape in image.shapes}
    # Labels of points and lines alone are no classes of boxes or masks.
    kept = [name for name in names if name in used or not used]
    unused = [name for name in names if name not in used]
    if used and unused:
        found.how.append(f"labels without a box or mask, left out: {', '.join(unused)}")
    return found.finish(kept if used <= set(names) else None)


def _images(
    found: LabelledSet, file: Path, tree: Element, places: ImagePlaces,
    labelled: dict[Path, LabelledImage],
) -> None:  # fmt: skip
    for element in tree.findall("image"):
        name = element.get("name") or ""
        image = places.named(name, [file.parent / "images", file.parent], file)
        if image is None:
            found.found.add(NO_IMAGE, f"image {name!r}", "has no file", file)
            continue
        if image in labelled:
            raise ValueError(f"{file} labels {name} twice; keep one of them")
        split = split_in(element.get("subset") or "") or split_of_path(
            image.relative_to(found.root).as_posix()
        )
        entry = labelled[image] = found.add_image(image, split)
        _require_size(file, name, element, entry)
        where = f"image {name!r}"
        for k, item in enumerate(element):
            shape = _shape(found, file, where, item, item.get("label"), entry.size, k)
            if shape is not None:
                entry.shapes.append(shape)
        if not len(element):
            found.found.add(EMPTY, where, "has no shape", file)


def _require_size(file: Path, name: str, element: Element, entry: LabelledImage) -> None:
    if element.get("width") is None:
        return
    said = tuple(int(number(element, side, file)) for side in ("width", "height"))
    if said != entry.size:
        raise ValueError(
            f"{file} has image {name} with {said[0]} x {said[1]} px, but {entry.file} has "
            f"{entry.size[0]} x {entry.size[1]}; put the right picture there"
        )


def _shape(
    found: LabelledSet, file: Path, where: str, item: Element, label: str | None,
    size: tuple[int, int], k: int,
) -> Shape | None:  # fmt: skip
    """One shape; None for what is no box or mask, which is counted."""
    if item.tag in _NO_AREAS:
        found.found.add(NO_AREA, where, f"has a <{item.tag}> of {label!r}", file)
        return None
    if item.tag not in _AREAS:
        found.found.add(OTHER_TAGS, where, f"has <{item.tag}>", file)
        return None
    name, here = clean(label or ""), f"{file}: {where}"
    if not name:
        raise ValueError(f"{here} has a <{item.tag}> without a label; export it again")
    found.found.add_count(OCCLUDED, int(item.get("occluded") == "1"))
    order = float(item.get("z_order") or 0) + k * 1e-6
    degrees = float(item.get("rotation") or 0)
    if item.tag == "mask":
        mask = _mask(item, here, size)
        box = box_of_mask(mask)
        if box is None:
            raise ValueError(f"{here} has a mask of {name!r} without a pixel; take it out")
        return Shape(name, box, runs=runs_of(mask), order=order)
    if item.tag == "polygon":
        outline = _points(item, here)
        if len(outline) < 6:
            found.found.add(SHORT, where, f"has a polygon of {len(outline) // 2} points", file)
            return None
        return Shape(name, bounds([outline]), (outline,), order=order)
    if item.tag == "ellipse":
        cx, cy, rx, ry = (number(item, n, here) for n in ("cx", "cy", "rx", "ry"))
        outline = ellipse(cx, cy, rx, ry, degrees)
        return Shape(name, bounds([outline]), (outline,), order=order)
    x1, y1, x2, y2 = (number(item, n, here) for n in ("xtl", "ytl", "xbr", "ybr"))
    if degrees % 360 == 0:
        return Shape(name, (x1, y1, x2, y2), order=order)
    found.found.add(ROTATED, where, f"has a box of {name!r} turned by {degrees:g} degrees", file)
    outline = rectangle(x1, y1, x2, y2, degrees)
    return Shape(name, bounds([outline]), (outline,), order=order)


def _points(item: Element, where: str) -> tuple[float, ...]:
    text = item.get("points") or ""
    try:
        values = [float(v) for pair in text.split(";") if pair for v in pair.split(",")]
    except ValueError:
        values = [0.0]
    if len(values) % 2 or not np.isfinite(values).all():
        raise ValueError(f"{where} has points {text[:40]!r}, not 'x,y;x,y;...'; export it again")
    return tuple(values)


def _mask(item: Element, where: str, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of the whole picture, of run lengths inside a rectangle."""
    left, top, width, height = (int(number(item, n, where)) for n in
                                ("left", "top", "width", "height"))  # fmt: skip
    try:
        runs = np.array([int(v) for v in (item.get("rle") or "").split(",")], dtype=np.int64)
    except ValueError:
        runs = np.array([-1])
    inside = left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]
    if (runs < 0).any() or runs.sum() != width * height or not inside:
        raise ValueError(
            f"{where} has a mask of {width} x {height} px at ({left}, {top}) whose {runs.sum()} "
            f"runs do not fill it, or that is not inside {size[0]} x {size[1]}; export it again"
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[top : top + height, left : left + width] = values.reshape(height, width)
    return mask


# ---- tracks --------------------------------------------------------------------------------------


def _tracks(
    found: LabelledSet, file: Path, tree: Element, places: ImagePlaces,
    labelled: dict[Path, LabelledImage],
) -> None:  # fmt: skip
    frames = _frames(file, places)
    meta = tree.find("meta")
    size = None if meta is None else meta.find(".//original_size")
    entries: dict[int, LabelledImage] = {}
    for frame, image in frames.items():
        if image in labelled:
            raise ValueError(f"{image} is labelled by {file} and by another XML; keep one of them")
        split = split_of_path(image.relative_to(found.root).as_posix())
        task = next((t.text for t in tree.iter("subset") if t.text), None)
        entry = found.add_image(
            image, split_in(task or "") or split, sequence=file.relative_to(found.root).as_posix()
        )
        if size is not None:
            _require_size_of_video(file, size, entry)
        entries[frame] = labelled[image] = entry
    for k, track in enumerate(tree.findall("track")):
        where = f"track {track.get('id')}"
        for frame, item in _filled(found, file, where, track, entries):
            if frame not in entries:
                found.found.add(NO_IMAGE, where, f"has frame {frame}, which has no picture", file)
                continue
            if item.get("outside") == "1":
                found.found.add_count(OUTSIDE, 1)
                continue
            place = f"{where}, frame {frame}"
            entry = entries[frame]
            shape = _shape(found, file, place, item, track.get("label"), entry.size, k)
            if shape is not None:
                entry.shapes.append(shape)
    found.found.add_count(EMPTY, sum(not entry.shapes for entry in entries.values()))


def _require_size_of_video(file: Path, size: Element, entry: LabelledImage) -> None:
    said = tuple(int(number(size, side, file)) for side in ("width", "height"))
    if said != entry.size:
        raise ValueError(
            f"{file} is for frames of {said[0]} x {said[1]} px, but {entry.file} has "
            f"{entry.size[0]} x {entry.size[1]}; write the frames at their own size"
        )


def _frames(file: Path, places: ImagePlaces) -> dict[int, Path]:
    """Number of a frame -> picture, by the last number in its name."""
    near = [p for p in places.files if p.parent in (file.parent, file.parent / "images")]
    numbered: dict[int, Path] = {}
    for image in near or places.files:
        digits = re.findall(r"\d+", image.stem)
        if not digits:
            continue
        other = numbered.setdefault(int(digits[-1]), image)
        if other != image:
            raise ValueError(
                f"{file} numbers frames of a video, but {other.name} and {image.name} both end in "
                f"{int(digits[-1])}; put its frames, frame_000000.png and on, beside it"
            )
    if not numbered:
        raise ValueError(
            f"{file} has tracks of a video, but there are no frames beside it; write them, "
            "numbered from 0: ffmpeg -i VIDEO -start_number 0 -qscale:v 2 images/frame_%06d.jpg"
        )
    return numbered


def _filled(
    found: LabelledSet, file: Path, where: str, track: Element, frames: Mapping[int, LabelledImage]
) -> Iterator[tuple[int, Element]]:
    """Frames of a track and their shape, with boxes in between where frames are left out."""
    items = sorted((int(number(item, "frame", file)), i, item) for i, item in enumerate(track)
                   if item.get("frame") is not None)  # fmt: skip
    for (frame, _, item), following in zip(items, [*items[1:], None], strict=True):
        yield frame, item
        if following is None or item.get("outside") == "1":
            continue
        last, _, end = following
        for between in range(frame + 1, last):
            if between not in frames:
                continue
            if item.tag != "box" or end.tag != "box":
                raise ValueError(
                    f"{file}: {where} leaves out frame {between} between two <{item.tag}>; export "
                    "it from CVAT with every frame"
                )
            share = (between - frame) / (last - frame)
            box = Element("box", dict(item.attrib))
            for edge in ("xtl", "ytl", "xbr", "ybr"):
                a, b = number(item, edge, file), number(end, edge, file)
                box.set(edge, repr(a + share * (b - a)))
            found.found.add_count(BETWEEN, 1)
            yield between, box


def is_cvat(root: Path) -> bool:
    """Whether a folder has CVAT's XML."""
    for file in files_below(root, (".xml",))[:20]:
        try:
            if read_xml(file).tag == "annotations":
                return True
        except NoXmlError:
            continue
    return False
