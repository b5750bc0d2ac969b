"""Multi-object tracking by detection: any detector of mmdet, one tracker, frame after frame.

    frame -> detector -> boxes -> [one class] -> tracker -> boxes with identities
                |-> encoder's map -> features of boxes --^   (AppearanceByteTracker alone)

The detector is trained as a detector, by its own config. Its checkpoint loads here as it is: names
get the prefix 'detector.', and nothing may be missing or left over.

Source: ByteTrack (arXiv:2110.06864), OC-SORT (arXiv:2203.14360), as mmdet 3.5.1 has them;
`PublishedByteTracker` is ByteTrack as its own code has it.

Shape legend: B images, C channels, H W pixels, h w feature map, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.ops import nms
from mmdet.models.mot import OCSORT, ByteTrack, QDTrack
from mmdet.models.mot.base import BaseMOTModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from pe_dense.openmmlab import backbone, image_loading, layer_decay, necks  # noqa: F401
from pe_dense.openmmlab.foreign_layouts import FOREIGN_LAYOUTS
from pe_dense.tracking import byte_tracker, mot_metric  # noqa: F401
from pe_dense.tracking.appearance import box_embeddings
from pe_dense.tracking.appearance_tracker import AppearanceByteTracker
from pe_dense.tracking.mot_check import NEEDED, check_config, require_extra  # noqa: F401


class _DetectThenTrack:
    """What TrackByDetection and its OC-SORT counterpart share; mixed into mmdet's models.

    Args:
        detector: Config of a detector that is trained elsewhere.
        tracker: Config of the tracker.
        merge_classes: All classes of the detector become one, as MOTChallenge scores them; of
            boxes that then overlap with a larger IoU than this, the best stays. None keeps the
            detector's classes apart, and tracks never change class.
        keep_labels: Labels of the detector that are tracked; None tracks all.
        appearance_encoder: Config of a frozen encoder (`DenseBackbone`) whose last map gives the
            appearance; None takes the last map of the detector's own encoder.
        appearance_mean, appearance_std: Normalisation of that encoder, 0..255 RGB; by default the
            detector's.
        centred: See `box_embeddings`.
        kwargs: `data_preprocessor` and `init_cfg` of mmdet's model.

    Raises:
        ValueError: If the extra 'mot' is not installed.
    """

    def __init__(
        self,
        detector: dict,
        tracker: dict,
        merge_classes: float | None = None,
        keep_labels: Sequence[int] | None = None,
        appearance_encoder: dict | None = None,
        appearance_mean: Sequence[float] | None = None,
        appearance_std: Sequence[float] | None = None,
        centred: bool = True,
        **kwargs: Any,
    ) -> None:
        require_extra(NEEDED[:1])
        super().__init__(detector=detector, tracker=tracker, **kwargs)
        self.merge_classes, self.centred = merge_classes, centred
        self.keep_labels = None if keep_labels is None else tuple(keep_labels)
        self.appearance_encoder = None
        if appearance_encoder is not None:
            self.appearance_encoder = MODELS.build({**appearance_encoder, "frozen": True})
        self.appearance_mean, self.appearance_std = appearance_mean, appearance_std
        self.by_looks = isinstance(self.tracker, AppearanceByteTracker)
        self._maps: list[Tensor] = []
        if self.by_looks and self.appearance_encoder is None:
            self.detector.backbone.register_forward_hook(self._keep_map)

    @property
    def backbone(self) -> nn.Module:
        """The detector's encoder, where records look for it."""
        return self.detector.backbone

    def loss(self, inputs: Tensor, data_samples: list, **kwargs: Any) -> dict:
        """Nothing is trained here.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a tracker by detection is not trained; train its detector's own config")

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: list[TrackDataSample], **kwargs: Any
    ) -> list[TrackDataSample]:
        """Track through the frames that are given, which go on from those before.

        Args:
            inputs: (1, T, 3, H, W) normalised frames of one sequence.
            data_samples: One sample with T frames; 'frame_id' 0 begins a sequence.
            kwargs: Not used.

        Returns:
            The sample, with `pred_track_instances` in original pixels in every frame.
        """
        if inputs.ndim != 5 or inputs.shape[0] != 1 or len(data_samples) != 1:
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)} for {len(data_samples)} sequences; track "
                "one sequence at a time, (1, T, 3, H, W): set batch_size=1"
            )
        for t, frame in enumerate(data_samples[0]):
            self._track_frame(inputs[:, t].contiguous(), frame)
        return data_samples

    def _track_frame(self, image_13HW: Tensor, frame: DetDataSample) -> None:
        self._maps.clear()
        [found] = self.detector.predict(image_13HW, [frame])
        found.pred_instances = self._of_interest(found.pred_instances)
        if not self.by_looks:
            frame.pred_track_instances = self.tracker.track(data_sample=found)
            return
        if self.appearance_encoder is None:
            map_1Chw = self._maps[-1]
        else:
            map_1Chw = self.appearance_encoder(self._renormalised(image_13HW))[-1]
        (height, width), (rows, columns) = image_13HW.shape[-2:], map_1Chw.shape[-2:]
        scale_w, scale_h = frame.metainfo["scale_factor"]
        to_cells = torch.tensor(
            [scale_w * columns / width, scale_h * rows / height] * 2, device=map_1Chw.device
        )

        def embed(boxes_xyxy_N4: Tensor) -> Tensor:
            return box_embeddings(map_1Chw, boxes_xyxy_N4 * to_cells, self.centred)

        frame.pred_track_instances = self.tracker.track(data_sample=found, embed=embed)
        self._maps.clear()

    def _of_interest(self, found: InstanceData) -> InstanceData:
        """The detections that are tracked, as one class where asked for."""
        if self.keep_labels is not None:
            wanted = torch.tensor(self.keep_labels, device=found.labels.device)
            found = found[torch.isin(found.labels, wanted)]
        if self.merge_classes is not None and len(found):
            _, best = nms(found.bboxes, found.scores, self.merge_classes)
            found = found[best]
            found.labels = torch.zeros_like(found.labels)
        return found

    def _renormalised(self, image_13HW: Tensor) -> Tensor:
        if self.appearance_mean is None or self.appearance_std is None:
            return image_13HW
        pixels = image_13HW * self.data_preprocessor.std + self.data_preprocessor.mean
        mean, std = (
            image_13HW.new_tensor(values).view(1, 3, 1, 1)
            for values in (self.appearance_mean, self.appearance_std)
        )
        return (pixels - mean) / std

    def _keep_map(self, module: nn.Module, args: tuple, maps: Any) -> None:
        self._maps[:] = [maps[-1]]


@MODELS.register_module()
class TrackByDetection(_DetectThenTrack, ByteTrack):
    """ByteTrack of mmdet on a detector; arguments: see `_DetectThenTrack`."""


@MODELS.register_module()
class ObservationCentricTracking(_DetectThenTrack, OCSORT):
    """OC-SORT of mmdet on a detector; arguments: see `_DetectThenTrack`."""


@MODELS.register_module()
class QuasiDenseTracking(QDTrack):
    """QDTrack of mmdet with the encoder where records look for it; trained end to end."""

    @property
    def backbone(self) -> nn.Module:
        """The detector's encoder."""
        return self.detector.backbone


def detector_state(state: Mapping[str, Any], model: nn.Module) -> dict[str, Any] | None:
    """State of a bare detector as a tracker's: names get 'detector.'; see `FOREIGN_LAYOUTS`.

    A frozen appearance encoder keeps the parameters that it was built with.

    Returns:
        None where the model is no tracker, or the state is that of a tracker already.
    """
    if not isinstance(model, BaseMOTModel) or not model.with_detector:
        return None
    if any(key.startswith("detector.") for key in state):
        return None
    own = {k: v for k, v in model.state_dict().items() if k.startswith("appearance_encoder.")}
    return {f"detector.{key}": value for key, value in state.items()} | own


FOREIGN_LAYOUTS.append(detector_state)
