"""PASCAL VOC XML: a file for every picture, boxes with the first and last pixel that they cover.

VOC counts pixels from 1 and means the last one as inside, so a box from 1 to 10 covers the edges 0
to 10. Many tools count from 0; a set in which a box begins at 0 is read so, which is said.

Source: the development kit of VOC 2012 (devkit_doc, "Annotation": the top-left pixel in the image
has coordinates (1,1)); detectron2 @ 02b5c4e, data/datasets/pascal_voc.py, subtracts the same 1.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

from pe_dense.data.checks.rules import Rule
from pe_dense.data.convert.image_places import ImagePlaces, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NAMELESS,
    NO_IMAGE,
    OTHER_TAGS,
    ROTATED,
    UNLABELLED,
    LabelledImage,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_in,
    split_of_path,
)
from pe_dense.data.convert.outlines import rectangle
from pe_dense.data.convert.plain_xml import NoXmlError, number, read_xml

PARTS = Rule("parts-of-objects", "parts of objects (head, hand ...), not read", is_problem=False)
DIFFICULT = Rule(
    "difficult-objects", "objects marked difficult, which VOC ignores", is_problem=False
)
_OBJECT_TAGS = {
    "name", "bndbox", "difficult", "truncated", "occluded", "pose", "part", "polygon", "robndbox",
    "type", "point", "actions",
}  # fmt: skip
_TOP_TAGS = {
    "folder", "filename", "path", "source", "size", "segmented", "object", "owner", "annotator",
    "verified",
}  # fmt: skip


def read_voc(root: Path, origin: int | None = None) -> LabelledSet:
    """A folder of VOC XML files.

    Args:
        root: The folder.
        origin: Number of the first pixel, 0 or 1; None finds out.

    Raises:
        ValueError: If a file is no VOC annotation, or of a picture of another size.
    """
    found = LabelledSet(root, "voc")
    places = ImagePlaces(root)
    lists = _lists(found)
    trees: list[tuple[Path, Element, LabelledImage]] = []
    labelled: dict[Path, Path] = {}
    for file in files_below(root, (".xml",)):
        tree = read_xml(file)
        if tree.tag != "annotation":
            found.found.add(OTHER_TAGS, "", f"is <{tree.tag}>, no VOC annotation", file)
            continue
        found.read.append(file)
        image = _image(file, tree, places, root)
        if image is None:
            found.found.add(NO_IMAGE, "", f"has no picture {tree.findtext('filename')!r}", file)
            continue
        if image in labelled:
            raise ValueError(
                f"{labelled[image]} and {file} both label {image.name}; keep one of them"
            )
        labelled[image] = file
        name = image.relative_to(root).as_posix()
        split = lists.get(image.stem) if lists else split_of_path(name)
        entry = found.add_image(image, split)
        _require_size(file, tree, entry)
        trees.append((file, tree, entry))
    if origin is None:
        origin = _origin(found, [(file, tree) for file, tree, _ in trees])
    for file, tree, entry in trees:
        _count_other_tags(found, file, tree)
        entry.shapes = [
            shape
            for k, item in enumerate(tree.findall("object"), start=1)
            if (shape := _shape(found, file, item, k, origin)) is not None
        ]
        if not tree.findall("object"):
            found.found.add(EMPTY, "", "has no object", file)
    for image in places.files:
        if (
            image not in labelled
            and "SegmentationClass" not in image.parts
            and ("SegmentationObject" not in image.parts)
        ):
            name = image.relative_to(root).as_posix()
            found.add_image(image, lists.get(image.stem) if lists else split_of_path(name))
            found.found.add(UNLABELLED, image.name, "has no label file", image.parent)
    if lists:
        left = [image for image in found.images if image.split is None]
        if left:
            found.images = [image for image in found.images if image.split is not None]
            found.how.append(f"{len(left)} pictures that no list names are left out")
    return found.finish()


def _lists(found: LabelledSet) -> dict[str, str]:
    """Stem -> split, of ImageSets/Main/{train,val,test}.txt."""
    splits: dict[str, str] = {}
    folder = found.root / "ImageSets" / "Main"
    files = [f for f in sorted(folder.glob("*.txt")) if split_in(f.stem)] if folder.is_dir() else []
    for file in files:
        found.read.append(file)
        split = split_in(file.stem)
        assert split is not None
        for line in file.read_text(encoding="utf-8-sig").splitlines():
            if not line.split():
                continue
            stem = line.strip()
            if splits.setdefault(stem, split) != split:
                raise ValueError(
                    f"{file} lists {stem}, which is in {splits[stem]} too; each picture belongs to "
                    "one split"
                )
    if splits:
        found.how.append("splits: ImageSets/Main")
    return splits


def _image(file: Path, tree: Element, places: ImagePlaces, root: Path) -> Path | None:
    near = [file.parent, file.parent.parent / "JPEGImages", file.parent.parent / "images"]
    named = (tree.findtext("filename") or "").strip()
    by_stem = places.of_stem(file.stem, near, file)
    by_name = places.named(named, near, file) if named else None
    if by_name is None or by_stem is None or by_name == by_stem:
        return by_name or by_stem
    raise ValueError(
        f"{file} says it labels {named}, but {by_stem.name} has its own name, and both are there; "
        "correct <filename>"
    )


def _require_size(file: Path, tree: Element, image: LabelledImage) -> None:
    size = tree.find("size")
    if size is None:
        return
    said = tuple(int(number(size, name, file)) for name in ("width", "height"))
    if said in ((0, 0), image.size):
        return
    turned = (
        ", which is how it is stored before its Exif entry turns it"
        if (said == image.size[::-1] and image.orientation > 4)
        else ""
    )
    width, height = image.size
    raise ValueError(
        f"{file} is for a picture of {said[0]} x {said[1]}{turned}, but {image.file} has {width} x "
        f"{height}; label it anew, or put the right picture there"
    )


def _origin(found: LabelledSet, trees: list[tuple[Path, Element]]) -> int:
    for file, tree in trees:
        for item in tree.findall("object"):
            box = item.find("bndbox")
            if box is not None and min(number(box, n, file) for n in ("xmin", "ymin")) < 1:
                found.how.append(
                    f"boxes count pixels from 0, as one of {file.name} begins there (--voc-origin)"
                )
                return 0
    found.how.append("boxes count pixels from 1 to the last inside, as VOC does (--voc-origin)")
    return 1


def _shape(found: LabelledSet, file: Path, item: Element, k: int, origin: int) -> Shape | None:
    where = f"{file}: object {k}"
    label = clean(item.findtext("name") or "")
    if not label:
        found.found.add(NAMELESS, f"object {k}", "has no name", file)
        return None
    difficult = (item.findtext("difficult") or "0").strip() == "1"
    found.found.add_count(DIFFICULT, int(difficult))
    box, turned = item.find("bndbox"), item.find("robndbox")
    if turned is not None:
        cx, cy, w, h, angle = (number(turned, n, where) for n in ("cx", "cy", "w", "h", "angle"))
        degrees = math.degrees(angle)  # roLabelImg writes radians
        outline = rectangle(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, degrees)
        found.found.add(ROTATED, f"object {k}", f"is turned by {angle:g}", file)
        return Shape(label, bounds([outline]), (outline,), ignore=difficult, order=k)
    if box is None:
        raise ValueError(f"{where} ({label}) has no bndbox; give it one, or take it out")
    x1, y1, x2, y2 = (number(box, n, where) for n in ("xmin", "ymin", "xmax", "ymax"))
    edges = x1 - origin, y1 - origin, x2, y2
    return Shape(label, edges, _polygon(item, where), ignore=difficult, order=k)


def _polygon(item: Element, where: str) -> tuple[tuple[float, ...], ...]:
    """<polygon><x1>..</x1><y1>..</y1>...: an outline in pixels, as Roboflow adds it."""
    polygon = item.find("polygon")
    if polygon is None:
        return ()
    points: list[float] = []
    k = 1
    while polygon.find(f"x{k}") is not None:
        points += [number(polygon, f"x{k}", where), number(polygon, f"y{k}", where)]
        k += 1
    return (tuple(points),) if len(points) >= 6 else ()


def _count_other_tags(found: LabelledSet, file: Path, tree: Element) -> None:
    others = Counter(child.tag for child in tree if child.tag not in _TOP_TAGS)
    for item in tree.findall("object"):
        others += Counter(child.tag for child in item if child.tag not in _OBJECT_TAGS)
        found.found.add_count(PARTS, len(item.findall("part")))
    for tag, count in sorted(others.items()):
        for _ in range(count):
            found.found.add(OTHER_TAGS, "", f"has <{tag}>", file)


def is_voc(root: Path) -> bool:
    """Whether a folder has VOC XML files."""
    for file in files_below(root, (".xml",))[:20]:
        try:
            if read_xml(file).tag == "annotation":
                return True
        except NoXmlError:
            continue
    return False
