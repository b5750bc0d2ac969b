"""Training-free video object segmentation: labels of the first frame follow similar tokens.

Each token of a frame takes the labels of the k most similar tokens of the context (the first
frame and the last n frames) within a radius, weighted by exp(cosine / temperature).

Source: facebookresearch/dino @ 7c446df, eval_video_segmentation.py (after Jabri et al.,
arXiv:2006.14613); circular neighbourhoods as in DINOv3, arXiv:2508.10104 section 6.1. As there,
tokens as similar as the k-th best one count too, the first frame is restricted to the
neighbourhood like any other, and soft labels are what is passed on.

Deviations: the exponent is taken relative to the best token, so that low temperatures do not
overflow; ties are ties of the cosine, not of its exponential, which merges close values in
float32; `stretch_channels` keeps a constant channel, which the original turns into nan.

The original computes all similarities of all tokens and throws most of them away. Here only
tiles of queries meet the part of the context that their neighbourhood can reach.

Shape legend: h w token grid, N = h w tokens, D width, C labels, M context frames, Q queries of a
tile, S context tokens a tile can reach, k neighbours, H W image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pe_dense.tracking.token_tiles import bands, cut, fitting_tile, neighbourhood_bias, reached
from pe_dense.tracking.top_values import top_values

NEIGHBOURHOODS = ("square", "circle")
TILE_HW = (10, 13)  # queries; fastest at radius 12 on a CPU, where the product dominates
VOID = 255


@dataclass(frozen=True)
class PropagationSetting:
    """How labels are passed on; the defaults are those of DINO.

    Attributes:
        last_frames: Previous frames in the context besides the first; 0 for the first alone.
        radius: Reach of a query in tokens, 0 for the whole grid.
        neighbourhood: 'square' (Chebyshev distance) or 'circle' (Euclidean), both up to and
            including the radius.
        topk: Neighbours that give labels, over all context frames together.
        temperature: Of the exponential of the cosine.

    Raises:
        ValueError: If a value is out of range.
    """

    last_frames: int = 7
    radius: int = 12
    neighbourhood: str = "square"
    topk: int = 5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name, low in (("last_frames", 0), ("radius", 0), ("topk", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {low}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature} must be above 0 and finite")
        if self.neighbourhood not in NEIGHBOURHOODS:
            raise ValueError(
                f"neighbourhood {self.neighbourhood!r} is unknown; "
                f"choose one of {', '.join(NEIGHBOURHOODS)}"
            )

    @property
    def reach(self) -> tuple[int, str]:
        """Radius and neighbourhood; an unrestricted one has no shape."""
        return self.radius, self.neighbourhood if self.radius else NEIGHBOURHOODS[0]


def propagate_labels(
    frames: Iterable[Tensor],
    first_labels_Chw: Tensor,
    settings: Sequence[PropagationSetting],
    tile_hw: tuple[int, int] = TILE_HW,
    given: Mapping[int, Tensor] | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Soft labels of all frames after the first, for several settings at once.

    Settings share the similarities, which are most of the work, and where they also share radius
    and neighbourhood the search for neighbours. A frame is taken from `frames` when its labels
    are asked for, and as many stay in memory as the longest context has. Results do not depend
    on which settings are computed together, except in the last digits of a product.

    Args:
        frames: Token features (h, w, D) of one frame after the other, not normalised; computed
            in float64 if the first frame is, else in float32, on its device.
        first_labels_Chw: Labels of the first frame on the token grid, any weights; as a rule 0
            or 1, see `labels_on_grid`.
        settings: One result for each.
        tile_hw: Queries handled together; smaller tiles waste less at small radii.
        given: Labels (C, h, w) of some later frames, by number of the frame: where a token has
            any, they replace what was propagated to it, in the result and for later frames.

    Yields:
        For each frame from the second on one (C, h, w) a setting, in the order of `settings`.

    Raises:
        ValueError: If there is no setting, or frames differ in shape from each other or from
            the labels, or hold nan or infinity.
    """
    settings = tuple(settings)
    if not settings:
        raise ValueError("settings is empty; pass at least one PropagationSetting")
    if min(tile_hw) < 1:
        raise ValueError(f"tile_hw = {tuple(tile_hw)} must be at least 1 x 1")
    return _stream(frames, first_labels_Chw, settings, tile_hw, given or {})


def labels_on_grid(
    label_map_HW: np.ndarray, grid_hw: tuple[int, int], num_labels: int | None = None
) -> Tensor:
    """One-hot labels of a label map, sampled at token centres.

    Args:
        label_map_HW: uint8; 0 is background, 255 (void) counts as background.
        grid_hw: Token grid.
        num_labels: C with background, or None for the highest label plus 1. Labels that fall
            between the samples keep an empty channel.

    Returns:
        float32 (C, h, w).

    Raises:
        ValueError: If the map is no uint8 image or has a label that C does not allow.
    """
    label_map_HW = np.asarray(label_map_HW)
    if label_map_HW.dtype != np.uint8 or label_map_HW.ndim != 2 or not label_map_HW.size:
        raise ValueError(
            f"label map of type {label_map_HW.dtype} and shape {label_map_HW.shape} "
            "must be uint8 (H, W)"
        )
    label_map_HW = np.where(label_map_HW == VOID, np.uint8(0), label_map_HW)
    highest = int(label_map_HW.max())
    num_labels = highest + 1 if num_labels is None else num_labels
    if highest >= num_labels:
        raise ValueError(
            f"label map has label {highest}, which num_labels = {num_labels} does not allow; "
            f"pass at least {highest + 1}"
        )
    labels_hw = torch.from_numpy(_nearest(label_map_HW, grid_hw).astype(np.int64))
    return F.one_hot(labels_hw, num_labels).permute(2, 0, 1).float()


def label_map_from_soft(
    soft_Chw: Tensor,
    image_hw: tuple[int, int],
    patch_size: int | None = None,
    stretch: bool = True,
) -> np.ndarray:
    """Label map at the size of the image.

    Args:
        soft_Chw: Soft labels on the token grid.
        image_hw: Size of the result.
        patch_size: Upsample bilinearly by this factor, take the best label and sample the image
            size from it (DINO); None upsamples to the image size directly (DINOv3).
        stretch: Stretch each upsampled channel to 0..1 first, as DINO does, not DINOv3.

    Returns:
        uint8 (H, W); the lowest of equally good labels.

    Raises:
        ValueError: If there are no or more than 255 labels.
    """
    if soft_Chw.ndim != 3 or not 0 < len(soft_Chw) <= VOID:
        raise ValueError(
            f"soft labels of shape {tuple(soft_Chw.shape)} must be (C, h, w), C from 1 to {VOID}"
        )
    height, width = soft_Chw.shape[1:]
    scale = dict(size=image_hw)
    if patch_size is not None:
        scale = dict(size=(height * patch_size, width * patch_size))
    soft_CHW = F.interpolate(soft_Chw[None], **scale, mode="bilinear", align_corners=False)[0]
    if stretch:
        soft_CHW = stretch_channels(soft_CHW)
    best_HW, labels_HW = soft_CHW[0], torch.zeros_like(soft_CHW[0], dtype=torch.uint8)
    for c in range(1, len(soft_CHW)):  # many times faster than argmax over the outer dimension
        labels_HW.masked_fill_(soft_CHW[c] > best_HW, c)
        best_HW = torch.maximum(best_HW, soft_CHW[c])
    labels_HW = labels_HW.cpu().numpy()
    return _nearest(labels_HW, image_hw)


def stretch_channels(x_CHW: Tensor) -> Tensor:
    """Each channel shifted and scaled to 0..1; one that is constant or nowhere positive stays.

    Source: `norm_mask` of facebookresearch/dino @ 7c446df. Deviation: a positive constant
    channel becomes nan there, and nan then wins every pixel.
    """
    low_C11, high_C11 = x_CHW.aminmax(dim=2, keepdim=True)
    low_C11, high_C11 = low_C11.amin(1, keepdim=True), high_C11.amax(1, keepdim=True)
    varied_C11 = (high_C11 > 0) & (high_C11 > low_C11)
    shifted_CHW = x_CHW - low_C11
    span_C11 = shifted_CHW.amax(dim=(1, 2), keepdim=True)
    return torch.where(varied_C11, shifted_CHW / span_C11, x_CHW)


def _nearest(labels_HW: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Label map of another size, sampled at pixel centres."""
    height, width = size_hw
    return np.asarray(Image.fromarray(labels_HW).resize((width, height), Image.Resampling.NEAREST))


class _Context:
    """Normalised features and labels of the first frame (slot 0) and the last frames (a ring)."""

    def __init__(self, query_hwD: Tensor, labels_NC: Tensor, settings) -> None:
        self.settings = settings
        self.ring = max(setting.last_frames for setting in settings)
        self.query_hwD = query_hwD  # features of the next frame are written here
        self.features_MhwD = query_hwD.new_empty(1 + self.ring, *query_hwD.shape)
        # One label store for each setting: labels that were propagated differ between them.
        store_shape = len(settings), 1 + self.ring, *labels_NC.shape
        self.labels_SMNC = labels_NC.new_empty(store_shape)
        self.labels_SMNC[:, 0] = labels_NC
        self.frame = 1  # the next one to label

    def slots(self, setting: PropagationSetting) -> list[int]:
        """Slots of the context of the next frame."""
        last = range(max(1, self.frame - setting.last_frames), self.frame)
        return [0, *(1 + (frame - 1) % self.ring for frame in last)]

    @property
    def filled(self) -> int:
        return 1 + min(self.frame - 1, self.ring)

    def push(self, labels_NC: list[Tensor]) -> None:
        """Move on: the query and its labels become part of the context."""
        if self.ring:
            slot = 1 + (self.frame - 1) % self.ring
            self.features_MhwD[slot] = self.query_hwD
            self.labels_SMNC[:, slot] = torch.stack(labels_NC)
        self.frame += 1


def _stream(frames, first_labels_Chw, settings, tile_hw, given) -> Iterator[tuple[Tensor, ...]]:
    """Generator behind `propagate_labels`."""
    context = None
    for number, frame_hwD in enumerate(frames):
        if context is None:
            if frame_hwD.ndim != 3 or first_labels_Chw.shape[1:] != frame_hwD.shape[:2]:
                raise ValueError(
                    f"first frame has shape {tuple(frame_hwD.shape)} and its labels "
                    f"{tuple(first_labels_Chw.shape)}; pass (h, w, D) and (C, h, w)"
                )
            dtype = torch.float64 if frame_hwD.dtype == torch.float64 else torch.float32
            like = frame_hwD.new_empty(0, dtype=dtype)
            labels_NC = first_labels_Chw.detach().to(like).flatten(1).T.contiguous()
            scratch = _Scratch(like)
            shape = frame_hwD.shape
            context = _Context(like.new_empty(shape), labels_NC, settings)
            _normalise(frame_hwD.to(like), number, context.features_MhwD[0])
            continue
        if frame_hwD.shape != shape:
            raise ValueError(
                f"frame {number} has shape {tuple(frame_hwD.shape)}, the first frame "
                f"{tuple(shape)}; pass frames of one size"
            )
        _normalise(frame_hwD.to(like), number, context.query_hwD)
        labels_NC = _step(context.query_hwD, context, scratch, tile_hw)
        if number in given:
            given_NC = given[number].to(like).flatten(1).T
            replaced_N1 = given_NC.any(dim=1, keepdim=True)
            labels_NC = [torch.where(replaced_N1, given_NC, labels) for labels in labels_NC]
        context.push(labels_NC)
        yield tuple(labels.T.reshape(-1, *shape[:2]) for labels in labels_NC)


def _normalise(frame_hwD: Tensor, number: int, out: Tensor) -> None:
    """Writes unit vectors, zero where the token is zero; nan and infinity are refused."""
    frame_hwD = frame_hwD.detach()
    norm_hw1 = torch.linalg.vector_norm(frame_hwD, dim=-1, keepdim=True)
    if not norm_hw1.isfinite().all():
        raise ValueError(f"features of frame {number} hold nan or infinity; check the encoder")
    torch.div(frame_hwD, norm_hw1.clamp(min=1e-12), out=out)


class _Scratch:
    """Memory reused by all tiles: fresh pages cost as much time as the copies into them.

    A block is as large as it will ever have to be: what is not used costs no memory.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.blocks: dict[str, Tensor] = {}

    def take(self, name: str, most: int, *shape: int) -> Tensor:
        """Uninitialised numbers of a shape; `most` is the same for a name at every call."""
        if name not in self.blocks:
            self.blocks[name] = self.like.new_empty(most)
        return self.blocks[name][: math.prod(shape)].view(shape)


@torch.no_grad()
def _step(
    queries_hwD: Tensor, context: _Context, scratch: _Scratch, tile_hw: tuple[int, int]
) -> list[Tensor]:
    """Labels of the next frame, (N, C) for each setting."""
    h, w, width = queries_hwD.shape
    radii = [setting.radius for setting in context.settings]
    radius = 0 if 0 in radii else max(radii)
    num_labels = context.labels_SMNC.shape[3]
    out_hwC = [queries_hwD.new_empty(h, w, num_labels) for _ in context.settings]
    groups: dict[tuple[int, str], list[int]] = {}
    for i, setting in enumerate(context.settings):
        groups.setdefault(setting.reach, []).append(i)
    num_slots = len(context.features_MhwD)
    tile_h, tile_w = fitting_tile(tile_hw, (h, w), radius, num_slots)
    widest = min(tile_w + 2 * radius, w)
    most = num_slots * tile_h * tile_w * h * w
    if radius:
        most = num_slots * tile_h * tile_w * min(tile_h + 2 * radius, h) * widest
    for columns in bands(w, tile_w):
        near_columns = reached(columns, w, radius)
        # Contiguous columns of the context, once for all tiles below each other.
        strip_MhxD = context.features_MhwD[: context.filled]
        if len(near_columns) < w:
            strip_most = num_slots * h * widest * width
            strip_shape = context.filled, h, len(near_columns), width
            strip_MhxD = scratch.take("strip", strip_most, *strip_shape)
            strip_MhxD.copy_(context.features_MhwD[: context.filled, :, cut(near_columns)])
        for rows in bands(h, tile_h):
            near_rows = reached(rows, h, radius)
            queries_QD = queries_hwD[cut(rows), cut(columns)].reshape(-1, width)
            num_near = len(near_rows) * len(near_columns)
            shape = context.filled, len(queries_QD), num_near
            similarity_MQS = scratch.take("similarity", most, *shape)
            near_MDS = strip_MhxD[:, cut(near_rows)].flatten(1, 2).transpose(1, 2)
            torch.bmm(queries_QD.expand(context.filled, -1, -1), near_MDS, out=similarity_MQS)
            for reach, members in groups.items():
                bias_QS = neighbourhood_bias(rows, columns, near_rows, near_columns, *reach)
                if bias_QS is not None:
                    bias_QS = bias_QS.to(queries_QD)
                tile = _Tile(similarity_MQS, bias_QS, near_rows, near_columns, w)
                for i, labels_QC in tile.labels(context, members):
                    tile_shape = len(rows), len(columns), -1
                    out_hwC[i][cut(rows), cut(columns)] = labels_QC.view(tile_shape)
    return [labels_hwC.flatten(0, 1) for labels_hwC in out_hwC]


class _Tile:
    """Similarities of a tile of queries with what they reach, and the labels that follow.

    `bias_QS` is 0 within the neighbourhood and -inf outside, None where all is within.
    """

    def __init__(
        self,
        similarity_MQS: Tensor,
        bias_QS: Tensor | None,
        near_rows: range,
        near_columns: range,
        w: int,
    ) -> None:
        self.similarity_MQS, self.bias_QS = similarity_MQS, bias_QS
        device = similarity_MQS.device
        rows = torch.arange(near_rows.start, near_rows.stop, device=device)
        columns = torch.arange(near_columns.start, near_columns.stop, device=device)
        self.tokens_S = (rows[:, None] * w + columns).flatten()

    def labels(self, context: _Context, members: list[int]) -> Iterator[tuple[int, Tensor]]:
        """Number and (Q, C) labels of the settings of one neighbourhood.

        Settings with the same context share one search, for the largest k of all members, and a
        longer context goes on from the best of the next shorter one, which it contains. One more
        neighbour than k is looked up: if it is as similar as the k-th, there are ties. Rows with
        ties, rare in real features, are done again without a list of neighbours.
        """
        _, frames, num_tokens, num_labels = context.labels_SMNC.shape
        every_XC = context.labels_SMNC.view(-1, num_labels)  # X = settings * frames * tokens
        contexts: dict[tuple[int, ...], list[int]] = {}
        for i in sorted(members, key=lambda i: context.settings[i].last_frames):
            contexts.setdefault(tuple(context.slots(context.settings[i])), []).append(i)
        most = max(context.settings[i].topk for i in members)
        device = every_XC.device
        found_Qk = self.similarity_MQS.new_empty(len(self.similarity_MQS[0]), 0)
        from_Qk = torch.empty_like(found_Qk, dtype=torch.int64)
        searched: set[int] = set()
        for slots, sharing in contexts.items():
            new_slots = [slot for slot in slots if slot not in searched]
            searched.update(new_slots)
            best_Qk, found_Qk, from_Qk = self._nearest(
                new_slots, most + 1, num_tokens, found_Qk, from_Qk
            )
            found = best_Qk.shape[1]
            settings = [context.settings[i] for i in sharing]  # Z of them
            last_Z = [min(setting.topk, found) - 1 for setting in settings]
            temperatures_Z11 = best_Qk.new_tensor([s.temperature for s in settings])[:, None, None]
            kth_ZQ1 = best_Qk[:, last_Z].T[:, :, None]
            # `softmax` takes several times longer where rows are this short.
            weights_ZQk = ((found_Qk - best_Qk[:, :1]) / temperatures_Z11).exp_()
            weights_ZQk.masked_fill_(found_Qk < kth_ZQ1, 0.0)
            weights_ZQk /= weights_ZQk @ weights_ZQk.new_ones(found, 1)
            stores_Z11 = torch.tensor(sharing, device=device)[:, None, None]
            labels_ZQC = F.embedding_bag(
                (from_Qk + stores_Z11 * (frames * num_tokens)).flatten(0, 1),
                every_XC,
                mode="sum",
                per_sample_weights=weights_ZQk.flatten(0, 1),
            ).view(len(settings), -1, num_labels)
            next_Z = [min(last + 1, found - 1) for last in last_Z]
            tied_ZQ = kth_ZQ1[:, :, 0] == best_Qk[:, next_Z].T
            any_tied = bool(tied_ZQ.any())
            for z, i in enumerate(sharing):
                if any_tied and next_Z[z] > last_Z[z]:
                    tied_Q = tied_ZQ[z] & kth_ZQ1[z, :, 0].isfinite()
                    if tied_Q.any():
                        labels_ZQC[z, tied_Q] = self._with_ties(
                            settings[z], slots, context.labels_SMNC[i], tied_Q, kth_ZQ1[z, tied_Q]
                        )
                yield i, labels_ZQC[z]

    def _nearest(
        self, slots: list[int], most: int, num_tokens: int, found_Qk: Tensor, from_Qk: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best tokens of some context frames and of those found in others.

        Tokens at one place in all frames are searched for together: the best ones lie at the
        `most` places with the highest peaks over frames, or tie with some that do.

        Returns:
            Similarities (Q, most) in falling order; the same in any order; and the numbers of
            their tokens in the context, in that order.
        """
        num_near = self.similarity_MQS.shape[2]
        peaks_QS = self.similarity_MQS[slots[0]]
        if len(slots) > 1:
            peaks_QS = torch.maximum(peaks_QS, self.similarity_MQS[slots[1]])
        for slot in slots[2:]:
            torch.maximum(peaks_QS, self.similarity_MQS[slot], out=peaks_QS)
        if self.bias_QS is not None:
            peaks_QS = peaks_QS + self.bias_QS
        _, places_Qc = top_values(peaks_QS, most)
        frame_starts_M1 = torch.tensor(slots, device=places_Qc.device)[:, None] * peaks_QS.numel()
        places_QMc = places_Qc[:, None] + frame_starts_M1
        near_QMc = self.similarity_MQS.view(-1).index_select(0, places_QMc.view(-1))
        near_QMc = near_QMc.view(places_QMc.shape)
        if self.bias_QS is not None:
            near_QMc += self.bias_QS.take(places_Qc)[:, None]
        near_Qn = torch.cat([near_QMc.flatten(1), found_Qk], dim=1)
        best_Qk, which_Qk = top_values(near_Qn, most)
        # Tokens are looked up for the best alone: there are many more candidates.
        chosen, known = places_Qc.shape[1], found_Qk.shape[1]
        group_n, start_n = _columns(tuple(slots), chosen, known, num_tokens, near_Qn.device)
        tokens_Qg = torch.cat([self.tokens_S.take(places_Qc % num_near), from_Qk], dim=1)
        columns_Qk = which_Qk % near_Qn.shape[1]
        rows_Q1 = torch.arange(0, tokens_Qg.numel(), chosen + known, device=near_Qn.device)[:, None]
        new_from_Qk = tokens_Qg.take(group_n.take(columns_Qk) + rows_Q1) + start_n.take(columns_Qk)
        return best_Qk, near_Qn.take(which_Qk), new_from_Qk

    def _with_ties(self, setting, slots, labels_MNC, tied_Q, kth_T1) -> Tensor:
        """(T, C) labels of tied queries from all tokens at least as similar as the k-th."""
        near_MTS = self.similarity_MQS[list(slots)][:, tied_Q]
        if self.bias_QS is not None:
            near_MTS += self.bias_QS[tied_Q]
        best_T1 = near_MTS.amax((0, 2))[:, None]
        total_TC, sum_T1 = 0.0, 0.0
        for slot, near_TS in zip(slots, near_MTS, strict=True):
            weights_TS = ((near_TS - best_T1) / setting.temperature).exp()
            weights_TS.masked_fill_(near_TS < kth_T1, 0.0)
            total_TC = total_TC + weights_TS @ labels_MNC[slot, self.tokens_S]
            sum_T1 = sum_T1 + weights_TS.sum(dim=1, keepdim=True)
        return total_TC / sum_T1


@lru_cache(maxsize=64)
def _columns(
    slots: tuple[int, ...], chosen: int, known: int, num_tokens: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Column of the token, and number of its frame's first token, of each candidate of a query.

    Candidates are those at the chosen places in each slot, then those known already, whose
    numbers are complete.
    """
    place_c = torch.arange(chosen + known)
    groups_n = torch.cat([place_c[:chosen].repeat(len(slots)), place_c[chosen:]])
    starts_n = torch.tensor(slots).repeat_interleave(chosen) * num_tokens
    starts_n = torch.cat([starts_n, torch.zeros(known, dtype=torch.int64)])
    return groups_n.to(device), starts_n.to(device)
