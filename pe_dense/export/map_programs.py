"""Programs of what gives maps: encoders, segmentors, depth estimators.

Shape legend: B images, C width, K classes, h w grid, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.models import DepthEstimator, EncoderDecoder
from mmseg.models.decode_heads import Mask2FormerHead
from torch import Tensor, nn

from pe_dense.encoders.contract import resolve_indices
from pe_dense.export.adaptive_pool import pool_by_products
from pe_dense.export.program import Normalised, Program, Sizes
from pe_dense.openmmlab.deformable_attention import without_checks


class EncoderMaps(nn.Module):
    """Maps of some blocks of an encoder, of pixels in 0..255."""

    def __init__(self, encoder: nn.Module, layers: Sequence[int], norm: bool) -> None:
        super().__init__()
        self.normalise = Normalised(*([v * 255 for v in m] for m in (encoder.mean, encoder.std)))
        self.encoder, self.layers, self.norm = encoder, tuple(layers), norm

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, h, w) for every layer."""
        maps = self.encoder.forward_intermediates(
            self.normalise(image), self.layers, norm=self.norm
        )
        return tuple(maps)


def encoder_program(
    encoder: nn.Module,
    layers: Sequence[int],
    sizes: Sizes,
    facts: Mapping[str, Any],
    norm: bool = False,
) -> Program:
    """An encoder alone, `layer_<i>` (B, C, h, w) for each of its blocks that is asked for.

    Args:
        encoder: In eval mode.
        layers: Blocks, negatives allowed.
        sizes: Of pictures.
        facts: To be written into the file.
        norm: Apply the encoder's final norm.

    Raises:
        ValueError: For a layer that the encoder has not, or one twice.
    """
    found = resolve_indices(layers, encoder.depth)
    if len(set(found)) != len(found):
        raise ValueError(f"layers {list(layers)} name block {max(found, key=found.count)} twice")
    names = tuple(f"layer_{i}" for i in found)
    of_picture = dict(
        mean=[round(value * 255, 6) for value in encoder.mean], resize=[], not_done=[],
        divisor=encoder.patch_size,
    )  # fmt: skip
    own = dict(layers=list(found), norm=norm, patch_size=encoder.patch_size, picture=of_picture)
    module = EncoderMaps(encoder, found, norm)
    return Program(module, encoder, "features", names, sizes, {**facts, **own})


class SegmentationLogits(nn.Module):
    """Logits of a segmentor on the grid of its head, of pixels in 0..255."""

    def __init__(self, segmentor: EncoderDecoder) -> None:
        super().__init__()
        self.normalise = normalised_as(segmentor)
        self.segmentor = segmentor

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W) -> (B, K, h, w)."""
        maps = self.segmentor.extract_feat(self.normalise(image))
        return (self.segmentor.decode_head(maps).float(),)


class DepthMap(nn.Module):
    """Depth in metres of a depth estimator, of pixels in 0..255."""

    def __init__(self, estimator: DepthEstimator) -> None:
        super().__init__()
        self.normalise = normalised_as(estimator)
        self.estimator = estimator

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W) -> (B, 1, H, W), or (B, 1, h, w) where padding is stretched."""
        from pe_dense.pixelwise.depth_errors import flip_average

        images_B3HW = self.normalise(image)
        if self.estimator.test_cfg.get("flip", False):
            return (flip_average(self._depth, images_B3HW).float(),)
        return (self._depth(images_B3HW).float(),)

    def _depth(self, images_B3HW: Tensor) -> Tensor:
        if self.estimator.stretched:
            return self.estimator._padded(images_B3HW)[0]
        return self.estimator._whole(images_B3HW)


def normalised_as(model: nn.Module) -> Normalised:
    """What the model's data preprocessor does to colours.

    Raises:
        ValueError: If it does not normalise, or takes something else than RGB made of BGR.
    """
    preprocessor = model.data_preprocessor
    if not getattr(preprocessor, "_enable_normalize", False):
        raise ValueError("the model's data_preprocessor has no mean and std; it cannot be exported")
    if not preprocessor._channel_conversion:
        raise ValueError("the model reads BGR (bgr_to_rgb=False); only models of RGB are exported")
    return Normalised(preprocessor.mean.flatten().tolist(), preprocessor.std.flatten().tolist())


def inference_facts(model: nn.Module, pipeline_rule: Mapping[str, Any]) -> dict[str, Any]:
    """How pictures of other sizes are read: whole, or in windows; and what is padded."""
    test_cfg = model.test_cfg or {}
    mode = test_cfg.get("mode", "whole")
    facts: dict[str, Any] = dict(mode=mode)
    if mode == "slide":
        from pe_dense.pixelwise.windows import strides

        crop = tuple(test_cfg["crop_size"])
        facts |= dict(crop=list(crop), stride=list(strides(crop, test_cfg["stride"])))
    preprocessor = model.data_preprocessor
    test_pad = getattr(preprocessor, "test_cfg", None) or {}
    divisor = test_pad.get("size_divisor") or getattr(preprocessor, "pad_size_divisor", 1) or 1
    picture = dict(mean=preprocessor.mean.flatten().tolist(), divisor=int(divisor), **pipeline_rule)
    return dict(inference=facts, picture=picture)


def segmentation_program(
    segmentor: EncoderDecoder, sizes: Sizes, facts: Mapping[str, Any]
) -> Program:
    """A segmentor whose output is `logits`; labels are the largest after they are resized.

    Raises:
        ValueError: If it cannot be exported so.
    """
    if isinstance(segmentor.decode_head, Mask2FormerHead):
        raise ValueError(
            f"decode_head {type(segmentor.decode_head).__name__} is not exported: its decoder asks "
            "for numbers that a tracer does not have; linear heads and UPerNet are"
        )
    without_checks(segmentor)
    if sizes.open_size:
        pool_by_products(segmentor.decode_head)
    module, encoder = SegmentationLogits(segmentor), segmentor.backbone.encoder
    return Program(module, encoder, "segmentation", ("logits",), sizes, facts)


def depth_program(estimator: DepthEstimator, sizes: Sizes, facts: Mapping[str, Any]) -> Program:
    """A depth estimator whose output is `depth` in metres."""
    own = dict(facts, stretched=estimator.stretched)
    return Program(DepthMap(estimator), estimator.backbone.encoder, "depth", ("depth",), sizes, own)
