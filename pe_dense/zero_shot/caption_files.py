"""Files that say which captions belong to which picture or video.

Styles:
    jsonl      one object a line: {"image": "a.jpg", "captions": ["...", ...]}, 'video' for 'image',
               or 'caption' with one; several lines of one picture add up
    karpathy   {"images": [{"split": "test", "filename": ..., "filepath": ..., "sentences":
               [{"raw": ...}]}]}: dataset_coco.json and dataset_flickr30k.json of Karpathy's splits
               (cs.stanford.edu/people/karpathy/deepimagesent)
    coco       COCO's captions_*.json: all of its pictures
    msrvtt     MSRVTT_JSFUSION_test.csv of the 1k-A split: columns video_id and sentence
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

STYLES = ("jsonl", "karpathy", "coco", "msrvtt")


class Captioned(NamedTuple):
    """A picture or video and what is said of it.

    Attributes:
        name: Its file, relative to the folder of pictures.
        captions: At least one, in the order of the file.
    """

    name: str
    captions: tuple[str, ...]


def read_captions(path: Path, style: str, split: str = "test") -> list[Captioned]:
    """All pictures of a file with their captions, in the order of the file.

    Args:
        path: The file.
        style: See the module.
        split: Of a file that holds several.

    Raises:
        ValueError: If the style is unknown, or the file is missing, broken or without captions; it
            names the line or the picture.
    """
    if style not in STYLES:
        raise ValueError(f"style={style!r} is unknown; choose one of {', '.join(STYLES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); correct data_root or ann_file"
        ) from error
    rows = {"jsonl": _jsonl, "karpathy": _karpathy, "coco": _coco, "msrvtt": _msrvtt}[style]
    found: dict[str, list[str]] = {}
    for where, name, captions in rows(path, text, split):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{where} names no picture; write the name of its file")
        if isinstance(captions, str):
            raise ValueError(f"{where}: 'captions' of {name} is one text; write a list of texts")
        if not isinstance(captions, list) or not captions:
            raise ValueError(f"{where}: {name} has no caption; write one, or take it out")
        for caption in captions:
            if not isinstance(caption, str) or not caption.strip():
                raise ValueError(f"{where}: {name} has the caption {caption!r}; write words")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{where}: {name} leaves the folder of pictures; name a file below it")
        # './a.jpg' and 'a//b.jpg' are the same files as 'a.jpg' and 'a/b.jpg'.
        found.setdefault(PurePosixPath(name).as_posix(), []).extend(captions)
    if not found:
        raise ValueError(
            f"{path} has no picture{_of_split(style, split)}; check ann_file and split"
        )
    return [Captioned(name, tuple(captions)) for name, captions in found.items()]


Row = tuple[str, Any, Any]


def _jsonl(path: Path, text: str, split: str) -> Iterator[Row]:
    # Not splitlines: JSON may hold U+2028 and U+0085 as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _json(f"{path} line {number}", line)
        if not isinstance(row, dict):
            raise ValueError(f'{path} line {number} is no object; write {{"image": ..., ...}}')
        captions = row.get("captions", [row["caption"]] if "caption" in row else None)
        yield f"{path} line {number}", row.get("image", row.get("video")), captions


def _karpathy(path: Path, text: str, split: str) -> Iterator[Row]:
    images = _list_of(path, _json(str(path), text), "images")
    for image in images:
        if image.get("split") != split:
            continue
        parts = [part for part in (image.get("filepath"), image.get("filename")) if part]
        sentences = image.get("sentences")
        if not all(isinstance(part, str) for part in parts) or not isinstance(sentences, list):
            raise ValueError(f"{path}: an entry lacks filename or sentences; use Karpathy's file")
        raw = [one.get("raw") if isinstance(one, dict) else None for one in sentences]
        yield str(path), "/".join(parts), raw


def _coco(path: Path, text: str, split: str) -> Iterator[Row]:
    content = _json(str(path), text)
    images = _list_of(path, content, "images")
    if not all(isinstance(image.get("id"), int | str) for image in images):
        raise ValueError(f"{path}: an image has an id that is no number and no text; correct it")
    files = {image["id"]: image.get("file_name") for image in images}
    captions: dict[int | str, list[Any]] = {key: [] for key in files}
    for row in _list_of(path, content, "annotations"):
        if not isinstance(row.get("image_id"), int | str) or row["image_id"] not in captions:
            raise ValueError(f"{path}: a caption is of image {row.get('image_id')}, which it lacks")
        captions[row["image_id"]].append(row.get("caption"))
    for key, name in files.items():
        yield str(path), name, captions[key]


def _msrvtt(path: Path, text: str, split: str) -> Iterator[Row]:
    table = csv.DictReader(io.StringIO(text))
    for column in ("video_id", "sentence"):
        if column not in (table.fieldnames or ()):
            raise ValueError(f"{path} has no column {column}; use the list of the 1k-A test split")
    try:
        rows = [(table.line_num, row["video_id"], row["sentence"]) for row in table]
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV ({error}); use the list of the 1k-A split") from error
    for number, video, sentence in rows:
        yield f"{path} line {number}", video and f"{video}.mp4", [sentence]


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON ({error}); correct it") from error


def _list_of(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{path} has no list of {key}; name the file of this data set")
    return found


def _of_split(style: str, split: str) -> str:
    return f" of split {split!r}" if style == "karpathy" else ""
