"""Evidence as a file: one small .npz, the same bytes for the same evidence, no pickles.

The record of a score names the file and its sha256. Shape legend: D detections, A ranges of
object size, T IoU thresholds, P = A * T bit planes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.files import atomic_write_bytes, file_sha256
from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import (
    DepthEvidence,
    SegmentationEvidence,
    TrackingEvidence,
    VideoObjectEvidence,
)
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.named_evidence import ClassificationEvidence, RetrievalEvidence
from pe_dense.results.scored_content import ScoredContent

KINDS: dict[str, type[ItemEvidence]] = {
    kind.kind: kind
    for kind in (
        SegmentationEvidence,
        DetectionEvidence,
        DepthEvidence,
        VideoObjectEvidence,
        TrackingEvidence,
        ClassificationEvidence,
        RetrievalEvidence,
    )
}
VERSION = 1

_FORMAT = "pe_dense evidence"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip file can hold
_MOST_BYTES = 2**31  # unpacked; LVIS with 300 detections an image has 0.1 of it
_BITS = ("matched_DAT", "ignored_DAT")


def save_evidence(
    evidence: ItemEvidence, path: str | os.PathLike[str], content: ScoredContent | None = None
) -> str:
    """Writes evidence to a compressed .npz; equal evidence gives equal bytes (for one zlib).

    Args:
        evidence: Any kind.
        path: File to write, usually '*.npz'; whole or not at all, an older one is replaced.
        content: Hashes of the files that were scored.

    Returns:
        The sha256 of the file, 64 hex digits.

    Raises:
        OSError: If the file cannot be written.
    """
    data = evidence_bytes(evidence, content)
    atomic_write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def evidence_bytes(evidence: ItemEvidence, content: ScoredContent | None = None) -> bytes:
    """What `save_evidence` writes."""
    texts, numbers, arrays = {}, {}, {}
    for field in dataclasses.fields(evidence):
        value = getattr(evidence, field.name)
        if isinstance(value, tuple):
            texts[field.name] = value
        elif isinstance(value, int):
            numbers[field.name] = value
        elif field.name in _BITS:
            arrays[field.name] = _packed(value)
        elif value is not None:
            arrays[field.name] = _smallest(value)
    about = {"format": _FORMAT, "version": VERSION, "kind": evidence.kind}
    if content is not None:
        about["content"] = content.to_json()
    header = json.dumps({**about, "texts": texts, "numbers": numbers}, sort_keys=True)
    arrays["header"] = np.frombuffer(header.encode("ascii"), np.uint8)
    return _npz(arrays)


def load_evidence(path: str | os.PathLike[str], sha256: str | None = None) -> ItemEvidence:
    """Reads evidence; the inverse of `save_evidence`.

    Args:
        path: File to read.
        sha256: What its hash must be, as the record says; default: not checked.

    Returns:
        Evidence of the kind that was written.

    Raises:
        ValueError: If the file is missing, has another hash, is no evidence file or is damaged.
            One sentence that names the file and the remedy.
    """
    path = Path(path)
    header, arrays = _read(path, sha256)
    kind = header["kind"]
    try:
        return _evidence(KINDS[kind], {**header["texts"], **header["numbers"], **arrays})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: damaged {kind} evidence ({error}); restore the file, or evaluate again"
        ) from None


def load_content(path: str | os.PathLike[str], sha256: str | None = None) -> ScoredContent | None:
    """Hashes of the files that were scored, from an evidence file; None if it has none.

    Raises:
        ValueError: As `load_evidence`.
    """
    path = Path(path)
    header, _ = _read(path, sha256)
    if header.get("content") is None:
        return None
    try:
        return ScoredContent(**header["content"])
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: damaged hashes of what was scored ({error}); restore the file, or evaluate "
            "again"
        ) from None


def _read(path: Path, sha256: str | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of an evidence file of a known kind."""
    if not path.is_file():
        raise ValueError(f"{path}: no such evidence file; evaluate again to write it")
    if sha256 is not None and file_sha256(path) != sha256:
        raise ValueError(
            f"{path}: its sha256 is not {sha256[:12]}..., so it was edited or is of another run; "
            "restore the file, or evaluate again"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_BYTES:
            raise ValueError(f"{size} bytes")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop("header").tobytes())
        assert isinstance(header, dict)
        kind, version = header.get("kind"), header.get("version")
        if header.get("format") != _FORMAT:
            raise KeyError("format")
    except (OSError, EOFError, KeyError, AssertionError, AttributeError, TypeError, ValueError,
            MemoryError, NotImplementedError, RecursionError, RuntimeError,
            zipfile.BadZipFile, zlib.error):  # fmt: skip
        raise ValueError(
            f"{path}: not an evidence file, or damaged; restore the file, or evaluate again"
        ) from None
    if version != VERSION or not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"{path}: evidence of kind '{kind}', version {version}, but this pe_dense reads "
            f"version {VERSION} of {', '.join(KINDS)}; update pe_dense"
        )
    return header, arrays


def _evidence(kind: type[ItemEvidence], fields: dict[str, Any]) -> ItemEvidence:
    if kind is DetectionEvidence:
        for name in _BITS:
            fields[name] = _unpacked(fields[name], len(fields["image_D"]))
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
    return kind(**fields)


# ---- small arrays ----------------------------------------------------------------------------


def _smallest(values: np.ndarray) -> np.ndarray:
    """The same values in the smallest type that holds them exactly."""
    if values.dtype.kind == "f":
        halved = values.astype(np.float32)
        return halved if np.array_equal(halved, values, equal_nan=True) else values
    for dtype in (np.uint8, np.uint16, np.int32):
        if not values.size or values.max() <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values


def _packed(bits_DAT: np.ndarray) -> np.ndarray:
    """Bits as planes (P, bytes): for each size and threshold, where the bit changes from the last.

    Most matches hold at several thresholds in a row, so that most planes are almost empty.
    """
    num_planes = math.prod(bits_DAT.shape[1:])  # -1 would not do for no detections
    planes_PD = np.ascontiguousarray(bits_DAT.reshape(len(bits_DAT), num_planes).T)
    changes_PD = planes_PD.copy()
    changes_PD[1:] ^= planes_PD[:-1]
    return np.packbits(changes_PD, axis=1)


def _unpacked(packed: np.ndarray, num: int) -> np.ndarray:
    """The inverse of `_packed`: (D, A, T) bool."""
    areas, thresholds = DetectionEvidence.bits_shape
    if packed.dtype != np.uint8 or packed.shape != (areas * thresholds, (num + 7) // 8):
        raise ValueError(f"bits have shape {packed.shape} for {num} detections")
    changes_PD = np.unpackbits(packed, axis=1, count=num).astype(bool)
    planes_PD = np.logical_xor.accumulate(changes_PD, axis=0)
    return np.ascontiguousarray(planes_PD.T).reshape(num, areas, thresholds)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    """A .npz with fixed dates, so that only the content decides about its bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # else the operating system is written down
            data = io.BytesIO()
            array = np.ascontiguousarray(arrays[name])
            np.lib.format.write_array(data, array, version=(1, 0), allow_pickle=False)
            archive.writestr(member, data.getvalue(), compresslevel=9)
    return buffer.getvalue()
