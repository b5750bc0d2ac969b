"""Still pictures of the mini world with captions, drawn once and kept in one file.

Shape legend: N pictures, H W pixels, L tokens of a caption.
"""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from pe_dense.files import code_sha256
from pe_dense.mini_world import world
from pe_dense.mini_world.captions import MAX_TOKENS, caption_of, caption_tokens, mirrored_caption
from pe_dense.mini_world.world import make_image


@DATASETS.register_module()
class MiniCaptionedImages(Dataset):
    """Pictures and captions of the mini world.

    A sample is what MMEngine's loaders collate: 'inputs' (3, H, W) uint8 BGR and 'data_samples', a
    `BaseDataElement` with `caption_tokens` (L,) int64 and the metadata 'caption', 'sample_idx' and
    'flip'.

    Args:
        data_root: Folder in which the drawn pictures are kept, made if it is missing; a file in it
            is named by all that it depends on. None draws them for each object again.
        split: 'train' or 'val' of the mini world.
        num_images: N.
        world_seed: Seed of the mini world.
        image_size: Side of the square pictures in pixels.
        places: See `caption_of`.
        colours: See `caption_of`.
        backdrop: See `caption_of`.
        mirror_prob: Share of pictures that are mirrored, and their captions with them; drawn from
            the global generator of NumPy, as MMEngine's transforms are.

    Raises:
        ValueError: If a number is out of range, or the kept file is damaged.
    """

    def __init__(
        self,
        data_root: str | Path | None = None,
        split: str = "train",
        num_images: int = 4096,
        world_seed: int = 0,
        image_size: int = 128,
        places: bool = True,
        colours: bool = True,
        backdrop: bool = True,
        mirror_prob: float = 0.0,
    ) -> None:
        if num_images < 1:
            raise ValueError(f"num_images={num_images} gives no picture; use 1 or more")
        if not 0.0 <= mirror_prob <= 1.0:
            raise ValueError(f"mirror_prob={mirror_prob} is no share; use 0 to 1")
        self.metainfo: dict[str, Any] = {"split": split, "world_seed": world_seed}
        self.mirror_prob = mirror_prob
        self._images_NHW3: np.ndarray
        self.captions: list[str]
        details = {"places": places, "colours": colours, "backdrop": backdrop}
        words = "".join(f"-{word}" for word, is_on in details.items() if is_on)
        name = (
            f"mini_captions-code{_drawing_code()[:8]}-seed{world_seed}-{split}-{num_images}-"
            f"{image_size}px{words}.npz"
        )
        file = None if data_root is None else Path(data_root) / name
        if file is not None and file.is_file():
            self._images_NHW3, self.captions = _read(file, num_images, image_size)
            return
        frames = (make_image(world_seed, split, i, image_size) for i in range(num_images))
        drawn = [(frame.image, caption_of(frame, **details)) for frame in frames]
        self._images_NHW3 = np.stack([image for image, _ in drawn])
        self.captions = [caption for _, caption in drawn]
        if file is not None:
            content = io.BytesIO()
            np.savez(content, images=self._images_NHW3, captions=np.array(self.captions))
            LocalBackend().put(content.getvalue(), file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)  # whole, or not there

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_HW3, caption = self._images_NHW3[index], self.captions[index]
        is_mirrored = self.mirror_prob > 0 and np.random.random() < self.mirror_prob  # noqa: NPY002
        if is_mirrored:
            image_HW3, caption = image_HW3[:, ::-1], mirrored_caption(caption)
        bgr_3HW = np.ascontiguousarray(image_HW3[:, :, ::-1].transpose(2, 0, 1))
        element = BaseDataElement(
            metainfo={"caption": caption, "sample_idx": index, "flip": bool(is_mirrored)}
        )
        element.caption_tokens = torch.from_numpy(caption_tokens(caption, MAX_TOKENS))
        return {"inputs": torch.from_numpy(bgr_3HW), "data_samples": element}


@functools.lru_cache
def _drawing_code() -> str:
    """Hash of all that draws and describes; pictures of other code are drawn again."""
    return code_sha256(Path(world.__file__).parent)


def _read(file: Path, num_images: int, image_size: int) -> tuple[np.ndarray, list[str]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            images_NHW3, captions = content["images"], content["captions"].tolist()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is damaged ({error}); delete it to draw it again") from error
    if images_NHW3.shape != (num_images, image_size, image_size, 3) or len(captions) != num_images:
        raise ValueError(
            f"{file} holds pictures {images_NHW3.shape} and {len(captions)} captions, not what its "
            "name says; delete it to draw it again"
        )
    return images_NHW3, captions
