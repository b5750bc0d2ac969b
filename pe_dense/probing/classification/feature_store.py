"""Global features of a list of pictures on disk: one pass of an encoder, read ever after.

    FOLDER/<hash of all that the features depend on>/
        about.json            what that is, to be read
        layer_11.npy          (N, F) float32, memory-mapped
        layer_11.sums.npy     N checksums; 0: not there yet

A row counts only if its checksum fits, so that a run that is killed at any moment, or a disk that
forgets, costs the rows of a batch and never gives a wrong one. Files appear whole; several
processes may fill one store at once, since all of them would write the same into a row.

Shape legend: N pictures of the list, B rows that are asked for, F width of a feature, L layers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.files import atomic_create_bytes, temporary_beside


class FeatureStore:
    """Features of the rows of one list.

    Args:
        folder: Made where it is missing; None keeps features in memory only.
        about: What they depend on; JSON can hold it.
        num_rows: N.
        width: F.

    Raises:
        ValueError: If files of the folder are not what they have to be; it names them.
    """

    def __init__(
        self, folder: str | Path | None, about: Mapping[str, Any], num_rows: int, width: int
    ) -> None:
        text = json.dumps({**about, "rows": num_rows, "width": width}, sort_keys=True, indent=1)
        self.num_rows, self.width = num_rows, width
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        self.folder = None if folder is None else Path(folder) / digest[:32]
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            _create(self.folder / "about.json", text.encode("utf-8", "surrogateescape"))
        self._layers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def get(
        self,
        layers: Sequence[int],
        rows: Sequence[int],
        find_out: Callable[[list[int]], Sequence[np.ndarray]],
    ) -> dict[int, np.ndarray]:
        """Layer -> (B, F) float32.

        Args:
            layers: L.
            rows: B places in the list.
            find_out: Places in `rows` -> an array (n, F) of each layer; asked for rows that some
                layer lacks, once.
        """
        asked = np.asarray(rows, np.int64)
        found = {layer: self._read(layer, asked) for layer in layers}
        lacks_B = np.zeros(len(asked), bool)
        for _, is_there_B in found.values():
            lacks_B |= ~is_there_B
        places = np.flatnonzero(lacks_B)
        if len(places):
            new = find_out(places.tolist())
            for layer, values_nF in zip(layers, new, strict=True):
                values_nF = np.ascontiguousarray(values_nF, np.float32)
                assert values_nF.shape == (len(places), self.width), values_nF.shape
                self._write(layer, asked[places], values_nF)
                found[layer][0][places] = values_nF
        return {layer: values_BF for layer, (values_BF, _) in found.items()}

    def rows_of(self, layer: int) -> np.ndarray:
        """(N, F), memory-mapped where there is a folder; rows that were never asked for are 0."""
        return self._opened(layer)[0]

    def num_there(self, layer: int) -> int:
        """How many rows of a layer are written."""
        return int((self._opened(layer)[1] != 0).sum())

    def _read(self, layer: int, rows_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values, and whether each is there."""
        values_NF, sums_N = self._opened(layer)
        values_BF = np.array(values_NF[rows_B])
        wanted_B = np.array(sums_N[rows_B])
        is_there_B = wanted_B != 0
        for b in np.flatnonzero(is_there_B):
            is_there_B[b] = _checksum(values_BF[b]) == wanted_B[b]
        return values_BF, is_there_B

    def _write(self, layer: int, rows_n: np.ndarray, values_nF: np.ndarray) -> None:
        all_NF, sums_N = self._opened(layer)
        all_NF[rows_n] = values_nF
        sums_N[rows_n] = [_checksum(row) for row in values_nF]

    def _opened(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        if layer not in self._layers:
            shape = self.num_rows, self.width
            if self.folder is None:
                self._layers[layer] = np.zeros(shape, np.float32), np.zeros(shape[0], np.uint32)
            else:
                file = self.folder / f"layer_{layer:02d}.npy"
                self._layers[layer] = (
                    _mapped(file, shape, np.dtype(np.float32)),
                    _mapped(file.with_suffix(".sums.npy"), shape[:1], np.dtype(np.uint32)),
                )
        return self._layers[layer]


def _checksum(row_F: np.ndarray) -> int:
    return zlib.crc32(row_F.data) or 1  # 0 says that a row is not there


def _mapped(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array of a file, made of zeros where it is missing."""
    if not file.exists():
        with temporary_beside(file) as made:
            np.lib.format.open_memmap(made, "w+", dtype, shape)  # zeros take no space yet
            try:
                file.hardlink_to(made)  # of several processes the first one wins
            except FileExistsError:
                pass
            except OSError:  # no hard links here
                made.replace(file)
    try:
        found = np.lib.format.open_memmap(file, "r+")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file} cannot be used ({error}); delete {file.parent}") from error
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(
            f"{file} holds {found.dtype} {found.shape}, not {dtype} {shape}; delete {file.parent}"
        )
    return found


def _create(file: Path, content: bytes) -> None:
    if not file.exists():
        with contextlib.suppress(FileExistsError):  # of several processes the first one wins
            atomic_create_bytes(file, content)
