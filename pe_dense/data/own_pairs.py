"""Which pictures of a person's folder belong to which maps, and to which split, by their names.

A file is a map if the nearest folder that says something says so (masks/, labels/, annotations/,
SegmentationClass/, gtFine/, depth/ ...), or its name does at its end (x_mask.png beside x.jpg); all
other pictures are images. Words of a split in a folder's name (train, training, val, validation,
test) name the split. What is left of the path, without these words and without what names usually
end in (_leftImg8bit, _gtFine_labelTrainIds, .color, .depth ...), is the name by which image and map
find each other; where that fails, the end of the path alone, if it is unique.

Lists decide before folders: ImageSets/Segmentation/train.txt and val.txt, or train.txt and val.txt
at the top, in splits/ or in lists/, with a name or 'image map' on every line.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_dense.data.checks.picture_pairs import PICTURES, read_names, walk

_SPLIT = re.compile(
    r"(?:(train)(?:ing)?|(val)(?:id(?:ation)?)?|(test)(?:ing)?)(?:\d{4})?"
    r"(?:[_-]?(?:annot(?:ation)?s?|masks?|labels?|images?|imgs?|depths?))?"
)
_IMAGE_FOLDER = re.compile(
    r"images?|imgs?|img_dir|jpegimages|leftimg8bit(?:_trainvaltest)?|rgb|colou?r|photos?|pictures|"
    r"(?:train|val|valid|validation|test)[_-]?(?:images?|imgs?)|"
    r"images?[_-](?:train(?:ing)?|val(?:id(?:ation)?)?|test)"
)
_LIST_FOLDERS = ("ImageSets/Segmentation", "", "splits", "lists", "split")
_TRAIN_LISTS = ("train.txt", "training.txt")
_VAL_LISTS = ("val.txt", "valid.txt", "validation.txt", "test.txt")
MOST_LONELY = 0.5  # share of the maps without an image from which on names must be wrong


@dataclass(frozen=True)
class MapWords:
    """How files say that they are maps of a task.

    Attributes:
        title: What a map is called in messages.
        option: Option that names their folder.
        suffixes: Kinds of files.
        folder: Names of folders of maps.
        other_folder: Names of folders to be passed over.
        ends: Ends of names, the preferred ones first; '' is always one.
        other_ends: Ends of files to be passed over.
        image_ends: Ends of the names of images.
    """

    title: str
    option: str
    suffixes: tuple[str, ...]
    folder: re.Pattern[str]
    other_folder: re.Pattern[str]
    ends: tuple[str, ...]
    other_ends: re.Pattern[str]
    image_ends: re.Pattern[str]


_IMAGE_ENDS = re.compile(r"(?:_leftimg8bit|[._-](?:colou?r|rgb|images?|img|sat))$")
LABELS = MapWords(
    "label map",
    "masks",
    (*PICTURES, ".gif"),
    re.compile(
        r"masks?|labels?|annotations?|annots?|segmentationclass(?:aug|png|raw)?|segmentations?|"
        r"gt|gtfine(?:_trainvaltest)?|semantic|semseg|seg|label_?maps?|maps|ann|ann_dir|"
        r"ground_?truth|(?:train|val|valid|validation|test)[_-]?(?:annot|masks?|labels?)|"
        r"(?:masks?|labels?|annotations?)[_-](?:train(?:ing)?|val(?:id(?:ation)?)?|test)"
    ),
    re.compile(r"segmentationobject|instances?|visuali[sz]ations?|overlays?|.*visualization|"
               r"panoptic.*|annotations_instance|depths?|disparity"),
    ("_gtfine_labeltrainids", "_gtfine_labelids", "_labeltrainids", "_labelids", "_mask", "-mask",
     ".mask", "_masks", "_label", "_labels", "_segmentation", "_seg", "_gt", "_annotation",
     "_semantic", "_l", "_p"),
    re.compile(r"_(?:instanceids|instancetrainids|color|polygons|instances?)$"),
    _IMAGE_ENDS,
)  # fmt: skip
DEPTHS = MapWords(
    "depth map",
    "depths",
    (".png", ".tif", ".tiff", ".exr", ".npy", ".npz", ".pfm"),
    re.compile(r"(?:sync_)?depths?|depth_?maps?|gt_depth|gt|ground_?truth|groundtruth_depth|"
               r"disparity|(?:train|val|valid|validation|test)[_-]?depths?|"
               r"depths?[_-](?:train(?:ing)?|val(?:id(?:ation)?)?|test)"),
    re.compile(r"masks?|labels?|visuali[sz]ations?|normals?|poses?"),
    ("_depth", ".depth", "-depth", "_depths", "_d"),
    re.compile(r"(?:_vis|_colou?red|_preview|_mask)$"),
    _IMAGE_ENDS,
)  # fmt: skip


@dataclass(frozen=True)
class OwnPair:
    """An image with its map.

    Attributes:
        name: What both are called, below the folder of the data.
        image: File.
        label: File of the map.
        split: 'train', 'val', 'test', or '' where nothing says.
    """

    name: str
    image: Path
    label: Path
    split: str


@dataclass(frozen=True)
class OwnPairs:
    """What was found in a folder.

    Attributes:
        pairs: In the order of their names.
        num_images_alone: Images without a map, which are left out.
        num_maps_alone: Maps without an image, which are left out.
        words: Where it was found.
    """

    pairs: tuple[OwnPair, ...]
    num_images_alone: int
    num_maps_alone: int
    words: str


@dataclass(frozen=True)
class _File:
    path: Path
    split: str
    key: str  # what is left of the path
    tail: str  # its last part
    rank: int  # of the end of its name among those of its kind, the preferred first


def find_pairs(
    root: Path, words: MapWords, images: str | None = None, maps: str | None = None
) -> OwnPairs:
    """Images and maps of a folder.

    Args:
        root: The folder.
        words: Kind of the maps.
        images: Folder of the images below it, where a person says; None: found by names.
        maps: Folder of the maps, the same.

    Raises:
        ValueError: If there is no pair, most maps have no image, one image has several maps or
            another image of its name, or a list names what is not there.
    """
    for option, folder in (("images", images), (words.option, maps)):
        if folder is not None and not (root / folder).is_dir():
            raise ValueError(
                f"{option}={folder} is no folder of {root}; it has {_listed(_folders(root))}"
            )
    of_images, of_maps = _sorted_files(root, words, images, maps)
    chosen = _preferred(of_maps, words, root)
    by_key, by_tail = _unique(of_images, root)
    pairs, used = [], set()
    for label in chosen:
        image = by_key.get((label.key, label.split)) or by_key.get((label.key, ""))
        image = image or by_key.get((label.key, None)) or by_tail.get(label.tail)
        if image is None:
            continue
        if image.path in used:
            others = [str(pair.label) for pair in pairs if pair.image == image.path]
            raise ValueError(
                f"image {image.path} has several {words.title}s ({others[0]}, {label.path}); say "
                f"which folder is meant with {words.option}=DIR"
            )
        used.add(image.path)
        split = label.split or image.split
        pairs.append(OwnPair(label.key, image.path, label.path, split))
    alone = len(chosen) - len(pairs)
    if not pairs or alone > MOST_LONELY * len(chosen):
        raise ValueError(_no_pairs(root, words, of_images, chosen, len(pairs)))
    pairs.sort(key=lambda pair: (pair.name, str(pair.image)))
    where = {os.path.commonpath([p.label.parent for p in pairs])}
    shown = ", ".join(sorted(_below(Path(w), root) for w in where))
    image_folder = _below(Path(os.path.commonpath([p.image.parent for p in pairs])), root)
    return OwnPairs(
        tuple(pairs), len(of_images) - len(pairs), alone,
        f"images in {image_folder}, {words.title}s in {shown}",
    )  # fmt: skip


def with_lists(root: Path, found: OwnPairs) -> OwnPairs:
    """The same with the splits of a train.txt and a val.txt, where the folder has both.

    Raises:
        ValueError: If a list names what has no image with a map, or both name one.
    """
    lists = _lists(root)
    if lists is None:
        return found
    index: dict[str, list[OwnPair]] = defaultdict(list)
    for pair in found.pairs:
        names = {pair.name, Path(pair.name).name}
        names |= {_no_suffix(Path(_below(p, root))) for p in (pair.image, pair.label)}
        names |= {_no_suffix(Path(p.name)) for p in (pair.image, pair.label)}
        for name in names:
            index[name].append(pair)
    split_of: dict[Path, str] = {}
    for split, file in lists.items():
        for line in read_names(file):
            name = _no_suffix(Path(line.split()[0].lstrip("/"))) if " " in line else line
            name = _no_suffix(Path(name)) if name not in index else name
            matches = index.get(name) or index.get(Path(name).name, [])
            if len(matches) != 1:
                what = "several images" if matches else "no image with a map"
                raise ValueError(f"{file} names {line!r}, which is {what}; correct the list")
            image = matches[0].image
            if split_of.setdefault(image, split) != split:
                raise ValueError(f"{image} is in {' and in '.join(map(str, lists.values()))}; take "
                                 "it out of one of the lists")  # fmt: skip
    pairs = tuple(
        OwnPair(pair.name, pair.image, pair.label, split_of[pair.image])
        for pair in found.pairs
        if pair.image in split_of
    )
    left = len(found.pairs) - len(pairs)
    return OwnPairs(
        pairs, found.num_images_alone + left, found.num_maps_alone,
        f"{found.words}, splits by {' and '.join(_below(f, root) for f in lists.values())}",
    )  # fmt: skip


# ---- files ---------------------------------------------------------------------------------------


def _sorted_files(
    root: Path, words: MapWords, images: str | None, maps: str | None
) -> tuple[list[_File], list[_File]]:
    """Images and maps, each in the order of their paths."""
    of_images: list[_File] = []
    of_maps: list[_File] = []
    asides: list[tuple[Path, tuple[str, ...]]] = []  # called like maps in a folder of images
    image_root = None if images is None else root / images
    map_root = None if maps is None else root / maps
    for text in walk(root):
        path = Path(text)
        if path.suffix.lower() not in {*PICTURES, *words.suffixes}:
            continue
        parts = path.relative_to(root).parts[:-1]
        if map_root is not None and path.is_relative_to(map_root) and map_root != image_root:
            role = "map"
        elif image_root is not None and path.is_relative_to(image_root):
            role = "image" if map_root != image_root else _role((), path, words)
        else:
            role = _role(parts, path, words)
            if (role == "map" and map_root) or (role != "map" and image_root):
                continue  # a person said where they are
        if role == "map":
            _add(of_maps, path, parts, words, is_map=True)
        elif role == "image" and path.suffix.lower() in PICTURES:
            aside = _has_end(path, words) and words.other_ends.search(path.stem.lower()) is None
            if aside:
                asides.append((path, parts))
            elif not words.other_ends.search(path.stem.lower()) or maps is None:
                _add(of_images, path, parts, words, is_map=False)
    are_maps = not of_maps  # where no folder holds maps
    for path, parts in asides:
        _add(of_maps if are_maps else of_images, path, parts, words, is_map=are_maps)
    return of_images, of_maps


def _role(parts: Sequence[str], path: Path, words: MapWords) -> str:
    """'map', 'image' or '' for what is neither, by the nearest folder that says something."""
    if any(words.other_folder.fullmatch(part.lower()) for part in parts):
        return ""
    for part in reversed(parts):
        if words.folder.fullmatch(part.lower()):
            is_kind = path.suffix.lower() in words.suffixes
            other = words.other_ends.search(path.stem.lower())
            return "map" if is_kind and not other else ""
        if _IMAGE_FOLDER.fullmatch(part.lower()):
            return "image"
    if path.suffix.lower() not in PICTURES:
        return "map" if path.suffix.lower() in words.suffixes else ""
    return "image"


def _has_end(path: Path, words: MapWords) -> bool:
    stem = path.stem.lower()
    return path.suffix.lower() in words.suffixes and any(stem.endswith(e) for e in words.ends)


def _add(
    files: list[_File], path: Path, parts: Sequence[str], words: MapWords, is_map: bool
) -> None:
    split, rest = "", []
    for part in parts:
        low = part.lower()
        word = _SPLIT.fullmatch(low) or re.fullmatch(
            r".+?[_-](?:(train)(?:ing)?|(val)(?:id(?:ation)?)?|(test))(?:\d{4})?", low
        )
        if word is not None and (
            _SPLIT.fullmatch(low) or words.folder.fullmatch(low) or _IMAGE_FOLDER.fullmatch(low)
        ):
            split = next(filter(None, word.groups()))
        elif not (words.folder.fullmatch(low) or _IMAGE_FOLDER.fullmatch(low)):
            rest.append(part)
    stem, rank = path.stem, len(words.ends)
    if is_map:
        low = stem.lower()
        rank = next((i for i, end in enumerate(words.ends) if low.endswith(end)), rank)
        stem = stem[: -len(words.ends[rank])] if rank < len(words.ends) else stem
    stem = words.image_ends.sub("", stem.lower()) and _cut(stem, words.image_ends)
    files.append(_File(path, split, "/".join([*rest, stem]), stem, rank))


def _cut(stem: str, ends: re.Pattern[str]) -> str:
    found = ends.search(stem.lower())
    return stem if found is None or found.start() == 0 else stem[: found.start()]


def _preferred(files: Iterable[_File], words: MapWords, root: Path) -> list[_File]:
    """One map of each name in each folder: the one whose end is preferred."""
    best: dict[tuple[Path, str, str], _File] = {}
    for file in files:
        place = (file.path.parent, file.key, file.split)
        other = best.get(place)
        if other is not None and other.rank == file.rank:
            raise ValueError(
                f"{other.path} and {file.path} are {words.title}s of one image; keep one of them"
            )
        if other is None or file.rank < other.rank:
            best[place] = file
    kept = Counter(file.path.parent for file in best.values())
    if len(kept) > 1:
        by_key = defaultdict(set)
        for file in best.values():
            by_key[file.key, file.split].add(file.path.parent)
        double = next((folders for folders in by_key.values() if len(folders) > 1), None)
        if double is not None:
            both = " and ".join(sorted(_below(folder, root) for folder in double))
            raise ValueError(
                f"{root} has {words.title}s of the same names in {both}; say which are meant with "
                f"{words.option}=DIR"
            )
    return list(best.values())


def _unique(
    files: Sequence[_File], root: Path
) -> tuple[dict[tuple[str, str | None], _File], dict[str, _File]]:
    by_key: dict[tuple[str, str | None], _File] = {}
    keys, tails = Counter(f.key for f in files), Counter(f.tail for f in files)
    for file in files:
        other = by_key.setdefault((file.key, file.split), file)
        if other is not file:
            raise ValueError(f"{other.path} and {file.path} have one name; keep one of them")
        if keys[file.key] == 1:
            by_key[file.key, None] = file
    return by_key, {f.tail: f for f in files if tails[f.tail] == 1}


def _no_pairs(
    root: Path, words: MapWords, images: Sequence[_File], maps: Sequence[_File], num: int
) -> str:
    hint = f"say where they are with images=DIR {words.option}=DIR, names must agree"
    if not maps:
        return (
            f"{root} has no {words.title}s that can be told by their names ({len(images):,} "
            f"pictures, folders: {_listed(_folders(root))}); {hint}"
        )
    if not images:
        return f"{root} has {len(maps):,} {words.title}s but no images beside them; {hint}"
    matched = {p.path for p in maps[:1]}
    first = next(iter(matched))
    return (
        f"{len(maps) - num:,} of {len(maps):,} {words.title}s of {root} have no image of their "
        f"name, such as {_below(first, root)} (an image is {_below(images[0].path, root)}); {hint}"
    )


def _lists(root: Path) -> dict[str, Path] | None:
    for folder in _LIST_FOLDERS:
        trains = [root / folder / name for name in _TRAIN_LISTS if (root / folder / name).is_file()]
        vals = [root / folder / name for name in _VAL_LISTS if (root / folder / name).is_file()]
        if trains and vals:
            return {"train": trains[0], "val": vals[0]}
    return None


def _folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "none"


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _no_suffix(path: Path) -> str:
    known = path.suffix.lower() in {*PICTURES, ".npy", ".npz", ".exr", ".pfm"}
    return (path.with_suffix("") if known else path).as_posix()


def count_splits(pairs: Iterable[OwnPair]) -> Mapping[str, int]:
    """Pairs of each split."""
    return Counter(pair.split for pair in pairs)
