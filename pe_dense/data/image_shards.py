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

    The order depends on seed and epoch alone. Ranks take turns image by image, and the loader deals
    batches to its workers in turn, so that all read in the same shards at a time and the images of
    a batch do not depend on the number of workers. MMEngine's iteration-based loop resumes it
    exactly (`skip`); nothing that was skipped is read.

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
        self._sizes = dataset.shard_sizes()
        self._starts = [0, *itertools.accumulate(self._sizes)]
        self._size = sum(self._sizes)
        self._num_skipped = 0

    def _shard_order(self, epoch: int) -> list[int]:
        """Shards in the order of an epoch."""
        if not self.shuffle:
            return list(range(len(self._sizes)))
        return torch.randperm(len(self._sizes), generator=self._generator(epoch, -1)).tolist()

    def _images_of(self, epoch: int, shard: int) -> list[int]:
        """Numbers of a shard's images in the order of an epoch; one shard at a time in memory."""
        start, size = self._starts[shard], self._sizes[shard]
        if not self.shuffle:
            return list(range(start, start + size))
        inside = torch.randperm(size, generator=self._generator(epoch, shard))
        return (inside + start).tolist()

    def _generator(self, epoch: int, shard: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed} {epoch} {shard}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def __iter__(self) -> Iterator[int]:
        position = self._num_skipped * self.world_size + self.rank
        epoch, offset = divmod(position, self._size)
        while True:
            for shard in self._shard_order(epoch):
                size = self._sizes[shard]
                if offset < size:
                    yield from self._images_of(epoch, shard)[offset :: self.world_size]
                    offset += -(-(size - offset) // self.world_size) * self.world_size
                offset -= size  # of the next image of this rank in the next shard
            epoch += 1

    def __len__(self) -> int:
        """Images of an epoch over all ranks, as MMEngine's `InfiniteSampler` counts."""
        return self._size

    def skip(self, num_samples: int) -> None:
        """Begin so many images of this rank later."""
        self._num_skipped += num_samples

    def set_epoch(self, epoch: int) -> None:
        """Nothing to set: the stream goes on over epochs."""
