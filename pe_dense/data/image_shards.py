"""Images in WebDataset shards: tar files whose members are images, with other files beside them.

Where the images lie is in an index on disk (`pe_dense.data.shard_indexing`), which one pass over
the headers of all shards makes once and all processes share; reading an image is one seek and one
read. So the images are numbered, which makes order, sharding over ranks and workers, and resuming
exact and independent of their numbers. `ShardOrderSampler` visits shard after shard, so that reads
stay close.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Sampler

from pe_dense.data.shard_index import DamagedIndexError, ShardIndex
from pe_dense.data.shard_indexing import open_shard_index
from pe_dense.data.unlabelled_images import UnlabelledImages


class ChangedShardError(ValueError):
    """A shard is not the one that the index was made of; no other image takes its place."""


@DATASETS.register_module()
class ShardedImages(UnlabelledImages):
    """All images of the tar files of a folder, in the order of shards by name and of members.

    Args:
        data_root: Folder of the shards.
        pattern: Their names.
        **kwargs: See `UnlabelledImages`.

    Raises:
        ValueError: If there is no shard, or none with an image, a shard is compressed, damaged, cut
            off or no tar file, or missing or changed since the folder was indexed, or too many
            images cannot be read.
    """

    index: ShardIndex

    def __init__(self, data_root: str | Path, pattern: str = "*.tar", **kwargs: Any) -> None:
        self._pattern = pattern
        self._file: tuple[str, BinaryIO] | None = None
        self._chosen: np.ndarray | None = None  # numbers of the images of a part; None: all
        super().__init__(data_root, **kwargs)

    def full_init(self) -> None:
        """Open the index, which is built where there is none."""
        if self._fully_initialized:
            return
        root = Path(self.data_root)
        self.index = open_shard_index(root, self._pattern, self._suffixes, _log)
        _log(f"{root}: {self.index.summary()} (index: {self.index.data})")
        self._shard_stamps = {shard.name: shard.stamp for shard in self.index.shards}
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def __len__(self) -> int:
        """Number of images."""
        self.full_init()
        return len(self.index) if self._chosen is None else len(self._chosen)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Shard and member of an image, and where its bytes lie.

        Raises:
            IndexError: If there is no image of that number.
        """
        number = range(len(self))[idx]
        shard, member = self.index.entry(
            number if self._chosen is None else int(self._chosen[number])
        )
        return {
            "shard": shard.name,
            "name": member.name,
            "offset": member.offset,
            "num_bytes": member.num_bytes,
            "sample_idx": number,
        }

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep the first (the last, if negative) so many images, or those of a list."""
        now = np.arange(len(self)) if self._chosen is None else self._chosen
        if isinstance(indices, int):
            self._chosen = now[:indices] if indices >= 0 else now[indices:]
        else:
            self._chosen = now[np.asarray(indices, np.int64)]

    def get_subset(self, indices: int | Sequence[int]) -> ShardedImages:
        """A data set of some of the images, as `get_subset_`; the index is shared."""
        part = copy.copy(self)
        part._file = None
        part.get_subset_(indices)
        return part

    def shard_sizes(self) -> list[int]:
        """Images of every shard that has any, in order."""
        self.full_init()
        if self._chosen is None:
            return [shard.num_images for shard in self.index.shards if shard.num_images]
        shards = np.searchsorted(self.index.starts, self._chosen, side="right")
        ends = np.flatnonzero(np.diff(shards, append=-1)) + 1
        return np.diff(ends, prepend=0).tolist()

    @property
    def image_set_sha256(self) -> str:
        """Of names and sizes of all images."""
        self.full_init()
        return self.index.image_set_sha256 if self._chosen is None else super().image_set_sha256

    def path_of(self, entry: dict[str, Any]) -> str:
        """Shard and member."""
        return f"{Path(self.data_root) / entry['shard']}/{entry['name']}"

    def read_entry(self, entry: dict[str, Any]) -> bytes:
        """Bytes of a member.

        Raises:
            ChangedShardError: If the shard is not as it was indexed.
        """
        shard = entry["shard"]
        path = Path(self.data_root) / shard
        if self._file is None or self._file[0] != shard:
            if self._file is not None:
                self._file[1].close()
                self._file = None
            try:
                self._file = shard, path.open("rb")
            except FileNotFoundError as error:
                raise ChangedShardError(
                    f"shard {path} is missing since the run began; restore it"
                ) from error
        descriptor = self._file[1].fileno()
        # Forked workers share the position of a file that their parent had opened; this has none.
        content = os.pread(descriptor, entry["num_bytes"], entry["offset"])
        now, indexed = os.fstat(descriptor), self._shard_stamps[shard]
        if (now.st_size, now.st_mtime_ns) != indexed[:2] or len(content) < entry["num_bytes"]:
            raise ChangedShardError(
                f"shard {path} changed since it was indexed ({indexed.size:,} bytes then, "
                f"{now.st_size:,} now, or another time); restore it, or start the run again"
            )
        return content

    def note_unreadable(self, index: int, error: Exception) -> None:
        """List an image that could not be read; changed shards and indices are no matter of one."""
        if isinstance(error, ChangedShardError | DamagedIndexError):
            raise error
        super().note_unreadable(index, error)

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot travel to a spawned worker.
        return {**self.__dict__, "_file": None}


def _log(line: str) -> None:
    print_log(line, logger="current")


@DATA_SAMPLERS.register_module()
class ShardOrderSampler(Sampler):
    """Endless epochs over `ShardedImages`: shards in random order, images of each in random order.

    All processes read one stream, whose image at a position is a function of seed and position
    alone (`image_at`). Process r of P takes the positions r, r + P, r + 2 P ..., and the loader
    deals batches to its workers in turn. So all read in the same shards at a time; the images of
    a batch depend neither on the number of workers nor, while the batches of all processes
    together keep their size, on the number of processes: batch k of B images, taken together, is
    the positions k B to (k + 1) B - 1. A run may go on with another number of them.

    MMEngine's iteration-based loop resumes it exactly (`skip`): what was skipped is neither read
    nor drawn. Only the order of the shards of an epoch and of the images of one shard are in
    memory.

    Args:
        dataset: Has `shard_sizes()`.
        seed: The same on all ranks; None draws one that all share.
        shuffle: False keeps the order of the data set in every epoch.
    """

    def __init__(self, dataset: Any, seed: int | None = None, shuffle: bool = True) -> None:
        rank, world_size = get_dist_info()
        self.rank, self.world_size = rank, world_size
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self._sizes = np.asarray(dataset.shard_sizes(), np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._size = int(self._sizes.sum())
        self._num_skipped = 0
        # What was drawn last: (epoch, shards in order, images up to the end of each), and
        # (epoch, shard, images of it in order).
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None
        self._shard: tuple[int, int, np.ndarray] | None = None

    def image_at(self, position: int) -> int:
        """Number of the image at a position (0, 1, ...) of the stream that all processes share.

        Takes the same time at any position: it draws the order of one epoch's shards and of one
        shard's images, or finds them drawn.
        """
        epoch, place = divmod(position, self._size)
        if self._epoch is None or self._epoch[0] != epoch:
            shards = self._permutation(len(self._sizes), epoch, -1)
            self._epoch = epoch, shards, np.cumsum(self._sizes[shards])
        _, shards, ends = self._epoch
        at = int(np.searchsorted(ends, place, side="right"))
        shard = int(shards[at])
        if self._shard is None or self._shard[:2] != (epoch, shard):
            inside = self._permutation(int(self._sizes[shard]), epoch, shard)
            self._shard = epoch, shard, inside + self._starts[shard]
        return int(self._shard[2][place - int(ends[at])])  # counted from the end of the shard

    def _permutation(self, size: int, epoch: int, shard: int) -> np.ndarray:
        """0..size-1 in the order of an epoch; shard -1 stands for the order of the shards."""
        if not self.shuffle:
            return np.arange(size)
        digest = hashlib.sha256(f"{self.seed} {epoch} {shard}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randperm(size, generator=generator).numpy()

    def __iter__(self) -> Iterator[int]:
        start = self._num_skipped * self.world_size + self.rank
        return map(self.image_at, itertools.count(start, self.world_size))

    def __len__(self) -> int:
        """Images of an epoch over all ranks, as MMEngine's `InfiniteSampler` counts."""
        return self._size

    def skip(self, num_samples: int) -> None:
        """Begin after so many images of this process, counted from the start of the stream.

        Raises:
            ValueError: If the number is negative.
        """
        if num_samples < 0:
            raise ValueError(f"cannot skip {num_samples} images; the stream begins at 0")
        self._num_skipped = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Nothing to set: the stream goes on over epochs."""
