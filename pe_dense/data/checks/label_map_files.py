"""Label maps written whole or not at all, and only those that are not there yet.

Used for Cityscapes, whose archives lack the maps that scores are made from, and for the labels
that SBD adds to PASCAL VOC 2012.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pe_dense.data.checks.picture_pairs import read_names
from pe_dense.data.label_map import IGNORED
from pe_dense.files import atomic_write_bytes

# Label id -> id for training, of the classes that count; every other id is ignored.
CITYSCAPES_TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
VOC_LISTS = Path("ImageSets/Segmentation")


def train_ids(label_ids_HW: np.ndarray) -> np.ndarray:
    """Cityscapes label ids (H, W) uint8 -> ids for training, 0 to 18 or 255.

    Source: cityscapesScripts, helpers/labels.py (the table of ids).

    Example:
        >>> train_ids(np.array([[0, 7, 26, 33]], np.uint8)).tolist()
        [[255, 0, 13, 18]]
    """
    table = np.full(256, IGNORED, np.uint8)
    table[list(CITYSCAPES_TRAIN_IDS)] = list(CITYSCAPES_TRAIN_IDS.values())
    return table[label_ids_HW]


def write_train_ids(
    root: Path, splits: tuple[str, ...], progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Write *_gtFine_labelTrainIds.png beside every *_gtFine_labelIds.png.

    Maps that are there already are kept, so that a stopped run goes on where it was.

    Args:
        root: Folder of Cityscapes.
        splits: Folders below gtFine.
        progress: Called with (done, total).

    Returns:
        How many were written, and how many were there.

    Raises:
        ValueError: If there are no label ids, or a map cannot be read.
    """
    sources = [
        file
        for split in splits
        for file in sorted((root / "gtFine" / split).rglob("*_gtFine_labelIds.png"))
    ]
    if not sources:
        raise ValueError(
            f"{root}/gtFine has no *_gtFine_labelIds.png in {', '.join(splits)}; unpack "
            "gtFine_trainvaltest.zip there"
        )
    written = 0
    for done, source in enumerate(sources, 1):
        target = source.with_name(source.name.replace("_labelIds.png", "_labelTrainIds.png"))
        if not target.is_file():
            try:
                with Image.open(source) as picture:
                    label_ids_HW = np.asarray(picture)
            except (OSError, SyntaxError) as error:
                raise ValueError(
                    f"{source} cannot be decoded; unpack the archive again ({error})"
                ) from error
            if label_ids_HW.ndim != 2 or label_ids_HW.dtype != np.uint8:
                raise ValueError(
                    f"{source} holds {label_ids_HW.dtype} of shape {label_ids_HW.shape}, no 8-bit "
                    "label ids; unpack the archive again"
                )
            atomic_write_bytes(target, png_of(train_ids(label_ids_HW)))
            written += 1
        progress(done, len(sources))
    return written, len(sources) - written


def write_augmented_voc(
    root: Path, sbd: Path, progress: Callable[[int, int], None]
) -> tuple[int, int]:
    """Write SegmentationClassAug and trainaug.txt: VOC's training maps and those of SBD.

    The set is all of SBD and VOC's train without VOC's val; where VOC has a map of its own, it is
    taken as it is. The list is written last, so that it names maps that are there.

    Args:
        root: Folder VOC2012, with JPEGImages and SegmentationClass.
        sbd: Folder of SBD with cls/*.mat, train.txt and val.txt (benchmark_RELEASE/dataset).
        progress: Called with (done, total).

    Returns:
        How many maps were written, and how many were there.

    Raises:
        ValueError: If scipy, a folder, a list or a map is missing, or a map cannot be read.
    """
    if not (sbd / "cls").is_dir():
        raise ValueError(
            f"{sbd} has no folder cls; name the one of SBD with cls, train.txt and val.txt "
            "(benchmark_RELEASE/dataset)"
        )
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise ValueError(
            "the maps of SBD are MATLAB files, which need scipy; install it with pip install scipy"
        ) from None
    own = set(read_names(root / VOC_LISTS / "train.txt"))
    held_out = set(read_names(root / VOC_LISTS / "val.txt"))
    added = {*read_names(sbd / "train.txt"), *read_names(sbd / "val.txt")}
    names = sorted((own | added) - held_out)
    folder = root / "SegmentationClassAug"
    folder.mkdir(exist_ok=True)
    written = 0
    for done, name in enumerate(names, 1):
        target = folder / f"{name}.png"
        if not target.is_file():
            source = root / "SegmentationClass" / f"{name}.png"
            if name not in own:
                source = sbd / "cls" / f"{name}.mat"
            try:
                content = source.read_bytes()
                if name not in own:
                    found = loadmat(io.BytesIO(content), squeeze_me=True, struct_as_record=False)
                    content = png_of(np.asarray(found["GTcls"].Segmentation, np.uint8))
            except FileNotFoundError:
                raise ValueError(f"{source} does not exist; unpack its archive again") from None
            except Exception as error:  # scipy raises many kinds for a broken file
                raise ValueError(
                    f"{source} cannot be read; unpack its archive again ({error})"
                ) from error
            atomic_write_bytes(target, content)
            written += 1
        progress(done, len(names))
    text = "".join(f"{name}\n" for name in names)
    atomic_write_bytes(root / VOC_LISTS / "trainaug.txt", text.encode())
    return written, len(names) - written


def png_of(labels_HW: np.ndarray) -> bytes:
    """Label map (H, W) uint8 as the bytes of a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(labels_HW).save(buffer, format="PNG")
    return buffer.getvalue()
