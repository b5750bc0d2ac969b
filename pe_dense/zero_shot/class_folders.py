"""Pictures or videos in a folder for each class.

    ROOT/FOLDER/<class>/<picture or video>

Classes come in the sorted order of their folders, whatever the file system says. Nothing is decoded
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

from pe_dense.data.image_files import PICTURE_SUFFIXES
from pe_dense.data.picture import require_bits
from pe_dense.data.video_file import VIDEO_SUFFIXES
from pe_dense.text_dense.class_vectors import require_names
from pe_dense.zero_shot.class_names import first_of_each_name, names_of_folders
from pe_dense.zero_shot.prompts import load_templates

MEDIA = ("image", "video")


@DATASETS.register_module()
class ClassFolders(BaseDataset):
    """One item is the path of one picture or video, and its class.

    Args:
        data_root: Folder of the data.
        templates: See `prompts.load_templates`.
        folder: Below `data_root`, what holds the folders of classes.
        names: See `class_names`.
        templates_sha256: Of the file of templates.
        num_classes: How many there must be; None: any.
        folders_sha256: Hash of the sorted names of folders, one a line; None: any.
        repeated_names: 'refuse', or 'first': two classes of one name cannot be told apart, so that
            the first gets all that is said for it and the others are right nowhere, as where
            `argmax` is taken over equal scores.
        media: 'image' or 'video'.
        num_frames: Of a video.
        lists: Files below `data_root` that say which videos count, as UCF101 ('Class/v_a.avi' a
            line) or HMDB51 ('v_a.avi 2' a line, 2 for test, in a file '<class>_test_split1.txt')
            have them; a pattern. None: all.
        left_out: Items that are not scored, by their names '<class>/<file>'.
        as_stored: Whether pictures stay as they are stored, or are turned as Exif says.
        bits: Of 16-bit pictures; see `pe_dense.data.picture`.
        test_mode, lazy_init: As in MMEngine.

    Raises:
        ValueError: If an option is unknown, or a folder, list or file is missing or another than
            the protocol's; it names the folder.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type="class_folders")

    def __init__(
        self,
        data_root: str,
        templates: str | Sequence[str],
        folder: str = "",
        names: str = "words",
        templates_sha256: str | None = None,
        num_classes: int | None = None,
        folders_sha256: str | None = None,
        repeated_names: str = "refuse",
        media: str = "image",
        num_frames: int = 8,
        lists: str | None = None,
        left_out: Sequence[str] = (),
        as_stored: bool = True,
        bits: int | None = None,
        test_mode: bool = True,
        lazy_init: bool = False,
    ) -> None:
        for name, value, known in (
            ("media", media, MEDIA),
            ("repeated_names", repeated_names, ("refuse", "first")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}")
        self.templates = load_templates(templates, templates_sha256)
        self.folder, self.names, self.media, self.num_frames = folder, names, media, num_frames
        self.num_classes, self.folders_sha256 = num_classes, folders_sha256
        self.repeated_names, self.lists = repeated_names, lists
        self.left_out, self.as_stored, self.bits = tuple(left_out), as_stored, require_bits(bits)
        self.classes: tuple[str, ...] = ()
        self.class_names: tuple[str, ...] = ()
        self.silent: tuple[int, ...] = ()  # classes whose name stands before
        super().__init__(ann_file="", data_root=data_root, test_mode=test_mode, lazy_init=lazy_init)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Paths and classes of all that counts."""
        root = Path(self.data_root)
        where = root / self.folder
        if not where.is_dir():
            raise ValueError(
                f"folder {where} does not exist; set data_root to what holds "
                f"{self.folder or 'a folder for each class'}"
            )
        folders = sorted(p.name for p in where.iterdir() if p.is_dir() and p.name[:1] != ".")
        if not folders:
            raise ValueError(f"{where} has no folder; put the files of each class into one of its")
        self._require_folders(where, folders)
        named = names_of_folders(folders, self.names, root, where)
        if self.num_classes is not None and len(named) != self.num_classes:
            raise ValueError(
                f"{where} has {len(named)} classes, not the {self.num_classes} of this protocol; "
                "unpack the data again, or score it with configs/zero_shot/images_custom.py"
            )
        self.classes, self.class_names = tuple(named), tuple(named.values())
        self.silent = tuple(first_of_each_name(self.class_names))
        if self.repeated_names == "refuse":
            try:
                require_names(self.class_names)
            except ValueError as error:
                raise ValueError(f"{where}: {error}; names come from the folders") from error
        listed = self._listed(root)
        items, left = [], set(self.left_out)
        self.passed_over = 0  # below a class, and by its ending no picture or video
        for target, folder in enumerate(self.classes):
            files = self._files(where / folder)
            kept = [file for file in files if listed is None or f"{folder}/{file.name}" in listed]
            if not files or (listed is None and not kept):
                raise ValueError(
                    f"folder {where / folder} holds no {self.media}; put some there, or take the "
                    "folder away"
                )
            for file in kept:
                name = f"{folder}/{file.name}"
                if name in left:
                    left.remove(name)
                    continue
                items.append(
                    dict(img_path=str(file), image_id=name, target=target, class_folder=folder)
                )
        if left:
            raise ValueError(f"left_out names {min(left)!r}, which is not there; correct it")
        if listed is not None:
            missing = sorted(listed - {item["image_id"] for item in items} - set(self.left_out))
            if missing:
                raise ValueError(
                    f"{where / missing[0]} is listed and does not exist ({len(missing)} such); "
                    "unpack the data again, or name them in left_out, which makes another protocol"
                )
        if not items:
            raise ValueError(f"{where} has nothing to score; check lists and left_out")
        return items

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """An empty tensor, so that collating has one, and a sample with the path as metainfo."""
        return {"inputs": torch.empty(0), "data_samples": BaseDataElement(metainfo=self.item(idx))}

    def item(self, idx: int) -> dict[str, Any]:
        """An entry with what is the same for all of them."""
        return {
            **self.get_data_info(idx),
            "classes": self.classes,
            "class_names": self.class_names,
            "templates": self.templates,
            "silent": self.silent,
            "media": self.media,
            "num_frames": self.num_frames,
            "as_stored": self.as_stored,
            "bits": self.bits,
            "left_out": self.left_out,
        }

    def _require_folders(self, where: Path, folders: Sequence[str]) -> None:
        if self.folders_sha256 is None:
            return
        if hashlib.sha256("\n".join(folders).encode()).hexdigest() != self.folders_sha256:
            raise ValueError(
                f"the {len(folders)} folders of {where} ({folders[0]} ...) are not those of this "
                "data set; unpack it again, and set data_root to what holds it"
            )

    def _files(self, folder: Path) -> list[Path]:
        suffixes = PICTURE_SUFFIXES if self.media == "image" else VIDEO_SUFFIXES
        shown = [path for path in folder.iterdir() if path.name[:1] != "."]
        # A link to nowhere stays, to be told of as missing.
        found = sorted(p for p in shown if p.suffix.lower() in suffixes and not p.is_dir())
        self.passed_over += len(shown) - len(found)
        return found

    def _listed(self, root: Path) -> set[str] | None:
        """'<class>/<file>' of the items that lists name; None where all count."""
        if self.lists is None:
            return None
        files = sorted(root.glob(self.lists))
        if not files:
            raise ValueError(f"{root / self.lists} does not exist; unpack the data set's lists")
        found: set[str] = set()
        for file in files:
            for line in file.read_text(encoding="utf-8").splitlines():
                words = line.split()
                if not words:
                    continue
                if "/" in words[0]:  # UCF101
                    found.add("/".join(words[0].split("/")[-2:]))
                elif len(words) == 2 and words[1] in ("0", "1", "2"):  # HMDB51
                    if words[1] == "2":
                        found.add(f"{file.name.rpartition('_test_split')[0]}/{words[0]}")
                else:
                    raise ValueError(f"{file} has the line {line!r}, which names no video")
        return found
