"""SAM 2's mask decoder for many single points of one image: one mask a point, little memory moved.

The same function as `mask_decoder` of transformers' Sam2Model, from its weights, arranged for a
thousand prompts that share an image:

- Until the points have changed it, the image exists once and not once a point; all points attend
  to it in one call.
- Points read the image without projecting its tokens: q . (W k) = (W' q) . k, and the mean of
  W v is W times the mean of v. So 4,096 tokens of 2 x 128 channels a point are never made, for
  8 tokens times 8 heads that are.
- Only masks that are asked for are made: the single one, the best of three, or both where the
  first has to prove stable.
- Tokens of points are few and stay in float32; tokens of the image are in the type asked for.

Source: SAM 2 (arXiv:2408.00714) as in transformers (models/sam2/modeling_sam2.py of 5.17); written
from the description of its layers.

Shape legend: P points, T tokens of a point (score, IoU, masks, prompt), G images (1, or one a
point), N image tokens (h w), C channels, M heads, D head width, R the 4 children of an image token
when the side doubles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.rotation import HALF_TYPES
from pe_dense.kernels import use_kernels


class ImageParts(NamedTuple):
    """What depends on an image and on no point."""

    tokens_NC: Tensor
    places_NC: Tensor  # positional encoding of the tokens
    fine_NRC: Tensor  # features at twice the side, plus the bias of the first doubling
    finest_NRRC: Tensor  # features at four times the side, plus the bias of the second
    grid_hw: tuple[int, int]


def image_parts(network: Any, features: list[Tensor], index: int, dtype: torch.dtype) -> ImageParts:
    """Of image `index` of what `Sam2Model.get_image_embeddings` gave, in the type `dtype`."""
    decoder = network.mask_decoder
    finest_Chw, fine_Chw, coarse_Chw = (level[index] for level in features)
    tokens_NC = coarse_Chw.flatten(1).T + network.prompt_encoder.no_mask_embed.weight
    places_1Chw = network.get_image_wide_positional_embeddings()
    return ImageParts(
        tokens_NC.to(dtype).contiguous(),
        places_1Chw[0].flatten(1).T.to(dtype).contiguous(),
        (_children(fine_Chw, 1) + decoder.upscale_conv1.bias).to(dtype).contiguous(),
        (_children(finest_Chw, 2) + decoder.upscale_conv2.bias).to(dtype).contiguous(),
        tuple(coarse_Chw.shape[1:]),
    )


def point_tokens(network: Any, points_P2: Tensor) -> Tensor:
    """What single points bring along, (P, T, C) float32: score, IoU, masks, the point, padding.

    Args:
        network: A Sam2Model.
        points_P2: x, y in pixels of SAM's square. float32: half types would move them by pixels.
    """
    decoder = network.mask_decoder
    points_1P12 = points_P2[None, :, None]
    labels_1P1 = torch.ones_like(points_1P12[..., 0], dtype=torch.int32)
    prompts_1PTC, _ = network.prompt_encoder(points_1P12, labels_1P1, None, None)
    own = (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)
    own_TC = torch.cat([table.weight.float() for table in own])
    return torch.cat([own_TC.expand(len(points_P2), -1, -1), prompts_1PTC[0].float()], dim=1)


def masks_of_points(decoder: Any, image: ImageParts, points_PTC: Tensor, mask: str) -> Tensor:
    """Logits of one mask a point, (P, 4 h, 4 w), in the type of the image's parts.

    Args:
        decoder: `mask_decoder` of a Sam2Model.
        image: From `image_parts`.
        points_PTC: From `point_tokens`.
        mask: 'single' (the first mask token), 'best' (of the others, by predicted IoU), or
            'stable' ('single', and 'best' where that is unstable).
    """
    tokens_PTC, image_PNC = _two_way(decoder.transformer, image, points_PTC)
    masks_PTC = tokens_PTC[:, 2 : 2 + decoder.num_mask_tokens]
    heads = decoder.output_hypernetworks_mlps
    single_PC = _feed_forward(heads[0], masks_PTC[:, 0])
    if mask == "single":
        kernels_PKC = single_PC[:, None]
    else:
        others_PKC = torch.stack(
            [_feed_forward(head, masks_PTC[:, i]) for i, head in enumerate(heads) if i], dim=1
        )
        iou_PK = _feed_forward(decoder.iou_prediction_head, tokens_PTC[:, 1])[:, 1:]
        best_PC = others_PKC.take_along_dim(iou_PK.argmax(-1)[:, None, None], dim=1)[:, 0]
        chosen = [best_PC] if mask == "best" else [single_PC, best_PC]
        kernels_PKC = torch.stack(chosen, dim=1)
    masks_PKhw = _upscaled_masks(decoder, image, image_PNC, kernels_PKC)
    if mask != "stable":
        return masks_PKhw[:, 0]
    single_Phw, best_Phw = masks_PKhw.unbind(1)
    return torch.where(_is_stable(decoder, single_Phw)[:, None, None], single_Phw, best_Phw)


def _two_way(transformer: Any, image: ImageParts, points_PTC: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of points after reading the image, and the image as each point changed it."""
    tokens_PTC = points_PTC
    image_GNC, places_NC = image.tokens_NC[None], image.places_NC
    placed_GNC = image_GNC + places_NC
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            tokens_PTC = _attend(layer.self_attn, tokens_PTC, tokens_PTC, tokens_PTC)
        else:
            query_PTC = tokens_PTC + points_PTC
            tokens_PTC = tokens_PTC + _attend(layer.self_attn, query_PTC, query_PTC, tokens_PTC)
        tokens_PTC = _norm(layer.layer_norm1, tokens_PTC)
        read_PTC = _read(
            layer.cross_attn_token_to_image, tokens_PTC + points_PTC, placed_GNC, image_GNC
        )
        tokens_PTC = _norm(layer.layer_norm2, tokens_PTC + read_PTC)
        tokens_PTC = _norm(layer.layer_norm3, tokens_PTC + _feed_forward(layer.mlp, tokens_PTC))
        change_PNC = _attend(
            layer.cross_attn_image_to_token, placed_GNC, tokens_PTC + points_PTC, tokens_PTC
        )
        image_GNC, placed_GNC = _changed(image_GNC, change_PNC, layer.layer_norm4, places_NC)
    final, norm = transformer.final_attn_token_to_image, transformer.layer_norm_final_attn
    tokens_PTC = tokens_PTC + _read(final, tokens_PTC + points_PTC, placed_GNC, image_GNC)
    return _norm(norm, tokens_PTC), image_GNC


def _changed(
    image_GNC: Tensor, change_PNC: Tensor, norm: nn.LayerNorm, places_NC: Tensor
) -> tuple[Tensor, Tensor]:
    """The image plus its change, normed, (P, N, C), and the same with positions added."""
    if use_kernels(change_PNC):
        from pe_dense.encoders.residual_norm_kernel import sum_and_norm

        return sum_and_norm(
            image_GNC, change_PNC, None, norm.weight, norm.bias, norm.eps, False, places_NC
        )[1:]
    image_PNC = _norm(norm, change_PNC.add_(image_GNC))
    return image_PNC, image_PNC + places_NC


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Multi-head attention as written, in the type of the query; one query may serve all keys."""
    batch, heads = len(key), attention.num_attention_heads
    query, key, value = (
        _linear(layer, x.to(query.dtype)).unflatten(-1, (heads, -1)).transpose(1, 2)
        for layer, x in (
            (attention.q_proj, query),
            (attention.k_proj, key),
            (attention.v_proj, value),
        )
    )  # (P, M, tokens, D); fmt: skip
    query = query.expand(batch, -1, -1, -1)
    mixed = F.scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return _linear(attention.o_proj, mixed.transpose(1, 2).flatten(2))


def _read(attention: Any, query_PTC: Tensor, keys_GNC: Tensor, values_GNC: Tensor) -> Tensor:
    """`_attend` from points to image tokens that are never projected, (P, T, C) float32."""
    points, heads = len(query_PTC), attention.num_attention_heads
    query_PTMD = _linear(attention.q_proj, query_PTC).unflatten(-1, (heads, -1))
    to_key_MDC = attention.k_proj.weight.to(query_PTC.dtype).unflatten(0, (heads, -1))
    to_value_MDC = attention.v_proj.weight.to(query_PTC.dtype).unflatten(0, (heads, -1))
    # The bias of the keys adds the same to all scores of a query, which the softmax ignores.
    moved_PMTC = torch.einsum("ptmd,mdc->pmtc", query_PTMD, to_key_MDC)
    moved_G1QC = moved_PMTC.to(keys_GNC.dtype).reshape(len(keys_GNC), 1, -1, keys_GNC.shape[2])
    read_G1QC = F.scaled_dot_product_attention(
        moved_G1QC, keys_GNC[:, None], values_GNC[:, None], scale=attention.scaling
    )
    read_PMTC = read_G1QC.reshape(points, heads, -1, keys_GNC.shape[2]).to(query_PTC.dtype)
    mixed_PTMD = torch.einsum("pmtc,mdc->ptmd", read_PMTC, to_value_MDC)
    mixed_PTC = mixed_PTMD.flatten(2) + attention.v_proj.bias.to(query_PTC.dtype)
    return _linear(attention.o_proj, mixed_PTC)


def _upscaled_masks(
    decoder: Any, image: ImageParts, image_PNC: Tensor, kernels_PKC: Tensor
) -> Tensor:
    """The image at four times its side, times the masks' kernels: (P, K, 4 h, 4 w)."""
    norm = decoder.upscale_layer_norm
    if _kernel_upscales(decoder, image_PNC):
        from pe_dense.alignment.sam_upscaling_kernel import masks_from_tokens

        return masks_from_tokens(
            image_PNC,
            _by_child(decoder.upscale_conv1, image_PNC.dtype).contiguous(),
            image.fine_NRC,
            norm.weight,
            norm.bias,
            norm.eps,
            _by_child(decoder.upscale_conv2, image_PNC.dtype).contiguous(),
            image.finest_NRRC,
            kernels_PKC.contiguous(),
            image.grid_hw[1],
        )
    fine_PNRC = _doubled(decoder.upscale_conv1, image_PNC).add_(image.fine_NRC)
    fine_PNRC = F.gelu(_norm(norm, fine_PNRC))
    finest_PNRRC = _doubled(decoder.upscale_conv2, fine_PNRC).add_(image.finest_NRRC)
    finest_PXC = F.gelu(finest_PNRRC).flatten(1, -2)
    masks_PKX = kernels_PKC.to(finest_PXC.dtype) @ finest_PXC.mT
    return _from_children(masks_PKX, image.grid_hw)


def _kernel_upscales(decoder: Any, image_PNC: Tensor) -> bool:
    """The kernel multiplies tiles whose sides are powers of two, 16 at least."""
    widths = decoder.upscale_conv1.weight.shape[:2] + decoder.upscale_conv2.weight.shape[1:2]
    fits = all(width >= 16 and width & (width - 1) == 0 for width in widths)
    return fits and image_PNC.dtype in HALF_TYPES and use_kernels(image_PNC)


def _doubled(layer: nn.ConvTranspose2d, tokens: Tensor) -> Tensor:
    """A transposed convolution of side and stride 2, without its bias: (..., C) -> (..., R, C')."""
    weight_RCC = _by_child(layer, tokens.dtype)
    return F.linear(tokens, weight_RCC.flatten(0, 1)).unflatten(-1, weight_RCC.shape[:2])


def _by_child(layer: nn.ConvTranspose2d, dtype: torch.dtype) -> Tensor:
    """Weights of the four pixels that a token becomes, row by row: (R, C', C)."""
    return layer.weight.to(dtype).permute(2, 3, 1, 0).flatten(0, 1)


def _children(map_Chw: Tensor, times: int) -> Tensor:
    """A map of 2^times the tokens' side, token by token: (N, R, C) or (N, R, R, C)."""
    channels = map_Chw.shape[0]
    h, w = (side >> times for side in map_Chw.shape[1:])
    twos = (2,) * times
    split = map_Chw.reshape(channels, h, *twos, w, *twos)
    order = [1, 2 + times]  # h and w, then y and x of each doubling, then channels
    for i in range(times):
        order += [2 + i, 3 + times + i]
    return split.permute(*order, 0).reshape(h * w, *[4] * times, channels)


def _from_children(masks_PKX: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Undo `_children` of two doublings: (P, K, N R R) -> (P, K, 4 h, 4 w)."""
    h, w = grid_hw
    split = masks_PKX.unflatten(-1, (h, w, 2, 2, 2, 2))  # h, w, y, x, y, x
    return split.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(*masks_PKX.shape[:2], 4 * h, 4 * w)


def _is_stable(decoder: Any, logits_Phw: Tensor) -> Tensor:
    """Whether a mask hardly changes when its threshold moves up and down; an empty one does not."""
    delta = decoder.dynamic_multimask_stability_delta
    inner_P, outer_P = ((logits_Phw > level).sum((1, 2)) for level in (delta, -delta))
    stability_P = torch.where(outer_P > 0, inner_P / outer_P.clamp(min=1), 1.0)
    return stability_P >= decoder.dynamic_multimask_stability_thresh


def _feed_forward(module: Any, x: Tensor) -> Tensor:
    x = module.activation(_linear(module.proj_in, x))
    for layer in module.layers:
        x = module.activation(_linear(layer, x))
    x = _linear(module.proj_out, x)
    return x.sigmoid() if module.sigmoid_output else x


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """In the type of x, whatever that of the weights."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """Over the last axis, in the type of x."""
    weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
    return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
