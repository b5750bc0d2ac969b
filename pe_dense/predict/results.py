"""What a model says of a picture: detections, a map of labels, or depth.

Plain NumPy at the size of the picture as it was read. Each draws and saves itself, and what it
saves is what it holds: nothing is rounded or left out but where a format has no more room, which
its docstring says.

Shape legend: H W pixels of the picture, Q detections, K classes.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pe_dense.files import atomic_write_bytes
from pe_dense.pictures.boxes import Boxes, draw_boxes, side_by_side
from pe_dense.pictures.colours import DEPTH_COLOURS, UNKNOWN, colour_table, coloured, filled
from pe_dense.pictures.folder import encoded

SCORE_THR = 0.3  # least score that is drawn
MOST_STEPS = 2**16 - 1
LABEL_SHARE = 0.6  # of a class's colour in a drawing; the rest is the picture


@dataclass(frozen=True, eq=False)
class Result:
    """What all results know.

    Attributes:
        image_HW3: The picture, RGB uint8, as it was given to the model's pipeline: turned as Exif
            says for detections, as stored for maps (`pe_dense.data.picture`).
        classes: K names, by label; none for depth.
        file: Where it was read from; None for arrays.
    """

    image_HW3: np.ndarray
    classes: tuple[str, ...]
    file: Path | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        height, width = self.image_HW3.shape[:2]
        return height, width

    @property
    def title(self) -> str:
        """The name of the file, or nothing."""
        return "" if self.file is None else self.file.name


@dataclass(frozen=True, eq=False)
class Detections(Result):
    """Objects, the best first, as many as the model's test gives: a threshold is the reader's.

    Attributes:
        boxes_Q4: Left, top, right, bottom in pixels of the picture, float64.
        scores_Q: 0..1, float64.
        labels_Q: Places in `classes`, int64.
        masks_QHW: bool; None for models without masks.
    """

    boxes_Q4: np.ndarray
    scores_Q: np.ndarray
    labels_Q: np.ndarray
    masks_QHW: np.ndarray | None

    def __len__(self) -> int:
        """Q."""
        return len(self.scores_Q)

    @property
    def names(self) -> list[str]:
        """Class of each detection."""
        return [self.classes[label] for label in self.labels_Q]

    def above(self, score_thr: float) -> Detections:
        """Those of at least that score."""
        is_kept = self.scores_Q >= score_thr
        masks_QHW = None if self.masks_QHW is None else self.masks_QHW[is_kept]
        kept = (self.boxes_Q4[is_kept], self.scores_Q[is_kept], self.labels_Q[is_kept])
        return Detections(self.image_HW3, self.classes, self.file, *kept, masks_QHW)

    def coco(self, category_ids: tuple[int, ...] | None = None) -> list[dict[str, Any]]:
        """COCO's results without the id of the image: category_id, bbox, score, segmentation.

        Args:
            category_ids: By label; default 1 to K.

        Returns:
            `bbox` is x, y, width, height in pixels; masks are compressed run lengths.
        """
        ids = category_ids or range(1, len(self.classes) + 1)
        left_Q, top_Q, right_Q, bottom_Q = self.boxes_Q4.T
        rows_Q4 = np.stack([left_Q, top_Q, right_Q - left_Q, bottom_Q - top_Q], axis=1).tolist()
        found: list[dict[str, Any]] = [
            dict(category_id=ids[label], bbox=row, score=score)
            for label, row, score in zip(
                self.labels_Q.tolist(), rows_Q4, self.scores_Q.tolist(), strict=True
            )
        ]
        if self.masks_QHW is not None:
            from pe_dense.detection.coco_metric import encode_masks  # heavy

            for item, mask in zip(found, encode_masks(self.masks_QHW), strict=True):
                item["segmentation"] = mask
        return found

    def draw(self, score_thr: float = SCORE_THR) -> np.ndarray:
        """The picture with boxes, masks and scores, (H, W, 3) RGB uint8."""
        return draw_boxes(self.image_HW3, self._boxes(score_thr), self.classes)

    def figure(self, score_thr: float = SCORE_THR) -> np.ndarray:
        """A drawing of legible size with a legend, RGB uint8."""
        found = self._boxes(score_thr)
        return side_by_side(self.image_HW3, None, found, self.classes, self.title)

    def save(self, path: str | Path, score_thr: float = SCORE_THR) -> None:
        """Write `.json` (all detections, as COCO), or `.jpg` or `.png`, the figure.

        Raises:
            ValueError: For another ending.
        """
        _save(path, {
            ".json": lambda: json.dumps(self.as_coco_file()).encode(),
            ".jpg": lambda: encoded(self.figure(score_thr), ".jpg"),
            ".png": lambda: encoded(self.figure(score_thr), ".png"),
        })  # fmt: skip

    def as_coco_file(self) -> dict[str, Any]:
        """One picture with its detections as a COCO data set, ids from 1."""
        height, width = self.size
        name = self.title or "picture"
        rows = enumerate(self.coco(), start=1)
        return dict(
            images=[dict(id=1, file_name=name, width=width, height=height)],
            categories=[dict(id=k, name=name) for k, name in enumerate(self.classes, start=1)],
            annotations=[dict(id=i, image_id=1, **row) for i, row in rows],
        )

    def _boxes(self, score_thr: float) -> Boxes:
        kept = self.above(score_thr)
        return Boxes(kept.boxes_Q4, kept.labels_Q, scores_Q=kept.scores_Q, masks_QHW=kept.masks_QHW)


@dataclass(frozen=True, eq=False)
class LabelMap(Result):
    """A class for every pixel.

    Attributes:
        labels_HW: Places in `classes`, int64.
        ids: What the label maps of the training call each class, by label; these are saved.
        palette_K3: Colours RGB uint8, by label.
    """

    labels_HW: np.ndarray
    ids: tuple[int, ...]
    palette_K3: np.ndarray

    def as_ids(self) -> np.ndarray:
        """The map in the numbers of the training's maps: uint8, or uint16 where they need it."""
        kind = np.uint8 if max(self.ids) < 256 else np.uint16
        return np.array(self.ids, kind)[self.labels_HW]

    def shares(self) -> dict[str, float]:
        """Share of the picture, 0..1, that each class covers; the largest first."""
        counts_K = np.bincount(self.labels_HW.ravel(), minlength=len(self.classes))
        order = np.argsort(-counts_K, kind="stable")
        return {self.classes[k]: counts_K[k] / counts_K.sum() for k in order if counts_K[k]}

    def draw(self) -> np.ndarray:
        """The picture under the colours of the classes, (H, W, 3) RGB uint8."""
        colours = self.palette_K3[self.labels_HW].astype(np.float32)
        mixed = LABEL_SHARE * colours + (1 - LABEL_SHARE) * self.image_HW3
        return mixed.round().astype(np.uint8)

    def figure(self) -> np.ndarray:
        """Picture and classes side by side with a legend, RGB uint8."""
        from pe_dense.segmentation.pictures import Segmented, draw_segmented  # heavy

        seen = Segmented(self.image_HW3, self.labels_HW, None)
        return draw_segmented(seen, None, self.classes, self.palette_K3, self.title)

    def png(self) -> bytes:
        """`as_ids` as an indexed PNG with the palette; of 16 bits where ids are above 255."""
        ids_HW = self.as_ids()
        if ids_HW.dtype == np.uint16:
            return _grey_png(ids_HW)
        palette = np.zeros((256, 3), np.uint8)
        palette[list(self.ids)] = self.palette_K3
        picture = Image.fromarray(ids_HW, "P")
        picture.putpalette(palette.tobytes())
        file = io.BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write `.png` (see `png`), `.npy` (`labels_HW`), or `.jpg` (the figure).

        Raises:
            ValueError: For another ending.
        """
        _save(path, {
            ".png": self.png,
            ".npy": lambda: _npy(self.labels_HW),
            ".jpg": lambda: encoded(self.figure(), ".jpg"),
        })  # fmt: skip


@dataclass(frozen=True, eq=False)
class DepthMap(Result):
    """Depth of every pixel.

    Attributes:
        depth_HW: Metres, float32, before any limit that a score sets; nan where the model does not
            look (the part of a KITTI frame above its crop).
        steps_per_metre: Of 16-bit files.
    """

    depth_HW: np.ndarray
    steps_per_metre: float

    def draw(self) -> np.ndarray:
        """Near bright, far dark, (H, W, 3) RGB uint8."""
        is_known_HW = np.isfinite(self.depth_HW)
        picture = coloured(self.depth_HW, self._limits(), colour_table(DEPTH_COLOURS))
        return filled(picture, ~is_known_HW, UNKNOWN)

    def figure(self) -> np.ndarray:
        """Picture and depth side by side with a scale in metres, RGB uint8."""
        from pe_dense.depth.pictures import Estimated, draw_estimated  # heavy

        seen = Estimated(self.image_HW3, self.depth_HW, None)
        return draw_estimated(seen, None, self.title)

    def steps(self) -> tuple[np.ndarray, int]:
        """(H, W) uint16 of `steps_per_metre`, and how many pixels did not fit.

        0 means that nothing is known. A depth below half a step becomes 1, one above 65,535 steps
        becomes that; both are counted.
        """
        is_known_HW = np.isfinite(self.depth_HW)
        wanted_HW = np.rint(np.where(is_known_HW, self.depth_HW, 1.0) * self.steps_per_metre)
        fitting_HW = wanted_HW.clip(1, MOST_STEPS)
        clipped = int(((fitting_HW != wanted_HW) & is_known_HW).sum())
        return np.where(is_known_HW, fitting_HW, 0).astype(np.uint16), clipped

    def png(self) -> bytes:
        """`steps` as a PNG of 16 bits."""
        return _grey_png(self.steps()[0])

    def npy(self) -> bytes:
        """`depth_HW` as it is."""
        return _npy(self.depth_HW)

    def save(self, path: str | Path) -> None:
        """Write `.npy` (metres), `.png` (16 bits, see `steps`), or `.jpg` (the figure).

        Raises:
            ValueError: For another ending, or a depth that 16 bits do not hold.
        """
        _save(path, {
            ".npy": self.npy,
            ".png": self._whole_png,
            ".jpg": lambda: encoded(self.figure(), ".jpg"),
        })  # fmt: skip

    def with_steps(self, steps_per_metre: float) -> DepthMap:
        """The same with another scale of 16-bit files."""
        return dataclasses.replace(self, steps_per_metre=steps_per_metre)

    def _whole_png(self) -> bytes:
        steps_HW, clipped = self.steps()
        if clipped:
            raise ValueError(
                f"{clipped} pixels of {self.title or 'the picture'} do not fit into 16 bits of "
                f"1/{self.steps_per_metre:g} m; save them as .npy, or with "
                f"with_steps({self.steps_per_metre / 4:g})"
            )
        return _grey_png(steps_HW)

    def _limits(self) -> tuple[float, float]:
        from pe_dense.depth.pictures import Estimated, depth_limits  # heavy

        return depth_limits(Estimated(self.image_HW3, self.depth_HW, None))


def _save(path: str | Path, writers: dict[str, Callable[[], bytes]]) -> None:
    file = Path(path)
    write = writers.get(file.suffix.lower())
    if write is None:
        raise ValueError(f"{file} cannot be written; its name must end in {', '.join(writers)}")
    atomic_write_bytes(file, write())


def _grey_png(values_HW: np.ndarray) -> bytes:
    import cv2

    is_good, data = cv2.imencode(".png", values_HW)
    assert is_good
    return data.tobytes()


def _npy(values_HW: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values_HW, allow_pickle=False)
    return file.getvalue()
