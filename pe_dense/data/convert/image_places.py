"""The pictures below a folder, found by path, by file name or by stem."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pe_dense.data.image_files import require_no_loop

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".jp2")


def files_below(root: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of some suffixes, sorted by path; hidden ones and hidden folders are passed over.

    Raises:
        ValueError: If a link leads to a folder that it is in.
    """
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            require_no_loop(Path(folder, name))
        found += [
            Path(folder, name)
            for name in names
            if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
        ]
    return sorted(found)


class ImagePlaces:
    """Finds pictures by what label files call them.

    Args:
        root: Folder of the set.
        without: Folders of label maps, whose files are no pictures.
    """

    def __init__(self, root: Path, without: Sequence[Path] = ()) -> None:
        self.root = root
        self.files = [
            file
            for file in files_below(root, SUFFIXES)
            if not any(file.is_relative_to(folder) for folder in without)
        ]
        self._paths = {_key(file.relative_to(root).as_posix()): file for file in self.files}
        self._names: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for file in self.files:
            self._names[_key(file.name)].append(file)
            self._stems[_key(file.stem)].append(file)

    def named(self, name: str, near: Iterable[Path], where: object) -> Path | None:
        """The picture that a label file calls by a path or a name.

        A path below the folder counts first, then the same name in one of the folders nearby, then
        the only one of the name anywhere.

        Args:
            name: As it stands in the label file, with '/' or a backslash.
            near: Folders, the likely one first.
            where: The label file, for errors.

        Raises:
            ValueError: If several files anywhere have the name.
        """
        name = name.replace("\\", "/")
        for folder in near:
            file = Path(os.path.normpath(folder / name))
            if file.is_file() and file.is_relative_to(self.root):
                return file
        if _key(name) in self._paths:
            return self._paths[_key(name)]
        base = name.rpartition("/")[2]
        for folder in near:
            if (folder / base).is_file() and base:
                return folder / base
        return _only(self._names.get(_key(base), []), base, where)

    def of_stem(self, stem: str, near: Iterable[Path], where: object) -> Path | None:
        """The picture of a name without suffix, in a folder nearby or the only one anywhere.

        Raises:
            ValueError: If there are several.
        """
        found = self._stems.get(_key(stem), [])
        for folder in near:
            here = [file for file in found if file.parent == folder]
            if here:
                return _only(here, stem, where)
        return _only(found, stem, where)


def _only(found: Sequence[Path], name: str, where: object) -> Path | None:
    if len(found) > 1:
        raise ValueError(
            f"{where}: {found[0]} and {found[1]} are both called {name!r}; rename one, or keep "
            "each beside its label"
        )
    return found[0] if found else None


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text)
