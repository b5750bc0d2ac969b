"""DETA: a deformable DETR that is trained with one-to-many assignment by IoU.

Shape legend: B images, N tokens of all levels, K queries, D width of the transformer, C width of
the encoder, L levels, h w grid of the encoder's map.

Source: DETA, arXiv:2212.06137, and its form for PE Spatial, perception_models @ 3e352cc,
apps/detection/DETA_pe. Written from a description; equal to it on golden arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models import ChannelMapper, DeformableDETR
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor, nn

from pe_dense.detection.enough_tokens import pad_to_queries
from pe_dense.detection.level_shapes import grids_of, grids_of_maps, level_of_tokens, shapes_on
from pe_dense.detection.proposals import select_proposals
from pe_dense.openmmlab.deformable_attention import without_checks


@MODELS.register_module()
class DETAPyramid(ChannelMapper):
    """Levels at twice, once, half, a quarter and an eighth of the encoder's grid.

    The first three are a transposed convolution, the map itself and a max pooling, each projected
    by a 1x1 convolution; two strided 3x3 convolutions go on from the coarsest *unprojected* one.
    Every projection has a bias and a group norm of 32 groups, no activation.

    Args:
        in_channels: C.
        out_channels: D.
    """

    def __init__(self, in_channels: int, out_channels: int = 256) -> None:
        super().__init__(
            [in_channels // 2, in_channels, in_channels],
            out_channels,
            kernel_size=1,
            norm_cfg=dict(type="GN", num_groups=32),
            act_cfg=None,
            bias=True,  # ChannelMapper leaves it out beside a norm
            num_outs=5,
        )
        self.in_channels = in_channels
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Last of `maps`, (B, C, h, w) -> five (B, D, ., .) maps, the finest (2 h, 2 w)."""
        last = maps[-1]
        if last.shape[1] != self.in_channels:
            raise ValueError(
                f"DETAPyramid was built for {self.in_channels} channels but the backbone gives "
                f"{last.shape[1]}; set neck.in_channels to the encoder's embed_dim"
            )
        return super().forward((self.upsample(last), last, F.max_pool2d(last, 2)))

    @staticmethod
    def grids(rows: int, columns: int) -> list[tuple[int, int]]:
        """Rows and columns of the levels, of a grid of patches; 0 where it is too small."""
        levels = [(2 * rows, 2 * columns), (rows, columns), (rows // 2, columns // 2)]
        for _ in range(2):
            levels.append(tuple((side + 1) // 2 for side in levels[-1]))
        return levels


@MODELS.register_module()
class DETA(DeformableDETR):
    """Deformable DETR whose queries are NMS-selected proposals.

    Images are padded to one square canvas; positions inside the encoder depend on it, so a
    checkpoint belongs to the canvas that it was trained on.

    Whatever precision surrounds it, the transformer runs in float32: deformable attention has no
    bfloat16 kernel, and loses its place in float16. `backbone.amp_dtype` is the switch for the
    encoder, as in the released recipe.

    Args:
        canvas: Side of the canvas in pixels; the data preprocessor must pad to it
            (`pad_size_divisor`). None takes whatever size a batch has, for encoders whose
            positions do not depend on it; a batch too narrow for the pyramid, or with fewer
            tokens than queries, is padded further (`pad_to_queries`).
        **kwargs: Of `DeformableDETR`; `with_box_refine` and `as_two_stage` are always on.

    Raises:
        ValueError: For an image larger than the canvas, or more queries than tokens.
    """

    def __init__(self, canvas: int | None = None, **kwargs: Any) -> None:
        settings = copy.deepcopy(kwargs)  # mmdet writes into what it is given
        super().__init__(with_box_refine=True, as_two_stage=True, **settings)
        self.canvas = canvas
        padded = getattr(self.data_preprocessor, "pad_size_divisor", 1)
        if canvas is not None and padded != canvas:
            raise ValueError(
                f"model.canvas is {canvas} but data_preprocessor.pad_size_divisor is {padded}; "
                "make them equal, so that every image is padded to the canvas"
            )

    def _init_layers(self) -> None:
        super()._init_layers()
        # mmdet's own is made by `torch.Tensor(...)`, which stays on the CPU under a default device.
        self.level_embed = nn.Parameter(torch.empty(self.num_feature_levels, self.embed_dims))
        without_checks(self)
        self.pix_trans_fc = nn.Linear(self.embed_dims, self.embed_dims)
        self.pix_trans_norm = nn.LayerNorm(self.embed_dims)

    def init_weights(self) -> None:
        """Initialise everything but the encoder, whose weights are its own affair."""
        super().init_weights()
        nn.init.xavier_uniform_(self.pix_trans_fc.weight)

    def forward(
        self, inputs: Tensor, data_samples: SampleList | None = None, mode: str = "tensor"
    ) -> Any:
        """As MMEngine asks, for images (B, 3, H, W)."""
        if self.canvas is None:
            inputs = pad_to_queries(self, inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def forward_transformer(
        self, img_feats: tuple[Tensor, ...], batch_data_samples: SampleList | None = None
    ) -> dict:
        """Levels (B, D, ., .) -> what the head needs, in float32."""
        self._require_canvas(batch_data_samples)
        with torch.autocast(img_feats[0].device.type, enabled=False):
            levels = tuple(level.float() for level in img_feats)
            return super().forward_transformer(levels, batch_data_samples)

    def pre_transformer(
        self, mlvl_feats: tuple[Tensor, ...], batch_data_samples: SampleList | None = None
    ) -> tuple[dict, dict]:
        """Levels (B, D, ., .) -> arguments of the transformer's encoder and decoder.

        As mmdet's, whose (L, 2) shapes travel to the GPU in a copy for each level and wait there.
        """
        masks, positions = self._masks_and_positions(mlvl_feats, batch_data_samples)
        feat_pos = torch.cat(
            [
                position.flatten(2).transpose(1, 2) + embedding
                for position, embedding in zip(positions, self.level_embed, strict=True)
            ],
            dim=1,
        )
        ratios = mlvl_feats[0].new_ones(len(mlvl_feats[0]), len(mlvl_feats), 2)
        padding = None
        if masks[0] is not None:
            padding = torch.cat([mask.flatten(1) for mask in masks], dim=1)
            ratios = torch.stack([self.get_valid_ratio(mask) for mask in masks], dim=1)
        shapes_L2 = shapes_on(feat_pos.device, grids_of_maps(mlvl_feats))
        sizes = shapes_L2.prod(1)
        decoder_inputs = dict(
            memory_mask=padding,
            spatial_shapes=shapes_L2,
            level_start_index=sizes.cumsum(0) - sizes,
            valid_ratios=ratios,
        )
        encoder_inputs = {k: v for k, v in decoder_inputs.items() if k != "memory_mask"}
        feat = torch.cat([level.flatten(2).transpose(1, 2) for level in mlvl_feats], dim=1)
        return dict(feat=feat, feat_mask=padding, feat_pos=feat_pos, **encoder_inputs), (
            decoder_inputs
        )

    def _masks_and_positions(
        self, levels: Sequence[Tensor], samples: SampleList | None
    ) -> tuple[list[Tensor | None], list[Tensor]]:
        """For every level (B, h, w), True in the padding or None for no padding; (B, D, h, w)."""
        assert samples is not None
        height, width = samples[0].batch_input_shape
        if all(tuple(sample.img_shape[:2]) == (height, width) for sample in samples):
            return [None] * len(levels), [
                self.positional_encoding(None, input=level) for level in levels
            ]
        padding = levels[0].new_ones(1, len(samples), height, width)
        for i, sample in enumerate(samples):
            rows, columns = sample.img_shape[:2]
            padding[0, i, :rows, :columns] = 0
        masks = [F.interpolate(padding, size=level.shape[-2:])[0].bool() for level in levels]
        return masks, [self.positional_encoding(mask) for mask in masks]

    def forward_encoder(
        self,
        feat: Tensor,
        feat_mask: Tensor | None,
        feat_pos: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor,
        valid_ratios: Tensor,
    ) -> dict[str, Any]:
        """The transformer's encoder, as mmdet's."""
        transformer = self.encoder  # mmdet's, whose tower is the backbone
        references = transformer.get_encoder_reference_points(
            grids_of(spatial_shapes), valid_ratios, device=feat.device
        )
        for layer in transformer.layers:
            feat = layer(
                query=feat,
                query_pos=feat_pos,
                key_padding_mask=feat_mask,
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                valid_ratios=valid_ratios,
                reference_points=references,
            )
        return dict(memory=feat, memory_mask=feat_mask, spatial_shapes=spatial_shapes)

    def _require_canvas(self, samples: SampleList | None) -> None:
        for sample in samples or ():
            if self.canvas is not None and max(sample.batch_input_shape) > self.canvas:
                image = sample.metainfo.get("img_path", "an image of the batch")
                size = "x".join(map(str, sample.img_shape[::-1]))
                raise ValueError(
                    f"{image} is {size} px after resizing, more than the {self.canvas}-px canvas "
                    f"of this model; resize its longer side to {self.canvas - 32} px (DETAResize)"
                )

    def pre_decoder(
        self, memory: Tensor, memory_mask: Tensor | None, spatial_shapes: Tensor
    ) -> tuple[dict, dict]:
        """Proposals of the encoder -> queries of the decoder.

        Args:
            memory: (B, N, D).
            memory_mask: (B, N), True in the padding, or None.
            spatial_shapes: (L, 2), rows and columns of each level.

        Returns:
            Arguments of `forward_decoder`, and in training those of the head's loss: logits
            (B, N, classes), boxes and anchors (B, N, 4) as relative centre and size.
        """
        grids = grids_of(spatial_shapes)
        if memory_mask is None:  # mmdet then copies every grid to the GPU, and waits
            memory_mask = memory.new_zeros(memory.shape[:2], dtype=torch.bool)
        tokens_BND, anchor_logits_BN4 = self.gen_encoder_output_proposals(
            memory, memory_mask, grids
        )
        last = self.decoder.num_layers
        class_logits = self.bbox_head.cls_branches[last](tokens_BND)
        box_logits_BN4 = self.bbox_head.reg_branches[last](tokens_BND) + anchor_logits_BN4
        boxes_BN4 = box_logits_BN4.sigmoid()
        level_N = level_of_tokens(memory.device, grids)
        chosen_BK = torch.stack(
            [
                select_proposals(logits[:, 0], boxes, level_N, len(grids), self.num_queries)
                for logits, boxes in zip(class_logits.detach(), boxes_BN4.detach(), strict=True)
            ]
        )
        references = _take(box_logits_BN4.detach(), chosen_BK)
        position = self.get_proposal_pos_embed(references, num_pos_feats=self.embed_dims // 2)
        query_pos, query = self.pos_trans_norm(self.pos_trans_fc(position)).chunk(2, dim=-1)
        content = self.pix_trans_fc(_take(tokens_BND.detach(), chosen_BK))
        decoder_inputs = dict(
            query=query + self.pix_trans_norm(content),
            query_pos=query_pos,
            memory=memory,
            reference_points=references.sigmoid(),
        )
        if not self.training:
            return decoder_inputs, {}
        return decoder_inputs, dict(
            enc_outputs_class=class_logits,
            enc_outputs_coord=boxes_BN4,
            anchors=anchor_logits_BN4.sigmoid(),
        )


def _take(values_BND: Tensor, index_BK: Tensor) -> Tensor:
    """Rows (B, K, D) of (B, N, D)."""
    return values_BND.gather(1, index_BK[..., None].expand(-1, -1, values_BND.shape[-1]))
