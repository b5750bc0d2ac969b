"""Small objects in large pictures: detection in overlapping tiles and in the whole, merged.

A detector sees a picture at the size that it was trained for, where objects of few pixels are lost;
a tile at that size keeps them. As test-time augmentation: the pipeline gives several views of a
picture, of which the model makes one result.

Source: SAHI, arXiv:2202.06934 (slices, full-picture inference, merging).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from pe_dense.detection.tile_merging import RULES, merged, tile_boxes


@TRANSFORMS.register_module()
class Tiles:
    """The whole picture, then its tiles, each through the same further transforms.

    A picture that one tile covers has the whole alone.

    Args:
        tile: Height and width of a tile, in pixels of the picture as it is.
        overlap: Share of a tile that the next one covers.
        transforms: What a picture goes through; the last must be PackDetInputs, which gets
            'tile_xy' and 'ori_shape' to pass on. Annotations are loaded for the whole alone.
    """

    def __init__(
        self, tile: Sequence[int], overlap: float, transforms: Sequence[Mapping[str, Any]]
    ) -> None:
        tile_boxes((1, 1), tuple(tile), overlap)
        self.tile, self.overlap = tuple(tile), overlap
        steps = [dict(copy.deepcopy(dict(step))) for step in transforms]
        keys = tuple(steps[-1].get("meta_keys", ("img_id", "img_path", "ori_shape", "img_shape",
                                                 "scale_factor")))  # fmt: skip
        steps[-1]["meta_keys"] = tuple(dict.fromkeys((*keys, "ori_shape", "tile_xy")))
        self._whole = Compose(steps)
        plain = [step for step in steps if not step["type"].startswith("Load")]
        self._part = Compose(plain)

    def __call__(self, results: dict[str, Any]) -> dict[str, list]:
        """Views of a picture: lists of inputs and of data samples."""
        image = results["img"]
        height, width = image.shape[:2]
        views = [self._whole({**copy.copy(results), "tile_xy": (0, 0)})]
        boxes = tile_boxes((height, width), self.tile, self.overlap)
        for left, top, right, bottom in boxes if len(boxes) > 1 else ():
            part = np.ascontiguousarray(image[top:bottom, left:right])
            shape = part.shape[:2]
            names = ("img_id", "img_path")
            view = {name: results[name] for name in names if name in results}
            view |= dict(img=part, img_shape=shape, ori_shape=shape, tile_xy=(left, top))
            views.append(self._part(view))
        return {key: [view[key] for view in views] for key in ("inputs", "data_samples")}


@MODELS.register_module()
class TiledDetector(BaseTTAModel):
    """Merges what a detector finds in the views of `Tiles`, by `tile_merging.merged`.

    Args:
        merge: 'nmm' or 'nms'.
        max_per_img: So many detections stay, the highest scores; a picture of many tiles has many.
        views_at_once: Views of one size that run together; 1 is the reference.
        **kwargs: Of BaseTTAModel.

    Raises:
        ValueError: If `merge` is not known.
    """

    def __init__(
        self, merge: str = "nms", max_per_img: int = 300, views_at_once: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if merge not in RULES:
            raise ValueError(f"tile_merge={merge!r} is not known; use one of {', '.join(RULES)}")
        self.merge, self.max_per_img, self.views_at_once = merge, max_per_img, views_at_once

    def test_step(self, data: Mapping[str, list]) -> list[DetDataSample]:
        """Views [view][image] -> a result for each image."""
        views = list(zip(data["inputs"], data["data_samples"], strict=True))
        alike: dict[tuple, list[int]] = defaultdict(list)
        for k, (inputs, _) in enumerate(views):
            alike[tuple(tuple(image.shape) for image in inputs)].append(k)
        found: list[list[DetDataSample]] = [[] for _ in views]
        for places in alike.values():
            for start in range(0, len(places), self.views_at_once):
                chunk = places[start : start + self.views_at_once]
                batch = dict(
                    inputs=[image for k in chunk for image in views[k][0]],
                    data_samples=[sample for k in chunk for sample in views[k][1]],
                )
                results = iter(self.module.test_step(batch))
                for k in chunk:
                    found[k] = [next(results) for _ in views[k][0]]
        return self.merge_preds(list(zip(*found, strict=True)))  # type: ignore[arg-type]

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list:
        """The views of each image, the whole first -> one result an image."""
        return [self._merged(samples) for samples in data_samples_list]

    def _merged(self, samples: Sequence[DetDataSample]) -> DetDataSample:
        whole = samples[0]
        if len(samples) == 1:
            return whole
        found = [sample.pred_instances for sample in samples]
        device = found[0].scores.device
        shifts = [boxes.new_tensor(sample.metainfo["tile_xy"] * 2) for sample, boxes in
                  zip(samples, (f.bboxes for f in found), strict=True)]  # fmt: skip
        boxes = torch.cat([f.bboxes + s for f, s in zip(found, shifts, strict=True)])
        scores = torch.cat([f.scores for f in found])
        labels = torch.cat([f.labels for f in found])
        boxes_K4, groups = merged(
            boxes.double().cpu().numpy(), scores.cpu().numpy(), labels.cpu().numpy(), self.merge
        )
        groups = groups[: self.max_per_img]
        first = torch.tensor([group[0] for group in groups], dtype=torch.long, device=device)
        result = InstanceData(
            bboxes=torch.as_tensor(boxes_K4[: len(groups)], dtype=boxes.dtype, device=device),
            scores=scores[first],
            labels=labels[first],
        )
        if "masks" in found[0]:
            result.masks = self._masks(samples, groups)
        whole.pred_instances = result
        return whole

    @staticmethod
    def _masks(samples: Sequence[DetDataSample], groups: Sequence[Sequence[int]]) -> torch.Tensor:
        """(K, H, W) bool, the union of the masks of each group on the whole picture."""
        places = [(v, q) for v, s in enumerate(samples) for q in range(len(s.pred_instances))]
        height, width = samples[0].metainfo["ori_shape"][:2]
        device = samples[0].pred_instances.scores.device
        found = torch.zeros((len(groups), height, width), dtype=torch.bool, device=device)
        for k, group in enumerate(groups):
            for place in group:
                view, query = places[place]
                left, top = samples[view].metainfo["tile_xy"]
                mask = torch.as_tensor(samples[view].pred_instances.masks[query], device=device)
                rows, columns = mask.shape
                found[k, top : top + rows, left : left + columns] |= mask.bool()
        return found
