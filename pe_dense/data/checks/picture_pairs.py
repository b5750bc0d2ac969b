"""Images and the maps that belong to them, by name: the same name before the suffix.

A suffix is an end of a file name such as '.jpg' or '_leftImg8bit.png'. Its extension is taken in
any case, and where no file has it, in any other kind of picture: cameras write .JPG, and half a set
that is left out because of it would go unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pe_dense.data.checks.rules import Finding, FindingCollector, Rule
from pe_dense.data.image_files import require_no_loop

PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
NO_FOLDER = Rule(
    "missing-folder", "missing folders and lists", "check data_root, data_prefix and ann_file"
)
NO_PAIRS = Rule(
    "no-pairs", "sets without an image that has a label map",
    "check data_prefix, img_suffix and seg_map_suffix",
)  # fmt: skip
NO_MAP = Rule(
    "images-without-map", "images without a label map", "add the maps, or move the images away",
    "left out of training and of scores",
)  # fmt: skip
NO_IMAGE = Rule(
    "maps-without-image", "label maps without an image", "add the images, or move the maps away",
    "left out of training and of scores",
)  # fmt: skip
NO_FILES = Rule(
    "listed-without-files", "names in a list without image and label map",
    "correct the list, or add the files", "left out of training and of scores",
)  # fmt: skip
TWO_FILES = Rule(
    "two-files-one-name", "several files of one name", "keep one of them",
    "the one with the suffix of the config is used, or else the first",
)  # fmt: skip
TWICE = Rule("listed-twice", "names that a list has twice", "remove one line")
PAIR_RULES = (NO_FOLDER, NO_PAIRS, NO_MAP, NO_IMAGE, NO_FILES, TWO_FILES, TWICE)


@dataclass(frozen=True)
class Pairs:
    """What belongs together.

    Attributes:
        files: Image and map, in the order of the list, or of the images' paths.
        findings: What is left over or missing.
    """

    files: tuple[tuple[Path, Path], ...]
    findings: tuple[Finding, ...]


def pair_files(
    images: Path, maps: Path, suffixes: tuple[str, str], names: Path | None = None
) -> Pairs:
    """Images that have a map.

    Args:
        images: Folder of images, searched with its subfolders.
        maps: Folder of maps; the same one is possible.
        suffixes: What follows a name in `images` and in `maps`.
        names: A file with a name on every line: only these are read; None reads all.

    Raises:
        ValueError: If `names` is no text.
    """
    found = FindingCollector()
    absent = [folder for folder in dict.fromkeys((images, maps)) if not folder.is_dir()]
    if names is not None and not names.is_file():
        absent.append(names)
    for path in absent:
        found.add(NO_FOLDER, "", "does not exist", path)
    if absent:
        return Pairs((), tuple(found.findings()))
    image_of, map_of = (
        _by_name(folder, suffix, other, other_suffix, found)
        for folder, suffix, other, other_suffix in (
            (images, suffixes[0], maps, suffixes[1]),
            (maps, suffixes[1], images, suffixes[0]),
        )
    )
    if names is None:
        _tell_lonely(found, image_of, map_of, images, maps, suffixes)
        stems = sorted(image_of.keys() & map_of.keys(), key=lambda stem: str(image_of[stem]))
    else:
        stems = _listed(names, found)
        for stem in stems:
            lacks = [
                f"{what} {folder / stem}{suffix}"
                for what, folder, suffix, files in (
                    ("image", images, suffixes[0], image_of),
                    ("label map", maps, suffixes[1], map_of),
                )
                if stem not in files
            ]
            if lacks:
                found.add(NO_FILES, stem, f"has no {' and no '.join(lacks)}", names)
        stems = [stem for stem in stems if stem in image_of and stem in map_of]
    if not stems:
        pattern = f"has no *{suffixes[0]} with a *{suffixes[1]} in {maps}"
        found.add(NO_PAIRS, "", pattern if names is None else "names no image with a map",
                  images if names is None else names)  # fmt: skip
    pairs = tuple((image_of[stem], map_of[stem]) for stem in stems)
    return Pairs(pairs, tuple(found.findings()))


def _tell_lonely(
    found: FindingCollector,
    image_of: dict[str, Path],
    map_of: dict[str, Path],
    images: Path,
    maps: Path,
    suffixes: tuple[str, str],
) -> None:
    for rule, ours, others, folder, suffix in (
        (NO_MAP, image_of, map_of, maps, suffixes[1]),
        (NO_IMAGE, map_of, image_of, images, suffixes[0]),
    ):
        for stem in sorted(ours.keys() - others.keys()):
            what = "label map" if rule is NO_MAP else "image"
            found.add(rule, "", f"has no {what} {folder / stem}{suffix}", ours[stem])


def read_names(file: Path) -> list[str]:
    """Names in a list, one per line; empty lines are left out.

    Raises:
        ValueError: If the file is missing or no text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"list of images {file} does not exist; unpack the archive again"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"list of images {file} is no text; unpack the archive again") from None
    return [line.strip() for line in lines if line.strip()]


def _listed(names: Path, found: FindingCollector) -> list[str]:
    """Each name of a list once, in its order."""
    stems: dict[str, None] = {}
    for name in read_names(names):
        if name in stems:
            found.add(TWICE, name, "comes twice", names)
        stems[name] = None
    return list(stems)


def _by_name(
    folder: Path, suffix: str, other: Path, other_suffix: str, found: FindingCollector
) -> dict[str, Path]:
    """Name -> file, of one of the two folders; the other one may be the same, or lie in it."""
    tail, extension = _split(suffix)
    other_tail, _ = _split(other_suffix)
    is_shared = folder.resolve() == other.resolve()
    inner = None if is_shared else other.resolve()
    kinds = (extension.lower(),) if is_shared else (extension.lower(), *PICTURES)
    own: dict[str, list[Path]] = {}  # as configured, but for the case of the suffix
    rest: dict[str, list[Path]] = {}
    root = os.path.join(folder, "")  # noqa: PTH118 (with a slash at its end)
    for file in walk(root, inner):
        base, kind = os.path.splitext(file[len(root) :])  # noqa: PTH122 (a text, for speed)
        if kind.lower() not in kinds or not base.endswith(tail):
            continue
        if is_shared and len(other_tail) > len(tail) and base.endswith(other_tail):
            continue  # a_mask.png beside a.png
        files = own if kind.lower() == extension.lower() else rest
        files.setdefault(base[: len(base) - len(tail)], []).append(Path(file))
    files_of = {stem: own.get(stem, []) + rest.get(stem, []) for stem in {**rest, **own}}
    for files in files_of.values():
        if len(files) > 1:
            found.add(TWO_FILES, "", f"has the name of {', '.join(map(str, files[1:]))}", files[0])
    return {stem: files[0] for stem, files in files_of.items()}


def _split(suffix: str) -> tuple[str, str]:
    """'_leftImg8bit.png' -> '_leftImg8bit', '.png'."""
    tail, dot, kind = suffix.rpartition(".")
    return (tail, dot + kind) if dot else (suffix, "")


def walk(folder: str | Path, without: Path | None = None) -> Iterator[str]:
    """Files of a folder and of those below it; hidden ones are passed over, as loaders do.

    Raises:
        ValueError: If a link leads back to a folder that it is in.
    """
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            yield entry.path
        elif without is None or Path(entry.path).resolve() != without:
            require_no_loop(entry.path)
            yield from walk(entry.path, without)
