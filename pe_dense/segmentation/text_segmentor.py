"""Classes of pixels from their names alone: a contrastive tower, many read-outs in one pass.

Shape legend: B images, W windows, R candidates (read-out x layer x threshold), K classes, Q names,
D width of the embedding, h w patch grid of a window, P Q pixels of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor

from pe_dense.encoders.contract import check_choice, resolve_indices
from pe_dense.encoders.token_parts import token_parts
from pe_dense.pixelwise.banded_inference import BandedLogits
from pe_dense.pixelwise.batch_sizes import AnyImageSize
from pe_dense.pixelwise.mean_iou import image_counts
from pe_dense.pixelwise.windows import mirrored, unpadded_size, window_outputs, windows_of
from pe_dense.text_dense.class_vectors import name_vectors
from pe_dense.text_dense.patch_scores import (
    Background,
    class_logits,
    listed,
    names_of,
    patch_cosines,
)
from pe_dense.text_dense.readouts import READOUTS, PatchReader, TowerReader


class Candidate(NamedTuple):
    """One way to read classes off the tower.

    Attributes:
        readout: One of `READOUTS`, or of what else reads patches.
        layer: 0-based block.
        threshold: Of the background; None where every pixel has a named class.
    """

    readout: str
    layer: int
    threshold: float | None

    def in_words(self) -> dict[str, str]:
        """Name -> value, for records."""
        words = {"layer": str(self.layer), "readout": self.readout}
        return words if self.threshold is None else {**words, "threshold": f"{self.threshold:g}"}


@MODELS.register_module()
class TextSegmentor(AnyImageSize, BaseModel):
    """Labels every pixel with the class whose name its patch is most like; nothing is trained.

    Samples come back with `readout_counts` (R, 3, K) and `candidates`, which `ReadoutMeanIoU`
    chooses among; with one candidate also with `pred_sem_seg`, as other segmentors give it.

    Args:
        backbone: Config of an `ImageTextBackbone`, or what has its members: `encoder`,
            `encode_texts`, `weights_info`; one with a `patch_reader` reads patches itself, others
            are read as `TowerReader` does.
        classes: K names.
        names: Class -> what it is called in prompts, where that is not its name; an empty list
            for a background that no prompt describes.
        templates: Sentences with `{}` for the name.
        readouts: Of `READOUTS`, or 'all'.
        layers: 0-based blocks, negatives allowed, or 'all'.
        background: None, or the class that pixels get which no name fits.
        thresholds: With a background: probabilities that the best class must reach.
        scale: What cosines are multiplied with before the softmax of the background's rule.
        test_cfg: mode 'whole', or 'slide' with crop_size and stride, as `DenseSegmentor`.
        data_preprocessor, init_cfg: As in MMEngine.

    Raises:
        ValueError: If an option is unknown, or the tower's patches cannot be read.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        classes: Sequence[str],
        names: Mapping[str, Sequence[str]] | None = None,
        templates: Sequence[str] = ("{}",),
        readouts: Sequence[str] | str = "all",
        layers: Sequence[int] | str = "all",
        background: str | None = None,
        thresholds: Sequence[float] = (),
        scale: float = 100.0,
        test_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(dict(backbone))
        own_reader = getattr(self.backbone, "patch_reader", None)
        self.reader: PatchReader = own_reader or TowerReader(token_parts(self.backbone.encoder))
        self.classes, self.templates, self.scale = list(classes), tuple(templates), scale
        self.names = names_of(self.classes, names)
        if background is not None:
            check_choice("background", background, self.classes)
        if (background is None) != (not thresholds):
            raise ValueError(
                "a background needs thresholds to choose from, and thresholds need a background; "
                f"given are background={background!r}, thresholds={list(thresholds)}"
            )
        self.background = None if background is None else self.classes.index(background)
        self.candidates = candidates_of(
            readouts, layers, thresholds, self.reader.depth, self.reader.readouts
        )
        self.test_cfg = dict(test_cfg or {"mode": "whole"})
        self._vectors_QD: Tensor | None = None
        self.num_cut = 0

    def forward(
        self,
        inputs: Tensor,
        data_samples: SampleList | None = None,
        mode: str = "tensor",
    ) -> Any:
        """As MMEngine asks: 'predict' -> samples, 'tensor' -> `patch_logits`."""
        if mode == "tensor":
            return self.patch_logits(inputs)
        if mode != "predict" or data_samples is None:
            raise ValueError(f"nothing is trained here: mode {mode!r} is not 'predict'")
        return self.predict(inputs, data_samples)

    @torch.no_grad()
    def name_vectors(self) -> Tensor:
        """(Q, D) of unit length, found out once."""
        if self._vectors_QD is None:

            def encode(texts: Sequence[str]) -> Tensor:
                vectors_BD, num_cut = self.backbone.encode_texts(texts)
                self.num_cut += num_cut
                return vectors_BD

            vectors_QD = name_vectors(encode, self.names.names, self.templates)
            _require_finite("names", torch.isfinite(vectors_QD).all())
            self._vectors_QD = vectors_QD
        return self._vectors_QD

    @torch.no_grad()
    def patch_logits(self, images_B3HW: Tensor) -> Tensor:
        """(B, R, K, h, w): the largest of K is the class of a patch.

        Raises:
            ValueError: If the vector of a name or patch is not finite.
        """
        names_QD = self.name_vectors()
        with self._precision(images_B3HW.device):
            looked = self.reader.look(images_B3HW)
        found: list[Tensor] = []
        is_finite = torch.ones((), dtype=torch.bool, device=images_B3HW.device)
        last: tuple[str, int] | None = None
        for readout, layer, threshold in self.candidates:
            if (readout, layer) != last:  # thresholds vary fastest
                with self._precision(images_B3HW.device):
                    embedding_BDhw = self.reader.embeddings(looked, readout, layer)
                is_finite &= torch.isfinite(embedding_BDhw).all()
                cosine_BQhw = patch_cosines(embedding_BDhw.float(), names_QD)
                last = readout, layer
            rule = None
            if threshold is not None:
                assert self.background is not None
                rule = Background(self.background, threshold, self.scale)
            found.append(class_logits(cosine_BQhw, self.names.class_of_Q, len(self.classes), rule))
        _require_finite("patches", is_finite)  # once, as it waits for the device
        return torch.stack(found, dim=1)

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """What the backbone runs in; those without a choice run in their own precision."""
        given = getattr(self.backbone, "precision", None)
        return nullcontext() if given is None else given(device)

    @torch.no_grad()
    def banded_logits(self, inputs: Tensor, data_samples: SampleList) -> list[BandedLogits]:
        """Images (B, 3, H, W) -> the logits of each in its original size, made on demand.

        Raises:
            ValueError: If an image is padded at the left or top, or for a wrong `test_cfg`.
        """
        size = tuple(inputs.shape[2:])
        windows = windows_of(self.test_cfg, size)
        logits_WBRKhw = window_outputs(
            self.patch_logits, inputs, windows, self.test_cfg.get("window_batch", 8)
        )
        return [
            BandedLogits(
                logits_WRKhw,
                windows,
                unpadded_size(sample, size, "TextSegmentor expects"),
                tuple(sample.ori_shape[:2]),
                mirrored(sample),
            )
            for sample, logits_WRKhw in zip(data_samples, logits_WBRKhw.unbind(1), strict=True)
        ]

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: SampleList) -> SampleList:
        """Samples with what every candidate has right of the annotation."""
        views = self.banded_logits(inputs, data_samples)
        for sample, view in zip(data_samples, views, strict=True):
            labels_RPQ = view.labels()
            if len(self.candidates) == 1:
                sample.set_data({"pred_sem_seg": PixelData(data=labels_RPQ)})
            if "gt_sem_seg" in sample:
                target_PQ = sample.gt_sem_seg.data[0].cpu().numpy()
                sample.set_field(self._counts(labels_RPQ, target_PQ, sample), "readout_counts")
                sample.set_field([tuple(each) for each in self.candidates], "candidates")
                sample.set_field(self.num_cut, "num_cut")
                sample.set_field(getattr(self.backbone, "notes", ()), "reader_notes")
        return data_samples

    def _counts(self, labels_RPQ: Tensor, target_PQ: np.ndarray, sample: Any) -> np.ndarray:
        """(R, 3, K) pixels: right, predicted, annotated."""
        kind = np.uint8 if len(self.classes) <= 255 else np.int64  # bytes are counted faster
        maps = labels_RPQ.cpu().numpy().astype(kind)
        try:
            return np.stack([image_counts(each, target_PQ, len(self.classes)) for each in maps])
        except ValueError as error:
            raise ValueError(f"{sample.get('seg_map_path', '?')}: {error}") from error


def _require_finite(what: str, is_finite: Tensor) -> None:
    if not bool(is_finite):
        raise ValueError(
            f"vectors of {what} are not finite; the weights are broken, or the precision is too low"
        )


def candidates_of(
    readouts: Sequence[str] | str,
    layers: Sequence[int] | str,
    thresholds: Sequence[float],
    depth: int,
    known: Sequence[str] = READOUTS,
) -> tuple[Candidate, ...]:
    """All combinations, thresholds varying fastest.

    Raises:
        ValueError: If a read-out or block does not exist, or one stands twice.

    Example:
        >>> [c.layer for c in candidates_of(["layer"], [-1, 0], (), 12)]
        [11, 0]
    """
    readouts = known if readouts == "all" else listed(readouts, "readouts")
    blocks = list(range(depth)) if layers == "all" else resolve_indices(layers, depth)
    for readout in readouts:
        check_choice("readout", readout, known)
    found = tuple(
        Candidate(readout, block, threshold)
        for readout in readouts
        for block in blocks
        for threshold in (tuple(thresholds) or (None,))
    )
    if not found or len(set(found)) < len(found):
        raise ValueError("read-outs, layers and thresholds name no candidate, or one twice")
    return found
