"""Pictures or videos with captions, for retrieval. Nothing is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

from pe_dense.data.picture import require_bits
from pe_dense.zero_shot.caption_files import read_captions
from pe_dense.zero_shot.class_folders import MEDIA


@DATASETS.register_module()
class CaptionedPictures(BaseDataset):
    """One item is the path of one picture or video, and its captions.

    Args:
        data_root: Folder of the data.
        ann_file: File of captions below it.
        style: See `caption_files`.
        folder: Folder of pictures below `data_root`.
        split: Of a file that holds several.
        num_items: How many there must be; None: any.
        media: 'image' or 'video'.
        num_frames: Of a video.
        left_out: Items that are not scored, by the names of the file.
        as_stored: Whether pictures stay as they are stored, or are turned as Exif says.
        bits: Of 16-bit pictures; see `pe_dense.data.picture`.
        test_mode, lazy_init: As in MMEngine.

    Raises:
        ValueError: If an option is unknown, a file is missing or broken, or there are more or fewer
            pictures than the protocol's.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type="captioned_pictures")

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        style: str = "jsonl",
        folder: str = "",
        split: str = "test",
        num_items: int | None = None,
        media: str = "image",
        num_frames: int = 8,
        left_out: Sequence[str] = (),
        as_stored: bool = True,
        bits: int | None = None,
        test_mode: bool = True,
        lazy_init: bool = False,
    ) -> None:
        if media not in MEDIA:
            raise ValueError(f"media={media!r} is unknown; choose one of {', '.join(MEDIA)}")
        self.style, self.folder, self.split, self.num_items = style, folder, split, num_items
        self.media, self.num_frames, self.left_out = media, num_frames, tuple(left_out)
        self.as_stored, self.bits = as_stored, require_bits(bits)
        super().__init__(
            ann_file=ann_file, data_root=data_root, test_mode=test_mode, lazy_init=lazy_init
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Paths and captions of all that counts."""
        file = Path(self.ann_file)
        captioned = read_captions(file, self.style, self.split)
        left = set(self.left_out) - {item.name for item in captioned}
        if left:
            raise ValueError(f"left_out names {min(left)!r}, which {file} lacks; correct it")
        captioned = [item for item in captioned if item.name not in set(self.left_out)]
        if self.num_items is not None and len(captioned) != self.num_items:
            raise ValueError(
                f"{file} gives {len(captioned):,} to score, not the {self.num_items:,} of this "
                "protocol; use the file that it names, or configs/retrieval/pairs_custom.py"
            )
        if len(captioned) < 2:
            raise ValueError(
                f"{file} gives {len(captioned)} to score, which every caption would find; give two "
                "or more"
            )
        folder = Path(self.data_root) / self.folder
        return [
            dict(img_path=str(folder / item.name), image_id=item.name, captions=item.captions)
            for item in captioned
        ]

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """An empty tensor, so that collating has one, and a sample with the path as metainfo."""
        return {"inputs": torch.empty(0), "data_samples": BaseDataElement(metainfo=self.item(idx))}

    def item(self, idx: int) -> dict[str, Any]:
        """An entry with what is the same for all of them."""
        return {
            **self.get_data_info(idx),
            "media": self.media,
            "num_frames": self.num_frames,
            "as_stored": self.as_stored,
            "bits": self.bits,
            "left_out": self.left_out,
        }
