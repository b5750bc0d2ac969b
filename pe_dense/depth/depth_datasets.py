"""Data sets of images with depth maps, read from lists of pairs.

Every sample has `sequence`, the scene or drive that it comes from: frames of one look alike, so
confidence intervals and holdouts take whole sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from pe_dense.data.depth_list import file_below, read_depth_list
from pe_dense.data.depth_map import SUN_BIT_ROTATION
from pe_dense.data.image_groups import kitti_drive, nyu_scene

NYU_SUBFOLDERS = ("", "sync", "train", "official_splits/test", "test")
KITTI_IMAGES = ("", "raw", "input")
KITTI_DEPTH = tuple(
    f"{folder}{split}".lstrip("/")
    for folder in ("", "data_depth_annotated", "gt_depth")
    for split in ("", "/train", "/val")
)


@DATASETS.register_module()
class DepthDataset(BaseDataset):
    """Images and depth maps of a list with lines 'image depth [focal]'; see `read_depth_list`.

    A sample: img_path; depth_map_path; image_id, the image as the list names it; sequence; focal
    in pixels or None; depth_scale; bit_rotation; seg_fields, empty, for the transforms of mmseg.
    Images without a depth map are left out, and how many is logged.

    Args:
        ann_file: The list, below `data_root`.
        data_root: Folder of the data set.
        data_prefix: Folders that the list's paths are relative to, below `data_root`: img_path
            and depth_map_path.
        depth_scale: Steps of a depth PNG per metre.
        bit_rotation: See `pe_dense.data.depth_map.metres`.
        depth_subfolders: Where below depth_map_path the first folder of a depth path is looked
            for, in this order; it is found once for each such folder.
        image_subfolders: The same of image paths below img_path.
        sequence_file: Text file below `data_root` with lines 'image sequence', which decide
            instead of `sequence_of`; None: none.
        **kwargs: Further arguments of BaseDataset: pipeline, indices, test_mode, ...

    Raises:
        ValueError: If the list or the sequence file cannot be used.
    """

    def __init__(
        self,
        *,
        ann_file: str,
        data_root: str = "",
        data_prefix: dict[str, str] | None = None,
        depth_scale: float = 1000.0,
        bit_rotation: int = 0,
        depth_subfolders: Sequence[str] = ("",),
        image_subfolders: Sequence[str] = ("",),
        sequence_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.depth_scale, self.bit_rotation = depth_scale, bit_rotation
        self.subfolders = dict(
            img_path=tuple(image_subfolders), depth_map_path=tuple(depth_subfolders)
        )
        self.sequence_file = sequence_file
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix or dict(img_path="", depth_map_path=""),
            **kwargs,
        )

    def sequence_of(self, image: str) -> str:
        """Sequence of an image, from its path in the list; here every image is its own."""
        return image

    def load_data_list(self) -> list[dict[str, Any]]:
        """The samples, in the order of the list."""
        listed = read_depth_list(self.ann_file)
        message = f"{self.ann_file}: {len(listed.pairs)} images with a depth map"
        if listed.num_without_depth:
            message += f"; {listed.num_without_depth} without one are left out"
        print_log(message, logger="current")
        sequences = self._named_sequences()
        absent = [p.image for p in listed.pairs if sequences and p.image not in sequences]
        if absent:
            raise ValueError(
                f"{self.sequence_file} has no sequence for {len(absent)} images of "
                f"{self.ann_file}, first {absent[0]}; add them or take sequence_file away"
            )
        image_of, depth_of = (
            file_below([Path(self.data_prefix[kind], sub) for sub in self.subfolders[kind]])
            for kind in ("img_path", "depth_map_path")
        )
        return [
            dict(
                img_path=str(image_of(pair.image)),
                depth_map_path=str(depth_of(pair.depth)),
                image_id=pair.image,
                sequence=sequences.get(pair.image) or self.sequence_of(pair.image),
                focal=pair.focal_px,
                depth_scale=self.depth_scale,
                bit_rotation=self.bit_rotation,
                seg_fields=[],
            )
            for pair in listed.pairs
        ]

    def _named_sequences(self) -> dict[str, str]:
        if self.sequence_file is None:
            return {}
        path = Path(self.data_root, self.sequence_file)
        try:
            rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise ValueError(
                f"sequence file {path} cannot be read ({error.strerror}); check data_root and "
                "sequence_file"
            ) from error
        if any(len(row) not in (0, 2) for row in rows):
            raise ValueError(f"sequence file {path} must have lines 'image sequence' only")
        return {row[0].lstrip("/\\"): row[1] for row in rows if row}


@DATASETS.register_module()
class NYUDepthDataset(DepthDataset):
    """NYUv2 in the layout of BTS: 24,231 training pairs and 654 test pairs, 480 x 640 pixels.

    Training images lie as <scene>/rgb_00045.jpg and sync_depth_00045.png, test images as
    <type of scene>/rgb_00045.jpg, also below sync/ or train/ and official_splits/test/ or test/ as
    BTS unpacks them. The sequence is the folder without the letter of a recording: 249 training
    scenes. The test list names only types of room, 16 of 2 to 191 images: clusters so few and so
    unequal that intervals come out wide and are marked as of few units. `sequence_file` names the
    true scenes; the conversion from nyu_depth_v2_labeled.mat writes one.

    Source: arXiv:1907.10326; lists of zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50.
    """

    def __init__(
        self,
        *,
        image_subfolders: Sequence[str] = NYU_SUBFOLDERS,
        depth_subfolders: Sequence[str] = NYU_SUBFOLDERS,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            image_subfolders=image_subfolders, depth_subfolders=depth_subfolders, **kwargs
        )

    def sequence_of(self, image: str) -> str:
        """The scene, see `nyu_scene`."""
        return nyu_scene(image)


@DATASETS.register_module()
class KITTIEigenDataset(DepthDataset):
    """KITTI with the split of Eigen et al. and the annotated depth of KITTI's depth benchmark.

    23,158 training pairs, and 652 of 697 test images: the other 45 have no annotated depth.
    Images lie as 2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png, depth as
    2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png, also below train/
    or val/ as KITTI's archive has them; both also below raw/ and data_depth_annotated/, or input/
    and gt_depth/. 256 steps per metre; the drive is the sequence.

    Source: arXiv:1406.2283; lists of zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50;
    cleinc/bts issue 92 on the 45.
    """

    def __init__(
        self,
        *,
        depth_scale: float = 256.0,
        image_subfolders: Sequence[str] = KITTI_IMAGES,
        depth_subfolders: Sequence[str] = KITTI_DEPTH,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            depth_scale=depth_scale,
            image_subfolders=image_subfolders,
            depth_subfolders=depth_subfolders,
            **kwargs,
        )

    def sequence_of(self, image: str) -> str:
        """The drive: 2011_09_26_drive_0002_sync.

        Raises:
            ValueError: If the path names no drive.
        """
        drive = kitti_drive(image)
        if drive is None:
            raise ValueError(
                f"{image} in {self.ann_file} names no KITTI drive such as "
                "2011_09_26_drive_0002_sync; correct the list, or use DepthDataset"
            )
        return drive


@DATASETS.register_module()
class SUNRGBDDepthDataset(DepthDataset):
    """SUN RGB-D, 5,050 test pairs, for heads that were trained on NYUv2.

    The released depth/*.png hold millimetres with their bits rotated by three, which is undone;
    pass bit_rotation=0 for files that hold plain millimetres. Every image is its own sequence.

    Source: SUN RGB-D, CVPR 2015; zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50,
    splits/SUNRGBD_val_splits.txt and depth/datasets/sunrgbd.py.
    """

    def __init__(self, *, bit_rotation: int = SUN_BIT_ROTATION, **kwargs: Any) -> None:
        super().__init__(bit_rotation=bit_rotation, **kwargs)
