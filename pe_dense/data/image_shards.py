"""Images in WebDataset shards: tar files whose members are images, with other files beside them.

The shards are read with the standard library. One pass over the headers of all shards, which skips
the contents, finds where the images lie; later each is one seek and one read. So the images are
numbered, which makes order, sharding over ranks and workers, and resuming exact and independent of
the number of workers. `ShardOrderSampler` visits shard after shard, so that reads stay close.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Sampler

from pe_dense.data.unlabelled_images import UnlabelledImages


@DATASETS.register_module()
class ShardedImages(UnlabelledImages):
    """All images of the tar files of a folder, in the order of shards by name and of members.

    Args:
        data_root: Folder of the shards.
        pattern: Their names.
        **kwargs: See `UnlabelledImages`.

    Raises:
        ValueError: If there is no shard, or none with an image, a shard is compressed, cut off or
            no tar file, or too many images cannot be read.
    """

    def __init__(self, data_root: str | Path, pattern: str = "*.tar", **kwargs: Any) -> None:
        self._pattern = pattern
        self._files: dict[str, BinaryIO] = {}
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry per image: shard, member, and where its bytes lie."""
        root = Path(self.data_root)
        shards = sorted(root.glob(self._pattern)) if root.is_dir() else []
        if not shards:
            raise ValueError(f"folder {root} holds no shard {self._pattern}; check data_root")
        entries: list[dict[str, Any]] = []
        for shard in shards:
            entries += [
                {
                    "shard": shard.relative_to(root).as_posix(),
                    "name": name,
                    "offset": offset,
                    "num_bytes": num_bytes,
                }
                for name, offset, num_bytes in tar_members(shard)
                if name.lower().endswith(self._suffixes)
            ]
        if not entries:
            endings = ", ".join(self._suffixes)
            raise ValueError(
                f"the {len(shards)} shards {self._pattern} of {root} hold no image ({endings}); "
                "check data_root"
            )
        return entries

    def shard_sizes(self) -> list[int]:
        """Images of every shard that has any, in order."""
        sizes: list[int] = []
        last = None
        for index in range(len(self)):
            shard = self.get_data_info(index)["shard"]
            if shard != last:
                sizes.append(0)
                last = shard
            sizes[-1] += 1
        return sizes

    def path_of(self, entry: dict[str, Any]) -> str:
        """Shard and member."""
        return f"{Path(self.data_root) / entry['shard']}/{entry['name']}"

    def read_entry(self, entry: dict[str, Any]) -> bytes:
        """Bytes of a member.

        Raises:
            ValueError: If the shard ends before the member.
        """
        file = self._files.get(entry["shard"])
        if file is None:
            for other in self._files.values():
                other.close()
            file = (Path(self.data_root) / entry["shard"]).open("rb")
            self._files = {entry["shard"]: file}
        # Forked workers share the position of a file that their parent had opened; this has none.
        content = os.pread(file.fileno(), entry["num_bytes"], entry["offset"])
        if len(content) < entry["num_bytes"]:
            raise ValueError("the shard ends in the middle of it")
        return content

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot travel to a spawned worker.
        return {**self.__dict__, "_files": {}}


def tar_members(shard: Path) -> list[tuple[str, int, int]]:
    """Name, offset of the first byte and length of every regular file of an uncompressed tar.

    A last member that is cut off is still listed; reading it fails and is counted then.

    Raises:
        ValueError: If the file is compressed, cut off within a header, or no tar file.
    """
    try:
        with tarfile.open(shard, "r:") as tar:
            return [(m.name, m.offset_data, m.size) for m in tar if m.isreg() and not m.issparse()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(
            f"shard {shard} is no readable, uncompressed tar file ({error}); unpack or repair it, "
            "or take it out of the folder"
        ) from error


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
